//! From offsets in the disk to where the bytes are.

use super::TwoLevel;
use crate::error::{Corrupt, Expected, Lost, Result};
use crate::formats::HostRun;
use crate::formats::host_run::longest;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::windows::Hand;
use crate::units::{Exact, GuestOffset, HostOffset, SECTOR, claimed_end, claimed_size, rest_of, within};

const L1_TABLE: &str = "L1 table";
pub(super) const L2_TABLE: &str = "L2 table";
pub(super) const DATA: &str = "data cluster";
pub(super) const STREAM: &str = "compressed cluster";

/// How long a table is, in bytes, of which the system is asked whether it is a hole.
const WORTH_ASKING: u64 = 1 << 20;

/// A walk along the tables that keeps in hand what it needs again for the next cluster.
pub(crate) struct Cursor<'a> {
    image: &'a TwoLevel,
    hand: Hand,
}

impl<'a> Cursor<'a> {
    /// A walk that goes on with what the last one had in hand.
    pub(in crate::formats) fn new(image: &'a TwoLevel, hand: Hand) -> Self {
        Self { image, hand }
    }

    /// What the next walk may go on with.
    pub(super) fn into_hand(self) -> Hand {
        self.hand
    }

    /// As [`Layer::run_at`](crate::formats::layer::Layer::run_at).
    pub(crate) fn run_at(&mut self, at: GuestOffset, limit: u64) -> Result<HostRun> {
        // Behind the end there is nothing.
        let limit = limit.min(self.image.shape.size.saturating_sub(at.0));
        if limit == 0 {
            return Ok(HostRun::new(0, Mapping::Unallocated));
        }
        longest(at, limit, |at| self.piece(at))
    }

    /// Where the byte at `at` is, and how many from there on need no second look.
    fn piece(&mut self, at: GuestOffset) -> Result<HostRun> {
        let shape = &self.image.shape;
        let (reach, cluster_size) = (shape.reach(), shape.cluster_size);
        let index = at.0.checked_div(reach).unwrap_or(0);
        let in_table = within(at.0, reach);
        let Some(table) = self.table(index)? else {
            return Ok(HostRun::new(rest_of(at.0, reach), Mapping::Unallocated));
        };
        let number = in_table.checked_div(cluster_size).unwrap_or(0);
        let mapping = self.cluster(table, index, number)?;
        let in_cluster = within(at.0, cluster_size);
        let mapping = if let Mapping::Data(host) = mapping {
            Mapping::Data(host + in_cluster)
        } else {
            mapping
        };
        Ok(HostRun::new(rest_of(at.0, cluster_size), mapping))
    }

    /// Where the L2 table of that number is, if there is one.
    fn table(&mut self, index: u64) -> Result<Option<HostOffset>> {
        if let Some((_, table)) = self.hand.table.filter(|(last, _)| *last == index) {
            return Ok(table);
        }
        let image = self.image;
        let l1_at = image.shape.l1.at;
        // The table lies in the file, and has an entry for all of the disk.
        let entry_at = l1_at + index.times(ENTRY);
        let entry = image
            .entry(&mut self.hand.l1, entry_at)?
            .ok_or_else(|| image.cut_off(L1_TABLE, l1_at, image.lost_with_table(index)))?;
        let length = image.shape.l2_length();
        // Nothing but zeros: nothing is allocated. There may be any number of them in a small file.
        let is_empty = |table: &HostOffset| length >= WORTH_ASKING && image.file.is_hole(*table, length);
        let table = image.table_of(index, entry)?.filter(|table| !is_empty(table));
        self.hand.table = Some((index, table));
        Ok(table)
    }

    /// Where a cluster begins that is entry `number` of table `index`, which lies at `table`.
    fn cluster(&mut self, table: HostOffset, index: u64, number: u64) -> Result<Mapping> {
        let image = self.image;
        // The table lies in the file.
        let entry_at = table + number.times(ENTRY);
        let place = EntryAt {
            table,
            number,
            start: image.start_of(index, number),
        };
        let entry = image
            .entry(&mut self.hand.l2, entry_at)?
            .ok_or_else(|| image.cut_off(L2_TABLE, table, image.lost_with_cluster(place.start)))?;
        Ok(image.cluster_of(place, entry)?)
    }
}

/// An entry of a table of the second level.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryAt {
    /// Where the table begins.
    pub(super) table: HostOffset,
    /// Which of its entries.
    pub(super) number: u64,
    /// The first byte of the disk that it is for.
    pub(super) start: u64,
}

impl TwoLevel {
    /// Where the L2 table is that an entry of the table of the first level is for, if there is one.
    pub(super) fn table_of(&self, index: u64, entry: u64) -> Result<Option<HostOffset>, Corrupt> {
        let l1_at = self.shape.l1.at;
        let lost = || self.lost_with_table(index);
        let wrong = |expected| wrong(L1_TABLE, l1_at, index, entry, expected, lost());
        let Some(table) = self.entries.table(entry).map_err(wrong)? else {
            return Ok(None);
        };
        let length = self.file.length();
        if table.0 >= length {
            return Err(wrong(Expected::WithinFile(length)));
        }
        if !self.file.holds(table, self.shape.l2_length()) {
            return Err(self.cut_off(L2_TABLE, table, lost()));
        }
        let end = table + self.shape.l2_length();
        self.outside_metadata(&(table.0..end.0)).map_err(wrong)?;
        Ok(Some(table))
    }

    /// Where the cluster begins that an entry of a table of the second level is for.
    pub(super) fn cluster_of(&self, place: EntryAt, entry: u64) -> Result<Mapping, Corrupt> {
        let lost = || self.lost_with_cluster(place.start);
        let wrong = |expected| wrong(L2_TABLE, place.table, place.number, entry, expected, lost());
        let mapping = self.entries.cluster(entry).map_err(wrong)?;
        let (what, host, needed) = match mapping {
            Mapping::Data(host) => (DATA, host, self.needed(place.start)),
            Mapping::Compressed(stream) => (STREAM, stream.at, stream.length),
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => return Ok(mapping),
        };
        let length = self.file.length();
        if host.0 >= length {
            return Err(wrong(Expected::WithinFile(length)));
        }
        if !self.file.holds(host, needed) {
            return Err(self.cut_off(what, host, lost()));
        }
        let end = host + needed;
        self.outside_metadata(&(host.0..end.0)).map_err(wrong)?;
        Ok(mapping)
    }

    /// How much of a cluster must be there: behind the end of the disk nothing, unless all of it is there. What is
    /// decrypted are whole sectors.
    pub(super) fn needed(&self, start: u64) -> u64 {
        let (rest, cluster_size) = (self.shape.size.saturating_sub(start), self.shape.cluster_size);
        let rest = match &self.cipher {
            None => rest,
            Some(_) => rest.next_multiple_of(SECTOR),
        };
        if rest == 0 {
            cluster_size
        } else {
            cluster_size.min(rest)
        }
    }

    /// The first byte of the disk that an entry of a table of the second level is for: a claim, for tables may have more
    /// entries than there can be bytes of a disk.
    pub(super) fn start_of(&self, index: u64, number: u64) -> u64 {
        let table = claimed_size(index, self.shape.reach());
        claimed_end(table, number.times(self.shape.cluster_size))
    }

    /// What of the disk a table of the second level is for.
    pub(super) fn lost_with_table(&self, index: u64) -> Lost {
        self.lost(self.start_of(index, 0), self.shape.reach())
    }

    /// What of the disk is in the cluster that begins with this byte of it.
    pub(super) fn lost_with_cluster(&self, start: u64) -> Lost {
        self.lost(start, self.shape.cluster_size)
    }

    /// Nothing, if it is behind the end of the disk.
    fn lost(&self, start: u64, length: u64) -> Lost {
        let range = start..claimed_end(start, length).min(self.shape.size);
        Lost(Some(range).filter(|range| !range.is_empty()))
    }

    fn cut_off(&self, what: &'static str, at: HostOffset, lost: Lost) -> Corrupt {
        let end = self.file.length();
        Corrupt::CutOff { what, at, end, lost }
    }
}

fn wrong(
    table: &'static str,
    at: HostOffset,
    index: u64,
    found: u64,
    expected: Expected,
    lost: Lost,
) -> Corrupt {
    Corrupt::Entry {
        table,
        at,
        index,
        found,
        expected,
        lost,
    }
}
