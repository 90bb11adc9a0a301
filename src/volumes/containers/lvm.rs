//! Physical volumes of LVM2. Source: LVM2, `lib/format_text`.
//!
//! The metadata of a volume group says which extents of each of its physical volumes belong to which logical volume;
//! the others are free. A logical volume is looked into if all of it lies here as it is: linear or striped, and no
//! part of anything else. What a snapshot was taken of must be copied whole: the snapshot reads blocks from it that
//! the filesystem in it has freed since.

mod area;
mod checksum;
mod group;
mod label;
mod logical;
mod text;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::units::{Exact, length, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::region::{Detail, Part};
use crate::volumes::scheme::{Found, Group, Reader, Usage, Volume};
use crate::volumes::segments::Segments;
use crate::volumes::view::View;
use group::{Physical, VolumeGroup};
use label::{Label, hyphenated};
use logical::{Logical, Segment, Stripe};
use text::Section;

pub(in crate::volumes) const READER: Reader = Reader { name: "LVM2", read };

/// How many pieces the volumes of a physical volume may lie in together, so that they are looked into: a striped one
/// lies in many.
const MAX_PIECES: u64 = 1 << 18;

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let label = Label::read(view)?;
    let text = metadata(view, &label)?;
    let group = VolumeGroup::of(&text)?;
    let physical = group.physical(&label.uuid)?;
    check_place(view, &label, &physical)?;
    let logical = group.logical()?;
    let claimed = claimed(&group, &physical, &logical)?;
    Ok(Found {
        name: READER.name,
        label: Some(group.name.to_owned()),
        details: vec![
            Detail::new("uuid", hyphenated(&label.uuid)),
            Detail::new("group-uuid", group.uuid),
        ],
        content: Usage::Group(Group {
            volumes: volumes(&physical, &logical),
            free: free(&physical, &claimed),
        }),
    })
}

/// The metadata of the volume group: all copies of it must say the same.
fn metadata(view: View<'_>, label: &Label) -> Result<Section, Doubt> {
    let mut found: Option<Section> = None;
    for area in &label.metadata {
        let Some(text) = area::read(view, area)? else {
            continue;
        };
        match &found {
            // The rest tells when a copy was written.
            Some(other) if !text.sections().eq(other.sections()) => {
                return Err(Doubt::State("the copies of its metadata differ"));
            }
            Some(_) => {}
            None => found = Some(text),
        }
    }
    found.ok_or(Doubt::State(
        "it is in no volume group, or no metadata of that lies here",
    ))
}

/// Makes sure that all extents lie inside, and in nothing that LVM keeps for itself.
fn check_place(view: View<'_>, label: &Label, physical: &Physical) -> Result<(), Doubt> {
    let extents = physical.start..physical.place(physical.extents);
    view.holds("LVM extents", extents.start, length(&extents))?;
    if label.data.is_some_and(|start| start != physical.start) {
        return Err(Doubt::State(
            "its label and its metadata disagree about where extents begin",
        ));
    }
    let mut own = label.metadata.iter().chain(&label.others);
    if own.any(|own| own.start < extents.end && extents.start < own.end) {
        return Err(Doubt::State("LVM's own data lies in its extents"));
    }
    Ok(())
}

/// The extents that logical volumes name, ascending; none of them twice.
fn claimed(
    group: &VolumeGroup<'_>,
    physical: &Physical,
    logical: &[Logical<'_>],
) -> Result<Vec<Range<u64>>, Doubt> {
    let names = logical.iter().map(|volume| volume.name);
    let known: HashSet<_> = group.physical_names().chain(names).collect();
    let mut claimed = Vec::new();
    for volume in logical {
        let fault = |fault| Doubt::Named {
            what: "logical volume",
            name: volume.name.to_owned(),
            fault,
        };
        if volume.stripes().any(|stripe| !known.contains(stripe.on)) {
            return Err(fault("it lies on a volume that is not in its group"));
        }
        let mut special = volume.segments.iter().flat_map(|segment| &segment.names);
        if special.any(|name| *name == physical.name) {
            return Err(fault(
                "it is being moved, or uses the physical volume in an unknown way",
            ));
        }
        let here = volume.stripes().filter(|stripe| stripe.on == physical.name);
        for stripe in here {
            if stripe.extents.end > physical.extents {
                return Err(fault("it reaches past the last extent"));
            }
            claimed.push(stripe.extents.clone());
        }
    }
    claimed.sort_by_key(|extents| (extents.start, extents.end));
    let overlaps = |pair: &[Range<u64>]| matches!(pair, [one, next] if next.start < one.end);
    if claimed.windows(2).any(overlaps) {
        return Err(Doubt::State("two logical volumes have the same extent"));
    }
    Ok(claimed)
}

/// The bytes of the extents that are in no volume.
fn free(physical: &Physical, claimed: &[Range<u64>]) -> Vec<Range<u64>> {
    let ends = std::iter::once(0).chain(claimed.iter().map(|extents| extents.end));
    let starts = claimed.iter().map(|extents| extents.start);
    let starts = starts.chain([physical.extents]);
    let gaps = ends.zip(starts).filter(|(end, start)| end < start);
    gaps.map(|(end, start)| physical.place(end)..physical.place(start))
        .collect()
}

/// The logical volumes, as far as they lie here.
fn volumes(physical: &Physical, logical: &[Logical<'_>]) -> Vec<Volume> {
    let needs = |other| Logical::needs(other).map(move |name| (name, other));
    let needed_by: HashMap<_, _> = logical.iter().flat_map(needs).collect();
    let (mut volumes, mut pieces) = (Vec::new(), 0_u64);
    for volume in logical {
        let mut whole = why_whole(physical, volume, needed_by.get(volume.name).copied());
        let laid = match whole {
            Some(_) => None,
            None => laid_out(physical, volume, MAX_PIECES.minus(pieces)),
        };
        if whole.is_none() && laid.is_none() {
            whole = Some("it lies in too many pieces".to_owned());
        }
        let here = || {
            let stripes = volume.stripes().filter(|stripe| stripe.on == physical.name);
            stripes.map(|stripe| bytes(physical, stripe)).collect()
        };
        let ranges = laid.unwrap_or_else(here);
        // Those that are in none of these have none of them.
        let Some(segments) = Segments::new(ranges).filter(|segments| segments.size() > 0) else {
            continue;
        };
        if whole.is_none() {
            pieces.increase(to_u64(segments.ranges().len()));
        }
        volumes.push(Volume {
            segments,
            part: Part::LogicalVolume {
                name: volume.name.to_owned(),
            },
            details: vec![
                Detail::new("uuid", volume.uuid),
                Detail::new("segments", kinds(volume)),
            ],
            whole,
        });
    }
    volumes
}

fn bytes(physical: &Physical, stripe: &Stripe<'_>) -> Range<u64> {
    physical.place(stripe.extents.start)..physical.place(stripe.extents.end)
}

/// The kinds of a volume's segments, as LVM calls them, each once.
fn kinds(volume: &Logical<'_>) -> String {
    let mut kinds: Vec<_> = volume.segments.iter().map(kind).collect();
    kinds.dedup();
    kinds.join(", ")
}

fn kind<'a>(segment: &Segment<'a>) -> &'a str {
    if segment.stripes.len() == 1 {
        "linear"
    } else {
        segment.kind
    }
}

/// Why what is free in a volume cannot be told, if it cannot. Another volume may need it.
fn why_whole(physical: &Physical, volume: &Logical<'_>, needed_by: Option<&Logical<'_>>) -> Option<String> {
    if let Some(other) = needed_by {
        return Some(match other.special() {
            Some("snapshot") => {
                "it belongs to a snapshot: a snapshot still reads what its origin has freed".to_owned()
            }
            Some(kind) => format!("it is a part of {:?}, which is of type {kind}", other.name),
            None => format!("{:?} lies on it", other.name),
        });
    }
    if let Some(kind) = volume.special() {
        return Some(format!("a segment of it is of type {kind}"));
    }
    if !volume.is_visible || !volume.is_plain {
        return Some("it is hidden or locked, or has an unknown status".to_owned());
    }
    let is_elsewhere = volume.stripes().any(|stripe| stripe.on != physical.name);
    is_elsewhere.then(|| "a part of it lies elsewhere".to_owned())
}

/// Where a volume's bytes lie, in the order of the volume, if in no more than so many pieces.
fn laid_out(physical: &Physical, volume: &Logical<'_>, most: u64) -> Option<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for segment in &volume.segments {
        let Some(stripe_size) = segment.stripe_size else {
            ranges.extend(segment.stripes.iter().map(|stripe| bytes(physical, stripe)));
            continue;
        };
        let step = stripe_size.checked_mul(512)?;
        let stripes: Vec<_> = segment
            .stripes
            .iter()
            .map(|stripe| bytes(physical, stripe))
            .collect();
        // All of them are of one length.
        let each = stripes.first().map_or(0, length);
        let rows = each
            .checked_div(step)
            .filter(|rows| rows.checked_mul(step) == Some(each))?;
        if rows.checked_mul(to_u64(stripes.len()))? > most {
            return None;
        }
        for row in 0..rows {
            let at = row.times(step);
            ranges.extend(stripes.iter().map(|stripe| {
                let start = stripe.start.plus(at);
                start..start.plus(step)
            }));
        }
    }
    (to_u64(ranges.len()) <= most).then_some(ranges)
}
