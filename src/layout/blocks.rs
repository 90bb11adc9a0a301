//! Refcount blocks one after the other, which count the first clusters of an image.

use super::PIECE;
use crate::error::Result;
use crate::format::geometry::Geometry;
use crate::format::refcount;
use crate::sink::Sink;
use crate::units::{HostOffset, to_u64, to_usize};

/// Writes `blocks` of them to `first` on: the first `used` clusters of the image are in use, the others not. `add`
/// gets each block, and the number of the first cluster that it counts, to add what there is beyond one reference.
///
/// # Errors
///
/// Those of the sink and of `add`.
pub(super) fn write<S: Sink>(
    sink: &mut S,
    geometry: Geometry,
    first: HostOffset,
    blocks: u64,
    used: u64,
    mut add: impl FnMut(&mut [u8], u64, &S) -> Result<()>,
) -> Result<()> {
    let cluster_size = geometry.cluster_size();
    let mut counted = 0_u64;
    let mut left = blocks.saturating_mul(cluster_size);
    let mut piece = vec![0; to_usize(PIECE.max(cluster_size).min(left))];
    let mut host = first;
    while left > 0 {
        let length = to_usize(left).min(piece.len());
        let (bytes, _) = piece.split_at_mut(length);
        for block in bytes.chunks_exact_mut(to_usize(cluster_size)) {
            refcount::fill_block(block, used.saturating_sub(counted));
            add(block, counted, sink)?;
            counted = counted.saturating_add(geometry.refcount_block_entries());
        }
        sink.write_at(bytes, host)?;
        host = HostOffset(host.0.saturating_add(to_u64(bytes.len())));
        left = left.saturating_sub(to_u64(bytes.len()));
    }
    Ok(())
}

/// The refcount table for them.
pub(super) fn table(geometry: Geometry, first: HostOffset, blocks: u64) -> Vec<[u8; 8]> {
    let offset = |block: u64| {
        first
            .0
            .saturating_add(block.saturating_mul(geometry.cluster_size()))
    };
    (0..blocks)
        .map(|block| refcount::table_entry(HostOffset(offset(block))))
        .collect()
}
