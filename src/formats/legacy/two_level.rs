//! Images that are two levels of tables with entries of 8 bytes, and clusters: QCOW version 1 and QED.

mod entries;
mod examination;
mod examiner;
mod layer;
mod reference;
mod sweep;
mod walk;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Expected, Result};
use crate::formats::cipher::Cipher;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::windows::{Spare, Window, Windows};
use crate::formats::{HostFile, Remark, truncated};
use crate::units::{Exact, HostOffset};
pub(crate) use walk::Cursor;

pub(crate) use examiner::{Examiner, Extent, Found};

/// An image of that kind, as one of the files of a disk.
#[derive(Debug)]
pub(crate) struct TwoLevel {
    pub(super) file: HostFile,
    pub(super) tables: Tables,
    pub(super) shape: Shape,
    pub(super) entries: Box<dyn Entries>,
    pub(super) cipher: Option<Cipher>,
    pub(super) remark: Option<Remark>,
    pub(super) spare: Spare,
}

/// What all tables have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The size of the disk, in bytes.
    pub(crate) size: u64,
    /// In bytes: a power of two.
    pub(crate) cluster_size: u64,
    /// The table of the first level, which has an entry for all of the disk.
    pub(crate) l1: TableAt,
    /// How many entries a table of the second level has.
    pub(crate) l2_entries: u64,
    /// Where nothing else lies: the header, in bytes of the file from the begin on.
    pub(crate) header: u64,
    /// Whether all is whole clusters of the file, so that it can be told which of them nothing uses.
    pub(crate) is_aligned: bool,
}

impl Shape {
    /// How much of the disk a table of the second level speaks of, in bytes: 2^53 at most.
    pub(crate) fn reach(&self) -> u64 {
        self.cluster_size.times(self.l2_entries)
    }

    /// The length of a table of the second level, in bytes: 1 GiB at most.
    pub(crate) fn l2_length(&self) -> u64 {
        self.l2_entries.times(ENTRY)
    }

    /// The length of the table of the first level, in bytes: less than 2 GiB.
    fn l1_length(&self) -> u64 {
        self.l1.entries.times(ENTRY)
    }

    /// Where the table of the first level is, in bytes of the file, which was seen to hold it.
    fn l1_bytes(&self) -> Range<u64> {
        let (start, end) = (self.l1.at, self.l1.at + self.l1_length());
        start.0..end.0
    }
}

/// How entries are to be understood. What is wrong with one: what should have been there instead.
pub(crate) trait Entries: Debug + Send + Sync {
    /// An entry as it is in the file.
    fn number(&self, bytes: [u8; 8]) -> u64;

    /// Where a table of the second level is, if there is one.
    fn table(&self, entry: u64) -> Result<Option<HostOffset>, Expected>;

    /// Where a cluster is: never [`Mapping::ZeroAllocated`].
    fn cluster(&self, entry: u64) -> Result<Mapping, Expected>;
}

/// The pieces of tables that are kept in memory.
#[derive(Debug)]
pub(in crate::formats) struct Tables {
    /// Which of the files of a disk it is.
    pub(in crate::formats) number: u32,
    pub(in crate::formats) windows: Arc<Windows>,
}

impl TwoLevel {
    /// Makes sure that the table of the first level lies behind the header and in the file.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it does not.
    pub(super) fn validate(&self) -> Result<()> {
        let (l1, needed) = (self.shape.l1.at, self.shape.l1_length());
        if l1.0 < self.shape.header {
            let (at, expected) = (HostOffset(0), Expected::Outside("header"));
            return Err(Error::field("header", at, "l1_table_offset", l1.0, expected));
        }
        if self.file.holds(l1, needed) {
            return Ok(());
        }
        let found = self.file.length().saturating_sub(l1.0);
        Err(truncated("L1 table", l1, found, needed))
    }

    /// The entry at `at`, through the window that was used last; none behind the end of the file.
    fn entry(&self, last: &mut Option<Arc<Window>>, at: HostOffset) -> Result<Option<u64>> {
        let number = |window: &Arc<Window>| window.bytes_at(at).map(|bytes| self.entries.number(bytes));
        if let Some(number) = last.as_ref().and_then(number) {
            return Ok(Some(number));
        }
        let window = self.tables.windows.get(self.tables.number, &self.file, at)?;
        if let Some(number) = number(&window) {
            *last = Some(window);
            return Ok(Some(number));
        }
        // Tables need not be aligned: an entry may lie in two windows.
        let mut bytes = [0; 8];
        let read = self.file.read(&mut bytes, at)?;
        Ok((read == bytes.len()).then(|| self.entries.number(bytes)))
    }

    /// Nothing else lies where the header or the table of the first level does.
    fn outside_metadata(&self, range: &Range<u64>) -> Result<(), Expected> {
        for (name, taken) in [
            ("header", 0..self.shape.header),
            ("L1 table", self.shape.l1_bytes()),
        ] {
            if range.start < taken.end && taken.start < range.end {
                return Err(Expected::Outside(name));
            }
        }
        Ok(())
    }
}
