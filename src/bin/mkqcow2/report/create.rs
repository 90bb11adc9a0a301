//! `mkqcow2 SOURCE IMAGE`.

mod json;
mod plan;
mod text;

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;

use crate::advice;
use crate::args::create::Create;
use crate::bar::Bar;
use crate::console::{self, print, quoted, say, say_of, tell};
use crate::report::places;
use crate::status::WARNING;
use crate::verb::Verb;
use mkqcow2::disk::rescue::is_of_medium;
use mkqcow2::error::{Action, Corrupt, InUse, Invalid, Side};
use mkqcow2::progress::{Phase, Retrying};
use mkqcow2::{Error, Plan, Progress, Report, Warning};

/// What an image is called that was begun and not completed.
pub(crate) const INCOMPLETE: &str = "is incomplete: what was written is not a usable image";

/// What can be done if it cannot be found out whether something is in use.
const UNKNOWN: &str = "/proc and /sys must be mounted and readable; or pass --force";

/// What can be done without a base.
const FULL: &str = "make a full image, or pass --full-if-unfit";

const HOW_MUCH: &str = "mkqcow2 -n shows how much space is needed";

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

/// During a run.
pub(crate) struct Meanwhile<'a> {
    args: &'a Create,
    bar: &'a Bar,
}

impl<'a> Meanwhile<'a> {
    pub(crate) fn of(args: &'a Create, bar: &'a Bar) -> Self {
        Self { args, bar }
    }
}

impl Progress for Meanwhile<'_> {
    fn begin(&self, phase: Phase, total: u64) {
        self.bar.begin(phase, total);
    }

    fn advance(&self, bytes: u64) {
        self.bar.advance(bytes);
    }

    fn retrying(&self, retrying: Option<Retrying>) {
        self.bar.retrying(retrying);
    }

    fn unreadable(&self, range: &Range<u64>) {
        let source = &self.args.source;
        self.bar.aside(|| say_of(source, &text::unreadable(range)));
    }
}

/// Of a run that was completed. What could not be read was told during the run.
pub(crate) fn done(args: &Create, report: &Report) -> ExitCode {
    for range in &report.unreadable_before {
        say_of(&args.source, &text::unreadable_before(range));
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

/// Where on the disk damage of an image is that is the source.
pub(crate) fn place(args: &Create, error: &Error) -> Option<String> {
    let lost = match error {
        Error::Corrupt(corrupt) if is_of_cluster(corrupt) => corrupt.lost()?,
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | Error::Invalid(_) | _ => return None,
    };
    let options = args.options();
    let places = places::of_image(&args.source, options.format, options.access);
    Some(places::words("damaged", &lost, places.as_ref()))
}

/// Whether no more than one cluster is damaged.
fn is_of_cluster(corrupt: &Corrupt) -> bool {
    matches!(corrupt, Corrupt::Checksum { .. } | Corrupt::Stream { .. })
}

/// Whether it is about the checksums of an image, without which the disk can be read.
fn is_of_checksums(corrupt: &Corrupt) -> bool {
    // What a source says of its clusters is not put that way.
    matches!(corrupt, Corrupt::PerhapsChanged(_))
        || matches!(
            corrupt,
            Corrupt::Field { structure, .. } | Corrupt::Truncated { structure, .. }
                if structure.ends_with("checksum table")
        )
}

/// What can be done about an error.
pub(crate) fn advice(args: &Create, error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action: Action::Read(_),
            source,
        } if !args.is_reading_on() && is_of_medium(source) => {
            Some("pass --on-read-error=zero to go on, with zeros for what cannot be read")
        }
        // A raw source has no clusters: it is the base.
        Error::Corrupt(corrupt) if args.base.is_some() && args.is_raw() && is_of_cluster(corrupt) => {
            Some("use another copy of the base, or make a full image")
        }
        Error::Corrupt(corrupt) if !args.is_reading_on() && is_of_cluster(corrupt) => {
            Some("use another copy, or pass --on-read-error=zero to go on, with zeros for damaged clusters")
        }
        Error::Corrupt(corrupt) if !args.is_reading_on() && is_of_checksums(corrupt) => {
            Some("use another copy, or pass --on-read-error=zero to go on, without a comparison")
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
        Error::Invalid(Invalid::Unfit(_)) if args.base.is_some() => Some(FULL),
        // Of the base, unless the source is an image itself.
        Error::Invalid(Invalid::NoNeededFile { .. }) if args.base.is_some() && args.is_raw() => Some(FULL),
        Error::Invalid(Invalid::SourceInUse(in_use)) => Some(match in_use {
            InUse::Mounted { .. } => "unmount it, image a snapshot, or pass --force",
            InUse::Swap { .. } => "swapoff it, or pass --force",
            InUse::Held { .. } => "deactivate that device, image a snapshot, or pass --force",
            InUse::Guest { .. } => "shut the virtual machine down, image a snapshot, or pass --force",
            InUse::OtherRun { .. } => "wait until it is done",
            InUse::Busy { .. } => "lsblk may tell by whom; or pass --force",
            InUse::Unknown { .. } => UNKNOWN,
        }),
        Error::Invalid(Invalid::TargetInUse(InUse::Unknown { .. })) => Some(UNKNOWN),
        Error::Invalid(Invalid::LooksLikeImage(format)) if suggestion(args, error).is_none() => {
            Some(of_image(format))
        }
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

/// Whether there is no source of that name.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { side: Side::Source, action: Action::Open, source }
        if source.kind() == io::ErrorKind::NotFound)
}

/// What was probably meant instead.
pub(crate) fn suggestion(args: &Create, error: &Error) -> Option<String> {
    let Error::Invalid(invalid) = error else {
        return None;
    };
    let (source, image) = (quoted(&args.source), quoted(&args.image));
    let is_device = || {
        args.image
            .metadata()
            .is_ok_and(|found| found.file_type().is_block_device())
    };
    let is_of_image = matches!(invalid, Invalid::LooksLikeImage(_)) || !args.is_raw();
    if is_of_image && is_device() {
        return Some(format!(
            "To write this image to a disk: mkqcow2 restore {source} {image}"
        ));
    }
    if matches!(invalid, Invalid::TargetHolds(_)) {
        let mut image = args.image.clone().into_os_string();
        image.push(".qcow2");
        let image = quoted(image.as_ref());
        return Some(format!(
            "To keep it: mkqcow2 {source} {image}, or any other new name; to replace it: --overwrite"
        ));
    }
    None
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
        Some("set TMPDIR to another directory")
    } else {
        advice::of_room(source, HOW_MUCH)
    }
}
