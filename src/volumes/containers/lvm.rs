//! Physical volumes of LVM2. Source: LVM2, `lib/format_text`.
//!
//! The metadata of a volume group says which extents of each of its physical volumes belong to which logical volume;
//! the others are free. A logical volume is looked into if all of it lies here as it is: linear or striped, and no
//! part of anything else. What a snapshot was taken of must be copied whole: the snapshot reads blocks from it that
//! the filesystem in it has freed since. Of the data of a thin pool, what its metadata gives to nothing is free.

mod area;
mod checksum;
mod group;
mod label;
mod layout;
mod logical;
mod text;
mod thin;

use std::collections::HashSet;
use std::ops::Range;

use crate::units::length;
use crate::volumes::doubt::Doubt;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Group, Reader, Usage};
use crate::volumes::view::View;
use group::{Physical, VolumeGroup};
use label::{Label, hyphenated};
use layout::Layout;
use logical::Logical;
use text::Section;

pub(in crate::volumes) const READER: Reader = Reader {
    name: "LVM2",
    read,
    tool: Some("vgimportclone DEVICE"),
};

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
            volumes: Layout::of(view, &physical, &logical).volumes(),
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
    found.ok_or(area::NO_GROUP)
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
