//! Refcount table and refcount blocks. Spec: qcow2.txt, "Host cluster management".

use super::geometry::Geometry;
use crate::error::Expected;
use crate::units::{Exact, HostOffset, to_usize};

/// log2 of the width of a refcount in bits: 16, the only one that version 2 knows.
pub const ORDER: u32 = 4;

/// The widest refcounts, log2 of their width in bits: 64.
pub const MAX_ORDER: u32 = 6;

/// A refcount of 1 in the byte order of the disk.
const ONE: [u8; 2] = 1_u16.to_be_bytes();

/// Bits 0 to 8 of an entry of the refcount table.
const TABLE_RESERVED: u64 = 0x1ff;

/// Fills a refcount block: its first `used` clusters are referenced once, the others not at all.
pub fn fill_block(block: &mut [u8], used: u64) {
    let (counts, _) = block.as_chunks_mut::<2>();
    let used = to_usize(used).min(counts.len());
    let (ones, zeros) = counts.split_at_mut(used);
    ones.fill(ONE);
    zeros.fill([0; 2]);
}

/// Adds to a count of a block.
///
/// # Panics
///
/// If the block has no such count, or it would pass 65535.
pub fn add_to_block(block: &mut [u8], index: usize, more: u16) {
    let (counts, _) = block.as_chunks_mut::<2>();
    let count = counts.get_mut(index).expect("whoever adds knows the block");
    let sum = u16::from_be_bytes(*count).checked_add(more);
    *count = sum.expect("a layout stays far below").to_be_bytes();
}

/// The refcount table's entry for the block at `offset`.
pub fn table_entry(offset: HostOffset) -> [u8; 8] {
    offset.0.to_be_bytes()
}

/// What an entry of the refcount table says: where the block is, or that all its refcounts are 0.
///
/// # Errors
///
/// What should have been there instead.
pub fn block_at(entry: u64, geometry: Geometry) -> Result<Option<HostOffset>, Expected> {
    if entry & TABLE_RESERVED != 0 {
        return Err(Expected::Clear(TABLE_RESERVED));
    }
    if !entry.is_multiple_of(geometry.cluster_size()) {
        return Err(Expected::MultipleOf(geometry.cluster_size()));
    }
    Ok((entry != 0).then_some(HostOffset(entry)))
}

/// The width of refcounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    order: u32,
}

impl Width {
    /// From log2 of the width in bits, 0 to [`MAX_ORDER`].
    pub fn from_order(order: u32) -> Option<Self> {
        (order <= MAX_ORDER).then_some(Self { order })
    }

    /// log2 of the width in bits.
    pub fn order(self) -> u32 {
        self.order
    }

    /// The width in bits.
    pub fn bits(self) -> u32 {
        1 << self.order
    }

    /// The largest refcount.
    pub fn largest(self) -> u64 {
        u64::MAX >> 64_u32.minus(self.bits())
    }

    /// How many refcounts a block has.
    pub fn block_entries(self, geometry: Geometry) -> u64 {
        geometry.cluster_size().times(8) >> self.order
    }

    /// A refcount of a block. Those narrower than a byte begin at its least significant bit; wider ones are
    /// big-endian. 0 behind the end of the block.
    pub fn get(self, block: &[u8], index: usize) -> u64 {
        if self.order < 3 {
            let per_byte_bits = 3_u32.minus(self.order);
            let byte = block.get(index >> per_byte_bits).copied().unwrap_or(0);
            let within = index & (1_usize << per_byte_bits).minus(1);
            let shift = within << self.order;
            return (u64::from(byte) >> shift) & self.largest();
        }
        let bytes = 1_usize << self.order.minus(3);
        let found = block.chunks_exact(bytes).nth(index).unwrap_or_default();
        found
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_every_width_are_found() {
        let block = [0b1110_0100, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        let get = |order, index| Width::from_order(order).unwrap().get(&block, index);
        assert_eq!([0, 2, 5, 7].map(|index| get(0, index)), [0, 1, 1, 1]);
        assert_eq!([0, 1, 2, 3, 4].map(|index| get(1, index)), [0, 1, 2, 3, 2]);
        assert_eq!([0, 1, 2].map(|index| get(2, index)), [4, 14, 2]);
        assert_eq!(get(3, 2), 0x34);
        assert_eq!(get(4, 1), 0x3456);
        assert_eq!(get(5, 1), 0x789a_bcde);
        assert_eq!(get(6, 0), 0xe412_3456_789a_bcde);
        assert_eq!(get(6, 1), 0, "behind the end");
        assert_eq!(Width::from_order(7), None);
    }

    #[test]
    fn the_largest_refcount_fills_its_width() {
        let largest = |order| Width::from_order(order).unwrap().largest();
        assert_eq!([0, 1, 4, 6].map(largest), [1, 3, 0xffff, u64::MAX]);
    }
}
