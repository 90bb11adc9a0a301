//! Maps that are consistent and wrong: bits, counts and checksums are changed together, so that nothing tells but the
//! files.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use super::super::patched::Patched;
use crate::support::tool;

const SUPERBLOCK: usize = 1024;

/// In `bg_flags`.
pub const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;

/// A filesystem whose maps are changed.
pub struct Forged {
    bytes: Vec<u8>,
    /// The size of a block, in bytes.
    pub block: usize,
    /// How many blocks a bit stands for.
    pub cluster: u64,
    first: u64,
    count: u64,
    per_group: u64,
    descriptor: usize,
    /// Superblocks, descriptors, bitmaps and inode tables, as dumpe2fs tells them.
    tables: BTreeSet<u64>,
}

impl Forged {
    /// Of a disk whose group descriptors stand behind the superblock.
    pub fn of(disk: &Path) -> Self {
        let bytes = fs::read(disk).unwrap();
        let field = |at| number(&bytes, SUPERBLOCK + at, 4);
        let is_64bit = field(0x60) & 0x80 != 0;
        Self {
            block: 1024 << field(0x18),
            cluster: 1 << (field(0x1c) - field(0x18)),
            first: field(0x14),
            count: field(4),
            per_group: field(0x20),
            descriptor: if is_64bit { 64 } else { 32 },
            tables: tables(disk),
            bytes,
        }
    }

    /// The bytes as they are so far.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many groups there are.
    pub fn groups(&self) -> u64 {
        (self.count - self.first).div_ceil(self.per_group)
    }

    fn at(&self, group: u64) -> usize {
        (SUPERBLOCK / self.block + 1) * self.block + group as usize * self.descriptor
    }

    fn put(&mut self, at: usize, length: usize, number: u64) {
        self.bytes[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]);
    }

    /// A field of two bytes of a group descriptor.
    pub fn field(&self, group: u64, at: usize) -> u64 {
        number(&self.bytes, self.at(group) + at, 2)
    }

    /// Changes one.
    pub fn set_field(&mut self, group: u64, at: usize, value: u64) {
        self.put(self.at(group) + at, 2, value);
    }

    /// Where the block bitmap of a group begins, in bytes.
    pub fn bitmap(&self, group: u64) -> usize {
        number(&self.bytes, self.at(group), 4) as usize * self.block
    }

    /// Lets the block bitmap of a group be in another block.
    pub fn move_bitmap(&mut self, group: u64, block: u64) {
        let at = self.bitmap(group);
        self.bytes
            .copy_within(at..at + self.block, block as usize * self.block);
        self.put(self.at(group), 4, block);
    }

    /// Whether descriptors are elsewhere.
    pub fn has_meta_bg(&self) -> bool {
        number(&self.bytes, SUPERBLOCK + 0x60, 4) & 0x10 != 0
    }

    /// Whether a group has no bitmap.
    pub fn is_unwritten(&self, group: u64) -> bool {
        self.field(group, 0x12) & u64::from(BLOCK_UNINIT) != 0 && self.has_flags()
    }

    fn has_flags(&self) -> bool {
        number(&self.bytes, SUPERBLOCK + 0x64, 4) & 0x410 != 0
    }

    /// The first blocks of the clusters of a group.
    pub fn clusters(&self, group: u64) -> impl Iterator<Item = u64> + use<> {
        let start = self.first + group * self.per_group;
        let end = (start + self.per_group).min(self.count);
        (start..end).step_by(self.cluster as usize)
    }

    /// Whether the cluster of a block holds tables.
    pub fn holds_tables(&self, block: u64) -> bool {
        let start = block - (block - self.first) % self.cluster;
        (start..start + self.cluster).any(|block| self.tables.contains(&block))
    }

    fn bit(&self, block: u64) -> (u64, usize, u8) {
        let within = (block - self.first) % self.per_group / self.cluster;
        let group = (block - self.first) / self.per_group;
        (group, self.bitmap(group) + within as usize / 8, 1 << (within % 8))
    }

    /// Whether the bitmap calls a block in use.
    pub fn is_used(&self, block: u64) -> bool {
        let (_, byte, mask) = self.bit(block);
        self.bytes[byte] & mask != 0
    }

    /// Changes the bit of a block, and the counts with it.
    pub fn turn(&mut self, block: u64) {
        let (group, byte, mask) = self.bit(block);
        self.bytes[byte] ^= mask;
        let is_free = self.bytes[byte] & mask == 0;
        let changed = |free: u64, by: u64| if is_free { free + by } else { free - by };
        let free = changed(self.field(group, 0xc), 1);
        self.set_field(group, 0xc, free);
        let all = number(&self.bytes, SUPERBLOCK + 0xc, 4);
        self.put(SUPERBLOCK + 0xc, 4, changed(all, self.cluster));
    }

    /// Calls free what is in use in a group, its tables aside. Returns how many clusters that was.
    pub fn clear(&mut self, group: u64) -> usize {
        if self.is_unwritten(group) {
            return 0;
        }
        let is_files = |block: &u64| self.is_used(*block) && !self.holds_tables(*block);
        let used: Vec<u64> = self.clusters(group).filter(is_files).collect();
        for block in &used {
            self.turn(*block);
        }
        used.len()
    }

    /// Makes a group one whose bitmap was never written.
    pub fn unwrite(&mut self, group: u64) {
        let flags = self.field(group, 0x12) | u64::from(BLOCK_UNINIT);
        self.set_field(group, 0x12, flags);
    }

    /// Writes it, all checksums right.
    pub fn write(&self, disk: &Path) {
        let mut patched = Patched::new(&self.bytes);
        patched.sum_up();
        fs::write(disk, patched.bytes()).unwrap();
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut number = [0; 8];
    number[..length].copy_from_slice(&bytes[at..at + length]);
    u64::from_le_bytes(number)
}

/// The blocks behind these words of dumpe2fs.
fn tables(disk: &Path) -> BTreeSet<u64> {
    let told = tool("dumpe2fs", [disk.to_str().unwrap()]);
    let (head, groups) = told.split_once("\n\n").unwrap();
    let mmp = head
        .lines()
        .find_map(|line| line.strip_prefix("MMP block number:"));
    let parts = groups
        .lines()
        .filter(|line| line.starts_with("  "))
        .flat_map(|line| line.split(", "));
    let places = parts.filter_map(|part| part.split_once(" at ").map(|(_, place)| place));
    let mut blocks: BTreeSet<u64> = places.flat_map(range).collect();
    // Boot code, where the first group begins with the next block.
    blocks.insert(0);
    blocks.extend(mmp.into_iter().flat_map(|block| range(block.trim())));
    blocks
}

fn range(place: &str) -> RangeInclusive<u64> {
    let end = place.find(|c: char| !c.is_ascii_digit() && c != '-');
    let place = &place[..end.unwrap_or(place.len())];
    let (first, last) = place.split_once('-').unwrap_or((place, place));
    first.parse().unwrap()..=last.parse().unwrap()
}
