//! What would be merged, what was merged, and what to know about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::layout::Written;
use crate::output::{Memory, Remains};
use crate::units::Exact;

/// A warning about an image that was merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The image lies in memory.
    #[error("is in memory ({0}), and gone at the next boot")]
    InMemory(Memory),
    /// The image does not belong to the owner of the one it replaced.
    #[error("could not be given the owner of the image it replaced")]
    OwnerNotKept,
    /// Not all who could read or write the old one can do so with the new one.
    #[error(
        "could not be given the ACL or the security label of the image it replaced: some users may be refused"
    )]
    RightsNotKept,
    /// The image is in place, but a file with a temporary name could not be removed.
    #[error("{path} {0}", path = .0.path().display())]
    Remains(Remains),
    /// The new name may not survive a power failure.
    #[error("is in place, but its directory could not be synced: {0}")]
    NotDurable(io::Error),
    /// The image is not where it was asked for.
    #[error("its directory was renamed during the run: the image is in that directory, at its new path")]
    Elsewhere,
}

impl Warning {
    /// Whether the image may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::NotDurable(_) | Self::Elsewhere => true,
            Self::InMemory(_) | Self::OwnerNotKept | Self::RightsNotKept | Self::Remains(_) => false,
        }
    }
}

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// The images that would become one, the newest first.
    pub images: Vec<&'a Path>,
    /// The length of all of them in bytes.
    pub length: u64,
    /// The image that the new one would stand on, if it would.
    pub onto: Option<&'a Path>,
    /// The size of the new image in bytes at most: what is compressed counts as if it was not.
    pub image_size: u64,
    /// The space that is needed while it is made, in bytes at most.
    pub room_needed: u64,
    /// How much room there is, in bytes, if that can be told.
    pub free_space: Option<u64>,
    /// The filesystem that takes the image, if it is in memory.
    pub memory: Option<Memory>,
}

impl Plan<'_> {
    /// The warnings that are known before anything is read.
    pub fn warnings(&self) -> Vec<Warning> {
        self.memory.map(Warning::InMemory).into_iter().collect()
    }
}

/// How clusters were brought over that are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those whose streams were copied as they are.
    pub copied: u64,
    /// Those that were compressed anew.
    pub recompressed: u64,
}

impl Tally {
    /// Adds those of another part of the disk.
    pub(super) fn add(&mut self, other: Self) {
        self.copied.increase(other.copied);
        self.recompressed.increase(other.recompressed);
    }
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// The images that became one, the newest first.
    pub images: Vec<PathBuf>,
    /// The length of all of them in bytes.
    pub length: u64,
    /// The image that the new one stands on, if it does.
    pub onto: Option<PathBuf>,
    /// The cluster size in bytes.
    pub cluster_size: u64,
    /// What the new image holds.
    pub written: Written,
    /// How its compressed clusters came there.
    pub streams: Tally,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub duration: Duration,
}
