//! Where an image goes, or a disk.
//!
//! ```text
//! Place -> Target -> ImageWriter or DiskWriter -> Settled -> Published
//!   |        |            |                          |         whoever opens the name finds all of it
//!   |        |            |                          complete, and on stable storage if that was asked for
//!   |        |            an AtomicFile, which has no name yet; a Device, in place; or Stdout
//!   |        found good: nothing there that must be left alone, and not what is read
//!   what the user named
//! ```

mod atomic;
mod cleanup;
mod close;
mod device;
mod disk;
mod durable;
mod ground;
mod image;
#[cfg(test)]
mod memory_image;
mod place;
mod published;
mod rights;
mod room;
mod settled;
mod stdout;
mod target;
mod temporary;
mod two_pass;
mod writeback;

pub use atomic::AtomicFile;
pub use cleanup::{Cleanup, Left, Remains};
pub use close::close_once;
pub use device::Device;
pub use disk::DiskWriter;
pub use ground::Memory;
pub use image::{ImageWriter, ReadBack, WriteAt};
#[cfg(test)]
pub(crate) use memory_image::MemoryImage;
pub use place::Place;
pub use published::Published;
pub use rights::Kept;
pub use settled::Settled;
pub use stdout::{Stdout, was_closed};
pub(crate) use stdout::{name_scratch, scratch_of_stream};
pub use target::{Caution, DeviceTarget, FileTarget, NoDevice, Target};
pub(crate) use temporary::directory as temporary_directory;
pub use two_pass::{FirstPass, SecondPass};
