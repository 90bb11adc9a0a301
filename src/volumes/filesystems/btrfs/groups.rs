//! Block groups: how much of each chunk is in use. Source: Linux, `include/uapi/linux/btrfs_tree.h`, `struct
//! btrfs_block_group_item`.

use super::chunks::Chunks;
use super::item::{BLOCK_GROUP_ITEM, Key, Root};
use super::tree::{Cursor, Trees};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u64_le;

// Where fields of an item are, in bytes, and its length.
const USED: usize = 0;
const FLAGS: usize = 16;
const SIZE: usize = 24;

/// How many bytes are recorded as used in each chunk, by its number, as far as that is known.
#[derive(Debug)]
pub(super) struct Groups(Vec<Option<u64>>);

impl Groups {
    /// None is known yet.
    pub(super) fn new(chunks: &Chunks) -> Self {
        Self(vec![None; chunks.len()])
    }

    /// Adds those of a tree of their own. Returns logical addresses of the blocks that were read.
    pub(super) fn read(&mut self, trees: Trees<'_>, root: Root) -> Result<Vec<u64>, Doubt> {
        let mut cursor = Cursor::new(trees, root)?;
        while let Some(key) = cursor.key() {
            if key.kind != BLOCK_GROUP_ITEM {
                return Err(Doubt::State("its block group tree has an item that is not known"));
            }
            self.add(trees.chunks, key, cursor.item())?;
            cursor.advance()?;
        }
        Ok(cursor.into_read())
    }

    /// Adds one, which must have a chunk.
    pub(super) fn add(&mut self, chunks: &Chunks, key: Key, item: &[u8]) -> Result<(), Doubt> {
        let number = chunks.number(key.objectid);
        let chunk = number.and_then(|number| chunks.iter().nth(number));
        let is_that =
            chunk.is_some_and(|chunk| (chunk.length, chunk.kind) == (key.offset, u64_le(item, FLAGS)));
        let group = number.and_then(|number| self.0.get_mut(number));
        match group {
            Some(group) if is_that && item.len() == SIZE => {
                *group = Some(u64_le(item, USED));
                Ok(())
            }
            _ => Err(Doubt::State("its block groups are not those of its chunks")),
        }
    }

    /// Makes sure that so much of a chunk is recorded as used.
    pub(super) fn check(&self, number: usize, counted: u64) -> Result<(), Doubt> {
        let Some(recorded) = self.0.get(number).copied().flatten() else {
            return Err(Doubt::State("its chunks are not those of its block groups"));
        };
        if recorded != counted {
            let what = "bytes in use of a block group";
            return Err(Doubt::Count {
                what,
                recorded,
                counted,
            });
        }
        Ok(())
    }
}
