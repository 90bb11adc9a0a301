//! What the user is told.

mod advice;
mod json;
mod text;

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::args::Args;
use crate::console::{print, say_of};
use mkqcow2::error::{Invalid, Side};
use mkqcow2::{Error, Plan, Report, Warning};

/// Nothing was written.
const FAILURE: u8 = 1;

/// IMAGE was written, but not all is well.
const WARNING: u8 = 3;

/// Bad usage, as sysexits(3) has it.
pub(crate) const USAGE: u8 = 64;

/// Tells it, in the way that was asked for.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    args: &'a Args,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(args: &'a Args) -> Self {
        Self { args }
    }

    /// Of a dry run.
    pub(crate) fn plan(&self, plan: &Plan<'_>) -> ExitCode {
        if let Some(in_use) = plan.in_use {
            say_of(
                &self.args.source,
                &Warning::SourceInUse(in_use.clone()).to_string(),
            );
        }
        let is_told = if self.args.json {
            print(|out| json::plan(out, self.args, plan))
        } else {
            print(|out| text::plan(out, self.args, plan))
        };
        // The plan is all that was asked for.
        if is_told {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Before a run, to whom it interests.
    pub(crate) fn before(&self, plan: &Plan<'_>) {
        if self.args.verbose {
            // There is nowhere else to complain.
            let _ = text::summary(&mut io::stderr().lock(), self.args, plan);
        }
    }

    /// Of a run that was completed.
    pub(crate) fn done(&self, report: &Report) -> ExitCode {
        for range in &report.unreadable {
            say_of(&self.args.source, &text::unreadable(range));
        }
        for warning in &report.warnings {
            say_of(self.path(warning.side()), &format!("warning: {warning}"));
        }
        if self.args.json {
            print(|out| json::report(out, self.args, report));
        } else if !self.args.quiet {
            print(|out| text::report(out, self.args, report));
        }
        if report.warnings.iter().any(Warning::matters) {
            ExitCode::from(WARNING)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Of a run that failed.
    pub(crate) fn failure(&self, error: &Error) -> ExitCode {
        let (error, elsewhere) = error.innermost();
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let number = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error);
            let text = error.to_string();
            let number = number.map(|number| format!(" (os error {number})"));
            let text = number
                .and_then(|number| text.strip_suffix(&number))
                .unwrap_or(&text);
            message = format!("{message}: {text}");
            cause = error.source();
        }
        if let Some(advice) = advice::advice(error) {
            message = format!("{message} ({advice})");
        }
        // Found out only here, but wrong on any source.
        let is_usage = matches!(
            error,
            Error::Invalid(Invalid::Unaligned { .. } | Invalid::LengthZero)
        );
        let status = if is_usage { USAGE } else { FAILURE };
        let path = elsewhere.unwrap_or(self.path(error.side()));
        say_of(path, &message);
        if self.args.json {
            print(|out| json::failure(out, self.args, status, path, &message));
        }
        ExitCode::from(status)
    }

    fn path(&self, side: Side) -> &'a Path {
        match side {
            Side::Source => &self.args.source,
            Side::Target => &self.args.image,
        }
    }
}
