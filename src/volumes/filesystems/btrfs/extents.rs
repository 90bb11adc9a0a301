//! The extent tree: what of each chunk is in use. What it leaves is free, and the free space tree, if there is one that
//! can be used, must say the same. Source: Linux, `include/uapi/linux/btrfs_tree.h`, `struct btrfs_extent_item`.

use std::ops::Range;

use super::chunks::{Chunk, DATA, METADATA, SYSTEM};
use super::free_space::FreeSpace;
use super::groups::Groups;
use super::item::{
    BLOCK_GROUP_ITEM, EXTENT_DATA_REF, EXTENT_ITEM, Key, METADATA_ITEM, Root, SHARED_BLOCK_REF,
    SHARED_DATA_REF, TREE_BLOCK_REF,
};
use super::tree::{Cursor, Trees};
use crate::units::Exact;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u64_le;
use crate::volumes::map::Reason;

/// Where the flags of an item are, in bytes, and its shortest length.
const FLAGS: usize = 16;
const SHORTEST: usize = 24;

/// What an extent holds.
const IS_DATA: u64 = 1;
const IS_TREE_BLOCK: u64 = 2;

/// A walk through the chunks.
#[derive(Debug)]
pub(super) struct Walk<'a, 'm> {
    trees: Trees<'a>,
    cursor: Cursor<'a>,
    free_space: Option<FreeSpace<'a>>,
    groups: Groups,
    map: &'m mut MapBuilder,
    /// Extents that touch each other, and what they hold, which are not in the map yet.
    run: Option<(Range<u64>, Reason)>,
}

/// An extent.
#[derive(Debug)]
struct Extent {
    range: Range<u64>,
    reason: Reason,
}

impl<'a, 'm> Walk<'a, 'm> {
    /// In front of the first chunk.
    pub(super) fn new(
        trees: Trees<'a>,
        root: Root,
        free_space: Option<FreeSpace<'a>>,
        groups: Groups,
        map: &'m mut MapBuilder,
    ) -> Result<Self, Doubt> {
        Ok(Self {
            trees,
            cursor: Cursor::new(trees, root)?,
            free_space,
            groups,
            map,
            run: None,
        })
    }

    /// Adds all chunks. Returns logical addresses of the blocks that were read.
    pub(super) fn finish(mut self) -> Result<Vec<u64>, Doubt> {
        let mut used = 0_u64;
        for (number, chunk) in self.trees.chunks.iter().enumerate() {
            let counted = self.chunk(chunk)?;
            self.groups.check(number, counted)?;
            // Chunks are apart.
            used.increase(counted);
        }
        if self.cursor.key().is_some() {
            return Err(OUTSIDE);
        }
        let recorded = self.trees.superblock.bytes_used;
        if used != recorded {
            return Err(Doubt::Count {
                what: "bytes in use",
                recorded,
                counted: used,
            });
        }
        let mut read = self.cursor.into_read();
        read.extend(self.free_space.into_iter().flat_map(FreeSpace::into_read));
        Ok(read)
    }

    /// Adds a chunk: returns how many of its bytes are in use.
    fn chunk(&mut self, chunk: &Chunk) -> Result<u64, Doubt> {
        if let Some(free_space) = &mut self.free_space {
            free_space.begin(chunk)?;
        }
        let (mut used, mut end, mut last) = (0_u64, chunk.start, None);
        while let Some(key) = self.cursor.key().filter(|key| key.objectid < chunk.end()) {
            match key.kind {
                EXTENT_ITEM | METADATA_ITEM => {
                    let Extent { range, reason } = self.extent(chunk, key)?;
                    if range.start < end {
                        return Err(OUTSIDE);
                    }
                    self.free(chunk, end..range.start)?;
                    used.increase(range.end.minus(range.start));
                    (end, last) = (range.end, Some(range.start));
                    self.used(chunk, range, reason);
                }
                BLOCK_GROUP_ITEM if !self.trees.superblock.has_block_group_tree => {
                    self.groups.add(self.trees.chunks, key, self.cursor.item())?;
                }
                TREE_BLOCK_REF | EXTENT_DATA_REF | SHARED_BLOCK_REF | SHARED_DATA_REF
                    if last == Some(key.objectid) => {}
                _ => return Err(Doubt::State("its extent tree has an item that is not known")),
            }
            self.cursor.advance()?;
        }
        self.free(chunk, end..chunk.end())?;
        self.flush(chunk);
        if let Some(free_space) = &mut self.free_space {
            free_space.finish()?;
        }
        Ok(used)
    }

    /// The extent that the cursor is at, in a chunk that may hold it.
    fn extent(&self, chunk: &Chunk, key: Key) -> Result<Extent, Doubt> {
        let (item, superblock) = (self.cursor.item(), self.trees.superblock);
        let flags = u64_le(item, FLAGS) & (IS_DATA | IS_TREE_BLOCK);
        let is_tree_block = flags == IS_TREE_BLOCK;
        let length = match key.kind {
            METADATA_ITEM => superblock.node_size,
            _ => key.offset,
        };
        let (kinds, reason) = if is_tree_block {
            (METADATA | SYSTEM, Reason::Metadata)
        } else {
            (DATA, Reason::Mapped)
        };
        let is_one = item.len() >= SHORTEST
            && (is_tree_block || flags == IS_DATA)
            && (is_tree_block || key.kind == EXTENT_ITEM)
            && (!is_tree_block || length == superblock.node_size)
            && chunk.kind & kinds != 0
            && length > 0
            && [key.objectid, length]
                .iter()
                .all(|number| number.is_multiple_of(superblock.sector_size));
        if !is_one {
            return Err(Doubt::State("its extent tree has an extent that cannot be"));
        }
        match key.objectid.checked_add(length) {
            Some(end) if end <= chunk.end() => Ok(Extent {
                range: key.objectid..end,
                reason,
            }),
            _ => Err(OUTSIDE),
        }
    }

    /// Adds what is free between extents.
    fn free(&mut self, chunk: &Chunk, range: Range<u64>) -> Result<(), Doubt> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some(free_space) = &mut self.free_space {
            free_space.expect(&range)?;
        }
        for place in chunk.places(&range) {
            self.map.free(place);
        }
        Ok(())
    }

    /// Adds an extent.
    fn used(&mut self, chunk: &Chunk, range: Range<u64>, reason: Reason) {
        match &mut self.run {
            Some((run, same)) if run.end == range.start && *same == reason => run.end = range.end,
            _ => {
                self.flush(chunk);
                self.run = Some((range, reason));
            }
        }
    }

    /// Adds extents to the map.
    fn flush(&mut self, chunk: &Chunk) {
        if let Some((run, reason)) = self.run.take() {
            for place in chunk.places(&run) {
                self.map.used(place, reason);
            }
        }
    }
}

const OUTSIDE: Doubt = Doubt::State("its extents overlap, or lie outside of its chunks");
