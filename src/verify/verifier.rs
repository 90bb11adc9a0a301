//! What verifies, and how much of it.

use super::options::Options;
use crate::formats::qcow2::Image;
use crate::pipeline::buffers::Buffers;
use crate::progress::Progress;
use crate::units::{Exact, to_usize};

/// How much a worker does in one go, in bytes, unless a cluster is larger.
pub(super) const BATCH: u64 = 1 << 20;

/// How much is under way at the same time, in bytes at most.
const IN_FLIGHT: u64 = 32 << 20;

/// What all parts of the work need.
pub(super) struct Verifier<'a> {
    pub(super) image: &'a Image,
    pub(super) options: Options,
    pub(super) pool: rayon::ThreadPool,
    pub(super) in_flight: usize,
    /// In bytes; whole clusters.
    pub(super) batch: u64,
    pub(super) buffers: Buffers,
    pub(super) progress: &'a dyn Progress,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) read: u64,
    pub(super) streams: u64,
    pub(super) compared: u64,
}

impl Done {
    pub(super) fn add(&mut self, other: Self) {
        self.read.increase(other.read);
        self.streams.increase(other.streams);
        self.compared.increase(other.compared);
    }
}

/// How many batches of so many bytes are under way at the same time.
pub(super) fn in_flight(pool: &rayon::ThreadPool, batch: u64) -> usize {
    to_usize(IN_FLIGHT.checked_div(batch).unwrap_or(0))
        .min(pool.current_num_threads().times(4))
        .max(2)
}
