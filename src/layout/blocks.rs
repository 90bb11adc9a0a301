//! Refcount blocks one after the other, and the table of them.

use super::pieces::PIECE;
use crate::error::Result;
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::formats::qcow2::structures::refcount;
use crate::output::WriteAt;
use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// The refcount blocks of an image whose first clusters are in use, and no other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) geometry: Geometry,
    /// Where the first block begins.
    pub(super) first: HostOffset,
    /// How many blocks there are.
    pub(super) count: u64,
    /// How many clusters are in use.
    pub(super) used: u64,
}

impl Blocks {
    /// The refcount table.
    pub(super) fn table(self) -> Vec<[u8; 8]> {
        let offset = |block: u64| block.times(self.geometry.cluster_size());
        (0..self.count)
            .map(|block| refcount::table_entry(self.first + offset(block)))
            .collect()
    }

    /// Writes all of them. `add` gets each block, and the number of the first cluster that it counts, to add what
    /// there is beyond one reference.
    ///
    /// # Errors
    ///
    /// Those of the writer and of `add`.
    pub(super) fn write<W: WriteAt>(
        self,
        writer: &mut W,
        mut add: impl FnMut(&mut [u8], u64, &W) -> Result<()>,
    ) -> Result<()> {
        let cluster_size = self.geometry.cluster_size();
        let mut counted = 0_u64;
        let mut left = self.count.times(cluster_size);
        let mut piece = vec![0; to_usize(PIECE.max(cluster_size).min(left))];
        let mut host = self.first;
        while left > 0 {
            let length = to_usize(left).min(piece.len());
            let (bytes, _) = piece.split_at_mut(length);
            for block in bytes.chunks_exact_mut(to_usize(cluster_size)) {
                refcount::fill_block(block, self.used.minus(counted));
                add(block, counted, writer)?;
                counted.increase(self.geometry.refcount_block_entries());
            }
            writer.write_at(bytes, host)?;
            host += to_u64(bytes.len());
            left = left.minus(to_u64(bytes.len()));
        }
        Ok(())
    }
}
