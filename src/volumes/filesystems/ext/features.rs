//! The features of an ext2, ext3 or ext4 filesystem, and which of them are understood.

use super::faults::Structure;
use crate::error::Expected;
use crate::volumes::doubt::Doubt;

/// What the three fields of the superblock say. Names are those of the flags in ext4(5) and in the kernel's
/// documentation of ext4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::volumes) struct Features {
    pub(in crate::volumes) compat: u32,
    pub(in crate::volumes) incompat: u32,
    pub(in crate::volumes) ro_compat: u32,
}

/// Flags of `s_feature_compat`.
pub(in crate::volumes) mod compat {
    pub(in crate::volumes) const HAS_JOURNAL: u32 = 0x4;
    pub(in crate::volumes) const SPARSE_SUPER2: u32 = 0x200;
    pub(in crate::volumes) const STABLE_INODES: u32 = 0x800;
    pub(in crate::volumes) const ORPHAN_FILE: u32 = 0x1000;

    /// Those and `dir_prealloc`, `imagic_inodes`, `ext_attr`, `resize_inode`, `dir_index`, `fast_commit`,
    /// `stable_inodes`, `orphan_file`. Not `lazy_bg`, in which groups without a bitmap are not protected by checksums, and not
    /// `exclude_bitmap` of the snapshots that never got into the kernel.
    pub(super) const UNDERSTOOD: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x400 | 0x800 | 0x1000;
}

/// Flags of `s_feature_incompat`.
pub(in crate::volumes) mod incompat {
    pub(in crate::volumes) const FILETYPE: u32 = 0x2;
    pub(in crate::volumes) const RECOVER: u32 = 0x4;
    pub(in crate::volumes) const JOURNAL_DEV: u32 = 0x8;
    pub(in crate::volumes) const META_BG: u32 = 0x10;
    pub(in crate::volumes) const IS_64BIT: u32 = 0x80;
    pub(in crate::volumes) const MMP: u32 = 0x100;
    pub(in crate::volumes) const FLEX_BG: u32 = 0x200;
    pub(in crate::volumes) const EA_INODE: u32 = 0x400;
    pub(in crate::volumes) const CSUM_SEED: u32 = 0x2000;
    pub(in crate::volumes) const INLINE_DATA: u32 = 0x8000;

    /// Those and `extents`, `ea_inode`, `dirdata`, `large_dir`, `inline_data`, `encrypt`, `casefold`: they change
    /// what files and directories look like, and not what the bitmaps mean. Not `compression`.
    pub(super) const UNDERSTOOD: u32 = 0x2
        | 0x4
        | 0x8
        | 0x10
        | 0x40
        | 0x80
        | 0x100
        | 0x200
        | 0x400
        | 0x1000
        | 0x2000
        | 0x4000
        | 0x8000
        | 0x1_0000
        | 0x2_0000;
    /// Those of ext2 and, with `RECOVER`, of ext3.
    pub(super) const EXT2: u32 = FILETYPE | META_BG;
}

/// Flags of `s_feature_ro_compat`.
pub(in crate::volumes) mod ro_compat {
    pub(in crate::volumes) const SPARSE_SUPER: u32 = 0x1;
    pub(in crate::volumes) const GDT_CSUM: u32 = 0x10;
    pub(in crate::volumes) const BIGALLOC: u32 = 0x200;
    pub(in crate::volumes) const METADATA_CSUM: u32 = 0x400;
    pub(in crate::volumes) const ORPHAN_PRESENT: u32 = 0x1_0000;

    /// Those and `large_file`, `btree_dir`, `huge_file`, `dir_nlink`, `extra_isize`, `quota`, `read-only`,
    /// `project`, `verity`, `orphan_present`. Not `has_snapshot` and `replica`, whose meaning is nowhere written
    /// down, and not `shared_blocks`, in which one block belongs to several files and no count needs to be right.
    pub(super) const UNDERSTOOD: u32 = 0x1
        | 0x2
        | 0x4
        | 0x8
        | 0x10
        | 0x20
        | 0x40
        | 0x100
        | 0x200
        | 0x400
        | 0x1000
        | 0x2000
        | 0x8000
        | 0x1_0000;
    /// Those of ext2 and ext3: `sparse_super`, `large_file`, `btree_dir`.
    pub(super) const EXT2: u32 = 0x1 | 0x2 | 0x4;
}

impl Features {
    /// Whether one of these flags of `s_feature_compat` is set.
    pub(in crate::volumes) fn compat(self, flags: u32) -> bool {
        self.compat & flags != 0
    }

    /// Whether one of these flags of `s_feature_incompat` is set.
    pub(in crate::volumes) fn incompat(self, flags: u32) -> bool {
        self.incompat & flags != 0
    }

    /// Whether one of these flags of `s_feature_ro_compat` is set.
    pub(in crate::volumes) fn ro_compat(self, flags: u32) -> bool {
        self.ro_compat & flags != 0
    }

    /// Whether group descriptors have checksums: only then their flags mean something.
    pub(in crate::volumes) fn has_descriptor_checksums(self) -> bool {
        self.ro_compat(ro_compat::GDT_CSUM | ro_compat::METADATA_CSUM)
    }

    /// Those that tell where things lie, and which checksums they have.
    pub(super) fn lay_out(self) -> Self {
        let checksums = ro_compat::GDT_CSUM | ro_compat::METADATA_CSUM;
        Self {
            compat: self.compat & (compat::HAS_JOURNAL | compat::SPARSE_SUPER2),
            incompat: self.incompat
                & (incompat::META_BG
                    | incompat::IS_64BIT
                    | incompat::MMP
                    | incompat::FLEX_BG
                    | incompat::CSUM_SEED),
            ro_compat: self.ro_compat & (ro_compat::SPARSE_SUPER | ro_compat::BIGALLOC | checksums),
        }
    }

    /// What blkid(8) calls a filesystem with them.
    pub(super) fn name(self) -> &'static str {
        let journal = self.compat(compat::HAS_JOURNAL);
        let recover = if journal { incompat::RECOVER } else { 0 };
        if self.incompat(!(incompat::EXT2 | recover)) || self.ro_compat(!ro_compat::EXT2) {
            "ext4"
        } else if journal {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// Makes sure that nothing is there that may change what the bitmaps mean.
    pub(super) fn understood(self, superblock: Structure) -> Result<(), Doubt> {
        let fields = [
            ("s_feature_compat", self.compat, compat::UNDERSTOOD),
            ("s_feature_incompat", self.incompat, incompat::UNDERSTOOD),
            ("s_feature_ro_compat", self.ro_compat, ro_compat::UNDERSTOOD),
        ];
        for (field, found, understood) in fields {
            let expected = Expected::That("features that this version knows");
            superblock.require(found & !understood == 0, field, found.into(), expected)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_blkid() {
        let name = |compat, incompat, ro_compat| {
            Features {
                compat,
                incompat,
                ro_compat,
            }
            .name()
        };
        assert_eq!(name(0x38, 0x2, 0x3), "ext2");
        assert_eq!(name(0x3c, 0x2, 0x3), "ext3");
        assert_eq!(name(0x3c, 0x6, 0x3), "ext3", "needs recovery");
        assert_eq!(name(0x38, 0x12, 0x3), "ext2", "meta_bg");
        assert_eq!(name(0x38, 0x242, 0x3), "ext4", "without a journal");
        assert_eq!(name(0x3c, 0x2, 0x13), "ext4", "uninit_bg");
    }
}
