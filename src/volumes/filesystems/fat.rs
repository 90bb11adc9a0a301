//! FAT12, FAT16 and FAT32: a cluster is free if all FATs say so, and nothing leads to it.
//!
//! There may be several FATs, and they may disagree: after a crash, or because only one of them is active (FAT32).
//! Linux reads the first one even then, Windows the active one. So a cluster is in use if any of them says so.
//!
//! How many clusters are free is recorded in FAT32, too. That is a hint by the specification, and old more often than
//! not: it is not looked at.

mod boot;
mod entries;
mod identity;
mod label;
mod table;

use boot::{RawBoot, Root, Volume, Width};
use table::Table;

use super::heap::{ClusterSet, Heap};
use crate::error::Expected;
use crate::signatures::{LIKE_FAT, Mark};
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "FAT",
    is,
    read: Read::Alone(read),
    glance: Some(glance),
    renew: Some(identity::renew),
    tool: "fatlabel -i -r DEVICE",
};

/// The signature at the end of the sector is not asked for: disks of other machines than PCs do without it.
fn is(view: View<'_>) -> Answer {
    let begins_so = view.looks(0, |boot: &RawBoot| {
        let jumps = matches!(boot.jmp_boot, [0xeb, _, 0x90] | [0xe9, _, _]);
        let sector = boot.byts_per_sec.get();
        jumps
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && boot.sec_per_clus.is_power_of_two()
            && boot.rsvd_sec_cnt.get() != 0
            && (1..=4).contains(&boot.num_fats)
            && (boot.media == 0xf0 || boot.media >= 0xf8)
            && (boot.tot_sec_16.get() != 0 || boot.tot_sec_32.get() != 0)
    });
    let others = LIKE_FAT.iter().map(|mark| match mark {
        Mark::At(at, bytes) => view.has(*at, bytes),
        Mark::Back(..) => Ok(false),
    });
    let is_no_other = answer::any(others).map(|is_other| !is_other);
    answer::all([begins_so, is_no_other])
}

fn glance(view: View<'_>) -> Result<Found, Doubt> {
    let volume = Volume::read(view)?;
    Ok(Found {
        label: label::label(view, &volume),
        ..Found::named(volume.kind.name(), Usage::Opaque)
    })
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let volume = Volume::read(view)?;
    let active = Table::new(view, &volume, volume.active);
    active.check_media(volume.media)?;
    let mut used = ClusterSet::new(volume.heap)?;
    active.read(|first, entries| {
        active.check(first, entries)?;
        mark(&mut used, volume.heap, first, entries);
        Ok(())
    })?;
    check_root(view, &volume, &used)?;
    if volume.kind == Width::Fat32 {
        boot::check_backup(view)?;
    }
    for number in (0..volume.fats).filter(|number| *number != volume.active) {
        let other = Table::new(view, &volume, number);
        // One that is not kept up may have been wrecked long ago.
        if volume.is_mirrored {
            other.check_media(volume.media)?;
        }
        other.read(|first, entries| {
            mark(&mut used, volume.heap, first, entries);
            Ok(())
        })?;
    }
    let directories = join_directories(view, &volume, active, &mut used)?;
    Ok(Found {
        name: volume.kind.name(),
        content: Usage::Mapped(volume.heap.map(&used, &directories, volume.size)),
        label: label::label(view, &volume),
        details: Vec::new(),
    })
}

/// Adds what entries do not call free: what belongs to a file, what is bad, and what nobody understands. So is what
/// an entry leads to, whose own may not have been written.
fn mark(used: &mut ClusterSet, heap: Heap, first: u64, entries: &[u32]) {
    for (number, entry) in (first..).zip(entries) {
        if *entry != 0 && heap.has(number) {
            used.insert(number);
            if heap.has(u64::from(*entry)) {
                used.insert(u64::from(*entry));
            }
        }
    }
}

/// Adds what the directories speak of, even if it is free by all FATs: there is no order in which these and the
/// directories are written. Whether the volume was unmounted is not asked for: FAT12 does not tell, and not all that
/// write to the others do. Returns the clusters of directories.
fn join_directories(
    view: View<'_>,
    volume: &Volume,
    active: Table<'_>,
    used: &mut ClusterSet,
) -> Result<ClusterSet, Doubt> {
    if volume.is_mirrored {
        return entries::join(view, volume, active, used);
    }
    if volume.is_dirty || active.is_dirty()? {
        return Err(Doubt::State(
            "it was not unmounted, and its FATs are not mirrored",
        ));
    }
    // Which FAT the directories' chains are in depends on who mounts it.
    let mut all = ClusterSet::new(volume.heap)?;
    for number in 0..volume.fats {
        all.add(&entries::join(
            view,
            volume,
            Table::new(view, volume, number),
            used,
        )?);
    }
    Ok(all)
}

fn check_root(view: View<'_>, volume: &Volume, used: &ClusterSet) -> Result<(), Doubt> {
    match volume.root {
        Root::Cluster(root) if !used.has(root) => Err(Doubt::Field {
            structure: "FAT boot sector",
            at: view.position(0),
            field: "BPB_RootClus",
            found: root,
            expected: Expected::That("a cluster that is in use"),
        }),
        Root::Cluster(_) | Root::Fixed(_) => Ok(()),
    }
}
