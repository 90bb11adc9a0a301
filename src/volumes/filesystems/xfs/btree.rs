//! The B-trees of free space. Source: `fs/xfs/libxfs/xfs_format.h`, `struct xfs_btree_block`, short form.

use super::blocks::Blocks;
use crate::error::Expected;
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_be, u64_be};

/// How high a tree may be: the kernel's limit for a group of 2^32 blocks is lower.
const MAX_LEVELS: u64 = 12;

// Where fields of a block are, in bytes; from 16 on those of version 5.
const LEVEL: usize = 4;
const BLKNO: usize = 16;
const UUID: usize = 32;
const OWNER: usize = 48;
const SUM: u64 = 52;

/// The length of the header: of version 4, of version 5.
const HEADER: [u64; 2] = [16, 56];

/// The length of a record or key, and of a pointer.
const RECORD: usize = 8;
const POINTER: usize = 4;

/// What a tree is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ByPlace,
    ByLength,
}

impl Kind {
    fn structure(self) -> &'static str {
        match self {
            Self::ByPlace => "block of the bnobt",
            Self::ByLength => "block of the cntbt",
        }
    }

    fn magic(self, has_crcs: bool) -> [u8; 4] {
        match (self, has_crcs) {
            (Self::ByPlace, false) => *b"ABTB",
            (Self::ByPlace, true) => *b"AB3B",
            (Self::ByLength, false) => *b"ABTC",
            (Self::ByLength, true) => *b"AB3C",
        }
    }
}

/// A tree of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) kind: Kind,
    /// The block of its root, counted in the group.
    pub(super) root: u64,
    pub(super) levels: u64,
    pub(super) group: u64,
}

/// A block of a tree.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    count: usize,
    /// Where records begin; in a block above the leaves, where pointers do.
    first: usize,
    next: usize,
}

/// Tells the records of a tree in its order: where a free range begins in the group, and its length, in blocks.
///
/// Ends with the first that is not welcome. Each leaf but that of an empty tree has one, and one that comes twice is
/// not welcome in a tree by place, or makes its sums differ from those of the other one.
pub(super) fn walk(
    blocks: Blocks<'_>,
    tree: Tree,
    mut tell: impl FnMut(u64, u64) -> Result<(), Doubt>,
) -> Result<(), Doubt> {
    if !(1..=MAX_LEVELS).contains(&tree.levels) {
        let (what, limit) = ("levels of a B-tree", MAX_LEVELS);
        return Err(Doubt::TooMany { what, limit });
    }
    // A tree by length whose blocks lead to each other is not noticed by its order.
    let mut left = blocks.superblock.blocks_of(tree.group);
    let mut path = vec![read(blocks, tree, tree.root, tree.levels.minus(1))?];
    while let Some(block) = path.last_mut() {
        let number = block.next;
        block.next.increase(1);
        if number >= block.count {
            path.pop();
            continue;
        }
        let level = tree.levels.minus(to_u64(path.len()));
        let Some(block) = path.last() else { break };
        if level == 0 {
            let at = block.first.plus(number.times(RECORD));
            tell(
                u32_be(&block.bytes, at).into(),
                u32_be(&block.bytes, at.plus(4)).into(),
            )?;
            continue;
        }
        let at = block.first.plus(number.times(POINTER));
        let child = u32_be(&block.bytes, at).into();
        left = left
            .checked_sub(1)
            .ok_or(Doubt::State("a tree of its free space leads in a circle"))?;
        path.push(read(blocks, tree, child, level.minus(1))?);
    }
    Ok(())
}

/// A block of a tree, if it is what it should be.
fn read(blocks: Blocks<'_>, tree: Tree, number: u64, level: u64) -> Result<Block, Doubt> {
    let (view, superblock) = (blocks.view, blocks.superblock);
    let structure = tree.kind.structure();
    if number >= superblock.blocks_of(tree.group) {
        return Err(Doubt::State("a tree of its free space leads out of its group"));
    }
    let size = superblock.block_size;
    let at = superblock.block_at(tree.group, number);
    let bytes = blocks.read(structure, at, size, SUM)?;
    let field = |field, found: u64, expected| {
        Err(Doubt::Field {
            structure,
            at: view.position(at),
            field,
            found,
            expected,
        })
    };
    let magic = tree.kind.magic(superblock.has_crcs);
    if !bytes.starts_with(&magic) {
        let expected = Expected::Exactly(u32::from_be_bytes(magic).into());
        return field("magic", u32_be(&bytes, 0).into(), expected);
    }
    let (found_level, count) = {
        let both = u32_be(&bytes, LEVEL);
        (u64::from(both >> 16), u64::from(both & 0xffff))
    };
    if found_level != level {
        return field("level", found_level, Expected::Exactly(level));
    }
    let [old, new] = HEADER;
    let header = if superblock.has_crcs { new } else { old };
    let each = RECORD.plus(if level > 0 { POINTER } else { 0 });
    let room = to_usize(size.minus(header)).checked_div(each).unwrap_or(0);
    let is_empty_tree = tree.levels == 1;
    if to_usize(count) > room || (count == 0 && !is_empty_tree) {
        return field("numrecs", count, Expected::Between(1, to_u64(room)));
    }
    if superblock.has_crcs {
        let (blkno, owner) = (u64_be(&bytes, BLKNO), u64::from(u32_be(&bytes, OWNER)));
        if blkno != at / 512 {
            return field("blkno", blkno, Expected::Exactly(at / 512));
        }
        if owner != tree.group {
            return field("owner", owner, Expected::Exactly(tree.group));
        }
        if !bytes
            .get(UUID..)
            .is_some_and(|rest| rest.starts_with(&superblock.meta_uuid))
        {
            return Err(Doubt::State(
                "a block of its free space belongs to another filesystem",
            ));
        }
    }
    let keys = if level > 0 { room.times(RECORD) } else { 0 };
    Ok(Block {
        bytes,
        count: to_usize(count),
        first: to_usize(header).plus(keys),
        next: 0,
    })
}
