//! What was recognised in a source, and where.

use serde_json::{Value, json};

use mkqcow2::allocation::{Region, Treatment};
use mkqcow2::units::length;

/// For scripts: an object a region, what holds others in front of them.
pub(super) fn objects(regions: &[Region]) -> Value {
    regions.iter().map(object).collect()
}

fn object(region: &Region) -> Value {
    let (number, label) = match &region.part {
        Some((number, label)) => (Some(number), label.as_ref()),
        None => (None, None),
    };
    json!({
        "start": region.range.start,
        "length": length(&region.range),
        "depth": region.depth,
        "partition": number,
        "partition-label": label,
        "name": region.name,
        "label": region.label,
        "used": region.used,
        "free": region.free(),
        "treatment": match region.treatment {
            Treatment::Partitioned => "partitioned",
            Treatment::Mapped => "mapped",
            Treatment::Unknown | Treatment::Doubted(_) => "whole",
        },
        "why": region.why_whole(),
    })
}
