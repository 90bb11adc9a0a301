//! For people.

use std::io::{self, Write};
use std::ops::Range;

use indicatif::BinaryBytes;

use super::plan as of_plan;
use crate::args::create::Create;
use crate::console::{escaped, per_second, shown};
use crate::report::regions;
use mkqcow2::disk::Kind;
use mkqcow2::units::length;
use mkqcow2::volumes::State;
use mkqcow2::{Plan, Report};

/// How many ranges a plan shows unless all are asked for.
const RANGES: usize = 20;

/// The closing line of a run; with `--verbose` another one with the clusters.
pub(super) fn report(args: &Create, report: &Report) -> Vec<String> {
    let written = report.written;
    let shared = if args.is_deduping() {
        format!(" ({} saved by sharing)", BinaryBytes(written.shared_bytes))
    } else {
        String::new()
    };
    let base = report.base.as_deref();
    let base = base.map_or_else(String::new, |base| format!(" on {}", shown(base.as_ref())));
    let mut lines = vec![format!(
        "{}: {} {}, {} image{base}{shared}, {:.2} s, {}/s",
        shown(args.shown_image()),
        BinaryBytes(report.size),
        imaged(report),
        BinaryBytes(written.image_size),
        report.duration.as_secs_f64(),
        per_second(report.data.saturating_add(report.metadata), report.duration),
    )];
    if args.verbose {
        lines.push(format!(
            "clusters of {} bytes with data: {}, zeros: {}; {} bytes in all",
            report.cluster_size, written.data_clusters, written.zero_clusters, written.image_size
        ));
    }
    if args.verbose && report.base.is_some() {
        lines.push(format!("clusters as in the base: {}", written.unchanged_clusters));
    }
    if let (true, Some(codec)) = (args.verbose, args.codec()) {
        lines.push(format!(
            "compressed by {}, level {}: {} clusters into {} bytes; {} of them share the stream of another",
            codec.compression().name(),
            codec.level(),
            written.compressed_clusters,
            written.stream_bytes,
            written.shared_clusters
        ));
    }
    lines
}

/// What was imaged, and how much of it is what: `source (3.00 MiB data)`, `partition 2 (ext4): 3.00 MiB data`.
fn imaged(report: &Report) -> String {
    let states = states([report.data, report.metadata, report.zeros, report.free]);
    match &report.volume {
        Some(volume) => format!("{}: {states}", escaped(&volume.to_string())),
        None => format!("source ({states})"),
    }
}

/// How much is what, as far as there is any.
fn states([data, metadata, zeros, free]: [u64; 4]) -> String {
    let all = [
        (data, "data"),
        (metadata, "metadata"),
        (zeros, "zeros"),
        (free, "free"),
    ];
    let all: Vec<_> = all
        .into_iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, state)| format!("{} {state}", BinaryBytes(bytes)))
        .collect();
    if all.is_empty() {
        "no data".to_owned()
    } else {
        all.join(", ")
    }
}

/// A range that could not be read when the image was made that is the source.
pub(super) fn unreadable_before(range: &Range<u64>) -> String {
    format!(
        "unreadable when it was made: {} bytes at {:#x} of the disk, zeros in both images",
        length(range),
        range.start
    )
}

/// An unreadable range.
pub(super) fn unreadable(range: &Range<u64>) -> String {
    format!(
        "unreadable: {} bytes at {:#x}, zeros in the image",
        length(range),
        range.start
    )
}

/// The first lines of a plan: what is read and what it will become.
fn summary(out: &mut dyn Write, args: &Create, plan: &Plan<'_>) -> io::Result<()> {
    let kind = match plan.kind {
        Kind::RegularFile => "regular file",
        Kind::BlockDevice => "block device",
        Kind::Image => "disk image",
    };
    let (source, size) = (shown(&args.source), plan.size);
    let counts =
        [State::Data, State::Metadata, State::Zeros, State::Free].map(|state| plan.allocation.bytes(state));
    let (image, image_size) = (shown(args.shown_image()), plan.image_size);
    let human = BinaryBytes;
    let volume = plan
        .volume
        .map(|volume| format!("{} of a ", escaped(&volume.to_string())));
    let volume = volume.unwrap_or_default();
    writeln!(
        out,
        "{source}: {volume}{kind}, {size} bytes ({}): {}",
        human(size),
        states(counts)
    )?;
    if plan.is_exact {
        return writeln!(
            out,
            "{image}: a stream of {image_size} bytes ({})",
            human(image_size)
        );
    }
    let less = match args.codec() {
        _ if plan.base.is_some() => "at most: less where it is as in the base",
        None => "less if some of the data is zeros",
        Some(_) => "less after compression",
    };
    writeln!(out, "{image}: {image_size} bytes ({}), {less}", human(image_size))?;
    if let Some(free) = plan.free_space.filter(|free| *free < plan.room_needed) {
        let needed = plan.room_needed;
        writeln!(
            out,
            "{image}: may not fit, {needed} bytes are needed, {free} ({}) are free",
            human(free)
        )?;
    }
    Ok(())
}

/// The same, and what was recognised in the source.
pub(super) fn outline(out: &mut dyn Write, args: &Create, plan: &Plan<'_>) -> io::Result<()> {
    summary(out, args, plan)?;
    regions::lines(out, &plan.allocation.regions, &plan.allocation.flaws)
}

/// All of a plan.
pub(super) fn plan(out: &mut dyn Write, args: &Create, plan: &Plan<'_>) -> io::Result<()> {
    summary(out, args, plan)?;
    regions::heading(out, &plan.allocation.regions, &plan.allocation.flaws)?;
    let limit = if args.verbose { usize::MAX } else { RANGES };
    let mut pieces = plan.allocation.pieces();
    for piece in pieces.by_ref().take(limit) {
        let state = match piece.state {
            State::Data | State::Metadata => "used",
            State::Zeros => "zeros",
            State::Free => "free",
        };
        writeln!(
            out,
            "{:#014x} {:>16}  {state}: {}",
            piece.range.start,
            length(&piece.range),
            of_plan::because(plan, &piece)
        )?;
    }
    match pieces.count() {
        0 => Ok(()),
        more => writeln!(out, "... and {more} more ranges (-v shows all)"),
    }
}
