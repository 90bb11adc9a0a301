//! The bytes of the superblock.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64};

/// Where it begins, in bytes: whatever the block size.
pub(super) const OFFSET: u64 = 1024;

/// All 1024 bytes. Fields keep the names of the documentation.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RawSuperblock {
    /// 0x0.
    pub(super) s_inodes_count: U32<LE>,
    /// 0x4.
    pub(super) s_blocks_count_lo: U32<LE>,
    /// 0x8: blocks that only the superuser may fill.
    pub(super) s_r_blocks_count_lo: U32<LE>,
    /// 0xc: in blocks, even with bigalloc.
    pub(super) s_free_blocks_count_lo: U32<LE>,
    /// 0x10.
    pub(super) s_free_inodes_count: U32<LE>,
    /// 0x14: the block that the first group begins with; 1 if blocks have 1 KiB and clusters, too.
    pub(super) s_first_data_block: U32<LE>,
    /// 0x18: the size of a block is 1 KiB shifted by it.
    pub(super) s_log_block_size: U32<LE>,
    /// 0x1c: the size of a cluster is 1 KiB shifted by it.
    pub(super) s_log_cluster_size: U32<LE>,
    /// 0x20.
    pub(super) s_blocks_per_group: U32<LE>,
    /// 0x24: the number of bits in a bitmap that mean something.
    pub(super) s_clusters_per_group: U32<LE>,
    /// 0x28.
    pub(super) s_inodes_per_group: U32<LE>,
    /// 0x2c: times and numbers of mounts.
    pub(super) mounts: [u8; 12],
    /// 0x38: 0xef53.
    pub(super) s_magic: U16<LE>,
    /// 0x3a: 1 if all is well.
    pub(super) s_state: U16<LE>,
    /// 0x3c: what to do about errors.
    pub(super) s_errors: U16<LE>,
    /// 0x3e.
    pub(super) s_minor_rev_level: U16<LE>,
    /// 0x40: times of checks, creator.
    pub(super) checks: [u8; 12],
    /// 0x4c: 0, in which nothing below has a meaning, or 1.
    pub(super) s_rev_level: U32<LE>,
    /// 0x50: who may use reserved blocks.
    pub(super) reserved_for: [u8; 4],
    /// 0x54.
    pub(super) s_first_ino: U32<LE>,
    /// 0x58: in bytes.
    pub(super) s_inode_size: U16<LE>,
    /// 0x5a: the group that this copy lies in.
    pub(super) s_block_group_nr: U16<LE>,
    /// 0x5c: features, as are the two below.
    pub(super) s_feature_compat: U32<LE>,
    /// 0x60.
    pub(super) s_feature_incompat: U32<LE>,
    /// 0x64.
    pub(super) s_feature_ro_compat: U32<LE>,
    /// 0x68.
    pub(super) s_uuid: [u8; 16],
    /// 0x78: zeros behind it.
    pub(super) s_volume_name: [u8; 16],
    /// 0x88: where it was mounted, and hints.
    pub(super) last_mounted: [u8; 70],
    /// 0xce: blocks behind the group descriptors that are kept for more of them.
    pub(super) s_reserved_gdt_blocks: U16<LE>,
    /// 0xd0: that of an external journal.
    pub(super) s_journal_uuid: [u8; 16],
    /// 0xe0: the inode of the journal; 0 if that is external.
    pub(super) s_journal_inum: U32<LE>,
    /// 0xe4: the device of an external journal.
    pub(super) s_journal_dev: U32<LE>,
    /// 0xe8: the first of the inodes that were deleted while in use.
    pub(super) s_last_orphan: U32<LE>,
    /// 0xec: for directories.
    pub(super) hashes: [u8; 17],
    /// 0xfd: 1 if `s_jnl_blocks` is set.
    pub(super) s_jnl_backup_type: u8,
    /// 0xfe: of a group descriptor with 64bit, in bytes.
    pub(super) s_desc_size: U16<LE>,
    /// 0x100.
    pub(super) s_default_mount_opts: U32<LE>,
    /// 0x104: how many blocks of group descriptors stand behind the superblock; those after them are spread.
    pub(super) s_first_meta_bg: U32<LE>,
    /// 0x108.
    pub(super) s_mkfs_time: U32<LE>,
    /// 0x10c: `i_block`, `i_size_high` and `i_size` of the journal's inode.
    pub(super) s_jnl_blocks: [U32<LE>; 17],
    /// 0x150: with 64bit.
    pub(super) s_blocks_count_hi: U32<LE>,
    /// 0x154: with 64bit.
    pub(super) s_r_blocks_count_hi: U32<LE>,
    /// 0x158: with 64bit.
    pub(super) s_free_blocks_count_hi: U32<LE>,
    /// 0x15c: sizes of inodes, flags, hints.
    pub(super) hints: [u8; 12],
    /// 0x168: the block of multiple mount protection.
    pub(super) s_mmp_block: U64<LE>,
    /// 0x170: a hint.
    pub(super) s_raid_stripe_width: U32<LE>,
    /// 0x174: the number of groups whose tables lie together, as a power of two. Nothing here depends on it.
    pub(super) s_log_groups_per_flex: u8,
    /// 0x175: 1, which is CRC-32C.
    pub(super) s_checksum_type: u8,
    /// 0x176: encryption, snapshots, errors, mount options, quota.
    pub(super) others: [u8; 214],
    /// 0x24c: with `sparse_super2`: the groups that have copies of the superblock, 0 for none.
    pub(super) s_backup_bgs: [U32<LE>; 2],
    /// 0x254: encryption, lost+found.
    pub(super) more: [u8; 24],
    /// 0x26c: the inode of the quotas of projects.
    pub(super) s_prj_quota_inum: U32<LE>,
    /// 0x270: with `metadata_csum_seed`.
    pub(super) s_checksum_seed: U32<LE>,
    /// 0x274: high bits of times, encoding of names.
    pub(super) times_and_encoding: [u8; 12],
    /// 0x280: the inode that lists inodes which were deleted while in use.
    pub(super) s_orphan_file_inum: U32<LE>,
    /// 0x284.
    pub(super) reserved: [u8; 376],
    /// 0x3fc: CRC-32C of all before it, with `metadata_csum`.
    pub(super) s_checksum: U32<LE>,
}

const _: () = assert!(size_of::<RawSuperblock>() == 1024);
