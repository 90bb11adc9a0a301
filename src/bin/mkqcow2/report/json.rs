//! For scripts: one object, on one line.

use std::path::Path;

use serde_json::{Value, json};

use super::text::{because, ranges};
use crate::args::Args;
use mkqcow2::allocation::length;
use mkqcow2::source::Kind;
use mkqcow2::{Plan, Report, Warning};

/// Of a run that was completed.
pub(super) fn report(args: &Args, report: &Report) -> String {
    let written = report.written;
    let unreadable: Vec<_> = report
        .unreadable
        .iter()
        .map(|range| json!({"start": range.start, "length": length(range)}))
        .collect();
    let warnings: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
    let matters = report.warnings.iter().any(Warning::matters);
    line(&json!({
        "status": if matters { 3 } else { 0 },
        "source": args.source.to_string_lossy(),
        "image": args.image.to_string_lossy(),
        "size": report.size,
        "used": report.used,
        "read": report.read,
        "skipped": {"holes": report.size.saturating_sub(report.used)},
        "cluster-size": report.cluster_size,
        "data-clusters": written.data_clusters,
        "zero-clusters": written.zero_clusters,
        "written": written.image_size,
        "seconds": report.duration.as_secs_f64(),
        "unreadable": unreadable,
        "warnings": warnings,
    }))
}

/// Of a dry run.
pub(super) fn plan(args: &Args, plan: &Plan<'_>) -> String {
    let ranges: Vec<_> = ranges(plan.map)
        .map(|(range, reason)| {
            let used = reason.is_some();
            json!({"start": range.start, "length": length(&range), "used": used, "reason": because(reason)})
        })
        .collect();
    line(&json!({
        "status": 0,
        "source": args.source.to_string_lossy(),
        "kind": match plan.kind {
            Kind::RegularFile => "file",
            Kind::BlockDevice => "device",
        },
        "image": args.image.to_string_lossy(),
        "size": plan.size,
        "used": plan.map.used(),
        "image-size": plan.image_size,
        "free-space": plan.free_space,
        "in-use": plan.in_use.map(ToString::to_string),
        "ranges": ranges,
    }))
}

/// Of a run that failed.
pub(super) fn failure(args: &Args, path: &Path, message: &str) -> String {
    line(&json!({
        "status": 1,
        "source": args.source.to_string_lossy(),
        "image": args.image.to_string_lossy(),
        "path": path.to_string_lossy(),
        "error": message,
    }))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
