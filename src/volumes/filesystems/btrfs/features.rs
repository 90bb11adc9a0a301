//! What a filesystem can, and what state it is in: anything that is not understood is a doubt. Source: Linux,
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

use super::raw_superblock::{RawSuperblock, field};
use crate::error::Expected;
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// Features of which kernels that do not know them may only read.
const FREE_SPACE_TREE: u64 = 1 << 0;
const FREE_SPACE_TREE_VALID: u64 = 1 << 1;
const VERITY: u64 = 1 << 2;
const BLOCK_GROUP_TREE: u64 = 1 << 3;

/// Features of which they may not even read.
const MIXED_BACKREF: u64 = 1 << 0;
const METADATA_UUID: u64 = 1 << 10;
/// Those that change nothing about the map: the default subvolume, mixed groups, compression by LZO and Zstandard, big
/// tree blocks, long references to inodes, short items of tree blocks, no items of holes, three and four copies (which
/// the chunks would tell), simple quotas.
const HARMLESS: u64 =
    1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 16;

/// Features, and what a map of a filesystem with them would need.
const REFUSED: [(u64, &str); 5] = [
    (1 << 7, "it is a RAID5 or RAID6"),
    (1 << 12, "it is on a zoned device"),
    (1 << 13, "it has version 2 of the extent tree"),
    (1 << 14, "it has a tree of RAID stripes"),
    (1 << 17, "it has a tree of moved extents"),
];

/// Flags of the superblock: it was written, and its trees know relocation.
const HARMLESS_FLAGS: u64 = 1 << 0 | 1 << 1;

const REFUSED_FLAGS: [(u64, &str); 4] = [
    (1 << 2, "its superblock says that it has errors"),
    (1 << 32, "it is a seed of other filesystems"),
    (1 << 33 | 1 << 34, "it is a dump of metadata"),
    (
        1 << 35 | 1 << 36 | 1 << 38 | 1 << 39 | 1 << 40,
        "btrfstune was interrupted",
    ),
];

/// Features that matter to the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) metadata_uuid: bool,
    pub(super) block_group_tree: bool,
    pub(super) free_space_tree: bool,
}

/// Makes sure that there is nothing that is not understood, and one device.
pub(super) fn check(view: View<'_>, raw: &RawSuperblock) -> Result<Features, Doubt> {
    let (flags, incompat) = (raw.flags.get(), raw.incompat_flags.get());
    let refused = REFUSED_FLAGS.iter().filter(|(bits, _)| flags & bits != 0);
    let refused = refused.chain(REFUSED.iter().filter(|(bits, _)| incompat & bits != 0));
    if let Some((_, why)) = refused.into_iter().next() {
        return Err(Doubt::State(why));
    }
    let clear = |name, found: u64, known: u64| match found & !known {
        0 => Ok(()),
        _ => Err(field(view, name, found, Expected::Clear(!known))),
    };
    let compat_ro = raw.compat_ro_flags.get();
    clear("flags", flags, HARMLESS_FLAGS)?;
    clear("compat_flags", raw.compat_flags.get(), 0)?;
    let known = FREE_SPACE_TREE | FREE_SPACE_TREE_VALID | VERITY | BLOCK_GROUP_TREE;
    clear("compat_ro_flags", compat_ro, known)?;
    let known = MIXED_BACKREF | METADATA_UUID | HARMLESS;
    clear("incompat_flags", incompat, known)?;
    if incompat & MIXED_BACKREF == 0 {
        return Err(Doubt::State("its extents are such as Btrfs had before 2009"));
    }
    if raw.num_devices.get() != 1 {
        return Err(Doubt::State("it has several devices"));
    }
    let valid = FREE_SPACE_TREE | FREE_SPACE_TREE_VALID;
    Ok(Features {
        metadata_uuid: incompat & METADATA_UUID != 0,
        block_group_tree: compat_ro & BLOCK_GROUP_TREE != 0,
        free_space_tree: compat_ro & valid == valid,
    })
}
