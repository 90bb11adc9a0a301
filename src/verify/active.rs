//! The active state of the disk: all of it is read and compared.

use std::ops::Range;

use super::findings::{Fault, Findings, Found};
use super::sums::{self, Bytes, Sums};
use super::verifier::{Done, Verifier};
use crate::error::{Error, Result};
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::formats::qcow2::{Checksums, ChecksumsInOrder, Cursor, View};
use crate::formats::{Decoders, HostRun};
use crate::pipeline;
use crate::units::{Exact, GuestCluster, GuestOffset, HostOffset, length, rest_of, to_usize, within};

/// How much is read in one go, in bytes, unless a cluster is larger: it should still be in the processor's cache
/// when it is hashed.
pub(super) const PIECE: u64 = 256 << 10;

/// What there is to do.
enum Job {
    /// Reading and comparing clusters.
    Clusters {
        range: Range<u64>,
        /// A checksum for each of them, or for none.
        expected: Vec<Option<Sum>>,
    },
    /// Nothing: nobody can tell where they are.
    Lost(Found),
    /// Giving up.
    Stop(Error),
}

/// What came of a job.
#[derive(Default)]
struct Checked {
    faults: Vec<Found>,
    done: Done,
}

/// What the workers share.
struct Reader<'a> {
    verifier: &'a Verifier<'a>,
    view: View,
    cluster_size: u64,
    /// Data lies in a file that is not this image.
    is_elsewhere: bool,
    of_zeros: u32,
    decoders: Decoders,
}

/// Cuts the disk into jobs.
struct Jobs<'a> {
    verifier: &'a Verifier<'a>,
    view: View,
    cursor: Cursor<'a>,
    cluster_size: u64,
    checksums: Option<ChecksumsInOrder<'a>>,
    at: u64,
}

impl Verifier<'_> {
    /// Reads all of the disk that is in the image.
    pub(super) fn active(&self, table: Option<&Checksums<'_>>, findings: &mut Findings) -> Result<Done> {
        let (view, cluster_size) = (self.image.active(), self.image.header().geometry().cluster_size());
        let reader = Reader {
            verifier: self,
            view,
            cluster_size,
            is_elsewhere: self.image.header().needs(features::DATA_FILE),
            of_zeros: sums::of_zeros(cluster_size),
            decoders: Decoders::default(),
        };
        let jobs = Jobs {
            verifier: self,
            view,
            cursor: self.image.walk(view),
            cluster_size,
            checksums: table.map(Checksums::in_order),
            at: 0,
        };
        let mut done = Done::default();
        let take = |checked: Checked| {
            for found in checked.faults {
                findings.add(found, None);
            }
            self.progress.advance(checked.done.read);
            done.add(checked.done);
            Ok(())
        };
        pipeline::in_order(&self.pool, self.in_flight, jobs, |job| reader.check(job), take)?;
        Ok(done)
    }
}

impl Iterator for Jobs<'_> {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        while self.at < self.view.size {
            let batch = self.verifier.batch;
            let batch_end = self.at.plus(rest_of(self.at, batch));
            let end = batch_end.min(self.view.size);
            match self.end_of_hole(end) {
                Ok(hole) if hole > self.at => self.at = hole,
                Ok(_) => return Some(self.clusters(end)),
                Err(error) => return Some(self.lost(error)),
            }
        }
        None
    }
}

impl Jobs<'_> {
    /// Where the hole ends that begins here and nobody needs to look into; here, if there is none.
    fn end_of_hole(&mut self, batch_end: u64) -> Result<u64> {
        let (at, left) = (GuestOffset(self.at), batch_end.minus(self.at));
        let run = self.cursor.run_at(at, left)?;
        if !is_hole(run) {
            return Ok(self.at);
        }
        let whole = self.cursor.run_at(at, u64::MAX)?;
        let end = self.at.plus(whole.length);
        // With extended L2 entries it may end within a cluster.
        let end = if end < self.view.size {
            end.minus(within(end, self.cluster_size))
        } else {
            end
        };
        let first = GuestCluster(self.at.checked_div(self.cluster_size).unwrap_or(0));
        let listed = match &mut self.checksums {
            Some(checksums) => checksums.next_listed(first)?,
            None => None,
        };
        let listed = listed.map_or(u64::MAX, |cluster| cluster.0.times(self.cluster_size));
        Ok(end.min(listed).max(self.at))
    }

    fn clusters(&mut self, end: u64) -> Job {
        let range = self.at..end;
        self.at = end;
        let clusters = GuestCluster(range.start.checked_div(self.cluster_size).unwrap_or(0))
            ..GuestCluster(end.div_ceil(self.cluster_size));
        let expected = self.checksums.as_mut().map(|checksums| checksums.sums(clusters));
        match expected.transpose() {
            Ok(expected) => Job::Clusters {
                range,
                expected: expected.unwrap_or_default(),
            },
            Err(error) => Job::Stop(error),
        }
    }

    /// What an error in the tables makes unreadable.
    fn lost(&mut self, error: Error) -> Job {
        let geometry = self.verifier.image.header().geometry();
        let end = end_of_lost(&error, self.at, geometry.l2_reach()).min(self.view.size);
        let range = self.at..end;
        self.at = end;
        let fault = Fault::of(error);
        Job::Lost(Found { fault, range })
    }
}

pub(super) fn is_hole(run: HostRun) -> bool {
    match run.mapping {
        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => true,
        Mapping::Data(_) | Mapping::Compressed(_) => false,
    }
}

/// Where the range ends that an error in the tables makes unreadable: it tells so itself, or else it is all that
/// the L2 table maps.
pub(super) fn end_of_lost(error: &Error, at: u64, l2_reach: u64) -> u64 {
    let lost = if let Error::Corrupt(corrupt) = error.innermost().0 {
        corrupt.lost()
    } else {
        None
    };
    let end_of_table = at.plus(rest_of(at, l2_reach));
    lost.map(|lost| lost.end)
        .filter(|end| *end > at)
        .unwrap_or(end_of_table)
}

impl Reader<'_> {
    fn check(&self, job: Job) -> Result<Checked> {
        match job {
            Job::Stop(error) => Err(error),
            Job::Lost(found) => Ok(Checked {
                faults: vec![found],
                done: Done::default(),
            }),
            Job::Clusters { range, expected } => {
                let buffers = &self.verifier.buffers;
                let mut buffer = buffers.take(to_usize(PIECE.max(self.cluster_size)));
                let checked = self.clusters(&range, &expected, &mut buffer);
                buffers.give(buffer);
                Ok(checked)
            }
        }
    }

    fn clusters(&self, range: &Range<u64>, expected: &[Option<Sum>], buffer: &mut [u8]) -> Checked {
        let (image, view) = (self.verifier.image, self.view);
        let mut checked = Checked::default();
        let mut sums = Sums::new(range.start, expected, self.cluster_size, view.size, self.of_zeros);
        let (mut at, mut cursor) = (range.start, image.walk(view));
        while at < range.end {
            let left = range.end.minus(at);
            let run = match cursor.run_at(GuestOffset(at), left) {
                Ok(run) => run,
                Err(error) => {
                    let reach = image.header().geometry().l2_reach();
                    let end = end_of_lost(&error, at, reach).min(range.end);
                    checked.lose(error, at..end, &mut sums);
                    at = end;
                    continue;
                }
            };
            let here = at..at.plus(run.length);
            match run.mapping {
                Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => {
                    sums.add(Bytes::Zeros(run.length), &mut checked.faults);
                }
                Mapping::Data(_) if self.is_elsewhere => {
                    sums.add(Bytes::Lost(run.length), &mut checked.faults);
                }
                Mapping::Data(host) => self.data(host, &here, buffer, &mut sums, &mut checked),
                Mapping::Compressed(stream) => self.stream(stream, &here, buffer, &mut sums, &mut checked),
            }
            at = here.end;
        }
        checked.done.compared = sums.compared;
        checked
    }

    /// Reads piece by piece; where that fails, cluster by cluster.
    fn data(
        &self,
        host: HostOffset,
        range: &Range<u64>,
        buffer: &mut [u8],
        sums: &mut Sums<'_>,
        checked: &mut Checked,
    ) {
        let host_of = |at: u64| host + at.minus(range.start);
        let mut read = |piece: &Range<u64>, sums: &mut Sums<'_>, checked: &mut Checked| {
            let host = host_of(piece.start);
            let (bytes, _) = buffer.split_at_mut(to_usize(length(piece)));
            self.verifier.image.read_data(host, bytes)?;
            sums.add(Bytes::Data(bytes, host), &mut checked.faults);
            checked.done.read.increase(length(piece));
            Ok(())
        };
        for piece in cut(range, PIECE) {
            if read(&piece, sums, checked).is_ok() {
                continue;
            }
            for cluster in cut(&piece, self.cluster_size) {
                if let Err(error) = read(&cluster, sums, checked) {
                    checked.lose(error, cluster, sums);
                }
            }
        }
    }

    fn stream(
        &self,
        stream: Stream,
        range: &Range<u64>,
        buffer: &mut [u8],
        sums: &mut Sums<'_>,
        checked: &mut Checked,
    ) {
        let image = self.verifier.image;
        let (cluster, _) = buffer.split_at_mut(to_usize(self.cluster_size));
        let decoded = self
            .decoders
            .with(|decoder| image.decode(decoder, stream, range.clone(), cluster));
        match decoded {
            Ok(()) => {
                let (bytes, _) = cluster.split_at(to_usize(length(range)));
                sums.add(Bytes::Data(bytes, stream.at), &mut checked.faults);
                checked.done.streams.increase(1);
                checked.done.read.increase(stream.length);
            }
            Err(error) => checked.lose(error, range.clone(), sums),
        }
    }
}

impl Checked {
    fn lose(&mut self, error: Error, range: Range<u64>, sums: &mut Sums<'_>) {
        sums.add(Bytes::Lost(length(&range)), &mut self.faults);
        let fault = Fault::of(error);
        self.faults.push(Found { fault, range });
    }
}

/// Cuts a range at the multiples of `unit`.
pub(super) fn cut(range: &Range<u64>, unit: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut rest = range.clone();
    std::iter::from_fn(move || {
        let unit_end = rest.start.plus(rest_of(rest.start, unit));
        let piece = rest.start..rest.end.min(unit_end);
        rest.start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}
