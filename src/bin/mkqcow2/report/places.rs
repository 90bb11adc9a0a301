//! Where on the disk in an image something was found, in words and for scripts.

use std::ops::Range;
use std::path::Path;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use crate::console::escaped;
use crate::report::regions::{logical_volume, partition_label};
use mkqcow2::Access;
use mkqcow2::disk::{Force, Open};
use mkqcow2::formats::{self, Format, Opening, Overlap, TakenFor};
use mkqcow2::units::length;
use mkqcow2::volumes::{Part, Place, Places, Region};

/// What lies where on the disk in an image; none if that cannot be found out, which is no failure.
pub(crate) fn of_image(image: &Path, format: Option<Format>, access: Access) -> Option<Places> {
    let opening = Opening {
        format,
        taken_for: TakenFor::Image,
        access,
        open: Open {
            force: Force::Yes,
            is_for_a_look: true,
            ..Open::default()
        },
        // Whether it may be read was decided before.
        overlap: Overlap::Read,
    };
    let disk = formats::open(image, &opening).ok()?;
    Some(Places::of(&disk))
}

/// How much of the disk is what, where, and in what: `64.00 KiB damaged at 0x110000 of the disk (partition 1, ext4)`.
pub(crate) fn words(what: &str, range: &Range<u64>, places: Option<&Places>) -> String {
    let (size, start) = (BinaryBytes(length(range)), range.start);
    let place = place(range, places).map_or_else(String::new, |place| format!(" ({place})"));
    format!("{size} {what} at {start:#x} of the disk{place}")
}

/// What a range lies in, if that is known. It may hold text of the image, which is escaped.
pub(crate) fn place(range: &Range<u64>, places: Option<&Places>) -> Option<String> {
    Some(match places?.of_range(range)? {
        Place::Between => "outside of all partitions".to_owned(),
        Place::Region(region) => of_region(region),
    })
}

fn of_region(region: &Region) -> String {
    let Some(part) = &region.part else {
        return region.name.unwrap_or_default().to_owned();
    };
    let label = part.label().or(region.label.as_deref());
    let label = label.map_or_else(String::new, |label| format!(" \"{}\"", escaped(label)));
    let name = region.name.map_or_else(String::new, |name| format!(", {name}"));
    format!("{part}{label}{name}")
}

/// For scripts: null if it is not known.
pub(crate) fn object(range: Option<&Range<u64>>, places: Option<&Places>) -> Value {
    let place = range
        .zip(places)
        .and_then(|(range, places)| places.of_range(range));
    match place {
        Some(Place::Region(region)) => {
            json!({
                "partition": region.part.as_ref().and_then(Part::number),
                "partition-label": partition_label(region),
                "logical-volume": logical_volume(region),
                "name": region.name,
                "label": region.label,
            })
        }
        Some(Place::Between) | None => Value::Null,
    }
}
