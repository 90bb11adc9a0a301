//! What `mkqcow2 map` tells.

use std::process::ExitCode;

use super::{answer, because};
use crate::args::map::Map as Args;
use crate::console::say_of;
use mkqcow2::Result;
use mkqcow2::map::{Content, Map, Region};
use mkqcow2::units::{HostOffset, length};

/// All ranges, one by one: there may be millions.
pub(crate) fn map(args: &Args, map: &Map) -> Result<ExitCode> {
    if let Map::Image(map) = map {
        for image in map.disk().images() {
            for remark in image.remarks() {
                say_of(image.file().path(), &format!("warning: {remark}"));
            }
        }
    }
    let mut failed = None;
    let status = answer::<Args>(0, |out| {
        let (opening, comma, closing) = if args.json {
            ("[", ",\n", "]\n")
        } else {
            ("", "", "")
        };
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
            let text = if args.json { object(&region) } else { line(&region) };
            write!(out, "{separator}{text}")?;
            separator = comma;
        }
        write!(out, "{closing}")
    });
    failed.map_or(Ok(status), Err)
}

fn line(region: &Region) -> String {
    let depth = match (region.depth, region.content) {
        // What is nowhere is in none of the files.
        (0, _) | (_, Content::Unallocated(_)) => String::new(),
        (depth, _) => format!(", backing file {depth}"),
    };
    let words = words(region.content);
    let (start, length) = (region.range.start, length(&region.range));
    format!("{start:#014x} {length:>16}  {words}{depth}\n")
}

fn words(content: Content) -> String {
    match content {
        Content::Unallocated(None) => "unallocated".to_owned(),
        Content::Unallocated(Some(HostOffset(at))) => format!("unallocated at {at:#x}"),
        Content::Zeros(None) => "zeros".to_owned(),
        Content::Zeros(Some(HostOffset(at))) => format!("zeros at {at:#x}"),
        Content::Data(HostOffset(at)) => format!("data at {at:#x}"),
        Content::Preallocated(HostOffset(at)) => format!("preallocated at {at:#x}"),
        Content::Compressed(HostOffset(at)) => format!("compressed at {at:#x}"),
        Content::Used(reason) => format!("used: {}", because(Some(reason))),
        Content::Free => format!("free: {}", because(None)),
    }
}

/// The fields of `qemu-img map --output=json`, and for a raw disk the reason.
fn object(region: &Region) -> String {
    let (present, zero, data, compressed, offset) = match region.content {
        Content::Unallocated(at) => (false, true, false, false, at),
        Content::Zeros(at) => (true, true, false, false, at),
        Content::Data(at) => (true, false, true, false, Some(at)),
        Content::Preallocated(at) => (true, true, true, false, Some(at)),
        Content::Compressed(_) => (true, false, true, true, None),
        Content::Used(_) => (true, false, true, false, Some(HostOffset(region.range.start))),
        Content::Free => (true, true, false, false, Some(HostOffset(region.range.start))),
    };
    // Numbers and words of ours, millions of times: there is nothing to escape.
    let (start, length, depth) = (region.range.start, length(&region.range), region.depth);
    let offset = offset.map(|HostOffset(at)| format!(",\"offset\":{at}"));
    let reason = match region.content {
        Content::Used(reason) => Some(because(Some(reason))),
        Content::Free => Some(because(None)),
        Content::Unallocated(_)
        | Content::Zeros(_)
        | Content::Data(_)
        | Content::Preallocated(_)
        | Content::Compressed(_) => None,
    };
    let reason = reason.map(|reason| format!(",\"reason\":\"{reason}\""));
    format!(
        "{{\"start\":{start},\"length\":{length},\"depth\":{depth},\"present\":{present},\"zero\":{zero},\
         \"data\":{data},\"compressed\":{compressed}{}{}}}",
        offset.unwrap_or_default(),
        reason.unwrap_or_default()
    )
}
