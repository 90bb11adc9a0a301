//! What would be done, what was done, and what to know about it.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::allocation::{Allocation, Region};
use crate::error::{InUse, Side};
use crate::layout::Written;
use crate::source::{Change, Kind};

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
    /// The image is not where it was asked for.
    #[error("its directory was renamed meanwhile: the image is in that directory, wherever it is now")]
    Elsewhere,
}

impl Warning {
    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::SourceInUse(_) | Self::SourceChanged(_) | Self::Unreadable { .. } => Side::Source,
            Self::OwnerNotKept | Self::NotDurable(_) | Self::Elsewhere => Side::Target,
        }
    }

    /// Whether the image may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::SourceChanged(_) | Self::Unreadable { .. } | Self::NotDurable(_) | Self::Elsewhere => true,
            Self::SourceInUse(_) | Self::OwnerNotKept => false,
        }
    }
}

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the source is.
    pub kind: Kind,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// What is in use, and why.
    pub allocation: &'a Allocation,
    /// The size of the image in bytes: exact if nothing in use is zeros and nothing is compressed, an upper bound
    /// otherwise; of a stream in one pass always exact.
    pub image_size: u64,
    /// Whether that is the size of the image in any case.
    pub is_exact: bool,
    /// The room that is needed while it is made, in bytes; of a stream that of whoever keeps it.
    pub room_needed: u64,
    /// How much room there is, in bytes, if that can be told.
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
    /// Bytes that are free although they are not in holes.
    pub free: u64,
    /// What the source holds.
    pub regions: Vec<Region>,
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
