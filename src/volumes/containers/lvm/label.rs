//! The label of a physical volume: its identity, and where its metadata lies. Source: LVM2, `lib/label/label.h` and
//! `lib/format_text/layout.h`.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32, U64, Unaligned};

use super::checksum::crc;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

const STRUCTURE: &str = "LVM label";

/// In bytes, whatever the disk has.
const SECTOR: u64 = 512;

/// It is in one of the first sectors.
const SECTORS: u64 = 4;

/// What the checksum does not cover.
const UNSUMMED: u64 = 20;

/// The sector that a label is in, up to the list of areas.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLabel {
    /// 0: `LABELONE`.
    id: [u8; 8],
    /// 8: the sector that this is.
    sector: U64<LE>,
    /// 16: of the rest of the sector.
    crc: U32<LE>,
    /// 20: where the header of the physical volume begins: 32.
    offset: U32<LE>,
    /// 24: `LVM2 001`.
    kind: [u8; 8],
    /// 32.
    pv_uuid: [u8; 32],
    /// 64: in bytes; of the disk when the label was written.
    device_size: U64<LE>,
}

const _: () = assert!(size_of::<RawLabel>() == 72);

/// Where the lists of areas begin in the sector.
const LISTS: usize = size_of::<RawLabel>();

/// An area of a list; all zeros behind the last one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawArea {
    /// 0: in bytes of the physical volume.
    offset: U64<LE>,
    /// 8: in bytes; 0 of one that reaches to the end.
    size: U64<LE>,
}

const _: () = assert!(size_of::<RawArea>() == 16);

/// What a label tells.
#[derive(Debug)]
pub(super) struct Label {
    /// 32 letters and digits.
    pub(super) uuid: String,
    /// Where extents begin, in bytes.
    pub(super) data: Option<u64>,
    /// Where the metadata of the volume group lies, in bytes.
    pub(super) metadata: Vec<Range<u64>>,
    /// All else that is in use in front of the extents, or wherever it is.
    pub(super) others: Vec<Range<u64>>,
}

impl Label {
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let mut labels = Vec::new();
        for sector in (0..SECTORS).filter(|sector| view.is_there(sector.times(SECTOR), SECTOR)) {
            let bytes = view.bytes(STRUCTURE, sector.times(SECTOR), SECTOR)?;
            if bytes.starts_with(b"LABELONE") {
                labels.push((sector, bytes));
            }
        }
        match &*labels {
            [(sector, bytes)] => Self::of(view, *sector, bytes),
            [] => Err(Doubt::State("its label is gone")),
            [..] => Err(Doubt::State("it has two labels")),
        }
    }

    fn of(view: View<'_>, sector: u64, bytes: &[u8]) -> Result<Self, Doubt> {
        let at = sector.times(SECTOR);
        let field = |field, found, expected| Doubt::Field {
            structure: STRUCTURE,
            at: view.position(at),
            field,
            found,
            expected,
        };
        let raw = RawLabel::read_from_prefix(bytes).map(|(raw, _)| raw);
        let raw = raw.map_err(|_| Doubt::State("its label is cut off"))?;
        let summed = bytes.get(to_usize(UNSUMMED)..).unwrap_or_default();
        let (found, expected) = (raw.crc.get(), crc(summed));
        if found != expected {
            return Err(Doubt::Checksum {
                structure: STRUCTURE,
                at: view.position(at),
                found,
                expected,
            });
        }
        if &raw.kind != b"LVM2 001" {
            return Err(Doubt::State("the type of its label is unknown"));
        }
        if raw.sector.get() != sector {
            return Err(field("sector", raw.sector.get(), Expected::Exactly(sector)));
        }
        if raw.offset.get() != 32 {
            return Err(field("offset", raw.offset.get().into(), Expected::Exactly(32)));
        }
        if !raw.pv_uuid.iter().all(u8::is_ascii_graphic) {
            return Err(Doubt::State("its UUID is malformed"));
        }
        let mut lists = Lists(bytes.get(LISTS..).unwrap_or_default());
        let data = lists.areas()?;
        let metadata = lists.areas()?;
        let own = std::iter::once(at..at.plus(SECTOR));
        let loaders = lists.extension()?;
        Ok(Self {
            uuid: raw.pv_uuid.iter().copied().map(char::from).collect(),
            data: data.first().map(|area| area.offset.get()),
            metadata: metadata.iter().map(range).collect(),
            others: own.chain(loaders.iter().map(range)).collect(),
        })
    }
}

fn range(area: &RawArea) -> Range<u64> {
    let start = area.offset.get();
    start..claimed_end(start, area.size.get())
}

/// The rest of a label: lists that end with zeros.
#[derive(Debug)]
struct Lists<'a>(&'a [u8]);

impl Lists<'_> {
    fn take<T: FromBytes>(&mut self) -> Result<T, Doubt> {
        let bytes = self.0;
        let (value, rest) = bytes
            .split_at_checked(size_of::<T>())
            .and_then(|(value, rest)| Some((T::read_from_bytes(value).ok()?, rest)))
            .ok_or(Doubt::State("the lists of its label do not end"))?;
        self.0 = rest;
        Ok(value)
    }

    /// The next list.
    fn areas(&mut self) -> Result<Vec<RawArea>, Doubt> {
        let mut areas = Vec::new();
        loop {
            let area: RawArea = self.take()?;
            if area.offset.get() == 0 {
                return Ok(areas);
            }
            areas.push(area);
        }
    }

    /// What follows the lists since version 2.02.99: a version, flags, and the areas of boot loaders.
    fn extension(&mut self) -> Result<Vec<RawArea>, Doubt> {
        match self.take::<U32<LE>>()?.get() {
            0 => Ok(Vec::new()),
            1 | 2 => {
                let _flags = self.take::<U32<LE>>()?;
                self.areas()
            }
            _ => Err(Doubt::State("the version of its label is unknown")),
        }
    }
}

/// As LVM writes a UUID in text.
pub(super) fn hyphenated(uuid: &str) -> String {
    let breaks = [6, 10, 14, 18, 22, 26];
    let letters = uuid.chars().enumerate();
    letters.fold(String::new(), |mut text, (number, letter)| {
        if breaks.contains(&number) {
            text.push('-');
        }
        text.push(letter);
        text
    })
}
