//! Partition tables: the MBR, the GPT, and disks that have both.
//!
//! Where a disk says twice how it is divided, all of it counts: partitions that both tables know are one, and what
//! only one of them knows is looked into as well. Tables that lie inside of what they call a partition are not
//! believed.

mod fitted;
mod gpt;
mod identity;
mod mbr;
mod partition;
mod parts;
mod raw;
mod sectors;
mod tables;

use std::ops::Range;

use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::renewal::Renewal;
use crate::volumes::scheme::{Found, Read, Recognise, Scheme, Usage};
use crate::volumes::view::View;
pub use fitted::Fitted;
pub(in crate::volumes) use fitted::fitted;
use mbr::RawMbr;
use partition::Partition;
use parts::Table;
use sectors::SIZES;
pub(in crate::volumes) use tables::tables;
pub use tables::{Flaw, Tables, Which};

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "partition table",
    is,
    read: Read::Among(read),
    glance: None,
    renew: Some(renew),
    tool: "sgdisk -G DEVICE, or for an MBR sfdisk --disk-id DEVICE 0xNUMBER",
};

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
    let mbr = RawMbr::read(view, "MBR", 0)?.ok_or(Doubt::State("its MBR signature is missing"))?;
    // Volumes may be striped: one that begins in a partition need not go on there.
    let volumes_of = |name| Found::named(name, Usage::Opaque);
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
        return Err(Doubt::State(
            "the GPT partition of its protective MBR does not begin at sector 1",
        ));
    } else {
        ("MBR", mbr_alone(view, &mbr, recognise)?)
    };
    let partitions = table.into_parts()?.into_iter().map(Into::into).collect();
    Ok(Found::named(name, Usage::Partitions(partitions)))
}

/// Gives the tables of a disk new identifiers.
fn renew(view: View<'_>) -> Result<Renewal, Doubt> {
    let mut renewal = identity::of_mbr(view)?;
    let is_gpt = RawMbr::read(view, "MBR", 0)?.is_some_and(|mbr| mbr.is_protective());
    if is_gpt {
        let (sector_size, _) = gpt(view)?;
        let Renewal { ids, patches } = identity::of_gpt(view, sector_size)?;
        renewal.ids.extend(ids);
        renewal.patches.extend(patches);
    }
    Ok(renewal)
}

/// What an MBR says, in sectors that a file tells no size of.
///
/// They have 512 bytes, unless there is something where partitions would begin if they had more: what is where they
/// begin otherwise may be what an older table left.
fn mbr_alone(view: View<'_>, mbr: &RawMbr, recognise: Recognise) -> Result<Table, Doubt> {
    if let Some(size) = view.sector_size() {
        return mbr.table(view, size);
    }
    let [size, larger @ ..] = SIZES;
    let table = mbr.table(view, size)?;
    for size in larger {
        let parts = match mbr.table(view, size) {
            Ok(table) => table.parts,
            Err(Doubt::PastEnd { .. }) => continue,
            Err(doubt) => return Err(doubt),
        };
        if holds_anything(view, &parts, recognise)? {
            return Err(Doubt::State(
                "its MBR has partitions with content in two sector sizes",
            ));
        }
    }
    Ok(table)
}

/// Whether anything is recognised in one of the partitions.
fn holds_anything(view: View<'_>, parts: &[Partition], recognise: Recognise) -> Answer {
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
    for size in SIZES {
        match gpt::read(view, size) {
            Ok(_) if found.is_some() => {
                return Err(Doubt::State("it has two GPTs, for two sector sizes"));
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
