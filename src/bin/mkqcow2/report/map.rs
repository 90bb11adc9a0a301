//! What `mkqcow2 map` tells.

use std::process::ExitCode;

use super::answer;
use super::regions::{self, Because};
use crate::args::map::Map as Args;
use crate::console::{json, say_of};
use mkqcow2::disk::Disk;
use mkqcow2::map::{Map, Region, Stored};
use mkqcow2::units::{HostOffset, length};
use mkqcow2::volumes::{self, Flaw, Reason, State, Wanted};
use mkqcow2::{Result, Warning};

/// Why no regions are told of a disk to which another program may write.
const NOT_LOOKED_INTO: &str = "not examined, so free blocks count as used";

/// All ranges, one by one: there may be millions.
pub(crate) fn map(args: &Args, map: &Map) -> Result<ExitCode> {
    // In the disk of an image only if that is asked for: all that it takes to read it may not be there.
    let in_image = match map {
        Map::Image(map) if args.regions => Some(map.recognise()?),
        Map::Image(_) | Map::Raw(_) => None,
    };
    let allocation = match map {
        Map::Image(_) => in_image.as_ref(),
        Map::Raw(map) => Some(&map.allocation),
    };
    let recognised = allocation.map_or(&[][..], |allocation| &allocation.regions);
    let flaws = allocation.map_or(&[][..], |allocation| &allocation.flaws);
    warn(args, map);
    for flaw in flaws {
        say_of(&args.path, &format!("warning: {flaw}"));
    }
    // They are of the disk, not of a volume of it.
    let flaws = match args.bytes.wanted() {
        Wanted::Volume(_) => &[][..],
        Wanted::Whole | Wanted::Section(_) => flaws,
    };
    if args.regions {
        return Ok(only_regions(args, recognised, flaws));
    }
    let mut failed = None;
    let status = answer::<Args>(0, |out| {
        let (opening, comma, closing) = if args.json {
            ("[", ",\n", "]\n")
        } else {
            ("", "", "")
        };
        if !args.json {
            regions::heading(out, recognised, flaws)?;
        }
        write!(out, "{opening}")?;
        let mut separator = "";
        for region in map.regions() {
            let region = match region {
                Ok(region) => region,
                // An array stays open, so that nobody takes it for the whole.
                Err(error) => {
                    failed = Some(error);
                    return Ok(());
                }
            };
            let because = because(map, &region);
            let text = if args.json {
                object(&region, because)
            } else {
                line(&region, because)
            };
            write!(out, "{separator}{text}")?;
            separator = comma;
        }
        write!(out, "{closing}")
    });
    failed.map_or(Ok(status), Err)
}

/// What whoever reads the map should know. Nothing is copied of the disk in an image.
fn warn(args: &Args, map: &Map) {
    match map {
        Map::Image(map) => {
            if let Some((path, in_use)) = map.disk().in_use() {
                let what = if args.regions {
                    NOT_LOOKED_INTO
                } else {
                    "data that its tables do not list yet is missing"
                };
                say_of(path, &format!("warning: {in_use}: {what}"));
            }
            for (path, remark) in map.disk().remarks() {
                say_of(path, &format!("warning: {remark}"));
            }
        }
        Map::Raw(map) => {
            if let Some(in_use) = &map.in_use {
                say_of(&args.path, &format!("warning: {in_use}: {NOT_LOOKED_INTO}"));
            }
            for warning in Warning::of_doubts(&map.allocation.regions) {
                say_of(&args.path, &format!("warning: {warning}"));
            }
        }
    }
}

/// What was recognised, and no ranges.
fn only_regions(args: &Args, recognised: &[volumes::Region], flaws: &[Flaw]) -> ExitCode {
    answer::<Args>(0, |out| {
        if !args.json {
            return regions::lines(out, recognised, flaws);
        }
        let objects = regions::objects(recognised, flaws);
        let objects: Vec<_> = objects.iter().map(json).collect();
        writeln!(out, "[{}]", objects.join(",\n"))
    })
}

/// Why a range is in use, or free, if it is one of a raw file or device.
fn because<'a>(map: &'a Map, region: &Region) -> Option<Because<'a>> {
    let Map::Raw(map) = map else { return None };
    let of = |state: State, reason: Option<Reason>| Because {
        state,
        reason,
        region: region
            .within
            .and_then(|within| map.allocation.regions.get(within)),
    };
    match region.content {
        Stored::Used(reason) => Some(of(State::Data, Some(reason))),
        Stored::Hole(reason) => Some(of(State::Zeros, Some(reason))),
        Stored::Free => Some(of(State::Free, None)),
        Stored::Unallocated(_)
        | Stored::Zeros(_)
        | Stored::Data(_)
        | Stored::Preallocated(_)
        | Stored::Compressed(_) => None,
    }
}

fn line(region: &Region, because: Option<Because<'_>>) -> String {
    let depth = match (region.depth, region.content) {
        // What is nowhere is in none of the files.
        (0, _) | (_, Stored::Unallocated(_)) => String::new(),
        (depth, _) => format!(", backing file {depth}"),
    };
    let words = words(region);
    let because = because.map(|because| format!(": {because}")).unwrap_or_default();
    let (start, length) = (region.range.start, length(&region.range));
    format!("{start:#014x} {length:>16}  {words}{because}{depth}\n")
}

fn words(region: &Region) -> String {
    match region.content {
        Stored::Unallocated(None) if region.is_free == Some(true) => "free".to_owned(),
        Stored::Unallocated(None) if region.is_free == Some(false) => "zeros, unallocated".to_owned(),
        Stored::Unallocated(None) => "unallocated".to_owned(),
        Stored::Unallocated(Some(HostOffset(at))) => format!("unallocated at {at:#x}"),
        Stored::Zeros(None) | Stored::Hole(_) => "zeros".to_owned(),
        Stored::Zeros(Some(HostOffset(at))) => format!("zeros at {at:#x}"),
        Stored::Data(HostOffset(at)) => format!("data at {at:#x}"),
        Stored::Preallocated(HostOffset(at)) => format!("preallocated at {at:#x}"),
        Stored::Compressed(HostOffset(at)) => format!("compressed at {at:#x}"),
        Stored::Used(_) => "used".to_owned(),
        Stored::Free => "free".to_owned(),
    }
}

/// The fields of `qemu-img map --output=json`, whether it is free where that is known, and for a raw disk the reason
/// and the region.
fn object(region: &Region, because: Option<Because<'_>>) -> String {
    let (present, zero, data, compressed, offset) = match region.content {
        Stored::Unallocated(at) => (false, true, false, false, at),
        Stored::Zeros(at) => (true, true, false, false, at),
        Stored::Data(at) => (true, false, true, false, Some(at)),
        Stored::Preallocated(at) => (true, true, true, false, Some(at)),
        Stored::Compressed(_) => (true, false, true, true, None),
        Stored::Used(_) => (true, false, true, false, Some(HostOffset(region.range.start))),
        Stored::Hole(_) | Stored::Free => (true, true, false, false, Some(HostOffset(region.range.start))),
    };
    // Numbers and words of ours, millions of times: there is nothing to escape.
    let (start, length, depth) = (region.range.start, length(&region.range), region.depth);
    let offset = offset.map(|HostOffset(at)| format!(",\"offset\":{at}"));
    let free = region.is_free.map(|free| format!(",\"free\":{free}"));
    let reason = because.map(|because| format!(",\"reason\":\"{because}\""));
    let within = region.within.map(|within| format!(",\"region\":{within}"));
    format!(
        "{{\"start\":{start},\"length\":{length},\"depth\":{depth},\"present\":{present},\"zero\":{zero},\
         \"data\":{data},\"compressed\":{compressed}{}{}{}{}}}",
        offset.unwrap_or_default(),
        free.unwrap_or_default(),
        reason.unwrap_or_default(),
        within.unwrap_or_default()
    )
}
