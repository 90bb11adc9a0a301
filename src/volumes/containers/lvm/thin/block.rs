//! Blocks of metadata: each begins with a checksum, which tells what kind of block it is.

use crate::error::Expected;
use crate::units::claimed_size;
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_le, u64_le};
use crate::volumes::view::View;

/// The length of a block, in bytes.
pub(super) const BLOCK: u64 = 4096;

/// Where each has its own number, in bytes.
const NUMBER: usize = 8;

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Superblock,
    Node,
    Bitmap,
}

impl Kind {
    /// `SUPERBLOCK_CSUM_XOR`, `BTREE_CSUM_XOR`, `BITMAP_CSUM_XOR`.
    fn salt(self) -> u32 {
        match self {
            Self::Superblock => 160_774,
            Self::Node => 121_107,
            Self::Bitmap => 240_779,
        }
    }

    fn structure(self) -> &'static str {
        match self {
            Self::Superblock => "superblock of the thin pool",
            Self::Node => "B-tree node of the thin pool",
            Self::Bitmap => "bitmap of the thin pool",
        }
    }
}

/// A block, if it is of a kind, and the one that it says it is.
pub(super) fn read(view: View<'_>, number: u64, kind: Kind) -> Result<Vec<u8>, Doubt> {
    let (structure, at) = (kind.structure(), claimed_size(number, BLOCK));
    let block = view.bytes(structure, at, BLOCK)?;
    let summed = block.get(4..).unwrap_or_default();
    let (found, expected) = (u32_le(&block, 0), crc32c(u32::MAX, summed) ^ kind.salt());
    let at = view.position(at);
    if found != expected {
        return Err(Doubt::Checksum {
            structure,
            at,
            found,
            expected,
        });
    }
    let own = u64_le(&block, NUMBER);
    if own != number {
        return Err(Doubt::Field {
            structure,
            at,
            field: "blocknr",
            found: own,
            expected: Expected::Exactly(number),
        });
    }
    Ok(block)
}
