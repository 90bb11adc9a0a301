//! What partition tables count in.

use std::ops::Range;

use crate::units::{Exact, claimed_end, claimed_size, to_u64};

/// The sizes that sectors have, in bytes: tried one after another where the source does not tell.
pub(super) const SIZES: [u64; 4] = [512, 1024, 2048, 4096];

/// The bytes of `count` sectors from `first` on, as a table claims them.
pub(super) fn sectors(first: u64, count: u64, sector_size: u64) -> Range<u64> {
    let end = claimed_end(first, count);
    claimed_size(first, sector_size)..claimed_size(end, sector_size)
}

/// The bytes of a structure that begins with a sector, and was read.
pub(super) fn structure(first: u64, length: usize, sector_size: u64) -> Range<u64> {
    let start = first.times(sector_size);
    start..start.plus(to_u64(length))
}
