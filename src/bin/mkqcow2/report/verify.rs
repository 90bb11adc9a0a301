//! What `mkqcow2 verify` tells.

mod json;
mod text;
mod words;

use std::process::ExitCode;

use super::{places, verdict};
use crate::args::verify::Verify as Args;
use crate::console::say_of;
use crate::status::FAILURE;
use mkqcow2::Access;
use mkqcow2::verify::Report;

/// The image is not what was written.
pub(crate) const DAMAGE: u8 = 2;

/// Of a run that was completed.
pub(crate) fn done(args: &Args, report: &Report) -> ExitCode {
    for warning in words::warnings(report) {
        say_of(&args.image, &format!("warning: {warning}"));
    }
    let status = status(report);
    let places = (!report.findings.is_empty())
        .then(|| places::of_image(&args.image, args.options().format, Access::default()))
        .flatten();
    verdict(args, status, |out| {
        if args.json.json {
            json::report(out, args, (report, status), places.as_ref())
        } else {
            text::report(out, args, report, places.as_ref())
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
