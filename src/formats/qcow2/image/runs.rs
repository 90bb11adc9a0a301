//! From guest offsets to where the bytes are: L1 table, L2 tables. Spec: qcow2.txt, "Cluster mapping".

use std::sync::Arc;

use crate::error::{Corrupt, Error, Expected, Lost, Result};
use crate::formats::HostRun;
use crate::formats::host::is_within;
use crate::formats::host_run::longest;
use crate::formats::qcow2::structures::geometry::{ENTRY, Geometry, L2Form};
use crate::formats::qcow2::structures::mapping::{self, Mapping, Stream, Wrong};
use crate::formats::qcow2::{Image, View};
use crate::formats::windows::{Hand, Window};
use crate::units::{Exact, GuestOffset, HostOffset, rest_of, to_u64, within};

const L1_TABLE: &str = "L1 table";
const L2_TABLE: &str = "L2 table";
const BITMAPS: &str = "subcluster bitmaps of the L2 table";

impl Image {
    /// The longest range from `at` on, up to `limit` bytes, that is in one place: all of it unallocated, all of
    /// it zeros, or data side by side. It ends with the disk, or where a table is damaged; it is never empty
    /// unless `at` is at or behind the end of the disk, or `limit` is 0.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the entry for `at` is not as it should be, or points past the end of the file.
    /// - [`Error::Io`] if the file cannot be read.
    pub fn run_at(&self, view: View, at: GuestOffset, limit: u64) -> Result<HostRun> {
        self.walk(view).run_at(at, limit)
    }

    /// A walk along a state, for whoever asks for one run after the other.
    pub(crate) fn walk(&self, view: View) -> Cursor<'_> {
        Cursor::new(self, view, Hand::default())
    }

    /// The streams of all compressed clusters, in the order of the disk. After an error there are no more.
    ///
    /// # Errors
    ///
    /// Those of [`run_at`](Self::run_at).
    pub(crate) fn streams(&self, view: View) -> impl Iterator<Item = Result<Stream>> {
        let mut cursor = self.walk(view);
        let mut at = 0_u64;
        std::iter::from_fn(move || {
            while at < view.size {
                let run = cursor.piece(GuestOffset(at));
                at = run.as_ref().map_or(view.size, |run| at.plus(run.length));
                match run.map(|run| run.mapping) {
                    Ok(Mapping::Compressed(stream)) => return Some(Ok(stream)),
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            None
        })
    }
}

/// A walk along the tables that keeps in hand what it needs again for the next cluster.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    image: &'a Image,
    view: View,
    geometry: Geometry,
    hand: Hand,
}

impl<'a> Cursor<'a> {
    /// A walk along a state that goes on with what the last one along the same state had in hand.
    pub(in crate::formats) fn new(image: &'a Image, view: View, hand: Hand) -> Self {
        Self {
            image,
            view,
            geometry: image.header.geometry(),
            hand,
        }
    }

    /// What the next walk may go on with.
    pub(in crate::formats) fn into_hand(self) -> Hand {
        self.hand
    }

    /// As [`Image::run_at`], in any order; it takes least where one run begins in the table in which the last one ended.
    pub(crate) fn run_at(&mut self, at: GuestOffset, limit: u64) -> Result<HostRun> {
        // Behind the end there is nothing.
        let limit = limit.min(self.view.size.saturating_sub(at.0));
        if limit == 0 {
            return Ok(HostRun::new(0, Mapping::Unallocated));
        }
        longest(at, limit, |at| self.piece(at))
    }

    /// Where the byte at `at` is, and how many from there on need no second look.
    fn piece(&mut self, at: GuestOffset) -> Result<HostRun> {
        let (index, in_table) = self.geometry.indices_of(self.geometry.cluster_of(at));
        let Some(table) = self.table(to_u64(index))? else {
            let reach = self.geometry.l2_reach();
            return Ok(HostRun::new(rest_of(at.0, reach), Mapping::Unallocated));
        };
        self.in_table(table, to_u64(in_table), at)
    }

    /// Where the L2 table of that number is, if there is one.
    fn table(&mut self, index: u64) -> Result<Option<HostOffset>> {
        if let Some((_, table)) = self.hand.table.filter(|(last, _)| *last == index) {
            return Ok(table);
        }
        let l1_at = self.view.l1.at;
        // The disk has at most 2^61 bytes, and its L1 table lies in the file.
        let entry_at = l1_at + index.times(ENTRY);
        let lost = self.lost(index.times(self.geometry.l2_reach()), self.geometry.l2_reach());
        let entry = number(self.image, &mut self.hand.l1, entry_at)?
            .ok_or_else(|| self.cut_off(L1_TABLE, l1_at, &lost))?;
        let wrong = |expected| wrong(L1_TABLE, l1_at, index, entry, expected, &lost);
        let table = mapping::l1_entry(entry, self.geometry).map_err(wrong)?;
        if let Some(table) = table {
            let length = self.image.file.length();
            if table.0 >= length {
                return Err(wrong(Expected::WithinFile(length)));
            }
            if !self.image.file.holds(table, self.geometry.cluster_size()) {
                return Err(self.cut_off(L2_TABLE, table, &lost));
            }
            let end = table + self.geometry.cluster_size();
            self.image.outside_metadata(table.0..end.0).map_err(wrong)?;
        }
        self.hand.table = Some((index, table));
        Ok(table)
    }

    fn in_table(&mut self, table: HostOffset, index: u64, at: GuestOffset) -> Result<HostRun> {
        let geometry = self.geometry;
        let (cluster_size, unit) = (geometry.cluster_size(), geometry.subcluster_size());
        let (in_cluster, in_unit) = (within(at.0, cluster_size), within(at.0, unit));
        let lost = self.lost(at.0.minus(in_cluster), cluster_size);
        // Tables lie in the file, and offsets in entries have 56 bits.
        let entry_at = table + index.times(geometry.l2_entry_size());
        let entry = self.l2_number(table, entry_at, &lost)?;
        let bitmap = match geometry.l2_form() {
            L2Form::Standard => 0,
            L2Form::Extended => self.l2_number(table, entry_at + ENTRY, &lost)?,
        };
        // At most 31.
        let subcluster = u32::try_from(in_cluster.checked_div(unit).unwrap_or(0)).unwrap_or(0);
        let wrong = |expected| wrong(L2_TABLE, table, index, entry, expected, &lost);
        let decoded = self.image.rules.decode(entry, bitmap, subcluster);
        let mapping = decoded.map_err(|fault| match fault {
            Wrong::Entry(expected) => wrong(expected),
            Wrong::Bitmap(expected) => self::wrong(BITMAPS, table, index, bitmap, expected, &lost),
        })?;
        let rest_of_unit = unit.minus(in_unit);
        let behind = |host: HostOffset| host + in_unit;
        let (length, mapping) = match mapping {
            Mapping::Compressed(stream) => {
                let stream = self.within_file(stream).map_err(wrong)?;
                (cluster_size.minus(in_cluster), Mapping::Compressed(stream))
            }
            Mapping::Data(host) => {
                // Behind the end of the disk nothing needs to be there.
                let needed = rest_of_unit.min(self.view.size.minus(at.0));
                self.validate_data(at, behind(host), needed, &wrong, &lost)?;
                (rest_of_unit, Mapping::Data(behind(host)))
            }
            Mapping::ZeroAllocated(host) => {
                // It may lie behind the end of the file, for nothing was ever written there.
                if !self.image.rules.data_file && host.0 >= self.image.refcounted() {
                    return Err(wrong(Expected::That("an offset that the refcount table covers")));
                }
                (rest_of_unit, Mapping::ZeroAllocated(behind(host)))
            }
            Mapping::Unallocated if geometry.l2_form() == L2Form::Extended => {
                let room = self.image.rules.room(entry, subcluster).map(behind);
                return Ok(HostRun {
                    room,
                    ..HostRun::new(rest_of_unit, mapping)
                });
            }
            Mapping::Unallocated if entry == 0 => {
                let more = self.empty_behind(index, entry_at).times(cluster_size);
                (rest_of_unit.plus(more), mapping)
            }
            Mapping::Unallocated | Mapping::Zero => (rest_of_unit, mapping),
        };
        Ok(HostRun::new(length, mapping))
    }

    /// How many entries of a standard L2 table behind the one of a number that was just read are 0, at least: a table with
    /// little in it is most of what a sparse disk has.
    fn empty_behind(&self, index: u64, entry_at: HostOffset) -> u64 {
        let left = self.geometry.l2_entries().minus(index).minus(1);
        let window = self.hand.l2.as_ref();
        window.map_or(0, |window| window.zeros_at(entry_at + ENTRY, left))
    }

    fn l2_number(&mut self, table: HostOffset, at: HostOffset, lost: &Lost) -> Result<u64> {
        number(self.image, &mut self.hand.l2, at)?.ok_or_else(|| self.cut_off(L2_TABLE, table, lost))
    }

    fn validate_data(
        &self,
        at: GuestOffset,
        host: HostOffset,
        needed: u64,
        wrong: &impl Fn(Expected) -> Error,
        lost: &Lost,
    ) -> Result<()> {
        let Some(length) = self.image.data_length() else {
            return Ok(());
        };
        if host.0 >= length {
            return Err(wrong(Expected::WithinFile(length)));
        }
        if !is_within(length, host, needed) {
            let error = self.cut_off("data cluster", host, lost);
            return Err(match self.image.data_file() {
                Some(file) => error.elsewhere(file.path()),
                None => error,
            });
        }
        if self.image.data_file().is_none() {
            let end = host + needed;
            return self.image.outside_metadata(host.0..end.0).map_err(wrong);
        }
        if host.0 != at.0 {
            let expected = "the same offset as in the disk, as an external data file requires";
            return Err(wrong(Expected::That(expected)));
        }
        Ok(())
    }

    /// The sector count of a stream may reach past the end of the file: streams are not padded to sectors.
    fn within_file(&self, stream: Stream) -> Result<Stream, Expected> {
        let end = self.image.file.length();
        match end.checked_sub(stream.at.0) {
            None | Some(0) => Err(Expected::WithinFile(end)),
            Some(rest) => Ok(Stream {
                at: stream.at,
                length: stream.length.min(rest),
            }),
        }
    }

    fn lost(&self, start: u64, length: u64) -> Lost {
        (start..start.plus(length).min(self.view.size)).into()
    }

    fn cut_off(&self, what: &'static str, at: HostOffset, lost: &Lost) -> Error {
        let end = match self.image.data_file() {
            Some(file) if what == "data cluster" => file.length(),
            _ => self.image.file.length(),
        };
        Corrupt::CutOff {
            what,
            at,
            end,
            lost: lost.clone(),
        }
        .into()
    }
}

/// The number at `at`, through the window that was used last; none behind the end of the file.
fn number(image: &Image, last: &mut Option<Arc<Window>>, at: HostOffset) -> Result<Option<u64>> {
    if let Some(number) = last.as_ref().and_then(|window| window.number_at(at)) {
        return Ok(Some(number));
    }
    let window = image.windows.get(image.number, &image.file, at)?;
    let number = window.number_at(at);
    *last = Some(window);
    Ok(number)
}

fn wrong(
    table: &'static str,
    at: HostOffset,
    index: u64,
    found: u64,
    expected: Expected,
    lost: &Lost,
) -> Error {
    Corrupt::Entry {
        table,
        at,
        index,
        found,
        expected,
        lost: lost.clone(),
    }
    .into()
}
