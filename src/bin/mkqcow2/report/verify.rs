//! What `mkqcow2 verify` tells.

mod json;
mod text;
mod verified;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{verdict, with_causes};
use crate::args::verify::Verify as Args;
use crate::console::say_of;
use crate::status::FAILURE;
use mkqcow2::Error;
use mkqcow2::error::Invalid;
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
    let bases = reports.bases.iter();
    let bases = bases.map(|(path, report)| (path.as_path(), report, Some(Format::Qcow2)));
    let count = reports.bases.len();
    // The one behind the last is told as a fault, if it is to be there.
    let has_base = |number: usize| number < count || reports.fault.is_some();
    let all: Vec<_> = own
        .chain(bases)
        .enumerate()
        .map(|(number, (path, report, format))| Verified::new(path, report, has_base(number), format))
        .collect();
    for verified in &all {
        for warning in &verified.warnings {
            say_of(verified.path, &format!("warning: {warning}"));
        }
    }
    if let Some(fault) = &reports.fault {
        let (error, path) = fault.innermost();
        say_of(path.unwrap_or(&args.image), &with_causes(error));
    }
    let of_fault = reports.fault.as_ref().map(of_fault);
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

/// A base that is not there may be elsewhere; one that is another cannot be read.
fn of_fault(fault: &Error) -> u8 {
    match fault.innermost().0 {
        Error::Corrupt(_) | Error::Invalid(Invalid::Unfit(_)) => DAMAGE,
        Error::Io { .. } | Error::Unsupported(_) | Error::Invalid(_) | _ => FAILURE,
    }
}
