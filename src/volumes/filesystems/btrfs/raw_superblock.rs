//! The superblock as it is on the disk. Source: Linux, `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use crate::error::Expected;
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// Where it begins, and its length, in bytes.
pub(super) const OFFSET: u64 = 64 << 10;
pub(super) const SIZE: u64 = 4096;

/// What stands in it at 64.
pub(super) const MAGIC: &[u8; 8] = b"_BHRfS_M";
pub(super) const MAGIC_AT: u64 = OFFSET + 64;

pub(super) const STRUCTURE: &str = "superblock";

/// The device as it describes itself. Fields keep the names and the order of `struct btrfs_dev_item`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RawDevItem {
    /// 0.
    pub(super) devid: U64<LE>,
    /// 8: its size, in bytes.
    pub(super) total_bytes: U64<LE>,
    /// 16: of chunks on it, in bytes.
    pub(super) bytes_used: U64<LE>,
    /// 24.
    pub(super) io_align: U32<LE>,
    pub(super) io_width: U32<LE>,
    pub(super) sector_size: U32<LE>,
    /// 36.
    pub(super) kind: U64<LE>,
    /// 44.
    pub(super) generation: U64<LE>,
    /// 52.
    pub(super) start_offset: U64<LE>,
    /// 60.
    pub(super) dev_group: U32<LE>,
    pub(super) seek_speed: u8,
    pub(super) bandwidth: u8,
    /// 66.
    pub(super) uuid: [u8; 16],
    /// 82: of the filesystem.
    pub(super) fsid: [u8; 16],
}

const _: () = assert!(size_of::<RawDevItem>() == 98);

/// The superblock. Fields keep the names and the order of `struct btrfs_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSuperblock {
    /// 0: the checksum of the rest.
    pub(super) csum: [u8; 32],
    /// 32: the identity of the filesystem.
    pub(super) fsid: [u8; 16],
    /// 48: where this is, in bytes.
    pub(super) bytenr: U64<LE>,
    /// 56.
    pub(super) flags: U64<LE>,
    /// 64: `_BHRfS_M`.
    pub(super) magic: [u8; 8],
    /// 72: of the last transaction.
    pub(super) generation: U64<LE>,
    /// 80: logical addresses of the roots of the root tree, the chunk tree and the tree of logs; 0 if there is none.
    pub(super) root: U64<LE>,
    pub(super) chunk_root: U64<LE>,
    pub(super) log_root: U64<LE>,
    /// 104.
    pub(super) log_root_transid: U64<LE>,
    /// 112: of all devices, in bytes.
    pub(super) total_bytes: U64<LE>,
    /// 120: of all extents, in bytes.
    pub(super) bytes_used: U64<LE>,
    /// 128.
    pub(super) root_dir_objectid: U64<LE>,
    /// 136.
    pub(super) num_devices: U64<LE>,
    /// 144: in bytes.
    pub(super) sectorsize: U32<LE>,
    /// 148: of tree blocks, in bytes.
    pub(super) nodesize: U32<LE>,
    /// 152: the same.
    pub(super) leafsize: U32<LE>,
    /// 156.
    pub(super) stripesize: U32<LE>,
    /// 160: how many bytes of `sys_chunk_array` are in use.
    pub(super) sys_chunk_array_size: U32<LE>,
    /// 164.
    pub(super) chunk_root_generation: U64<LE>,
    /// 172.
    pub(super) compat_flags: U64<LE>,
    pub(super) compat_ro_flags: U64<LE>,
    pub(super) incompat_flags: U64<LE>,
    /// 196: the kind of checksum.
    pub(super) csum_type: U16<LE>,
    /// 198: how high the trees are.
    pub(super) root_level: u8,
    pub(super) chunk_root_level: u8,
    pub(super) log_root_level: u8,
    /// 201.
    pub(super) dev_item: RawDevItem,
    /// 299: zeros behind it.
    pub(super) label: [u8; 256],
    /// 555.
    pub(super) cache_generation: U64<LE>,
    pub(super) uuid_tree_generation: U64<LE>,
    /// 571: the identity in tree blocks, with the feature of that name.
    pub(super) metadata_uuid: [u8; 16],
    /// 587.
    pub(super) reserved: [u8; 224],
    /// 811: chunks that hold the chunk tree.
    pub(super) sys_chunk_array: [u8; 2048],
    /// 2859: roots of earlier transactions, for repairs; padding.
    pub(super) rest: [u8; 1237],
}

const _: () = assert!(size_of::<RawSuperblock>() == 4096);

/// What is wrong with a field of it.
pub(super) fn field(view: View<'_>, field: &'static str, found: u64, expected: Expected) -> Doubt {
    Doubt::Field {
        structure: STRUCTURE,
        at: view.position(OFFSET),
        field,
        found,
        expected,
    }
}
