//! Keys and items of trees. Source: Linux, `include/uapi/linux/btrfs_tree.h`.

use crate::units::Exact;
use crate::volumes::fields::{u8_at, u64_le};

/// The length of a key, in bytes.
pub(super) const KEY: usize = 17;

/// Kinds of items.
pub(super) const ROOT_ITEM: u8 = 132;
pub(super) const EXTENT_DATA: u8 = 108;
pub(super) const EXTENT_ITEM: u8 = 168;
pub(super) const METADATA_ITEM: u8 = 169;
pub(super) const TREE_BLOCK_REF: u8 = 176;
pub(super) const EXTENT_DATA_REF: u8 = 178;
pub(super) const SHARED_BLOCK_REF: u8 = 182;
pub(super) const SHARED_DATA_REF: u8 = 184;
pub(super) const BLOCK_GROUP_ITEM: u8 = 192;
pub(super) const FREE_SPACE_INFO: u8 = 198;
pub(super) const FREE_SPACE_EXTENT: u8 = 199;
pub(super) const FREE_SPACE_BITMAP: u8 = 200;
pub(super) const DEV_EXTENT: u8 = 204;
pub(super) const DEV_ITEM: u8 = 216;
pub(super) const CHUNK_ITEM: u8 = 228;
pub(super) const PERSISTENT_ITEM: u8 = 249;
pub(super) const DEV_REPLACE: u8 = 250;

/// What items are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) objectid: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl Key {
    /// The one that stands at an offset.
    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        Self {
            objectid: u64_le(bytes, at),
            kind: u8_at(bytes, at.plus(8)),
            offset: u64_le(bytes, at.plus(9)),
        }
    }
}

/// Where a tree begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// The number of the tree.
    pub(super) owner: u64,
    /// The logical address of its root.
    pub(super) at: u64,
    /// How many levels of blocks are below the root.
    pub(super) level: u8,
    /// Of the transaction that wrote the root.
    pub(super) generation: u64,
}

/// Where fields of a `ROOT_ITEM` are, in bytes, and its shortest length.
const GENERATION: usize = 160;
const BYTENR: usize = 176;
const REFS: usize = 216;
const LEVEL: usize = 238;
const SHORTEST: usize = 239;

impl Root {
    /// What a `ROOT_ITEM` says of a tree.
    pub(super) fn of_item(owner: u64, item: &[u8]) -> Option<Self> {
        (item.len() >= SHORTEST).then(|| Self {
            owner,
            at: u64_le(item, BYTENR),
            level: u8_at(item, LEVEL),
            generation: u64_le(item, GENERATION),
        })
    }
}

/// Whether a `ROOT_ITEM` is that of a tree that is not being deleted.
pub(super) fn is_alive(item: &[u8]) -> bool {
    item.get(REFS..REFS.plus(4))
        .is_some_and(|refs| refs.iter().any(|byte| *byte != 0))
}
