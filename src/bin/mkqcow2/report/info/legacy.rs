//! Of QCOW version 1 and QED.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{date, json as of_qcow2, text as shown_as};
use crate::args::info::Info as Args;
use crate::console::{self, shown};
use crate::report::with_causes;
use mkqcow2::formats::legacy::{LegacyHeader, LegacyImage};
use mkqcow2::info::{Feature, LegacyInfo};

/// What is worth knowing, but no fault.
pub(super) fn warning(info: &LegacyInfo) -> Option<String> {
    let remark = info.image().remark()?;
    // It says that the tables are right.
    info.fault.is_none().then(|| remark.to_string())
}

/// A line for each thing there is to say.
pub(super) fn text(out: &mut dyn Write, args: &Args, info: &LegacyInfo) -> io::Result<()> {
    let image = info.image();
    let name = match image.header() {
        LegacyHeader::Qcow { .. } => "qcow version 1",
        LegacyHeader::Qed { .. } => "qed",
    };
    writeln!(out, "{}: {name}", shown(&args.image))?;
    let mut line = |name: &str, value: String| writeln!(out, "{name:<18} {value}");
    line("virtual size", shown_as::bytes(image.size()))?;
    line("file size", shown_as::bytes(image.file().length()))?;
    line("on disk", shown_as::bytes(info.bytes_on_disk))?;
    line("cluster size", shown_as::bytes(image.cluster_size()))?;
    match image.header() {
        LegacyHeader::Qcow { .. } => line("L2 entries", image.l2_entries().to_string())?,
        LegacyHeader::Qed { table_size, .. } => line("table size", clusters(*table_size))?,
    }
    line("encryption", encryption(image).unwrap_or("none").to_owned())?;
    let backing = image.backing_name().map(|name| name.to_string_lossy());
    line(
        "backing file",
        shown_as::backing_file(backing.as_deref(), image.backing_format()),
    )?;
    if let Some(mtime) = mtime(image) {
        line("backing changed", date::utc(mtime))?;
    }
    for feature in image.header().features() {
        line("feature", shown_as::feature(&feature))?;
    }
    match info.allocation {
        Some(allocation) => shown_as::clusters(allocation, &mut line),
        None => Ok(()),
    }
}

fn clusters(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} cluster{plural}")
}

fn encryption(image: &LegacyImage) -> Option<&'static str> {
    matches!(
        image.header(),
        LegacyHeader::Qcow {
            is_encrypted: true,
            ..
        }
    )
    .then_some("AES")
}

fn mtime(image: &LegacyImage) -> Option<u32> {
    match image.header() {
        LegacyHeader::Qcow { mtime, .. } => *mtime,
        LegacyHeader::Qed { .. } => None,
    }
}

/// One object, on one line. What both have has the name that it has for qcow2.
pub(super) fn json(out: &mut dyn Write, args: &Args, info: &LegacyInfo, status: u8) -> io::Result<()> {
    let image = info.image();
    let features: Vec<Feature> = image.header().features().collect();
    let mut object = json!({
        "status": status,
        "filename": args.image.to_string_lossy(),
        "format": image.format().name(),
        "virtual-size": image.size(),
        "file-size": image.file().length(),
        "actual-size": info.bytes_on_disk,
        "cluster-size": image.cluster_size(),
        "l2-entries": image.l2_entries(),
        "encryption": encryption(image),
        "backing-file": image.backing_name().map(|name| json!({
            "name": name.to_string_lossy(),
            "format": image.backing_format(),
        })),
        "features": features.iter().map(of_qcow2::feature).collect::<Vec<_>>(),
        "clusters": info.allocation.map(of_qcow2::clusters),
        "checksums": null,
        "warnings": warning(info).into_iter().collect::<Vec<_>>(),
        "errors": info.fault.iter().map(with_causes).collect::<Vec<_>>(),
    });
    let own = match image.header() {
        LegacyHeader::Qcow { mtime, .. } => [("version", Value::from(1)), ("mtime", Value::from(*mtime))],
        LegacyHeader::Qed { table_size, .. } => {
            [("version", Value::Null), ("table-size", Value::from(*table_size))]
        }
    };
    if let Some(object) = object.as_object_mut() {
        object.extend(own.map(|(key, value)| (key.to_owned(), value)));
    }
    writeln!(out, "{}", console::json(&object))
}
