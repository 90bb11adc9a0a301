//! For scripts: one object, on one line.

use std::io::{self, Write};

use serde_json::json;

use crate::args::create::Create;
use crate::console;
use crate::report::regions;
use mkqcow2::pipeline::compress::Codec;
use mkqcow2::source::Kind;
use mkqcow2::units::length;
use mkqcow2::{Plan, Report, Warning};

/// Of a run that was completed.
pub(super) fn report(out: &mut dyn Write, args: &Create, report: &Report) -> io::Result<()> {
    let written = report.written;
    let unreadable: Vec<_> = report
        .unreadable
        .iter()
        .map(|range| json!({"start": range.start, "length": length(range)}))
        .collect();
    let matters = report.warnings.iter().any(Warning::matters);
    let object = json!({
        "status": if matters { 3 } else { 0 },
        "source": args.source.to_string_lossy(),
        "image": args.image.to_string_lossy(),
        "size": report.size,
        "used": report.used,
        "read": report.read,
        "skipped": {
            "holes": report.size.saturating_sub(report.used).saturating_sub(report.free),
            "free": report.free,
        },
        "cluster-size": report.cluster_size,
        "data-clusters": written.data_clusters,
        "zero-clusters": written.zero_clusters,
        "compression": args.codec().map(|codec| codec.compression().name()),
        "compression-level": args.codec().map(Codec::level),
        "compressed-clusters": written.compressed_clusters,
        "stream-bytes": written.stream_bytes,
        "shared-clusters": written.shared_clusters,
        "shared-bytes": written.shared_bytes,
        "written": written.image_size,
        "seconds": report.duration.as_secs_f64(),
        "regions": regions::objects(&report.regions, &report.flaws),
        "unreadable": unreadable,
        "warnings": words(&report.warnings),
    });
    writeln!(out, "{}", console::json(&object))
}

fn words(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

/// Of a dry run. There may be a million ranges: they are written one by one.
pub(super) fn plan(out: &mut dyn Write, args: &Create, plan: &Plan<'_>) -> io::Result<()> {
    let object = json!({
        "status": 0,
        "source": args.source.to_string_lossy(),
        "kind": match plan.kind {
            Kind::RegularFile => "file",
            Kind::BlockDevice => "device",
            Kind::Image => "image",
        },
        "image": args.image.to_string_lossy(),
        "size": plan.size,
        "used": plan.allocation.map.used(),
        "image-size": plan.image_size,
        "room-needed": plan.room_needed,
        "free-space": plan.free_space,
        "in-use": plan.in_use.map(ToString::to_string),
        "warnings": words(&plan.warnings()),
        "regions": regions::objects(&plan.allocation.regions, &plan.allocation.flaws),
    });
    let object = console::json(&object);
    write!(
        out,
        "{},\"ranges\":[",
        object.strip_suffix('}').unwrap_or(&object)
    )?;
    for (number, piece) in plan.allocation.pieces().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let range = json!({
            "start": piece.range.start,
            "length": length(&piece.range),
            "used": piece.reason.is_some(),
            "reason": super::because(plan, &piece).to_string(),
            "region": piece.region,
        });
        write!(out, "{comma}{range}")?;
    }
    writeln!(out, "]}}")
}
