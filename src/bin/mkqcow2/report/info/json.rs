//! For scripts: one object, on one line.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::words::{encryption, hex, kind, warnings};
use crate::args::info::Info as Args;
use crate::console;
use crate::report::{ranges, with_causes, with_path};
use mkqcow2::formats::Bases;
use mkqcow2::formats::qcow2::structures::bitmap::Bitmap;
use mkqcow2::formats::qcow2::structures::extensions::Extension;
use mkqcow2::formats::qcow2::structures::features::{self, FeatureKind};
use mkqcow2::formats::qcow2::structures::geometry::L2Form;
use mkqcow2::formats::qcow2::structures::header::Compat;
use mkqcow2::formats::qcow2::structures::identity::BaseIdentity;
use mkqcow2::formats::qcow2::structures::provenance::Provenance;
use mkqcow2::formats::qcow2::structures::snapshot::Snapshot;
use mkqcow2::formats::qcow2::{Freshness, Image};
use mkqcow2::info::{Allocation, ChecksumTable, Feature, Info, RecordState};

/// All that there is. Of snapshots and bitmaps there may be more than fit in memory: they are written one by one.
pub(super) fn info(
    out: &mut dyn Write,
    args: &Args,
    (info, bases): (&Info, &Bases),
    status: u8,
) -> io::Result<()> {
    let (image, header) = (info.image(), info.image().header());
    let geometry = header.geometry();
    let identity = info.recorded().and_then(|record| record.identity);
    let object = json!({
        "status": status,
        "filename": args.image.to_string_lossy(),
        "version": match header.compat() {
            Compat::V0_10 => 2,
            Compat::V1_1 => 3,
        },
        "virtual-size": geometry.size(),
        "file-size": image.file().length(),
        "actual-size": info.bytes_on_disk,
        "cluster-size": geometry.cluster_size(),
        "extended-l2": geometry.l2_form() == L2Form::Extended,
        "refcount-bits": header.refcounts().bits(),
        "compression": header.compression().name(),
        "compressed": info.is_compressed(),
        "encryption": encryption(image),
        "backing-file": backing_file(image),
        "data-file": data_file(image),
        "features": info.features().map(|feature| self::feature(&feature)).collect::<Vec<_>>(),
        "extensions": image.extensions().all.iter().map(extension).collect::<Vec<_>>(),
        "clusters": info.allocation.map(clusters),
        "shared-clusters": info.sharing.map(|sharing| sharing.clusters),
        "shared-bytes": info.sharing.map(|sharing| sharing.bytes),
        "checksums": checksums(info),
        "record": record(info),
        "uuid": identity.map(|identity| identity.uuid.to_string()),
        "digest": identity.and_then(|identity| identity.disk).map(|digest| hex(&digest)),
        "base": info.recorded().and_then(|record| record.base).map(base),
        "provenance": info.provenance().map(provenance),
        "bases": bases.images.iter().map(behind).collect::<Vec<_>>(),
        "base-error": bases.fault.as_ref().map(with_path),
        "warnings": warnings(info).collect::<Vec<_>>(),
        "errors": info.faults.iter().map(with_causes).collect::<Vec<_>>(),
    });
    let object = console::json(&object);
    write!(out, "{}", object.strip_suffix('}').unwrap_or(&object))?;
    list(
        out,
        "snapshots",
        image.snapshots().map_while(Result::ok),
        snapshot,
    )?;
    list(out, "bitmaps", image.bitmaps().map_while(Result::ok), bitmap)?;
    writeln!(out, "}}")
}

pub(super) fn clusters(allocation: Allocation) -> Value {
    json!({
        "data": allocation.data,
        "compressed": allocation.compressed,
        "zeros": allocation.zeros,
        "unallocated": allocation.unallocated,
    })
}

fn list<T>(
    out: &mut dyn Write,
    name: &str,
    items: impl Iterator<Item = T>,
    object: impl Fn(&T) -> Value,
) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    for (number, item) in items.enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}{}", console::json(&object(&item)))?;
    }
    write!(out, "]")
}

fn backing_file(image: &Image) -> Option<Value> {
    let name = image.backing_name()?;
    Some(json!({
        "name": name.to_string_lossy(),
        "format": image.extensions().backing_format,
    }))
}

fn data_file(image: &Image) -> Option<Value> {
    let name = image.extensions().data_file.as_ref();
    image.header().needs(features::DATA_FILE).then(|| {
        json!({
            "name": name.map(|name| name.to_string_lossy()),
            "raw": image.header().features().has(FeatureKind::Autoclear, features::RAW_DATA_FILE),
        })
    })
}

pub(super) fn feature(feature: &Feature) -> Value {
    json!({"kind": kind(feature.kind), "bit": feature.bit, "name": feature.name})
}

fn extension(extension: &Extension) -> Value {
    json!({
        "number": extension.kind,
        "name": extension.name(),
        "host-offset": extension.at.0,
        "length": extension.length,
    })
}

fn checksums(info: &Info) -> Option<Value> {
    let (state, clusters) = match &info.checksums {
        ChecksumTable::None => return None,
        ChecksumTable::Damaged => ("damaged", None),
        ChecksumTable::Lost(_) => ("lost", None),
        ChecksumTable::Whole(clusters) => {
            let state = match info.image().freshness() {
                Freshness::Unchanged => "unchanged",
                Freshness::Changed => "changed",
                Freshness::Unknown => "unknown",
                Freshness::Doubtful => "doubtful",
            };
            (state, Some(*clusters))
        }
    };
    Some(json!({"state": state, "clusters": clusters, "digests": info.has_digests}))
}

fn record(info: &Info) -> Option<Value> {
    let (state, record) = match &info.record {
        RecordState::None => return None,
        RecordState::Holds(record) => ("unchanged", Some(record)),
        RecordState::Stale(record) => ("changed", Some(record)),
        RecordState::Lost => ("lost", None),
        RecordState::Damaged => ("damaged", None),
    };
    // Of an incremental image, most of the data is elsewhere.
    let is_whole = record.is_some_and(|record| record.base.is_none());
    let content = info.content().filter(|_| is_whole);
    let free = info.content().map(|content| content.free);
    Some(json!({
        "state": state,
        "data": content.map(|content| content.data),
        "zeros": content.map(|content| content.zeros),
        "free": free,
        "sector-size": record.and_then(|record| record.sector_size),
        "unreadable": ranges(record.map(|record| record.unreadable.as_slice()).unwrap_or_default()),
    }))
}

fn base(base: BaseIdentity) -> Value {
    json!({
        "uuid": base.identity.uuid.to_string(),
        "virtual-size": base.size,
        "digest": base.identity.disk.map(|digest| hex(&digest)),
    })
}

/// An image that it stands on.
fn behind((path, image): &(PathBuf, Image)) -> Value {
    let record = image.record().ok().flatten();
    let identity = record.as_ref().and_then(|record| record.identity);
    let made = record.as_ref().and_then(|record| record.provenance.as_ref());
    json!({
        "filename": path.to_string_lossy(),
        "file-size": image.file().length(),
        "virtual-size": image.header().geometry().size(),
        "uuid": identity.map(|identity| identity.uuid.to_string()),
        "made": made.and_then(|provenance| provenance.made),
    })
}

fn provenance(provenance: &Provenance) -> Value {
    json!({
        "made": provenance.made,
        "host": provenance.host,
        "source": provenance.source,
        "model": provenance.model,
        "serial": provenance.serial,
        "version": provenance.version,
    })
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "date-sec": snapshot.date.0,
        "date-nsec": snapshot.date.1,
        "vm-clock-nsec": snapshot.vm_clock,
        "vm-state-size": snapshot.vm_state_size,
        "disk-size": snapshot.disk_size,
    })
}

fn bitmap(bitmap: &Bitmap) -> Value {
    json!({
        "name": bitmap.name,
        "granularity": 1_u64.checked_shl(bitmap.granularity_bits.into()),
        "in-use": bitmap.in_use,
        "auto": bitmap.auto,
    })
}
