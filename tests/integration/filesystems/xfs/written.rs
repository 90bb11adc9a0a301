//! Logs that are written here, from the format alone: records, transactions and items.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::super::patched::crc32c;
use super::super::proof;

const BLOCK: usize = 512;

pub const START: u8 = 1;
pub const COMMIT: u8 = 2;
pub const CONTINUE: u8 = 4;
pub const WAS_CONTINUED: u8 = 8;

/// Types of buffers.
pub const SUPERBLOCK: u16 = 18;
pub const AGF: u16 = 5;
pub const TREE: u16 = 4;
pub const CANCEL: u16 = 2;

/// One of the pieces that records consist of.
#[derive(Clone, Debug)]
pub struct Operation {
    pub tid: u32,
    pub flags: u8,
    pub data: Vec<u8>,
}

/// The regions of an item.
pub type Item = Vec<Vec<u8>>;

/// A disk with an XFS whose log is written.
#[derive(Clone, Debug)]
pub struct Log {
    pub disk: Vec<u8>,
    start: usize,
    blocks: u64,
    /// Where the next record goes.
    pub head: (u32, u64),
    pub tail: (u32, u64),
    /// How much data a record may have, in bytes: a header for each 32 KiB.
    pub size: u32,
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl Log {
    /// A log that went round before and has nothing, up to a block.
    pub fn empty(disk: &Path, cycle: u32, block: u64) -> Self {
        let Range { start, end } = proof::xfs::log(disk);
        let blocks = (end - start) / BLOCK as u64;
        let mut log = Self {
            disk: fs::read(disk).unwrap(),
            start: start as usize,
            blocks,
            head: (cycle, block),
            tail: (cycle, block),
            size: 32 << 10,
        };
        for number in 0..blocks {
            let round = if number < block { cycle } else { cycle - 1 };
            log.block(number).fill(0);
            put(log.block(number), 0, &round.to_be_bytes());
        }
        log
    }

    /// How many blocks the log has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    pub fn block(&mut self, number: u64) -> &mut [u8] {
        let at = self.start + number as usize * BLOCK;
        &mut self.disk[at..at + BLOCK]
    }

    /// Appends a record. Returns the block that it begins with.
    pub fn record(&mut self, operations: &[Operation]) -> u64 {
        let mut data = Vec::new();
        for operation in operations {
            data.extend(operation.tid.to_be_bytes());
            data.extend((operation.data.len() as u32).to_be_bytes());
            data.extend([0x69, operation.flags, 0, 0]);
            data.extend(&operation.data);
        }
        let (cycle, at) = self.head;
        let headers = (self.size as usize).div_ceil(32 << 10);
        assert!(data.len() <= self.size as usize);
        let length = data.len().next_multiple_of(BLOCK);
        data.resize(length, 0);
        let mut blocks = vec![vec![0_u8; BLOCK]; headers];
        let words: Vec<[u8; 4]> = data
            .chunks(BLOCK)
            .map(|block| block[..4].try_into().unwrap())
            .collect();
        for (header, words) in words.chunks(64).enumerate() {
            let at = if header == 0 { 44 } else { 4 };
            put(&mut blocks[header], at, &words.concat());
        }
        blocks.extend(data.chunks(BLOCK).map(<[u8]>::to_vec));
        for (number, block) in blocks.iter_mut().enumerate().skip(1) {
            let has_wrapped = at + number as u64 >= self.blocks;
            put(block, 0, &(cycle + u32::from(has_wrapped)).to_be_bytes());
        }
        let header = &mut blocks[0];
        let lsn = |(cycle, block): (u32, u64)| (u64::from(cycle) << 32 | block).to_be_bytes();
        for (at, field) in [
            (0, 0xfeed_babe_u32),
            (4, cycle),
            (8, 2),
            (12, length as u32),
            (40, operations.len() as u32),
            (300, 1),
            (320, self.size),
        ] {
            put(header, at, &field.to_be_bytes());
        }
        put(header, 16, &lsn(self.head));
        put(header, 24, &lsn(self.tail));
        put(header, 304, &self.disk[32..48]);
        let others = length.div_ceil(32 << 10).max(1);
        let mut sum = crc32c(u32::MAX, &blocks[0][..328]);
        for more in &blocks[1..others] {
            sum = crc32c(sum, &more[..260]);
        }
        let sum = blocks[headers..]
            .iter()
            .fold(sum, |sum, block| crc32c(sum, block));
        put(&mut blocks[0], 32, &(!sum).to_le_bytes());
        for (number, block) in blocks.iter().enumerate() {
            let number = (at + number as u64) % self.blocks;
            self.block(number).copy_from_slice(block);
        }
        let next = at + blocks.len() as u64;
        self.head = if next < self.blocks {
            (cycle, next)
        } else {
            (cycle + 1, next - self.blocks)
        };
        at
    }

    /// The superblock, as it is.
    pub fn unchanged(&self) -> Item {
        buffer(SUPERBLOCK, 0, &self.disk[..BLOCK])
    }

    /// Appends a transaction that changes nothing.
    pub fn idle(&mut self) -> u64 {
        self.transaction(&[self.unchanged()])
    }

    /// Appends a record with a transaction.
    pub fn transaction(&mut self, items: &[Item]) -> u64 {
        self.record(&operations(7, items))
    }
}

/// The operations of a transaction that is committed.
pub fn operations(tid: u32, items: &[Item]) -> Vec<Operation> {
    let operation = |flags, data: &[u8]| Operation {
        tid,
        flags,
        data: data.to_vec(),
    };
    let mut header = b"NART".to_vec();
    header.extend([40, 0, 0, 0, 0, 0, 0, 0]);
    header.extend((items.len() as u32).to_le_bytes());
    let mut operations = vec![operation(START, &[]), operation(0, &header)];
    operations.extend(items.iter().flatten().map(|region| operation(0, region)));
    operations.push(operation(COMMIT, &[]));
    operations
}

/// An item of so many bytes, with fields of the machine's order.
pub fn item(kind: u16, length: usize, fields: &[(usize, u64, usize)]) -> Item {
    let mut format = vec![0; length];
    put(&mut format, 0, &kind.to_le_bytes());
    put(&mut format, 2, &1_u16.to_le_bytes());
    for (at, value, length) in fields {
        put(&mut format, *at, &value.to_le_bytes()[..*length]);
    }
    vec![format]
}

/// A buffer, all of whose bytes are logged.
pub fn buffer(kind: u16, at: u64, bytes: &[u8]) -> Item {
    let bits = bytes.len() / 128;
    let words = bits.div_ceil(32);
    let mut format = vec![0; 20 + words * 4];
    for (at, value) in [
        (0, 0x123c),
        (2, 2),
        (4, kind << 11),
        (6, (bytes.len() / BLOCK) as u16),
    ] {
        put(&mut format, at, &value.to_le_bytes());
    }
    put(&mut format, 8, &(at / BLOCK as u64).to_le_bytes());
    put(&mut format, 16, &(words as u32).to_le_bytes());
    for bit in 0..bits {
        format[20 + bit / 8] |= 1 << (bit % 8);
    }
    vec![format, bytes.to_vec()]
}

/// A buffer that is freed.
pub fn cancel(kind: u16, at: u64, length: usize) -> Item {
    let fields = [
        (4, u64::from(kind << 11 | CANCEL), 2),
        (6, (length / BLOCK) as u64, 2),
        (8, at / BLOCK as u64, 8),
        (16, 1, 4),
    ];
    item(0x123c, 24, &fields)
}
