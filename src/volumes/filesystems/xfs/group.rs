//! Allocation groups: what each has free. Source: `fs/xfs/libxfs/xfs_format.h`, `struct xfs_agf`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U32, U64, Unaligned};

use super::blocks::Blocks;
use super::btree::{self, Kind, Tree};
use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::Reason;

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
pub(super) fn read(blocks: Blocks<'_>, number: u64, map: &mut MapBuilder) -> Result<u64, Doubt> {
    let group = Group::read(blocks, number)?;
    let by_place = group.by_place(|range, is_free| {
        if is_free {
            map.free(range);
        } else {
            map.used(range, Reason::Mapped);
        }
    })?;
    let mut by_length = Sum::default();
    btree::walk(blocks, group.tree(Kind::ByLength, 1), |start, count| {
        by_length.add(start, count);
        Ok(())
    })?;
    if by_place != by_length {
        return Err(Doubt::State("its two trees of free space do not agree"));
    }
    let agf = &group.agf;
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

/// Adds what of a group is in use on the disk, as far as that can be told: some of it may be older than the rest, and
/// the log has what is missing.
pub(super) fn add_used_on_disk(blocks: Blocks<'_>, number: u64, map: &mut MapBuilder) {
    let on_disk = Blocks {
        replay: None,
        ..blocks
    };
    let Ok(group) = Group::read(on_disk, number) else {
        return;
    };
    // What is told up to where it does not fit is in use; the rest follows from the log.
    let _ = group.by_place(|range, is_free| {
        if !is_free {
            map.used(range, Reason::Mapped);
        }
    });
}

/// An allocation group whose header makes sense.
struct Group<'a> {
    blocks: Blocks<'a>,
    number: u64,
    agf: RawAgf,
}

impl<'a> Group<'a> {
    fn read(blocks: Blocks<'a>, number: u64) -> Result<Self, Doubt> {
        let agf = agf(blocks, number)?;
        Ok(Self { blocks, number, agf })
    }

    fn tree(&self, kind: Kind, number: usize) -> Tree {
        Tree {
            kind,
            root: self.agf.roots.get(number).map_or(0, |root| root.get().into()),
            levels: self
                .agf
                .levels
                .get(number)
                .map_or(0, |levels| levels.get().into()),
            group: self.number,
        }
    }

    /// Tells what is free and what is not, in bytes, in ascending order.
    fn by_place(&self, mut tell: impl FnMut(Range<u64>, bool)) -> Result<Sum, Doubt> {
        let superblock = self.blocks.superblock;
        let place = |block| superblock.block_at(self.number, block);
        let blocks = superblock.blocks_of(self.number);
        let mut sum = Sum::default();
        // Headers, which nothing lists.
        let mut end = superblock.sector_size.times(4).div_ceil(superblock.block_size);
        let mut used_from = 0;
        btree::walk(self.blocks, self.tree(Kind::ByPlace, 0), |start, count| {
            // Ranges that touch are one.
            let follows = start > end || (used_from == 0 && start == end);
            if !follows || count == 0 || start.plus(count) > blocks {
                return Err(Doubt::State(
                    "its free ranges overlap, touch, or lie outside of their group",
                ));
            }
            tell(place(used_from)..place(start), false);
            tell(place(start)..place(start.plus(count)), true);
            end = start.plus(count);
            used_from = end;
            sum.add(start, count);
            Ok(())
        })?;
        tell(place(used_from)..place(blocks), false);
        Ok(sum)
    }
}

/// The header of a group's free space, if it is what it should be.
fn agf(blocks: Blocks<'_>, group: u64) -> Result<RawAgf, Doubt> {
    let (view, superblock) = (blocks.view, blocks.superblock);
    let at = superblock.group_at(group).plus(superblock.sector_size);
    let field = |field, found: u64, expected| {
        Err(Doubt::Field {
            structure: STRUCTURE,
            at: view.position(at),
            field,
            found,
            expected: Expected::Exactly(expected),
        })
    };
    let bytes = blocks.read(STRUCTURE, at, superblock.sector_size, SUM)?;
    let Ok((agf, _)) = RawAgf::read_from_prefix(&bytes) else {
        return Err(Doubt::State("an AGF is longer than a sector"));
    };
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
