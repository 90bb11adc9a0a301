//! What can go wrong, sorted by whose fault it is.
//!
//! A message names the structure, the place, what was found and what was expected, but no path: whoever prints
//! it knows the two paths, and [`Error::side`] tells which of them it is about.

use std::io;
use std::path::PathBuf;

use crate::units::HostOffset;

/// The outcome of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which of the two files an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written, or an image that is read back.
    Image,
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused or failed.
    #[error("cannot {action}")]
    Io {
        /// The file concerned.
        side: Side,
        /// What was attempted.
        action: Action,
        /// What the system said.
        source: io::Error,
    },
    /// What was read contradicts itself or its specification.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// It may be right, but this program (or QEMU) does not do it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// It cannot be asked for.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What was attempted when the system failed: completes "cannot ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Action {
    /// Opening, with all it takes to find the file first.
    #[error("open")]
    Open,
    /// Asking for size, owner or state.
    #[error("examine")]
    Examine,
    /// Asking what is mounted.
    #[error("read /proc/self/mountinfo, which tells what is in use")]
    FindUse,
    /// Asking where a sparse file holds data.
    #[error("look for data from {0:#x} on")]
    Seek(u64),
    /// Reading, at this byte offset.
    #[error("read at {0:#x}")]
    Read(u64),
    /// Looking whether the directory of the image can take one.
    #[error("write to its directory")]
    UseDirectory,
    /// Creating a file in the directory of the image.
    #[error("create a file in its directory")]
    Create,
    /// Creating a scratch file for checksums in the directory of the image.
    #[error("write checksums to a scratch file in its directory")]
    Scratch,
    /// Writing, at this byte offset.
    #[error("write at {0:#x}")]
    Write(u64),
    /// Giving the new image the owner or mode of the old one.
    #[error("keep the mode of the image it replaces")]
    KeepMode,
    /// Bringing it to stable storage.
    #[error("sync")]
    Sync,
    /// Giving the finished image its name.
    #[error("give the finished image its name")]
    Publish,
    /// Bringing the new name to stable storage.
    #[error("sync its directory")]
    SyncDirectory,
    /// Starting worker threads.
    #[error("start worker threads")]
    StartWorkers,
}

/// A contradiction in what was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The source ended before its own size.
    #[error("the data ends at {end:#x}, expected {expected:#x}: the source shrank while it was read")]
    Shrank {
        /// Where reading came to an end, in bytes.
        end: u64,
        /// Its size when it was opened, in bytes.
        expected: u64,
    },
    /// A device stopped existing.
    #[error("the device disappeared while it was read, at {at:#x}")]
    Disappeared {
        /// Offset of the failed read.
        at: u64,
    },
    /// Bad sectors in more places than can be listed.
    #[error("unreadable in more than {limit} places, the last at {at:#x}: giving up")]
    TooManyUnreadable {
        /// How many ranges are listed at most.
        limit: usize,
        /// The first range that is not.
        at: u64,
    },
    /// A structure of an image ends before it should.
    #[error("{structure} at {at:#x} does not fit: it needs {expected} bytes, {found} are there", at = at.0)]
    Truncated {
        /// Its name.
        structure: &'static str,
        /// Where it begins.
        at: HostOffset,
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// A field holds what it cannot.
    #[error("{structure} at {at:#x}: {field} is {found:#x}, expected {expected}", at = at.0)]
    Field {
        /// The structure that holds the field.
        structure: &'static str,
        /// Where the structure begins.
        at: HostOffset,
        /// The name that the specification gives it.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would have been right.
        expected: Expected,
    },
}

/// What a field should have held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expected {
    /// One value.
    #[error("{0:#x}")]
    Exactly(u64),
    /// A value no larger.
    #[error("at most {0:#x}")]
    AtMost(u64),
    /// A value no smaller.
    #[error("at least {0:#x}")]
    AtLeast(u64),
    /// A multiple.
    #[error("a multiple of {0:#x}")]
    MultipleOf(u64),
}

/// What this program, or QEMU, does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The image would pass a limit of QEMU.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// An image this reader does not know.
    #[error("{field} is {found}, which is not supported")]
    Header {
        /// The field that says so.
        field: &'static str,
        /// Its value.
        found: u64,
    },
}

/// A disk for which an image would pass a limit of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{size} bytes are too many for clusters of {cluster_size} bytes: {what} would be {found} bytes, at most \
     {limit} are allowed{}", smallest_that_serves(*.smallest)
)]
pub struct TooLarge {
    /// Of the virtual disk, in bytes.
    pub size: u64,
    /// What was asked for, in bytes.
    pub cluster_size: u64,
    /// What would grow too large.
    pub what: &'static str,
    /// How large, in bytes.
    pub found: u64,
    /// What QEMU allows, in bytes.
    pub limit: u64,
    /// The smallest cluster size in bytes with which it fits, if there is one.
    pub smallest: Option<u64>,
}

fn smallest_that_serves(smallest: Option<u64>) -> String {
    smallest.map_or_else(
        || " (no cluster size serves)".to_owned(),
        |bytes| format!(" (the smallest cluster size that serves is {bytes})"),
    )
}

/// What cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The source is not something that holds a disk.
    #[error("is a {0}, expected a regular file or a block device")]
    SourceKind(FileKind),
    /// The source holds nothing.
    #[error("is empty, there is nothing to image")]
    SourceEmpty,
    /// The source is in use.
    #[error("{0}")]
    SourceInUse(InUse),
    /// The name of the source was given to something else meanwhile.
    #[error("was replaced by something else while it was opened")]
    SourceReplaced,
    /// The part asked for is not aligned to sectors.
    #[error("{what} is {found}, expected a multiple of 512")]
    Unaligned {
        /// `offset` or `length`.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The part asked for begins at or past the end.
    #[error("offset is {offset}, expected less than the size, {size}")]
    OffsetPastEnd {
        /// Asked for, in bytes.
        offset: u64,
        /// Of the source, in bytes.
        size: u64,
    },
    /// The part asked for ends past the end.
    #[error("offset {offset} and length {length} reach past the end of the source, at {size}")]
    LengthPastEnd {
        /// Asked for, in bytes.
        offset: u64,
        /// Asked for, in bytes.
        length: u64,
        /// Of the source, in bytes, padded to a whole sector.
        size: u64,
    },
    /// The part asked for is nothing.
    #[error("length is 0, there is nothing to image")]
    LengthZero,
    /// The image is something that cannot be replaced by a file.
    #[error("is a {0}, expected a regular file or a new name")]
    ImageKind(FileKind),
    /// The image's name names nothing that could be a file.
    #[error("is not the name of a file")]
    ImageName,
    /// The image's name is a mount point.
    #[error("is a mount point, which no new image can replace")]
    ImageMounted,
    /// The image exists.
    #[error("exists already, expected a new name")]
    ImageExists,
    /// The image would overwrite the source.
    #[error("is the source itself ({0})")]
    ImageIsSource(SameAs),
    /// The image would be written to the device that is read.
    #[error("lies on the source: writing it would change what is being read")]
    ImageOnSource,
}

/// Who might write to a source while it is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InUse {
    /// A filesystem on it is mounted read-write.
    #[error("mounted read-write on {}{}", on.display(), through(device.as_ref()))]
    Mounted {
        /// The mount point.
        on: PathBuf,
        /// The partition, holder or loop device that is mounted, where it is not the source itself.
        device: Option<String>,
    },
    /// The system swaps to it.
    #[error("in use as swap{}", device.as_ref().map_or_else(String::new, |name| format!(" on {name}")))]
    Swap {
        /// The partition, holder or loop device that is swapped to, where it is not the source itself.
        device: Option<String>,
    },
    /// Another device is made of it: LVM, RAID, encryption.
    #[error("in use by the device {by}{}", through(device.as_ref()))]
    Held {
        /// The device made of it, with its name where it has one.
        by: String,
        /// The partition that is held, where it is not the source itself.
        device: Option<String>,
    },
    /// The kernel says so, but not why.
    #[error("opened exclusively by a filesystem, a RAID or a program{}", through(device.as_ref()))]
    Busy {
        /// The loop device that is busy, where it is not the source itself.
        device: Option<String>,
    },
}

fn through(device: Option<&String>) -> String {
    device.map_or_else(String::new, |name| format!(" as {name}"))
}

/// How two names turned out to be one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SameAs {
    /// The same name, a symbolic link or a hard link.
    #[error("the same file")]
    File,
    /// The source is a loop device, and the image the file behind it.
    #[error("the file behind the loop device")]
    BehindLoop,
}

/// What a name in the filesystem names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileKind {
    /// A regular file.
    #[error("regular file")]
    Regular,
    /// A directory.
    #[error("directory")]
    Directory,
    /// A block device.
    #[error("block device")]
    BlockDevice,
    /// A character device.
    #[error("character device")]
    CharacterDevice,
    /// A named pipe.
    #[error("FIFO")]
    Fifo,
    /// A socket.
    #[error("socket")]
    Socket,
    /// Something this program has no name for.
    #[error("file of an unknown kind")]
    Unknown,
}

impl From<std::fs::FileType> for FileKind {
    fn from(kind: std::fs::FileType) -> Self {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_file() {
            Self::Regular
        } else if kind.is_dir() {
            Self::Directory
        } else if kind.is_block_device() {
            Self::BlockDevice
        } else if kind.is_char_device() {
            Self::CharacterDevice
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Unknown
        }
    }
}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Self {
        Unsupported::from(error).into()
    }
}

impl Error {
    /// A failure of the system while doing something to the source.
    pub(crate) fn source_io(action: Action, source: impl Into<io::Error>) -> Self {
        Self::Io {
            side: Side::Source,
            action,
            source: source.into(),
        }
    }

    /// A failure of the system while doing something to the image.
    pub(crate) fn image_io(action: Action, source: impl Into<io::Error>) -> Self {
        Self::Io {
            side: Side::Image,
            action,
            source: source.into(),
        }
    }

    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::Io { side, .. } => *side,
            Self::Corrupt(
                Corrupt::Shrank { .. } | Corrupt::Disappeared { .. } | Corrupt::TooManyUnreadable { .. },
            )
            | Self::Unsupported(Unsupported::TooLarge(_))
            | Self::Invalid(
                Invalid::SourceKind(_)
                | Invalid::SourceEmpty
                | Invalid::SourceInUse(_)
                | Invalid::SourceReplaced
                | Invalid::Unaligned { .. }
                | Invalid::OffsetPastEnd { .. }
                | Invalid::LengthPastEnd { .. }
                | Invalid::LengthZero,
            ) => Side::Source,
            Self::Corrupt(Corrupt::Truncated { .. } | Corrupt::Field { .. })
            | Self::Unsupported(Unsupported::Header { .. })
            | Self::Invalid(
                Invalid::ImageKind(_)
                | Invalid::ImageName
                | Invalid::ImageExists
                | Invalid::ImageMounted
                | Invalid::ImageIsSource(_)
                | Invalid::ImageOnSource,
            ) => Side::Image,
        }
    }
}
