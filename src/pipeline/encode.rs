//! What the workers do with a batch: read, test for zeros, hash.

use std::ops::Range;

use super::buffers::Buffers;
use super::zero::is_zero;
use crate::clusters::Batch;
use crate::error::Result;
use crate::source::Source;
use crate::source::rescue::{self, OnReadError};
use crate::units::{GuestCluster, length, to_usize};

/// How much is read in one go, in bytes.
const PIECE: u64 = 256 << 10;

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
    /// Ranges that could not be read and are zeros here, as positions in the underlying file or device.
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
    pub fn encode(&self, batch: &Batch) -> Result<Encoded> {
        let start = batch.first.0.saturating_mul(self.cluster_size);
        let mut bytes = self
            .buffers
            .take(to_usize(batch.count.saturating_mul(self.cluster_size)));
        let mut checksums = Vec::with_capacity(to_usize(batch.count));
        let (mut read, mut unreadable) = (0_u64, Vec::new());
        let mut filled = 0;
        for piece in batch.used.iter().flat_map(pieces) {
            let at = to_usize(piece.start.saturating_sub(start));
            let (before, piece_on) = bytes.split_at_mut(at);
            let (used, _) = piece_on.split_at_mut(to_usize(length(&piece)));
            let (_, gap) = before.split_at_mut(filled);
            gap.fill(0);
            for bad in rescue::read(self.source, used, piece.start, self.on_read_error)? {
                rescue::append(&mut unreadable, bad);
            }
            read = read.saturating_add(length(&piece));
            filled = at.saturating_add(used.len());
            let (whole, _) = bytes.split_at(filled);
            self.hash(whole, &mut checksums);
        }
        let (_, rest) = bytes.split_at_mut(filled);
        rest.fill(0);
        self.hash(&bytes, &mut checksums);
        Ok(Encoded {
            first: batch.first,
            bytes,
            checksums,
            read,
            unreadable,
        })
    }

    /// Tests and hashes the clusters that are whole by now, and have not been.
    fn hash(&self, bytes: &[u8], checksums: &mut Vec<Option<u32>>) {
        let clusters = bytes
            .chunks_exact(to_usize(self.cluster_size))
            .skip(checksums.len());
        checksums.extend(clusters.map(|cluster| (!is_zero(cluster)).then(|| crc32fast::hash(cluster))));
    }
}

/// Cuts a range into what is read in one go: it should still be in the processor's cache when it is hashed.
fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut rest = range.clone();
    std::iter::from_fn(move || {
        let piece = rest.start..rest.end.min(rest.start.saturating_add(PIECE));
        rest.start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_range_cut() {
        let range = 100..PIECE * 2 + 101;
        let expected = [
            100..PIECE + 100,
            PIECE + 100..PIECE * 2 + 100,
            PIECE * 2 + 100..PIECE * 2 + 101,
        ];
        assert!(pieces(&range).eq(expected));
    }
}
