//! Chunks: which bytes of the device a logical address means. Source: Linux, `fs/btrfs/volumes.c`;
//! `include/uapi/linux/btrfs_tree.h`, `struct btrfs_chunk`.

use std::ops::Range;

use super::item::{CHUNK_ITEM, KEY, Key};
use super::raw_superblock::field;
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u16_le, u64_le};
use crate::volumes::view::View;

/// What keys of chunks have for an object.
pub(super) const CHUNKS: u64 = 256;

// Where fields of a chunk are, in bytes, and the lengths of what is in front of its stripes and of a stripe.
const LENGTH: usize = 0;
const STRIPE_LEN: usize = 16;
const TYPE: usize = 24;
const NUM_STRIPES: usize = 44;
const HEADER: usize = 48;
const STRIPE: usize = 32;

/// Types of chunks.
pub(super) const DATA: u64 = 1;
pub(super) const SYSTEM: u64 = 2;
pub(super) const METADATA: u64 = 4;
const DUP: u64 = 0x20;
const RAID: u64 = 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400;

/// A range of logical addresses, and where it is on the device: once, or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The first address.
    pub(super) start: u64,
    /// In bytes: a multiple of the size of a sector.
    pub(super) length: u64,
    /// Bits of what it holds, and of how.
    pub(super) kind: u64,
    /// Where it begins on the device, and where its copy does, in bytes.
    first: u64,
    second: Option<u64>,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        // It was checked when it was read.
        self.start.plus(self.length)
    }

    /// Where each copy of it begins on the device.
    pub(super) fn stripes(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// Where logical addresses in it are on the device, in each copy.
    pub(super) fn places(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let (from, to) = (range.start.minus(self.start), range.end.minus(self.start));
        self.stripes()
            .map(move |stripe| stripe.plus(from)..stripe.plus(to))
    }

    /// A chunk as an item tells it, or which field of it cannot be so.
    pub(super) fn parse(key: Key, item: &[u8], superblock: &Superblock) -> Result<Self, Fault> {
        if to_u64(item.len()) != length_of(item) {
            return Err(("size", to_u64(item.len()), Expected::Exactly(length_of(item))));
        }
        let count = u64::from(u16_le(item, NUM_STRIPES));
        let kind = u64_le(item, TYPE);
        let (is_dup, sector) = (kind & DUP != 0, superblock.sector_size);
        let copies = if is_dup { 2 } else { 1 };
        if kind & RAID != 0 {
            return Err(("type", kind, Expected::That("that of one device")));
        }
        let content = kind & !DUP;
        if content & !(DATA | SYSTEM | METADATA) != 0 || content == 0 {
            return Err(("type", kind, Expected::That("data, system or metadata")));
        }
        if count != copies {
            return Err(("num_stripes", count, Expected::Exactly(copies)));
        }
        let length = u64_le(item, LENGTH);
        if length == 0 || !length.is_multiple_of(sector) {
            return Err(("length", length, Expected::MultipleOf(sector)));
        }
        if !key.offset.is_multiple_of(sector) || key.offset.checked_add(length).is_none() {
            return Err(("logical address", key.offset, Expected::MultipleOf(sector)));
        }
        if u64_le(item, STRIPE_LEN) != 64 << 10 {
            return Err((
                "stripe_len",
                u64_le(item, STRIPE_LEN),
                Expected::Exactly(64 << 10),
            ));
        }
        let stripe = |number| stripe(item, number, length, superblock);
        Ok(Self {
            start: key.offset,
            length,
            kind,
            first: stripe(0)?,
            second: is_dup.then(|| stripe(1)).transpose()?,
        })
    }
}

/// A field that cannot be so: its name, what it is, and what would be right.
pub(super) type Fault = (&'static str, u64, Expected);

/// How long an item is that has as many stripes as it says.
fn length_of(item: &[u8]) -> u64 {
    let stripes = usize::from(u16_le(item, NUM_STRIPES));
    to_u64(HEADER.plus(stripes.times(STRIPE)))
}

/// Where a stripe of an item begins.
fn stripe(item: &[u8], number: usize, length: u64, superblock: &Superblock) -> Result<u64, Fault> {
    let at = HEADER.plus(number.times(STRIPE));
    let (devid, offset) = (u64_le(item, at), u64_le(item, at.plus(8)));
    let expected = superblock.device.devid.get();
    let uuid = item.get(at.plus(16)..at.plus(STRIPE)).unwrap_or_default();
    if devid != expected || uuid != superblock.device.uuid {
        return Err(("devid", devid, Expected::Exactly(expected)));
    }
    if !offset.is_multiple_of(superblock.sector_size) || claimed_end(offset, length) > superblock.size {
        let expected = Expected::That("that of a stripe on the device");
        return Err(("stripe offset", offset, expected));
    }
    Ok(offset)
}

/// The chunks of a filesystem, ascending.
#[derive(Debug)]
pub(super) struct Chunks(Vec<Chunk>);

impl Chunks {
    /// Some chunks, in any order, none of which overlap.
    pub(super) fn new(mut chunks: Vec<Chunk>) -> Result<Self, Doubt> {
        chunks.sort_unstable_by_key(|chunk| chunk.start);
        if !chunks.is_sorted_by(|one, next| one.end() <= next.start) {
            return Err(Doubt::State("its chunks overlap"));
        }
        Ok(Self(chunks))
    }

    /// Those of which the superblock tells, so that the chunk tree can be read.
    pub(super) fn system(view: View<'_>, superblock: &Superblock) -> Result<Self, Doubt> {
        let (mut chunks, mut rest) = (Vec::new(), &*superblock.system_chunks);
        while !rest.is_empty() {
            let key = Key::read(rest, 0);
            let (_, item) = rest.split_at_checked(KEY).unwrap_or_default();
            let Some((item, behind)) = item.split_at_checked(to_usize(length_of(item))) else {
                return Err(Doubt::State("its superblock has a part of a chunk"));
            };
            let chunk = Chunk::parse(key, item, superblock)
                .map_err(|(name, found, expected)| field(view, name, found, expected))?;
            if (key.objectid, key.kind) != (CHUNKS, CHUNK_ITEM) || chunk.kind & SYSTEM == 0 {
                return Err(Doubt::State(
                    "its superblock has a chunk that is none of the system",
                ));
            }
            chunks.push(chunk);
            rest = behind;
        }
        Self::new(chunks)
    }

    /// Whether all of them are among others.
    pub(super) fn are_in(&self, others: &Self) -> bool {
        self.iter().all(|chunk| {
            let number = others.number(chunk.start);
            number.and_then(|number| others.0.get(number)) == Some(chunk)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of the one that begins at an address.
    pub(super) fn number(&self, start: u64) -> Option<usize> {
        self.0.binary_search_by_key(&start, |chunk| chunk.start).ok()
    }

    /// The one that has all of some addresses.
    pub(super) fn find(&self, range: &Range<u64>) -> Option<&Chunk> {
        let behind = self.0.partition_point(|chunk| chunk.start <= range.start);
        let chunk = self.0.get(behind.checked_sub(1)?)?;
        (range.end <= chunk.end()).then_some(chunk)
    }
}
