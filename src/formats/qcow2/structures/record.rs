//! The record: what only the source could tell of the disk. Which clusters are free, which bytes could not be read, how
//! large a sector is, and where the image comes from.
//!
//! It lies behind the checksum table, to no alignment, where other tools neither look nor write until the image grows.
//! All integers are big-endian; a CRC-32 is that of ISO 3309 (zlib, Ethernet).
//!
//! ```text
//!  0   8  magic, "mkqrecrd"
//!  8   4  version, 1
//! 12   4  cluster_bits of the image
//! 16   8  size of the virtual disk in bytes
//! 24   8  length of all sections in bytes
//! 32      sections, each: kind (4), length of its data in bytes (8), data
//!         CRC-32 of all the bytes before it (4)
//!
//! kind 1, free clusters      number of runs (8), of clusters in all of them (8), runs
//! kind 2, unreadable bytes   number of runs (8), of bytes in all of them (8), runs
//! kind 3, sector size        of the source, in bytes (4)
//! kind 4, version            of the image when it was made, 2 or 3 (4)
//! kind 5, provenance         JSON, see the [module](super::provenance)
//! kind 6, base               UUID, size and digest of the backing file, see the [module](super::identity)
//! kind 7, identity           UUID and digest, see the same
//! ```
//!
//! A run is two numbers: how far behind the end of the last run it begins (for the first one: behind 0), and how long
//! it is. Numbers of runs are base 128, the low 7 bits first, bit 7 set in all bytes but the last (LEB128). Sections of
//! other kinds are passed over; no kind comes twice.
//!
//! A cluster that is not allocated and not listed as free is zeros: it was in use, or nothing told.
//!
//! The last 40 bytes of the file, which ends with the cluster in which the record ends or one later, are a footer: it
//! tells where checksum table and record are once more, so that a damaged header cannot hide them.
//!
//! ```text
//!  0   8  magic, "mkqfootr"
//!  8   8  host offset of the checksum table in bytes
//! 16   8  its length in bytes
//! 24   8  host offset of the record in bytes
//! 32   4  version, 1
//! 36   4  CRC-32 of the 36 bytes before it
//! ```

use std::ops::Range;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::extension::OursAt;
use super::geometry::Geometry;
use crate::units::{Exact, to_u64};

/// The first 8 bytes of the record.
pub const MAGIC: [u8; 8] = *b"mkqrecrd";

/// The first 8 bytes of the footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"mkqfootr";

/// The version described here, of both.
pub const VERSION: u32 = 1;

/// The kind of the section of free clusters.
pub const FREE: u32 = 1;

/// The kind of the section of unreadable bytes.
pub const UNREADABLE: u32 = 2;

/// The kind of the section of the sector size.
pub const SECTOR_SIZE: u32 = 3;

/// The kind of the section of the version of the image: one that another program made version 2 has lost the bit that
/// tells of changes.
pub const IMAGE_VERSION: u32 = 4;

/// The kind of the section of the [provenance](super::provenance).
pub const PROVENANCE: u32 = 5;

/// The kind of the section of the backing file that the image stands on.
pub const BASE: u32 = 6;

/// The kind of the section of the [identity](super::identity).
pub const IDENTITY: u32 = 7;

/// The CRC-32 at the end of the record, in bytes.
pub const TRAILER: u64 = 4;

/// How many unreadable runs an image records at most: a source with more of them is given up.
pub const MAX_UNREADABLE: usize = 1 << 16;

/// How many runs of free clusters an image records at most.
pub const MAX_FREE_RUNS: usize = (1 << 20) + 1;

/// A number of base 128 has at most so many bytes.
pub const LONGEST_NUMBER: usize = 10;

/// The first 32 bytes of the record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRecord {
    /// 0: [`MAGIC`].
    pub magic: [u8; 8],
    /// 8: [`VERSION`].
    pub version: U32,
    /// 12: log2 of the cluster size, as in the header.
    pub cluster_bits: U32,
    /// 16: size of the virtual disk in bytes, as in the header.
    pub size: U64,
    /// 24: length of all sections in bytes.
    pub length: U64,
}
const _: () = assert!(size_of::<RawRecord>() == 32);

/// The 12 bytes in front of the data of a section.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSection {
    /// 0: which one it is.
    pub kind: U32,
    /// 4: length of its data in bytes.
    pub length: U64,
}
const _: () = assert!(size_of::<RawSection>() == 12);

/// The 16 bytes in front of runs.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRuns {
    /// 0: number of runs.
    pub runs: U64,
    /// 8: what they come to, in clusters or bytes.
    pub total: U64,
}
const _: () = assert!(size_of::<RawRuns>() == 16);

/// The last 40 bytes of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFooter {
    /// 0: [`FOOTER_MAGIC`].
    pub magic: [u8; 8],
    /// 8: host offset of the checksum table in bytes.
    pub checksums_offset: U64,
    /// 16: length of the checksum table in bytes.
    pub checksums_length: U64,
    /// 24: host offset of the record in bytes.
    pub record_offset: U64,
    /// 32: [`VERSION`].
    pub version: U32,
    /// 36: CRC-32 of all that is before it.
    pub crc: U32,
}
const _: () = assert!(size_of::<RawFooter>() == 40);

/// Where in the footer its CRC-32 is.
const CRC_AT: usize = 36;

impl RawRecord {
    /// The head of a record whose sections are `length` bytes long.
    pub fn new(geometry: Geometry, length: u64) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION.into(),
            cluster_bits: geometry.cluster().bits().into(),
            size: geometry.size().into(),
            length: length.into(),
        }
    }
}

impl RawFooter {
    /// The footer of an image with these tables.
    pub fn new(at: OursAt) -> Self {
        let mut footer = Self {
            magic: FOOTER_MAGIC,
            checksums_offset: at.checksums.offset.0.into(),
            checksums_length: at.checksums.length.into(),
            record_offset: at.record.map_or(0, |record| record.0).into(),
            version: VERSION.into(),
            crc: 0.into(),
        };
        footer.crc = footer.computed_crc().into();
        footer
    }

    /// Whether it is one, and whole.
    pub fn is_right(&self) -> bool {
        self.magic == FOOTER_MAGIC && self.version.get() == VERSION && self.crc.get() == self.computed_crc()
    }

    fn computed_crc(&self) -> u32 {
        let (before, _) = self.as_bytes().split_at(CRC_AT);
        crc32fast::hash(before)
    }
}

/// Where the file ends whose record ends at `end`, which is below 2^63: with a cluster, the last bytes of which are free
/// for the footer.
pub fn file_end(end: u64, cluster_size: u64) -> u64 {
    end.plus(to_u64(size_of::<RawFooter>()))
        .next_multiple_of(cluster_size)
}

/// Appends a number.
pub fn append_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// How many bytes a number takes.
pub fn number_length(number: u64) -> u64 {
    let bits = u64::from(u64::BITS.minus(number.leading_zeros()));
    bits.div_ceil(7).max(1)
}

/// The number that `bytes` begin with, and how many of them it takes; none if it does not end with them, or has more
/// than 64 bits.
pub fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(LONGEST_NUMBER).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = u32::try_from(place).ok()?.checked_mul(7)?;
        // Of the tenth byte only bit 0 has a place.
        let shifted = bits
            .checked_shl(shift)
            .filter(|shifted| shifted >> shift == bits)?;
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some((number, place.plus(1)));
        }
    }
    None
}

/// What a list of runs, ascending and apart, comes to, and the length of the two numbers of each in bytes.
pub fn measure(runs: impl Iterator<Item = Range<u64>>) -> (RawRuns, u64) {
    let (mut count, mut total, mut length, mut end) = (0_u64, 0_u64, 0_u64, 0_u64);
    for run in runs {
        let (gap, run_length) = gap_and_length(end, &run);
        length = length.plus(number_length(gap)).plus(number_length(run_length));
        count.increase(1);
        total.increase(run_length);
        end = run.end;
    }
    let head = RawRuns {
        runs: count.into(),
        total: total.into(),
    };
    (head, length)
}

/// The two numbers of a run behind one that ends at `end`.
pub fn gap_and_length(end: u64, run: &Range<u64>) -> (u64, u64) {
    (run.start.minus(end), run.end.minus(run.start))
}

/// The length in bytes of a record with these sections.
pub fn record_length(sections: impl IntoIterator<Item = u64>) -> u64 {
    let head = to_u64(size_of::<RawRecord>()).plus(TRAILER);
    sections.into_iter().fold(head, |sum, data| {
        sum.plus(to_u64(size_of::<RawSection>())).plus(data)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_as_their_description_says() {
        for (value, expected) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ] {
            let mut bytes = Vec::new();
            append_number(&mut bytes, value);
            assert_eq!(bytes, expected);
            assert_eq!(number_length(value), to_u64(expected.len()));
            assert_eq!(number(&bytes), Some((value, expected.len())));
        }
    }

    #[test]
    fn a_number_that_does_not_end_or_is_too_large_is_none() {
        assert_eq!(number(&[]), None);
        assert_eq!(number(&[0x80]), None);
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(
            number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            None
        );
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            append_number(&mut bytes, value);
            prop_assert_eq!(to_u64(bytes.len()), number_length(value));
            let taken = bytes.len();
            bytes.push(0x55);
            prop_assert_eq!(number(&bytes), Some((value, taken)));
        }
    }
}
