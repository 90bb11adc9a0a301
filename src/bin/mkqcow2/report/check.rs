//! `mkqcow2 check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{bases, places, verdict};
use crate::args::check::Check;
use crate::console::{self, escaped, shown};
use crate::status::FAILURE;
use mkqcow2::check::{Finding, Report, Severity};
use mkqcow2::formats::Format;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::units::{Exact, length};
use mkqcow2::volumes::Places;
use mkqcow2::{Access, Error, Image};

/// Something was found that must not be.
const CORRUPT: u8 = 2;

/// Nothing worse was found than room that is wasted.
const LEAKS: u8 = 3;

/// What came of an image.
pub(crate) struct Checked {
    pub(crate) path: PathBuf,
    pub(crate) report: Report,
    pub(crate) findings: Vec<Finding>,
}

impl Checked {
    /// What is recognised on its disk, if that tells where anything is that was found.
    fn places(&self, format: Option<Format>, access: Access) -> Option<Places> {
        let has_place = self.findings.iter().any(|finding| finding.guest().is_some());
        has_place
            .then(|| places::of_image(&self.path, format, access))
            .flatten()
    }

    /// All of it for people.
    fn text(&self, out: &mut dyn Write, places: Option<&Places>, is_quiet: bool) -> io::Result<()> {
        for finding in &self.findings {
            line(out, &self.path, finding, places)?;
        }
        if is_quiet {
            return Ok(());
        }
        summary(out, &self.path, &self.report)
    }
}

/// Of a check that was completed: of the image, then of those that it stands on.
pub(crate) fn done(args: &Check, all: &[Checked], fault: Option<&Error>) -> ExitCode {
    bases::say(&args.image, fault);
    let places: Vec<_> = (all.iter().enumerate())
        .map(|(number, checked)| match number {
            0 => checked.places(args.format.given(), args.access()),
            _ => checked.places(Some(Format::Qcow2), Access::default()),
        })
        .collect();
    let all: Vec<_> = all.iter().zip(&places).collect();
    let status = worst(all.iter().map(|(checked, _)| status(&checked.report)), fault);
    verdict(args, status, |out| {
        if args.json.json {
            return objects(out, &all, fault, status);
        }
        all.iter()
            .try_for_each(|(checked, places)| checked.text(out, places.as_ref(), args.shown.quiet))
    })
}

/// Corruption is worst, then what could not be checked, then leaks.
fn worst(statuses: impl Iterator<Item = u8>, fault: Option<&Error>) -> u8 {
    let of_fault = fault.map(|fault| bases::status(fault, CORRUPT));
    let rank = |status: &u8| {
        [0, LEAKS, FAILURE, CORRUPT]
            .iter()
            .position(|known| known == status)
    };
    statuses.chain(of_fault).max_by_key(rank).unwrap_or(0)
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

fn line(out: &mut dyn Write, path: &Path, finding: &Finding, places: Option<&Places>) -> io::Result<()> {
    let (severity, code) = (finding.code.severity().name(), finding.code.name());
    // There is text of the image in it.
    let text = escaped(&finding.fault.to_string());
    let guest = finding.guest();
    let place = guest.and_then(|guest| places::place(&guest, places));
    let place = place.map_or_else(String::new, |place| format!(", in {place}"));
    writeln!(out, "{}: {severity}: {text}{place} [{code}]", shown(path))
}

/// What the findings mean, and the figures.
fn summary(out: &mut dyn Write, path: &Path, report: &Report) -> io::Result<()> {
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
    let image = shown(path);
    let (errors, leaks) = (report.count(Severity::Error), report.count(Severity::Leak));
    match (errors, leaks) {
        (0, 0) if report.decompressed.is_some() => writeln!(out, "{image}: no errors, no leaks")?,
        (0, 0) => writeln!(
            out,
            "{image}: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)"
        )?,
        (errors, leaks) => writeln!(out, "{image}: errors: {errors}, leaked clusters: {leaks}")?,
    }
    if leaks > 0 && is_ours(path) {
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
fn is_ours(path: &Path) -> bool {
    Image::open(path).is_ok_and(|image| {
        image.extensions().ours.is_some()
            && match image.freshness() {
                Freshness::Unchanged | Freshness::Unknown => true,
                Freshness::Changed | Freshness::Doubtful => false,
            }
    })
}

/// A part of something, which may be nothing of nothing; to two places.
fn percentage(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part).times(10_000);
    let hundredths = hundredths.checked_div(whole.into()).unwrap_or(0);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// For scripts: the fields of `qemu-img check --output=json`, and the findings.
fn objects(
    out: &mut dyn Write,
    all: &[(&Checked, &Option<Places>)],
    fault: Option<&Error>,
    status: u8,
) -> io::Result<()> {
    let objects = all
        .iter()
        .map(|(checked, places)| object(checked, places.as_ref()));
    let all = bases::object(objects, fault, status);
    writeln!(out, "{}", console::json(&all))
}

fn object(checked: &Checked, places: Option<&Places>) -> Value {
    let report = &checked.report;
    let codes = report.tallies.iter();
    let codes: Map<_, _> = codes
        .map(|(code, tally)| (code.name().to_owned(), tally.count.into()))
        .collect();
    let findings: Vec<_> = (checked.findings.iter())
        .map(|found| finding(found, places))
        .collect();
    json!({
        "status": status(report),
        "filename": checked.path.to_string_lossy(),
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
    })
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
