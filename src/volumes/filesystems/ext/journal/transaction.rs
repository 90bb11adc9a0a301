//! What a transaction consists of: descriptors with the blocks that they describe, revocations, and the commit.

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U16, U32, U64, Unaligned};

use super::checksum::Checksums;
use super::header::RawHeader;
use super::superblock::Superblock;
use crate::units::{Exact, to_usize};
use crate::volumes::doubt::Doubt;

/// Where a block of the filesystem has a copy in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The block of the filesystem.
    pub(super) home: u64,
    /// The block of the log: no log has more of them than that.
    pub(super) at: u64,
    /// The transaction that it belongs to.
    pub(super) sequence: u32,
    /// Whether its first four bytes, which are those of a block of the log, stand there as zeros.
    pub(super) escaped: bool,
}

/// What a descriptor says of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) home: u64,
    pub(super) escaped: bool,
    /// The checksum of the block, and which of its bits there are.
    pub(super) checksum: u32,
    pub(super) mask: u32,
}

/// Flags of a tag.
mod flags {
    pub(super) const ESCAPED: u16 = 1;
    pub(super) const SAME_UUID: u16 = 2;
    pub(super) const LAST: u16 = 8;
}

/// What all tags begin with but those of version 3.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTag {
    /// 0.
    blocknr: U32<BE>,
    /// 4: with checksums of version 2, the lower half.
    checksum: U16<BE>,
    /// 6: [`flags`].
    flags: U16<BE>,
}

/// A tag with checksums of version 3.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTag3 {
    /// 0.
    blocknr: U32<BE>,
    /// 4: the upper half of the flags, of which there are none.
    flags_high: U16<BE>,
    /// 6: [`flags`].
    flags: U16<BE>,
    /// 8: with 64 bits only.
    blocknr_high: U32<BE>,
    /// 12.
    checksum: U32<BE>,
}

const _: () = assert!(size_of::<RawTag>() == 8 && size_of::<RawTag3>() == 16);

/// The tags of a descriptor, which is a whole block.
pub(super) fn tags(superblock: &Superblock, descriptor: &[u8]) -> Vec<Tag> {
    let end = descriptor.len().minus(superblock.checksums.tail());
    let mut rest = descriptor.get(size_of::<RawHeader>()..end).unwrap_or_default();
    let mut tags = Vec::new();
    while let Some((tag, flags, length)) = tag(superblock, rest) {
        tags.push(tag);
        // The name of the filesystem follows, unless it is that of the tag before.
        let uuid = if flags & flags::SAME_UUID == 0 { 16 } else { 0 };
        rest = rest.get(length.plus(uuid)..).unwrap_or_default();
        if flags & flags::LAST != 0 {
            break;
        }
    }
    tags
}

/// The tag that `bytes` begin with, its flags and its length; none if they are too few.
fn tag(superblock: &Superblock, bytes: &[u8]) -> Option<(Tag, u16, usize)> {
    let upper = |high: u32| if superblock.wide { u64::from(high) << 32 } else { 0 };
    let (tag, flags, length) = match superblock.checksums {
        Checksums::Blocks(_) => {
            let (raw, _) = RawTag3::read_from_prefix(bytes).ok()?;
            let tag = Tag {
                home: u64::from(raw.blocknr.get()) | upper(raw.blocknr_high.get()),
                escaped: false,
                checksum: raw.checksum.get(),
                mask: u32::MAX,
            };
            (tag, raw.flags.get(), size_of::<RawTag3>())
        }
        checksums @ (Checksums::None | Checksums::Transactions | Checksums::Halves(_)) => {
            let (raw, rest) = RawTag::read_from_prefix(bytes).ok()?;
            // Version 2 has two bytes at the end that nobody uses.
            let unused = if matches!(checksums, Checksums::Halves(_)) {
                2
            } else {
                0
            };
            let wide = if superblock.wide { 4 } else { 0 };
            let high = U32::<BE>::read_from_prefix(rest).map_or(0, |(high, _)| high.get());
            let tag = Tag {
                home: u64::from(raw.blocknr.get()) | upper(high),
                escaped: false,
                checksum: raw.checksum.get().into(),
                mask: u16::MAX.into(),
            };
            (tag, raw.flags.get(), size_of::<RawTag>().plus(wide).plus(unused))
        }
    };
    let escaped = flags & flags::ESCAPED != 0;
    (length <= bytes.len()).then_some((Tag { escaped, ..tag }, flags, length))
}

/// The blocks of the filesystem that a block of revocations names: earlier copies of them do not count.
pub(super) fn revocations<'b>(
    superblock: &Superblock,
    block: &'b [u8],
) -> Result<impl Iterator<Item = u64> + use<'b>, Doubt> {
    let wide = superblock.wide;
    let refuse = || Doubt::State("its journal has a revocation block whose size exceeds a block");
    let (_, rest) = RawHeader::read_from_prefix(block).map_err(|_| refuse())?;
    // How many bytes are used, of all of the block.
    let (used, _) = U32::<BE>::read_from_prefix(rest).map_err(|_| refuse())?;
    let used = to_usize(used.get().into());
    if used > block.len().minus(superblock.checksums.tail()) {
        return Err(refuse());
    }
    let records = block.get(16..used).unwrap_or_default();
    let size = if wide { 8 } else { 4 };
    Ok(records.chunks_exact(size).map(move |record| {
        if wide {
            U64::<BE>::read_from_bytes(record).map_or(0, U64::get)
        } else {
            U32::<BE>::read_from_bytes(record).map_or(0, |number| number.get().into())
        }
    }))
}

/// The commit block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawCommit {
    /// 0.
    header: RawHeader,
    /// 12: 1 for CRC-32, 0 for none; version 1 only.
    pub(super) chksum_type: u8,
    /// 13: its length, 4 bytes; version 1 only.
    pub(super) chksum_size: u8,
    /// 14.
    padding: [u8; 2],
    /// 16: of the transaction with version 1, of the block with version 2 and 3.
    pub(super) chksum: U32<BE>,
}

/// Where the checksum of a commit block stands in it.
pub(super) const COMMIT_CHECKSUM: usize = 16;

const _: () = assert!(size_of::<RawCommit>() == COMMIT_CHECKSUM + 4);
