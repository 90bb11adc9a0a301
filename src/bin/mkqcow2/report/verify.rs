//! What `mkqcow2 verify` tells.

mod json;
mod text;

use std::process::ExitCode;

use super::{FAILURE, verdict};
use crate::args::verify::Verify as Args;
use crate::console::say_of;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::verify::Report;

/// The image is not what was written.
pub(crate) const DAMAGE: u8 = 2;

/// Of a run that was completed.
pub(crate) fn done(args: &Args, report: &Report) -> ExitCode {
    for warning in warnings(report) {
        say_of(&args.image, &format!("warning: {warning}"));
    }
    let status = status(report);
    verdict(args, status, |out| {
        if args.json.json {
            json::report(out, args, report, status)
        } else {
            text::report(out, args, report)
        }
    })
}

fn status(report: &Report) -> u8 {
    if report.findings.is_empty() {
        0
    } else if report.findings.is_unreadable_only() {
        FAILURE
    } else {
        DAMAGE
    }
}

/// What is worth knowing, but no fault.
fn warnings(report: &Report) -> impl Iterator<Item = String> {
    let is_changed = report.compared.is_some() && report.freshness == Freshness::Changed;
    let changed = "the image was opened for writing since it was made: differences may be changes";
    let remarks = report.remarks.iter().map(ToString::to_string);
    let leaks = format!(
        "{} clusters of the file are wasted, see mkqcow2 check",
        report.leaks
    );
    let elsewhere = report.elsewhere.iter();
    let elsewhere =
        elsewhere.map(|role| format!("the rest of the disk is in its {role}, which was not read"));
    remarks
        .chain(elsewhere)
        .chain(is_changed.then(|| changed.to_owned()))
        .chain((report.leaks > 0).then_some(leaks))
}
