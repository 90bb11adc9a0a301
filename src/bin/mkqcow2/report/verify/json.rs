//! For scripts: one object, on one line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::text;
use super::verified::Verified;
use crate::console;
use crate::report::{bases, places, ranges};
use mkqcow2::Error;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::units::{HostOffset, length};
use mkqcow2::verify::{Fault, Finding};
use mkqcow2::volumes::Places;

/// All that came out.
pub(super) fn reports(
    out: &mut dyn Write,
    all: &[Verified<'_>],
    fault: Option<&Error>,
    status: u8,
) -> io::Result<()> {
    let all = bases::object(all.iter().map(object), fault, status);
    writeln!(out, "{}", console::json(&all))
}

fn object(verified: &Verified<'_>) -> Value {
    let (report, places) = (verified.report, verified.places.as_ref());
    let totals = report.findings.totals();
    let findings = report.findings.listed().iter();
    json!({
        "status": verified.status,
        "filename": verified.path.to_string_lossy(),
        "size": report.size,
        "read": report.read,
        "streams": report.streams,
        "compared": report.compared,
        "changed": match report.freshness {
            Freshness::Unchanged => Some(false),
            Freshness::Changed => Some(true),
            Freshness::Unknown | Freshness::Doubtful => None,
        },
        "mismatched": totals.mismatched,
        "damaged": totals.damaged,
        "unreadable": totals.unreadable,
        "structures": totals.structures,
        "findings": findings.map(|found| finding(found, report.freshness, places)).collect::<Vec<_>>(),
        "leaks": report.leaks,
        "unreadable-before": ranges(&report.unreadable),
        "unlisted": report.findings.unlisted(),
        "seconds": report.duration.as_secs_f64(),
        "warnings": verified.warnings,
    })
}

fn finding(finding: &Finding, freshness: Freshness, places: Option<&Places>) -> Value {
    let (kind, at) = match &finding.fault {
        Fault::Checksum { at, .. } => ("checksum", *at),
        Fault::Digest { at } => ("digest", *at),
        Fault::NotZeros { at } => ("not-zeros", *at),
        Fault::Table(_) => ("checksum-table", None),
        Fault::TableLost(at) => ("checksum-table", *at),
        Fault::Damage(_) => ("damage", None),
        Fault::Metadata(finding) => ("metadata", finding.at()),
        Fault::Remark(_) => ("remark", None),
        Fault::Unreadable(_) => ("unreadable", None),
    };
    json!({
        "code": kind,
        "start": finding.range.as_ref().map(|range| range.start),
        "length": finding.range.as_ref().map(length),
        "clusters": finding.clusters,
        "host-offset": at.map(|HostOffset(at)| at),
        "snapshot": finding.snapshot.as_deref(),
        "region": places::object(text::on_active_disk(finding).as_ref(), places),
        "message": text::finding(finding, freshness),
    })
}
