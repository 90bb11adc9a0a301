//! For scripts: one object, on one line.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::args::restore::Restore;
use crate::console;
use crate::report::{places, ranges, regions};
use mkqcow2::restore::{Existing, Plan, Report, TargetKind, Warning, Why};
use mkqcow2::units::length;
use mkqcow2::volumes::{Outcome, Places};

/// Of a run that was completed.
pub(super) fn report(
    out: &mut dyn Write,
    args: &Restore,
    report: &Report,
    places: Option<&Places>,
) -> io::Result<()> {
    let bad: Vec<_> = report
        .bad
        .iter()
        .map(|bad| {
            let why = match bad.why {
                Why::Unreadable => "unreadable",
                Why::Checksum => "checksum",
            };
            let region = places::object(Some(&bad.range), places);
            json!({"start": bad.range.start, "length": length(&bad.range), "why": why, "region": region})
        })
        .collect();
    let matters = report.warnings.iter().any(Warning::matters);
    let object = json!({
        "status": if matters { 3 } else { 0 },
        "image": args.image.to_string_lossy(),
        "target": args.target.to_string_lossy(),
        "device": report.existing.as_ref().map(device),
        "size": report.size,
        "part": report.volume.as_ref().map(|volume| &volume.name),
        "fitted": report.is_fitted,
        "new-ids": new_ids(report.identifiers.as_ref(), true),
        "kept": kept(report.identifiers.as_ref()),
        "partition-table": report.has_new_table,
        "data": report.data,
        "written": report.written,
        "zeros": report.zeros,
        "left": report.left,
        "checked": report.is_checked,
        "verified": report.is_verified,
        "seconds": report.duration.as_secs_f64(),
        "damaged": bad,
        "unreadable-before": ranges(&report.unreadable),
        "warnings": texts(&report.warnings),
    });
    writeln!(out, "{}", console::json(&object))
}

/// Of a dry run.
pub(super) fn plan(out: &mut dyn Write, args: &Restore, plan: &Plan) -> io::Result<()> {
    let object = json!({
        "status": 0,
        "image": args.image.to_string_lossy(),
        "target": args.target.to_string_lossy(),
        "kind": match plan.target {
            TargetKind::File => "file",
            TargetKind::Device => "device",
            TargetKind::Stdout => "stream",
        },
        "device": plan.existing.as_ref().map(device),
        "size": plan.size,
        "part": plan.volume.as_ref().map(|volume| &volume.name),
        "fitted": plan.is_fitted,
        "new-ids": new_ids(plan.identifiers.as_ref(), false),
        "kept": kept(plan.identifiers.as_ref()),
        "data": plan.data,
        "zeros": plan.zeros,
        "unallocated": plan.unallocated,
        "free": plan.free,
        "room": plan.room,
        "checked": plan.is_checked,
        "warnings": texts(&plan.warnings),
    });
    writeln!(out, "{}", console::json(&object))
}

/// What is on a device before it is overwritten.
fn device(existing: &Existing) -> Value {
    let holds = &existing.holds;
    let recognised = holds.regions.iter().filter(|_| holds.is_anything());
    json!({
        "model": existing.identity.model,
        "serial": existing.identity.serial,
        "size": existing.size,
        "holds": recognised.map(regions::name).collect::<Vec<_>>(),
        "unreadable": holds.unclear().map(ToString::to_string),
    })
}

/// The identifiers that are new; of a plan, without those, which are drawn in the run.
fn new_ids(identifiers: Option<&Outcome>, is_done: bool) -> Option<Vec<Value>> {
    let ids = identifiers?.new.iter().map(|id| {
        let new = is_done.then_some(&id.new);
        json!({"what": id.what, "where": id.place, "old": id.old, "new": new})
    });
    Some(ids.collect())
}

/// What keeps its identifiers.
fn kept(identifiers: Option<&Outcome>) -> Option<Vec<Value>> {
    let kept = identifiers?.kept.iter().map(
        |kept| json!({"what": kept.what, "where": kept.place, "why": kept.why, "command": kept.command}),
    );
    Some(kept.collect())
}

fn texts(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}
