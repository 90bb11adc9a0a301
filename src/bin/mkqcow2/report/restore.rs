//! `mkqcow2 restore IMAGE TARGET`.

mod json;
mod text;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::advice;
use crate::args::restore::Restore;
use crate::console::{print, quoted, say, say_of, tell};
use crate::report::places;
use crate::status::WARNING;
use crate::verb::Verb;
use mkqcow2::Error;
use mkqcow2::disk::rescue::is_of_medium;
use mkqcow2::error::{Action, Corrupt, InUse, Invalid, Side, Unstreamable};
use mkqcow2::formats::is_image;
use mkqcow2::restore::{Existing, Plan, Report, Warning};
use mkqcow2::volumes::Places;

/// What a target is called that was begun and not completed.
pub(crate) fn incomplete(args: &Restore) -> String {
    let holds = if args.is_stream() {
        "only a part of the disk was written"
    } else {
        "it holds neither its old content nor the whole disk"
    };
    match args.cleanup.progress() {
        0 => format!("is incomplete: {holds}"),
        bytes => format!("is incomplete: {holds}; the first {bytes} bytes of the disk were written"),
    }
}

/// How to get what is not damaged.
fn keep_going(args: &Restore) -> &'static str {
    if args.is_piped() {
        "save the stream to a file: restore --keep-going FILE restores what can be read"
    } else {
        "--keep-going restores what can be read"
    }
}

/// Of a dry run.
pub(crate) fn plan(args: &Restore, plan: &Plan) -> ExitCode {
    warn(args, &plan.warnings);
    super::answer::<Restore>(0, |out| {
        if args.json.json {
            json::plan(out, args, plan)
        } else {
            text::plan(out, args, plan)
        }
    })
}

/// Of a run that is about to write to the target.
pub(crate) fn before(args: &Restore, existing: Option<&Existing>) {
    if let Some(existing) = existing.filter(|_| args.verbose) {
        say_of(args.shown_target(), &existing.to_string());
    }
}

/// Of a run that was completed.
pub(crate) fn done(args: &Restore, report: &Report) -> ExitCode {
    for range in &report.unreadable {
        say_of(args.shown_image(), &text::unreadable(range));
    }
    let places = (!report.bad.is_empty()).then(|| places_of(args)).flatten();
    for bad in &report.bad {
        say_of(args.shown_image(), &text::bad(bad, places.as_ref()));
    }
    warn(args, &report.warnings);
    let is_told = if args.json.json {
        print(|out| json::report(out, args, report, places.as_ref()))
    } else {
        if args.is_stream() && !args.shown.quiet {
            say(&text::line(args, report));
        } else if !args.shown.quiet {
            tell(|out| {
                text::identifiers(out, args, report.identifiers.as_ref(), true)?;
                writeln!(out, "{}", text::line(args, report))
            });
        }
        true
    };
    if report.warnings.iter().any(Warning::matters) || !is_told {
        ExitCode::from(WARNING)
    } else {
        ExitCode::SUCCESS
    }
}

fn warn(args: &Restore, warnings: &[Warning]) {
    for warning in warnings {
        say_of(args.path(warning.side()), &format!("warning: {warning}"));
    }
}

/// What was probably meant instead.
pub(crate) fn suggestion(args: &Restore, error: &Error) -> Option<String> {
    let Error::Invalid(Invalid::TargetHolds(_)) = error else {
        return None;
    };
    let (image, raw) = (quoted(&args.image), quoted(&beside(&args.target)));
    Some(format!(
        "To keep it: mkqcow2 restore {image} {raw}, or any other new name; to replace it by a raw disk: --overwrite"
    ))
}

/// Another name than that of an image, for a raw disk.
fn beside(image: &Path) -> PathBuf {
    let raw = image.with_extension("raw");
    if raw == image {
        image.with_extension("disk.raw")
    } else {
        raw
    }
}

/// What lies where on the disk.
fn places_of(args: &Restore) -> Option<Places> {
    if args.is_piped() {
        return None;
    }
    let options = args.options();
    places::of_image(&args.image, options.format, options.access)
}

/// Where on the disk damage is that keeps some of it from being restored.
pub(crate) fn place(args: &Restore, error: &Error) -> Option<String> {
    let lost = match error {
        Error::Corrupt(corrupt) if is_of_a_part(corrupt) => corrupt.lost()?,
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | Error::Invalid(_) | _ => return None,
    };
    Some(places::words("damaged", &lost, places_of(args).as_ref()))
}

/// What can be done about an error.
pub(crate) fn advice(args: &Restore, error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action: Action::Read(_),
            source,
        } if !args.keep_going && is_of_medium(source) => Some(keep_going(args)),
        Error::Corrupt(corrupt) if !args.keep_going && is_of_a_part(corrupt) => Some(keep_going(args)),
        Error::Invalid(Invalid::NotAnImage) if !args.is_stream() && is_image(&args.target) => {
            Some("TARGET is one: are the arguments the wrong way round?")
        }
        Error::Io {
            side: Side::Target,
            action,
            source,
        } => of_target(*action, source).or_else(|| advice::general(error)),
        Error::Invalid(invalid) => of_refusal(invalid).or_else(|| advice::general(error)),
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | Error::Elsewhere { .. } | _ => {
            advice::general(error)
        }
    }
}

fn of_target(action: Action, source: &io::Error) -> Option<&'static str> {
    if action == Action::Open && source.kind() == ErrorKind::PermissionDenied {
        Some("root can write to it")
    } else {
        advice::of_new_file(
            action,
            source,
            "mkqcow2 restore -n shows how much space is needed",
        )
    }
}

/// Whether the rest of the disk can be had all the same.
fn is_of_a_part(corrupt: &Corrupt) -> bool {
    match corrupt {
        Corrupt::Entry { .. }
        | Corrupt::CutOff { .. }
        | Corrupt::Stream { .. }
        | Corrupt::PerhapsChanged(_)
        | Corrupt::Checksum { .. } => true,
        Corrupt::Field { structure, .. } | Corrupt::Truncated { structure, .. } => {
            structure.ends_with("checksum table")
        }
        Corrupt::Shrank { .. } | Corrupt::Disappeared { .. } | Corrupt::TooManyUnreadable { .. } | _ => false,
    }
}

/// What can be done if it cannot be found out whether something is in use.
const UNKNOWN: &str = "/proc and /sys must be mounted and readable; or pass --force";

fn of_refusal(invalid: &Invalid) -> Option<&'static str> {
    if let Invalid::Unrecorded(_) = invalid {
        Some("restore without --used-only: then everything that is not in the image becomes zeros")
    } else if let Invalid::TargetInUse(in_use) = invalid {
        Some(match in_use {
            InUse::Mounted { .. } => "unmount it first",
            InUse::Swap { .. } => "swapoff it first",
            InUse::Held { .. } => "deactivate that device first",
            InUse::Guest { .. } => "shut the virtual machine down",
            InUse::OtherRun { .. } => "wait until it is done",
            InUse::Busy { .. } => "lsblk may tell by whom",
            InUse::Unknown { .. } => UNKNOWN,
        })
    } else if let Invalid::SourceInUse(InUse::Unknown { .. }) = invalid {
        Some(UNKNOWN)
    } else if let Invalid::TargetOccupied(_) = invalid {
        Some("if this is the right device: --overwrite")
    } else if let Invalid::TargetBehindLoop { .. } = invalid {
        Some("detach it with losetup -d first, or restore to the loop device")
    } else if let Invalid::TargetTooSmall { can_fit: true, .. } = invalid {
        Some("only the backup GPT lies there: --fit puts it to the end of TARGET")
    } else if let Invalid::TargetTooSmall { used: None, .. } = invalid {
        Some("an image that records what is free could do without what is not in use")
    } else if let Invalid::TargetCuts { .. } = invalid {
        Some("--force restores what is in use all the same")
    } else if let Invalid::TargetSectorSize { .. } = invalid {
        Some(
            "restore to a device with sectors of that size, or to a file and attach that with losetup \
             --sector-size; or pass --force, and then write a new partition table",
        )
    } else if let Invalid::Unstreamable(why) = invalid {
        of_stream(*why)
    } else if (*invalid == Invalid::TargetIsPipe { is_stdout: false }) {
        Some("give - and redirect standard output to it")
    } else {
        None
    }
}

fn of_stream(why: Unstreamable) -> Option<&'static str> {
    match why {
        Unstreamable::Closed => None,
        Unstreamable::Terminal => Some("redirect it, or name a file"),
        Unstreamable::TableBehind { .. }
        | Unstreamable::Order { .. }
        | Unstreamable::Format(_)
        | Unstreamable::DataFile
        | Unstreamable::Asked(_) => Some("save it to a file, and restore that"),
    }
}
