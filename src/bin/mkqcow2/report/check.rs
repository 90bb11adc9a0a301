//! `mkqcow2 check`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{places, verdict};
use crate::args::check::Check;
use crate::console::{self, escaped, shown};
use mkqcow2::Image;
use mkqcow2::check::{Finding, Report, Severity};
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::units::{Exact, length};
use mkqcow2::volumes::Places;

/// Something was found that must not be.
const CORRUPT: u8 = 2;

/// Nothing worse was found than room that is wasted.
const LEAKS: u8 = 3;

/// Of a check that was completed.
pub(crate) fn done(args: &Check, report: &Report, findings: &[Finding]) -> ExitCode {
    let status = status(report);
    let has_place = findings.iter().any(|finding| finding.guest().is_some());
    let places = has_place
        .then(|| places::of_image(&args.image, args.format.given(), args.access()))
        .flatten();
    verdict(args, status, |out| {
        if args.json.json {
            return object(out, args, report, (findings, places.as_ref()));
        }
        for finding in findings {
            line(out, args, finding, places.as_ref())?;
        }
        if args.shown.quiet {
            return Ok(());
        }
        summary(out, args, report)
    })
}

/// As qemu-img check has it.
fn status(report: &Report) -> u8 {
    if report.count(Severity::Error) > 0 {
        CORRUPT
    } else if report.count(Severity::Leak) > 0 {
        LEAKS
    } else {
        0
    }
}

fn line(out: &mut dyn Write, args: &Check, finding: &Finding, places: Option<&Places>) -> io::Result<()> {
    let (severity, code) = (finding.code.severity().name(), finding.code.name());
    // There is text of the image in it.
    let text = escaped(&finding.fault.to_string());
    let guest = finding.guest();
    let place = guest.and_then(|guest| places::place(&guest, places));
    let place = place.map_or_else(String::new, |place| format!(", in {place}"));
    writeln!(out, "{}: {severity}: {text}{place} [{code}]", shown(&args.image))
}

/// What the findings mean, and the figures.
fn summary(out: &mut dyn Write, args: &Check, report: &Report) -> io::Result<()> {
    for (code, tally) in &report.tallies {
        let (name, meaning) = (code.name(), code.meaning());
        // None, if there are no more than are told.
        let untold = tally.findings.saturating_sub(mkqcow2::check::TOLD);
        let more = match untold {
            0 => String::new(),
            more => format!(", {more} of them not shown"),
        };
        writeln!(out, "{name}: {}{more}: {meaning}", tally.count)?;
    }
    let image = shown(&args.image);
    let (errors, leaks) = (report.count(Severity::Error), report.count(Severity::Leak));
    match (errors, leaks) {
        (0, 0) if report.decompressed.is_some() => writeln!(out, "{image}: no errors, no leaks")?,
        (0, 0) => writeln!(
            out,
            "{image}: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)"
        )?,
        (errors, leaks) => writeln!(out, "{image}: errors: {errors}, leaked clusters: {leaks}")?,
    }
    if leaks > 0 && is_ours(args) {
        writeln!(
            out,
            "{image}: mkqcow2 made it, so that a leak is damage: run mkqcow2 verify, and repair nothing"
        )?;
    }
    let (total, allocated) = (report.total_clusters, report.allocated_clusters);
    writeln!(
        out,
        "{allocated} of {total} clusters = {} allocated, {} fragmented, {} compressed{}; {} bytes",
        percentage(allocated, total),
        percentage(report.fragmented_clusters, allocated),
        percentage(report.compressed_clusters, allocated),
        match report.decompressed {
            Some(count) => format!(", {count} decompressed"),
            None => String::new(),
        },
        report.image_end.0,
    )
}

/// Whether it is an image of ours that nobody is known to have changed. Nothing that we write leaks.
fn is_ours(args: &Check) -> bool {
    Image::open(&args.image)
        .is_ok_and(|image| image.extensions().ours.is_some() && image.freshness() != Freshness::Changed)
}

/// A part of something, which may be nothing of nothing; to two places.
fn percentage(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part).times(10_000);
    let hundredths = hundredths.checked_div(whole.into()).unwrap_or(0);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// For scripts: the fields of `qemu-img check --output=json`, and the findings.
fn object(
    out: &mut dyn Write,
    args: &Check,
    report: &Report,
    (findings, places): (&[Finding], Option<&Places>),
) -> io::Result<()> {
    let codes = report.tallies.iter();
    let codes: Map<_, _> = codes
        .map(|(code, tally)| (code.name().to_owned(), tally.count.into()))
        .collect();
    let findings: Vec<_> = findings.iter().map(|found| finding(found, places)).collect();
    let object = json!({
        "status": status(report),
        "filename": args.image.to_string_lossy(),
        "format": report.format.name(),
        "check-errors": 0,
        "corruptions": report.count(Severity::Error),
        "leaks": report.count(Severity::Leak),
        "image-end-offset": report.image_end.0,
        "total-clusters": report.total_clusters,
        "allocated-clusters": report.allocated_clusters,
        "fragmented-clusters": report.fragmented_clusters,
        "compressed-clusters": report.compressed_clusters,
        "decompressed-clusters": report.decompressed,
        "seconds": report.duration.as_secs_f64(),
        "codes": codes,
        "findings": findings,
    });
    writeln!(out, "{}", console::json(&object))
}

fn finding(finding: &Finding, places: Option<&Places>) -> Value {
    let guest = finding.guest();
    json!({
        "code": finding.code.name(),
        "severity": finding.code.severity().name(),
        "count": finding.count,
        "host-offset": finding.at().map(|at| at.0),
        "start": guest.as_ref().map(|guest| guest.start),
        "length": guest.as_ref().map(length),
        "region": places::object(guest.as_ref(), places),
        "message": finding.fault.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_two_places() {
        assert_eq!(percentage(1, 3), "33.33%");
        assert_eq!(percentage(3, 3), "100.00%");
        assert_eq!(percentage(1, 2000), "0.05%");
        assert_eq!(percentage(0, 0), "0.00%");
    }
}
