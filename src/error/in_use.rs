//! Who uses a file or device.

use std::path::PathBuf;

/// Who uses a file or device that others want to read, or to overwrite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InUse {
    /// A filesystem on it is mounted.
    #[error("mounted {} on {}{}", if *is_writable { "read-write" } else { "read-only" }, on.display(), through(device.as_ref()))]
    Mounted {
        /// The mount point.
        on: PathBuf,
        /// Whether the filesystem may be written to.
        is_writable: bool,
        /// The partition, holder or loop device that is mounted, where it is not what was asked about.
        device: Option<String>,
    },
    /// The system swaps to it.
    #[error("in use as swap{}", device.as_ref().map_or_else(String::new, |name| format!(" on {name}")))]
    Swap {
        /// The partition, holder or loop device that is swapped to, where it is not what was asked about.
        device: Option<String>,
    },
    /// Another device is made of it: LVM, RAID, encryption.
    #[error("in use by the device {by}{}", through(device.as_ref()))]
    Held {
        /// The device made of it, with its name where it has one.
        by: String,
        /// The partition that is held, where it is not what was asked about.
        device: Option<String>,
    },
    /// A virtual machine has it open for writing.
    #[error("open for writing by QEMU{}", through(device.as_ref()))]
    Guest {
        /// The partition, holder or loop device that it has, where it is not what was asked about.
        device: Option<String>,
    },
    /// Another run of this program reads or writes it.
    #[error("in use by another run of mkqcow2, process {process}{}", through(device.as_ref()))]
    OtherRun {
        /// The number of its process.
        process: u32,
        /// The loop device that is busy, where it is not what was asked about.
        device: Option<String>,
    },
    /// The kernel says so, but not why.
    #[error("opened exclusively by a filesystem, a RAID or a program{}", through(device.as_ref()))]
    Busy {
        /// The loop device that is busy, where it is not what was asked about.
        device: Option<String>,
    },
    /// The kernel cannot be asked.
    #[error("perhaps in use: {why}")]
    Unknown {
        /// What was tried, and what the system said.
        why: String,
    },
}

fn through(device: Option<&String>) -> String {
    device.map_or_else(String::new, |name| format!(" as {name}"))
}
