//! Log trees: what was synced since the last transaction. The trees of that do not know of it: the blocks of the logs,
//! and the extents of files that they name, are in use. Source: Linux, `fs/btrfs/tree-log.c`.

use std::ops::Range;

use super::chunks::{DATA, METADATA};
use super::item::{EXTENT_DATA, ROOT_ITEM, Root};
use super::tree::{Cursor, Trees};
use super::tree_id;
use crate::units::{claimed_end, claimed_size, to_u64};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u8_at, u64_le};
use crate::volumes::map::Reason;

/// Kinds of other items that a log may have: inodes and references to them, Verity, attributes, changes of directories,
/// directories, checksums.
const OTHERS: [u8; 11] = [1, 12, 13, 24, 36, 37, 60, 72, 84, 96, 128];

// Where fields of an `EXTENT_DATA` are, in bytes, and its length, if its data is not in it.
const TYPE: usize = 20;
const DISK_BYTENR: usize = 21;
const DISK_NUM_BYTES: usize = 29;
const SIZE: usize = 53;

/// Types of those whose data is in them, in an extent, and in one that is only reserved.
const INLINE: u8 = 0;
const REGULAR: u8 = 1;
const RESERVED: u8 = 2;

const ODD: Doubt = Doubt::State("its logs have an item that is not known");

/// Adds what the logs have in use, if there are any.
pub(super) fn read(trees: Trees<'_>, map: &mut MapBuilder) -> Result<(), Doubt> {
    let Some(root) = trees.superblock.log_root else {
        return Ok(());
    };
    // How many bytes of blocks all logs may have together.
    let mut left = trees.superblock.size;
    let mut cursor = Cursor::bounded(trees, root, left)?;
    while let Some(key) = cursor.key() {
        let log = Root::of_item(tree_id::LOG, cursor.item());
        match log {
            Some(log) if (key.objectid, key.kind) == (tree_id::LOG, ROOT_ITEM) => {
                left = left.saturating_sub(read_log(trees, log, left, map)?);
            }
            _ => return Err(ODD),
        }
        cursor.advance()?;
    }
    add_blocks(trees, cursor, map)?;
    Ok(())
}

/// Adds what a log has in use. Returns how many bytes its blocks have, of `left` at most.
fn read_log(trees: Trees<'_>, root: Root, left: u64, map: &mut MapBuilder) -> Result<u64, Doubt> {
    let mut cursor = Cursor::bounded(trees, root, left)?;
    while let Some(key) = cursor.key() {
        match key.kind {
            EXTENT_DATA => {
                if let Some(range) = extent(cursor.item())? {
                    add(trees, &range, DATA, Reason::Mapped, map)?;
                }
            }
            kind if OTHERS.contains(&kind) => {}
            _ => return Err(ODD),
        }
        cursor.advance()?;
    }
    add_blocks(trees, cursor, map)
}

/// Logical addresses of the extent of a piece of a file, unless it has none.
fn extent(item: &[u8]) -> Result<Option<Range<u64>>, Doubt> {
    match u8_at(item, TYPE) {
        INLINE if item.len() > TYPE => Ok(None),
        REGULAR | RESERVED if item.len() == SIZE => {
            let start = u64_le(item, DISK_BYTENR);
            // A hole.
            let is_there = start != 0;
            Ok(is_there.then(|| start..claimed_end(start, u64_le(item, DISK_NUM_BYTES))))
        }
        _ => Err(ODD),
    }
}

/// Adds the blocks of a log. Returns how many bytes they have.
fn add_blocks(trees: Trees<'_>, cursor: Cursor<'_>, map: &mut MapBuilder) -> Result<u64, Doubt> {
    let (blocks, size) = (cursor.into_read(), trees.superblock.node_size);
    for at in &blocks {
        add(
            trees,
            &(*at..claimed_end(*at, size)),
            METADATA,
            Reason::Metadata,
            map,
        )?;
    }
    Ok(claimed_size(to_u64(blocks.len()), size))
}

/// Adds a range of logical addresses that is in use, in a chunk that may hold it.
fn add(
    trees: Trees<'_>,
    range: &Range<u64>,
    kind: u64,
    reason: Reason,
    map: &mut MapBuilder,
) -> Result<(), Doubt> {
    let chunk = trees.chunks.find(range);
    let Some(chunk) = chunk.filter(|chunk| chunk.kind & kind != 0 && !range.is_empty()) else {
        return Err(Doubt::State("its logs name an extent outside of the chunks"));
    };
    for place in chunk.places(range) {
        map.used(place, reason);
    }
    Ok(())
}
