//! How far the work is: the library counts, the program shows.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the source to learn the tables of an image, which come first in a stream: the first of two passes.
    Measuring,
    /// Reading the source and writing the target.
    Copying,
    /// Bringing the target to stable storage.
    Syncing,
    /// Reading back what was written.
    Verifying,
    /// Reading two disks.
    Comparing,
    /// Reading the tables of an image.
    Checking,
}

/// Somebody who wants to know.
pub trait Progress: Sync {
    /// A phase begins, in which `total` bytes will be dealt with.
    fn begin(&self, phase: Phase, total: u64);

    /// So many more bytes are dealt with.
    fn advance(&self, bytes: u64);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Phase, _: u64) {}

    fn advance(&self, _: u64) {}
}
