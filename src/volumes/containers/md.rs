//! Members of arrays of Linux's md. Source: Linux, `include/uapi/linux/raid/md_p.h` and `drivers/md/md.c`.
//!
//! Each member of a clean mirror holds what the array holds, all of it, behind or in front of its superblock. A member
//! of another level holds a part only, and says nothing of what is free in the whole.

mod superblock;
mod version_0;
mod version_1;

use crate::disk::Segments;
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::edges::Edges;
use crate::volumes::region::Part;
use crate::volumes::scheme::{Content, Found, Group, Reader, Usage, Volume};
use crate::volumes::view::View;
use superblock::{MIRROR, Seen, Superblock};

pub(in crate::volumes) const READER: Reader = Reader {
    name: "Linux RAID",
    read,
    tool: Some("mdadm --assemble --update=uuid ARRAY DEVICE..."),
};

/// Where superblocks may be, and how they are read.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Of version 1.1 or 1.2, in front of the content.
    Front(u64),
    /// Of version 1.0, behind the content.
    Behind(u64),
    /// Of version 0.90, behind the content.
    Old(u64),
}

impl Place {
    /// All of them in a stretch, as far as it reaches.
    fn all(edges: &Edges<'_>) -> impl Iterator<Item = Self> {
        let behind = edges.before_end(8 << 10, 4 << 10).map(Self::Behind);
        let old = edges.before_end(64 << 10, 64 << 10).map(Self::Old);
        let front = [Self::Front(0), Self::Front(4 << 10)];
        front.into_iter().chain(behind).chain(old)
    }

    /// The level that a superblock here is for, and whether its content begins with the stretch; none if there is
    /// none.
    fn look(self, edges: &Edges<'_>) -> Result<Option<Seen>, Doubt> {
        match self {
            Self::Front(at) | Self::Behind(at) => version_1::look(edges, at),
            Self::Old(at) => version_0::look(edges, at),
        }
    }

    fn read(self, view: View<'_>) -> Result<Superblock, Doubt> {
        match self {
            Self::Front(at) | Self::Behind(at) => version_1::read(view, at),
            Self::Old(at) => version_0::read(view, at),
        }
    }
}

/// Whether a stretch is a member of an array, other than a mirror that leaves its content where it would be without.
pub(in crate::volumes) fn is(edges: &Edges<'_>) -> Answer {
    let is_other = |place: Place| {
        let seen = place.look(edges)?;
        Ok(seen.is_some_and(|seen| !(seen.is_mirror && seen.is_around)))
    };
    answer::any(Place::all(edges).map(is_other))
}

/// Whether a stretch is a member of a mirror that leaves its content where it would be without.
pub(in crate::volumes) fn is_around(view: View<'_>) -> Answer {
    let edges = Edges::of(view);
    answer::any(Place::all(&edges).map(|place| {
        let seen = place.look(&edges)?;
        Ok(seen.is_some_and(|seen| seen.is_mirror && seen.is_around))
    }))
}

/// What a member says.
fn read(view: View<'_>) -> Result<Found, Doubt> {
    let edges = Edges::of(view);
    let mut places = Vec::new();
    for place in Place::all(&edges) {
        if place.look(&edges)?.is_some() {
            places.push(place);
        }
    }
    let [place] = *places else {
        return Err(Doubt::State("it has superblocks of two arrays"));
    };
    let superblock = place.read(view)?;
    Ok(Found {
        name: READER.name,
        label: superblock.label.clone(),
        details: superblock.details(),
        content: content(superblock),
    })
}

/// What a member holds of its array.
fn content(superblock: Superblock) -> Usage {
    if superblock.level != MIRROR {
        let level = superblock.level_name();
        return Usage::Whole(format!(
            "a member of {level} holds only a part of the array (to leave out what is free, image the array, such as \
             /dev/md0)"
        ));
    }
    match superblock.content {
        Ok(range) => Usage::Group(Group {
            volumes: vec![Volume {
                segments: Segments::one(range),
                is_complete: true,
                part: Part::ArrayData,
                details: Vec::new(),
                content: Content::Unknown,
            }],
            free: Vec::new(),
        }),
        Err(doubt) => Usage::Doubted(doubt),
    }
}
