//! Metadata areas: a header, and behind it, in a ring, texts of which the header names the one that counts. Source:
//! LVM2, `lib/format_text/layout.h`.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32, U64, Unaligned};

use super::checksum::crc;
use super::text::Section;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, length, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

const HEADER: &str = "LVM metadata header";
const TEXT: &str = "LVM metadata";

/// The length of the header in bytes, behind which the ring begins.
const HEADER_SIZE: u64 = to_u64(size_of::<RawHeader>());

/// The header, as far as it tells anything.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0: of the rest of the 512 bytes.
    checksum: U32<LE>,
    /// 4.
    magic: [u8; 16],
    /// 20: 1.
    version: U32<LE>,
    /// 24: where it begins in the physical volume, in bytes.
    start: U64<LE>,
    /// 32: how long the area is, in bytes.
    size: U64<LE>,
    /// 40: the text that counts.
    committed: RawLocation,
    /// 64: one that will, if anything.
    precommitted: RawLocation,
    /// 88: room for more of them.
    rest: [u8; 424],
}

const _: () = assert!(size_of::<RawHeader>() == 512);

/// Where a text lies.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLocation {
    /// 0: in bytes of the area; 0 if there is none.
    offset: U64<LE>,
    /// 8: in bytes.
    size: U64<LE>,
    /// 16: of the text.
    checksum: U32<LE>,
    /// 20: 1 of an area that is not kept up to date.
    flags: U32<LE>,
}

const _: () = assert!(size_of::<RawLocation>() == 24);

const MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";

/// Why nothing is known of extents where no area has metadata.
pub(super) const NO_GROUP: Doubt =
    Doubt::State("it belongs to no volume group, or has no copy of the metadata of its group");

/// A flag of the first location: there is no metadata in this area.
const IGNORED: u32 = 1;

/// The metadata in an area, of a volume that is in a group; none of an area that is not used.
pub(super) fn read(view: View<'_>, area: &Range<u64>) -> Result<Option<Section>, Doubt> {
    let at = area.start;
    view.holds("LVM metadata area", at, length(area))?;
    let raw: RawHeader = view.structure(HEADER, at)?;
    check(view, &raw, area)?;
    let (committed, precommitted) = (raw.committed, raw.precommitted);
    if committed.flags.get() & IGNORED != 0 {
        return Ok(None);
    }
    if precommitted.offset.get() != 0 {
        return Err(Doubt::State("a change of its metadata was not finished"));
    }
    if committed.offset.get() == 0 {
        return Err(NO_GROUP);
    }
    let bytes = text(view, area, &committed)?;
    let section = Section::parse(&bytes).map_err(|fault| Doubt::Text {
        structure: TEXT,
        at: view.position(claimed_end(at, committed.offset.get())),
        line: fault.line,
        fault: fault.what,
    })?;
    Ok(Some(section))
}

fn check(view: View<'_>, raw: &RawHeader, area: &Range<u64>) -> Result<(), Doubt> {
    let position = view.position(area.start);
    let field = |field, found, expected| {
        Err(Doubt::Field {
            structure: HEADER,
            at: position,
            field,
            found,
            expected: Expected::Exactly(expected),
        })
    };
    let (found, expected) = (
        raw.checksum.get(),
        crc(raw.as_bytes().get(4..).unwrap_or_default()),
    );
    if found != expected {
        return Err(Doubt::Checksum {
            structure: HEADER,
            at: position,
            found,
            expected,
        });
    }
    if &raw.magic != MAGIC {
        return Err(Doubt::State("its metadata area has no signature"));
    }
    let (version, start, size) = (raw.version.get(), raw.start.get(), raw.size.get());
    if version != 1 {
        return field("version", version.into(), 1);
    }
    if start != area.start {
        return field("start", start, area.start);
    }
    if size != length(area) {
        return field("size", size, length(area));
    }
    Ok(())
}

/// A text, which goes on at the beginning of the ring if it reaches the end.
fn text(view: View<'_>, area: &Range<u64>, location: &RawLocation) -> Result<Vec<u8>, Doubt> {
    let (offset, size) = (location.offset.get(), location.size.get());
    let ring = HEADER_SIZE..length(area);
    let fits = ring.contains(&offset) && size > 0 && size <= length(area).saturating_sub(HEADER_SIZE);
    if !fits {
        let at = view.position(area.start);
        let end = claimed_end(claimed_end(at, offset), size);
        let limit = view.position(area.end);
        let structure = TEXT;
        return Err(Doubt::PastEnd {
            structure,
            at: claimed_end(at, offset),
            end,
            limit,
        });
    }
    let here = size.min(ring.end.minus(offset));
    let mut bytes = view.bytes(TEXT, area.start.plus(offset), here)?;
    bytes.extend(view.bytes(TEXT, area.start.plus(HEADER_SIZE), size.minus(here))?);
    let (found, expected) = (location.checksum.get(), crc(&bytes));
    if found != expected {
        return Err(Doubt::Checksum {
            structure: TEXT,
            at: view.position(area.start.plus(offset)),
            found,
            expected,
        });
    }
    Ok(bytes)
}
