//! Tables of entries that differ in length: snapshots and bitmaps, read one by one.

use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Corrupt, Error, Expected, Result};
use crate::formats::host::is_within;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::bitmap::{self, Bitmap, RawBitmap};
use crate::formats::qcow2::structures::snapshot::{self, RawSnapshot, Snapshot};
use crate::units::{HostOffset, claimed_end, to_u64, to_usize};

const SNAPSHOT_TABLE: &str = "snapshot table";
const BITMAP_DIRECTORY: &str = "bitmap directory";

impl Image {
    /// The internal snapshots, in the order of the table. After an error there are no more.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] instead of the first one, if the table [cannot be used](Self::unneeded).
    /// - Of an entry: [`Error::Corrupt`] if it reaches past the end of the file or QEMU's limits, [`Error::Io`] if
    ///   it cannot be read.
    pub fn snapshots(&self) -> impl Iterator<Item = Result<Snapshot>> + '_ {
        let (table, fault) = (self.header.snapshots(), self.unneeded.snapshot_table.clone());
        let mut at = table.at;
        let count = if fault.is_some() { 1 } else { table.entries };
        one_by_one(count, move || {
            if let Some(fault) = fault.clone() {
                return Err(fault.into());
            }
            let raw: RawSnapshot = self.raw_entry(SNAPSHOT_TABLE, at, u64::MAX)?;
            let extra = u64::from(raw.extra_data_size.get());
            if extra > snapshot::MAX_EXTRA {
                let expected = Expected::AtMost(snapshot::MAX_EXTRA);
                return Err(Error::field("snapshot", at, "extra_data_size", extra, expected));
            }
            let rest = self.rest_of_entry::<RawSnapshot>(SNAPSHOT_TABLE, at, raw.rest(), u64::MAX)?;
            // All but its padding was read.
            at += snapshot::entry_length(&raw);
            Ok(Snapshot::new(&raw, &rest))
        })
    }

    /// The bitmaps, in the order of the directory. After an error there are no more.
    ///
    /// # Errors
    ///
    /// Of an entry: [`Error::Corrupt`] if it reaches past the end of the directory or of the file, or QEMU's
    /// limits, [`Error::Io`] if it cannot be read.
    pub fn bitmaps(&self) -> impl Iterator<Item = Result<Bitmap>> + '_ {
        let directory = self.extensions.bitmaps;
        let count = directory.map_or(0, |directory| directory.count);
        let start = directory.map_or(HostOffset(0), |directory| directory.offset);
        let end = directory.map_or(0, |directory| claimed_end(start.0, directory.length));
        let mut at = start;
        one_by_one(count, move || {
            let raw: RawBitmap = self.raw_entry(BITMAP_DIRECTORY, at, end)?;
            let name = u64::from(raw.name_size.get());
            if name > bitmap::MAX_NAME {
                let expected = Expected::AtMost(bitmap::MAX_NAME);
                return Err(Error::field("bitmap", at, "name_size", name, expected));
            }
            // Nothing is known that would need extra data.
            let extra = u64::from(raw.extra_data_size.get());
            if extra > 0 {
                return Err(Error::field(
                    "bitmap",
                    at,
                    "extra_data_size",
                    extra,
                    Expected::Exactly(0),
                ));
            }
            let rest = self.rest_of_entry::<RawBitmap>(BITMAP_DIRECTORY, at, raw.rest(), end)?;
            // All but its padding was read.
            at += bitmap::entry_length(&raw);
            Ok(Bitmap::new(&raw, &rest))
        })
    }

    fn raw_entry<T: FromBytes + IntoBytes>(
        &self,
        table: &'static str,
        at: HostOffset,
        end: u64,
    ) -> Result<T> {
        let mut raw = T::new_zeroed();
        self.read_entry(table, at, raw.as_mut_bytes(), end)?;
        Ok(raw)
    }

    /// At most 132 KiB, by the width of the fields and the limits above.
    fn rest_of_entry<T>(
        &self,
        table: &'static str,
        at: HostOffset,
        length: u64,
        end: u64,
    ) -> Result<Vec<u8>> {
        let mut rest = vec![0; to_usize(length)];
        // What comes before it was read.
        let at = at + to_u64(size_of::<T>());
        self.read_entry(table, at, &mut rest, end)?;
        Ok(rest)
    }

    fn read_entry(&self, table: &'static str, at: HostOffset, buf: &mut [u8], end: u64) -> Result<()> {
        let (end, expected) = (end.min(self.file.length()), to_u64(buf.len()));
        if !is_within(end, at, expected) {
            return Err(Corrupt::Truncated {
                structure: table,
                at,
                found: end.saturating_sub(at.0),
                expected,
            }
            .into());
        }
        self.file.read_exact(buf, at)
    }
}

/// Up to `count` entries, and none behind one that is damaged.
fn one_by_one<T>(count: u64, mut next: impl FnMut() -> Result<T>) -> impl Iterator<Item = Result<T>> {
    let mut is_over = false;
    (0..count).map_while(move |_| {
        let entry = (!is_over).then(&mut next)?;
        is_over = entry.is_err();
        Some(entry)
    })
}
