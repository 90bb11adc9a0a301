//! What tells one file or device from another.

use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The number that names a block device to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver's part.
    pub major: u32,
    /// The device's part.
    pub minor: u32,
}

impl DeviceNumber {
    /// From `st_dev` or `st_rdev`.
    pub fn from_raw(raw: u64) -> Self {
        Self {
            major: rustix::fs::major(raw),
            minor: rustix::fs::minor(raw),
        }
    }

    /// Of the block device that `path` names, if it names one.
    pub fn of_device(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        metadata
            .file_type()
            .is_block_device()
            .then(|| Self::from_raw(metadata.rdev()))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What makes two names the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    /// From what stat(2) says.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The file or device that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A block device.
    Device(DeviceNumber),
    /// A regular file, which may be behind a loop device or be swapped to.
    File(FileId),
}

impl Subject {
    /// A regular file or a block device; nothing else can be asked about.
    pub fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        if metadata.is_file() {
            Some(Self::File(FileId::of(metadata)))
        } else if metadata.file_type().is_block_device() {
            Some(Self::Device(DeviceNumber::from_raw(metadata.rdev())))
        } else {
            None
        }
    }
}
