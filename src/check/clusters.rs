//! L2 tables: where the clusters of the disk are, and how often each is used.

use std::ops::Range;

use super::catalogue::Code;
use super::entries::{Entries, numbers};
use super::findings::{Fault, Finding, Findings};
use super::tables::L2;
use super::window::{Spot, Window};
use crate::error::{Corrupt, Expected, Lost, Result};
use crate::formats::HostFile;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::geometry::{ENTRY, Geometry, L2Form};
use crate::formats::qcow2::structures::mapping::{self, Cluster, L2Rules, Stream, Wrong};
use crate::units::{Exact, HostOffset, to_u64};

const TABLE: &str = "L2 table";
const BITMAPS: &str = "subcluster bitmaps of the L2 table";

/// How many entries are looked at as one at most.
const RUN: u64 = 512;

/// Host offsets in table entries have 56 bits.
const MAX_OFFSET: u64 = 1 << 56;

/// What the clusters of the active disk are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Have room in the image.
    pub(super) allocated: u64,
    /// Of those, compressed.
    pub(super) compressed: u64,
    /// Of those, not where the cluster in front of it ends.
    pub(super) fragmented: u64,
}

impl Figures {
    pub(super) fn add(&mut self, more: Self) {
        self.allocated.increase(more.allocated);
        self.compressed.increase(more.compressed);
        self.fragmented.increase(more.fragmented);
    }
}

/// A compressed cluster to be tried.
pub(super) type Compressed = (Stream, Range<u64>);

/// Looks at the entries of one L2 table after the other.
pub(super) struct Reader<'a> {
    image: &'a Image,
    window: &'a Window<'a>,
    rules: L2Rules,
    geometry: Geometry,
    /// Where the clusters are: none if that file was not opened.
    data_length: Option<u64>,
    pub(super) found: Findings,
    pub(super) figures: Figures,
    /// Compressed clusters that are to be tried.
    streams: Option<Vec<Compressed>>,
    /// The table.
    l2: L2,
    /// Where the cluster of the entry in front ends.
    next: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(image: &'a Image, window: &'a Window<'a>, streams: bool) -> Self {
        let data_length = if image.rules().data_file {
            image.data_file().map(HostFile::length)
        } else {
            Some(image.file().length())
        };
        Self {
            image,
            window,
            rules: image.rules(),
            geometry: image.header().geometry(),
            data_length,
            found: Findings::default(),
            figures: Figures::default(),
            streams: streams.then(Vec::new),
            l2: L2::default(),
            next: None,
        }
    }

    /// The compressed clusters of the entries since this was last asked.
    pub(super) fn take_streams(&mut self) -> Vec<Compressed> {
        self.streams.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Goes on with another table.
    pub(super) fn begin(&mut self, l2: L2) {
        self.l2 = l2;
        self.next = None;
    }

    /// Looks at the entries in a piece of the table, which begins at `start` bytes of it.
    pub(super) fn piece(&mut self, entries: &mut Entries, start: u64, bytes: u64) -> Result<()> {
        let at = self.l2.at + start;
        let bytes = entries.piece(self.image.file(), at, bytes)?;
        match self.geometry.l2_form() {
            L2Form::Standard => self.runs(start / ENTRY, bytes),
            L2Form::Extended => {
                let mut index = start / (2 * ENTRY);
                let mut numbers = numbers(bytes);
                while let (Some(entry), Some(bitmap)) = (numbers.next(), numbers.next()) {
                    if entry != 0 || bitmap != 0 {
                        self.entry(index, entry, bitmap);
                    }
                    index.increase(1);
                }
            }
        }
        Ok(())
    }

    /// Entries of the standard form, of which most go on where the one in front ends.
    fn runs(&mut self, first: u64, bytes: &[u8]) {
        let (entries, _) = bytes.as_chunks();
        let cluster_size = self.geometry.cluster_size();
        let goes_on = |a: &[u8; 8], b: &[u8; 8]| match u64::from_be_bytes(*a) {
            0 => *b == [0; 8],
            entry => entry.checked_add(cluster_size) == Some(u64::from_be_bytes(*b)),
        };
        let mut index = first;
        for run in entries.chunk_by(goes_on) {
            let (entry, length) = (
                run.first().map_or(0, |entry| u64::from_be_bytes(*entry)),
                to_u64(run.len()),
            );
            if entry != 0 && !self.run(index, entry, length) {
                for (index, entry) in (index..).zip(run) {
                    self.entry(index, u64::from_be_bytes(*entry), 0);
                }
            }
            index.increase(length);
        }
    }

    /// Several entries that go on where the one in front ends. Whether that is so simple that it was done.
    fn run(&mut self, index: u64, entry: u64, length: u64) -> bool {
        if length == 1 || self.rules.data_file {
            return false;
        }
        let Ok(Cluster::Standard { at: Some(at), .. }) = self.rules.cluster(entry, 0) else {
            return false;
        };
        // Less than 2^40 bytes.
        let bytes = length.times(self.geometry.cluster_size());
        let end = at.0.plus(bytes);
        // No entry is another sort of thing than the first: an offset has 56 bits.
        if !self.image.file().holds(at, bytes) || end > MAX_OFFSET {
            return false;
        }
        self.contiguous(at);
        if let Some(next) = &mut self.next {
            *next = end;
            let more = length.minus(1).times(self.l2.active.into());
            self.figures.allocated.increase(more);
        }
        let copied = (self.l2.active > 0).then(|| mapping::is_copied(entry));
        let mut done = 0;
        while done < length {
            let cluster = (at.0 >> self.geometry.cluster().bits()).plus(done);
            let piece = length.minus(done).min(RUN);
            let counted = self.window.count_run(cluster, piece, self.l2.weight, copied);
            let one_by_one = if counted == 0 { piece } else { 0 };
            for more in 0..one_by_one {
                let number = done.plus(more);
                let place = EntryAt {
                    index: index.plus(number),
                    entry: entry.plus(number.times(self.geometry.cluster_size())),
                };
                self.in_image(place, cluster.plus(more));
            }
            done = done.plus(counted).plus(one_by_one);
        }
        true
    }

    fn entry(&mut self, index: u64, entry: u64, bitmap: u64) {
        let place = EntryAt { index, entry };
        if let Some(wrong) = self.rules.ignored(entry, bitmap) {
            self.tell_wrong(place, bitmap, wrong);
        }
        match self.rules.cluster(entry, bitmap) {
            Ok(Cluster::Standard {
                at: Some(at), data, ..
            }) => self.standard(place, at, data),
            Ok(Cluster::Standard { at: None, .. }) => {}
            Ok(Cluster::Compressed(stream)) => self.compressed(place, stream),
            Err(wrong) => self.wrong(place, bitmap, wrong),
        }
    }

    fn standard(&mut self, place: EntryAt, at: HostOffset, data: u32) {
        self.contiguous(at);
        if self.window.is_first {
            self.bounds(place, at, data);
        }
        if self.rules.data_file {
            self.in_data_file(place, at);
            return;
        }
        self.in_image(place, at.0 >> self.geometry.cluster().bits());
    }

    fn in_image(&mut self, place: EntryAt, cluster: u64) {
        let spot = self.refer(place, cluster);
        if self.l2.active > 0
            && let Some(stored) = self.window.stored_of(spot)
        {
            self.copied(place, stored);
        }
    }

    /// Counts the references to a cluster of the image.
    fn refer(&mut self, place: EntryAt, cluster: u64) -> Spot {
        let spot = self.window.spot(cluster);
        if self.window.is_taken(spot) {
            self.found
                .add(self.corrupt(Code::L2Overlap, place, Expected::Outside("tables")));
        }
        self.window.count(cluster, spot, self.l2.weight, &mut self.found);
        spot
    }

    fn copied(&mut self, place: EntryAt, stored: u64) {
        let is_copied = mapping::is_copied(place.entry);
        if is_copied != (stored == 1) {
            let fault = Fault::Copied {
                table: TABLE,
                at: self.l2.at,
                index: place.index,
                entry: place.entry,
                is_copied,
                stored,
                lost: self.guest(place).into(),
            };
            self.found.add(Finding::new(Code::L2Copied, fault));
        }
    }

    /// Clusters of a data file have no refcounts, as if all of them were 1.
    fn in_data_file(&mut self, place: EntryAt, at: HostOffset) {
        if !self.window.is_first {
            return;
        }
        let start = self.start(place);
        if at.0 != start {
            let expected = Expected::Exactly(start);
            self.found
                .add(self.corrupt(Code::DataFileOffset, place, expected));
        }
        if self.l2.active > 0 {
            self.copied(place, 1);
        }
    }

    /// All that is data must be in the file. Of room that was never written to only a beginning need be there; and
    /// behind the end of the disk there is the state of a machine, or nothing.
    fn bounds(&mut self, place: EntryAt, at: HostOffset, data: u32) {
        let Some(length) = self.data_length else { return };
        if at.0 >= length && (data != 0 || !self.rules.data_file) {
            let expected = Expected::WithinFile(length);
            self.found.add(self.corrupt(Code::L2Outside, place, expected));
            return;
        }
        // Offsets have 56 bits. None if nothing is data.
        let subclusters = u64::from(u32::BITS.minus(data.leading_zeros()));
        let needed = subclusters.times(self.geometry.subcluster_size());
        let on_disk = self.l2.size.saturating_sub(self.start(place)).max(1);
        let end = at + needed.min(on_disk);
        if end.0 > length {
            let fault = Corrupt::CutOff {
                what: "data cluster",
                at,
                end: length,
                lost: self.guest(place).into(),
            };
            self.found.add(Finding::new(Code::L2Outside, fault));
        }
    }

    /// A reference for every cluster that a stream touches.
    fn compressed(&mut self, place: EntryAt, stream: Stream) {
        let file = self.image.file();
        let is_there = stream.at.0 < file.length();
        // Its last sector need not be all there, nor is a last cluster whole as a rule.
        let end = stream.at.0.plus(stream.length);
        // How far behind the end of the file, if at all.
        let is_far = end.saturating_sub(file.length()) >= self.geometry.cluster_size();
        if self.window.is_first {
            if mapping::is_copied(place.entry) {
                let expected = Expected::That("COPIED to be clear, because the cluster is compressed");
                self.found
                    .add(self.corrupt(Code::CompressedCopied, place, expected));
            }
            if !is_there || is_far {
                let expected = Expected::WithinFile(file.length());
                self.found.add(self.corrupt(Code::L2Outside, place, expected));
            }
            let active = u64::from(self.l2.active);
            self.figures.add(Figures {
                allocated: active,
                compressed: active,
                fragmented: active,
            });
        }
        for cluster in self.window.clusters(stream.at, stream.length) {
            self.refer(place, cluster);
        }
        let guest = self.guest(place);
        if let Some(streams) = self.streams.as_mut().filter(|_| is_there) {
            // The file may end with the stream, in front of the end of its last sector.
            let length = stream.length.min(file.length().minus(stream.at.0));
            streams.push((
                Stream {
                    at: stream.at,
                    length,
                },
                guest,
            ));
        }
    }

    /// An entry that cannot be. What it points to is in use all the same, as far as that can be told.
    fn wrong(&mut self, place: EntryAt, bitmap: u64, wrong: Wrong) {
        self.tell_wrong(place, bitmap, wrong);
        let mended = match wrong {
            Wrong::Entry(Expected::Clear(reserved)) => self.rules.cluster(place.entry & !reserved, bitmap),
            Wrong::Entry(_) => Err(wrong),
            Wrong::Bitmap(_) => self.rules.cluster(place.entry, 0),
        };
        match mended {
            Ok(Cluster::Standard { at: Some(at), .. }) if !self.rules.data_file => {
                self.refer(place, at.0 >> self.geometry.cluster().bits());
            }
            Ok(Cluster::Compressed(stream)) => {
                for cluster in self.window.clusters(stream.at, stream.length) {
                    self.refer(place, cluster);
                }
            }
            Ok(Cluster::Standard { .. }) | Err(_) => {}
        }
    }

    fn tell_wrong(&mut self, place: EntryAt, bitmap: u64, wrong: Wrong) {
        let (table, code, value, expected) = match wrong {
            Wrong::Entry(expected) => (TABLE, Code::L2Entry, place.entry, expected),
            Wrong::Bitmap(expected) => (BITMAPS, Code::L2Bitmap, bitmap, expected),
        };
        if self.window.is_first {
            let fault = Corrupt::Entry {
                table,
                at: self.l2.at,
                index: place.index,
                found: value,
                expected,
                lost: self.guest(place).into(),
            };
            self.found.add(Finding::new(code, fault));
        }
    }

    fn contiguous(&mut self, at: HostOffset) {
        if !self.window.is_first || self.l2.active == 0 {
            return;
        }
        let is_fragment = self.next.is_some_and(|next| next != at.0);
        self.next = Some(at.0.plus(self.geometry.cluster_size()));
        let active = u64::from(self.l2.active);
        self.figures.add(Figures {
            allocated: active,
            compressed: 0,
            fragmented: if is_fragment { active } else { 0 },
        });
    }

    /// The first byte of the disk that an entry maps. The largest L1 tables map 2^61 bytes.
    fn start(&self, place: EntryAt) -> u64 {
        let within = place.index.times(self.geometry.cluster_size());
        self.l2.guest.plus(within)
    }

    fn guest(&self, place: EntryAt) -> Range<u64> {
        let start = self.start(place);
        let end = start.plus(self.geometry.cluster_size());
        // The state of a machine lies behind the end of the disk.
        start..if start < self.l2.size {
            end.min(self.l2.size)
        } else {
            end
        }
    }

    fn corrupt(&self, code: Code, place: EntryAt, expected: Expected) -> Finding {
        let fault = Corrupt::Entry {
            table: TABLE,
            at: self.l2.at,
            index: place.index,
            found: place.entry,
            expected,
            lost: Lost::from(self.guest(place)),
        };
        Finding::new(code, fault)
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
struct EntryAt {
    index: u64,
    entry: u64,
}

const _: () = assert!(
    to_u64(size_of::<Finding>()) <= 128,
    "a job may keep thousands of them"
);
