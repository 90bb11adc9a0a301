//! Fast commits: changes of single inodes behind the last transaction, in blocks at the end of the journal. They are
//! not replayed here; it is only told whether there are any.

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U16, U32, Unaligned};

use super::log::Log;
use super::superblock::Superblock;
use crate::units::Exact;
use crate::volumes::doubt::Doubt;

/// The tag that the first block of fast commits begins with.
const TAG_HEAD: u16 = 9;

/// What the first block begins with.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHead {
    /// 0: [`TAG_HEAD`].
    tag: U16<LE>,
    /// 2: the length of the rest, in bytes.
    len: U16<LE>,
    /// 4.
    features: U32<LE>,
    /// 8: the transaction that would have made the same changes.
    tid: U32<LE>,
}

const _: () = assert!(size_of::<RawHead>() == 12);

/// Whether there are fast commits behind the last transaction, where `next` is the number of the one that would
/// follow. Those of earlier transactions are old: what they did, these have done.
pub(super) fn any(log: &Log<'_>, superblock: &Superblock, next: u32) -> Result<bool, Doubt> {
    if !superblock.fast_commit {
        return Ok(false);
    }
    // Linux leaves out the first block of the room for them. Neither is long; whoever takes the other is right, too.
    for number in [superblock.last, superblock.last.plus(1)] {
        if number >= superblock.blocks {
            continue;
        }
        let block = log.block(number)?;
        if let Ok((head, _)) = RawHead::read_from_prefix(&block)
            && head.tag.get() == TAG_HEAD
            && !is_before(head.tid.get(), next)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one transaction is older than another: numbers begin anew behind the last one.
pub(super) fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) > u32::MAX / 2
}
