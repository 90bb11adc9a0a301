//! Bitmaps. Spec: qcow2.txt, "Bitmaps".

use super::blocks::cut_off;
use super::catalogue::Code;
use super::entries::Entries;
use super::findings::{Fault, Finding, Findings, Log};
use super::structures::Structures;
use super::window::Window;
use crate::error::{Corrupt, Error, Expected, Lost, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::bitmap::Bitmap;
use crate::formats::qcow2::structures::extensions::BitmapsAt;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::geometry::{ENTRY, Geometry};
use crate::formats::qcow2::structures::header::TableAt;
use crate::units::{Exact, HostOffset};

/// The one kind of bitmap there is: it tracks what was written.
const DIRTY_TRACKING: u8 = 1;

/// Bits 0 to 2 of the flags.
const FLAGS: u32 = 0b111;

/// QEMU's limits for the granularity, log2 of bytes.
const GRANULARITY: std::ops::RangeInclusive<u8> = 9..=31;

/// QEMU's limit for the number of entries of a table.
const MAX_ENTRIES: u64 = 1 << 27;

/// Bits 9 to 55 of an entry of the table: a host offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Bit 0 of an entry: all ones, where there is no host offset.
const ALL_ONES: u64 = 1;

/// Reads the bitmap directory as far as that can be done, if it is said to be up to date.
pub(super) fn read(image: &Image, all: &mut Structures, log: &mut Log<'_>) -> Result<()> {
    let is_fresh = image.header().has_autoclear(features::BITMAPS);
    let directory = match image.extensions().bitmaps {
        Some(directory) if is_fresh => directory,
        // Nobody may use them, and nobody counts what they have.
        Some(_) => {
            let text = "the bitmaps are not up to date";
            log.add(Finding::new(Code::BitmapsStale, Fault::That(text)));
            return Ok(());
        }
        None if is_fresh => {
            let text = "autoclear bit 0 is set, but there is no bitmaps extension";
            log.add(Finding::new(Code::BitmapExtension, Fault::That(text)));
            return Ok(());
        }
        None => return Ok(()),
    };
    all.add("bitmap directory", 0, directory.offset, directory.length);
    if !image.file().holds(directory.offset, directory.length) {
        let (name, at) = ("bitmap directory", directory.offset);
        log.add(cut_off(Code::BitmapDirectory, name, at, image.file()));
        return Ok(());
    }
    let mut length = 0_u64;
    for (number, bitmap) in (1..).zip(image.bitmaps()) {
        let bitmap = match bitmap {
            Ok(bitmap) => bitmap,
            Err(Error::Corrupt(fault @ (Corrupt::Truncated { .. } | Corrupt::Field { .. }))) => {
                let fault = Fault::Bitmap { number, fault };
                log.add(Finding::new(Code::BitmapDirectory, fault));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let one = One {
            image,
            number,
            at: directory.offset + length,
            bitmap: &bitmap,
        };
        length.increase(bitmap.entry_length);
        if one.is_valid(log) {
            let (at, entries) = (bitmap.table_at, bitmap.table_entries);
            let table = TableAt { at, entries };
            all.add_table("table of bitmap", number, table);
            all.bitmaps.push(table);
        }
    }
    if length != directory.length {
        log.add(too_long(directory, length));
    }
    Ok(())
}

fn too_long(directory: BitmapsAt, length: u64) -> Finding {
    let fault = Corrupt::Field {
        structure: "bitmap directory",
        at: directory.offset,
        field: "length",
        found: directory.length,
        expected: Expected::Exactly(length),
    };
    Finding::new(Code::BitmapDirectory, fault)
}

struct One<'a> {
    image: &'a Image,
    /// Counted from 1.
    number: u64,
    /// Where its entry is.
    at: HostOffset,
    bitmap: &'a Bitmap,
}

impl One<'_> {
    /// Whether its table can be read.
    fn is_valid(&self, log: &mut Log<'_>) -> bool {
        let bitmap = self.bitmap;
        if bitmap.flags & !FLAGS != 0 {
            let expected = Expected::Clear((!FLAGS).into());
            self.tell(Code::BitmapDirectory, "flags", bitmap.flags.into(), expected, log);
        }
        if bitmap.kind != DIRTY_TRACKING {
            let expected = Expected::Exactly(DIRTY_TRACKING.into());
            self.tell(Code::BitmapDirectory, "type", bitmap.kind.into(), expected, log);
        }
        let granularity = bitmap.granularity_bits;
        if !GRANULARITY.contains(&granularity) {
            let expected = Expected::That("9 to 31, as QEMU does");
            self.tell(
                Code::BitmapDirectory,
                "granularity_bits",
                granularity.into(),
                expected,
                log,
            );
        }
        if let Err((field, found, expected)) = self.table() {
            self.tell(Code::BitmapTable, field, found, expected, log);
            return false;
        }
        // While it is in use it need not have the size of the disk.
        let needed = entries_for(self.image.header().geometry(), granularity);
        if !bitmap.in_use && bitmap.table_entries != needed {
            let expected = Expected::Exactly(needed);
            self.tell(
                Code::BitmapTable,
                "bitmap_table_size",
                bitmap.table_entries,
                expected,
                log,
            );
        }
        true
    }

    /// Which field makes it impossible to read its table, if one does.
    fn table(&self) -> Result<(), (&'static str, u64, Expected)> {
        let (at, entries) = (self.bitmap.table_at, self.bitmap.table_entries);
        let (file, cluster_size) = (self.image.file(), self.image.header().geometry().cluster_size());
        if at.0 == 0 || !at.0.is_multiple_of(cluster_size) {
            return Err(("bitmap_table_offset", at.0, Expected::MultipleOf(cluster_size)));
        }
        if entries == 0 {
            return Err(("bitmap_table_size", entries, Expected::AtLeast(1)));
        }
        if entries > MAX_ENTRIES {
            return Err(("bitmap_table_size", entries, Expected::AtMost(MAX_ENTRIES)));
        }
        if !file.holds(at, entries.times(ENTRY)) {
            let expected = Expected::WithinFile(file.length());
            return Err(("bitmap_table_offset", at.0, expected));
        }
        Ok(())
    }

    fn tell(&self, code: Code, field: &'static str, found: u64, expected: Expected, log: &mut Log<'_>) {
        let fault = Corrupt::Field {
            structure: "bitmap directory entry",
            at: self.at,
            field,
            found,
            expected,
        };
        let number = self.number;
        log.add(Finding::new(code, Fault::Bitmap { number, fault }));
    }
}

/// How many entries it takes to have a bit for all of the disk.
fn entries_for(geometry: Geometry, granularity: u8) -> u64 {
    let bits = geometry.size() >> granularity.min(63);
    // Whatever is left over at the end takes one bit more, or none: a byte more or less needs no second entry.
    let is_whole = bits.checked_shl(granularity.into()) == Some(geometry.size());
    let bits = if is_whole { bits } else { bits.plus(1) };
    bits.div_ceil(geometry.cluster_size().times(8))
}

/// Counts references to the clusters of bitmaps.
pub(super) fn count(
    image: &Image,
    tables: &[TableAt],
    window: &Window<'_>,
    found: &mut Findings,
) -> Result<()> {
    let (geometry, file) = (image.header().geometry(), image.file());
    let mut reader = Entries::default();
    for table in tables {
        reader.each(file, *table, 0..table.entries, |index, entry| {
            let wrong = |expected| {
                let fault = Corrupt::Entry {
                    table: "table of a bitmap",
                    at: table.at,
                    index,
                    found: entry,
                    expected,
                    lost: Lost::default(),
                };
                Finding::new(Code::BitmapEntry, fault)
            };
            let at = match offset(entry, geometry) {
                Ok(Some(at)) => at,
                Err(expected) if window.is_first => return found.add(wrong(expected)),
                Ok(None) | Err(_) => return,
            };
            if window.is_first && at.0 >= file.length() {
                found.add(wrong(Expected::WithinFile(file.length())));
            }
            let cluster = at.0 >> geometry.cluster().bits();
            let spot = window.spot(cluster);
            if window.is_taken(spot) {
                found.add(wrong(Expected::Outside("tables")));
            }
            window.count(cluster, spot, 1, found);
        })?;
    }
    Ok(())
}

/// Where the cluster of an entry is, if it has one.
fn offset(entry: u64, geometry: Geometry) -> Result<Option<HostOffset>, Expected> {
    let offset = entry & OFFSET;
    let reserved = if offset == 0 {
        !(OFFSET | ALL_ONES)
    } else {
        !OFFSET
    };
    if entry & reserved != 0 {
        return Err(Expected::Clear(reserved));
    }
    if !offset.is_multiple_of(geometry.cluster_size()) {
        return Err(Expected::MultipleOf(geometry.cluster_size()));
    }
    Ok((offset != 0).then_some(HostOffset(offset)))
}
