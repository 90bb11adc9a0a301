//! `mkqcow2 SOURCE IMAGE`.

mod json;
mod plan;
mod text;

use std::io;
use std::process::ExitCode;

use crate::advice;
use crate::args::create::Create;
use crate::console::{self, print, say, say_of, tell};
use crate::status::WARNING;
use crate::verb::Verb;
use mkqcow2::error::{Action, InUse, Invalid, Side};
use mkqcow2::{Error, Plan, Report, Warning};

/// What an image is called that was begun and not completed.
pub(crate) const INCOMPLETE: &str = "is incomplete: what was written is no image";

/// What can be done if it cannot be found out whether something is in use.
const UNKNOWN: &str = "/proc and /sys must be mounted and readable; or pass --force";
const HOW_MUCH: &str = "mkqcow2 -n tells how much room is needed";

/// Of a dry run.
pub(crate) fn plan(args: &Create, plan: &Plan<'_>) -> ExitCode {
    for warning in plan.warnings() {
        say_of(
            args.path(warning.side()),
            &format!("warning: {}", plan::warning(plan, &warning)),
        );
    }
    let is_told = if args.json.json {
        print(|out| json::plan(out, args, plan))
    } else if args.is_stream() {
        // Whoever reads standard output expects an image.
        !console::is_closed(&io::stderr()) && text::plan(&mut io::stderr().lock(), args, plan).is_ok()
    } else {
        print(|out| text::plan(out, args, plan))
    };
    // The plan is all that was asked for.
    if is_told {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Before a run, to whom it interests.
pub(crate) fn before(args: &Create, plan: &Plan<'_>) {
    if args.verbose {
        // There is nowhere else to complain.
        let _ = text::outline(&mut io::stderr().lock(), args, plan);
    }
}

/// Of a run that was completed.
pub(crate) fn done(args: &Create, report: &Report) -> ExitCode {
    for range in &report.unreadable_before {
        say_of(&args.source, &text::unreadable_before(range));
    }
    for range in &report.unreadable {
        say_of(&args.source, &text::unreadable(range));
    }
    for warning in &report.warnings {
        say_of(args.path(warning.side()), &format!("warning: {warning}"));
    }
    let mut is_well = !report.warnings.iter().any(Warning::matters);
    if args.json.json {
        // A script that asked for the object has nothing without it.
        is_well &= print(|out| json::report(out, args, report));
    } else if !args.shown.quiet {
        closing(args, report);
    }
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WARNING)
    }
}

/// Where an image goes to standard output, nothing else goes there.
fn closing(args: &Create, report: &Report) {
    for line in text::report(args, report) {
        if args.is_stream() {
            say(&line);
        } else {
            tell(|out| writeln!(out, "{line}"));
        }
    }
}

/// What can be done about an error.
pub(crate) fn advice(args: &Create, error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action: Action::Read(_),
            source,
        } if !args.is_reading_on() && advice::is_of_medium(source) => {
            Some("pass --on-read-error=zero to go on, with zeros for what cannot be read")
        }
        Error::Io {
            side: Side::Target,
            action,
            source,
        } => {
            let advice = if args.is_stream() {
                of_stream(*action, source)
            } else {
                advice::of_new_file(*action, source, HOW_MUCH)
            };
            advice.or_else(|| advice::general(error))
        }
        Error::Invalid(Invalid::SourceInUse(in_use)) => Some(match in_use {
            InUse::Mounted { .. } => "unmount it, image a snapshot, or pass --force",
            InUse::Swap { .. } => "swapoff it, or pass --force",
            InUse::Held { .. } => "deactivate that, image a snapshot, or pass --force",
            InUse::Guest { .. } => "shut the virtual machine down, image a snapshot, or pass --force",
            InUse::OtherRun { .. } => "wait until it is done",
            InUse::Busy { .. } => "lsblk may tell by whom; or pass --force",
            InUse::Unknown { .. } => UNKNOWN,
        }),
        Error::Invalid(Invalid::TargetInUse(InUse::Unknown { .. })) => Some(UNKNOWN),
        Error::Invalid(Invalid::LooksLikeImage(format)) => Some(of_image(format)),
        Error::Invalid(Invalid::TargetIsPipe { is_stdout: false }) => {
            Some("give - and redirect standard output to it")
        }
        Error::Io { .. }
        | Error::Corrupt(_)
        | Error::Unsupported(_)
        | Error::Invalid(_)
        | Error::Elsewhere { .. }
        | _ => advice::general(error),
    }
}

/// Which of two things can be meant by the name of an image.
fn of_image(format: &str) -> &'static str {
    match format {
        "qcow" => "--source-format=qcow images the disk in it, --source-format=raw the file as it is",
        "qed" => "--source-format=qed images the disk in it, --source-format=raw the file as it is",
        "qcow2" => "--source-format=qcow2 images the disk in it, --source-format=raw the file as it is",
        _ => "the disk in it cannot be read here; --source-format=raw images the file as it is",
    }
}

fn of_stream(action: Action, source: &io::Error) -> Option<&'static str> {
    if action == Action::Scratch {
        Some("TMPDIR names the directory for it")
    } else {
        advice::of_room(source, HOW_MUCH)
    }
}
