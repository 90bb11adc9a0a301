//! Where a journal begins.

use crate::units::{Exact, within};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::blocks::Blocks;
use crate::volumes::filesystems::ext::features::ro_compat;
use crate::volumes::filesystems::ext::groups::tables_of;
use crate::volumes::filesystems::ext::superblock::Superblock;
use crate::volumes::view::View;

/// Where the inode of a journal is, and what it takes to follow it.
#[derive(Clone, Copy, Debug)]
pub(super) struct JournalAt<'a> {
    /// The filesystem.
    pub(super) view: View<'a>,
    /// The size of its blocks, in bytes; a power of two from 1024 on.
    pub(super) block_size: u64,
    /// How many of them it has.
    pub(super) blocks: u64,
    /// The number of the journal's inode.
    pub(super) inode: u32,
    /// Where that begins, in bytes.
    pub(super) inode_at: u64,
    /// Its size, in bytes; a power of two from 128 on.
    pub(super) inode_size: u64,
    /// What checksums of metadata begin with, if there are any.
    pub(super) seed: Option<u32>,
}

impl<'a> JournalAt<'a> {
    /// That of an inode, as the disk has it: the kernel has read it before it replays anything.
    pub(super) fn of(superblock: &Superblock, blocks: &Blocks<'a>, inode: u32) -> Result<Self, Doubt> {
        let index = u64::from(inode).minus(1);
        let per_group = superblock.inodes_per_group;
        let group = index.checked_div(per_group).unwrap_or(0);
        let table = tables_of(superblock, blocks, group)?.inode_table.start;
        let inode_size = superblock.inode_size;
        let within = within(index, per_group).times(inode_size);
        let has_checksums = superblock.features.ro_compat(ro_compat::METADATA_CSUM);
        Ok(Self {
            view: blocks.view(),
            block_size: superblock.block_size,
            blocks: superblock.blocks_count,
            inode,
            inode_at: table.times(superblock.block_size).plus(within),
            inode_size,
            seed: has_checksums.then_some(superblock.checksum_seed),
        })
    }
}
