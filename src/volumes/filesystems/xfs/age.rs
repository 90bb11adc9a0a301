//! When a block was written: the log sequence number that structures of version 5 have. Source: Linux,
//! `fs/xfs/xfs_buf_item_recover.c`.

use super::superblock::{MAGIC, Superblock};
use crate::volumes::fields::u64_be;

/// Blocks of trees in a group: of free space, owners, shared blocks, inodes.
const SHORT: [&[u8; 4]; 10] = [
    b"AB3B", b"AB3C", b"ABTB", b"ABTC", b"RMB3", b"R3FC", b"IAB3", b"IABT", b"FIB3", b"FIBT",
];

/// Blocks of trees of extents.
const LONG: [&[u8; 4]; 2] = [b"BMA3", b"BMAP"];

/// The log sequence number of the last change that a structure on the disk has; none if it is no structure of this
/// filesystem, or of a kind that has none.
pub(super) fn written(bytes: &[u8], superblock: &Superblock) -> Option<u64> {
    let magic: &[u8; 4] = bytes.first_chunk()?;
    let (at, uuids): (usize, &[usize]) = if magic == MAGIC {
        (240, &[32, 248])
    } else if magic == b"XAGF" {
        (208, &[64])
    } else if SHORT.contains(&magic) {
        (24, &[32])
    } else if LONG.contains(&magic) {
        (32, &[40])
    } else {
        return None;
    };
    let is_its_own = |at: &usize| {
        let rest = bytes.get(*at..);
        rest.is_some_and(|rest| rest.starts_with(&superblock.meta_uuid))
    };
    uuids.iter().any(is_its_own).then(|| u64_be(bytes, at))
}
