//! Log trees: what was synced since the last transaction. The trees of that do not know of it: the blocks of the logs,
//! the extents of files that they name, and what they have checksums of, are in use. Most extents are named twice so.
//! Source: Linux, `fs/btrfs/tree-log.c`; of what an item must be, `fs/btrfs/tree-checker.c`.

use std::ops::Range;

use super::chunks::{DATA, METADATA};
use super::item::{EXTENT_DATA, Key, ROOT_ITEM, Root};
use super::tree::{Cursor, Trees};
use super::tree_id;
use crate::units::{Exact, claimed_end, claimed_size, to_u64};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u8_at, u64_le};
use crate::volumes::map::Reason;

/// Checksums of data: the kind of the items, and what their keys have for an object.
const EXTENT_CSUM: u8 = 128;
const CHECKSUMS: u64 = 0_u64.wrapping_sub(10);

/// Kinds of other items that a log may have: inodes and references to them, Verity, attributes, changes of directories,
/// directories.
const OTHERS: [u8; 10] = [1, 12, 13, 24, 36, 37, 60, 72, 84, 96];

// Where fields of an `EXTENT_DATA` are, in bytes. What is in an extent has all of them, and nothing behind them.
const RAM_BYTES: usize = 8;
const COMPRESSION: usize = 16;
const TYPE: usize = 20;
const DISK_BYTENR: usize = 21;
const DISK_NUM_BYTES: usize = 29;
const OFFSET: usize = 37;
const NUM_BYTES: usize = 45;
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
                if let Some(range) = extent(cursor.item(), trees.superblock.sector_size)? {
                    add(trees, &range, DATA, Reason::Mapped, map)?;
                }
            }
            EXTENT_CSUM => add_summed(trees, key, cursor.item(), map)?,
            kind if OTHERS.contains(&kind) => {}
            _ => return Err(ODD),
        }
        cursor.advance()?;
    }
    add_blocks(trees, cursor, map)
}

/// Logical addresses of the extent of a piece of a file, unless it has none.
fn extent(item: &[u8], sector_size: u64) -> Result<Option<Range<u64>>, Doubt> {
    let number = |at| u64_le(item, at);
    let is_plain = u8_at(item, COMPRESSION) == 0;
    match u8_at(item, TYPE) {
        INLINE if item.len() > TYPE => {
            let length = to_u64(item.len().minus(DISK_BYTENR));
            let is_all = !is_plain || length == number(RAM_BYTES);
            is_all.then_some(None).ok_or(ODD)
        }
        REGULAR | RESERVED if item.len() == SIZE => {
            let (start, length) = (number(DISK_BYTENR), number(DISK_NUM_BYTES));
            // A hole has none.
            let is_hole = start == 0;
            // The piece lies in what the extent holds.
            let held = if is_plain { length } else { number(RAM_BYTES) };
            let is_within = is_hole || claimed_end(number(OFFSET), number(NUM_BYTES)) <= held;
            let is_aligned = [start, length, number(OFFSET), number(NUM_BYTES)]
                .iter()
                .all(|number| number.is_multiple_of(sector_size));
            if !is_aligned || !is_within || is_hole != (length == 0) {
                return Err(ODD);
            }
            Ok((!is_hole).then(|| start..claimed_end(start, length)))
        }
        _ => Err(ODD),
    }
}

/// Adds what an item has checksums of: sectors of data one after the other, maybe of several chunks.
fn add_summed(trees: Trees<'_>, key: Key, item: &[u8], map: &mut MapBuilder) -> Result<(), Doubt> {
    let (each, sector_size) = (trees.superblock.sums.size(), trees.superblock.sector_size);
    let is_one = key.objectid == CHECKSUMS
        && key.offset.is_multiple_of(sector_size)
        && !item.is_empty()
        && item.len().is_multiple_of(each);
    if !is_one {
        return Err(ODD);
    }
    let sectors = to_u64(item.len().checked_div(each).unwrap_or(0));
    let (mut start, end) = (
        key.offset,
        claimed_end(key.offset, claimed_size(sectors, sector_size)),
    );
    while start < end {
        let chunk = trees.chunks.find(&(start..start));
        let behind = chunk.map_or(end, |chunk| chunk.end().min(end));
        add(trees, &(start..behind), DATA, Reason::Mapped, map)?;
        start = behind;
    }
    Ok(())
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
