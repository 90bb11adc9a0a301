//! For scripts: one object, on one line.

use std::io::{self, Write};

use serde_json::json;

use super::plan as of_plan;
use crate::args::create::Create;
use crate::console;
use crate::report::{ranges, regions};
use mkqcow2::disk::Kind;
use mkqcow2::pipeline::compress::Codec;
use mkqcow2::units::length;
use mkqcow2::volumes::State;
use mkqcow2::{Plan, Report, Warning};

/// Of a run that was completed.
pub(super) fn report(out: &mut dyn Write, args: &Create, report: &Report) -> io::Result<()> {
    let written = report.written;
    let matters = report.warnings.iter().any(Warning::matters);
    let object = json!({
        "status": if matters { 3 } else { 0 },
        "source": args.source.to_string_lossy(),
        "image": args.image.to_string_lossy(),
        "size": report.size,
        "part": report.volume.as_ref().map(|volume| &volume.name),
        "data": report.data,
        "metadata": report.metadata,
        "zeros": report.zeros,
        "free": report.free,
        "read": report.read,
        "cluster-size": report.cluster_size,
        "data-clusters": written.data_clusters,
        "zero-clusters": written.zero_clusters,
        "unchanged-clusters": written.unchanged_clusters,
        "base": report.base.as_ref().map(|base| base.to_string_lossy()),
        "compression": args.codec().map(|codec| codec.compression().name()),
        "compression-level": args.codec().map(Codec::level),
        "compressed-clusters": written.compressed_clusters,
        "stream-bytes": written.stream_bytes,
        "shared-clusters": written.shared_clusters,
        "shared-bytes": written.shared_bytes,
        "written": written.image_size,
        "seconds": report.duration.as_secs_f64(),
        "regions": regions::objects(&report.regions, &report.flaws),
        "unreadable": ranges(&report.unreadable),
        "unreadable-before": ranges(&report.unreadable_before),
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
        "part": plan.volume.map(|volume| &volume.name),
        "data": plan.allocation.bytes(State::Data),
        "metadata": plan.allocation.bytes(State::Metadata),
        "zeros": plan.allocation.bytes(State::Zeros),
        "free": plan.allocation.bytes(State::Free),
        "image-size": plan.image_size,
        "base": plan.base.map(|base| base.to_string_lossy()),
        "room-needed": plan.room_needed,
        "free-space": plan.free_space,
        "in-use": plan.in_use.map(ToString::to_string),
        "warnings": plan.warnings().iter().map(|warning| of_plan::warning(plan, warning)).collect::<Vec<_>>(),
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
            "state": match piece.state {
                State::Data => "data",
                State::Metadata => "metadata",
                State::Zeros => "zeros",
                State::Free => "free",
            },
            "reason": of_plan::because(plan, &piece).to_string(),
            "region": piece.region,
        });
        write!(out, "{comma}{range}")?;
    }
    writeln!(out, "]}}")
}
