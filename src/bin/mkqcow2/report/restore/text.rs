//! For people.

use std::io::{self, Write};

use indicatif::BinaryBytes;

use crate::args::restore::Restore;
use crate::console::{per_second, shown};
use mkqcow2::restore::{Bad, Kind, Plan, Report};
use mkqcow2::units::length;

/// The closing line of a run.
pub(super) fn line(args: &Restore, report: &Report) -> String {
    format!(
        "{}: {} disk, {} data, {} written, {:.2} s, {}/s{}{}",
        shown(args.shown_target()),
        BinaryBytes(report.size),
        BinaryBytes(report.data),
        BinaryBytes(report.written),
        report.duration.as_secs_f64(),
        per_second(report.data, report.duration),
        if report.is_checked {
            ", checksums compared"
        } else {
            ""
        },
        if report.is_verified { ", read back" } else { "" },
    )
}

/// A bad range.
pub(super) fn bad(bad: &Bad) -> String {
    let (start, length) = (bad.range.start, length(&bad.range));
    format!("damaged: {length} bytes at guest {start:#x}: {}", bad.why)
}

/// A plan.
pub(super) fn plan(out: &mut dyn Write, args: &Restore, plan: &Plan) -> io::Result<()> {
    let (image, target) = (shown(&args.image), shown(args.shown_target()));
    let human = BinaryBytes;
    writeln!(
        out,
        "{image}: disk of {} bytes ({}): {} data ({}), {} zeros, {} not allocated; {}",
        plan.size,
        human(plan.size),
        plan.data,
        human(plan.data),
        plan.zeros,
        plan.unallocated,
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
        Kind::Device => writeln!(
            out,
            "{target}: block device of {room} bytes ({}), would be overwritten",
            human(room)
        ),
        Kind::File | Kind::Stdout if room < plan.data => writeln!(
            out,
            "{target}: may not fit, {} bytes are needed, {room} ({}) are free",
            plan.data,
            human(room)
        ),
        Kind::File | Kind::Stdout => writeln!(
            out,
            "{target}: {} bytes or less on the disk, {room} ({}) are free",
            plan.data,
            human(room)
        ),
    }
}
