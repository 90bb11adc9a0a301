//! The device tree: which bytes of the device are in chunks, which must be those of the chunk tree. What is in none is
//! free, but for the first MiB and the superblocks. Source: Linux, `include/uapi/linux/btrfs_tree.h`, `struct
//! btrfs_dev_extent`, `struct btrfs_dev_replace_item`; `fs/btrfs/block-group.c`, `exclude_super_stripes`.

use std::ops::Range;

use super::item::{DEV_EXTENT, DEV_REPLACE, PERSISTENT_ITEM, Root};
use super::raw_superblock::OFFSET;
use super::tree::{Cursor, Trees};
use crate::units::{Exact, claimed_end};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u64_le;
use crate::volumes::map::Reason;

/// What no chunk has: the first MiB.
const RESERVED: Range<u64> = 0..1 << 20;

/// Where superblocks are, and how much no extent has for each, in bytes.
const SUPERBLOCKS: [u64; 3] = [OFFSET, 64 << 20, 256 << 30];
const KEPT: u64 = 64 << 10;

// Where fields of a device extent are, in bytes, and its length.
const CHUNK_OFFSET: usize = 16;
const LENGTH: usize = 24;
const SIZE: usize = 48;

/// Where the state of a replacement is, in bytes; and the states of one that never began, has ended, or was cancelled.
const REPLACE_STATE: usize = 32;
const NOT_REPLACING: [u64; 3] = [0, 2, 3];

/// Adds what is in no chunk, and what is in use wherever it is. Returns logical addresses of the blocks that were
/// read.
pub(super) fn read(trees: Trees<'_>, root: Root, map: &mut MapBuilder) -> Result<Vec<u64>, Doubt> {
    let size = trees.superblock.size;
    let mut stripes = Vec::new();
    for chunk in trees.chunks.iter() {
        stripes.extend(chunk.stripes().map(|at| (at, chunk.start, chunk.length)));
    }
    stripes.sort_unstable();
    let mut expected = stripes.into_iter();
    let mut end = 0;
    let mut cursor = Cursor::new(trees, root)?;
    while let Some(key) = cursor.key() {
        let item = cursor.item();
        match key.kind {
            PERSISTENT_ITEM => {}
            DEV_REPLACE if NOT_REPLACING.contains(&u64_le(item, REPLACE_STATE)) => {}
            DEV_REPLACE => return Err(Doubt::State("its device is being replaced")),
            DEV_EXTENT => {
                let found = (key.offset, u64_le(item, CHUNK_OFFSET), u64_le(item, LENGTH));
                let is_one = key.objectid == trees.superblock.device.devid.get() && item.len() == SIZE;
                if !is_one || expected.next() != Some(found) {
                    return Err(DIFFER);
                }
                if key.offset < end {
                    return Err(Doubt::State("its chunks overlap on the device"));
                }
                map.free(end..key.offset);
                // No stripe ends behind the device.
                end = key.offset.plus(found.2);
            }
            _ => return Err(Doubt::State("its device tree has an item that is not known")),
        }
        cursor.advance()?;
    }
    if expected.next().is_some() {
        return Err(DIFFER);
    }
    map.free(end..size);
    map.used(RESERVED, Reason::Metadata);
    for at in SUPERBLOCKS {
        map.used(at..claimed_end(at, KEPT), Reason::Metadata);
    }
    Ok(cursor.into_read())
}

const DIFFER: Doubt = Doubt::State("its chunk tree and its device tree do not agree");
