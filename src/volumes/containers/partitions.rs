//! Partition tables: the MBR, the GPT, and disks that have both.
//!
//! Where a disk says twice how it is divided, all of it counts: partitions that both tables know are one, and what
//! only one of them knows is looked into as well. Tables that lie inside of what they call a partition are not
//! believed.

mod gpt;
mod mbr;
mod tables;

use std::ops::Range;

use crate::units::{Exact, claimed_end, claimed_size, to_u64};
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::scheme::{Content, Found, Part, Read, Recognise, Scheme};
use crate::volumes::view::View;
use mbr::RawMbr;
pub(in crate::volumes) use tables::tables;
pub use tables::{Flaw, Tables, Which};

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "partition table",
    is,
    read: Read::Among(read),
};

/// The sizes that sectors have, in bytes: tried one after another where the source does not tell.
const SECTOR_SIZES: [u64; 4] = [512, 1024, 2048, 4096];

/// What one or more tables say.
#[derive(Debug, Default)]
struct Table {
    parts: Vec<Part>,
    /// What they lie in themselves.
    own: Vec<Range<u64>>,
}

impl Table {
    fn join(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.own.extend(other.own);
    }

    /// The partitions, each range once; of two that have the same, the first is kept.
    ///
    /// No table may be in a partition: what the partition calls free would be missing in the image.
    fn into_parts(mut self) -> Result<Vec<Part>, Doubt> {
        let is_within = |part: &Part| {
            let overlaps = |own: &Range<u64>| own.start < part.range.end && part.range.start < own.end;
            self.own.iter().any(overlaps)
        };
        if self.parts.iter().any(is_within) {
            return Err(Doubt::State("a partition covers a partition table"));
        }
        self.parts.sort_by_key(|part| (part.range.start, part.range.end));
        self.parts.dedup_by(|next, kept| next.range == kept.range);
        Ok(self.parts)
    }
}

fn is(view: View<'_>) -> Answer {
    view.looks(0, |mbr: &RawMbr| mbr.is_signed() && mbr.is_table())
}

/// What of a disk is a primary GPT although it cannot be read, for the rest of it proves that.
///
/// Without proof it may be something else that was put over an old GPT, and left the backup of that in place.
pub(in crate::volumes) fn proven(view: View<'_>) -> Option<Range<u64>> {
    let size = view.sector_size().unwrap_or(gpt::PROVABLE);
    gpt::proven(view, size)
}

fn read(view: View<'_>, recognise: Recognise) -> Result<Found, Doubt> {
    let mbr = RawMbr::read(view, "MBR", 0)?.ok_or(Doubt::State("its signature is gone"))?;
    // Volumes may be striped: one that begins in a partition need not go on there.
    let volumes_of = |name| Found {
        name,
        label: None,
        content: Content::Opaque,
    };
    if mbr.is_dynamic() {
        return Ok(volumes_of("dynamic disk"));
    }
    let (name, table) = if mbr.is_protective() {
        let (sector_size, gpt) = gpt(view)?;
        if let Some(name) = gpt.volumes {
            return Ok(volumes_of(name));
        }
        let mut table = gpt.table;
        let hybrid = mbr.table(view, sector_size)?;
        let name = if hybrid.parts.is_empty() {
            "GPT"
        } else {
            "GPT and MBR"
        };
        table.join(hybrid);
        (name, table)
    } else if mbr.has_protective_type() {
        return Err(Doubt::State("its protective MBR does not begin where a GPT does"));
    } else {
        ("MBR", mbr_alone(view, &mbr, recognise)?)
    };
    Ok(Found {
        name,
        label: None,
        content: Content::Parts(table.into_parts()?),
    })
}

/// What an MBR says, in sectors that a file tells no size of.
///
/// They have 512 bytes, unless there is something where partitions would begin if they had more: what is where they
/// begin otherwise may be what an older table left.
fn mbr_alone(view: View<'_>, mbr: &RawMbr, recognise: Recognise) -> Result<Table, Doubt> {
    if let Some(size) = view.sector_size() {
        return mbr.table(view, size);
    }
    let [size, larger @ ..] = SECTOR_SIZES;
    let table = mbr.table(view, size)?;
    for size in larger {
        let parts = match mbr.table(view, size) {
            Ok(table) => table.parts,
            Err(Doubt::PastEnd { .. }) => continue,
            Err(doubt) => return Err(doubt),
        };
        if holds_anything(view, &parts, recognise)? {
            return Err(Doubt::State(
                "with sectors of another size its MBR has partitions that hold something, too",
            ));
        }
    }
    Ok(table)
}

/// Whether anything is recognised in one of the partitions.
fn holds_anything(view: View<'_>, parts: &[Part], recognise: Recognise) -> Answer {
    answer::any(
        parts
            .iter()
            .map(|part| match view.part("partition", &part.range) {
                Ok(view) => recognise(view),
                Err(_) => Ok(false),
            }),
    )
}

/// The GPT, and the size of sectors it is written for.
fn gpt(view: View<'_>) -> Result<(u64, gpt::Gpt), Doubt> {
    if let Some(size) = view.sector_size() {
        return Ok((size, gpt::read(view, size)?));
    }
    let (mut found, mut doubt, mut unclear) = (None, None, None);
    for size in SECTOR_SIZES {
        match gpt::read(view, size) {
            Ok(_) if found.is_some() => {
                return Err(Doubt::State("it has a GPT for each of two sizes of sectors"));
            }
            Ok(gpt) => found = Some((size, gpt)),
            Err(gpt::Refused::Odd(error)) => return Err(error),
            // There may be a second one.
            Err(gpt::Refused::Unreadable(error)) => unclear = unclear.or(Some(error)),
            // That which comes closest tells most.
            Err(gpt::Refused::Damaged(error)) => doubt = doubt.or(Some(error)),
            Err(gpt::Refused::Missing) => (),
        }
    }
    if let Some(unclear) = unclear {
        return Err(unclear);
    }
    found.ok_or_else(|| doubt.unwrap_or_else(|| gpt::Refused::Missing.into()))
}

/// The bytes of `count` sectors from `first` on, as a table claims them.
fn sectors(first: u64, count: u64, sector_size: u64) -> Range<u64> {
    let end = claimed_end(first, count);
    claimed_size(first, sector_size)..claimed_size(end, sector_size)
}

/// The bytes of a structure that begins with a sector, and was read.
fn structure(first: u64, length: usize, sector_size: u64) -> Range<u64> {
    let start = first.times(sector_size);
    start..start.plus(to_u64(length))
}
