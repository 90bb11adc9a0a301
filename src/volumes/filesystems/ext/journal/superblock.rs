//! The superblock of a journal, which is its first block.

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U32, Unaligned};

use super::checksum::{Checksums, holds_sum};
use super::header::{MAGIC, RawHeader};
use super::log::Log;
use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::faults::Structure;

/// The only type of checksum that blocks have: CRC-32C.
const CRC_32C: u8 = 4;

/// How many blocks are for fast commits where that is not told.
const FAST_COMMIT_BLOCKS: u32 = 256;

/// The fewest blocks that a journal can have; Linux makes none with fewer, and mounts none.
const MIN_BLOCKS: u32 = 1024;

/// Features that readers need not know.
mod compat {
    /// Version 1 of the checksums.
    pub(super) const CHECKSUM: u32 = 1;
}

/// Features that readers have to know.
mod incompat {
    pub(super) const REVOKE: u32 = 1;
    pub(super) const WIDE: u32 = 2;
    pub(super) const ASYNC_COMMIT: u32 = 4;
    pub(super) const CSUM_V2: u32 = 8;
    pub(super) const CSUM_V3: u32 = 0x10;
    pub(super) const FAST_COMMIT: u32 = 0x20;
    pub(super) const KNOWN: u32 = REVOKE | WIDE | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT;
}

/// The 1024 bytes it has.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    /// 0: the block type is 3 for version 1, which ends at byte 36, and 4 for version 2.
    header: RawHeader,
    /// 12: the size of a block, in bytes; that of the filesystem's.
    blocksize: U32<BE>,
    /// 16: how many blocks the journal has, this one included.
    maxlen: U32<BE>,
    /// 20: the first block of the log.
    first: U32<BE>,
    /// 24: the first transaction that is expected in the log.
    sequence: U32<BE>,
    /// 28: the block that the log begins with; 0 if it is empty.
    start: U32<BE>,
    /// 32: why the journal was given up; 0 if it was not.
    errno: U32<BE>,
    /// 36: [`compat`].
    feature_compat: U32<BE>,
    /// 40: [`incompat`].
    feature_incompat: U32<BE>,
    /// 44: none are known.
    feature_ro_compat: U32<BE>,
    /// 48: of the journal, which the checksums begin with.
    uuid: [u8; 16],
    /// 64.
    nr_users: U32<BE>,
    /// 68.
    dynsuper: U32<BE>,
    /// 72.
    max_transaction: U32<BE>,
    /// 76.
    max_trans_data: U32<BE>,
    /// 80: [`CRC_32C`].
    checksum_type: u8,
    /// 81.
    padding: [u8; 3],
    /// 84: how many blocks at the end are for fast commits; 0 for [`FAST_COMMIT_BLOCKS`].
    num_fc_blks: U32<BE>,
    /// 88: where the log ends, if it is empty.
    head: U32<BE>,
    /// 92.
    padding_2: [u8; 160],
    /// 252: of these 1024 bytes, itself as zeros.
    checksum: U32<BE>,
    /// 256: who uses an external journal.
    users: [u8; 768],
}

const _: () = assert!(size_of::<RawSuperblock>() == 1024);

/// Where its checksum stands in it.
const CHECKSUM: usize = 252;

/// What it says.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// How many blocks the journal has.
    pub(super) blocks: u64,
    /// The first block of the log.
    pub(super) first: u64,
    /// The first block that is not of the log: it goes on with [`first`](Self::first).
    pub(super) last: u64,
    /// The first transaction that is expected in the log.
    pub(super) sequence: u32,
    /// Where that begins; none if the log is empty.
    pub(super) start: Option<u64>,
    pub(super) checksums: Checksums,
    /// Whether numbers of blocks have 64 bits.
    pub(super) wide: bool,
    /// Whether the commit block may get to the disk before what it commits.
    pub(super) async_commit: bool,
    /// Whether there is room for fast commits, from [`last`](Self::last) on.
    pub(super) fast_commit: bool,
}

impl Superblock {
    /// Reads and checks it.
    pub(super) fn read(log: &Log<'_>) -> Result<Self, Doubt> {
        let block = log.block(0)?;
        let Ok((raw, _)) = RawSuperblock::read_from_prefix(&block) else {
            return Err(Doubt::State("its journal has blocks that are too small"));
        };
        let name = "journal superblock";
        let at = log.position(0);
        Checked {
            raw: &raw,
            place: Structure { name, at },
        }
        .superblock(log)
    }
}

/// A superblock that is being checked.
struct Checked<'s> {
    raw: &'s RawSuperblock,
    place: Structure,
}

impl Checked<'_> {
    fn superblock(&self, log: &Log<'_>) -> Result<Superblock, Doubt> {
        let raw = self.raw;
        self.both_versions(log)?;
        let (compat, incompat) = self.features()?;
        let checksums = self.checksums(compat, incompat)?;
        let fast_commit = incompat & incompat::FAST_COMMIT != 0;
        let last = self.last(fast_commit)?;
        let start = raw.start.get();
        let in_log = (raw.first.get()..last).contains(&start);
        let expected = Expected::That("a block of the log");
        self.place
            .require(start == 0 || in_log, "s_start", start.into(), expected)?;
        Ok(Superblock {
            blocks: raw.maxlen.get().into(),
            first: raw.first.get().into(),
            last: last.into(),
            sequence: raw.sequence.get(),
            start: in_log.then_some(start.into()),
            checksums,
            wide: incompat & incompat::WIDE != 0,
            async_commit: incompat & incompat::ASYNC_COMMIT != 0,
            fast_commit,
        })
    }

    /// Checks what both versions have.
    fn both_versions(&self, log: &Log<'_>) -> Result<(), Doubt> {
        let (raw, place) = (self.raw, self.place);
        place.exactly("h_magic", raw.header.magic.get().into(), MAGIC.into())?;
        let version = raw.header.blocktype.get();
        let expected = Expected::That("3 or 4");
        place.require(matches!(version, 3 | 4), "h_blocktype", version.into(), expected)?;
        place.exactly("s_blocksize", raw.blocksize.get().into(), log.block_size())?;
        let blocks = u64::from(raw.maxlen.get());
        place.at_most("s_maxlen", blocks, log.blocks())?;
        let expected = Expected::AtLeast(MIN_BLOCKS.into());
        place.require(blocks >= MIN_BLOCKS.into(), "s_maxlen", blocks, expected)?;
        place.at_least_one("s_first", raw.first.get().into())?;
        place.exactly("s_errno", raw.errno.get().into(), 0)
    }

    /// The features, compatible and not, all of them known. Version 1 has none.
    fn features(&self) -> Result<(u32, u32), Doubt> {
        let raw = self.raw;
        if raw.header.blocktype.get() == 3 {
            return Ok((0, 0));
        }
        let (compat, incompat) = (raw.feature_compat.get(), raw.feature_incompat.get());
        let fields = [
            ("s_feature_compat", compat, compat::CHECKSUM),
            ("s_feature_incompat", incompat, incompat::KNOWN),
            ("s_feature_ro_compat", raw.feature_ro_compat.get(), 0),
        ];
        for (field, found, known) in fields {
            let expected = Expected::That("features that this version knows");
            self.place
                .require(found & !known == 0, field, found.into(), expected)?;
        }
        Ok((compat, incompat))
    }

    /// What has checksums; that of this superblock is right.
    fn checksums(&self, compat: u32, incompat: u32) -> Result<Checksums, Doubt> {
        let first = compat & compat::CHECKSUM != 0;
        let second = incompat & incompat::CSUM_V2 != 0;
        let third = incompat & incompat::CSUM_V3 != 0;
        let seed = crc32c(u32::MAX, &self.raw.uuid);
        let checksums = match (first, second, third) {
            (false, false, false) => return Ok(Checksums::None),
            (true, false, false) => return Ok(Checksums::Transactions),
            (false, true, false) => Checksums::Halves(seed),
            (false, false, true) => Checksums::Blocks(seed),
            _ => return Err(Doubt::State("its journal has checksums of two versions")),
        };
        let found = self.raw.checksum_type;
        self.place
            .exactly("s_checksum_type", found.into(), CRC_32C.into())?;
        holds_sum(self.place, u32::MAX, self.raw.as_bytes(), CHECKSUM)?;
        Ok(checksums)
    }

    /// The first block that is not of the log.
    fn last(&self, fast_commit: bool) -> Result<u32, Doubt> {
        let (blocks, first) = (self.raw.maxlen.get(), self.raw.first.get());
        let reserved = match self.raw.num_fc_blks.get() {
            _ if !fast_commit => 0,
            0 => FAST_COMMIT_BLOCKS,
            reserved => reserved,
        };
        let most = blocks.minus(MIN_BLOCKS);
        self.place
            .at_most("s_num_fc_blks", reserved.into(), most.into())?;
        let last = blocks.minus(reserved);
        let most = last.minus(1);
        self.place.at_most("s_first", first.into(), most.into())?;
        Ok(last)
    }
}
