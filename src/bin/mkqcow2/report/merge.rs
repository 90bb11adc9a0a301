//! `mkqcow2 merge`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde_json::json;

use crate::advice;
use crate::args::merge::Merge;
use crate::console::{self, print, say_of, shown, tell};
use crate::status::WARNING;
use mkqcow2::Error;
use mkqcow2::error::{Corrupt, Invalid, Side};
use mkqcow2::merge::{Plan, Report, Warning};

const HOW_MUCH: &str = "mkqcow2 merge -n shows how much space is needed at most";

/// Of a dry run.
pub(crate) fn plan(args: &Merge, plan: &Plan<'_>) -> ExitCode {
    let warnings = plan.warnings();
    warn(args, &warnings);
    let is_told = print(|out| {
        if args.json.json {
            plan_object(out, args, plan, &warnings)
        } else {
            plan_text(out, args, plan)
        }
    });
    // The plan is all that was asked for.
    if is_told {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Of a run that was completed.
pub(crate) fn done(args: &Merge, report: &Report) -> ExitCode {
    warn(args, &report.warnings);
    let mut is_well = !report.warnings.iter().any(Warning::matters);
    if args.json.json {
        // A script that asked for the object has nothing without it.
        is_well &= print(|out| object(out, args, report));
    } else if !args.shown.quiet {
        let line = line(args, report);
        tell(|out| writeln!(out, "{line}"));
    }
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WARNING)
    }
}

/// What can be done about an error.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Target,
            action,
            source,
        } => advice::of_new_file(*action, source, HOW_MUCH).or_else(|| advice::general(error)),
        Error::Corrupt(
            Corrupt::Checksum { .. }
            | Corrupt::Digest { .. }
            | Corrupt::LostCluster { .. }
            | Corrupt::DiskDigest
            | Corrupt::Stream { .. },
        ) => Some("nothing was changed; mkqcow2 verify tells what is damaged"),
        Error::Invalid(Invalid::NeedsFile { .. }) => None,
        Error::Io { .. }
        | Error::Corrupt(_)
        | Error::Unsupported(_)
        | Error::Invalid(_)
        | Error::Elsewhere { .. }
        | _ => advice::general(error),
    }
}

fn warn(args: &Merge, warnings: &[Warning]) {
    for warning in warnings {
        say_of(&args.image, &format!("warning: {warning}"));
    }
}

/// The closing line.
fn line(args: &Merge, report: &Report) -> String {
    format!(
        "{}: {} images of {} merged{}, {} disk, {} image, {:.2} s",
        shown(&args.image),
        report.images.len(),
        BinaryBytes(report.length),
        onto(report.onto.as_deref()),
        BinaryBytes(report.size),
        BinaryBytes(report.written.image_size),
        report.duration.as_secs_f64(),
    )
}

fn onto(base: Option<&Path>) -> String {
    base.map_or_else(String::new, |base| format!(" onto {}", shown(base)))
}

fn plan_text(out: &mut dyn Write, args: &Merge, plan: &Plan<'_>) -> io::Result<()> {
    let image = shown(&args.image);
    writeln!(
        out,
        "{image}: would be merged{}, {} images of {}, {} disk",
        onto(plan.onto),
        plan.images.len(),
        BinaryBytes(plan.length),
        BinaryBytes(plan.size),
    )?;
    for path in plan.images.iter().skip(1) {
        writeln!(out, "{}: would be merged into it, and stay as it is", shown(path))?;
    }
    let size = plan.image_size;
    writeln!(
        out,
        "{image}: {size} bytes ({}) at most, less if clusters are compressed",
        BinaryBytes(size)
    )?;
    if let Some(free) = plan.free_space.filter(|free| *free < plan.room_needed) {
        let needed = plan.room_needed;
        writeln!(
            out,
            "{image}: may not fit, {needed} bytes are needed at most, {free} ({}) are free",
            BinaryBytes(free)
        )?;
    }
    Ok(())
}

fn plan_object(out: &mut dyn Write, args: &Merge, plan: &Plan<'_>, warnings: &[Warning]) -> io::Result<()> {
    let images: Vec<_> = plan.images.iter().map(|path| path.to_string_lossy()).collect();
    let object = json!({
        "status": 0,
        "image": args.image.to_string_lossy(),
        "size": plan.size,
        "images": images,
        "length": plan.length,
        "onto": plan.onto.map(|path| path.to_string_lossy()),
        "image-size": plan.image_size,
        "room-needed": plan.room_needed,
        "free-space": plan.free_space,
        "warnings": words(warnings),
    });
    writeln!(out, "{}", console::json(&object))
}

fn object(out: &mut dyn Write, args: &Merge, report: &Report) -> io::Result<()> {
    let written = report.written;
    let matters = report.warnings.iter().any(Warning::matters);
    let images: Vec<_> = report.images.iter().map(|path| path.to_string_lossy()).collect();
    let object = json!({
        "status": if matters { WARNING } else { 0 },
        "image": args.image.to_string_lossy(),
        "size": report.size,
        "images": images,
        "length": report.length,
        "onto": report.onto.as_ref().map(|path| path.to_string_lossy()),
        "cluster-size": report.cluster_size,
        "data-clusters": written.data_clusters,
        "zero-clusters": written.zero_clusters,
        "unchanged-clusters": written.unchanged_clusters,
        "compressed-clusters": written.compressed_clusters,
        "copied-streams": report.streams.copied,
        "recompressed-clusters": report.streams.recompressed,
        "stream-bytes": written.stream_bytes,
        "written": written.image_size,
        "seconds": report.duration.as_secs_f64(),
        "warnings": words(&report.warnings),
    });
    writeln!(out, "{}", console::json(&object))
}

fn words(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
