//! Byte offsets and cluster numbers as types, and the only places where an integer changes its width.

use std::ops::Range;

/// usize and u64 are the same width here, so that neither conversion below can lose a bit.
const _: () = assert!(usize::BITS == u64::BITS, "mkqcow2 is for 64-bit machines");

/// The unit of a disk: sizes, offsets and lengths of sources are multiples of it, in bytes.
pub const SECTOR: u64 = 512;

/// A byte offset in the virtual disk, which is what the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestOffset(pub u64);

/// A byte offset in the image file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostOffset(pub u64);

/// The number of a cluster of the virtual disk, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestCluster(pub u64);

/// A length in memory as a length on disk.
#[expect(clippy::as_conversions, reason = "lossless: the assertion above")]
pub const fn to_u64(length: usize) -> u64 {
    length as u64
}

/// A length on disk as a length in memory. Lossless; whether so much memory should be asked for is the
/// caller's concern.
#[expect(clippy::as_conversions, reason = "lossless: the assertion above")]
#[expect(clippy::cast_possible_truncation, reason = "lossless: the assertion above")]
pub const fn to_usize(length: u64) -> usize {
    length as usize
}

/// The length of a range.
pub fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// How far `at` lies behind the last multiple of `unit`, which is not 0.
pub const fn within(at: u64, unit: u64) -> u64 {
    match at.checked_rem(unit) {
        Some(rest) => rest,
        None => 0,
    }
}
