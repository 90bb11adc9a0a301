//! What the kernel says of block devices: what stands on them, what they stand on, what is mounted.
//!
//! Everything is read from `/proc` and `/sys`; nothing is opened for writing. What cannot be read there is an error:
//! what is not known is not nothing.

pub(crate) mod claim;
pub(crate) mod flush;
mod foundation;
mod identity;
mod kernel;
mod kernel_files;
mod listing;
mod locks;
pub mod mounts;
mod processes;
mod subject;
mod sysfs;
pub mod usage;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

pub use flush::Unwritten;
pub use foundation::Foundation;
pub use identity::Identity;
pub use kernel::Kernel;
pub(crate) use listing::names;
pub use subject::{DeviceNumber, FileId, Subject};
pub use sysfs::{Layer, Layers};

/// The path by which the system finds an open file, whatever its name is by now.
pub(crate) fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
