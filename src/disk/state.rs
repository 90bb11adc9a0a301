//! The state of a source, which changes when a program writes to it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::devices::{Kernel, Subject};

/// The state of a source at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a file.
    File(FileState),
    /// Of a device.
    Device {
        /// Sectors of 512 bytes written to it, if the kernel counts them.
        sectors_written: Option<u64>,
        /// The file behind a loop device, which others may write to as well.
        behind: Option<FileState>,
        /// Whether the kernel could be asked for both.
        is_known: bool,
    },
}

/// The state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written to: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

impl FileState {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl State {
    /// The state of an open file or device.
    ///
    /// # Errors
    ///
    /// If the file cannot be examined.
    pub(crate) fn of(file: &File, subject: Subject) -> io::Result<Self> {
        match subject {
            Subject::File(_) => Ok(Self::File(FileState::of(&file.metadata()?))),
            Subject::Device(number) => {
                let kernel = Kernel::running();
                let (sectors, file) = (kernel.sectors_written(number), kernel.file_behind(number));
                let is_known = sectors.is_ok() && file.is_ok();
                let file = file.unwrap_or_default();
                let behind = file.and_then(|path| path.metadata().ok());
                Ok(Self::Device {
                    sectors_written: sectors.unwrap_or_default(),
                    behind: behind.map(|metadata| FileState::of(&metadata)),
                    is_known,
                })
            }
        }
    }

    /// Of the file that it is, or stands on.
    pub(crate) fn file(&self) -> Option<FileState> {
        match self {
            Self::File(state) => Some(*state),
            Self::Device { behind, .. } => *behind,
        }
    }
}

/// How a source was seen to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Change {
    /// Sectors were written to the device.
    #[error("{0} sectors were written to the device")]
    SectorsWritten(u64),
    /// The file has another size.
    #[error("its size was {before} bytes and is {after}")]
    Size {
        /// When it was opened, in bytes.
        before: u64,
        /// Now, in bytes.
        after: u64,
    },
    /// The file was written to.
    #[error("its modification time changed")]
    Modified,
    /// The file behind a loop device was written to, perhaps past that device.
    #[error("the file behind the device was written to")]
    BehindModified,
    /// The kernel could not be asked.
    #[error("or may have: the kernel's count of writes cannot be read")]
    Untold,
    /// A process can write to it without a trace.
    #[error(
        "or may have: process {process}, {name:?}, has it mapped, and its filesystem does not record such writes"
    )]
    Mapped {
        /// Its number.
        process: u32,
        /// What it is called.
        name: String,
    },
    /// A process could write to it without a trace, and is done.
    #[error(
        "or may have: a process that could write to it closed it, and its filesystem does not record all writes"
    )]
    Closed,
    /// What was written meanwhile did not reach the disk.
    #[error("writes to it failed: {}", std::io::Error::from_raw_os_error(*errno))]
    WritesFail {
        /// What the system said.
        errno: i32,
    },
}

impl Change {
    /// What changed between two looks at a source.
    pub(crate) fn between(before: &State, after: &State) -> Option<Self> {
        let sectors = |state: &State| match state {
            State::Device { sectors_written, .. } => *sectors_written,
            State::File(_) => None,
        };
        // A counter that has gone back tells nothing.
        let written = sectors(after)
            .unwrap_or(0)
            .saturating_sub(sectors(before).unwrap_or(0));
        let is_untold = |state: &State| matches!(state, State::Device { is_known: false, .. });
        match (before, after) {
            (before, after) if is_untold(before) || is_untold(after) => Some(Self::Untold),
            (before, after) if before == after => None,
            (State::File(before), State::File(after)) if before.size != after.size => Some(Self::Size {
                before: before.size,
                after: after.size,
            }),
            (State::File(_), _) => Some(Self::Modified),
            (State::Device { .. }, _) if written > 0 => Some(Self::SectorsWritten(written)),
            (State::Device { .. }, _) => Some(Self::BehindModified),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_no_change() {
        let state = |size, seconds| FileState {
            size,
            modified: (seconds, 0),
        };
        let file = |size, seconds| State::File(state(size, seconds));
        let device = |sectors_written, behind| State::Device {
            sectors_written,
            behind,
            is_known: true,
        };
        let untold = State::Device {
            sectors_written: None,
            behind: None,
            is_known: false,
        };
        let between = |before, after| Change::between(&before, &after);
        assert_eq!(between(file(1, 1), file(1, 1)), None);
        assert_eq!(between(file(1, 1), file(1, 2)), Some(Change::Modified));
        assert_eq!(
            between(file(1, 1), file(2, 2)),
            Some(Change::Size { before: 1, after: 2 })
        );
        assert_eq!(between(device(Some(5), None), device(Some(5), None)), None);
        assert_eq!(
            between(device(Some(5), None), device(Some(8), None)),
            Some(Change::SectorsWritten(3))
        );
        assert_eq!(
            between(
                device(Some(5), Some(state(1, 1))),
                device(Some(5), Some(state(1, 2)))
            ),
            Some(Change::BehindModified)
        );
        assert_eq!(between(device(None, None), device(None, None)), None);
        for (before, after) in [
            (untold, untold),
            (untold, device(None, None)),
            (device(None, None), untold),
        ] {
            assert_eq!(between(before, after), Some(Change::Untold));
        }
    }
}
