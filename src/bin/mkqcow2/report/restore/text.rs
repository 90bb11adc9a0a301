//! For people.

use std::io::{self, Write};
use std::ops::Range;

use indicatif::BinaryBytes;

use crate::args::restore::Restore;
use crate::console::{escaped, per_second, quoted, shown};
use crate::report::places;
use mkqcow2::disk::Section;
use mkqcow2::restore::{Bad, Plan, Report, TargetKind};
use mkqcow2::units::{Exact, length};
use mkqcow2::volumes::{Outcome, Places, Wanted};

/// The closing line of a run.
pub(super) fn line(args: &Restore, report: &Report) -> String {
    format!(
        "{}: {}, {} data, {} written, {:.2} s, {}/s{}{}{}{}",
        shown(args.shown_target()),
        restored(args, report),
        BinaryBytes(report.data),
        BinaryBytes(report.written),
        report.duration.as_secs_f64(),
        per_second(report.data, report.duration),
        if report.is_checked {
            ", checksums compared"
        } else {
            ""
        },
        read_back(report),
        if report.is_fitted { ", GPT made to fit" } else { "" },
        if report.has_new_table {
            format!(
                "; partprobe {} lets the kernel see its partitions",
                quoted(args.shown_target())
            )
        } else {
            String::new()
        },
    )
}

/// What became of identifiers, or would: a line each.
pub(super) fn identifiers(
    out: &mut dyn Write,
    args: &Restore,
    identifiers: Option<&Outcome>,
    is_done: bool,
) -> io::Result<()> {
    let Some(Outcome { new, kept, .. }) = identifiers else {
        return Ok(());
    };
    let target = shown(args.shown_target());
    for id in new {
        let (place, what, old) = (escaped(&id.place), id.what, &id.old);
        let new = if is_done { id.new.as_str() } else { "a new one" };
        writeln!(out, "{target}: {place}: {what} {old} becomes {new}")?;
    }
    for kept in kept {
        let (place, what, why) = (escaped(&kept.place), kept.what, escaped(&kept.why));
        let command = kept.command.map(|command| format!(" ({command})"));
        let command = command.unwrap_or_default();
        writeln!(
            out,
            "{target}: {place}: {what} keeps its identifiers: {why}{command}"
        )?;
    }
    Ok(())
}

/// What was restored: `2.00 GiB disk`, `512.00 MiB partition 2 (ext4)`.
fn restored(args: &Restore, report: &Report) -> String {
    let size = BinaryBytes(report.size);
    match (&report.volume, args.bytes.wanted()) {
        (Some(volume), _) => format!("{size} {}", escaped(&volume.to_string())),
        (None, Wanted::Section(_)) => format!("{size} of the disk"),
        (None, Wanted::Whole | Wanted::Volume(_)) => format!("{size} disk"),
    }
}

/// What was read back, and what was not.
fn read_back(report: &Report) -> String {
    let left = match report.left {
        0 => String::new(),
        left => format!("{} free left as it was", BinaryBytes(left)),
    };
    match (report.is_verified, left.is_empty()) {
        (false, true) => String::new(),
        (false, false) => format!(", {left}"),
        (true, true) => ", read back".to_owned(),
        (true, false) => format!(", read back but for {left}"),
    }
}

/// A range that could not be read when the image was made.
pub(super) fn unreadable(range: &Range<u64>) -> String {
    format!(
        "unreadable when the image was made: {} bytes at {:#x} of the disk, zeros in the target",
        length(range),
        range.start
    )
}

/// A bad range.
pub(super) fn bad(bad: &Bad, places: Option<&Places>) -> String {
    format!("{}: {}", places::words("damaged", &bad.range, places), bad.why)
}

/// What would be restored, as a plan calls it.
fn planned(args: &Restore, plan: &Plan) -> String {
    match (&plan.volume, args.bytes.wanted()) {
        (Some(volume), _) => escaped(&volume.to_string()),
        (None, Wanted::Section(Section { offset, .. })) => format!("section at {offset:#x} of the disk,"),
        (None, Wanted::Whole | Wanted::Volume(_)) => "disk".to_owned(),
    }
}

/// What of a device stays as it is, and whether the partition table is made to fit.
fn behind(plan: &Plan, room: u64) -> String {
    match (plan.is_fitted, room.saturating_sub(plan.size)) {
        (true, _) => ", the GPT made to fit".to_owned(),
        (false, 0) => String::new(),
        (false, rest) => format!(" but for the last {rest} ({})", BinaryBytes(rest)),
    }
}

/// A line of its own: which device it is, and what it holds.
fn existing(plan: &Plan, target: &str) -> String {
    let existing = plan.existing.as_ref();
    existing.map_or_else(String::new, |existing| {
        format!("\n{target}: {}", escaped(&existing.to_string()))
    })
}

/// A plan.
pub(super) fn plan(out: &mut dyn Write, args: &Restore, plan: &Plan) -> io::Result<()> {
    sizes(out, args, plan)?;
    identifiers(out, args, plan.identifiers.as_ref(), false)
}

/// How much would be restored, and whether it fits.
fn sizes(out: &mut dyn Write, args: &Restore, plan: &Plan) -> io::Result<()> {
    let (image, target) = (shown(args.shown_image()), shown(args.shown_target()));
    let human = BinaryBytes;
    writeln!(
        out,
        "{image}: {} of {} bytes ({}): {} data ({}), {}; {}",
        planned(args, plan),
        plan.size,
        human(plan.size),
        plan.data,
        human(plan.data),
        match plan.free {
            Some(free) => {
                // What is free is not allocated.
                let zeros = plan.zeros.plus(plan.unallocated.minus(free));
                format!("{zeros} zeros ({}), {free} free ({})", human(zeros), human(free))
            }
            None => format!("{} zeros, {} not allocated", plan.zeros, plan.unallocated),
        },
        if plan.is_checked {
            "has checksums"
        } else {
            "no checksums to compare"
        }
    )?;
    let Some(room) = plan.room else {
        return writeln!(out, "{target}: a stream of {} bytes", plan.size);
    };
    match plan.target {
        TargetKind::Device => writeln!(
            out,
            "{target}: block device of {room} bytes ({}), would be overwritten{}{}",
            human(room),
            behind(plan, room),
            existing(plan, &target)
        ),
        TargetKind::File | TargetKind::Stdout if room < plan.data => writeln!(
            out,
            "{target}: may not fit, {} bytes are needed, {room} ({}) are free",
            plan.data,
            human(room)
        ),
        TargetKind::File | TargetKind::Stdout => writeln!(
            out,
            "{target}: at most {} bytes on the disk, {room} ({}) are free",
            plan.data,
            human(room)
        ),
    }
}
