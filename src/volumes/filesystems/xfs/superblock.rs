//! The superblock: where everything lies, and what the filesystem can. Source: Linux, `fs/xfs/libxfs/xfs_format.h`,
//! `struct xfs_dsb`; `xfs_sb.c` for what makes it valid.

use std::ops::Range;

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use super::checksum;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, claimed_size};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::view::View;

/// What stands at the beginning of the first sector, and of each allocation group.
pub(super) const MAGIC: &[u8; 4] = b"XFSB";

pub(super) const STRUCTURE: &str = "superblock";

/// Where its checksum is.
pub(super) const SUM: u64 = 224;

/// Bits of `versionnum`: the version, and what versions up to 4 could; 5 has all of these.
const VERSION: u16 = 0xf;
const LOGV2: u16 = 0x0400;
const SECTOR: u16 = 0x0800;
const EXTFLG: u16 = 0x1000;
const DIRV2: u16 = 0x2000;
const MOREBITS: u16 = 0x8000;
const KNOWN_VERSION: u16 =
    VERSION | 0x10 | 0x20 | 0x40 | 0x80 | 0x100 | LOGV2 | SECTOR | EXTFLG | DIRV2 | MOREBITS;

/// Bits of `features2` of version 4: lazy counters, attributes, project ids, file types; of version 5 CRCs as well.
const KNOWN_FEATURES2: u32 = 0x2 | 0x8 | 0x80 | 0x100 | 0x200;

/// Read-only features that change nothing about what is free: finobt, rmapbt, reflink, inobtcount.
const KNOWN_RO_COMPAT: u32 = 0xf;

/// Features that change nothing about it either: file types in directories, sparse inodes, `meta_uuid`, bigtime,
/// nrext64, exchange of ranges, parent pointers.
const META_UUID: u32 = 0x4;
const NEEDSREPAIR: u32 = 0x10;
const KNOWN_INCOMPAT: u32 = 0x1 | 0x2 | META_UUID | 0x8 | 0x20 | 0x40 | 0x80;

/// The first 264 bytes. Fields keep the names and the order of `struct xfs_dsb`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSuperblock {
    /// 0: `XFSB`.
    magicnum: [u8; 4],
    /// 4: in bytes.
    blocksize: U32<BE>,
    /// 8: blocks of the data device.
    dblocks: U64<BE>,
    /// 16: of the realtime device.
    rblocks: U64<BE>,
    /// 24.
    rextents: U64<BE>,
    /// 32.
    uuid: [u8; 16],
    /// 48: the block that the log begins with; 0 if it is on another device.
    logstart: U64<BE>,
    /// 56: inodes of the root and of the realtime device.
    inodes: [u8; 24],
    /// 80.
    rextsize: U32<BE>,
    /// 84: blocks of an allocation group.
    agblocks: U32<BE>,
    /// 88.
    agcount: U32<BE>,
    /// 92.
    rbmblocks: U32<BE>,
    /// 96: blocks of the log.
    logblocks: U32<BE>,
    /// 100: the version, and bits.
    versionnum: U16<BE>,
    /// 102: in bytes.
    sectsize: U16<BE>,
    /// 104: in bytes.
    inodesize: U16<BE>,
    /// 106.
    inopblock: U16<BE>,
    /// 108: the label; zeros behind it.
    fname: [u8; 12],
    /// 120: log2 of the sizes of blocks, sectors and inodes in bytes, and of inodes in a block.
    blocklog: u8,
    sectlog: u8,
    inodelog: u8,
    inopblog: u8,
    /// 124: log2 of the blocks of an allocation group, rounded up.
    agblklog: u8,
    /// 125.
    rextslog: u8,
    /// 126: it is being made.
    inprogress: u8,
    /// 127.
    imax_pct: u8,
    /// 128.
    icount: U64<BE>,
    /// 136.
    ifree: U64<BE>,
    /// 144: free blocks.
    fdblocks: U64<BE>,
    /// 152.
    frextents: U64<BE>,
    /// 160: quota inodes, flags, alignment, stripe.
    quota: [u8; 32],
    /// 192: log2 of directory blocks in blocks, and of `logsectsize`.
    dirblklog: u8,
    logsectlog: u8,
    /// 194: size of the log's sectors, in bytes; 0 for 512.
    logsectsize: U16<BE>,
    /// 196: what writes to the log are aligned to, in bytes.
    logsunit: U32<BE>,
    /// 200: more bits of version 4.
    features2: U32<BE>,
    /// 204: the same, where some kernels put them.
    bad_features2: U32<BE>,
    /// 208: bits of version 5.
    features_compat: U32<BE>,
    features_ro_compat: U32<BE>,
    features_incompat: U32<BE>,
    features_log_incompat: U32<BE>,
    /// 224: of the sector, with this as 0.
    crc: U32<LE>,
    /// 228.
    spino_align: U32<BE>,
    /// 232.
    pquotino: U64<BE>,
    /// 240: of the last change.
    lsn: U64<BE>,
    /// 248: the identity in all structures, with the feature of that name.
    meta_uuid: [u8; 16],
}

const _: () = assert!(size_of::<RawSuperblock>() == 264);

/// A filesystem whose superblock makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// It has CRCs: version 5.
    pub(super) has_crcs: bool,
    /// In bytes.
    pub(super) block_size: u64,
    /// In bytes.
    pub(super) sector_size: u64,
    /// How many blocks there are.
    pub(super) blocks: u64,
    /// How many blocks an allocation group has; the last one has the rest.
    pub(super) ag_blocks: u64,
    pub(super) ag_count: u64,
    /// How many blocks are free, those that are kept for trees among them.
    pub(super) free: u64,
    /// The identity that structures have.
    pub(super) meta_uuid: [u8; 16],
    /// That of the filesystem.
    pub(super) uuid: [u8; 16],
    label: [u8; 12],
    /// log2 of the blocks of an allocation group, rounded up.
    ag_log: u8,
    /// Where the log begins, and its length, in bytes.
    pub(super) log: (u64, u64),
}

impl Superblock {
    /// The one on the disk, which has its checksum.
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let raw: RawSuperblock = view.structure(STRUCTURE, 0)?;
        let superblock = Self::of(view, &raw)?;
        if superblock.has_crcs {
            let bytes = view.bytes(STRUCTURE, 0, superblock.sector_size)?;
            checksum::check(view, STRUCTURE, 0, &bytes, SUM)?;
        }
        Ok(superblock)
    }

    /// What its first bytes say, whatever its checksum.
    pub(super) fn of(view: View<'_>, raw: &RawSuperblock) -> Result<Self, Doubt> {
        check_sizes(view, raw)?;
        let has_crcs = check_features(view, raw)?;
        let sector_size = u64::from(raw.sectsize.get());
        let uses_meta_uuid = has_crcs && raw.features_incompat.get() & META_UUID != 0;
        let block_size = u64::from(raw.blocksize.get());
        let (ag_blocks, blocks) = (u64::from(raw.agblocks.get()), raw.dblocks.get());
        let size = claimed_size(blocks, block_size);
        view.holds("filesystem", 0, size)?;
        let start = raw.logstart.get();
        let (group, block) = (start >> raw.agblklog, start & (1_u64 << raw.agblklog).minus(1));
        let log = (
            claimed_size(claimed_size(group, ag_blocks).saturating_add(block), block_size),
            claimed_size(raw.logblocks.get().into(), block_size),
        );
        if block >= ag_blocks || claimed_end(log.0, log.1) > size {
            return Err(field(
                view,
                "logstart",
                start,
                Expected::That("that of a log inside of it"),
            ));
        }
        Ok(Self {
            has_crcs,
            block_size,
            sector_size,
            blocks,
            ag_blocks,
            ag_count: raw.agcount.get().into(),
            free: raw.fdblocks.get(),
            meta_uuid: if uses_meta_uuid { raw.meta_uuid } else { raw.uuid },
            uuid: raw.uuid,
            label: raw.fname,
            ag_log: raw.agblklog,
            log,
        })
    }

    /// Whether everything lies where another one says.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let free = other.free;
        let label = other.label;
        Self { free, label, ..*self } == *other
    }

    /// The group of a block of the filesystem, and its number there. It may be a claim.
    pub(super) fn split(&self, block: u64) -> (u64, u64) {
        let mask = (1_u64 << self.ag_log).minus(1);
        (block >> self.ag_log, block & mask)
    }

    /// Its size in bytes: no more than the view has.
    pub(super) fn size(&self) -> u64 {
        self.blocks.times(self.block_size)
    }

    /// Where an allocation group begins, in bytes.
    pub(super) fn group_at(&self, group: u64) -> u64 {
        group.times(self.ag_blocks).times(self.block_size)
    }

    /// Where a block of an allocation group begins, in bytes; its end, for one more than it has.
    pub(super) fn block_at(&self, group: u64, block: u64) -> u64 {
        self.group_at(group).plus(block.times(self.block_size))
    }

    /// An allocation group, in bytes.
    pub(super) fn group(&self, group: u64) -> Range<u64> {
        self.group_at(group)..self.block_at(group, self.blocks_of(group))
    }

    /// How many blocks an allocation group has.
    pub(super) fn blocks_of(&self, group: u64) -> u64 {
        self.ag_blocks.min(self.blocks.minus(group.times(self.ag_blocks)))
    }

    /// The name that its owner gave it.
    pub(super) fn label(&self) -> Option<String> {
        fields::label(&self.label)
    }
}

fn field(view: View<'_>, field: &'static str, found: u64, expected: Expected) -> Doubt {
    Doubt::Field {
        structure: STRUCTURE,
        at: view.position(0),
        field,
        found,
        expected,
    }
}

/// Makes sure that sizes and counts fit each other.
fn check_sizes(view: View<'_>, raw: &RawSuperblock) -> Result<(), Doubt> {
    let (block_size, sector_size) = (u64::from(raw.blocksize.get()), u64::from(raw.sectsize.get()));
    if !(512..=65536).contains(&block_size) || block_size.trailing_zeros() != u32::from(raw.blocklog) {
        return Err(field(
            view,
            "blocksize",
            block_size,
            Expected::PowerOfTwo(512, 65536),
        ));
    }
    if !(512..=32768).contains(&sector_size)
        || sector_size.trailing_zeros() != u32::from(raw.sectlog)
        || sector_size > block_size
    {
        return Err(field(
            view,
            "sectsize",
            sector_size,
            Expected::PowerOfTwo(512, block_size),
        ));
    }
    let (blocks, each, count) = (
        raw.dblocks.get(),
        u64::from(raw.agblocks.get()),
        u64::from(raw.agcount.get()),
    );
    // Sectors of headers, and a block of each of the trees.
    let least = sector_size.times(4).div_ceil(block_size).plus(4);
    if each < least {
        return Err(field(view, "agblocks", each, Expected::AtLeast(least)));
    }
    if u64::from(raw.agblklog) != to_log(each) {
        return Err(field(
            view,
            "agblklog",
            raw.agblklog.into(),
            Expected::Exactly(to_log(each)),
        ));
    }
    let expected = blocks.div_ceil(each);
    if count != expected || count == 0 {
        return Err(field(view, "agcount", count, Expected::Exactly(expected)));
    }
    Ok(())
}

/// The logarithm to base 2, rounded up.
fn to_log(number: u64) -> u64 {
    u64::from(number.next_power_of_two().trailing_zeros())
}

/// Makes sure that there is nothing that is not understood. Returns whether there are CRCs.
fn check_features(view: View<'_>, raw: &RawSuperblock) -> Result<bool, Doubt> {
    let version = raw.versionnum.get();
    let clear = |name, found: u32, known: u32| {
        let unknown = !known;
        if found & unknown == 0 {
            return Ok(());
        }
        Err(field(view, name, found.into(), Expected::Clear(unknown.into())))
    };
    clear("versionnum", version.into(), KNOWN_VERSION.into())?;
    let has_crcs = match version & VERSION {
        4 if version & DIRV2 == 0 => {
            return Err(field(
                view,
                "versionnum",
                version.into(),
                Expected::That("directories of version 2"),
            ));
        }
        4 => false,
        5 => true,
        _ => {
            return Err(field(
                view,
                "versionnum",
                version.into(),
                Expected::That("version 4 or 5"),
            ));
        }
    };
    if raw.inprogress != 0 {
        return Err(Doubt::State("it was not made to the end"));
    }
    if raw.rblocks.get() != 0 || raw.rextents.get() != 0 {
        return Err(Doubt::State("it has a realtime device"));
    }
    if raw.logstart.get() == 0 {
        return Err(Doubt::State("its log is on another device"));
    }
    let features2 = raw.features2.get();
    clear("features2", features2, KNOWN_FEATURES2)?;
    if raw.bad_features2.get() != features2 {
        return Err(field(
            view,
            "bad_features2",
            raw.bad_features2.get().into(),
            Expected::Exactly(features2.into()),
        ));
    }
    if has_crcs {
        if raw.features_incompat.get() & NEEDSREPAIR != 0 {
            return Err(Doubt::State("it needs xfs_repair"));
        }
        clear(
            "features_ro_compat",
            raw.features_ro_compat.get(),
            KNOWN_RO_COMPAT,
        )?;
        clear("features_incompat", raw.features_incompat.get(), KNOWN_INCOMPAT)?;
        clear("features_log_incompat", raw.features_log_incompat.get(), 0)?;
    }
    Ok(has_crcs)
}
