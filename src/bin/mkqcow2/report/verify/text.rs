//! For people.

use std::io::{self, Write};

use indicatif::BinaryBytes;

use crate::args::verify::Verify as Args;
use crate::console::{escaped, per_second, shown};
use crate::report::with_causes;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::units::{Exact, HostOffset, length};
use mkqcow2::verify::{Fault, Finding, Report};

/// What is wrong, and the closing line.
pub(super) fn report(out: &mut dyn Write, args: &Args, report: &Report) -> io::Result<()> {
    for found in report.findings.listed() {
        // There may be text of the image in it.
        writeln!(out, "{}", escaped(&finding(found, report.freshness)))?;
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
    if args.shown.quiet {
        return Ok(());
    }
    let verdict = if report.findings.is_empty() {
        match report.compared {
            Some(compared) => format!("all right, {} compared with checksums", clusters(compared)),
            None => "no checksums to compare with, the rest is all right".to_owned(),
        }
    } else {
        totals(report)
    };
    writeln!(
        out,
        "{}: {verdict}, {} read, {:.2} s, {}/s",
        shown(&args.image),
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

/// One line.
pub(super) fn finding(finding: &Finding, freshness: Freshness) -> String {
    let snapshot = match &finding.snapshot {
        Some(name) => format!("snapshot \"{name}\": "),
        None => String::new(),
    };
    let message = match &finding.fault {
        Fault::Checksum { found, expected, at } => {
            let (who, place) = (who(freshness), place(finding, *at));
            let first = match finding.clusters {
                0 | 1 => String::new(),
                count => format!("{}, of the first ", clusters(count)),
            };
            format!("{who} {first}CRC-32 {found:#010x}, expected {expected:#010x}{place}")
        }
        Fault::NotZeros { at } => {
            let (who, place) = (who(freshness), place(finding, *at));
            let clusters = clusters(finding.clusters);
            format!("{who} {clusters} not in the checksum table, expected zeros{place}")
        }
        Fault::Table(error) => {
            let why = match freshness {
                Freshness::Unchanged => "",
                Freshness::Changed => " (the image was opened for writing since, which may overwrite it)",
                Freshness::Unknown => " (the image may have been written to since, which overwrites it)",
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
            format!("the image {remark}, although nobody has written to it since it was made")
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
    };
    format!("{snapshot}{message}")
}

/// What a difference means.
fn who(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Unchanged => "damaged:",
        Freshness::Changed => "changed since it was made, or damaged:",
        Freshness::Unknown => "damaged, or changed since it was made:",
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
