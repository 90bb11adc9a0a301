//! What was recognised in a source, where, and what that says of each range.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use indicatif::BinaryBytes;
use serde_json::{Map, Value, json};

use crate::console::escaped;
use mkqcow2::units::Exact;
use mkqcow2::volumes::{Flaw, Part, Reason, Region, State, Treatment};

/// For people: the regions and an empty line, in front of ranges; nothing if there are none.
pub(super) fn heading(out: &mut dyn Write, regions: &[Region], flaws: &[Flaw]) -> io::Result<()> {
    lines(out, regions, flaws)?;
    if regions.is_empty() { Ok(()) } else { writeln!(out) }
}

/// For people: a line a region, with offset and length where those of ranges are. What is wrong with a table stands
/// below what it divides.
pub(super) fn lines(out: &mut dyn Write, regions: &[Region], flaws: &[Flaw]) -> io::Result<()> {
    let mut flaws = flaws.iter();
    for region in regions {
        let (start, length, indent) = (region.start(), region.size(), region.depth.times(2));
        writeln!(out, "{start:#014x} {length:>16}  {:indent$}{}", "", words(region))?;
        if !region.details.is_empty() {
            writeln!(out, "{:33}{:indent$}  {}", "", "", details(region))?;
        }
        for flaw in flaws.by_ref() {
            writeln!(out, "{:33}{}", "", escaped(&flaw.to_string()))?;
        }
    }
    Ok(())
}

/// What tells it apart: `uuid: 3f0c..., cipher: aes-xts-plain64`.
fn details(region: &Region) -> String {
    let details = region.details.iter();
    let details = details.map(|detail| format!("{}: {}", detail.key, escaped(&detail.value)));
    details.collect::<Vec<_>>().join(", ")
}

fn words(region: &Region) -> String {
    let quoted = |label: &str| format!(" \"{}\"", escaped(label));
    let place = region.part.as_ref().map_or_else(
        || "source".to_owned(),
        |part| format!("{part}{}", part.label().map(quoted).unwrap_or_default()),
    );
    let label = region.label.as_deref().map(quoted).unwrap_or_default();
    let name = region.name.map(|name| format!("{name}{label}, "));
    // Holes are used too, if the filesystem uses them. A map of too many ranges counts short gaps as data: then more may
    // be copied than is used, and no holes are told of.
    let holes = match region.used.saturating_sub(region.copied) {
        0 => String::new(),
        holes => format!(" ({} of it holes)", BinaryBytes(holes)),
    };
    let wrong = region
        .missing()
        .map_or_else(String::new, |missing| format!("; {missing}"));
    let how = match (&region.treatment, name) {
        (Treatment::Partitioned | Treatment::Grouped | Treatment::Mapped | Treatment::Corrected(_), name) => {
            format!(
                "{}{} in use{holes}, {} free{wrong}",
                name.unwrap_or_default(),
                BinaryBytes(region.used),
                BinaryBytes(region.free())
            )
        }
        (Treatment::Unknown, None) => format!("nothing recognised, copied whole{holes}"),
        (Treatment::Unknown | Treatment::Whole(_) | Treatment::Doubted(_), name) => {
            let (name, why) = (name.unwrap_or_default(), region.why_whole().unwrap_or_default());
            format!("{name}copied whole{holes}: {}", escaped(&why))
        }
    };
    format!("{place}: {how}")
}

/// For scripts: an object a region, what holds others in front of them. What is wrong with a table is in that of what
/// it divides, if anything is.
pub(super) fn objects(regions: &[Region], flaws: &[Flaw]) -> Vec<Value> {
    let mut objects: Vec<_> = regions.iter().map(object).collect();
    if let (Some(Value::Object(disk)), false) = (objects.first_mut(), flaws.is_empty()) {
        disk.insert("flaws".to_owned(), flaws.iter().map(flaw).collect());
    }
    objects
}

fn flaw(flaw: &Flaw) -> Value {
    json!({"code": flaw.name(), "start": flaw.offset(), "message": flaw.to_string()})
}

fn object(region: &Region) -> Value {
    let details = region.details.iter();
    let details: Map<_, _> = details
        .map(|detail| (detail.key.to_owned(), Value::from(&*detail.value)))
        .collect();
    json!({
        "start": region.start(),
        "length": region.size(),
        "depth": region.depth,
        "parent": region.parent,
        "partition": region.part.as_ref().and_then(Part::number),
        "partition-label": partition_label(region),
        "logical-volume": logical_volume(region),
        "name": region.name,
        "label": region.label,
        "details": details,
        "used": region.used,
        "free": region.free(),
        "copied": region.copied,
        "metadata": region.metadata,
        "treatment": match region.treatment {
            Treatment::Partitioned => "partitioned",
            Treatment::Grouped => "grouped",
            Treatment::Mapped => "mapped",
            Treatment::Corrected(_) => "corrected",
            Treatment::Unknown | Treatment::Whole(_) | Treatment::Doubted(_) => "whole",
        },
        "why": region.missing().map_or_else(|| region.why_whole(), |missing| Some(missing.to_string())),
    })
}

/// For scripts: what a region is, where nothing is known of what is in use.
pub(super) fn name(region: &Region) -> Value {
    json!({
        "start": region.start(),
        "length": region.size(),
        "partition": region.part.as_ref().and_then(Part::number),
        "partition-label": partition_label(region),
        "logical-volume": logical_volume(region),
        "name": region.name,
        "label": region.label,
    })
}

/// The label that the table gives a partition.
pub(super) fn partition_label(region: &Region) -> Option<&str> {
    match &region.part {
        Some(Part::Partition { label, .. }) => label.as_deref(),
        Some(Part::LogicalVolume { .. } | Part::ArrayData) | None => None,
    }
}

/// The name of a logical volume.
pub(super) fn logical_volume(region: &Region) -> Option<&str> {
    match &region.part {
        Some(Part::LogicalVolume { name }) => Some(name),
        Some(Part::Partition { .. } | Part::ArrayData) | None => None,
    }
}

/// Why a range of a source is in use, or free. All of the words are ours: there is nothing to escape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Because<'a> {
    /// What it is.
    pub(super) state: State,
    /// Why it is in use, if it is.
    pub(super) reason: Option<Reason>,
    /// The innermost region that holds it.
    pub(super) region: Option<&'a Region>,
}

impl Display for Because<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_grouped = self
            .region
            .is_some_and(|region| matches!(region.treatment, Treatment::Grouped));
        let mapped = self.region.filter(|region| {
            matches!(
                region.treatment,
                Treatment::Grouped | Treatment::Mapped | Treatment::Corrected(_)
            )
        });
        let name = mapped.and_then(|region| region.name);
        if self.state == State::Zeros {
            let nothing_more = matches!(self.reason, Some(Reason::Data | Reason::Unknown));
            f.write_str(if nothing_more { "hole" } else { "hole, " })?;
            if nothing_more {
                return Ok(());
            }
        }
        match (self.reason, name) {
            (Some(Reason::Data), _) => f.write_str("data"),
            (Some(Reason::Unknown), _) => f.write_str("free space not known"),
            (Some(Reason::Unpartitioned), _) => f.write_str(if is_grouped {
                "outside of all volumes"
            } else {
                "outside of all partitions"
            }),
            (Some(Reason::Metadata), Some(name)) => write!(f, "metadata of {name}"),
            (Some(Reason::Metadata), None) => f.write_str("metadata"),
            (Some(Reason::Mapped), Some(name)) => write!(f, "in use by {name}"),
            (Some(Reason::Mapped), None) => f.write_str("in use"),
            (Some(Reason::Behind), Some(name)) => write!(f, "past the end of {name}"),
            (Some(Reason::Behind), None) => f.write_str("past the end of the filesystem"),
            (None, Some(name)) => write!(f, "unused by {name}"),
            (None, None) => f.write_str("unused"),
        }
    }
}
