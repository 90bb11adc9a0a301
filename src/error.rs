//! What can go wrong, sorted by whose fault it is.
//!
//! A message names the structure, the place, the value found and the value expected, but no path: the caller
//! knows the two paths, and [`Error::side`] tells which of them the message is about.

mod corrupt;
mod file_kind;
mod in_use;
mod invalid;
mod occupied;
mod same_as;
mod side;
mod unfit;
mod unmergeable;
mod unmountable;
mod unrecorded;
mod unstreamable;
mod unsupported;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::units::HostOffset;
pub use corrupt::{Corrupt, Expected, Lost, StreamFault};
pub use file_kind::FileKind;
pub use in_use::InUse;
pub use invalid::{Holding, Invalid, Role};
pub use occupied::Occupied;
pub use same_as::SameAs;
pub use side::Side;
pub use unfit::Unfit;
pub use unmergeable::Unmergeable;
pub use unmountable::Unmountable;
pub use unrecorded::Unrecorded;
pub use unstreamable::Unstreamable;
pub use unsupported::{Features, TooLarge, Unsupported};

/// The outcome of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    /// The data read contradicts itself or its specification.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The data may be right, but this program (or QEMU) does not support it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The request makes no sense, or would not be safe.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The target does not return the bytes that were written to it.
    #[error("does not read back as it was written (guest {:#x} to {:#x})", .0.start, .0.end)]
    ReadBack(Range<u64>),
    /// The error is about another file than the first: a backing file, a data file, the second of two disks, or the
    /// directory for temporary files.
    #[error("in {}", path.display())]
    Elsewhere {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: Box<Error>,
    },
}

/// What was attempted when the system failed: completes "cannot ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Action {
    /// Opening, including the lookup of the file.
    #[error("open")]
    Open,
    /// Asking for size, owner or state.
    #[error("examine")]
    Examine,
    /// Flushing what other programs wrote to it earlier.
    #[error("flush earlier writes to it")]
    Settle,
    /// Asking where a sparse file holds data.
    #[error("look for data from {0:#x} on")]
    Seek(u64),
    /// Reading, at this byte offset.
    #[error("read at {0:#x}")]
    Read(u64),
    /// Looking whether the directory of the image can take one.
    #[error("write to its directory")]
    UseDirectory,
    /// Looking for files that earlier runs left in the directory of the image.
    #[error("list its directory")]
    ListDirectory,
    /// Creating a file in the directory of the image.
    #[error("create a file in its directory")]
    Create,
    /// Writing checksums or refcounts to a scratch file: in the directory of the image, or of a stream in that for
    /// temporary files.
    #[error("write tables to a scratch file")]
    Scratch,
    /// Writing, at this byte offset.
    #[error("write at {0:#x}")]
    Write(u64),
    /// Making a range read as zeros, from this byte offset on.
    #[error("make zeros from {0:#x} on")]
    Zero(u64),
    /// Giving the new file the owner, the mode and other rights of the old one.
    #[error("keep the mode of the file it replaces")]
    KeepMode,
    /// Bringing it to stable storage.
    #[error("sync")]
    Sync,
    /// Closing it: some filesystems report only then that they could not write.
    #[error("close")]
    Close,
    /// Giving the finished file its name.
    #[error("give the finished file its name")]
    Publish,
    /// Bringing the new name to stable storage.
    #[error("sync its directory")]
    SyncDirectory,
    /// Compressing a cluster.
    #[error("compress")]
    Compress,
    /// Starting worker threads.
    #[error("start worker threads")]
    StartWorkers,
    /// Mounting a filesystem on a directory.
    #[error("mount a filesystem on it")]
    Mount,
    /// Ending that mount.
    #[error("unmount it")]
    Unmount,
    /// Answering the kernel for a filesystem that is mounted.
    #[error("answer the kernel")]
    Serve,
    /// Creating the file that takes what is written to a copy-on-write mount.
    #[error("create a temporary file for changes")]
    CreateOverlay,
}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Self {
        Unsupported::from(error).into()
    }
}

impl From<Unstreamable> for Error {
    fn from(why: Unstreamable) -> Self {
        Invalid::Unstreamable(why).into()
    }
}

impl From<Unmountable> for Error {
    fn from(why: Unmountable) -> Self {
        Invalid::Unmountable(why).into()
    }
}

impl Error {
    /// A field of a structure has an invalid value.
    pub(crate) fn field(
        structure: &'static str,
        at: HostOffset,
        field: &'static str,
        found: u64,
        expected: Expected,
    ) -> Self {
        Corrupt::Field {
            structure,
            at,
            field,
            found,
            expected,
        }
        .into()
    }

    /// A failure of the system while doing something to the source.
    pub(crate) fn source_io(action: Action, source: impl Into<io::Error>) -> Self {
        Self::Io {
            side: Side::Source,
            action,
            source: source.into(),
        }
    }

    /// A failure of the system while doing something to the image.
    pub(crate) fn target_io(action: Action, source: impl Into<io::Error>) -> Self {
        Self::Io {
            side: Side::Target,
            action,
            source: source.into(),
        }
    }

    /// The same error, about a file that is not the first of those that are read.
    #[must_use]
    pub fn elsewhere(self, path: &Path) -> Self {
        // The innermost file is the one that it is about.
        if matches!(self, Self::Elsewhere { .. }) {
            return self;
        }
        Self::Elsewhere {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }

    /// The error without the path of the file [elsewhere](Self::Elsewhere) that it is about, and that path.
    pub fn innermost(&self) -> (&Self, Option<&Path>) {
        if let Self::Elsewhere { path, error } = self {
            (error.innermost().0, Some(path))
        } else {
            (self, None)
        }
    }

    /// For a sentence about something that is in an image: in which of its backing files, if in one of these.
    pub(crate) fn of_backing(path: Option<&Path>) -> String {
        path.map_or_else(String::new, |path| {
            format!("of its backing file {} ", path.display())
        })
    }

    /// The range of the virtual disk that cannot be read because of the error, in bytes, if known.
    pub fn lost(&self) -> Option<Range<u64>> {
        match self {
            Self::Corrupt(corrupt) => corrupt.lost(),
            Self::Elsewhere { error, .. } => error.lost(),
            Self::Io { .. } | Self::Unsupported(_) | Self::Invalid(_) | Self::ReadBack(_) => None,
        }
    }

    /// Which of the two files the error is about.
    pub fn side(&self) -> Side {
        match self {
            Self::Io { side, .. } => *side,
            Self::Invalid(invalid) => invalid.side(),
            Self::Corrupt(_) | Self::Unsupported(_) => Side::Source,
            Self::ReadBack(_) => Side::Target,
            Self::Elsewhere { error, .. } => error.side(),
        }
    }
}
