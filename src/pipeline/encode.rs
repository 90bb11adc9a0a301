//! What the workers do with a batch: read, test for zeros, hash.

use std::ops::Range;

use super::buffers::Buffers;
use super::zero::is_zero;
use crate::clusters::Batch;
use crate::error::Result;
use crate::source::Source;
use crate::source::rescue::{self, OnReadError};
use crate::units::{GuestCluster, to_usize};

/// A batch that was read.
#[derive(Debug)]
pub struct Encoded {
    /// The first cluster.
    pub first: GuestCluster,
    /// All clusters, whole, one after the other.
    pub bytes: Vec<u8>,
    /// For each cluster its CRC-32, or none if all of it is zeros.
    pub checksums: Vec<Option<u32>>,
    /// How many bytes were in use and so were read.
    pub read: u64,
    /// Ranges of the source that could not be read, and are zeros here.
    pub unreadable: Vec<Range<u64>>,
}

/// Turns batches into clusters that are ready to be placed.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// Where the bytes are read.
    pub source: &'a dyn Source,
    /// What to do where they cannot be read.
    pub on_read_error: OnReadError,
    /// In bytes.
    pub cluster_size: u64,
    /// Where memory comes from, and goes back to once a batch was placed.
    pub buffers: &'a Buffers,
}

impl Encoder<'_> {
    /// Reads what is in use; the rest of its clusters is zeros.
    ///
    /// # Errors
    ///
    /// Those of [`rescue::read`].
    pub fn encode(&self, batch: Batch) -> Result<Encoded> {
        let start = batch.first.0.saturating_mul(self.cluster_size);
        let mut bytes = self
            .buffers
            .take(to_usize(batch.count.saturating_mul(self.cluster_size)));
        let (mut read, mut unreadable) = (0_u64, Vec::new());
        let (mut rest, mut at) = (bytes.as_mut_slice(), start);
        for range in batch.used {
            let (gap, behind) = rest.split_at_mut(to_usize(range.start.saturating_sub(at)));
            let length = range.end.saturating_sub(range.start);
            let (used, behind) = behind.split_at_mut(to_usize(length));
            gap.fill(0);
            for bad in rescue::read(self.source, used, range.start, self.on_read_error)? {
                rescue::append(&mut unreadable, bad);
            }
            read = read.saturating_add(length);
            (rest, at) = (behind, range.end);
        }
        rest.fill(0);
        let clusters = bytes.chunks_exact(to_usize(self.cluster_size));
        let checksums = clusters
            .map(|cluster| (!is_zero(cluster)).then(|| crc32fast::hash(cluster)))
            .collect();
        Ok(Encoded {
            first: batch.first,
            bytes,
            checksums,
            read,
            unreadable,
        })
    }
}
