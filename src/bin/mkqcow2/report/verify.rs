//! What `mkqcow2 verify` tells.

mod json;
mod text;
mod verified;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{bases, verdict};
use crate::args::verify::Verify as Args;
use crate::console::say_of;
use mkqcow2::Error;
use mkqcow2::formats::Format;
use mkqcow2::verify::Report;
pub(crate) use verified::DAMAGE;
use verified::Verified;

/// What came of an image, and of those that it stands on.
pub(crate) struct Reports {
    pub(crate) own: Report,
    /// With their paths, the nearest first.
    pub(crate) bases: Vec<(PathBuf, Report)>,
    /// Why there are no more, although there should be.
    pub(crate) fault: Option<Error>,
}

/// Of a run that was completed.
pub(crate) fn done(args: &Args, reports: &Reports) -> ExitCode {
    let own = std::iter::once((args.image.as_path(), &reports.own, args.options().format));
    let behind = reports.bases.iter();
    let behind = behind.map(|(path, report)| (path.as_path(), report, Some(Format::Qcow2)));
    let count = reports.bases.len();
    // The one behind the last is told as a fault, if it is to be there.
    let has_base = |number: usize| number < count || reports.fault.is_some();
    let all: Vec<_> = own
        .chain(behind)
        .enumerate()
        .map(|(number, (path, report, format))| Verified::new(path, report, has_base(number), format))
        .collect();
    for verified in &all {
        for warning in &verified.warnings {
            say_of(verified.path, &format!("warning: {warning}"));
        }
    }
    bases::say(&args.image, reports.fault.as_ref());
    let of_fault = reports.fault.as_ref().map(|fault| bases::status(fault, DAMAGE));
    let status = all.iter().map(|verified| verified.status).chain(of_fault);
    let status = status.max().unwrap_or(0);
    verdict(args, status, |out| {
        if args.json.json {
            return json::reports(out, &all, reports.fault.as_ref(), status);
        }
        all.iter()
            .try_for_each(|verified| text::report(out, verified, args.shown.quiet))
    })
}
