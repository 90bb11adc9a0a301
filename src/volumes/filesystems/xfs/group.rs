//! Allocation groups: what each has free. Source: `fs/xfs/libxfs/xfs_format.h`, `struct xfs_agf`.

use std::hash::{DefaultHasher, Hash, Hasher};

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U32, U64, Unaligned};

use super::btree::{self, Kind, Tree};
use super::sector;
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::Reason;
use crate::volumes::view::View;

const STRUCTURE: &str = "AGF";

/// Where its checksum is.
const SUM: u64 = 216;

/// What tells of free space in a group. Fields keep the names and the order of `struct xfs_agf`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawAgf {
    /// 0: `XAGF`.
    magicnum: [u8; 4],
    /// 4: 1.
    versionnum: U32<BE>,
    /// 8: the number of the group.
    seqno: U32<BE>,
    /// 12: how many blocks the group has.
    length: U32<BE>,
    /// 16: the roots of the trees of free space by place, and by length, and of owners.
    roots: [U32<BE>; 3],
    /// 28: how high they are.
    levels: [U32<BE>; 3],
    /// 40: the list of blocks that are kept for trees.
    flfirst: U32<BE>,
    fllast: U32<BE>,
    flcount: U32<BE>,
    /// 52: how many blocks are free.
    freeblks: U32<BE>,
    /// 56: the longest free range.
    longest: U32<BE>,
    /// 60: blocks of the trees of free space and of owners, but for their roots.
    btreeblks: U32<BE>,
    /// 64.
    uuid: [u8; 16],
    /// 80: trees of owners and of shared blocks, room.
    others: [u8; 128],
    /// 208.
    lsn: U64<BE>,
}

const _: () = assert!(size_of::<RawAgf>() == 216);

/// Adds what is free in a group, and what is not. Returns how many blocks the superblock counts as free here.
pub(super) fn read(
    view: View<'_>,
    superblock: &Superblock,
    group: u64,
    map: &mut MapBuilder,
) -> Result<u64, Doubt> {
    let at = superblock.group_at(group).plus(superblock.sector_size);
    let agf = agf(view, superblock, group, at)?;
    let place = |block: u64| {
        superblock
            .group_at(group)
            .plus(block.times(superblock.block_size))
    };
    let blocks = superblock.blocks_of(group);
    let tree = |kind, number: usize| Tree {
        kind,
        root: agf.roots.get(number).map_or(0, |root| root.get().into()),
        levels: agf.levels.get(number).map_or(0, |levels| levels.get().into()),
        group,
    };
    let (mut by_place, mut by_length) = (Sum::default(), Sum::default());
    // Headers, which nothing lists.
    let mut end = superblock.sector_size.times(4).div_ceil(superblock.block_size);
    let mut used_from = 0;
    btree::walk(view, superblock, tree(Kind::ByPlace, 0), |start, count| {
        // Ranges that touch are one.
        let follows = start > end || (used_from == 0 && start == end);
        if !follows || count == 0 || start.plus(count) > blocks {
            return Err(Doubt::State(
                "its free ranges overlap, touch, or lie outside of their group",
            ));
        }
        map.used(place(used_from)..place(start), Reason::Mapped);
        map.free(place(start)..place(start.plus(count)));
        end = start.plus(count);
        used_from = end;
        by_place.add(start, count);
        Ok(())
    })?;
    map.used(place(used_from)..place(blocks), Reason::Mapped);
    btree::walk(view, superblock, tree(Kind::ByLength, 1), |start, count| {
        by_length.add(start, count);
        Ok(())
    })?;
    if by_place != by_length {
        return Err(Doubt::State("its two trees of free space do not agree"));
    }
    let (free, longest) = (u64::from(agf.freeblks.get()), u64::from(agf.longest.get()));
    if by_place.blocks != free {
        return Err(Doubt::Count {
            what: "free blocks of an allocation group",
            recorded: free,
            counted: by_place.blocks,
        });
    }
    if by_place.longest != longest {
        return Err(Doubt::Count {
            what: "blocks of the longest free range",
            recorded: longest,
            counted: by_place.longest,
        });
    }
    let kept = u64::from(agf.flcount.get()).plus(agf.btreeblks.get().into());
    Ok(free.plus(kept))
}

/// The header of a group's free space, if it is what it should be.
fn agf(view: View<'_>, superblock: &Superblock, group: u64, at: u64) -> Result<RawAgf, Doubt> {
    let field = |field, found: u64, expected| {
        Err(Doubt::Field {
            structure: STRUCTURE,
            at: view.position(at),
            field,
            found,
            expected: Expected::Exactly(expected),
        })
    };
    if superblock.has_crcs {
        sector::check(view, STRUCTURE, at, superblock.sector_size, SUM)?;
    }
    let agf: RawAgf = view.structure(STRUCTURE, at)?;
    let magic = u32::from_be_bytes(agf.magicnum);
    if magic != u32::from_be_bytes(*b"XAGF") {
        return field("magicnum", magic.into(), u32::from_be_bytes(*b"XAGF").into());
    }
    if agf.versionnum.get() != 1 {
        return field("versionnum", agf.versionnum.get().into(), 1);
    }
    if u64::from(agf.seqno.get()) != group {
        return field("seqno", agf.seqno.get().into(), group);
    }
    let blocks = superblock.blocks_of(group);
    if u64::from(agf.length.get()) != blocks {
        return field("length", agf.length.get().into(), blocks);
    }
    if superblock.has_crcs && agf.uuid != superblock.meta_uuid {
        return Err(Doubt::State("an AGF belongs to another filesystem"));
    }
    Ok(agf)
}

/// Ranges, whatever their order: how many, how long together, and a sum that hardly any others have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    ranges: u64,
    blocks: u64,
    longest: u64,
    mixed: u64,
}

impl Sum {
    fn add(&mut self, start: u64, count: u64) {
        let mut hasher = DefaultHasher::new();
        (start, count).hash(&mut hasher);
        self.mixed = self.mixed.wrapping_add(hasher.finish());
        self.ranges.increase(1);
        self.blocks = self.blocks.saturating_add(count);
        self.longest = self.longest.max(count);
    }
}
