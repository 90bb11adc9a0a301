//! A qcow2 image that comes through a pipe. All tables come first and are kept; then the data, in the order of the disk;
//! then what only this program knows, which is kept, too.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::any::AnyDisk;
use super::chain::{Chain, ChainRun};
use super::format::Format;
use super::host::HostFile;
use super::open::{IsAt, Opening, open_found};
use super::qcow2::structures::features;
use super::qcow2::structures::geometry::{ENTRY, Geometry};
use super::qcow2::structures::header::{self, Header, TableAt};
use super::qcow2::structures::mapping::{Mapping, l1_entry};
use super::qcow2::structures::refcount::block_at;
use super::registry::Looks;
use crate::disk::{Disk, Found, Pipe};
use crate::error::{Corrupt, Error, Result, Unstreamable};
use crate::units::{Exact, GuestOffset, HostOffset, claimed_end, length, to_usize};

/// What the stream is called in messages.
const NAME: &str = "standard input";

/// How much that is none of the tables may lie between them, in bytes and in clusters: it is kept, too.
const MAX_BETWEEN: u64 = 1 << 20;
const MAX_CLUSTERS_BETWEEN: u64 = 16;

/// How much of the beginning tells what it is, in bytes: the smallest cluster, which holds the header.
const BEGINNING: u64 = 512;

/// How much of the disk comes first and is kept, in bytes: the partition table is there.
const HEAD: u64 = 64 << 10;

/// How much more than the checksum table is kept of the end, in bytes: no record is longer.
const MAX_RECORD: u64 = 64 << 20;

/// An image that comes through a pipe.
#[derive(Debug)]
pub(crate) struct PipedImage {
    pipe: Arc<Pipe>,
    opening: Opening,
    /// Up to where all of it is kept, in bytes.
    front: u64,
}

impl PipedImage {
    /// Reads the tables of a stream, and makes sure that the rest can be read in order. They are kept in the empty file.
    /// The disk can tell where everything is; of its content, only the beginning is there.
    ///
    /// # Errors
    ///
    /// - Those of [`open`](super::open).
    /// - [`Error::Invalid`] if it is no qcow2 image, or cannot be read in order.
    /// - [`Error::Corrupt`] if it ends within the tables, or they are damaged.
    pub(crate) fn begin(stream: File, kept: File, opening: &Opening) -> Result<(Self, Chain)> {
        let mut image = Self {
            pipe: Arc::new(Pipe::new(stream, kept)),
            opening: opening.clone(),
            front: 0,
        };
        image.keep_tables()?;
        let disk = image.disk()?;
        image.keep_head(&disk)?;
        image.refuse_disorder(&disk)?;
        Ok((image, disk))
    }

    /// Reads what begins at `at`, so that it can be read from the disk. Must be called in the order of the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the stream ends in front of it, [`Error::Io`] if it cannot be read.
    pub(crate) fn load(&self, run: ChainRun) -> Result<()> {
        match self.place_of(run) {
            Some(place) => self.pipe.load(&place),
            None => Ok(()),
        }
    }

    /// Forgets what was loaded for a run.
    pub(crate) fn release(&self, run: ChainRun) {
        if let Some(place) = self.place_of(run) {
            self.pipe.release(place.end);
        }
    }

    /// Reads the stream to its end, and returns the disk with all that the image tells of it.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it was cut off, or what lies at its end is damaged.
    /// - [`Error::Io`] if it cannot be read.
    pub(crate) fn finish(&self, disk: &Chain) -> Result<Chain> {
        let ours = disk.image().and_then(|image| image.extensions().ours);
        match ours {
            Some(ours) => {
                let at = ours.checksums.offset.0;
                self.pipe.pass_to(at)?;
                let length = ours.checksums.length;
                let end = self.pipe.keep_rest(length.saturating_add(MAX_RECORD))?;
                let expected = claimed_end(at, length);
                if end < expected {
                    return Err(Corrupt::Ended { end, expected }.into());
                }
            }
            None => {
                self.pipe.keep_rest(0)?;
            }
        }
        self.disk()
    }

    fn disk(&self) -> Result<Chain> {
        let found = Found::piped(Path::new(NAME), &self.pipe)?;
        match open_found(found, &self.opening, IsAt::Stream)? {
            AnyDisk::Image(chain) => Ok(*chain),
            AnyDisk::Raw(_) => Err(Unstreamable::Format("raw").into()),
        }
    }

    /// Where in the stream a run lies that is not kept.
    fn place_of(&self, run: ChainRun) -> Option<Range<u64>> {
        let place = place_in_file(run)?;
        (place.end > self.front).then_some(place)
    }

    fn keep_tables(&mut self) -> Result<()> {
        let pipe = Arc::clone(&self.pipe);
        let mut found = begin(&pipe)?;
        let format = match self.opening.format {
            Some(format) => format,
            None => Looks::image_at(found.beginning()?)?,
        };
        if format != Format::Qcow2 {
            return Err(Unstreamable::Format(format.name()).into());
        }
        // A shorter one is no image, or was cut off.
        pipe.keep_to(BEGINNING)?;
        let file = HostFile::of(found)?;
        let mut beginning = vec![0; to_usize(BEGINNING)];
        file.read_exact(&mut beginning, HostOffset(0))?;
        let header = Header::parse(&beginning)?;
        if header.needs(features::DATA_FILE) {
            return Err(Unstreamable::DataFile.into());
        }
        let geometry = header.geometry();
        pipe.keep_to(geometry.cluster_size())?;
        let (l1, refcounts) = (bytes_of(header.l1()), bytes_of(header.refcount_table()));
        let mut front = Front {
            pipe: &pipe,
            between: MAX_BETWEEN.max(MAX_CLUSTERS_BETWEEN.times(geometry.cluster_size())),
            known: vec![refcounts.clone()],
        };
        front.reach("L1 table", &l1)?;
        let l2 = clusters(&file, &l1, geometry, |entry| {
            l1_entry(entry, geometry).ok().flatten()
        })?;
        if let Some(last) = l2.last().cloned() {
            front.know(l2);
            if !refcounts.is_empty() && refcounts.start < last.start {
                front.reach("refcount table", &refcounts)?;
                let blocks = |entry| block_at(entry, geometry).ok().flatten();
                front.know(clusters(&file, &refcounts, geometry, blocks)?);
            }
            front.reach("L2 table", &last)?;
        }
        self.front = pipe.position();
        Ok(())
    }

    /// Keeps the beginning of the disk, if it comes next.
    fn keep_head(&mut self, disk: &Chain) -> Result<()> {
        let (mut at, end) = (0, HEAD.min(disk.len()));
        while at < end {
            let run = disk.place_at(GuestOffset(at), end.minus(at))?;
            if run.length == 0 {
                break;
            }
            if let Some(place) = place_in_file(run).filter(|place| place.end > self.front) {
                if place.start.saturating_sub(self.front) > MAX_BETWEEN {
                    break;
                }
                self.pipe.keep_to(place.end)?;
                self.front = place.end;
            }
            at.increase(run.length);
        }
        Ok(())
    }

    /// Refuses an image whose data is not in the order of the disk.
    fn refuse_disorder(&self, disk: &Chain) -> Result<()> {
        // Streams may overlap at the boundary of a sector.
        let (mut last, mut at) = (self.front..self.front, 0);
        let mut is_stream = false;
        while at < disk.len() {
            let run = disk.place_at(GuestOffset(at), disk.len().minus(at))?;
            if run.length == 0 {
                break;
            }
            if let Some(place) = self.place_of(run) {
                let is_in_order = place.start >= last.end || (is_stream && place.start > last.start);
                // Only the first of all may begin in what is kept.
                let is_first = last.is_empty() && place.start < self.front;
                if !is_in_order && !is_first {
                    let (guest, at) = (at, HostOffset(place.start));
                    return Err(Unstreamable::Order { guest, at }.into());
                }
                is_stream = matches!(run.mapping, Mapping::Compressed(_));
                last = place;
            }
            at.increase(run.length);
        }
        Ok(())
    }
}

/// The tables that lie in front of all data.
struct Front<'a> {
    pipe: &'a Pipe,
    /// How much else there may still be between them, in bytes.
    between: u64,
    /// Where tables are.
    known: Vec<Range<u64>>,
}

impl Front<'_> {
    fn know(&mut self, tables: Vec<Range<u64>>) {
        self.known.extend(tables);
    }

    /// Reads on up to the end of a table, unless data must lie in front of it.
    fn reach(&mut self, what: &'static str, table: &Range<u64>) -> Result<()> {
        let position = self.pipe.position();
        if table.end <= position {
            return Ok(());
        }
        let passed = position..table.start.max(position);
        let part = |known: &Range<u64>| {
            let clipped =
                known.start.clamp(passed.start, passed.end)..known.end.clamp(passed.start, passed.end);
            length(&clipped)
        };
        let known = self.known.iter().map(part).fold(0, u64::saturating_add);
        let between = length(&passed).saturating_sub(known);
        if between > self.between {
            let at = HostOffset(table.start);
            return Err(Unstreamable::TableBehind { what, at }.into());
        }
        self.between = self.between.minus(between);
        self.pipe.keep_to(table.end)
    }
}

/// Reads the beginning of a stream, or all of a very short one.
fn begin(pipe: &Arc<Pipe>) -> Result<Found> {
    match pipe.keep_to(BEGINNING) {
        Ok(()) => {}
        // What does not begin like an image is none, however short it is.
        Err(error @ Error::Corrupt(Corrupt::Ended { .. })) => {
            let mut found = Found::piped(Path::new(NAME), pipe)?;
            if !header::may_begin(found.beginning()?) {
                return Ok(found);
            }
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    Found::piped(Path::new(NAME), pipe)
}

fn bytes_of(table: TableAt) -> Range<u64> {
    let length = table.entries.saturating_mul(ENTRY);
    table.at.0..claimed_end(table.at.0, length)
}

/// The clusters that a table points to, in ascending order. What is wrong with an entry is told by whoever needs it.
fn clusters(
    file: &HostFile,
    table: &Range<u64>,
    geometry: Geometry,
    decode: impl Fn(u64) -> Option<HostOffset>,
) -> Result<Vec<Range<u64>>> {
    // The header has seen to it that no table is longer than some MiB.
    let mut bytes = vec![0; to_usize(length(table))];
    file.read_exact(&mut bytes, HostOffset(table.start))?;
    let (entries, _) = bytes.as_chunks::<8>();
    let places = entries
        .iter()
        .filter_map(|entry| decode(u64::from_be_bytes(*entry)));
    let mut places: Vec<_> = places
        .map(|at| at.0..claimed_end(at.0, geometry.cluster_size()))
        .collect();
    places.sort_unstable_by_key(|place| place.start);
    places.dedup();
    Ok(places)
}

/// Where in the image a run lies, if it does; not that of a backing file.
fn place_in_file(run: ChainRun) -> Option<Range<u64>> {
    match run.mapping {
        _ if run.depth > 0 => None,
        Mapping::Data(host) => Some(host.0..claimed_end(host.0, run.length)),
        Mapping::Compressed(stream) => Some(stream.at.0..claimed_end(stream.at.0, stream.length)),
        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => None,
    }
}
