//! What partition tables count in.

use std::ops::Range;

use crate::units::to_u64;

/// The sizes that sectors have, in bytes: tried one after another where the source does not tell.
pub(super) const SIZES: [u64; 4] = [512, 1024, 2048, 4096];

/// The bytes of `count` sectors from `first` on.
pub(super) fn sectors(first: u64, count: u64, sector_size: u64) -> Range<u64> {
    let end = first.saturating_add(count);
    first.saturating_mul(sector_size)..end.saturating_mul(sector_size)
}

/// The bytes of a structure that begins with a sector.
pub(super) fn structure(first: u64, length: usize, sector_size: u64) -> Range<u64> {
    let start = first.saturating_mul(sector_size);
    start..start.saturating_add(to_u64(length))
}
