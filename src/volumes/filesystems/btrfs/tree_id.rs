//! Numbers of trees. Source: Linux, `include/uapi/linux/btrfs_tree.h`.

pub(super) const ROOT: u64 = 1;
pub(super) const EXTENT: u64 = 2;
pub(super) const CHUNK: u64 = 3;
pub(super) const DEVICE: u64 = 4;
pub(super) const FREE_SPACE: u64 = 10;
pub(super) const BLOCK_GROUP: u64 = 11;
/// -6: of each log, and of the tree that lists them.
pub(super) const LOG: u64 = 6_u64.wrapping_neg();
/// -8: of trees that a balance works with.
pub(super) const RELOCATION: u64 = LOG - 2;

/// What messages call a block of a tree.
pub(super) fn structure(owner: u64) -> &'static str {
    match owner {
        ROOT => "block of the root tree",
        EXTENT => "block of the extent tree",
        CHUNK => "block of the chunk tree",
        DEVICE => "block of the device tree",
        FREE_SPACE => "block of the free space tree",
        BLOCK_GROUP => "block of the block group tree",
        _ => "block of a log tree",
    }
}
