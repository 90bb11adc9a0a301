//! Group descriptors. Source: the kernel's documentation of ext4, "Block Group Descriptors".

use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, LE, U16, U32};

use super::blocks::Blocks;
use super::checksum::crc16;
use super::faults::Structure;
use super::features::{incompat, ro_compat};
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, to_u64, to_usize, within};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;

/// How much of the descriptors is read in one go, in bytes: a multiple of every block size.
const AT_ONCE: u64 = 1 << 20;

/// As many bytes as a descriptor with 64bit has; without it, the upper half is not there.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawDescriptor {
    /// 0x0: the block of the block bitmap.
    bg_block_bitmap_lo: U32<LE>,
    /// 0x4: the block of the inode bitmap.
    bg_inode_bitmap_lo: U32<LE>,
    /// 0x8: the first block of the inode table.
    bg_inode_table_lo: U32<LE>,
    /// 0xc: zeros in the block bitmap: in clusters.
    bg_free_blocks_count_lo: U16<LE>,
    /// 0xe: free inodes, directories.
    inodes: [u8; 4],
    /// 0x12: see [`BLOCK_UNINIT`].
    bg_flags: U16<LE>,
    /// 0x14: of snapshots.
    bg_exclude_bitmap_lo: U32<LE>,
    /// 0x18: the checksum of the block bitmap.
    bg_block_bitmap_csum_lo: U16<LE>,
    /// 0x1a: that of the inode bitmap.
    bg_inode_bitmap_csum_lo: U16<LE>,
    /// 0x1c: how many inodes at the end of the table were never used.
    bg_itable_unused_lo: U16<LE>,
    /// 0x1e: the checksum of the descriptor.
    bg_checksum: U16<LE>,
    /// 0x20.
    bg_block_bitmap_hi: U32<LE>,
    /// 0x24.
    bg_inode_bitmap_hi: U32<LE>,
    /// 0x28.
    bg_inode_table_hi: U32<LE>,
    /// 0x2c.
    bg_free_blocks_count_hi: U16<LE>,
    /// 0x2e: free inodes, directories.
    inodes_hi: [u8; 4],
    /// 0x32.
    bg_itable_unused_hi: U16<LE>,
    /// 0x34: of snapshots.
    bg_exclude_bitmap_hi: U32<LE>,
    /// 0x38.
    bg_block_bitmap_csum_hi: U16<LE>,
    /// 0x3a: that of the inode bitmap; the rest is reserved.
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<RawDescriptor>() == 64);

/// Where the checksum of a descriptor stands in it.
const CHECKSUM: Range<usize> = 0x1e..0x20;

/// In `bg_flags`: the block bitmap was never written: what is in use is what the layout of the filesystem says.
const BLOCK_UNINIT: u16 = 0x2;

/// In `bg_flags`: neither the inode bitmap nor the inode table was ever written.
const INODE_UNINIT: u16 = 0x1;

/// In `bg_flags`: what was never used of the inode table holds zeros.
const INODE_ZEROED: u16 = 0x4;

/// All of them.
const FLAGS: u16 = INODE_UNINIT | BLOCK_UNINIT | INODE_ZEROED;

/// What the map needs to know of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct Group {
    /// The block of the block bitmap; none if that was never written.
    pub(super) bitmap: Option<u64>,
    /// The zeros in the bitmap.
    pub(super) free_clusters: u32,
    /// Its checksum: only the lower half if descriptors have 32 bytes.
    pub(super) bitmap_checksum: u32,
    /// Its inodes.
    pub(super) inodes: Inodes,
}

/// Where the inodes of a group are, and which of them may be in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct Inodes {
    /// The first block of the inode table.
    pub(super) table: u64,
    /// The block of the inode bitmap; none if that was never written.
    pub(super) bitmap: Option<u64>,
    /// How many, from the first on, may have been in use.
    pub(super) used: u32,
    /// Whether something tells inodes that are in use from what stands behind those: it is zeros, or has checksums.
    pub(super) is_rest_told: bool,
}

/// The blocks of a group's own structures, wherever they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct Tables {
    /// The block bitmap.
    pub(in crate::volumes) block_bitmap: u64,
    /// The inode bitmap.
    pub(in crate::volumes) inode_bitmap: u64,
    /// The inode table.
    pub(in crate::volumes) inode_table: Range<u64>,
}

/// Hands over every group, ascending.
///
/// # Errors
///
/// A [`Doubt`] for the first descriptor that cannot be trusted.
pub(in crate::volumes) fn each(
    superblock: &Superblock,
    blocks: &Blocks<'_>,
    mut use_it: impl FnMut(u64, Group, Tables) -> Result<(), Doubt>,
) -> Result<(), Doubt> {
    let per_block = superblock.descriptors_per_block();
    let mut read = Vec::new();
    let mut index = 0;
    while index < superblock.descriptor_blocks() {
        let first = superblock.descriptor_block(index);
        let count = adjacent(superblock, index);
        read.resize(to_usize(count.times(superblock.block_size)), 0);
        blocks.read("group descriptors", first, &mut read)?;
        let descriptors = read.chunks_exact(to_usize(superblock.descriptor_size));
        let start = index.times(per_block);
        for (group, bytes) in (start..superblock.groups_count).zip(descriptors) {
            let offset = group.minus(start).times(superblock.descriptor_size);
            let at = blocks.position(first).plus(offset);
            let (state, tables) = Descriptor::new(superblock, group, bytes, at).checked()?;
            use_it(group, state, tables)?;
        }
        index.increase(count);
    }
    Ok(())
}

/// Where a group has its structures, without looking at any other.
///
/// # Errors
///
/// A [`Doubt`] if its descriptor cannot be trusted.
pub(in crate::volumes) fn tables_of(
    superblock: &Superblock,
    blocks: &Blocks<'_>,
    group: u64,
) -> Result<Tables, Doubt> {
    Ok(one(superblock, blocks, group)?.1)
}

/// What the map needs to know of a group, without looking at any other.
///
/// # Errors
///
/// A [`Doubt`] if its descriptor cannot be trusted.
pub(super) fn state_of(superblock: &Superblock, blocks: &Blocks<'_>, group: u64) -> Result<Group, Doubt> {
    Ok(one(superblock, blocks, group)?.0)
}

fn one(superblock: &Superblock, blocks: &Blocks<'_>, group: u64) -> Result<(Group, Tables), Doubt> {
    let per_block = superblock.descriptors_per_block();
    let block = superblock.descriptor_block(group.checked_div(per_block).unwrap_or(0));
    let mut read = vec![0; to_usize(superblock.block_size)];
    blocks.read("group descriptors", block, &mut read)?;
    let offset = within(group, per_block).times(superblock.descriptor_size);
    let size = to_usize(superblock.descriptor_size);
    let rest = read.get(to_usize(offset)..).unwrap_or_default();
    let bytes = rest.get(..size).unwrap_or_default();
    let at = blocks.position(block).plus(offset);
    Descriptor::new(superblock, group, bytes, at).checked()
}

/// How many blocks of descriptors, from `index` on, stand side by side, as far as they are read in one go.
fn adjacent(superblock: &Superblock, index: u64) -> u64 {
    let first = superblock.descriptor_block(index);
    let most = AT_ONCE.checked_div(superblock.block_size).unwrap_or(1);
    let rest = superblock.descriptor_blocks().minus(index);
    let follows = |by: &u64| superblock.descriptor_block(index.plus(*by)) == first.plus(*by);
    to_u64((1..most.min(rest)).take_while(follows).count()).plus(1)
}

/// A descriptor that is being checked.
struct Descriptor<'a> {
    superblock: &'a Superblock,
    group: u64,
    bytes: &'a [u8],
    raw: RawDescriptor,
    place: Structure,
}

impl<'a> Descriptor<'a> {
    /// `bytes` are all of it, which is at `at` in the underlying file or device.
    fn new(superblock: &'a Superblock, group: u64, bytes: &'a [u8], at: u64) -> Self {
        let mut raw = RawDescriptor::new_zeroed();
        for (to, from) in raw.as_mut_bytes().iter_mut().zip(bytes) {
            *to = *from;
        }
        let name = "group descriptor";
        let place = Structure { name, at };
        Self {
            superblock,
            group,
            bytes,
            raw,
            place,
        }
    }

    fn checked(&self) -> Result<(Group, Tables), Doubt> {
        let raw = &self.raw;
        self.checksum()?;
        let is_unwritten = self.is_unwritten()?;
        let block_bitmap = self.block(
            "bg_block_bitmap",
            raw.bg_block_bitmap_lo,
            raw.bg_block_bitmap_hi,
            1,
        )?;
        let inode_bitmap = self.block(
            "bg_inode_bitmap",
            raw.bg_inode_bitmap_lo,
            raw.bg_inode_bitmap_hi,
            1,
        )?;
        let length = self.superblock.inode_table_blocks;
        let inode_table = self.block(
            "bg_inode_table",
            raw.bg_inode_table_lo,
            raw.bg_inode_table_hi,
            length,
        )?;
        let halves = |lo: U16<LE>, hi: U16<LE>| u32::from(hi.get()) << 16 | u32::from(lo.get());
        let inodes = self.inodes(inode_bitmap, inode_table)?;
        let group = Group {
            bitmap: (!is_unwritten).then_some(block_bitmap),
            free_clusters: halves(raw.bg_free_blocks_count_lo, raw.bg_free_blocks_count_hi),
            bitmap_checksum: halves(raw.bg_block_bitmap_csum_lo, raw.bg_block_bitmap_csum_hi),
            inodes,
        };
        let tables = Tables {
            block_bitmap,
            inode_bitmap,
            inode_table: inode_table..inode_table.plus(length),
        };
        Ok((group, tables))
    }

    fn inodes(&self, bitmap: u64, table: u64) -> Result<Inodes, Doubt> {
        let features = self.superblock.features;
        let all = u32::try_from(self.superblock.inodes_per_group).unwrap_or(u32::MAX);
        // Without checksums, flags mean nothing, as in the kernel.
        let flags = if features.has_descriptor_checksums() {
            self.raw.bg_flags.get()
        } else {
            INODE_ZEROED
        };
        let (lo, hi) = (self.raw.bg_itable_unused_lo, self.raw.bg_itable_unused_hi);
        let unused = u32::from(hi.get()) << 16 | u32::from(lo.get());
        let used = if !features.has_descriptor_checksums() {
            all
        } else if flags & INODE_UNINIT != 0 {
            0
        } else {
            self.place
                .at_most("bg_itable_unused", unused.into(), all.into())?;
            all.minus(unused)
        };
        Ok(Inodes {
            table,
            bitmap: (flags & INODE_UNINIT == 0).then_some(bitmap),
            used,
            is_rest_told: features.ro_compat(ro_compat::METADATA_CSUM) || flags & INODE_ZEROED != 0,
        })
    }

    /// A block that `length` blocks begin with: of the filesystem, and of the group itself unless `flex_bg` allows
    /// for others.
    fn block(&self, field: &'static str, lo: U32<LE>, hi: U32<LE>, length: u64) -> Result<u64, Doubt> {
        let found = u64::from(hi.get()) << 32 | u64::from(lo.get());
        let limits = if self.superblock.features.incompat(incompat::FLEX_BG) {
            self.superblock.first_data_block..self.superblock.blocks_count
        } else {
            self.superblock.blocks_of(self.group)
        };
        let fits = limits.contains(&found) && claimed_end(found, length) <= limits.end;
        self.place.require(
            fits,
            field,
            found,
            Expected::That("blocks of the filesystem, and of the group without flex_bg"),
        )?;
        Ok(found)
    }

    /// Whether the bitmap was never written. Without checksums, flags mean nothing, as in the kernel.
    fn is_unwritten(&self) -> Result<bool, Doubt> {
        if !self.superblock.features.has_descriptor_checksums() {
            return Ok(false);
        }
        let flags = self.raw.bg_flags.get();
        self.place.require(
            flags & !FLAGS == 0,
            "bg_flags",
            flags.into(),
            Expected::AtMost(FLAGS.into()),
        )?;
        let is_unwritten = flags & BLOCK_UNINIT != 0;
        // The kernel takes this for an error.
        let fits = !is_unwritten || self.group != 0;
        let expected = Expected::That("a block bitmap in group 0");
        self.place.require(fits, "bg_flags", flags.into(), expected)?;
        Ok(is_unwritten)
    }

    fn checksum(&self) -> Result<(), Doubt> {
        let features = self.superblock.features;
        let number = U32::<LE>::new(u32::try_from(self.group).unwrap_or(u32::MAX));
        let before = self.bytes.get(..CHECKSUM.start).unwrap_or_default();
        let after = self.bytes.get(CHECKSUM.end..).unwrap_or_default();
        let expected = if features.ro_compat(ro_compat::METADATA_CSUM) {
            // The checksum counts as zeros.
            [number.as_bytes(), before, &[0, 0], after]
                .into_iter()
                .fold(self.superblock.checksum_seed, crc32c)
                & 0xffff
        } else if features.ro_compat(ro_compat::GDT_CSUM) {
            crc16(&[&self.superblock.uuid, number.as_bytes(), before, after]).into()
        } else {
            return Ok(());
        };
        self.place
            .has_checksum(self.raw.bg_checksum.get().into(), expected)
    }
}
