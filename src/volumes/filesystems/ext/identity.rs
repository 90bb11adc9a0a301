//! The UUID of an ext2, ext3 or ext4 filesystem, in the superblock and its copies, where nothing else depends on it.
//! Source: e2fsprogs, `misc/tune2fs.c` (option `-U`), which leaves the UUID of an internal journal as it is, too.

use zerocopy::IntoBytes;

use super::blocks::Blocks;
use super::features::{Features, compat, incompat, ro_compat};
use super::journal;
use super::raw_superblock::{OFFSET, RawSuperblock};
use super::superblock::{JournalPlace, MAGIC, Superblock};
use crate::units::{Exact, to_u64};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::renewal::{Id, Renewal, random_uuid};
use crate::volumes::view::View;

/// Where the UUID and the checksum stand in a superblock.
const UUID: u64 = 0x68;
const CHECKSUM: usize = 0x3fc;

/// How many copies of the superblock are changed: without `sparse_super` each group has one.
const MAX_COPIES: u64 = 1 << 14;

/// Gives a clean filesystem a new UUID.
pub(super) fn renew(view: View<'_>) -> Result<Renewal, Doubt> {
    let superblock = Superblock::read(&Blocks::on_disk(view, OFFSET))?;
    let blocks = Blocks::on_disk(view, superblock.block_size);
    let raw = blocks.superblock()?;
    if superblock.uuid == [0; 16] {
        return Ok(Renewal::default());
    }
    refuse(superblock.features)?;
    if superblock.journal == Some(JournalPlace::Device) {
        return Err(Doubt::State("its journal, on another device, names its UUID"));
    }
    if superblock.features.incompat(incompat::RECOVER) || journal::replay(&superblock, &blocks)?.is_some() {
        return Err(Doubt::State(
            "its journal needs recovery: mount it once, or run e2fsck",
        ));
    }
    if raw.s_last_orphan.get() != 0 || superblock.features.ro_compat(ro_compat::ORPHAN_PRESENT) {
        return Err(Doubt::State(
            "it has deleted files to clean up: mount it once, or run e2fsck",
        ));
    }
    let new = random_uuid()?;
    let mut patches = Vec::new();
    let groups = (0..superblock.groups_count).filter(|group| superblock.has_superblock(*group));
    for (number, group) in (0..).zip(groups) {
        if number >= MAX_COPIES {
            let (what, limit) = ("copies of the superblock", MAX_COPIES);
            return Err(Doubt::TooMany { what, limit });
        }
        let at = match group {
            0 => OFFSET,
            _ => superblock.front(group).times(superblock.block_size),
        };
        let mut copy: RawSuperblock = view.structure("superblock", at)?;
        check(&copy, &superblock)?;
        copy.s_uuid = new;
        patches.push((at.plus(UUID), new.to_vec()));
        if superblock.features.ro_compat(ro_compat::METADATA_CSUM) {
            let sum = checksum(&copy).to_le_bytes();
            patches.push((at.plus(to_u64(CHECKSUM)), sum.to_vec()));
        }
    }
    let what = match superblock.features.name() {
        "ext2" => "ext2 UUID",
        "ext3" => "ext3 UUID",
        _ => "ext4 UUID",
    };
    Ok(Renewal {
        ids: vec![Id {
            what,
            partition: None,
            old: fields::uuid(superblock.uuid),
            new: fields::uuid(new),
        }],
        patches,
    })
}

/// Refuses what has more than its superblock depend on the UUID.
fn refuse(features: Features) -> Result<(), Doubt> {
    let has_seed = features.incompat(incompat::CSUM_SEED);
    let state = match () {
        () if features.compat(compat::STABLE_INODES) => {
            "the keys of its encrypted files depend on its UUID (stable_inodes)"
        }
        () if features.ro_compat(ro_compat::METADATA_CSUM) && !has_seed => {
            "all of its checksums depend on its UUID (metadata_csum without metadata_csum_seed)"
        }
        () if features.incompat(incompat::EA_INODE) && !has_seed => {
            "the hashes of extended attributes depend on its UUID (ea_inode)"
        }
        () if features.ro_compat(ro_compat::GDT_CSUM) && !features.ro_compat(ro_compat::METADATA_CSUM) => {
            "the checksums of its group descriptors depend on its UUID (uninit_bg)"
        }
        () if features.incompat(incompat::MMP) => "another machine may have it mounted (mmp)",
        () => return Ok(()),
    };
    Err(Doubt::State(state))
}

/// Makes sure that a copy of the superblock is one of this filesystem.
fn check(copy: &RawSuperblock, superblock: &Superblock) -> Result<(), Doubt> {
    let has_checksum = superblock.features.ro_compat(ro_compat::METADATA_CSUM);
    let is_right = copy.s_magic.get() == MAGIC
        && copy.s_uuid == superblock.uuid
        && (!has_checksum || copy.s_checksum.get() == checksum(copy));
    is_right.then_some(()).ok_or(Doubt::State(
        "a copy of its superblock is damaged or of another filesystem",
    ))
}

fn checksum(superblock: &RawSuperblock) -> u32 {
    crc32c(
        u32::MAX,
        superblock.as_bytes().get(..CHECKSUM).unwrap_or_default(),
    )
}
