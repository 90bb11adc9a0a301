//! Members of arrays of Linux's md. Source: Linux, `include/uapi/linux/raid/md_p.h` and `drivers/md/md.c`.
//!
//! Each member of a clean mirror holds what the array holds, all of it, behind or in front of its superblock. A member
//! of another level holds a part only, and says nothing of what is free in the whole.

mod version_0;
mod version_1;

use std::ops::Range;

use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::edges::Edges;
use crate::volumes::region::{Detail, Part};
use crate::volumes::scheme::{Found, Group, Reader, Usage, Volume};
use crate::volumes::segments::Segments;
use crate::volumes::view::View;

pub(in crate::volumes) const READER: Reader = Reader {
    name: "Linux RAID",
    read,
};

const MAGIC: u32 = 0xa92b_4efc;

/// The level of mirrors.
const MIRROR: i32 = 1;

/// What a superblock says, whatever its version.
#[derive(Debug)]
struct Superblock {
    /// Such as `1.2`.
    version: &'static str,
    /// 0, 1, 4, 5, 6, 10; below 0 what is no RAID.
    level: i32,
    uuid: String,
    /// The name of the array, if it has one.
    label: Option<String>,
    /// Where the content lies in the member, if this is one of a mirror; else why it cannot be told or trusted.
    content: Result<Range<u64>, Doubt>,
}

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

/// What a superblock looks like at first.
#[derive(Clone, Copy, Debug)]
struct Seen {
    is_mirror: bool,
    /// The content begins where the stretch begins, so that it can be recognised there as if there were no array.
    is_around: bool,
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
        content: superblock.content(),
    })
}

impl Superblock {
    fn details(&self) -> Vec<Detail> {
        vec![
            Detail::new("uuid", self.uuid.clone()),
            Detail::new("level", self.level_name()),
            Detail::new("metadata", self.version),
        ]
    }

    /// As mdadm calls it.
    fn level_name(&self) -> String {
        match self.level {
            -1 => "linear".to_owned(),
            -4 => "multipath".to_owned(),
            -5 => "faulty".to_owned(),
            -100 => "container".to_owned(),
            level => format!("raid{level}"),
        }
    }

    fn content(self) -> Usage {
        if self.level != MIRROR {
            let level = self.level_name();
            return Usage::Whole(format!(
                "a member of {level} holds a part of the array only (image the array, such as /dev/md0, to leave out \
                 what is free in it)"
            ));
        }
        match self.content {
            Ok(range) => Usage::Group(Group {
                volumes: vec![Volume {
                    segments: Segments::one(range),
                    part: Part::ArrayData,
                    details: Vec::new(),
                    whole: None,
                }],
                free: Vec::new(),
            }),
            Err(doubt) => Usage::Doubted(doubt),
        }
    }
}

/// An array's identity as mdadm writes it: four words in hexadecimal.
fn uuid(words: [u32; 4]) -> String {
    words.map(|word| format!("{word:08x}")).join(":")
}

/// The sum of words as md keeps it: both halves of it added.
fn folded(sum: u64) -> u32 {
    let halves = [sum & 0xffff_ffff, sum >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    halves[0].wrapping_add(halves[1])
}

/// The doubts that superblocks of both versions share.
const UNCLEAN: Doubt = Doubt::State("its array was in use, or was not shut down cleanly: members may differ");
const INACTIVE: Doubt = Doubt::State("it is a spare, or was taken out of its array");
