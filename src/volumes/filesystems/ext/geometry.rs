//! Where the groups lie, and the copies of the superblock and of the group descriptors in them. Source: the kernel's
//! documentation of ext4, "Layout", "Meta Block Groups".

use std::ops::Range;

use super::features::{compat, incompat, ro_compat};
use super::raw_superblock::OFFSET;
use super::superblock::Superblock;
use crate::units::{Exact, length, within};

impl Superblock {
    /// The blocks of a group. There are at most 2^21 groups, of no more than 2^38 blocks.
    pub(in crate::volumes) fn blocks_of(&self, group: u64) -> Range<u64> {
        let start = group.times(self.blocks_per_group).plus(self.first_data_block);
        let end = start.plus(self.blocks_per_group).min(self.blocks_count);
        start.min(end)..end
    }

    /// How many bits of the bitmap of a group stand for blocks that are there.
    pub(super) fn clusters_of(&self, group: u64) -> u64 {
        length(&self.blocks_of(group)).div_ceil(self.cluster_blocks.max(1))
    }

    /// The cluster of its group that a block lies in.
    pub(super) fn cluster_of(&self, block: u64) -> u64 {
        let block = block.minus(self.first_data_block);
        within(block, self.blocks_per_group)
            .checked_div(self.cluster_blocks)
            .unwrap_or(0)
    }

    /// The block that holds block `index` of the group descriptors.
    pub(super) fn descriptor_block(&self, index: u64) -> u64 {
        if !self.is_spread(index) {
            return self.front(0).plus(1).plus(index);
        }
        let group = index.times(self.descriptors_per_block());
        self.front(group).plus(self.has_superblock(group).into())
    }

    /// What of a group is the superblock or a copy, group descriptors or a copy, or kept for more of those; in group
    /// 0 what is in front of it as well. Maybe empty. It does not reach behind the end of the filesystem.
    pub(super) fn front_matter(&self, group: u64) -> Range<u64> {
        let has_superblock = self.has_superblock(group);
        let index = group.checked_div(self.descriptors_per_block()).unwrap_or(0);
        let descriptors = if self.is_spread(index) {
            self.has_spread_copy(group).into()
        } else if !has_superblock {
            0
        } else if self.features.incompat(incompat::META_BG) {
            self.first_meta_bg
        } else {
            self.descriptor_blocks().plus(self.reserved_gdt_blocks)
        };
        let front = self.front(group);
        let end = front.plus(has_superblock.into()).plus(descriptors);
        let start = if group == 0 { 0 } else { front };
        start..end.min(self.blocks_count)
    }

    /// The first block of a group that may hold a superblock.
    pub(super) fn front(&self, group: u64) -> u64 {
        let start = self.blocks_of(group).start;
        // Boot code is in front of the first one, in the same block unless that has 1 KiB.
        start.max(OFFSET.checked_div(self.block_size).unwrap_or(0))
    }

    /// Whether a block of group descriptors lies in the groups that it is about, and not behind the superblock.
    fn is_spread(&self, index: u64) -> bool {
        self.features.incompat(incompat::META_BG) && index >= self.first_meta_bg
    }

    /// Whether a group has one of the three copies of the block of descriptors that it is in.
    fn has_spread_copy(&self, group: u64) -> bool {
        let per_block = self.descriptors_per_block();
        let number = within(group, per_block);
        number == 0 || number == 1 || number == per_block.minus(1)
    }

    pub(super) fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.compat(compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if !self.features.ro_compat(ro_compat::SPARSE_SUPER) || group == 1 {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| is_power_of(base, group))
    }
}

fn is_power_of(base: u64, mut number: u64) -> bool {
    while number > 1 && number.checked_rem(base) == Some(0) {
        number = number.checked_div(base).unwrap_or(0);
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::super::features::Features;
    use super::*;

    /// 100 groups of 4 KiB blocks with descriptors of 64 bytes, as mke2fs makes them, reserve aside.
    fn plain() -> Superblock {
        Superblock {
            features: Features {
                compat: 0,
                incompat: 0,
                ro_compat: ro_compat::SPARSE_SUPER,
            },
            block_size: 4096,
            blocks_count: 100 * 32768 - 5,
            first_data_block: 0,
            cluster_blocks: 1,
            blocks_per_group: 32768,
            clusters_per_group: 32768,
            groups_count: 100,
            inodes_per_group: 8192,
            inode_size: 256,
            inode_table_blocks: 512,
            descriptor_size: 64,
            first_meta_bg: 0,
            reserved_gdt_blocks: 0,
            backup_groups: [0, 0],
            free_blocks_count: 0,
            mmp_block: None,
            checksum_seed: 0,
            uuid: [0; 16],
            label: None,
            journal: None,
            own_inodes: [0; 3],
            may_have_orphans: false,
        }
    }

    fn with_copies(superblock: &Superblock) -> Vec<u64> {
        (0..superblock.groups_count)
            .filter(|group| superblock.has_superblock(*group))
            .collect()
    }

    #[test]
    fn copies_of_the_superblock_are_where_the_features_say() {
        let mut it = plain();
        assert_eq!(with_copies(&it), [0, 1, 3, 5, 7, 9, 25, 27, 49, 81]);
        it.features.compat = compat::SPARSE_SUPER2;
        assert_eq!(with_copies(&it), [0]);
        it.backup_groups = [1, 99];
        assert_eq!(with_copies(&it), [0, 1, 99]);
        it.features = Features::default();
        assert_eq!(with_copies(&it).len(), 100);
    }

    #[test]
    fn descriptors_stand_behind_the_superblock_and_its_copies() {
        let mut it = plain();
        it.reserved_gdt_blocks = 10;
        assert_eq!(it.descriptor_blocks(), 2);
        assert_eq!([0, 1].map(|index| it.descriptor_block(index)), [1, 2]);
        assert_eq!(it.front_matter(0), 0..13);
        assert_eq!(it.front_matter(3), 3 * 32768..3 * 32768 + 13);
        assert!(it.front_matter(2).is_empty());
        // Blocks of 1 KiB: block 0 is in no group.
        it = Superblock {
            block_size: 1024,
            first_data_block: 1,
            reserved_gdt_blocks: 0,
            ..it
        };
        assert_eq!(it.descriptor_blocks(), 7);
        assert_eq!(it.descriptor_block(0), 2);
        assert_eq!(it.front_matter(0), 0..9);
        assert_eq!(it.front_matter(1), 32769..32769 + 8);
        // With clusters it is, and in front of the superblock nonetheless.
        it.first_data_block = 0;
        assert_eq!(it.descriptor_block(0), 2);
        assert_eq!(it.front_matter(0), 0..9);
        assert_eq!(it.front_matter(1), 32768..32768 + 8);
    }

    #[test]
    fn spread_descriptors_are_in_the_groups_that_they_are_about() {
        let mut it = plain();
        it.features.incompat = incompat::META_BG;
        // 64 descriptors a block: groups 0, 1 and 63 have the first block, 64, 65 and 127 (which is not there) the
        // second.
        assert_eq!(it.descriptor_block(0), 1);
        assert_eq!(it.descriptor_block(1), 64 * 32768);
        let length = |it: &Superblock, group| length(&it.front_matter(group));
        assert_eq!(
            [0, 1, 2, 3, 63, 64, 65, 81].map(|group| length(&it, group)),
            [2, 2, 0, 1, 1, 1, 1, 1]
        );
        // The first block of descriptors still behind the superblocks.
        it.first_meta_bg = 1;
        assert_eq!(it.descriptor_block(0), 1);
        assert_eq!(it.descriptor_block(1), 64 * 32768);
        assert_eq!(
            [0, 1, 3, 63, 64, 65, 81].map(|group| length(&it, group)),
            [2, 2, 2, 0, 1, 1, 1]
        );
        // 1 KiB: 16 descriptors a block; behind boot code and superblock.
        it = Superblock {
            block_size: 1024,
            first_data_block: 0,
            first_meta_bg: 0,
            ..it
        };
        assert_eq!(it.descriptor_block(0), 2);
        assert_eq!(it.descriptor_block(1), 16 * 32768);
        assert_eq!(it.front_matter(0), 0..3);
        it.first_data_block = 1;
        assert_eq!(it.descriptor_block(0), 2);
        assert_eq!(it.descriptor_block(1), 16 * 32768 + 1);
    }

    #[test]
    fn clusters_are_counted_from_the_beginning_of_a_group() {
        let it = Superblock {
            cluster_blocks: 16,
            blocks_per_group: 16 * 32768,
            groups_count: 7,
            blocks_count: 6 * 16 * 32768 + 17,
            ..plain()
        };
        assert_eq!(it.clusters_of(0), 32768);
        assert_eq!(it.clusters_of(6), 2, "of the last one not all is there");
        assert_eq!(it.blocks_of(6), 6 * 16 * 32768..6 * 16 * 32768 + 17);
        assert_eq!(it.cluster_of(16 * 32768 + 31), 1);
        assert_eq!(it.cluster_of(16 * 32768 + 32), 2);
    }
}
