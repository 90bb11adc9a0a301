//! Records of the log: headers, checksums, and data as it was before the cycles were put in. Source: Linux,
//! `fs/xfs/libxfs/xfs_log_format.h`, `struct xlog_rec_header`; `fs/xfs/xfs_log.c` for checksums.

use super::super::superblock::Superblock;
use super::ring::{BLOCK, MAGIC, Position, Ring};
use crate::error::Expected;
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_be, u32_le, u64_be};

/// How many blocks the longest record has: 256 KiB, and headers.
pub(super) const MAX_BLOCKS: u64 = 520;

const STRUCTURE: &str = "log record";

// Where fields of `struct xlog_rec_header` are, in bytes.
const CYCLE: usize = 4;
const VERSION: usize = 8;
const LEN: usize = 12;
const LSN: usize = 16;
const TAIL_LSN: usize = 24;
const CRC: usize = 32;
const NUM_LOGOPS: usize = 40;
const CYCLE_DATA: usize = 44;
const FMT: usize = 300;
const UUID: usize = 304;
const SIZE: usize = 320;
/// Its length on 64-bit machines, and on i386.
const HEADERS: [usize; 2] = [328, 324];

const _: () = assert!(to_u64(HEADERS[0]) <= BLOCK);

/// The length of `struct xlog_rec_ext_header`, of the data that one keeps words of, and how many headers there may be.
const EXTENDED: usize = 260;
const PER_HEADER: u64 = 32 << 10;
const MAX_HEADERS: u64 = 8;

/// How many words a header keeps.
const WORDS: usize = 64;

/// Where an extended header has them.
const EXTENDED_CYCLE_DATA: usize = 4;

/// Items in the byte order of little-endian machines.
const LINUX_LE: u32 = 1;

/// The header of a record that belongs to the filesystem, and is of the format that this kernel family writes.
#[derive(Debug)]
pub(super) struct Header {
    bytes: Vec<u8>,
    pub(super) at: Position,
    /// What must be replayed begins there.
    pub(super) tail: Position,
    pub(super) operations: u32,
    /// How many blocks of headers there are.
    pub(super) headers: u64,
    /// The length of its data, in bytes.
    length: u64,
}

/// A record with its data.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) lsn: u64,
    /// How many operations its data has.
    pub(super) operations: u32,
    pub(super) data: Vec<u8>,
    /// Whether it has a checksum: mkfs.xfs writes none.
    pub(super) has_sum: bool,
}

impl Header {
    /// The header at a position, from its first block.
    pub(super) fn read(
        ring: Ring<'_>,
        superblock: &Superblock,
        at: Position,
        bytes: Vec<u8>,
    ) -> Result<Self, Doubt> {
        let field = |field, found: u64, expected| {
            Err(Doubt::Field {
                structure: STRUCTURE,
                at: ring.position(at.block),
                field,
                found,
                expected,
            })
        };
        let number = |at| u64::from(u32_be(&bytes, at));
        let exactly = |value: u32| Expected::Exactly(value.into());
        if u32_be(&bytes, 0) != MAGIC {
            return field("h_magicno", number(0), exactly(MAGIC));
        }
        if u32_be(&bytes, CYCLE) != at.cycle {
            return field("h_cycle", number(CYCLE), exactly(at.cycle));
        }
        let version = u32_be(&bytes, VERSION);
        if !matches!(version, 1 | 2) {
            return field("h_version", version.into(), Expected::Between(1, 2));
        }
        if u64_be(&bytes, LSN) != at.lsn() {
            return field("h_lsn", u64_be(&bytes, LSN), Expected::Exactly(at.lsn()));
        }
        if u32_be(&bytes, FMT) != LINUX_LE {
            return field("h_fmt", number(FMT), exactly(LINUX_LE));
        }
        if bytes.get(UUID..UUID.plus(16)) != Some(&superblock.uuid) {
            return Err(Doubt::State("its log belongs to another filesystem"));
        }
        let headers = match version {
            2 => number(SIZE).div_ceil(PER_HEADER).clamp(1, MAX_HEADERS),
            _ => 1,
        };
        let (length, limit) = (number(LEN), PER_HEADER.times(headers));
        if length > limit {
            return field("h_len", length, Expected::Between(0, limit));
        }
        Ok(Self {
            at,
            tail: Position::of(u64_be(&bytes, TAIL_LSN)),
            operations: u32_be(&bytes, NUM_LOGOPS),
            headers,
            length,
            bytes,
        })
    }

    /// How many blocks the record has: no more than [`MAX_BLOCKS`].
    pub(super) fn blocks(&self) -> u64 {
        self.headers.plus(self.length.div_ceil(BLOCK))
    }

    /// The record, if it has its checksum.
    pub(super) fn record(&self, ring: Ring<'_>) -> Result<Record, Doubt> {
        let first = self.at.block;
        let bytes = ring.bytes(STRUCTURE, first, self.blocks())?;
        let (headers, data) = bytes
            .split_at_checked(to_usize(self.headers.times(BLOCK)))
            .unwrap_or_default();
        let more = headers.get(to_usize(BLOCK)..).unwrap_or_default();
        let length = to_usize(self.length);
        let found = u32_le(&self.bytes, CRC);
        let sums = sums(&self.bytes, more, data.get(..length).unwrap_or_default());
        if found != 0 && !sums.contains(&found) {
            let [expected, _] = sums;
            return Err(Doubt::Checksum {
                structure: STRUCTURE,
                at: ring.position(first),
                found,
                expected,
            });
        }
        let mut data = data.to_vec();
        let words = self
            .bytes
            .get(CYCLE_DATA..)
            .into_iter()
            .chain(more.chunks(to_usize(BLOCK)).map(|block| {
                let words = block.get(EXTENDED_CYCLE_DATA..);
                words.unwrap_or_default()
            }))
            .flat_map(|words| words.chunks(4).take(WORDS));
        for (block, word) in data.chunks_mut(to_usize(BLOCK)).zip(words) {
            for (byte, kept) in block.iter_mut().zip(word) {
                *byte = *kept;
            }
        }
        data.truncate(length);
        Ok(Record {
            lsn: self.at.lsn(),
            operations: self.operations,
            data,
            has_sum: found != 0,
        })
    }
}

/// The checksum that a record should have, as 64-bit machines make it and as i386 does.
fn sums(header: &[u8], more: &[u8], data: &[u8]) -> [u32; 2] {
    let others = to_u64(data.len()).div_ceil(PER_HEADER).saturating_sub(1);
    let others = more.chunks(to_usize(BLOCK)).take(to_usize(others));
    let others: Vec<_> = others
        .flat_map(|block| block.iter().take(EXTENDED))
        .copied()
        .collect();
    HEADERS.map(|length| {
        let header = header.get(..length).unwrap_or_default();
        let (before, rest) = header.split_at_checked(CRC).unwrap_or_default();
        let after = rest.get(4..).unwrap_or_default();
        let pieces = [before, &[0; 4], after, &*others, data];
        !pieces.iter().fold(u32::MAX, |sum, piece| crc32c(sum, piece))
    })
}
