//! What would be done, what was done, and what to know about it.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::allocation::AllocationMap;
use crate::error::{InUse, Side};
use crate::layout::Written;
use crate::source::{Kind, State};

/// Something that whoever made the image should know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The source was imaged although it was in use.
    #[error("the source is {0}: imaged all the same, files may not be consistent")]
    SourceInUse(InUse),
    /// The source changed while it was read.
    #[error("the source changed while it was read ({0}): the image is not of one moment")]
    SourceChanged(Change),
    /// Parts of the source could not be read.
    #[error("{bytes} bytes of the source could not be read and are zeros in the image")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// The image does not belong to the owner of the one it replaced.
    #[error("the image could not be given the owner of the one it replaced")]
    OwnerNotKept,
    /// The new name may not survive a power failure.
    #[error("the image is in place, but its directory could not be synced: {0}")]
    NotDurable(io::Error),
}

impl Warning {
    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::SourceInUse(_) | Self::SourceChanged(_) | Self::Unreadable { .. } => Side::Source,
            Self::OwnerNotKept | Self::NotDurable(_) => Side::Image,
        }
    }

    /// Whether the image may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::SourceChanged(_) | Self::Unreadable { .. } | Self::NotDurable(_) => true,
            Self::SourceInUse(_) | Self::OwnerNotKept => false,
        }
    }
}

/// How a source was seen to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
}

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the source is.
    pub kind: Kind,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// What is in use, and why.
    pub map: &'a AllocationMap,
    /// The size of the image in bytes: exact if nothing in use is zeros, an upper bound if something is.
    pub image_size: u64,
    /// How much room there is for it, in bytes, if that can be told.
    pub free_space: Option<u64>,
    /// Who might write to the source meanwhile.
    pub in_use: Option<&'a InUse>,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes read from the source.
    pub read: u64,
    /// What became of them.
    pub written: Written,
    /// The cluster size in bytes.
    pub cluster_size: u64,
    /// The ranges that could not be read, in bytes of the file or device, whichever part of it was imaged.
    pub unreadable: Vec<Range<u64>>,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub duration: Duration,
}

impl Change {
    /// What changed between two looks at a source.
    pub(super) fn between(before: State, after: State) -> Option<Self> {
        match (before, after) {
            (
                State::Device {
                    sectors_written: before,
                },
                State::Device {
                    sectors_written: after,
                },
            ) => {
                let written = after?.saturating_sub(before?);
                (written > 0).then_some(Change::SectorsWritten(written))
            }
            (State::File { size: before, .. }, State::File { size: after, .. }) if before != after => {
                Some(Change::Size { before, after })
            }
            (before, after) => (before != after).then_some(Change::Modified),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_no_change() {
        let file = |size, seconds| State::File {
            size,
            modified: (seconds, 0),
        };
        let device = |sectors_written| State::Device { sectors_written };
        assert_eq!(Change::between(file(1, 1), file(1, 1)), None);
        assert_eq!(Change::between(file(1, 1), file(1, 2)), Some(Change::Modified));
        assert_eq!(
            Change::between(file(1, 1), file(2, 2)),
            Some(Change::Size { before: 1, after: 2 })
        );
        assert_eq!(Change::between(device(Some(5)), device(Some(5))), None);
        assert_eq!(
            Change::between(device(Some(5)), device(Some(8))),
            Some(Change::SectorsWritten(3))
        );
        assert_eq!(Change::between(device(None), device(None)), None);
    }
}
