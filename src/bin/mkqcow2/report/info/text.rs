//! For people.

use std::io::{self, Write};
use std::path::PathBuf;

use indicatif::BinaryBytes;

use super::date;
use super::words::{encryption, hex, kind};
use crate::args::info::Info as Args;
use crate::console::{escaped, shown};
use mkqcow2::formats::Bases;
use mkqcow2::formats::qcow2::structures::bitmap::Bitmap;
use mkqcow2::formats::qcow2::structures::extensions::Extension;
use mkqcow2::formats::qcow2::structures::features;
use mkqcow2::formats::qcow2::structures::geometry::L2Form;
use mkqcow2::formats::qcow2::structures::header::Compat;
use mkqcow2::formats::qcow2::structures::provenance::Provenance;
use mkqcow2::formats::qcow2::structures::snapshot::Snapshot;
use mkqcow2::formats::qcow2::{Freshness, Image, Record};
use mkqcow2::info::{Allocation, ChecksumTable, Feature, Info, RecordState, Sharing};
use mkqcow2::units::length;

/// A line for each thing there is to say.
pub(super) fn info(out: &mut dyn Write, args: &Args, info: &Info, bases: &Bases) -> io::Result<()> {
    let image = info.image();
    let version = match image.header().compat() {
        Compat::V0_10 => "version 2, compat 0.10",
        Compat::V1_1 => "version 3, compat 1.1",
    };
    writeln!(out, "{}: qcow2 {version}", shown(&args.image))?;
    let mut line = |name: &str, value: String| writeln!(out, "{name:<18} {value}");
    layout(info, &mut line)?;
    files(image, &mut line)?;
    for feature in info.features() {
        line("feature", self::feature(&feature))?;
    }
    for extension in &image.extensions().all {
        line("header extension", self::extension(extension))?;
    }
    if let Some(allocation) = info.allocation {
        clusters(allocation, &mut line)?;
    }
    if let Some(sharing) = info.sharing.filter(|sharing| sharing.clusters > 0) {
        line("shared clusters", shared(sharing))?;
    }
    line("checksums", checksums(info))?;
    content(info, &mut line)?;
    if let Some(record) = info.recorded() {
        identity(record, &mut line)?;
    }
    if let Some(provenance) = info.provenance() {
        self::provenance(provenance, &mut line)?;
    }
    for (number, base) in bases.images.iter().enumerate() {
        let name = if number == 0 { "stands on" } else { "" };
        line(name, self::base(base))?;
    }
    // They were all readable a moment ago, or are among the faults.
    for snapshot in image.snapshots().map_while(Result::ok) {
        line("snapshot", self::snapshot(&snapshot))?;
    }
    for bitmap in image.bitmaps().map_while(Result::ok) {
        line("bitmap", self::bitmap(&bitmap))?;
    }
    Ok(())
}

pub(super) fn clusters(allocation: Allocation, line: &mut Line<'_>) -> io::Result<()> {
    line("clusters", format!("{} data", allocation.data))?;
    line("", format!("{} compressed", allocation.compressed))?;
    line("", format!("{} zeros", allocation.zeros))?;
    line("", format!("{} unallocated", allocation.unallocated))
}

pub(super) type Line<'a> = dyn FnMut(&str, String) -> io::Result<()> + 'a;

fn layout(info: &Info, line: &mut Line<'_>) -> io::Result<()> {
    let header = info.image().header();
    let geometry = header.geometry();
    line("virtual size", bytes(geometry.size()))?;
    line("file size", bytes(info.image().file().length()))?;
    line("on disk", bytes(info.bytes_on_disk))?;
    line("cluster size", bytes(geometry.cluster_size()))?;
    if geometry.l2_form() == L2Form::Extended {
        line("subcluster size", bytes(geometry.subcluster_size()))?;
    }
    line("refcounts", format!("{} bits", header.refcounts().bits()))?;
    line("compression", compression(info))?;
    line(
        "encryption",
        encryption(info.image()).unwrap_or("none").to_owned(),
    )
}

/// How clusters are compressed, if any is. Those of snapshots are not counted.
fn compression(info: &Info) -> String {
    let header = info.image().header();
    let method = header.compression().name();
    match info.is_compressed() {
        Some(true) => method.to_owned(),
        Some(false) if header.snapshots().entries == 0 => "none".to_owned(),
        Some(false) => format!("none, or {method} in snapshots"),
        None => format!("{method}, if any cluster is compressed"),
    }
}

fn files(image: &Image, line: &mut Line<'_>) -> io::Result<()> {
    let backing = image.backing_name().map(|name| name.to_string_lossy());
    let format = image.extensions().backing_format.as_deref();
    line("backing file", backing_file(backing.as_deref(), format))?;
    let data_file = image.extensions().data_file.as_ref();
    if image.header().needs(features::DATA_FILE) {
        let name = data_file.map(|name| format!("\"{}\"", escaped(&name.to_string_lossy())));
        line("data file", name.unwrap_or_else(|| "not named".to_owned()))?;
    }
    Ok(())
}

pub(super) fn backing_file(name: Option<&str>, format: Option<&str>) -> String {
    match (name, format) {
        (None, _) => "none".to_owned(),
        (Some(name), None) => format!("\"{}\", format not recorded", escaped(name)),
        (Some(name), Some(format)) => format!("\"{}\", {}", escaped(name), escaped(format)),
    }
}

pub(super) fn feature(feature: &Feature) -> String {
    let (kind, bit) = (kind(feature.kind), feature.bit);
    match &feature.name {
        Some(name) => format!("{kind} bit {bit}, \"{}\"", escaped(name)),
        None => format!("{kind} bit {bit}"),
    }
}

fn extension(extension: &Extension) -> String {
    let (number, length) = (extension.kind, extension.length);
    match extension.name() {
        Some(name) => format!("{number:#010x}, {name}, {length} bytes"),
        None => format!("{number:#010x}, unknown, {length} bytes"),
    }
}

fn shared(sharing: Sharing) -> String {
    format!("{}, saving about {}", sharing.clusters, bytes(sharing.bytes))
}

/// How much of the disk is what, and what else is recorded of the source.
fn content(info: &Info, line: &mut Line<'_>) -> io::Result<()> {
    let record = info.recorded();
    match (info.content(), &info.record) {
        (Some(_), _) if record.is_some_and(|record| record.base.is_some()) => {
            let free = record.map_or(0, Record::free_bytes);
            line("free", bytes(free))?;
        }
        (Some(content), _) => {
            line("disk", format!("{} data", bytes(content.data)))?;
            line("", format!("{} zeros", bytes(content.zeros)))?;
            line("", format!("{} free", bytes(content.free)))?;
        }
        (None, RecordState::None) => line("free", "not recorded".to_owned())?,
        (None, RecordState::Stale(_) | RecordState::Lost) => {
            line("free", "not known, written to since".to_owned())?;
        }
        (None, RecordState::Holds(_) | RecordState::Damaged) => line("free", "not known".to_owned())?,
    }
    if let Some(size) = record.and_then(|record| record.sector_size) {
        line("sector size", format!("{size}, of the source"))?;
    }
    for range in record
        .map(|record| record.unreadable.as_slice())
        .unwrap_or_default()
    {
        let unreadable = format!("{} bytes at {:#x} when it was made", length(range), range.start);
        line("unreadable", unreadable)?;
    }
    Ok(())
}

/// Which image it is, and which one it stands on.
fn identity(record: &Record, line: &mut Line<'_>) -> io::Result<()> {
    if let Some(identity) = record.identity {
        line("uuid", identity.uuid.to_string())?;
        if let Some(digest) = &identity.disk {
            line("digest", format!("{}, of the disk", hex(digest)))?;
        }
    }
    if let Some(base) = record.base {
        line("base uuid", base.identity.uuid.to_string())?;
    }
    Ok(())
}

/// An image that it stands on, with its size and date.
fn base((path, image): &(PathBuf, Image)) -> String {
    let size = BinaryBytes(image.file().length());
    let made = made(image).map(|made| format!(", made {made}"));
    let behind = if image.backing_name().is_none() {
        ", full"
    } else {
        ""
    };
    format!("{}, {size}{}{behind}", shown(path), made.unwrap_or_default())
}

fn made(image: &Image) -> Option<String> {
    let made = image.record().ok()??.provenance?.made?;
    u32::try_from(made).ok().map(date::utc)
}

/// Where the image comes from. All of it was in the file: nothing is believed to be short, or text for a terminal.
fn provenance(provenance: &Provenance, line: &mut Line<'_>) -> io::Result<()> {
    if let Some(made) = provenance.made {
        let date = u32::try_from(made).map(date::utc);
        line(
            "made",
            date.unwrap_or_else(|_| format!("{made} seconds after 1970")),
        )?;
    }
    for (name, text) in [
        ("by mkqcow2", &provenance.version),
        ("host", &provenance.host),
        ("source", &provenance.source),
        ("model", &provenance.model),
        ("serial", &provenance.serial),
    ] {
        if let Some(text) = text {
            line(name, escaped(text))?;
        }
    }
    Ok(())
}

fn checksums(info: &Info) -> String {
    match &info.checksums {
        ChecksumTable::None => "none".to_owned(),
        ChecksumTable::Damaged => "damaged".to_owned(),
        ChecksumTable::Lost(_) => "lost".to_owned(),
        ChecksumTable::Whole(clusters) => {
            let state = match info.image().freshness() {
                Freshness::Unchanged => "not written to since",
                Freshness::Changed => "written to since",
                Freshness::Unknown => "perhaps written to since: version 2 does not record that",
                Freshness::Doubtful => "written to since without a mark, or damaged",
            };
            let plural = if *clusters == 1 { "" } else { "s" };
            let digests = if info.has_digests { " with digests" } else { "" };
            format!("of {clusters} cluster{plural}{digests}, {state}")
        }
    }
}

fn snapshot(snapshot: &Snapshot) -> String {
    let (id, name) = (escaped(&snapshot.id), escaped(&snapshot.name));
    let size = snapshot.disk_size.map(|size| format!(", disk {}", bytes(size)));
    format!(
        "{id} \"{name}\", {}{}, VM state {}",
        date::utc(snapshot.date.0),
        size.unwrap_or_default(),
        bytes(snapshot.vm_state_size)
    )
}

fn bitmap(bitmap: &Bitmap) -> String {
    let name = escaped(&bitmap.name);
    let granularity = match 1_u64.checked_shl(bitmap.granularity_bits.into()) {
        Some(granularity) => bytes(granularity),
        None => format!("2^{}", bitmap.granularity_bits),
    };
    let in_use = if bitmap.in_use {
        ", in use or not saved properly"
    } else {
        ""
    };
    let auto = if bitmap.auto { ", recording" } else { "" };
    format!("\"{name}\", granularity {granularity}{auto}{in_use}")
}

pub(super) fn bytes(bytes: u64) -> String {
    format!("{bytes} ({})", BinaryBytes(bytes))
}
