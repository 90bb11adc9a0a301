//! Images that have no checksums, nor anything but tables and clusters: QCOW version 1 and QED.

use std::ops::Range;
use std::time::Instant;

use super::active::{PIECE, cut, end_of_lost, is_hole};
use super::findings::{Fault, Findings, Found};
use super::metadata::{Tell, add_faults};
use super::options::Options;
use super::report::Report;
use super::verifier::{BATCH, Done, in_flight};
use crate::check::{self, Severity, check_legacy};
use crate::error::{Error, Result, Role};
use crate::formats::Decoders;
use crate::formats::legacy::{Cursor, LegacyImage};
use crate::formats::qcow2::Freshness;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress};
use crate::units::{Exact, GuestOffset, HostOffset, length, rest_of, to_usize};

/// Reads all clusters, decompresses all streams, and checks the tables. What is encrypted is read as it is.
pub(super) fn verify(image: &LegacyImage, options: Options, progress: &dyn Progress) -> Result<Report> {
    let begun = Instant::now();
    let pool = pipeline::readers(options.threads)?;
    let batch = BATCH.max(image.cluster_size());
    let reader = Reader {
        image,
        buffers: Buffers::default(),
        decoders: Decoders::default(),
    };
    progress.begin(Phase::Verifying, image.file().length());
    let (mut done, mut findings) = (Done::default(), Findings::new(image.cluster_size()));
    let jobs = Jobs {
        image,
        cursor: image.walk(),
        batch,
        at: 0,
    };
    let in_flight = in_flight(&pool, batch);
    pipeline::in_order(
        &pool,
        in_flight,
        jobs,
        |job| Ok(reader.read(job)),
        |read| {
            for fault in read.faults {
                findings.add(fault, None);
            }
            progress.advance(read.done.read);
            done.add(read.done);
            Ok(())
        },
    )?;
    let is_fault = |code: check::Code| code.severity() == Severity::Error;
    let check = |tell: &mut Tell<'_>| {
        let options = check::Options {
            data: false,
            threads: options.threads,
        };
        check_legacy(image, &options, progress, tell)
    };
    let report = add_faults(&mut findings, is_fault, check)?;
    Ok(Report {
        size: image.size(),
        read: done.read,
        streams: done.streams,
        compared: None,
        freshness: Freshness::Unknown,
        is_resized: false,
        elsewhere: image.backing_name().map(|_| Role::Backing).into_iter().collect(),
        // It says that the tables are right.
        remarks: image
            .remark()
            .filter(|_| findings.is_empty())
            .into_iter()
            .collect(),
        leaks: report.map_or(0, |report| report.count(Severity::Leak)),
        unreadable: Vec::new(),
        findings,
        duration: begun.elapsed(),
    })
}

/// What there is to do.
enum Job {
    /// Reading a range of the disk.
    Read(Range<u64>),
    /// Nothing: nobody can tell where it is.
    Lost(Error, Range<u64>),
}

/// Cuts the disk into jobs.
struct Jobs<'a> {
    image: &'a LegacyImage,
    cursor: Cursor<'a>,
    batch: u64,
    at: u64,
}

impl Iterator for Jobs<'_> {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        let (image, batch) = (self.image, self.batch);
        while self.at < image.size() {
            let start = self.at;
            match self.cursor.run_at(GuestOffset(start), u64::MAX) {
                Ok(run) if is_hole(run) => self.at = start.plus(run.length),
                Ok(_) => {
                    let end = start.plus(rest_of(start, batch));
                    self.at = end.min(image.size());
                    return Some(Job::Read(start..self.at));
                }
                Err(error) => {
                    self.at = end_of_lost(&error, start, image.l2_reach()).min(image.size());
                    return Some(Job::Lost(error, start..self.at));
                }
            }
        }
        None
    }
}

/// What came of a job.
#[derive(Default)]
struct Read {
    faults: Vec<Found>,
    done: Done,
}

/// What the workers share.
struct Reader<'a> {
    image: &'a LegacyImage,
    buffers: Buffers,
    decoders: Decoders,
}

impl Reader<'_> {
    fn read(&self, job: Job) -> Read {
        let mut read = Read::default();
        match job {
            Job::Lost(error, range) => read.lose(error, range),
            Job::Read(range) => {
                let mut buffer = self.buffers.take(to_usize(PIECE));
                self.range(&range, &mut buffer, &mut read);
                self.buffers.give(buffer);
            }
        }
        read
    }

    fn range(&self, range: &Range<u64>, buffer: &mut [u8], read: &mut Read) {
        let (mut at, mut cursor) = (range.start, self.image.walk());
        while at < range.end {
            let left = range.end.minus(at);
            match cursor.run_at(GuestOffset(at), left) {
                Err(error) => {
                    let end = end_of_lost(&error, at, self.image.l2_reach()).min(range.end);
                    read.lose(error, at..end);
                    at = end;
                }
                Ok(run) => {
                    let here = at..at.plus(run.length);
                    at = here.end;
                    match run.mapping {
                        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => {}
                        Mapping::Data(host) => self.data(host, &here, buffer, read),
                        Mapping::Compressed(stream) => self.stream(stream, here, buffer, read),
                    }
                }
            }
        }
    }

    /// Reads piece by piece; where that fails, cluster by cluster.
    fn data(&self, host: HostOffset, range: &Range<u64>, buffer: &mut [u8], read: &mut Read) {
        let mut try_piece = |piece: &Range<u64>| {
            let host = host + piece.start.minus(range.start);
            let (bytes, _) = buffer.split_at_mut(to_usize(length(piece)));
            self.image.file().read_exact(bytes, host)
        };
        for piece in cut(range, PIECE) {
            if try_piece(&piece).is_ok() {
                read.done.read.increase(length(&piece));
                continue;
            }
            for cluster in cut(&piece, self.image.cluster_size()) {
                match try_piece(&cluster) {
                    Ok(()) => read.done.read.increase(length(&cluster)),
                    Err(error) => read.lose(error, cluster),
                }
            }
        }
    }

    /// Only QCOW version 1 has streams, and no clusters that are longer than a piece.
    fn stream(&self, stream: Stream, range: Range<u64>, buffer: &mut [u8], read: &mut Read) {
        let (cluster, _) = buffer.split_at_mut(to_usize(self.image.cluster_size()));
        let decode = |decoder: &mut _| self.image.decode(decoder, stream, range.clone(), cluster);
        match self.decoders.with(decode) {
            Ok(()) => {
                read.done.streams.increase(1);
                read.done.read.increase(stream.length);
            }
            Err(error) => read.lose(error, range),
        }
    }
}

impl Read {
    fn lose(&mut self, error: Error, range: Range<u64>) {
        let fault = Fault::of(error);
        self.faults.push(Found { fault, range });
    }
}
