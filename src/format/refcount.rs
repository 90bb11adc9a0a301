//! Refcount table and refcount blocks. Spec: qcow2.txt, "Host cluster management".

use crate::units::{HostOffset, to_usize};

/// log2 of the width of a refcount in bits: 16, the only one that version 2 knows.
pub const ORDER: u32 = 4;

/// A refcount of 1 in the byte order of the disk.
const ONE: [u8; 2] = 1_u16.to_be_bytes();

/// Fills a refcount block: its first `used` clusters are referenced once, the others not at all.
pub fn fill_block(block: &mut [u8], used: u64) {
    let (counts, _) = block.as_chunks_mut::<2>();
    let used = to_usize(used).min(counts.len());
    let (ones, zeros) = counts.split_at_mut(used);
    ones.fill(ONE);
    zeros.fill([0; 2]);
}

/// The refcount table's entry for the block at `offset`.
pub fn table_entry(offset: HostOffset) -> [u8; 8] {
    offset.0.to_be_bytes()
}
