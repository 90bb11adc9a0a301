//! Verifies that an image is still as it was written: reads and decompresses every cluster, and compares it with its
//! checksum.

#![warn(clippy::arithmetic_side_effects)]

mod active;
mod findings;
mod legacy;
mod metadata;
mod options;
mod report;
mod snapshots;
mod sums;
mod verifier;

use std::path::Path;
use std::time::Instant;

pub use findings::{Fault, Finding, Findings};
pub use options::Options;
pub use report::Report;

use crate::error::{Corrupt, Error, Result, Role};
use crate::formats::Single;
use crate::formats::qcow2::structures::checksum::TABLE;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::{Checksums, Freshness, Image, Record};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress};
use verifier::{BATCH, Verifier, in_flight};

/// Verifies an image: its checksums, all compressed streams of the disk and of its snapshots, all tables. It opens
/// no other file, so it does not verify a backing file or data file. QCOW version 1 and QED have no checksums.
///
/// # Errors
///
/// - Those of [`Single::open`]. An [`Error::Corrupt`] is what was looked for, too.
/// - [`Error::Unsupported`] if it is a qcow2 image that is encrypted.
/// - [`Error::Io`] if there is no room for workers.
pub fn verify(path: &Path, options: Options, progress: &dyn Progress) -> Result<Report> {
    verify_opened(&Single::open(path, options.format)?, options, progress)
}

/// The same of an image that is open.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_opened(image: &Single, options: Options, progress: &dyn Progress) -> Result<Report> {
    match image {
        Single::Qcow2(image) => verify_qcow2(image, options, progress),
        Single::Legacy(image) => legacy::verify(image, options, progress),
    }
}

/// The same of a qcow2 image.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_qcow2(image: &Image, options: Options, progress: &dyn Progress) -> Result<Report> {
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
    let is_resized = is_resized(image);
    let (table, record) = if is_resized {
        (None, None)
    } else {
        tables(image, &mut findings)?
    };
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
        is_resized,
        elsewhere: elsewhere(image),
        remarks,
        leaks,
        unreadable: record.map_or_else(Vec::new, |record| record.unreadable),
        findings,
        duration: begun.elapsed(),
    })
}

fn elsewhere(image: &Image) -> Vec<Role> {
    let backing = image.backing_name().map(|_| Role::Backing);
    let data = image.header().needs(features::DATA_FILE).then_some(Role::Data);
    backing.into_iter().chain(data).collect()
}

/// Whether another program changed the size of the disk, so that the checksums do not count.
fn is_resized(image: &Image) -> bool {
    let is_of_size = |error| {
        matches!(
            error,
            Error::Corrupt(Corrupt::Field {
                structure: TABLE,
                field: "size",
                ..
            })
        )
    };
    image.freshness() == Freshness::Changed && image.checksums().err().is_some_and(is_of_size)
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
    let is_outdated = image.is_outdated();
    let table = or_finding(image.checksums(), findings)?.flatten();
    if let (Some(table), None, true) = (&table, ours.record, !is_outdated)
        && let Some(error) = table.cut_off()
    {
        findings.add_table(error);
    }
    let record = match image.record() {
        // No wonder, or told already: what overwrote the one has overwritten the other.
        Err(Error::Corrupt(_)) if is_outdated || table.is_none() => None,
        record => or_finding(record, findings)?.flatten(),
    };
    if let (Some(record), true) = (&record, !is_outdated)
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
