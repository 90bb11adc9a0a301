//! Progress of the work: the library counts, the program shows.

mod retries;

use std::ops::Range;

pub(crate) use retries::Retries;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the source to learn the tables of an image, which come first in a stream: the first of two passes.
    Measuring,
    /// Reading the source and writing the target.
    Copying,
    /// Syncing the target to stable storage.
    Syncing,
    /// Reading back what was written.
    Verifying,
    /// Reading two disks.
    Comparing,
    /// Reading the tables of an image.
    Checking,
}

/// Where sectors are read one by one, because they could not be read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrying {
    /// The sector that is being read: where it lies in the source, in bytes. The first of them if several workers do so.
    pub at: u64,
    /// How many bytes could not be read since the phase began.
    pub unreadable: u64,
}

/// Takes the counts. Any method may be called by any worker.
pub trait Progress: Sync {
    /// A phase begins, in which `total` bytes will be dealt with; 0 if that is not known.
    fn begin(&self, phase: Phase, total: u64);

    /// So many more bytes are dealt with.
    fn advance(&self, bytes: u64);

    /// Sectors are read one by one, which may take minutes in which nothing advances. Called for each of them, and with
    /// `None` when all that could not be read at once has been retried.
    fn retrying(&self, _: Option<Retrying>) {}

    /// A range of the source, in bytes, that cannot be read: its copy is zeros. Ranges are ascending and do not touch;
    /// each is told once, as soon as it is known where it ends.
    fn unreadable(&self, _: &Range<u64>) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Phase, _: u64) {}

    fn advance(&self, _: u64) {}
}
