//! What the workers do with a window: read, decompress, compare checksums, test for zeros.

use std::ops::Range;

use super::report::{Bad, Why};
use super::stretch::Stretch;
use super::walk::{Job, Span, Task, Whereabouts, Window, behind};
use crate::disk::Disk;
use crate::error::{Corrupt, Result};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::{Chain, ChainRun, Guards, mismatch};
use crate::pipeline::buffers::Buffers;
use crate::progress::Retries;
use crate::units::{Exact, GuestOffset, length, to_u64, to_usize, within};
use crate::zero::is_zero;

/// How much is read before it is hashed, in bytes: it should still be in the processor's cache then.
const PIECE: u64 = 256 << 10;

/// How much is given up where data cannot be read, in bytes.
const UNREADABLE: u64 = 4096;

/// A range of the disk, ready to be written.
#[derive(Debug)]
pub(super) struct Filled {
    /// In bytes of the disk.
    pub(super) range: Range<u64>,
    /// What of it is wanted.
    pub(super) wanted: Stretch,
    /// The content of the range, if any of it is to be written; perhaps more.
    pub(super) bytes: Vec<u8>,
    /// All of what is wanted, side by side, in bytes of the disk.
    pub(super) pieces: Vec<(Range<u64>, Piece)>,
    /// The CRC-32 of what is to be written or zeros, if that was asked for.
    pub(super) crc: u32,
    /// The CRC-32 of each cluster that was read, if that was asked for.
    pub(super) sums: Vec<u32>,
    /// What was read last, if anything was.
    pub(super) last: Option<ChainRun>,
    /// How many bytes were read as data.
    pub(super) data: u64,
    pub(super) bad: Vec<Bad>,
}

/// What becomes of a range in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Write,
    Zero,
    Leave,
}

/// Turns jobs into what is ready to be written.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    pub(super) disk: &'a Chain,
    /// What each image is held to as it is read, if there are several.
    pub(super) guards: Option<&'a Guards>,
    /// Where memory comes from, and goes back to once it was written.
    pub(super) buffers: &'a Buffers,
    /// Go on where data is damaged.
    pub(super) keep_going: bool,
    /// Where it is tried again.
    pub(super) retries: &'a Retries<'a>,
    /// How many zeros make a hole, in bytes.
    pub(super) smallest_hole: u64,
    /// Whether what is read will be hashed once more, to be compared with what was written.
    pub(super) will_verify: bool,
    /// Whether the checksums of what is read are wanted, because it is not known yet what they should be.
    pub(super) with_sums: bool,
}

impl Filler<'_> {
    /// Reads what has to be read.
    ///
    /// # Errors
    ///
    /// Those of [`Chain::read_run`], and [`Corrupt::Checksum`]; neither if it is to go on.
    pub(super) fn fill(&self, job: Job) -> Result<Filled> {
        let Job {
            range,
            wanted,
            content,
        } = job;
        let (piece, bad) = match content {
            Task::Data(window) => return self.window(range, wanted, &window),
            Task::Zeros => (Piece::Zero, Vec::new()),
            Task::Nothing => (Piece::Leave, Vec::new()),
            Task::Lost => {
                let (range, why) = (wanted.range.clone(), Why::Unreadable);
                (Piece::Zero, vec![Bad { range, why }])
            }
        };
        Ok(Filled {
            pieces: vec![(wanted.range.clone(), piece)],
            range,
            wanted,
            bytes: Vec::new(),
            crc: 0,
            sums: Vec::new(),
            last: None,
            data: 0,
            bad,
        })
    }

    fn window(&self, range: Range<u64>, wanted: Stretch, window: &Window) -> Result<Filled> {
        let cluster_size = self.disk.own_cluster_size();
        let size = length(&range);
        // What has a checksum are whole clusters, the last one with zeros behind the end of the disk.
        let padded = if window.expected.is_empty() && !self.with_sums {
            size
        } else {
            size.next_multiple_of(cluster_size)
        };
        let mut bytes = self.buffers.take(to_usize(padded));
        let mut comparison = Comparison {
            filler: self,
            start: range.start,
            cluster_size: to_usize(cluster_size),
            expected: &window.expected,
            compared: 0,
            sums: Vec::new(),
            bad: Vec::new(),
        };
        let mut data = 0_u64;
        for part in window.parts.iter().flat_map(|part| self.pieces(part)) {
            let to = to_usize(part.range.end.minus(range.start));
            let (filled, _) = bytes.split_at_mut(to.min(to_usize(size)));
            let (_, buf) = filled.split_at_mut(to_usize(part.range.start.minus(range.start)));
            data.increase(self.read(&part, &wanted, buf, &mut comparison.bad)?);
            comparison.advance(filled)?;
        }
        let (_, padding) = bytes.split_at_mut(to_usize(size));
        padding.fill(0);
        comparison.advance(&bytes)?;
        let Comparison { mut bad, sums, .. } = comparison;
        for bad in &mut bad {
            bad.range = wanted.clipped(&bad.range).range;
        }
        bad.retain(|bad| !bad.range.is_empty());
        let pieces = self.cut(&range, &wanted, &window.parts, &bytes);
        let crc = if self.will_verify {
            hash(&range, &pieces, &bytes)
        } else {
            0
        };
        Ok(Filled {
            range,
            wanted,
            bytes,
            pieces,
            crc,
            sums,
            last: window.last(),
            data,
            bad,
        })
    }

    /// Fills `buf` with a part, and returns how many bytes of it are data.
    fn read(&self, part: &Span, wanted: &Stretch, buf: &mut [u8], bad: &mut Vec<Bad>) -> Result<u64> {
        let at = part.range.start;
        let run = match part.place {
            Whereabouts::Run(run) => run,
            Whereabouts::Nothing | Whereabouts::Lost => {
                buf.fill(0);
                if matches!(part.place, Whereabouts::Lost) {
                    note(bad, part.range.clone(), Why::Unreadable);
                }
                return Ok(0);
            }
        };
        match self.read_run(run, at, wanted, buf, bad) {
            Ok(()) => {}
            Err(_) if self.keep_going => self.rescue(run, at, wanted, buf, bad),
            Err(error) => return Err(error),
        }
        Ok(if run.is_zero() { 0 } else { to_u64(buf.len()) })
    }

    /// Fills `buf` with a run, and, if images are held to anything, notes what is not what it was.
    fn read_run(
        &self,
        run: ChainRun,
        at: u64,
        wanted: &Stretch,
        buf: &mut [u8],
        bad: &mut Vec<Bad>,
    ) -> Result<()> {
        let Some(guards) = self.guards else {
            return self.disk.read_run(run, GuestOffset(at), buf);
        };
        let mut found = Vec::new();
        let mut wrong = |range: Range<u64>, error| {
            // Large clusters of one image may be read for what is wanted of them, and with it small ones of another.
            let is_wanted = !wanted.clipped(&range).range.is_empty();
            if is_wanted && !self.keep_going {
                return Err(error);
            }
            found.push(range);
            Ok(())
        };
        self.disk
            .read_held(guards, run, GuestOffset(at), buf, &mut wrong)?;
        // Several images may be wrong in one place.
        found.sort_by_key(|range| range.start);
        let mut noted = at;
        for range in found {
            let range = range.start.max(noted)..range.end.max(noted);
            noted = range.end;
            if !range.is_empty() {
                note(bad, range, Why::Checksum);
            }
        }
        Ok(())
    }

    /// Reads what can be read of a run.
    fn rescue(&self, run: ChainRun, at: u64, wanted: &Stretch, buf: &mut [u8], bad: &mut Vec<Bad>) {
        let is_whole = matches!(run.mapping, Mapping::Compressed(_));
        let unit = if is_whole { to_u64(buf.len()) } else { UNREADABLE };
        let (mut here, mut retry) = (at, self.retries.begin(at));
        for chunk in buf.chunks_mut(to_usize(unit)) {
            let end = here.plus(to_u64(chunk.len()));
            let rest = run.behind(here.minus(at));
            let read = self.read_run(rest, here, wanted, chunk, bad).is_ok();
            if !read {
                chunk.fill(0);
                note(bad, here..end, Why::Unreadable);
            }
            let lost = if read { 0 } else { end.minus(here) };
            retry.go_on(end, lost);
            here = end;
        }
    }

    /// Cuts what may be cut into what is read in one go.
    fn pieces(&self, part: &Span) -> impl Iterator<Item = Span> + use<> {
        let unit = match (self.guards, part.place) {
            // No cluster is compared in parts that can be compared as a whole.
            (Some(_), Whereabouts::Run(run)) => self.disk.cluster_size_at(run.depth),
            (Some(_) | None, Whereabouts::Run(_) | Whereabouts::Nothing | Whereabouts::Lost) => 1,
        };
        pieces(part, unit)
    }

    /// What becomes of each range: zeros that are worth it are made holes.
    fn cut(
        &self,
        range: &Range<u64>,
        wanted: &Stretch,
        parts: &[Span],
        bytes: &[u8],
    ) -> Vec<(Range<u64>, Piece)> {
        let mut pieces: Vec<(Range<u64>, Piece)> = Vec::new();
        let mut add = |range: Range<u64>, piece| match pieces.last_mut() {
            Some((last, same)) if *same == piece && last.end == range.start => last.end = range.end,
            _ => pieces.push((range, piece)),
        };
        let is_left = |part: &Span| matches!(part.place, Whereabouts::Nothing);
        for same in parts.chunk_by(|a, b| is_left(a) == is_left(b)) {
            let (Some(first), Some(last)) = (same.first(), same.last()) else {
                continue;
            };
            let same = wanted.clipped(&(first.range.start..last.range.end)).range;
            if is_left(first) {
                if !same.is_empty() {
                    add(same, Piece::Leave);
                }
                continue;
            }
            let mut at = same.start;
            while at < same.end {
                let end = at.plus(1).next_multiple_of(self.smallest_hole);
                let chunk = at..end.min(same.end);
                let is_zero = is_zero(slice(range, &chunk, bytes));
                at = chunk.end;
                add(chunk, if is_zero { Piece::Zero } else { Piece::Write });
            }
        }
        pieces
    }
}

/// The bytes of a part of a range, of which `bytes` are the content.
pub(super) fn slice<'a>(range: &Range<u64>, part: &Range<u64>, bytes: &'a [u8]) -> &'a [u8] {
    let within = |at: u64| to_usize(at.minus(range.start));
    // The pieces of a range lie in it, and there is a byte for each of it.
    #[expect(
        clippy::indexing_slicing,
        reason = "a panic is better than a disk with a hole"
    )]
    &bytes[within(part.start)..within(part.end)]
}

/// The CRC-32 of all that does not stay as it was.
pub(super) fn hash(range: &Range<u64>, pieces: &[(Range<u64>, Piece)], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (part, _) in pieces.iter().filter(|(_, piece)| *piece != Piece::Leave) {
        hasher.update(slice(range, part, bytes));
    }
    hasher.finalize()
}

/// Adds a bad range that begins at or behind the end of the last one.
pub(super) fn note(bad: &mut Vec<Bad>, range: Range<u64>, why: Why) {
    match bad.last_mut() {
        Some(last) if last.range.end == range.start && last.why == why => last.range.end = range.end,
        _ => bad.push(Bad { range, why }),
    }
}

/// Cuts what may be cut into what is read in one go: at multiples of `unit` bytes, a power of two.
fn pieces(part: &Span, unit: u64) -> impl Iterator<Item = Span> + use<> {
    let mut rest = part.clone();
    let is_whole = matches!(
        part.place,
        Whereabouts::Run(ChainRun {
            mapping: Mapping::Compressed(_),
            ..
        })
    );
    let (limit, unit) = if is_whole {
        (length(&part.range), 1)
    } else {
        (PIECE.max(unit), unit)
    };
    std::iter::from_fn(move || {
        let end = rest.range.start.plus(limit);
        let end = end.minus(within(end, unit)).min(rest.range.end);
        let range = rest.range.start..end;
        let place = rest.place;
        rest.place = behind(place, length(&range));
        rest.range.start = end;
        (!range.is_empty()).then_some(Span { range, place })
    })
}

/// Holds the clusters of a window to their checksums, as soon as they are read.
struct Comparison<'a> {
    filler: &'a Filler<'a>,
    /// Where the window begins.
    start: u64,
    cluster_size: usize,
    expected: &'a [Option<u32>],
    /// How many clusters were compared.
    compared: usize,
    /// The CRC-32 of each cluster, if that is wanted.
    sums: Vec<u32>,
    bad: Vec<Bad>,
}

impl Comparison<'_> {
    /// Compares the clusters that are whole by now, and have not been. `bytes` are the window as far as it is
    /// read.
    fn advance(&mut self, bytes: &[u8]) -> Result<()> {
        let clusters = bytes.chunks_exact(self.cluster_size);
        if self.filler.with_sums {
            let behind = clusters.skip(self.sums.len());
            self.sums.extend(behind.map(crc32fast::hash));
            return Ok(());
        }
        let clusters = clusters.zip(self.expected);
        for (cluster, expected) in clusters.skip(self.compared) {
            self.compare(cluster, *expected)?;
            self.compared.increase(1);
        }
        Ok(())
    }

    fn compare(&mut self, cluster: &[u8], expected: Option<u32>) -> Result<()> {
        let size = to_u64(cluster.len());
        let start = self.start.plus(to_u64(self.compared).times(size));
        let guest = start..start.plus(size).min(self.filler.disk.len());
        let Some((found, expected)) = mismatch(cluster, size, expected) else {
            return Ok(());
        };
        let is_known = |bad: &Bad| bad.range.start < guest.end && guest.start < bad.range.end;
        if self.bad.iter().any(is_known) {
            return Ok(());
        }
        if !self.filler.keep_going {
            let lost = guest.into();
            return Err(Corrupt::Checksum {
                found,
                expected,
                lost,
            }
            .into());
        }
        note(&mut self.bad, guest, Why::Checksum);
        Ok(())
    }
}
