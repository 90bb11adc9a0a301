//! Checksums of XFS: of structures, and of records of its log.

use std::collections::BTreeSet;
use std::ops::Range;

use mkqcow2::disk::Disk as _;

use super::{Patched, crc32c};

/// What the log counts in, in bytes.
const BLOCK: u64 = 512;

/// A structure with its checksum: in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    pub range: Range<u64>,
    /// Where in it the checksum is.
    pub sum: u64,
}

/// A record of the log: in blocks of 512 bytes, which go on at the beginning of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub lsn: u64,
    /// Where what must be replayed begins, when it was written.
    pub tail: u64,
    headers: u64,
    /// In bytes.
    length: u64,
}

impl Record {
    fn blocks(&self) -> u64 {
        self.headers + self.length.div_ceil(BLOCK)
    }
}

impl Patched<'_> {
    fn be32(&self, at: u64) -> u64 {
        u32::from_be_bytes(self.get(at)).into()
    }

    fn be64(&self, at: u64) -> u64 {
        u64::from_be_bytes(self.get(at))
    }

    fn xfs_block(&self) -> u64 {
        self.be32(4).next_power_of_two().clamp(512, 64 << 10)
    }

    /// The superblock, the AGFs and the blocks of both trees of free space, if they have checksums.
    pub fn xfs_structures(&self) -> Vec<Structure> {
        let (block, sector) = (self.xfs_block(), u64::from(u16::from_be_bytes(self.get(102))));
        let version = u16::from_be_bytes(self.get(100)) & 0xf;
        if version != 5 || !(512..=4096).contains(&sector) {
            return Vec::new();
        }
        let structure = |at: u64, length: u64, sum| Structure {
            range: at..at + length,
            sum,
        };
        let mut structures = vec![structure(0, sector, 224)];
        for group in 0..self.be32(88).min(64) {
            let start = group * self.be32(84) * block;
            let agf = start + sector;
            if self.get(agf) != *b"XAGF" {
                continue;
            }
            structures.push(structure(agf, sector, 216));
            let mut seen = BTreeSet::new();
            let mut left: Vec<u64> = [16, 20].map(|root| self.be32(agf + root)).into();
            while let Some(number) = left.pop() {
                let at = start + number * block;
                let is_tree = [*b"AB3B", *b"AB3C"].contains(&self.get(at));
                if !is_tree || seen.len() > 4096 || !seen.insert(number) {
                    continue;
                }
                structures.push(structure(at, block, 52));
                if u16::from_be_bytes(self.get(at + 4)) > 0 {
                    let room = (block - 56) / 12;
                    let count = u64::from(u16::from_be_bytes(self.get(at + 6))).min(room);
                    let pointers = at + 56 + room * 8;
                    left.extend((0..count).map(|number| self.be32(pointers + number * 4)));
                }
            }
        }
        structures
    }

    /// Where the log is, in bytes.
    pub fn xfs_log(&self) -> Range<u64> {
        let (start, [log]) = (self.be64(48), self.get(124));
        let log = log.min(32);
        let (group, block) = (start >> log, start & ((1 << log) - 1));
        let start = group.saturating_mul(self.be32(84)).saturating_add(block);
        let start = start.saturating_mul(self.xfs_block()).min(self.len()) / BLOCK * BLOCK;
        let end = start + self.be32(96) * self.xfs_block();
        start..end.min(self.len())
    }

    /// The records that begin in the log, in their order there.
    pub fn xfs_records(&self) -> Vec<Record> {
        let log = self.xfs_log();
        let blocks = (log.end - log.start) / BLOCK;
        let mut records = Vec::new();
        for number in 0..blocks {
            let at = log.start + number * BLOCK;
            if self.get(at) != 0xfeed_babe_u32.to_be_bytes() {
                continue;
            }
            let headers = self.be32(at + 320).div_ceil(32 << 10).clamp(1, 8);
            let record = Record {
                lsn: self.be64(at + 16),
                tail: self.be64(at + 24),
                headers: if self.be32(at + 8) == 2 { headers } else { 1 },
                length: self.be32(at + 12),
            };
            if record.lsn & 0xffff_ffff == number && record.blocks() <= blocks.min(520) {
                records.push(record);
            }
        }
        records
    }

    /// Those that must be replayed, the last of all among them, in the order in which they were written.
    pub fn xfs_records_to_replay(&self) -> Vec<Record> {
        let mut records = self.xfs_records();
        records.sort_by_key(|record| record.lsn);
        let tail = records.last().map_or(0, |record| record.tail);
        records.retain(|record| record.lsn >= tail);
        records
    }

    /// Where the blocks of a record are, in bytes.
    pub fn xfs_blocks_of(&self, record: &Record) -> Vec<u64> {
        let log = self.xfs_log();
        let blocks = (log.end - log.start) / BLOCK;
        let first = record.lsn & 0xffff_ffff;
        let numbers = (first..first + record.blocks()).map(|number| number % blocks.max(1));
        numbers.map(|number| log.start + number * BLOCK).collect()
    }

    /// The checksum that a record should have.
    pub fn xfs_record_sum(&self, record: &Record) -> u32 {
        let blocks = self.xfs_blocks_of(record);
        let (headers, data) = blocks.split_at(record.headers as usize);
        let mut header: [u8; 328] = self.get(headers[0]);
        header[32..36].fill(0);
        let mut sum = crc32c(u32::MAX, &header);
        let others = record.length.div_ceil(32 << 10).max(1) as usize;
        for more in headers.iter().take(others).skip(1) {
            sum = crc32c(sum, &self.get::<260>(*more));
        }
        let mut left = record.length;
        for block in data {
            let bytes: [u8; BLOCK as usize] = self.get(*block);
            sum = crc32c(sum, &bytes[..left.min(BLOCK) as usize]);
            left -= left.min(BLOCK);
        }
        !sum
    }

    /// Makes right the checksums of structures, and of records of which something was changed and that had one.
    pub(super) fn sum_up_xfs(&mut self) {
        for Structure { range, sum } in self.xfs_structures() {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            self.copy(&mut bytes, range.start);
            bytes[sum as usize..][..4].fill(0);
            let found = !crc32c(u32::MAX, &bytes);
            self.put(range.start + sum, &found.to_le_bytes());
        }
        for record in self.xfs_records() {
            let blocks = self.xfs_blocks_of(&record);
            let has_sum = self.get(blocks[0] + 32) != [0; 4];
            let is_changed = blocks.iter().any(|block| self.sectors.contains_key(block));
            if has_sum && is_changed {
                let sum = self.xfs_record_sum(&record);
                self.put(blocks[0] + 32, &sum.to_le_bytes());
            }
        }
    }
}
