//! The record of an image: which of its clusters are free, which bytes could not be read when it was made.

use std::ops::Range;

use crc32fast::Hasher;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::ours::exactly;
use crate::error::{Corrupt, Error, Expected, Lost, Result};
use crate::formats::HostFile;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::formats::qcow2::structures::identity::{BaseIdentity, Identity};
use crate::formats::qcow2::structures::provenance::{MAX_PROVENANCE, Provenance};
use crate::formats::qcow2::structures::record::{
    BASE, FREE, IDENTITY, IMAGE_VERSION, LONGEST_NUMBER, MAGIC, MAX_FREE_RUNS, MAX_UNREADABLE, PROVENANCE,
    RawFooter, RawRecord, RawRuns, RawSection, SECTOR_SIZE, TRAILER, UNREADABLE, VERSION, file_end, number,
};
use crate::units::{Exact, HostOffset, SECTOR, claimed_end, length, to_u64, to_usize};

const STRUCTURE: &str = "record";

/// How much is read in one go, in bytes.
const PIECE: usize = 256 << 10;

/// The largest sector size that is believed, in bytes.
const MAX_SECTOR_SIZE: u64 = 64 << 10;

/// The longest section that is read by [`Pieces::short`], in bytes.
const MAX_SHORT: u64 = 64;

/// What an image records of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Which clusters are free: ascending and apart.
    free: Vec<Range<u64>>,
    /// In bytes.
    cluster_size: u64,
    /// Of the disk, in bytes.
    size: u64,
    /// Where the record ends, in bytes of the file.
    end: u64,
    /// What could not be read when the image was made, in bytes of the disk: ascending and apart.
    pub unreadable: Vec<Range<u64>>,
    /// The size of a sector of the source in bytes, if it was known.
    pub sector_size: Option<u32>,
    /// The version of the image when it was made, if that is recorded.
    pub(in crate::formats) image_version: Option<u32>,
    /// Where the image comes from, if it tells.
    pub provenance: Option<Provenance>,
    /// Which image it is, if it tells.
    pub identity: Option<Identity>,
    /// Which backing file it stands on, if it does and tells.
    pub base: Option<BaseIdentity>,
}

impl Record {
    /// Whether byte `at` of the disk lies in a free cluster, and up to where that is so.
    pub fn free_at(&self, at: u64) -> (bool, u64) {
        let Some(cluster) = at.checked_div(self.cluster_size) else {
            return (false, u64::MAX);
        };
        let next = self.free.partition_point(|run| run.end <= cluster);
        let start_of = |cluster: u64| cluster.times(self.cluster_size);
        match self.free.get(next) {
            Some(run) if run.start <= cluster => (true, start_of(run.end)),
            Some(run) => (false, start_of(run.start)),
            None => (false, u64::MAX),
        }
    }

    /// How many bytes of a range of the disk are free.
    pub fn free_bytes_in(&self, range: &Range<u64>) -> u64 {
        let (mut at, mut sum) = (range.start, 0_u64);
        while at < range.end {
            let (is_free, end) = self.free_at(at);
            let end = end.min(range.end);
            if is_free {
                sum.increase(end.minus(at));
            }
            at = end;
        }
        sum
    }

    /// How many bytes of the disk are free.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes_in(&(0..self.size))
    }

    /// How many bytes of the disk could not be read when the image was made.
    pub fn unreadable_bytes(&self) -> u64 {
        self.unreadable
            .iter()
            .fold(0, |sum, range| sum.plus(length(range)))
    }

    /// That the file does not end with the footer behind the record, if so. Nothing is lost by it yet, but the file was
    /// cut off, or its end is damaged. A file that has grown since, or a device, may end anyhow.
    pub(crate) fn cut_off(&self, image: &Image) -> Result<Option<Error>> {
        let (found, expected) = (image.file.length(), file_end(self.end, self.cluster_size));
        let footer_at = HostOffset(expected.minus(to_u64(size_of::<RawFooter>())));
        let is_short = found < expected;
        if found > expected || (!is_short && image.footer()?.is_some()) {
            return Ok(None);
        }
        Ok(Some(if is_short {
            Corrupt::CutOff {
                what: "footer",
                at: footer_at,
                end: found,
                lost: Lost::default(),
            }
            .into()
        } else {
            let mut crc = [0; size_of::<u32>()];
            image.file.read_exact(&mut crc, HostOffset(found.minus(4)))?;
            let found = u32::from_be_bytes(crc);
            let expected = Expected::That("that of a whole footer");
            Error::field("footer", footer_at, "CRC-32", found.into(), expected)
        }))
    }

    // Of the file, which has less than 2^63 bytes, all is seen to be there before it is read.
    fn load(image: &Image, at: HostOffset) -> Result<Self> {
        let (file, geometry) = (&image.file, image.header.geometry());
        let head = read_head(file, at)?;
        validate_head(&head, geometry, at)?;
        let content = content(file, at, &head)?;
        let end = content.end;
        validate_crc(file, at, end)?;
        let mut pieces = Pieces::new(file, at, content);
        let mut record = Self {
            cluster_size: geometry.cluster_size(),
            size: geometry.size(),
            end: end.0.plus(TRAILER),
            ..Self::default()
        };
        let mut seen = Vec::new();
        while let Some(section) = pieces.section()? {
            let kind = section.kind.get();
            if seen.contains(&kind) {
                let expected = Expected::That("each kind only once");
                return Err(wrong(at, "kind of a section", kind.into(), expected));
            }
            record.read_section(geometry, &section, &mut pieces)?;
            // Unknown kinds may be many.
            if [
                FREE,
                UNREADABLE,
                SECTOR_SIZE,
                IMAGE_VERSION,
                PROVENANCE,
                IDENTITY,
                BASE,
            ]
            .contains(&kind)
            {
                seen.push(kind);
            }
        }
        Ok(record)
    }

    fn read_section(
        &mut self,
        geometry: Geometry,
        section: &RawSection,
        pieces: &mut Pieces<'_>,
    ) -> Result<()> {
        let end = pieces.position().plus(section.length.get());
        match section.kind.get() {
            FREE => self.free = pieces.runs("free clusters", MAX_FREE_RUNS, geometry.clusters(), end)?,
            UNREADABLE => {
                self.unreadable = pieces.runs("unreadable bytes", MAX_UNREADABLE, geometry.size(), end)?;
            }
            SECTOR_SIZE => self.sector_size = Some(pieces.sector_size(end)?),
            IMAGE_VERSION => self.image_version = Some(pieces.word("length of the version", end)?),
            PROVENANCE => self.provenance = Some(pieces.provenance(end)?),
            IDENTITY => {
                self.identity = Some(pieces.short("length of the identity", end, Identity::from_bytes)?);
            }
            BASE => self.base = Some(pieces.short("length of the base", end, BaseIdentity::from_bytes)?),
            _ => {}
        }
        pieces.skip_to(end)
    }
}

impl Image {
    /// The record of the source, if there is one; perhaps of an earlier state of the disk.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if any part of it is not as it should be.
    /// - [`Error::Io`] if it cannot be read.
    pub fn record(&self) -> Result<Option<Record>> {
        let at = self.ours()?.and_then(|ours| ours.record);
        at.map(|at| Record::load(self, at)).transpose()
    }
}

/// The head of a record, whatever it says.
pub(super) fn read_head(file: &HostFile, at: HostOffset) -> Result<RawRecord> {
    let (mut head, length) = (RawRecord::new_zeroed(), to_u64(size_of::<RawRecord>()));
    if !file.holds(at, length) {
        return Err(truncated(at, file.length().saturating_sub(at.0), length));
    }
    file.read_exact(head.as_mut_bytes(), at)?;
    Ok(head)
}

/// Where the sections of a record are whose head was read. Its checksum is behind them, in the file like them.
pub(super) fn content(file: &HostFile, at: HostOffset, head: &RawRecord) -> Result<Range<HostOffset>> {
    let start = at.0.plus(to_u64(size_of::<RawRecord>()));
    let (length, found) = (head.length.get(), file.length().minus(start));
    let expected = claimed_end(length, TRAILER);
    if found < expected {
        return Err(truncated(at, found, expected));
    }
    Ok(HostOffset(start)..HostOffset(start.plus(length)))
}

fn validate_head(head: &RawRecord, geometry: Geometry, at: HostOffset) -> Result<()> {
    let expected = RawRecord::new(geometry, head.length.get());
    let magic = u64::from_be_bytes;
    exactly(
        STRUCTURE,
        at,
        &[
            ("magic", magic(head.magic), magic(MAGIC)),
            ("version", head.version.get().into(), VERSION.into()),
            (
                "cluster_bits",
                head.cluster_bits.get().into(),
                expected.cluster_bits.get().into(),
            ),
            ("size", head.size.get(), expected.size.get()),
        ],
    )
}

/// Holds all of the record up to `end` to the checksum there.
fn validate_crc(file: &HostFile, at: HostOffset, end: HostOffset) -> Result<()> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut here = at.0;
    while here < end.0 {
        let (bytes, _) = piece.split_at_mut(to_usize(end.0.minus(here)).min(PIECE));
        file.read_exact(bytes, HostOffset(here))?;
        hasher.update(bytes);
        here.increase(to_u64(bytes.len()));
    }
    let mut trailer = [0; size_of::<u32>()];
    file.read_exact(&mut trailer, end)?;
    let (stored, computed) = (u32::from_be_bytes(trailer), hasher.finalize());
    if stored != computed {
        return Err(wrong(
            at,
            "CRC-32",
            stored.into(),
            Expected::Exactly(computed.into()),
        ));
    }
    Ok(())
}

/// The sections, read piece by piece.
struct Pieces<'a> {
    file: &'a HostFile,
    /// Where the record begins, which is what messages tell.
    record: HostOffset,
    /// What was not read yet.
    rest: Range<u64>,
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    taken: usize,
}

impl<'a> Pieces<'a> {
    fn new(file: &'a HostFile, record: HostOffset, range: Range<HostOffset>) -> Self {
        Self {
            file,
            record,
            rest: range.start.0..range.end.0,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Where in the file the next byte is.
    fn position(&self) -> u64 {
        let ahead = self.buffer.len().minus(self.taken);
        self.rest.start.minus(to_u64(ahead))
    }

    /// The bytes that come next: as many as asked for, unless the sections end.
    fn peek(&mut self, wanted: usize) -> Result<&[u8]> {
        let ahead = self.buffer.len().minus(self.taken);
        if ahead < wanted && !self.rest.is_empty() {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let more = PIECE.min(to_usize(length(&self.rest)));
            self.buffer.resize(ahead.plus(more), 0);
            let (_, room) = self.buffer.split_at_mut(ahead);
            self.file.read_exact(room, HostOffset(self.rest.start))?;
            self.rest.start.increase(to_u64(more));
        }
        let bytes = self.buffer.get(self.taken..).unwrap_or_default();
        Ok(bytes.get(..wanted).unwrap_or(bytes))
    }

    fn take(&mut self, count: usize) {
        self.taken = self.taken.plus(count).min(self.buffer.len());
    }

    fn structure<T: FromBytes>(&mut self) -> Result<T> {
        let wanted = size_of::<T>();
        let record = self.record;
        let bytes = self.peek(wanted)?;
        let found = to_u64(bytes.len());
        let value = T::read_from_bytes(bytes).map_err(|_| truncated(record, found, to_u64(wanted)))?;
        self.take(wanted);
        Ok(value)
    }

    /// The head of the next section; none at the end.
    fn section(&mut self) -> Result<Option<RawSection>> {
        if self.peek(1)?.is_empty() {
            return Ok(None);
        }
        let section: RawSection = self.structure()?;
        let left = self.rest.end.minus(self.position());
        if section.length.get() > left {
            let (found, expected) = (section.length.get(), Expected::AtMost(left));
            return Err(wrong(self.record, "length of a section", found, expected));
        }
        Ok(Some(section))
    }

    fn skip_to(&mut self, end: u64) -> Result<()> {
        let at = self.position();
        if at > end {
            let expected = Expected::AtMost(end);
            return Err(wrong(self.record, "end of the data of a section", at, expected));
        }
        let ahead = self.buffer.len().minus(self.taken);
        let skipped = to_usize(end.minus(at));
        if skipped <= ahead {
            self.take(skipped);
        } else {
            self.buffer.clear();
            self.taken = 0;
            self.rest.start = end;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let at = self.position();
        let found = number(self.peek(LONGEST_NUMBER)?);
        let Some((value, taken)) = found else {
            let expected = Expected::That("a number of 64 bits in base 128");
            return Err(wrong(self.record, "byte of a run", at, expected));
        };
        self.take(taken);
        Ok(value)
    }

    /// A section of 4 bytes.
    fn word(&mut self, field: &'static str, end: u64) -> Result<u32> {
        let length = end.minus(self.position());
        if length != to_u64(size_of::<u32>()) {
            let expected = Expected::Exactly(to_u64(size_of::<u32>()));
            return Err(wrong(self.record, field, length, expected));
        }
        Ok(u32::from_be_bytes(self.structure()?))
    }

    /// A section of at most [`MAX_SHORT`] bytes, whose length is all that can be wrong with it.
    fn short<T>(&mut self, field: &'static str, end: u64, parse: fn(&[u8]) -> Option<T>) -> Result<T> {
        let length = end.minus(self.position());
        let record = self.record;
        let wrong_length = || wrong(record, field, length, Expected::That("that of this section"));
        if length > MAX_SHORT {
            return Err(wrong_length());
        }
        let value = parse(self.peek(to_usize(length))?).ok_or_else(wrong_length)?;
        self.take(to_usize(length));
        Ok(value)
    }

    fn sector_size(&mut self, end: u64) -> Result<u32> {
        let size = self.word("length of the sector size", end)?;
        let is_sane = size.is_power_of_two() && (SECTOR..=MAX_SECTOR_SIZE).contains(&size.into());
        if !is_sane {
            let expected = Expected::That("a power of two from 512 to 65536");
            return Err(wrong(self.record, "sector size", size.into(), expected));
        }
        Ok(size)
    }

    fn provenance(&mut self, end: u64) -> Result<Provenance> {
        let length = end.minus(self.position());
        if length > MAX_PROVENANCE {
            let expected = Expected::AtMost(MAX_PROVENANCE);
            return Err(wrong(self.record, "length of the provenance", length, expected));
        }
        let (record, at) = (self.record, self.position());
        let provenance = Provenance::from_bytes(self.peek(to_usize(length))?);
        self.take(to_usize(length));
        provenance.ok_or_else(|| {
            let expected = Expected::That("that of a JSON object of strings and a number");
            wrong(record, "first byte of the provenance", at, expected)
        })
    }

    /// The runs of a section that ends at `end`, each in front of `limit`.
    fn runs(&mut self, what: &'static str, most: usize, limit: u64, end: u64) -> Result<Vec<Range<u64>>> {
        let record = self.record;
        let wrong_run = |field, found, expected| Err(wrong(record, field, found, expected));
        let head: RawRuns = self.structure()?;
        let count = head.runs.get();
        if count > to_u64(most) {
            return wrong_run("number of runs", count, Expected::AtMost(to_u64(most)));
        }
        // No more than the limit, and each takes two bytes at least.
        // A section may even be shorter than its head.
        let there = end.saturating_sub(self.position()) / 2;
        let mut runs: Vec<Range<u64>> = Vec::with_capacity(to_usize(count.min(there)));
        let mut total = 0_u64;
        for _ in 0..count {
            let (gap, run_length) = (self.number()?, self.number()?);
            let last = runs.last().map(|run| run.end);
            if gap == 0 && last.is_some() {
                return wrong_run("gap between runs", gap, Expected::AtLeast(1));
            }
            let start = claimed_end(last.unwrap_or(0), gap);
            let left = limit.saturating_sub(start);
            if run_length == 0 || run_length > left {
                let expected = if run_length == 0 {
                    Expected::AtLeast(1)
                } else {
                    Expected::AtMost(left)
                };
                return wrong_run("length of a run", run_length, expected);
            }
            total.increase(run_length);
            runs.push(start..start.plus(run_length));
        }
        if total != head.total.get() {
            return wrong_run(what, head.total.get(), Expected::Exactly(total));
        }
        if self.position() != end {
            let expected = Expected::Exactly(end);
            return wrong_run("end of the runs", self.position(), expected);
        }
        Ok(runs)
    }
}

fn truncated(at: HostOffset, found: u64, expected: u64) -> Error {
    Corrupt::Truncated {
        structure: STRUCTURE,
        at,
        found,
        expected,
    }
    .into()
}

fn wrong(at: HostOffset, field: &'static str, found: u64, expected: Expected) -> Error {
    Error::field(STRUCTURE, at, field, found, expected)
}
