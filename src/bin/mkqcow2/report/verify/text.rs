//! For people.

use std::io::{self, Write};
use std::ops::Range;

use indicatif::BinaryBytes;

use super::verified::Verified;
use crate::console::{escaped, per_second, shown};
use crate::report::{places, with_causes};
use mkqcow2::error::Role;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::units::{Exact, HostOffset, length};
use mkqcow2::verify::{Fault, Finding, Report};
use mkqcow2::volumes::Places;

/// What is wrong, and the closing line.
pub(super) fn report(out: &mut dyn Write, verified: &Verified<'_>, is_quiet: bool) -> io::Result<()> {
    let (report, places) = (verified.report, verified.places.as_ref());
    let image = shown(verified.path);
    for found in report.findings.listed() {
        // There may be text of the image in it.
        let line = escaped(&line(found, report.freshness, places));
        writeln!(out, "{image}: {line}")?;
    }
    match report.findings.unlisted() {
        0 => {}
        more => writeln!(out, "and {more} more")?,
    }
    for range in &report.unreadable {
        writeln!(
            out,
            "unreadable when the image was made: {} bytes at {:#x} of the disk, zeros in the image",
            length(range),
            range.start
        )?;
    }
    if is_quiet {
        return Ok(());
    }
    let verdict = if report.findings.is_empty() {
        match report.compared {
            Some(compared) => format!("all right, {} compared with checksums", clusters(compared)),
            None if report.elsewhere.contains(&Role::Backing) => {
                "no checksums to compare with; the tables of this file are right; its backing file was not read"
                    .to_owned()
            }
            None => "no checksums to compare with, the rest is all right".to_owned(),
        }
    } else {
        totals(report)
    };
    writeln!(
        out,
        "{image}: {verdict}, {} read, {:.2} s, {}/s",
        BinaryBytes(report.read),
        report.duration.as_secs_f64(),
        per_second(report.read, report.duration),
    )
}

fn totals(report: &Report) -> String {
    let totals = report.findings.totals();
    let plural = if totals.structures == 1 { "" } else { "s" };
    let faults = format!("{} fault{plural}", totals.structures);
    let counts = [
        (totals.mismatched, clusters(totals.mismatched), "not as written"),
        (totals.damaged, clusters(totals.damaged), "lost to damage"),
        (totals.unreadable, clusters(totals.unreadable), "unreadable"),
        (totals.structures, faults, "of the metadata"),
    ];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
    let counts: Vec<_> = counts.map(|(_, what, how)| format!("{what} {how}")).collect();
    counts.join(", ")
}

fn clusters(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} cluster{plural}")
}

/// How much of the disk is concerned and where that is, in front of what was found.
fn line(finding: &Finding, freshness: Freshness, places: Option<&Places>) -> String {
    let snapshot = snapshot(finding);
    let details = details(finding, freshness);
    let what = match finding.fault {
        Fault::Checksum { .. } | Fault::Digest { .. } | Fault::NotZeros { .. } => meaning(freshness),
        Fault::Damage(_) => "lost to damage",
        Fault::Unreadable(_) => "unreadable",
        Fault::Table(_) | Fault::TableLost(_) | Fault::Metadata(_) | Fault::Remark(_) => "concerned",
    };
    match range(finding) {
        Some(range) => {
            // What is recognised is on the active disk.
            let places = places.filter(|_| finding.snapshot.is_none());
            format!("{snapshot}{}: {details}", places::words(what, &range, places))
        }
        None => format!("{snapshot}{details}"),
    }
}

/// The range of the disk that a finding is about.
fn range(finding: &Finding) -> Option<Range<u64>> {
    if let Fault::Metadata(metadata) = &finding.fault {
        metadata.guest()
    } else {
        finding.range.clone()
    }
}

/// The same, unless it is about a snapshot.
pub(super) fn on_active_disk(finding: &Finding) -> Option<Range<u64>> {
    range(finding).filter(|_| finding.snapshot.is_none())
}

fn snapshot(finding: &Finding) -> String {
    match &finding.snapshot {
        Some(name) => format!("snapshot \"{name}\": "),
        None => String::new(),
    }
}

/// What was found, for scripts that know the range.
pub(super) fn finding(finding: &Finding, freshness: Freshness) -> String {
    let (snapshot, details) = (snapshot(finding), details(finding, freshness));
    if matches!(
        finding.fault,
        Fault::Checksum { .. } | Fault::Digest { .. } | Fault::NotZeros { .. }
    ) {
        format!("{snapshot}{}: {details}", meaning(freshness))
    } else {
        format!("{snapshot}{details}")
    }
}

fn details(finding: &Finding, freshness: Freshness) -> String {
    match &finding.fault {
        Fault::Checksum { found, expected, at } => {
            let place = place(finding, *at);
            let first = match finding.clusters {
                0 | 1 => String::new(),
                count => format!("{}, of the first ", clusters(count)),
            };
            format!("{first}CRC-32 {found:#010x}, expected {expected:#010x}{place}")
        }
        Fault::Digest { at } => {
            let (clusters, place) = (clusters(finding.clusters), place(finding, *at));
            format!("{clusters} whose CRC-32 is right, but not the BLAKE3 digest{place}")
        }
        Fault::NotZeros { at } => {
            let place = place(finding, *at);
            let clusters = clusters(finding.clusters);
            format!("{clusters} not in the checksum table, expected zeros{place}")
        }
        Fault::Table(error) => {
            let why = match freshness {
                Freshness::Unchanged => "",
                Freshness::Changed => " (the image was opened for writing since, which may overwrite it)",
                Freshness::Unknown | Freshness::Doubtful => {
                    " (the image may have been written to since, which overwrites it)"
                }
            };
            format!("{error}{why}")
        }
        Fault::TableLost(Some(HostOffset(at))) => {
            format!("header at 0x0: no extension points to the checksum table at {at:#x}")
        }
        Fault::TableLost(None) => {
            "header at 0x0: autoclear bit 63 is set, but no extension points to a checksum table".to_owned()
        }
        Fault::Metadata(finding) => format!("{} [{}]", finding.fault, finding.code.name()),
        Fault::Remark(remark) => {
            format!("the image {remark}, although no program has written to it since it was made")
        }
        Fault::Damage(error) | Fault::Unreadable(error) => {
            let more = match (finding.places, &finding.range) {
                (2.., Some(range)) => {
                    let more = finding.places.minus(1);
                    format!(", and {more} more up to guest {:#x}", range.end)
                }
                _ => String::new(),
            };
            format!("{}{more}{}", with_causes(error), unplaced(finding))
        }
    }
}

/// What a difference means.
fn meaning(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Unchanged => "damaged",
        Freshness::Changed => "changed since it was made, or damaged",
        Freshness::Unknown | Freshness::Doubtful => "damaged, or changed since it was made",
    }
}

/// Where it is, on the disk and in the image.
fn place(finding: &Finding, at: Option<HostOffset>) -> String {
    let Some(range) = &finding.range else {
        return String::new();
    };
    let at = match at {
        Some(HostOffset(at)) => format!("at {at:#x}"),
        None => "reads as zeros".to_owned(),
    };
    format!(" (guest {:#x} to {:#x}, {at})", range.start, range.end)
}

/// The range of the disk, if the error does not tell it.
fn unplaced(finding: &Finding) -> String {
    match (&finding.fault, &finding.range) {
        (Fault::Unreadable(_), Some(range)) => {
            format!(" (guest {:#x}, {} bytes)", range.start, length(range))
        }
        _ => String::new(),
    }
}
