//! An inode. Source: the kernel's documentation of ext4, "Index Nodes"; which of them are files, and where each has
//! its blocks, as fs/ext4/inode.c decides it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, Unaligned};

use super::faults::Structure;
use super::features::{Features, incompat};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;

/// The blocks that an inode names itself, if it does not have extents.
pub(super) const DIRECT: usize = 12;

/// Flags of `i_flags`.
pub(super) mod flags {
    pub(in super::super) const ENCRYPT: u32 = 0x800;
    pub(in super::super) const EXTENTS: u32 = 0x8_0000;
    /// It holds extended attributes of another inode.
    pub(in super::super) const EA_INODE: u32 = 0x20_0000;
    pub(in super::super) const INLINE_DATA: u32 = 0x1000_0000;
}

/// The types of `i_mode`.
mod mode {
    pub(super) const TYPE: u16 = 0xf000;
    pub(super) const FIFO: u16 = 0x1000;
    pub(super) const CHARACTERS: u16 = 0x2000;
    pub(super) const DIRECTORY: u16 = 0x4000;
    pub(super) const BLOCKS: u16 = 0x6000;
    pub(super) const REGULAR: u16 = 0x8000;
    pub(super) const LINK: u16 = 0xa000;
    pub(super) const SOCKET: u16 = 0xc000;
}

/// What extended attributes in an inode begin with.
const ATTRIBUTES: u32 = 0xea02_0000;

/// The 128 bytes that every inode has.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawInode {
    /// 0: type and permissions.
    pub(super) i_mode: U16<LE>,
    /// 2.
    i_uid: U16<LE>,
    /// 4.
    pub(super) i_size_lo: U32<LE>,
    /// 8: access, change and modification.
    times: [u8; 12],
    /// 20: deletion; of an inode that was deleted while in use, the next one of these.
    pub(super) i_dtime: U32<LE>,
    /// 24.
    i_gid: U16<LE>,
    /// 26.
    pub(super) i_links_count: U16<LE>,
    /// 28: in sectors.
    i_blocks_lo: U32<LE>,
    /// 32: [`flags`].
    pub(super) i_flags: U32<LE>,
    /// 36.
    i_version: U32<LE>,
    /// 40: the root of the tree.
    pub(super) i_block: [u8; 60],
    /// 100.
    pub(super) i_generation: U32<LE>,
    /// 104: the block of extended attributes.
    i_file_acl_lo: U32<LE>,
    /// 108.
    pub(super) i_size_high: U32<LE>,
    /// 112: of no use.
    i_obso_faddr: U32<LE>,
    /// 116.
    i_blocks_high: U16<LE>,
    /// 118: with 64bit.
    i_file_acl_high: U16<LE>,
    /// 120: upper halves of owner and group.
    owner: [u8; 4],
    /// 124: the lower half of the checksum.
    i_checksum_lo: U16<LE>,
    /// 126: 0.
    i_reserved: U16<LE>,
}

const _: () = assert!(size_of::<RawInode>() == 128);

/// What follows in inodes that are larger.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtra {
    /// 128: how many bytes from here on are fields.
    i_extra_isize: U16<LE>,
    /// 130: the upper half of the checksum.
    i_checksum_hi: U16<LE>,
}

const _: () = assert!(size_of::<RawExtra>() == 4);

/// Where a file has its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nowhere: it is no file that has some, or so short that the inode holds it.
    None,
    /// In extents, the root of whose tree `i_block` is.
    Extents,
    /// In blocks that `i_block` names, or blocks that it names name.
    Indirect,
}

impl RawInode {
    /// Whether it is of a type that there is.
    pub(super) fn has_type(&self) -> bool {
        matches!(
            self.i_mode.get() & mode::TYPE,
            mode::FIFO
                | mode::CHARACTERS
                | mode::DIRECTORY
                | mode::BLOCKS
                | mode::REGULAR
                | mode::LINK
                | mode::SOCKET
        )
    }

    /// Whether its blocks are metadata of the filesystem, whatever its number: names, targets of links, attributes.
    pub(super) fn is_metadata(&self) -> bool {
        matches!(self.i_mode.get() & mode::TYPE, mode::DIRECTORY | mode::LINK)
            || self.i_flags.get() & flags::EA_INODE != 0
    }

    /// The block of its extended attributes, if it has one.
    pub(super) fn attributes(&self, features: Features) -> Option<u64> {
        let high = if features.incompat(incompat::IS_64BIT) {
            u64::from(self.i_file_acl_high.get()) << 32
        } else {
            0
        };
        Some(high | u64::from(self.i_file_acl_lo.get())).filter(|block| *block != 0)
    }

    /// Where it has its blocks. `rest` is what follows in the inode, `cluster` the size of a cluster in bytes.
    pub(super) fn body(&self, rest: &[u8], features: Features, cluster: u64) -> Body {
        let has = |flag: u32| self.i_flags.get() & flag != 0;
        let may_have_blocks = match self.i_mode.get() & mode::TYPE {
            mode::REGULAR | mode::DIRECTORY => true,
            mode::LINK => !self.is_short_link(features, cluster),
            _ => false,
        };
        if !may_have_blocks {
            return Body::None;
        }
        if has(flags::EXTENTS) {
            return Body::Extents;
        }
        let may_hold_data = features.incompat(incompat::INLINE_DATA) && has(flags::INLINE_DATA);
        if may_hold_data && has_attributes(rest) {
            return Body::None;
        }
        Body::Indirect
    }

    /// Whether the inode holds the target of a symbolic link.
    fn is_short_link(&self, features: Features, cluster: u64) -> bool {
        if features.incompat(incompat::EA_INODE) {
            let size = u64::from(self.i_size_high.get()) << 32 | u64::from(self.i_size_lo.get());
            return (1..60).contains(&size);
        }
        // The sectors of its attributes are counted, too.
        let attributes = self.attributes(features).map_or(0, |_| cluster / 512);
        let sectors = u64::from(self.i_blocks_high.get()) << 32 | u64::from(self.i_blocks_lo.get());
        sectors == attributes
    }
}

/// Whether there are extended attributes behind the first 128 bytes of an inode: what it holds itself is one.
fn has_attributes(rest: &[u8]) -> bool {
    let Ok((extra, _)) = RawExtra::read_from_prefix(rest) else {
        return false;
    };
    let attributes = rest.get(usize::from(extra.i_extra_isize.get())..);
    let magic = attributes.map(U32::<LE>::read_from_prefix);
    matches!(magic, Some(Ok((magic, _))) if magic.get() == ATTRIBUTES)
}

/// What the checksums of an inode and of the tree that hangs on it begin with, where `seed` is that of all.
pub(super) fn seed_of(seed: u32, number: u32, raw: &RawInode) -> u32 {
    let seed = crc32c(seed, &number.to_le_bytes());
    crc32c(seed, &raw.i_generation.get().to_le_bytes())
}

/// Makes sure that an inode is what its checksum says.
pub(super) fn has_checksum(
    structure: Structure,
    seed: u32,
    mut raw: RawInode,
    rest: &[u8],
) -> Result<(), Doubt> {
    let mut found = u32::from(raw.i_checksum_lo.get());
    let mut mask = u32::from(u16::MAX);
    raw.i_checksum_lo = U16::ZERO;
    let mut sum = crc32c(seed, raw.as_bytes());
    if let Ok((mut extra, rest)) = RawExtra::read_from_prefix(rest) {
        if extra.i_extra_isize.get() >= 4 {
            found |= u32::from(extra.i_checksum_hi.get()) << 16;
            mask = u32::MAX;
            extra.i_checksum_hi = U16::ZERO;
        }
        sum = crc32c(crc32c(sum, extra.as_bytes()), rest);
    }
    structure.has_checksum(found, sum & mask)
}

/// Whether random bytes hardly ever pass for an inode with its checksum: it has 32 bits, or 16 bits and a field that is
/// always 0.
pub(super) fn has_strong_checksum(raw: &RawInode, rest: &[u8]) -> bool {
    let extra = RawExtra::read_from_prefix(rest);
    let has_upper_half = extra.is_ok_and(|(extra, _)| extra.i_extra_isize.get() >= 4);
    has_upper_half || raw.i_reserved == U16::ZERO
}

/// The numbers of blocks in a block.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| u32::from_le_bytes(*number))
}
