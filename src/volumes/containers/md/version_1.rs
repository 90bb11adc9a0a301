//! Superblocks of versions 1.0, 1.1 and 1.2, which differ in their places only.

use std::ops::Range;

use zerocopy::{FromBytes, I32, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use super::superblock::{INACTIVE, MAGIC, MIRROR, Seen, Superblock, UNCLEAN, folded, uuid};
use crate::error::Expected;
use crate::units::{Exact, claimed_end, claimed_size, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::edges::Edges;
use crate::volumes::fields;
use crate::volumes::view::View;

const STRUCTURE: &str = "RAID superblock";

/// What all offsets and lengths count in, in bytes.
const SECTOR: u64 = 512;

/// Features that leave the content of a mirror where it is: a bitmap of writes, a list of bad blocks.
const BITMAP: u32 = 0x1;
const BAD_BLOCKS: u32 = 0x8;

/// Roles from this on are those of journals, failed members, spares.
const FIRST_INACTIVE_ROLE: u16 = 0xfffd;

/// How many roles fit into the 4 KiB of a superblock.
const MAX_ROLES: u32 = (4096 - 256) / 2;

/// The first 256 bytes. Fields keep the names and the order of `struct mdp_superblock_1`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawSuperblock {
    /// 0.
    magic: U32<LE>,
    /// 4: 1.
    major_version: U32<LE>,
    /// 8: bits, one for each feature.
    feature_map: U32<LE>,
    /// 12.
    pad0: U32<LE>,
    /// 16.
    set_uuid: [u8; 16],
    /// 32: zeros behind it.
    set_name: [u8; 32],
    /// 64.
    ctime: U64<LE>,
    /// 72.
    level: I32<LE>,
    /// 76.
    layout: U32<LE>,
    /// 80: how many sectors of each member are used.
    size: U64<LE>,
    /// 88: chunk size, members, place of the bitmap, what it is reshaped to.
    shape: [u8; 40],
    /// 128: the sector that the content begins with.
    data_offset: U64<LE>,
    /// 136: how many sectors of this member could be used.
    data_size: U64<LE>,
    /// 144: the sector that this is in.
    super_offset: U64<LE>,
    /// 152: how many sectors have been rebuilt, with feature 2.
    recovery_offset: U64<LE>,
    /// 160: its place in the list of roles.
    dev_number: U32<LE>,
    /// 164.
    cnt_corrected_read: U32<LE>,
    /// 168.
    device_uuid: [u8; 16],
    /// 184.
    devflags: u8,
    /// 185: log2 of the unit that bad blocks count in, in sectors.
    bblog_shift: u8,
    /// 186: sectors that the list of bad blocks has.
    bblog_size: U16<LE>,
    /// 188: where it begins, in sectors from the superblock on.
    bblog_offset: I32<LE>,
    /// 192.
    utime: U64<LE>,
    /// 200.
    events: U64<LE>,
    /// 208: up to where members are known to be the same, in sectors; all ones if that is everywhere.
    resync_offset: U64<LE>,
    /// 216: of this and the roles.
    sb_csum: U32<LE>,
    /// 220: how many roles follow.
    max_dev: U32<LE>,
    /// 224.
    pad3: [u8; 32],
}

const _: () = assert!(size_of::<RawSuperblock>() == 256);

/// What is at a place, if it is a superblock and says that it is there.
pub(super) fn look(edges: &Edges<'_>, at: u64) -> Result<Option<Seen>, Doubt> {
    let bytes = edges.bytes(at, to_u64(size_of::<RawSuperblock>()))?;
    let raw = bytes.and_then(|bytes| RawSuperblock::read_from_bytes(&bytes).ok());
    let is_one = |raw: &RawSuperblock| {
        raw.magic.get() == MAGIC && raw.major_version.get() == 1 && raw.super_offset.get() == at / SECTOR
    };
    Ok(raw.filter(is_one).map(|raw| Seen {
        is_mirror: raw.level.get() == MIRROR,
        is_around: raw.data_offset.get() == 0,
    }))
}

/// The superblock at a place where there is one.
pub(super) fn read(view: View<'_>, at: u64) -> Result<Superblock, Doubt> {
    let raw: RawSuperblock = view.structure(STRUCTURE, at)?;
    let roles = roles(view, &raw, at)?;
    let words = raw.set_uuid.chunks_exact(4);
    let mut words = words.map(|word| <[u8; 4]>::try_from(word).map_or(0, u32::from_be_bytes));
    Ok(Superblock {
        version: match (at, raw.data_offset.get() == 0) {
            (_, true) => "1.0",
            (0, false) => "1.1",
            (_, false) => "1.2",
        },
        level: raw.level.get(),
        uuid: uuid(std::array::from_fn(|_| words.next().unwrap_or(0))),
        label: fields::label(&raw.set_name),
        content: content(view, &raw, &roles, at),
    })
}

/// The roles behind a superblock, if its checksum holds.
fn roles(view: View<'_>, raw: &RawSuperblock, at: u64) -> Result<Vec<u8>, Doubt> {
    let max_dev = raw.max_dev.get();
    if max_dev > MAX_ROLES {
        return Err(field(
            view,
            at,
            "max_dev",
            max_dev.into(),
            Expected::AtMost(MAX_ROLES.into()),
        ));
    }
    let length = u64::from(max_dev).times(2);
    let roles = view.bytes(
        STRUCTURE,
        claimed_end(at, to_u64(size_of::<RawSuperblock>())),
        length,
    )?;
    let mut summed = *raw;
    summed.sb_csum.set(0);
    let words = |bytes: &[u8]| -> u64 {
        let words = bytes.chunks(4).map(|word| {
            let mut all = [0; 4];
            all.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
            u64::from(u32::from_le_bytes(all))
        });
        // Two thousand words at most.
        words.sum()
    };
    let expected = folded(words(summed.as_bytes()).plus(words(&roles)));
    let found = raw.sb_csum.get();
    if found != expected {
        return Err(Doubt::Checksum {
            structure: STRUCTURE,
            at: view.position(at),
            found,
            expected,
        });
    }
    Ok(roles)
}

/// Where the content lies of a mirror that is clean.
fn content(view: View<'_>, raw: &RawSuperblock, roles: &[u8], at: u64) -> Result<Range<u64>, Doubt> {
    let features = raw.feature_map.get();
    let known = BITMAP | BAD_BLOCKS;
    if features & !known != 0 {
        return Err(field(
            view,
            at,
            "feature_map",
            features.into(),
            Expected::Clear((!known).into()),
        ));
    }
    if raw.resync_offset.get() != u64::MAX {
        return Err(UNCLEAN);
    }
    let mut roles = roles.chunks_exact(2);
    let role = usize::try_from(raw.dev_number.get())
        .ok()
        .and_then(|number| roles.nth(number));
    let role = role
        .and_then(|role| <[u8; 2]>::try_from(role).ok())
        .map(u16::from_le_bytes);
    if role.is_none_or(|role| role >= FIRST_INACTIVE_ROLE) {
        return Err(INACTIVE);
    }
    if features & BAD_BLOCKS != 0 && has_bad_blocks(view, raw, at)? {
        return Err(Doubt::State("its list of bad blocks is not empty"));
    }
    let (size, room) = (raw.size.get(), raw.data_size.get());
    if size == 0 || size > room {
        return Err(field(view, at, "size", size, Expected::Between(1, room)));
    }
    let (start, length) = (
        claimed_size(raw.data_offset.get(), SECTOR),
        claimed_size(size, SECTOR),
    );
    view.holds("array", start, length)?;
    let content = start..start.plus(length);
    let own = at..at.plus(4096);
    if content.start < own.end && own.start < content.end {
        return Err(Doubt::State("its superblock lies in its content"));
    }
    Ok(content)
}

/// Whether the list of bad blocks has an entry: those that are none are all ones.
fn has_bad_blocks(view: View<'_>, raw: &RawSuperblock, at: u64) -> Result<bool, Doubt> {
    let offset = i64::from(raw.bblog_offset.get()).checked_mul(512);
    let place = offset.and_then(|offset| at.checked_add_signed(offset));
    let Some(place) = place.filter(|_| raw.bblog_size.get() > 0) else {
        return Err(field(
            view,
            at,
            "bblog_offset",
            0,
            Expected::That("that of a list"),
        ));
    };
    let length = u64::from(raw.bblog_size.get()).times(SECTOR);
    let list = view.bytes("list of bad blocks", place, length)?;
    Ok(list.iter().any(|byte| *byte != 0xff))
}

fn field(view: View<'_>, at: u64, field: &'static str, found: u64, expected: Expected) -> Doubt {
    Doubt::Field {
        structure: STRUCTURE,
        at: view.position(at),
        field,
        found,
        expected,
    }
}
