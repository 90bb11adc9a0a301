//! Disks in memory with a few bytes changed, and what is done with them: they are looked into, as the fuzz targets do
//! it. Nothing may panic, or read without end; what is told must hold together.

// The fuzz targets have this file in another place.
#[path = "patched/btrfs.rs"]
mod btrfs;
#[path = "patched/containers.rs"]
mod containers;
#[path = "patched/xfs.rs"]
mod xfs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Mutex;

use mkqcow2::Result;
use mkqcow2::disk::{Disk, Kind, Underlying};
use mkqcow2::error::{Action, Error, Side};
use mkqcow2::volumes::{self, Allocation, Scan, State, Treatment};

use btrfs::BTRFS;
pub use containers::lvm_crc;
pub use xfs::Structure;

/// In bytes.
const SECTOR: u64 = 512;

/// A disk of which some sectors are others.
#[derive(Debug)]
pub struct Patched<'a> {
    base: &'a [u8],
    sectors: BTreeMap<u64, [u8; SECTOR as usize]>,
    /// Where those begin that cannot be read.
    bad: BTreeSet<u64>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl<'a> Patched<'a> {
    /// A disk as it is. Its size is a multiple of 512.
    pub fn new(base: &'a [u8]) -> Self {
        assert!((base.len() as u64).is_multiple_of(SECTOR));
        Self {
            base,
            sectors: BTreeMap::new(),
            bad: BTreeSet::new(),
            reads: Mutex::default(),
        }
    }

    /// Puts bytes into it, as far as there is room for them.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..self.len()).zip(bytes) {
            let (base, start) = (self.base, at / SECTOR * SECTOR);
            let sector = self.sectors.entry(start).or_insert_with(|| {
                let sector = &base[start as usize..][..SECTOR as usize];
                sector.try_into().expect("a sector")
            });
            sector[(at % SECTOR) as usize] = *byte;
        }
    }

    /// Makes the sectors unreadable that have to do with a range.
    pub fn fail(&mut self, range: Range<u64>) {
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        self.bad.extend(sectors.map(|sector| sector * SECTOR));
    }

    /// What stands there; zeros behind the end.
    pub fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.copy(&mut bytes, at);
        bytes
    }

    /// The byte that stands there.
    pub fn byte(&self, at: u64) -> u8 {
        let [byte] = self.get(at);
        byte
    }

    fn copy(&self, buf: &mut [u8], at: u64) {
        let rest = self.base.get(at as usize..).unwrap_or_default();
        let length = buf.len().min(rest.len());
        buf[..length].copy_from_slice(&rest[..length]);
        let end = at + length as u64;
        for (start, sector) in self.sectors.range(at / SECTOR * SECTOR..end) {
            let (from, to) = (at.max(*start), end.min(start + SECTOR));
            let within = (from - start) as usize..(to - start) as usize;
            buf[(from - at) as usize..(to - at) as usize].copy_from_slice(&sector[within]);
        }
    }

    fn is_unchanged(&self) -> bool {
        let mut sectors = self.sectors.iter();
        sectors.all(|(start, sector)| self.base[*start as usize..].starts_with(sector))
    }

    /// All that was read so far, ascending and apart.
    pub fn reads(&self) -> Vec<Range<u64>> {
        let mut reads = self.reads.lock().expect("no read panics").clone();
        reads.sort_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::new();
        for range in reads {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    /// Looks into it, and holds what is told to what it promises.
    pub fn scan(&self) -> Allocation {
        let allocation = volumes::scan(self, Scan::Auto).expect("a doubt is no error");
        let reads = self.reads.lock().expect("no read panics").clone();
        let read: u64 = reads.iter().map(|range| range.end - range.start).sum();
        // Each of a few schemes reads what it knows once or twice.
        let limit = 8 * self.len() + (32 << 20);
        assert!(read <= limit, "{read} bytes were read of {}", self.len());
        let map = &allocation.map;
        assert_eq!(map.size(), self.len());
        let extents = map.extents();
        assert!(extents.is_sorted_by(|a, b| a.range.end <= b.range.start));
        assert!(extents.iter().all(|extent| !extent.range.is_empty()));
        assert!(extents.last().is_none_or(|last| last.range.end <= self.len()));
        assert_eq!(allocation.bytes(State::Free) + map.used(), self.len());
        for region in &allocation.regions {
            let is_whole = matches!(
                region.treatment,
                Treatment::Unknown | Treatment::Whole(_) | Treatment::Doubted(_)
            );
            for &Range { start, end } in region.segments.ranges() {
                assert!(start <= end && end <= self.len(), "{region:?}");
                let used: u64 = extents
                    .iter()
                    .map(|extent| {
                        let end = extent.range.end.min(end);
                        end.saturating_sub(extent.range.start.max(start))
                    })
                    .sum();
                assert!(!is_whole || used == end - start, "not whole: {region:?}");
            }
        }
        allocation
    }

    /// Makes the checksums right again that would else hide everything behind them.
    pub fn sum_up(&mut self) {
        if self.get(1024 + 56) == [0x53, 0xef] {
            self.sum_up_ext();
        }
        if self.get(3) == *b"EXFAT   " {
            self.sum_up_exfat();
        }
        for at in [512, 4096, self.len() - 512] {
            if self.get(at) == *b"EFI PART" {
                self.sum_up_gpt(at);
            }
        }
        if self.get(512) == *b"LABELONE" {
            self.sum_up_lvm();
        }
        if self.get(0) == *b"XFSB" {
            self.sum_up_xfs();
        }
        if self.get(BTRFS + 64) == *b"_BHRfS_M" {
            self.sum_up_btrfs();
        }
        let raid = 0xa92b_4efc_u32.to_le_bytes();
        for at in [0, 4096, self.len() - (8 << 10)] {
            if self.get(at) == raid {
                self.sum_up_raid(at);
            }
        }
    }

    fn u16(&self, at: u64) -> u64 {
        u16::from_le_bytes(self.get(at)).into()
    }

    fn u32(&self, at: u64) -> u64 {
        u32::from_le_bytes(self.get(at)).into()
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.base.len()];
        self.copy(&mut bytes, 0);
        bytes
    }

    /// `metadata_csum` of descriptors, block bitmaps, the superblock, and inodes that were changed; `uninit_bg`, which
    /// only descriptors have.
    fn sum_up_ext(&mut self) {
        let superblock = 1024;
        let has_sums = self.u32(superblock + 0x64) & 0x400 != 0;
        let has_old_sums = self.u32(superblock + 0x64) & 0x10 != 0;
        let log = self.u32(superblock + 0x18);
        if !(has_sums || has_old_sums) || log > 6 {
            return;
        }
        let seed = self.ext_seed();
        let block = 1024 << log;
        let is_64bit = self.u32(superblock + 0x60) & 0x80 != 0;
        let length = if is_64bit {
            self.u16(superblock + 0xfe).clamp(32, 64)
        } else {
            32
        };
        let blocks_per_group = self.u32(superblock + 0x20).max(1);
        let bitmap_length = (self.u32(superblock + 0x24) / 8).min(block) as usize;
        let blocks = self
            .u32(superblock + 4)
            .saturating_sub(self.u32(superblock + 0x14));
        let groups = blocks.div_ceil(blocks_per_group).min(256);
        // Behind the block of the superblock.
        let table = (superblock / block + 1) * block;
        for group in 0..groups {
            let at = table + group * length;
            if has_sums {
                self.sum_up_inodes(group, self.u32(at + 8) * block, seed);
                // BLOCK_UNINIT: there is none.
                if self.u16(at + 0x12) & 2 == 0 {
                    let mut bitmap = vec![0; bitmap_length];
                    self.copy(&mut bitmap, self.u32(at) * block);
                    let sum = crc32c(seed, &bitmap).to_le_bytes();
                    self.put(at + 0x18, &sum[..2]);
                    if length >= 64 {
                        self.put(at + 0x38, &sum[2..]);
                    }
                }
            }
            self.sum_up_descriptor(at, group as u32, length as usize, has_sums.then_some(seed));
        }
        if has_sums {
            let sum = crc32c(u32::MAX, &self.get::<1020>(superblock));
            self.put(superblock + 1020, &sum.to_le_bytes());
        }
    }

    fn sum_up_descriptor(&mut self, at: u64, group: u32, length: usize, seed: Option<u32>) {
        let bytes: [u8; 64] = self.get(at);
        let sum = if let Some(seed) = seed {
            let mut bytes = bytes;
            bytes[0x1e..0x20].copy_from_slice(&[0, 0]);
            crc32c(crc32c(seed, &group.to_le_bytes()), &bytes[..length])
        } else {
            let uuid: [u8; 16] = self.get(1024 + 0x68);
            let parts = [
                &uuid,
                &group.to_le_bytes()[..],
                &bytes[..0x1e],
                &bytes[0x20..length],
            ];
            crc(0xa001, 0xffff, &parts.concat())
        };
        self.put(at + 0x1e, &sum.to_le_bytes()[..2]);
    }

    /// Makes right the checksum of an ext inode of 128 bytes.
    pub fn sum_up_small_inode(&mut self, at: u64, number: u32) {
        let mut inode: [u8; 128] = self.get(at);
        inode[124..126].copy_from_slice(&[0, 0]);
        let parts = [&number.to_le_bytes(), &inode[100..104], &inode[..]];
        let sum = parts.into_iter().fold(self.ext_seed(), crc32c);
        self.put(at + 124, &sum.to_le_bytes()[..2]);
    }

    fn ext_seed(&self) -> u32 {
        if self.u32(1024 + 0x60) & 0x2000 == 0 {
            crc32c(u32::MAX, &self.get::<16>(1024 + 0x68))
        } else {
            self.u32(1024 + 0x270) as u32
        }
    }

    /// Of those in sectors that were changed, unless all of an inode is zeros.
    fn sum_up_inodes(&mut self, group: u64, table: u64, seed: u32) {
        let (per_group, size) = (self.u32(1024 + 0x28).min(1 << 19), self.u16(1024 + 0x58));
        if !(128..=SECTOR).contains(&size) || !size.is_power_of_two() {
            return;
        }
        let changed = self.sectors.range(table..table.saturating_add(per_group * size));
        let changed: Vec<u64> = changed.map(|(at, _)| *at).collect();
        for at in changed
            .into_iter()
            .flat_map(|at| (at..at + SECTOR).step_by(size as usize))
        {
            let index = (at - table) / size;
            let mut inode = vec![0; size as usize];
            self.copy(&mut inode, at);
            if index >= per_group || inode.iter().all(|byte| *byte == 0) {
                continue;
            }
            inode[124..126].copy_from_slice(&[0, 0]);
            let has_upper = size > 128 && u16::from_le_bytes([inode[128], inode[129]]) >= 4;
            if has_upper {
                inode[130..132].copy_from_slice(&[0, 0]);
            }
            let sum = crc32c(seed, &((group * per_group + index + 1) as u32).to_le_bytes());
            let sum = crc32c(crc32c(sum, &inode[100..104]), &inode).to_le_bytes();
            self.put(at + 124, &sum[..2]);
            if has_upper {
                self.put(at + 130, &sum[2..]);
            }
        }
    }

    /// Of a block of extents of an inode, whose `i_generation` that is.
    pub fn sum_up_extents(&mut self, at: u64, inode: u32, generation: [u8; 4]) {
        let length = 12 + 12 * self.u16(at + 4) as usize;
        let mut node = vec![0; length.min(64 << 10)];
        self.copy(&mut node, at);
        let seed = crc32c(crc32c(self.ext_seed(), &inode.to_le_bytes()), &generation);
        self.put(at + length as u64, &crc32c(seed, &node).to_le_bytes());
    }

    /// The checksum sectors of both boot regions.
    fn sum_up_exfat(&mut self) {
        let sector = 1_u64 << self.get::<1>(108)[0].clamp(9, 12);
        for region in [0, 12 * sector] {
            let mut sum = 0_u32;
            let mut bytes = vec![0; 11 * sector as usize];
            self.copy(&mut bytes, region);
            for (i, byte) in bytes.into_iter().enumerate() {
                if ![106, 107, 112].contains(&i) {
                    sum = sum.rotate_right(1).wrapping_add(byte.into());
                }
            }
            let sums = sum.to_le_bytes().repeat(sector as usize / 4);
            self.put(region + 11 * sector, &sums);
        }
    }

    /// Of the entries and the header.
    fn sum_up_gpt(&mut self, at: u64) {
        let sector = if at == 4096 { 4096 } else { 512 };
        let entries = u64::from_le_bytes(self.get(at + 72)).saturating_mul(sector);
        let length = self.u32(at + 80) * self.u32(at + 84);
        if length <= 64 << 10 && entries < self.len() {
            let mut bytes = vec![0; length as usize];
            self.copy(&mut bytes, entries);
            self.put(at + 88, &crc32(&bytes).to_le_bytes());
        }
        let length = (self.u32(at + 12) as usize).min(512);
        self.put(at + 16, &[0; 4]);
        let sum = crc32(&self.get::<512>(at)[..length]);
        self.put(at + 16, &sum.to_le_bytes());
    }
}

/// The kernel's CRC-32C: not inverted at the end.
pub fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    crc(0x82f6_3b78, state, bytes)
}

fn crc32(bytes: &[u8]) -> u32 {
    !crc(0xedb8_8320, u32::MAX, bytes)
}

fn crc(polynomial: u32, state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            let low = state & 1;
            (state >> 1) ^ if low == 1 { polynomial } else { 0 }
        })
    })
}

impl Disk for Patched<'_> {
    fn kind(&self) -> Kind {
        Kind::RegularFile
    }

    fn len(&self) -> u64 {
        self.base.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let end = at + buf.len() as u64;
        assert!(end <= self.len(), "a read past the end");
        self.reads.lock().expect("no read panics").push(at..end);
        if let Some(bad) = self.bad.range(at / SECTOR * SECTOR..end).next() {
            return Err(Error::Io {
                side: Side::Source,
                action: Action::Read(*bad),
                source: io::Error::from_raw_os_error(5),
            });
        }
        self.copy(buf, at);
        Ok(())
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.read_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        SECTOR
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        Vec::new()
    }

    fn is_present(&self) -> bool {
        true
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        Ok((!range.is_empty()).then_some(range))
    }
}

/// Disks that a fuzz target changes, and where they are worth it.
#[derive(Debug)]
pub struct Bases {
    disks: Vec<(Vec<u8>, Vec<Range<u64>>)>,
}

impl Bases {
    /// Some disks, each a multiple of 512 bytes long.
    pub fn new(disks: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let with_reads = |disk: Vec<u8>| {
            let mut patched = Patched::new(&disk);
            patched.scan();
            let reads = patched.reads();
            patched.sum_up();
            assert!(patched.is_unchanged(), "checksums that were right");
            (disk, reads)
        };
        let disks = disks.into_iter().map(with_reads).collect();
        Self { disks }
    }

    /// Changes what is looked at of a disk, and looks at it. The first byte tells which disk it is, and whether its
    /// checksums are made right; then come changes, each its length (1 to 16), where it is (3 bytes), and bytes.
    pub fn scan_changed(&self, input: &[u8]) {
        let Some((first, mut rest)) = input.split_first() else {
            return;
        };
        let Some((disk, reads)) = self.disks.get(usize::from(first >> 1) % self.disks.len().max(1)) else {
            return;
        };
        let total: u64 = reads.iter().map(|range| range.end - range.start).sum();
        let mut patched = Patched::new(disk);
        while let [length, a, b, c, more @ ..] = rest {
            let bytes = &more[..more.len().min(usize::from(length % 16) + 1)];
            let mut at = u64::from(u32::from_le_bytes([*a, *b, *c, 0])) % total.max(1);
            for range in reads {
                let length = range.end - range.start;
                if at < length {
                    patched.put(range.start + at, bytes);
                    break;
                }
                at -= length;
            }
            rest = &more[bytes.len()..];
        }
        if first & 1 == 1 {
            patched.sum_up();
        }
        patched.scan();
    }
}
