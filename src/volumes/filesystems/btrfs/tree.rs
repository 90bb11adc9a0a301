//! Trees: their items in order.

use super::block::{Block, Pointer};
use super::chunks::{Chunks, METADATA, SYSTEM};
use super::item::{Key, Root};
use super::superblock::Superblock;
use super::tree_id;
use crate::error::Expected;
use crate::units::{Exact, claimed_end};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// How many levels a tree may have: the kernel's limit.
const MAX_LEVELS: u8 = 8;

/// What it takes to read trees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trees<'a> {
    pub(super) view: View<'a>,
    pub(super) superblock: &'a Superblock,
    pub(super) chunks: &'a Chunks,
}

impl Trees<'_> {
    /// A block of a tree. If it is not right in one copy, it is read from the other.
    fn block(self, pointer: &Pointer) -> Result<Block, Doubt> {
        let (at, size) = (pointer.at, self.superblock.node_size);
        let range = at..claimed_end(at, size);
        let chunk = self.chunks.find(&range);
        let chunk = chunk.filter(|chunk| chunk.kind & (METADATA | SYSTEM) != 0);
        let Some(chunk) = chunk.filter(|_| at.is_multiple_of(self.superblock.sector_size)) else {
            return Err(Doubt::State("its trees lead out of the chunks of metadata"));
        };
        let mut doubt = Doubt::State("its chunks lie nowhere");
        let copies = chunk.places(&range).enumerate();
        for (number, place) in copies {
            match Block::read(self.view, self.superblock, pointer, place.start) {
                Ok(block) => return Ok(block),
                Err(found) if number == 0 => doubt = found,
                Err(_) => {}
            }
        }
        Err(doubt)
    }
}

/// The items of a tree in their order.
///
/// Keys ascend through all of it, and each block begins with the key that leads to it, so that no block comes twice.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    trees: Trees<'a>,
    owner: u64,
    /// From the root to a leaf: blocks, and the number of the item or pointer in each that it is at.
    path: Vec<(Block, usize)>,
    /// The key of the last item that it was at.
    last: Option<Key>,
    /// How many more blocks the tree may have.
    left: u64,
    /// Logical addresses of the blocks that were read.
    read: Vec<u64>,
}

impl<'a> Cursor<'a> {
    /// At the first item of a tree that is counted in the superblock.
    pub(super) fn new(trees: Trees<'a>, root: Root) -> Result<Self, Doubt> {
        let superblock = trees.superblock;
        if root.generation > superblock.generation {
            return Err(Doubt::State("its superblock is older than a tree"));
        }
        Self::bounded(trees, root, superblock.bytes_used.min(superblock.size))
    }

    /// The same of a tree of so many bytes at most.
    pub(super) fn bounded(trees: Trees<'a>, root: Root, bytes: u64) -> Result<Self, Doubt> {
        if root.level >= MAX_LEVELS {
            let (what, limit) = ("levels of a tree", MAX_LEVELS.into());
            return Err(Doubt::TooMany { what, limit });
        }
        let pointer = Pointer {
            at: root.at,
            owner: root.owner,
            generation: root.generation,
            level: root.level,
            first: None,
        };
        let mut cursor = Self {
            trees,
            owner: root.owner,
            path: Vec::new(),
            last: None,
            left: bytes.checked_div(trees.superblock.node_size).unwrap_or(0),
            read: Vec::new(),
        };
        cursor.enter(&pointer)?;
        cursor.settle()?;
        Ok(cursor)
    }

    /// The key of the item that it is at; none behind the last.
    pub(super) fn key(&self) -> Option<Key> {
        self.path.last().and(self.last)
    }

    /// The bytes of the item.
    pub(super) fn item(&self) -> &[u8] {
        let leaf = self.path.last();
        leaf.map_or(&[], |(block, number)| block.item(*number))
    }

    /// Moves to the next item.
    pub(super) fn advance(&mut self) -> Result<(), Doubt> {
        if let Some((_, number)) = self.path.last_mut() {
            number.increase(1);
        }
        self.settle()
    }

    /// Logical addresses of the blocks that were read.
    pub(super) fn into_read(self) -> Vec<u64> {
        self.read
    }

    /// What is wrong with a structure in the block that it is in.
    pub(super) fn field(
        &self,
        structure: &'static str,
        field: &'static str,
        found: u64,
        expected: Expected,
    ) -> Doubt {
        let at = self.path.last().map_or(0, |(block, _)| block.at);
        Doubt::Field {
            structure,
            at: self.trees.view.position(at),
            field,
            found,
            expected,
        }
    }

    /// Moves to an item, from a pointer or the end of a block.
    fn settle(&mut self) -> Result<(), Doubt> {
        while let Some((block, number)) = self.path.last() {
            if *number >= block.count {
                self.path.pop();
                if let Some((_, number)) = self.path.last_mut() {
                    number.increase(1);
                }
                continue;
            }
            let (key, level) = (block.key(*number), block.level);
            if self.last.is_some_and(|last| last >= key) {
                let structure = tree_id::structure(self.owner);
                let expected = Expected::That("behind that of the block before");
                return Err(self.field(structure, "first key", key.objectid, expected));
            }
            let Some(below) = level.checked_sub(1) else {
                self.last = Some(key);
                return Ok(());
            };
            let (at, generation) = block.pointer(*number);
            self.enter(&Pointer {
                at,
                owner: self.owner,
                generation,
                level: below,
                first: Some(key),
            })?;
        }
        Ok(())
    }

    fn enter(&mut self, pointer: &Pointer) -> Result<(), Doubt> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(Doubt::State("its trees have more blocks than there is room for"));
        };
        self.left = left;
        self.path.push((self.trees.block(pointer)?, 0));
        self.read.push(pointer.at);
        Ok(())
    }
}
