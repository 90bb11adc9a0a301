//! Items of transactions: which blocks each names. Source: Linux, `fs/xfs/libxfs/xfs_log_format.h`.
//!
//! They are in the byte order of the machine that wrote them; records of big-endian ones are not read.

use std::ops::Range;

use super::log::Item;
use super::superblock::Superblock;
use crate::units::{Exact, claimed_size, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_be, u32_le, u64_le};

// Types of items.
const EFI: u32 = 0x1236;
const EFD: u32 = 0x1237;
const INODE: u32 = 0x123b;
const BUFFER: u32 = 0x123c;
const DQUOT: u32 = 0x123d;
const QUOTAOFF: u32 = 0x123e;
const ICREATE: u32 = 0x123f;
const RUI: u32 = 0x1240;
const RUD: u32 = 0x1241;
const CUI: u32 = 0x1242;
const CUD: u32 = 0x1243;
const BUI: u32 = 0x1244;
const BUD: u32 = 0x1245;
const ATTRI: u32 = 0x1246;
const ATTRD: u32 = 0x1247;
const XMI: u32 = 0x1248;
const XMD: u32 = 0x1249;

/// The length of `struct xfs_inode_log_format` on most machines; on i386, it has no room in front of `ilf_ino`.
const INODE_LENGTH: usize = 56;
const INODE_LENGTH_I386: usize = 52;

/// How many of these bytes a bit of a buffer's map stands for.
pub(super) const CHUNK: usize = 128;

// Flags of `blf_flags`.
const INODE_BUFFER: u32 = 1;
const CANCEL: u32 = 2;

/// Types of buffers, in the upper bits of `blf_flags`, that hold no superblock, AGF or B-tree: quotas; AGFL to remote
/// attributes. Old kernels tell no type.
const TYPE_SHIFT: u32 = 11;
const OTHER_TYPES: [Range<u32>; 2] = [1..4, 6..18];
const KNOWN_TYPES: u32 = 19;

const DAMAGED: Doubt = Doubt::State("an item in its log is damaged");

/// A part of the disk that a transaction changed.
#[derive(Debug)]
pub(super) struct Buffer<'i> {
    /// In bytes.
    pub(super) range: Range<u64>,
    /// Whether it was freed, so that nothing of it that was logged before counts.
    pub(super) is_cancel: bool,
    /// Whether it may be a superblock, an AGF or a block of a tree of free space.
    pub(super) is_kept: bool,
    /// Bits, each for [`CHUNK`] bytes.
    map: &'i [u8],
    regions: &'i [Vec<u8>],
}

/// Whether the regions of an item are needed, of which this is the first one.
pub(super) fn is_kept(format: &[u8]) -> bool {
    kind(format) == BUFFER && is_of_interest(flags(format))
}

fn kind(format: &[u8]) -> u32 {
    u32_le(format, 0) & 0xffff
}

fn flags(format: &[u8]) -> u32 {
    u32_le(format, 4) & 0xffff
}

fn is_of_interest(flags: u32) -> bool {
    let kind = flags >> TYPE_SHIFT;
    flags & (INODE_BUFFER | CANCEL) == 0 && !OTHER_TYPES.iter().any(|others| others.contains(&kind))
}

/// The buffer that an item is about, if it is about one.
pub(super) fn buffer<'i>(item: &'i Item, superblock: &Superblock) -> Result<Option<Buffer<'i>>, Doubt> {
    let Some((format, regions)) = item.regions.split_first() else {
        return Ok(None);
    };
    if kind(format) != BUFFER {
        return Ok(None);
    }
    let flags = flags(format);
    if flags >> TYPE_SHIFT >= KNOWN_TYPES {
        return Err(Doubt::State("its log has a buffer of a type that is not known"));
    }
    let length = to_usize(u32_le(format, 16).into()).checked_mul(4);
    let map = format
        .get(20..)
        .and_then(|map| map.get(..length?))
        .ok_or(DAMAGED)?;
    Ok(Some(Buffer {
        range: sectors(u64_le(format, 8), u64::from(u32_le(format, 4) >> 16), superblock)?,
        is_cancel: flags & CANCEL != 0,
        is_kept: is_of_interest(flags),
        map,
        regions,
    }))
}

impl Buffer<'_> {
    /// The bytes that were logged of it, and where each piece of them lies, in bytes.
    pub(super) fn pieces(&self) -> Result<Vec<(u64, &[u8; CHUNK])>, Doubt> {
        let is_set = |bit: usize| {
            self.map
                .get(bit / 8)
                .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
        };
        let (mut pieces, mut bit) = (Vec::new(), 0);
        let bits = self.map.len().times(8);
        for region in self.regions {
            while bit < bits && !is_set(bit) {
                bit.increase(1);
            }
            let (chunks, rest) = region.as_chunks::<CHUNK>();
            if chunks.is_empty() || !rest.is_empty() {
                return Err(DAMAGED);
            }
            for chunk in chunks {
                let at = self.range.start.plus(to_u64(bit.times(CHUNK)));
                if !is_set(bit) || at >= self.range.end {
                    return Err(DAMAGED);
                }
                pieces.push((at, chunk));
                bit.increase(1);
            }
        }
        if (bit..bits).any(is_set) {
            return Err(DAMAGED);
        }
        Ok(pieces)
    }
}

/// The bytes that an item names, which recovery may read.
pub(super) fn named(item: &Item, superblock: &Superblock) -> Result<Vec<Range<u64>>, Doubt> {
    let format = item.regions.first().ok_or(DAMAGED)?;
    let count = u32_le(format, 4);
    match kind(format) {
        BUFFER => Ok(buffer(item, superblock)?
            .map(|buffer| buffer.range)
            .into_iter()
            .collect()),
        INODE => {
            let at = match format.len() {
                INODE_LENGTH => 40,
                INODE_LENGTH_I386 => 36,
                _ => return Err(DAMAGED),
            };
            let length = u32_le(format, at.plus(8)).into();
            Ok(vec![sectors(u64_le(format, at), length, superblock)?])
        }
        DQUOT => Ok(vec![sectors(
            u64_le(format, 8),
            u32_le(format, 16).into(),
            superblock,
        )?]),
        ICREATE => Ok(vec![created(format, superblock)?]),
        // Those of i386 have no room behind their length.
        EFI | EFD => listed(format, count, &[16, 12], (0, 8), superblock),
        RUI | BUI => listed(format, count, &[32], (8, 24), superblock),
        CUI => listed(format, count, &[16], (0, 8), superblock),
        QUOTAOFF | RUD | CUD | BUD | ATTRI | ATTRD | XMI | XMD => Ok(Vec::new()),
        _ => Err(Doubt::State("its log has an item of a type that is not known")),
    }
}

/// The blocks of inodes that were created, which are in the byte order of the disk.
fn created(format: &[u8], superblock: &Superblock) -> Result<Range<u64>, Doubt> {
    if format.len() < 28 {
        return Err(DAMAGED);
    }
    let [group, block, length] = [4, 8, 20].map(|at| u64::from(u32_be(format, at)));
    blocks(group, block, length, superblock)
}

/// The extents of a list of `count` structures, of a size that they may have, which have a block and a number of blocks
/// there.
fn listed(
    format: &[u8],
    count: u32,
    sizes: &[usize],
    (start, length): (usize, usize),
    superblock: &Superblock,
) -> Result<Vec<Range<u64>>, Doubt> {
    let list = format.get(16..).unwrap_or_default();
    let is_that = |size: &&usize| to_usize(count.into()).checked_mul(**size) == Some(list.len());
    let size = sizes.iter().find(is_that).ok_or(DAMAGED)?;
    let extent = |extent: &[u8]| {
        let (group, block) = superblock.split(u64_le(extent, start));
        blocks(group, block, u32_le(extent, length).into(), superblock)
    };
    list.chunks_exact(*size).map(extent).collect()
}

/// So many blocks of a group, in bytes.
fn blocks(group: u64, block: u64, length: u64, superblock: &Superblock) -> Result<Range<u64>, Doubt> {
    if group >= superblock.ag_count || block.saturating_add(length) > superblock.blocks_of(group) {
        return Err(DAMAGED);
    }
    Ok(superblock.block_at(group, block)..superblock.block_at(group, block.plus(length)))
}

/// So many sectors of 512 bytes, in bytes.
fn sectors(first: u64, count: u64, superblock: &Superblock) -> Result<Range<u64>, Doubt> {
    let (start, length) = (claimed_size(first, 512), count.times(512));
    let end = start.checked_add(length).filter(|end| *end <= superblock.size());
    Ok(start..end.ok_or(DAMAGED)?)
}
