//! The superblock. Source: the kernel's documentation of ext4, "Super Block".

use zerocopy::{IntoBytes, LE, U32};

use super::blocks::Blocks;
use super::faults::Structure;
use super::features::{Features, compat, incompat, ro_compat};
use super::raw_superblock::{OFFSET, RawSuperblock};
use crate::error::Expected;
use crate::units::{Exact, claimed_size};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// `s_magic`.
pub(super) const MAGIC: u16 = 0xef53;

/// Blocks have 1 KiB to 64 KiB.
pub(super) const MAX_LOG_BLOCK_SIZE: u32 = 6;

/// Clusters have 512 MiB at most; mke2fs(8).
const MAX_LOG_CLUSTER_SIZE: u32 = 19;

/// How many groups are looked into: 256 TiB of them at blocks of 4 KiB.
const MAX_GROUPS: u64 = 1 << 21;

/// In `s_state`: it was unmounted properly, or has a journal to recover it.
const VALID: u16 = 1;

/// In `s_state`: an error was met.
const ERRORS: u16 = 2;

/// The sizes and places that all else depends on, and what else the superblock says: all of it checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::volumes) struct Superblock {
    /// What it has.
    pub(in crate::volumes) features: Features,
    /// The size of a block in bytes: 1 KiB to 64 KiB.
    pub(in crate::volumes) block_size: u64,
    /// How many blocks there are; all of them lie in the stretch.
    pub(in crate::volumes) blocks_count: u64,
    /// The block that group 0 begins with: 0 or 1.
    pub(in crate::volumes) first_data_block: u64,
    /// How many blocks a bit of a bitmap stands for: 1 without bigalloc.
    pub(in crate::volumes) cluster_blocks: u64,
    /// How many blocks a group has, other than the last one: a multiple of `cluster_blocks`.
    pub(in crate::volumes) blocks_per_group: u64,
    /// How many bits of a bitmap have a meaning: a multiple of 8.
    pub(in crate::volumes) clusters_per_group: u64,
    /// How many groups there are: at least 1.
    pub(in crate::volumes) groups_count: u64,
    /// How many inodes a group has.
    pub(in crate::volumes) inodes_per_group: u64,
    /// The size of an inode in bytes.
    pub(in crate::volumes) inode_size: u64,
    /// How many blocks the inode table of a group has.
    pub(in crate::volumes) inode_table_blocks: u64,
    /// The size of a group descriptor in bytes.
    pub(in crate::volumes) descriptor_size: u64,
    /// How many blocks of descriptors stand behind the superblock before they are spread, with `meta_bg`.
    pub(in crate::volumes) first_meta_bg: u64,
    /// How many blocks are kept free behind the group descriptors for more of them.
    pub(in crate::volumes) reserved_gdt_blocks: u64,
    /// The groups with copies, with `sparse_super2`.
    pub(in crate::volumes) backup_groups: [u64; 2],
    /// How many blocks are free, by the superblock: nothing that a journal keeps up to date.
    pub(in crate::volumes) free_blocks_count: u64,
    /// The block of multiple mount protection, if it has that.
    pub(in crate::volumes) mmp_block: Option<u64>,
    /// What the checksums of metadata begin with.
    pub(in crate::volumes) checksum_seed: u32,
    /// What it is known by.
    pub(in crate::volumes) uuid: [u8; 16],
    /// The name that its owner gave it.
    pub(in crate::volumes) label: Option<String>,
    /// Its journal, if it has one.
    pub(in crate::volumes) journal: Option<JournalPlace>,
    /// The inodes that are its own, besides the reserved ones: of the journal, of quotas, of orphans; 0 for none.
    pub(in crate::volumes) own_inodes: [u32; 3],
    /// Whether there may be inodes that were deleted while in use, which mounting it deletes: it reads their trees.
    pub(in crate::volumes) may_have_orphans: bool,
}

/// Where the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::volumes) enum JournalPlace {
    /// In an inode.
    Inode {
        /// Its number: not 0.
        inode: u32,
        /// Its `i_block`, `i_size_high` and `i_size`, if the superblock has a copy of them.
        copy: Option<[u32; 17]>,
    },
    /// On another device.
    Device,
}

impl Superblock {
    /// The one at byte 1024.
    ///
    /// # Errors
    ///
    /// A [`Doubt`] if it cannot be trusted in every field that the map depends on.
    pub(in crate::volumes) fn read(blocks: &Blocks<'_>) -> Result<Self, Doubt> {
        let raw = blocks.superblock()?;
        let place = Structure {
            name: "superblock",
            at: blocks.view().position(OFFSET),
        };
        Checked { raw: &raw, place }.superblock(blocks)
    }

    /// Whether it is on a device that has nothing but the journal of another filesystem.
    pub(super) fn is_journal_device(blocks: &Blocks<'_>) -> Result<bool, Doubt> {
        let raw = blocks.superblock()?;
        Ok(raw.s_feature_incompat.get() & incompat::JOURNAL_DEV != 0)
    }

    /// The size of all of it in bytes, which is not larger than what it lies in.
    pub(in crate::volumes) fn size(&self) -> u64 {
        self.blocks_count.times(self.block_size)
    }

    /// How many group descriptors a block holds.
    pub(in crate::volumes) fn descriptors_per_block(&self) -> u64 {
        self.block_size.checked_div(self.descriptor_size).unwrap_or(1)
    }

    /// How many blocks the group descriptors fill.
    pub(in crate::volumes) fn descriptor_blocks(&self) -> u64 {
        self.groups_count.div_ceil(self.descriptors_per_block())
    }
}

/// A superblock that is being checked.
struct Checked<'a> {
    raw: &'a RawSuperblock,
    place: Structure,
}

/// How many blocks and groups a filesystem has.
struct Counts {
    blocks: u64,
    first_data_block: u64,
    cluster_blocks: u64,
    clusters_per_group: u64,
    blocks_per_group: u64,
    groups: u64,
    free_blocks: u64,
}

impl Checked<'_> {
    fn superblock(&self, blocks: &Blocks<'_>) -> Result<Superblock, Doubt> {
        let raw = self.raw;
        let features = self.features()?;
        let checksum_seed = self.checksums(features)?;
        self.state()?;
        let block_size = self.block_size()?;
        let counts = self.counts(features, block_size, blocks.view())?;
        let inode_size = self.inode_size(block_size)?;
        let inodes_per_group = self.inodes_per_group(block_size, counts.groups)?;
        let descriptor_size = self.descriptor_size(features, block_size)?;
        let superblock = Superblock {
            features,
            block_size,
            blocks_count: counts.blocks,
            first_data_block: counts.first_data_block,
            cluster_blocks: counts.cluster_blocks,
            blocks_per_group: counts.blocks_per_group,
            clusters_per_group: counts.clusters_per_group,
            groups_count: counts.groups,
            inodes_per_group,
            inode_size,
            inode_table_blocks: inodes_per_group.times(inode_size).div_ceil(block_size.max(1)),
            descriptor_size,
            first_meta_bg: if features.incompat(incompat::META_BG) {
                raw.s_first_meta_bg.get().into()
            } else {
                0
            },
            reserved_gdt_blocks: raw.s_reserved_gdt_blocks.get().into(),
            backup_groups: raw.s_backup_bgs.map(|group| group.get().into()),
            free_blocks_count: counts.free_blocks,
            mmp_block: self.mmp_block(features, counts.first_data_block, counts.blocks)?,
            checksum_seed,
            uuid: raw.s_uuid,
            label: self.label(),
            journal: self.journal(features)?,
            own_inodes: [
                raw.s_journal_inum.get(),
                raw.s_prj_quota_inum.get(),
                raw.s_orphan_file_inum.get(),
            ],
            may_have_orphans: raw.s_last_orphan.get() != 0 || features.compat(compat::ORPHAN_FILE),
        };
        self.descriptors(&superblock)?;
        Ok(superblock)
    }

    /// How many blocks and groups there are.
    fn counts(&self, features: Features, block_size: u64, view: View<'_>) -> Result<Counts, Doubt> {
        let (raw, place) = (self.raw, self.place);
        let blocks = self.wide(
            features,
            "s_blocks_count_hi",
            raw.s_blocks_count_lo,
            raw.s_blocks_count_hi,
        )?;
        view.holds("filesystem", 0, claimed_size(blocks, block_size))?;
        let first_data_block = self.first_data_block(features, block_size, blocks)?;
        let (cluster_blocks, clusters_per_group) = self.clusters(features, block_size)?;
        let blocks_per_group = cluster_blocks.times(clusters_per_group);
        place.exactly(
            "s_blocks_per_group",
            raw.s_blocks_per_group.get().into(),
            blocks_per_group,
        )?;
        let groups = blocks.minus(first_data_block).div_ceil(blocks_per_group.max(1));
        if groups > MAX_GROUPS {
            let (what, limit) = ("block groups", MAX_GROUPS);
            return Err(Doubt::TooMany { what, limit });
        }
        let free_blocks = self.wide(
            features,
            "s_free_blocks_count_hi",
            raw.s_free_blocks_count_lo,
            raw.s_free_blocks_count_hi,
        )?;
        place.at_most("s_free_blocks_count", free_blocks, blocks)?;
        Ok(Counts {
            blocks,
            first_data_block,
            cluster_blocks,
            clusters_per_group,
            blocks_per_group,
            groups,
            free_blocks,
        })
    }

    fn state(&self) -> Result<(), Doubt> {
        let state = self.raw.s_state.get();
        if state & ERRORS != 0 {
            return Err(Doubt::State("its superblock says that it has errors"));
        }
        if state & VALID == 0 {
            return Err(Doubt::State("it was not unmounted, and has no journal"));
        }
        self.place.exactly("s_state", state.into(), VALID.into())
    }

    fn features(&self) -> Result<Features, Doubt> {
        let raw = self.raw;
        let place = self.place;
        place.exactly("s_magic", raw.s_magic.get().into(), MAGIC.into())?;
        place.at_most("s_rev_level", raw.s_rev_level.get().into(), 1)?;
        let features = Features {
            compat: raw.s_feature_compat.get(),
            incompat: raw.s_feature_incompat.get(),
            ro_compat: raw.s_feature_ro_compat.get(),
        };
        if raw.s_rev_level.get() == 0 {
            // Nobody looks at features of the first revision, but some kernels.
            let any = features.compat | features.incompat | features.ro_compat;
            place.exactly("features of revision 0", any.into(), 0)?;
        }
        features.understood(place)?;
        Ok(features)
    }

    /// Checks that of the superblock. Returns what others begin with.
    fn checksums(&self, features: Features) -> Result<u32, Doubt> {
        let (raw, place) = (self.raw, self.place);
        if features.ro_compat(ro_compat::METADATA_CSUM) {
            place.exactly("s_checksum_type", raw.s_checksum_type.into(), 1)?;
            let (covered, _) = raw.as_bytes().split_at(size_of::<RawSuperblock>().minus(4));
            place.has_checksum(raw.s_checksum.get(), crc32c(u32::MAX, covered))?;
        }
        if features.incompat(incompat::CSUM_SEED) {
            Ok(raw.s_checksum_seed.get())
        } else {
            Ok(crc32c(u32::MAX, &raw.s_uuid))
        }
    }

    fn block_size(&self) -> Result<u64, Doubt> {
        let log = self.raw.s_log_block_size.get();
        self.place
            .at_most("s_log_block_size", log.into(), MAX_LOG_BLOCK_SIZE.into())?;
        Ok(1024_u64.checked_shl(log).unwrap_or(1024))
    }

    /// A number whose upper half counts with 64bit only.
    fn wide(&self, features: Features, upper: &'static str, lo: U32<LE>, hi: U32<LE>) -> Result<u64, Doubt> {
        if !features.incompat(incompat::IS_64BIT) {
            self.place.exactly(upper, hi.get().into(), 0)?;
        }
        Ok(u64::from(hi.get()) << 32 | u64::from(lo.get()))
    }

    fn first_data_block(&self, features: Features, block_size: u64, blocks_count: u64) -> Result<u64, Doubt> {
        let found = u64::from(self.raw.s_first_data_block.get());
        // The superblock is block 1 if blocks have 1 KiB. mke2fs begins the first cluster with block 0 nonetheless.
        let limits = if block_size > OFFSET {
            0..=0
        } else if features.ro_compat(ro_compat::BIGALLOC) {
            0..=1
        } else {
            1..=1
        };
        let expected = Expected::AtMost(*limits.end());
        self.place
            .require(limits.contains(&found), "s_first_data_block", found, expected)?;
        // Room for the superblock and a block of descriptors.
        let least = found.plus(2);
        let expected = Expected::AtLeast(least);
        self.place
            .require(blocks_count >= least, "s_blocks_count", blocks_count, expected)?;
        Ok(found)
    }

    /// Blocks of a cluster, and clusters of a group.
    fn clusters(&self, features: Features, block_size: u64) -> Result<(u64, u64), Doubt> {
        let (raw, place) = (self.raw, self.place);
        let (log_block, log_cluster) = (raw.s_log_block_size.get(), raw.s_log_cluster_size.get());
        let (least, most) = if features.ro_compat(ro_compat::BIGALLOC) {
            (log_block, MAX_LOG_CLUSTER_SIZE)
        } else {
            (log_block, log_block)
        };
        let expected = Expected::That("that of a block, or more with bigalloc");
        place.require(
            (least..=most).contains(&log_cluster),
            "s_log_cluster_size",
            log_cluster.into(),
            expected,
        )?;
        let cluster_blocks = 1_u64.checked_shl(log_cluster.minus(log_block)).unwrap_or(1);
        let clusters_per_group = u64::from(raw.s_clusters_per_group.get());
        place.at_least_one("s_clusters_per_group", clusters_per_group)?;
        place.at_most("s_clusters_per_group", clusters_per_group, block_size.times(8))?;
        let expected = Expected::MultipleOf(8);
        place.require(
            clusters_per_group % 8 == 0,
            "s_clusters_per_group",
            clusters_per_group,
            expected,
        )?;
        Ok((cluster_blocks, clusters_per_group))
    }

    fn inode_size(&self, block_size: u64) -> Result<u64, Doubt> {
        if self.raw.s_rev_level.get() == 0 {
            return Ok(128);
        }
        let size = u64::from(self.raw.s_inode_size.get());
        let fits = size.is_power_of_two() && (128..=block_size).contains(&size);
        let expected = Expected::That("a power of two, at least 0x80 and at most the size of a block");
        self.place.require(fits, "s_inode_size", size, expected)?;
        Ok(size)
    }

    fn inodes_per_group(&self, block_size: u64, groups_count: u64) -> Result<u64, Doubt> {
        let (raw, place) = (self.raw, self.place);
        let inodes = u64::from(raw.s_inodes_per_group.get());
        place.at_least_one("s_inodes_per_group", inodes)?;
        place.at_most("s_inodes_per_group", inodes, block_size.times(8))?;
        let all = inodes.times(groups_count);
        place.exactly("s_inodes_count", raw.s_inodes_count.get().into(), all)?;
        Ok(inodes)
    }

    fn descriptor_size(&self, features: Features, block_size: u64) -> Result<u64, Doubt> {
        if !features.incompat(incompat::IS_64BIT) {
            return Ok(32);
        }
        let size = u64::from(self.raw.s_desc_size.get());
        let fits = size.is_power_of_two() && (64..=1024.min(block_size)).contains(&size);
        let expected = Expected::That("a power of two, 0x40 to 0x400");
        self.place.require(fits, "s_desc_size", size, expected)?;
        Ok(size)
    }

    /// Makes sure that the group descriptors and what is kept for more have places.
    fn descriptors(&self, superblock: &Superblock) -> Result<(), Doubt> {
        let reserved = superblock.reserved_gdt_blocks;
        // As many as the one indirect block of the resize inode can name.
        self.place
            .at_most("s_reserved_gdt_blocks", reserved, superblock.block_size / 4)?;
        if superblock.features.incompat(incompat::META_BG) {
            self.place
                .exactly("s_reserved_gdt_blocks with meta_bg", reserved, 0)?;
            self.place.at_most(
                "s_first_meta_bg",
                superblock.first_meta_bg,
                superblock.descriptor_blocks(),
            )?;
        }
        Ok(())
    }

    fn mmp_block(&self, features: Features, first: u64, blocks_count: u64) -> Result<Option<u64>, Doubt> {
        if !features.incompat(incompat::MMP) {
            return Ok(None);
        }
        let block = self.raw.s_mmp_block.get();
        let expected = Expected::That("a block of the filesystem");
        self.place.require(
            first < block && block < blocks_count,
            "s_mmp_block",
            block,
            expected,
        )?;
        Ok(Some(block))
    }

    fn label(&self) -> Option<String> {
        let name = self
            .raw
            .s_volume_name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    fn journal(&self, features: Features) -> Result<Option<JournalPlace>, Doubt> {
        let raw = self.raw;
        if !features.compat(compat::HAS_JOURNAL) {
            // Without a journal there is nothing to recover from.
            let recover = features.incompat & incompat::RECOVER;
            self.place
                .exactly("s_feature_incompat without a journal", recover.into(), 0)?;
            return Ok(None);
        }
        let inode = raw.s_journal_inum.get();
        if inode == 0 {
            self.place
                .at_least_one("s_journal_inum and s_journal_dev", raw.s_journal_dev.get().into())?;
            return Ok(Some(JournalPlace::Device));
        }
        self.place
            .exactly("s_journal_dev", raw.s_journal_dev.get().into(), 0)?;
        self.place
            .at_most("s_journal_inum", inode.into(), raw.s_inodes_count.get().into())?;
        let copy = (raw.s_jnl_backup_type == 1).then(|| raw.s_jnl_blocks.map(U32::get));
        Ok(Some(JournalPlace::Inode { inode, copy }))
    }
}

/// Whether a stretch begins like ext2, ext3 or ext4: the magic number is short, so that more has to fit.
pub(super) fn looks_like_one(raw: &RawSuperblock) -> bool {
    raw.s_magic.get() == MAGIC
        && raw.s_log_block_size.get() <= MAX_LOG_BLOCK_SIZE
        && raw.s_rev_level.get() <= 1
        && (raw.s_blocks_count_lo.get() > 0 || raw.s_blocks_count_hi.get() > 0)
}
