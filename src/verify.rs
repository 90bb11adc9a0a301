//! Whether an image still is what was written: every cluster of it is read, decompressed and compared with its
//! checksum.

#![warn(clippy::arithmetic_side_effects)]

mod active;
mod findings;
mod legacy;
mod metadata;
mod snapshots;
mod sums;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

pub use findings::{Fault, Finding, Findings};

use crate::error::{Error, Result, Role};
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::{Checksums, Freshness, Image, Record};
use crate::formats::{Format, Remark, Single};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress};
use crate::units::{Exact, to_usize};

/// How much a worker does in one go, in bytes, unless a cluster is larger.
const BATCH: u64 = 1 << 20;

/// How much is under way at the same time, in bytes at most.
const IN_FLIGHT: u64 = 32 << 20;

/// How it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the image is; if not given, what it begins like.
    pub format: Option<Format>,
    /// How many workers there are; one a processor, at most 8, if not given.
    pub threads: Option<NonZeroUsize>,
}

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// The size of the disk in bytes.
    pub size: u64,
    /// How many bytes of clusters were read from the image.
    pub read: u64,
    /// How many compressed clusters were decompressed.
    pub streams: u64,
    /// How many clusters were compared with their checksums; none if the image has no checksums, or they are
    /// damaged.
    pub compared: Option<u64>,
    /// Whether differences can be changes.
    pub freshness: Freshness,
    /// The files that hold the rest of the disk, and were not read.
    pub elsewhere: Vec<Role>,
    /// What the image says of itself.
    pub remarks: Vec<Remark>,
    /// How many clusters of the file are counted as used but are not, in an image that has no checksums.
    pub leaks: u64,
    /// What of the disk could not be read when the image was made, and is zeros in it: in bytes, ascending.
    pub unreadable: Vec<Range<u64>>,
    /// What is wrong.
    pub findings: Findings,
    /// How long it took.
    pub duration: Duration,
}

/// What all parts of the work need.
struct Verifier<'a> {
    image: &'a Image,
    options: Options,
    pool: rayon::ThreadPool,
    in_flight: usize,
    /// In bytes; whole clusters.
    batch: u64,
    buffers: Buffers,
    progress: &'a dyn Progress,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    read: u64,
    streams: u64,
    compared: u64,
}

/// Verifies an image: its checksums, all compressed streams of the disk and of its snapshots, all tables. No
/// other file is opened: what lies in a backing or data file is none of this image. QCOW version 1 and QED have
/// no checksums.
///
/// # Errors
///
/// - Those of [`Single::open`]. An [`Error::Corrupt`] is what was looked for, too.
/// - [`Error::Unsupported`] if it is a qcow2 image that is encrypted.
/// - [`Error::Io`] if there is no room for workers.
pub fn verify(path: &Path, options: Options, progress: &dyn Progress) -> Result<Report> {
    match Single::open(path, options.format)? {
        Single::Qcow2(image) => verify_qcow2(&image, options, progress),
        Single::Legacy(image) => legacy::verify(&image, options, progress),
    }
}

fn verify_qcow2(image: &Image, options: Options, progress: &dyn Progress) -> Result<Report> {
    let begun = Instant::now();
    image.refuse_encrypted()?;
    let geometry = image.header().geometry();
    let pool = pipeline::readers(options.threads)?;
    let batch = BATCH.max(geometry.cluster_size());
    let verifier = Verifier {
        in_flight: in_flight(&pool, batch),
        image,
        options,
        pool,
        batch,
        buffers: Buffers::default(),
        progress,
    };
    progress.begin(Phase::Verifying, image.file().length());
    let mut findings = Findings::new(geometry.cluster_size());
    let (table, record) = tables(image, &mut findings)?;
    let mut done = verifier.active(table.as_ref(), &mut findings)?;
    done.add(verifier.snapshots(&mut findings)?);
    let leaks = verifier.metadata(&mut findings)?;
    let remarks = verifier.remarks(&mut findings);
    Ok(Report {
        size: geometry.size(),
        read: done.read,
        streams: done.streams,
        compared: table.is_some().then_some(done.compared),
        freshness: image.freshness(),
        elsewhere: elsewhere(image),
        remarks,
        leaks,
        unreadable: record.map_or_else(Vec::new, |record| record.unreadable),
        findings,
        duration: begun.elapsed(),
    })
}

/// How many batches of so many bytes are under way at the same time.
fn in_flight(pool: &rayon::ThreadPool, batch: u64) -> usize {
    to_usize(IN_FLIGHT.checked_div(batch).unwrap_or(0))
        .min(pool.current_num_threads().times(4))
        .max(2)
}

fn elsewhere(image: &Image) -> Vec<Role> {
    let backing = image.backing_name().map(|_| Role::Backing);
    let data = image.header().needs(features::DATA_FILE).then_some(Role::Data);
    backing.into_iter().chain(data).collect()
}

/// The checksum table and the record, unless they are damaged. Told as damage, too: that the end of the file is not all
/// there, unless other programs, to which it is nothing, changed the image.
fn tables<'a>(image: &'a Image, findings: &mut Findings) -> Result<(Option<Checksums<'a>>, Option<Record>)> {
    // That they cannot be found is told with the other tables.
    let ours = match image.extensions().ours {
        Some(_) => or_finding(image.ours(), findings)?.flatten(),
        None => None,
    };
    let Some(ours) = ours else {
        return Ok((None, None));
    };
    let is_as_written = image.is_as_written();
    let table = or_finding(image.checksums(), findings)?.flatten();
    if let (Some(table), None, true) = (&table, ours.record, is_as_written)
        && let Some(error) = table.cut_off()
    {
        findings.add_table(error);
    }
    let record = match image.record() {
        // No wonder, or told already: what overwrote the one has overwritten the other.
        Err(Error::Corrupt(_)) if !is_as_written || table.is_none() => None,
        record => or_finding(record, findings)?.flatten(),
    };
    if let (Some(record), true) = (&record, is_as_written)
        && let Some(error) = record.cut_off(image)?
    {
        findings.add_table(error);
    }
    Ok((table, record))
}

/// What could be read; else a finding, if it is damaged.
fn or_finding<T>(result: Result<T>, findings: &mut Findings) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error @ Error::Corrupt(_)) => {
            findings.add_table(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Done {
    fn add(&mut self, other: Self) {
        self.read.increase(other.read);
        self.streams.increase(other.streams);
        self.compared.increase(other.compared);
    }
}
