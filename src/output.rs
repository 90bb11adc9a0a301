//! Where an image goes, or a disk.

mod atomic;
mod cleanup;
mod close;
mod conflict;
mod destination;
mod device;
mod disk;
mod durable;
mod ground;
mod image;
mod links;
#[cfg(test)]
mod memory_image;
mod outlet;
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
pub use destination::{Demand, Destination, Place};
pub use device::{Device, DeviceTarget};
pub use disk::DiskWriter;
pub use ground::Memory;
pub use image::{ImageWriter, ReadBack, WriteAt};
#[cfg(test)]
pub(crate) use memory_image::MemoryImage;
pub use outlet::{Outlet, Resolved, Rules};
pub use published::Published;
pub use rights::Kept;
pub use settled::Settled;
pub(crate) use stdout::name_scratch;
pub use stdout::{Stdout, was_closed};
pub use target::Target;
pub use two_pass::{FirstPass, SecondPass};
