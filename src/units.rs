//! Byte offsets and cluster numbers as types, sums that are right or stop the run, and the only places where an integer
//! changes its width.
//!
//! There are three ways to calculate, and the line says which of them it is:
//!
//! - Operators of the types below, and [`Exact`] for bare numbers, panic rather than go on with a wrong number. They are
//!   for numbers that entered through a check: the size of a file, the header of an image after validation.
//! - [`claimed_end`] and [`claimed_size`] are for what a structure claims before anything has been checked. They are
//!   right at every limit, and only there.
//! - `saturating_sub` stands where nothing is left, and 0 is the answer. What else saturates has its reason beside it.

use std::fmt::LowerHex;
use std::ops::{Add, AddAssign, Range, Sub};

/// usize and u64 are the same width here, so that neither conversion below can lose a bit.
const _: () = assert!(usize::BITS == u64::BITS, "mkqcow2 is for 64-bit machines");

/// The unit of a disk: sizes, offsets and lengths of sources are multiples of it, in bytes.
pub const SECTOR: u64 = 512;

/// The largest size of a disk in whole sectors. No system has files or devices of 2^63 bytes, and headers of images are
/// held to less: a sum of two sizes or offsets in files and disks that are open always fits 64 bits.
pub const MAX_SIZE: u64 = (1 << 63) - SECTOR;

/// A byte offset in the virtual disk, which is what the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestOffset(pub u64);

/// A byte offset in the image file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostOffset(pub u64);

/// The number of a cluster of the virtual disk, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestCluster(pub u64);

/// Sums, differences and products of bare numbers that stop the run if they are wrong, in every build: a plain `+` does
/// only where overflow checks are on, which whoever builds this library decides.
///
/// It is for numbers of which something tells that the result can be represented, and the code says what.
pub trait Exact: Copy {
    /// The sum.
    ///
    /// # Panics
    ///
    /// If it is too large for the type.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// The difference.
    ///
    /// # Panics
    ///
    /// If it is below 0.
    #[must_use]
    fn minus(self, other: Self) -> Self;

    /// The product.
    ///
    /// # Panics
    ///
    /// If it is too large for the type.
    #[must_use]
    fn times(self, other: Self) -> Self;

    /// Adds to a counter or a position.
    ///
    /// # Panics
    ///
    /// If the sum is too large for the type.
    #[inline]
    #[track_caller]
    fn increase(&mut self, by: Self) {
        *self = self.plus(by);
    }
}

macro_rules! exact {
    ($($number:ty),*) => {$(
        impl Exact for $number {
            #[inline]
            #[track_caller]
            fn plus(self, other: Self) -> Self {
                match self.checked_add(other) {
                    Some(sum) => sum,
                    None => wrong(self, "+", other),
                }
            }

            #[inline]
            #[track_caller]
            fn minus(self, other: Self) -> Self {
                match self.checked_sub(other) {
                    Some(difference) => difference,
                    None => wrong(self, "-", other),
                }
            }

            #[inline]
            #[track_caller]
            fn times(self, other: Self) -> Self {
                match self.checked_mul(other) {
                    Some(product) => product,
                    None => wrong(self, "*", other),
                }
            }
        }
    )*};
}

exact!(u8, u16, u32, u64, u128, usize);

#[cold]
#[inline(never)]
#[track_caller]
fn wrong(one: impl LowerHex, operator: &str, other: impl LowerHex) -> ! {
    panic!("{one:#x} {operator} {other:#x} has no right result: mkqcow2 has not checked one of the two")
}

/// The operators that make sense for a place: so many further on, and how far one lies behind another.
macro_rules! place {
    ($($place:ident),*) => {$(
        /// # Panics
        ///
        /// If the sum is past 64 bits.
        impl Add<u64> for $place {
            type Output = Self;

            #[inline]
            #[track_caller]
            fn add(self, by: u64) -> Self {
                Self(self.0.plus(by))
            }
        }

        /// # Panics
        ///
        /// If the sum is past 64 bits.
        impl AddAssign<u64> for $place {
            #[inline]
            #[track_caller]
            fn add_assign(&mut self, by: u64) {
                *self = *self + by;
            }
        }

        /// # Panics
        ///
        /// If the result would lie in front of 0.
        impl Sub<u64> for $place {
            type Output = Self;

            #[inline]
            #[track_caller]
            fn sub(self, by: u64) -> Self {
                Self(self.0.minus(by))
            }
        }

        /// How far it lies behind another.
        ///
        /// # Panics
        ///
        /// If it lies in front of it.
        impl Sub for $place {
            type Output = u64;

            #[inline]
            #[track_caller]
            fn sub(self, other: Self) -> u64 {
                self.0.minus(other.0)
            }
        }

        impl $place {
            /// So many further on, if it is a place at all.
            #[inline]
            pub fn checked_add(self, by: u64) -> Option<Self> {
                self.0.checked_add(by).map(Self)
            }
        }
    )*};
}

place!(GuestOffset, HostOffset, GuestCluster);

/// Where a range ends that a structure claims, to be compared with a limit.
///
/// The end of a claim that passes 64 bits is [`u64::MAX`]: files, devices and disks have less than 2^63 bytes, so that
/// this is past the end of any of them, as the claim is.
#[inline]
pub const fn claimed_end(at: u64, length: u64) -> u64 {
    at.saturating_add(length)
}

/// The size of `count` things of `each`, as a structure claims it, to be compared with a limit. [`u64::MAX`] if it
/// passes 64 bits: too large for any limit, like the claim.
#[inline]
pub const fn claimed_size(count: u64, each: u64) -> u64 {
    count.saturating_mul(each)
}

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
///
/// # Panics
///
/// If it ends before it starts: nothing has such a length, and 0 would hide it.
#[inline]
#[track_caller]
pub fn length(range: &Range<u64>) -> u64 {
    range.end.minus(range.start)
}

/// How far `at` lies behind the last multiple of `unit`, which is not 0.
pub const fn within(at: u64, unit: u64) -> u64 {
    match at.checked_rem(unit) {
        Some(rest) => rest,
        None => 0,
    }
}

/// How far the next multiple of `unit` lies ahead of `at`: a whole unit if `at` is one. `unit` is not 0.
pub const fn rest_of(at: u64, unit: u64) -> u64 {
    // What is within a unit is less than the unit.
    unit.saturating_sub(within(at, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_move_on_and_have_a_distance() {
        let mut at = HostOffset(0x50000);
        at += 0x200;
        assert_eq!(at, HostOffset(0x50000) + 0x200);
        assert_eq!(at - HostOffset(0x50000), 0x200);
        assert_eq!(at - 0x200, HostOffset(0x50000));
        assert_eq!(at.checked_add(u64::MAX), None);
    }

    #[test]
    #[should_panic(expected = "0xffffffffffffffff + 0x200 has no right result")]
    fn a_place_past_64_bits_stops_the_run() {
        let _ = GuestOffset(u64::MAX) + 512;
    }

    #[test]
    #[should_panic(expected = "0x200 - 0x400 has no right result")]
    fn a_negative_distance_stops_the_run() {
        let _ = HostOffset(0x200) - HostOffset(0x400);
    }

    #[test]
    #[should_panic(expected = "0x10000000000 * 0x1000000 has no right result")]
    fn a_product_past_64_bits_stops_the_run() {
        let _ = (1_u64 << 40).times(1 << 24);
    }

    #[test]
    #[should_panic(expected = "0x1000 - 0x2000 has no right result")]
    fn a_range_that_ends_before_it_starts_has_no_length() {
        let (start, end) = (0x2000, 0x1000);
        let _ = length(&(start..end));
    }

    #[test]
    fn claims_past_64_bits_are_past_every_limit() {
        assert_eq!(claimed_end(512, 512), 1024);
        assert_eq!(claimed_end(u64::MAX - 1, 512), u64::MAX);
        assert_eq!(claimed_size(3, 512), 1536);
        assert_eq!(claimed_size(1 << 60, 512), u64::MAX);
    }

    #[test]
    fn the_rest_of_a_unit_leads_to_the_next() {
        assert_eq!([0, 1, 511, 512].map(|at| rest_of(at, 512)), [512, 511, 1, 512]);
    }
}
