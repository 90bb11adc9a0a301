//! The nodes of trees of extents. Source: the kernel's documentation of ext4, "Extent Tree".

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, Unaligned};

use super::faults::Structure;
use crate::units::{Exact, to_u64};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;

/// The deepest tree of extents that Linux makes.
pub(super) const MAX_DEPTH: u16 = 5;

/// The longest extent. More than that stands for blocks that were never written.
pub(super) const MAX_LENGTH: u16 = 0x8000;

/// The head of a node of the tree of extents.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawExtentHeader {
    /// 0: 0xf30a.
    magic: U16<LE>,
    /// 2: how many entries follow.
    pub(super) entries: U16<LE>,
    /// 4: for how many there is room.
    max: U16<LE>,
    /// 6: how many levels lie below.
    pub(super) depth: U16<LE>,
    /// 8.
    generation: U32<LE>,
}

/// An entry of a node: an extent on the lowest level, another node above.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    /// 0: the first block of the file that it is about.
    pub(super) block: U32<LE>,
    /// 4: extents: `ee_len` and `ee_start_hi`; nodes: `ei_leaf_lo`.
    middle: [U16<LE>; 2],
    /// 8: extents: `ee_start_lo`; nodes: `ei_leaf_hi` and nothing.
    end: [U16<LE>; 2],
}

const _: () = assert!(size_of::<RawExtentHeader>() == 12 && size_of::<RawEntry>() == 12);

impl RawEntry {
    /// The block of the node that it names.
    pub(super) fn node(&self) -> u64 {
        let ([first, second], [third, _]) = (self.middle, self.end);
        number([first, second, third])
    }

    /// The first block of the extent that it is.
    pub(super) fn start(&self) -> u64 {
        let ([_, second], [third, fourth]) = (self.middle, self.end);
        number([third, fourth, second])
    }

    /// `ee_len`.
    pub(super) fn raw_length(&self) -> u16 {
        let [length, _] = self.middle;
        length.get()
    }

    /// How many blocks the extent has, written or not.
    pub(super) fn length(&self) -> u64 {
        let length = self.raw_length();
        if length > MAX_LENGTH {
            length.minus(MAX_LENGTH).into()
        } else {
            length.into()
        }
    }
}

/// 16 bits each, the lowest first, as one number.
fn number(parts: [U16<LE>; 3]) -> u64 {
    parts
        .into_iter()
        .rev()
        .fold(0, |number, part| number << 16 | u64::from(part.get()))
}

/// The head of a node and its entries. `depth` is what the node above makes it have; the root may have any.
///
/// # Errors
///
/// A [`Doubt`] if the head is none, or does not fit.
pub(super) fn node(
    structure: Structure,
    bytes: &[u8],
    depth: Option<u16>,
) -> Result<(RawExtentHeader, &[RawEntry]), Doubt> {
    let small = || Doubt::State("its trees of extents have nodes that are too small");
    let Ok((header, rest)) = RawExtentHeader::read_from_prefix(bytes) else {
        return Err(small());
    };
    structure.exactly("eh_magic", header.magic.get().into(), 0xf30a)?;
    match depth {
        Some(depth) => structure.exactly("eh_depth", header.depth.get().into(), depth.into())?,
        None => structure.at_most("eh_depth", header.depth.get().into(), MAX_DEPTH.into())?,
    }
    let (room, _) = rest.as_chunks::<{ size_of::<RawEntry>() }>();
    structure.at_most("eh_max", header.max.get().into(), to_u64(room.len()))?;
    let count = header.entries.get();
    structure.at_most("eh_entries", count.into(), header.max.get().into())?;
    let (entries, _) = <[RawEntry]>::ref_from_prefix_with_elems(rest, count.into()).map_err(|_| small())?;
    Ok((header, entries))
}

/// Makes sure that a node, other than the root, is what the checksum behind its entries says.
pub(super) fn node_has_checksum(
    structure: Structure,
    seed: u32,
    bytes: &[u8],
    header: RawExtentHeader,
) -> Result<(), Doubt> {
    let entries = usize::from(header.max.get()).times(size_of::<RawEntry>());
    let end = size_of::<RawExtentHeader>().plus(entries);
    let parts = bytes.split_at_checked(end);
    let Some((covered, [a, b, c, d, ..])) = parts else {
        return Err(Doubt::State("its trees of extents have no room for checksums"));
    };
    structure.has_checksum(u32::from_le_bytes([*a, *b, *c, *d]), crc32c(seed, covered))
}
