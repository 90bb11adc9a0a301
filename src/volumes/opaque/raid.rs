//! Members of RAIDs. Sources: Linux, `include/uapi/linux/raid/md_p.h`; the makers' formats as libblkid knows them.

use std::borrow::Cow;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32, U64, Unaligned};

use super::edges::Edges;
use crate::units::{Exact, to_u64};
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;

const MAGIC: u32 = 0xa92b_4efc;

/// The level of mirrors.
const MIRROR: u32 = 1;

/// What a mirror may have that leaves its content where it is: a bitmap of writes, a list of bad blocks.
const HARMLESS_FEATURES: u32 = 0x1 | 0x8;

/// The beginning of a superblock of version 0.90, in the byte order of the machine.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawOld {
    /// 0.
    magic: U32<LE>,
    /// 4: 0.
    major_version: U32<LE>,
    /// 8: 90, or 91 while the array is being reshaped.
    minor_version: U32<LE>,
    /// 12: the patch version, the words that are valid, the first of the identity, the time of creation.
    others: [u8; 16],
    /// 28.
    level: U32<LE>,
}

const _: () = assert!(size_of::<RawOld>() == 32);

/// The beginning of a superblock of version 1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawNew {
    /// 0.
    magic: U32<LE>,
    /// 4: 1.
    major_version: U32<LE>,
    /// 8: bits, one for each feature.
    feature_map: U32<LE>,
    /// 12: identity, name, time of creation.
    names: [u8; 60],
    /// 72.
    level: U32<LE>,
    /// 76: layout, sizes, what it is reshaped to.
    shape: [u8; 52],
    /// 128: the sector that the content begins with.
    data_offset: U64<LE>,
    /// 136: how many sectors of it there may be.
    data_size: U64<LE>,
    /// 144: the sector that this is in.
    super_offset: U64<LE>,
}

const _: () = assert!(size_of::<RawNew>() == 152);

/// Whether it is a member of an array of md, other than a mirror with all of its content at the beginning: what that
/// holds is there as it is.
pub(super) fn is_linux(edges: &Edges<'_>) -> Answer {
    let is_in_front = |at| Ok(new(edges, at)?.is_some());
    let is_old = |at| Ok(old_mirror(edges, at)? == Some(false));
    let is_behind = |at| Ok(new(edges, at)?.is_some_and(|found| !found.is_plain_mirror()));
    let in_front = [0, 4 << 10].map(is_in_front);
    let behind = [old_place(edges).map(is_old), new_place(edges).map(is_behind)];
    answer::any(in_front.into_iter().chain(behind.into_iter().flatten()))
}

/// Where the superblock of a plain mirror begins, if this is a member of one.
pub(super) fn mirror_end(edges: &Edges<'_>) -> Result<Option<u64>, Doubt> {
    let is_new = |at| Ok(new(edges, at)?.is_some_and(|found| found.is_plain_mirror()));
    let is_old = |at| Ok(old_mirror(edges, at)? == Some(true));
    let new = answer::first(new_place(edges), is_new)?;
    let old = answer::first(old_place(edges), is_old)?;
    Ok([new, old].into_iter().flatten().min())
}

/// Where a superblock of version 0.90 is.
fn old_place(edges: &Edges<'_>) -> Option<u64> {
    edges.before_end(64 << 10, 64 << 10)
}

/// Where a superblock of version 1 is that lies behind the content.
fn new_place(edges: &Edges<'_>) -> Option<u64> {
    edges.before_end(8 << 10, 4 << 10)
}

fn structure<T: FromBytes>(edges: &Edges<'_>, at: u64) -> Result<Option<T>, Doubt> {
    let bytes = edges.bytes(at, to_u64(size_of::<T>()))?;
    Ok(bytes.and_then(|bytes| T::read_from_bytes(&bytes).ok()))
}

/// Whether the superblock of version 0.90 at `at` is that of a plain mirror; none if there is none.
fn old_mirror(edges: &Edges<'_>, at: u64) -> Result<Option<bool>, Doubt> {
    let Some(found) = structure::<RawOld>(edges, at)? else {
        return Ok(None);
    };
    let is_swapped = found.magic.get() == MAGIC.swap_bytes();
    let number = |field: U32<LE>| {
        if is_swapped {
            field.get().swap_bytes()
        } else {
            field.get()
        }
    };
    let is_plain_mirror = number(found.level) == MIRROR && number(found.minor_version) == 90;
    Ok((number(found.magic) == MAGIC).then_some(is_plain_mirror))
}

/// The superblock of version 1 at `at`, if it is one and says that it is there.
fn new(edges: &Edges<'_>, at: u64) -> Result<Option<RawNew>, Doubt> {
    let is_one = |found: &RawNew| {
        found.magic.get() == MAGIC && found.major_version.get() == 1 && found.super_offset.get() == at / 512
    };
    Ok(structure(edges, at)?.filter(is_one))
}

impl RawNew {
    fn is_plain_mirror(&self) -> bool {
        self.level.get() == MIRROR
            && self.data_offset.get() == 0
            && self.feature_map.get() & !HARMLESS_FEATURES == 0
    }
}

/// Promise's is in one of many places near the end.
pub(super) fn is_promise(edges: &Edges<'_>) -> Answer {
    const SECTORS: [u64; 13] = [16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991, 3087];
    answer::any(SECTORS.iter().map(|sector| {
        let at = edges.before_end(sector.times(512), 512);
        edges.has_at(at, b"Promise Technology, Inc.")
    }))
}

/// VIA's signature is short, but there is a sum of what follows it.
pub(super) fn is_via(edges: &Edges<'_>) -> Answer {
    let sector = last_sector(edges, 51)?;
    let Some((sum, summed)) = sector.as_deref().and_then(<[u8]>::split_last) else {
        return Ok(false);
    };
    let is_signed = matches!(summed, [0x55, 0xaa, 0..=2, ..]);
    Ok(is_signed && summed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == *sum)
}

/// `JM` is no long signature either, but the 16-bit words of what it begins come to 0, or to 1.
pub(super) fn is_jmicron(edges: &Edges<'_>) -> Answer {
    let Some(summed) = last_sector(edges, 128)? else {
        return Ok(false);
    };
    let sum = summed.chunks_exact(2).fold(0_u16, |sum, word| {
        sum.wrapping_add(<[u8; 2]>::try_from(word).map_or(0, u16::from_le_bytes))
    });
    Ok(summed.starts_with(b"JM") && sum <= 1)
}

/// What the last whole sector begins with, if there is one.
fn last_sector<'a>(edges: &'a Edges<'_>, length: u64) -> Result<Option<Cow<'a, [u8]>>, Doubt> {
    edges
        .before_end(512, 512)
        .map_or(Ok(None), |at| edges.bytes(at, length))
}
