//! A filesystem that consists of a journal, made byte by byte.

use crate::disk::MemoryDisk;
use crate::units::{to_u64, to_usize};
use crate::volumes::filesystems::ext::journal::JournalAt;
use crate::volumes::view::View;

pub(super) const BLOCK: usize = 1024;
const BLOCKS: usize = 4096;
const INODE_NUMBER: u32 = 8;
const INODE: usize = 10 * BLOCK + 7 * 256;
const LEAF: usize = 50;
const SEED: u32 = 0x1234_5678;
const UUID: [u8; 16] = *b"sixteen of bytes";

/// What the journal's superblock says of its format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) version: u32,
    pub(super) compat: u32,
    pub(super) incompat: u32,
}

impl Features {
    pub(super) const VERSION_1: Self = Self {
        version: 1,
        compat: 0,
        incompat: 0,
    };

    pub(super) fn has_checksums(self) -> bool {
        self.compat == 1 || self.incompat & 0x18 != 0
    }
}

/// The whole of it, and where the log is being written.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) memory: MemoryDisk,
    features: Features,
    places: Vec<u64>,
    has_seed: bool,
    /// The first block behind the log.
    pub(super) last: u64,
    pub(super) at: u64,
    pub(super) sequence: u32,
    /// The sum of the transaction, for version 1.
    sum: u32,
}

impl Disk {
    /// One whose journal lies in one piece.
    pub(super) fn new(features: Features) -> Self {
        let room = if features.incompat & 0x20 == 0 { 0 } else { 256 };
        let mut disk = Self {
            memory: MemoryDisk {
                bytes: vec![0xa5; BLOCKS * BLOCK],
                bad: 0..0,
            },
            features,
            places: (200..200 + 1024 + room).collect(),
            has_seed: false,
            last: 1024,
            at: 1,
            sequence: 0,
            sum: u32::MAX,
        };
        let mut root = header(1, 4, 0);
        root.extend(extent(0, disk.places.len(), 200));
        disk.lay_inode(0x8_0000, &root);
        disk
    }

    pub(super) fn place<'a>(&self, view: View<'a>) -> JournalAt<'a> {
        JournalAt {
            view,
            block_size: to_u64(BLOCK),
            blocks: self.blocks(),
            inode: INODE_NUMBER,
            inode_at: to_u64(INODE),
            inode_size: 256,
            seed: self.has_seed.then_some(SEED),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as what it is")]
    pub(super) fn blocks(&self) -> u64 {
        to_u64(BLOCKS)
    }

    pub(super) fn physical(&self, block: u64) -> u64 {
        self.places[to_usize(block)]
    }

    fn block(&mut self, block: u64) -> &mut [u8] {
        let at = to_usize(block) * BLOCK;
        &mut self.memory.bytes[at..at + BLOCK]
    }

    pub(super) fn log(&mut self, block: u64) -> &mut [u8] {
        let physical = self.physical(block);
        self.block(physical)
    }

    pub(super) fn inode(&mut self) -> &mut [u8] {
        &mut self.memory.bytes[INODE..INODE + 256]
    }

    pub(super) fn leaf(&mut self) -> &mut [u8] {
        self.block(to_u64(LEAF))
    }

    /// In pieces, with a tree of two levels above the extents.
    pub(super) fn by_tree(&mut self) {
        self.places = scattered();
        self.has_seed = false;
        let pieces: Vec<_> = self.places.chunks(64).map(|piece| piece[0]).collect();
        let mut leaf = header(pieces.len(), 84, 0);
        for (index, start) in pieces.iter().enumerate() {
            leaf.extend(extent(index * 64, 64, *start));
        }
        let mut node = header(1, 84, 1);
        node.extend(index(0, LEAF));
        let mut root = header(1, 4, 2);
        root.extend(index(0, 51));
        self.leaf()[..leaf.len()].copy_from_slice(&leaf);
        self.block(51)[..node.len()].copy_from_slice(&node);
        self.lay_inode(0x8_0000, &root);
    }

    /// The same with checksums.
    pub(super) fn by_checked_tree(&mut self) {
        self.by_tree();
        self.has_seed = true;
        let seed = crc32c(SEED, &INODE_NUMBER.to_le_bytes());
        let seed = crc32c(seed, &77_u32.to_le_bytes());
        for node in [to_u64(LEAF), 51] {
            let node = self.block(node);
            let sum = crc32c(seed, &node[..1020]);
            node[1020..].copy_from_slice(&sum.to_le_bytes());
        }
        let inode = self.inode();
        inode[124..126].fill(0);
        inode[130..132].fill(0);
        let sum = crc32c(seed, inode).to_le_bytes();
        inode[124..126].copy_from_slice(&sum[..2]);
        inode[130..132].copy_from_slice(&sum[2..]);
    }

    /// In pieces, with indirect blocks.
    pub(super) fn by_blocks(&mut self) {
        self.places = scattered();
        self.has_seed = false;
        let numbers = |blocks: &[u64]| -> Vec<u8> {
            let narrow = |block: &u64| u32::try_from(*block).unwrap().to_le_bytes();
            blocks.iter().flat_map(narrow).collect()
        };
        let places = self.places.clone();
        let mut root = numbers(&places[..12]);
        root.extend(numbers(&[60, 61, 0]));
        let mut below = Vec::new();
        let single = numbers(&places[12..12 + 256]);
        self.block(60)[..single.len()].copy_from_slice(&single);
        for (index, piece) in places[12 + 256..].chunks(256).enumerate() {
            let block = 62 + to_u64(index);
            let piece = numbers(piece);
            self.block(block)[..piece.len()].copy_from_slice(&piece);
            below.push(block);
        }
        let double = numbers(&below);
        self.block(61)[..double.len()].copy_from_slice(&double);
        self.lay_inode(0, &root);
    }

    fn lay_inode(&mut self, flags: u32, root: &[u8]) {
        let size = u32::try_from(self.places.len() * BLOCK).unwrap();
        let inode = self.inode();
        inode.fill(0);
        inode[..2].copy_from_slice(&0o100_600_u16.to_le_bytes());
        inode[4..8].copy_from_slice(&size.to_le_bytes());
        inode[26] = 1;
        inode[32..36].copy_from_slice(&flags.to_le_bytes());
        inode[40..40 + root.len()].copy_from_slice(root);
        inode[100] = 77;
        inode[128] = 32;
    }

    /// Begins the log anew.
    pub(super) fn superblock(&mut self, start: u64, sequence: u32) {
        let Features {
            version,
            compat,
            incompat,
        } = self.features;
        let blocks = u32::try_from(self.places.len()).unwrap();
        let start_32 = u32::try_from(start).unwrap();
        let mut bytes = vec![0; BLOCK];
        let size = u32::try_from(BLOCK).unwrap();
        let words = [
            0xc03b_3998,
            version + 2,
            0,
            size,
            blocks,
            1,
            sequence,
            start_32,
            0,
        ];
        let features = [compat, incompat, 0];
        for (at, word) in words.into_iter().chain(features).enumerate() {
            bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_be_bytes());
        }
        bytes[48..64].copy_from_slice(&UUID);
        bytes[80] = 4;
        if incompat & 0x18 != 0 {
            let sum = crc32c(u32::MAX, &bytes);
            bytes[252..256].copy_from_slice(&sum.to_be_bytes());
        }
        self.log(0).copy_from_slice(&bytes);
        self.at = start.max(1);
        self.sequence = sequence;
    }

    /// Writes the next block of the log.
    fn append(&mut self, block: &[u8]) {
        let at = self.at;
        self.log(at).copy_from_slice(block);
        self.at = if at + 1 == self.last { 1 } else { at + 1 };
    }

    fn head(&self, kind: u32) -> Vec<u8> {
        [0xc03b_3998, kind, self.sequence]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    fn seed(&self) -> Option<u32> {
        (self.features.incompat & 0x18 != 0).then(|| crc32c(u32::MAX, &UUID))
    }

    /// Fills up a block, the last four bytes of which are its checksum.
    fn with_tail(&self, mut block: Vec<u8>) -> Vec<u8> {
        block.resize(BLOCK, 0);
        if let Some(seed) = self.seed() {
            let sum = crc32c(seed, &block);
            block[BLOCK - 4..].copy_from_slice(&sum.to_be_bytes());
        }
        block
    }

    /// A descriptor and what it describes.
    pub(super) fn descriptor(&mut self, blocks: &[(u64, Vec<u8>)]) {
        let mut descriptor = self.head(1);
        let mut contents = Vec::new();
        for (index, (home, content)) in blocks.iter().enumerate() {
            let mut content = content.clone();
            let mut flags = 0_u16;
            if content[..4] == [0xc0, 0x3b, 0x39, 0x98] {
                content[..4].fill(0);
                flags |= 1;
            }
            if index > 0 {
                flags |= 2;
            }
            if index + 1 == blocks.len() {
                flags |= 8;
            }
            descriptor.extend(self.tag(*home, flags, &content));
            if index == 0 {
                descriptor.extend(UUID);
            }
            contents.push(content);
        }
        let descriptor = self.with_tail(descriptor);
        for block in std::iter::once(&descriptor).chain(&contents) {
            self.sum = crc32(self.sum, block);
            self.append(block);
        }
    }

    fn tag(&self, home: u64, flags: u16, content: &[u8]) -> Vec<u8> {
        let halves = home.to_be_bytes();
        let (high, low) = halves.split_at(4);
        let sum = self.seed().map_or([0; 4], |seed| {
            let sum = crc32c(seed, &self.sequence.to_be_bytes());
            crc32c(sum, content).to_be_bytes()
        });
        let wide = self.features.incompat & 2 != 0;
        let high = if wide { high } else { &[0; 4] };
        let flags = flags.to_be_bytes();
        if self.features.incompat & 0x10 != 0 {
            return [low, &[0; 2], &flags, high, &sum].concat();
        }
        let unused: &[u8] = if self.features.incompat & 8 != 0 {
            &[0; 2]
        } else {
            &[]
        };
        let high = if wide { high } else { &[] };
        [low, &sum[2..], &flags, high, unused].concat()
    }

    pub(super) fn revoke(&mut self, homes: &[u64]) {
        let mut block = self.head(5);
        let wide = self.features.incompat & 2 != 0;
        let size = if wide { 8 } else { 4 };
        let used = u32::try_from(16 + homes.len() * size).unwrap();
        block.extend(used.to_be_bytes());
        for home in homes {
            block.extend(&home.to_be_bytes()[8 - size..]);
        }
        let block = self.with_tail(block);
        self.append(&block);
    }

    pub(super) fn commit(&mut self) {
        let mut block = self.head(2);
        block.resize(BLOCK, 0);
        if let Some(seed) = self.seed() {
            let sum = crc32c(seed, &block);
            block[16..20].copy_from_slice(&sum.to_be_bytes());
        } else if self.features.compat == 1 {
            block[12..14].copy_from_slice(&[1, 4]);
            block[16..20].copy_from_slice(&self.sum.to_be_bytes());
        }
        self.append(&block);
        self.sum = u32::MAX;
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// The places of a journal in pieces of 64 blocks, the last one first.
fn scattered() -> Vec<u64> {
    (0..1024)
        .map(|block| 200 + (15 - block / 64) * 70 + block % 64)
        .collect()
}

fn header(entries: usize, max: u16, depth: u16) -> Vec<u8> {
    let entries = u16::try_from(entries).unwrap();
    let mut bytes: Vec<u8> = [0xf30a, entries, max, depth]
        .iter()
        .flat_map(|half| half.to_le_bytes())
        .collect();
    bytes.extend([0; 4]);
    bytes
}

fn extent(logical: usize, length: usize, start: u64) -> Vec<u8> {
    let mut bytes = u32::try_from(logical).unwrap().to_le_bytes().to_vec();
    bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(u32::try_from(start).unwrap().to_le_bytes());
    bytes
}

fn index(logical: u32, block: usize) -> Vec<u8> {
    let mut bytes = logical.to_le_bytes().to_vec();
    bytes.extend(u32::try_from(block).unwrap().to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// CRC-32C bit by bit, not inverted.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| {
        if sum & 1 == 1 {
            sum >> 1 ^ 0x82f6_3b78
        } else {
            sum >> 1
        }
    };
    bytes
        .iter()
        .fold(seed, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), bit))
}

/// CRC-32 bit by bit, the highest first, not inverted.
fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| {
        if sum >> 31 == 1 {
            sum << 1 ^ 0x04c1_1db7
        } else {
            sum << 1
        }
    };
    bytes
        .iter()
        .fold(seed, |sum, byte| (0..8).fold(sum ^ u32::from(*byte) << 24, bit))
}
