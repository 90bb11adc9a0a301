//! exFAT: a cluster is free if the bitmap says so, and the second one too if there are two, and nothing leads to it.
//!
//! The bitmap is a file whose place is told by the root directory, and that follows its chain in the FAT. By the
//! specification bad clusters are in it, too.

mod boot;
mod chain;
mod entries;
mod identity;

use boot::Volume;
use chain::Table;
use entries::{RootDirectory, System};

use super::heap::ClusterSet;
use crate::error::Expected;
use crate::units::{Exact, to_u64};
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "exFAT",
    is,
    read: Read::Alone(read),
    glance: Some(glance),
    renew: Some(identity::renew),
    tool: "exfatlabel -i DEVICE 0xNUMBER",
};

/// A table of upper-case letters has one of 16 bits for each of 16 bits.
const MAX_UPCASE: u64 = 128 << 10;

fn is(view: View<'_>) -> Answer {
    answer::all([view.has(0, b"\xeb\x76\x90EXFAT   "), view.has(11, &[0; 53])])
}

fn glance(view: View<'_>) -> Result<Found, Doubt> {
    let volume = Volume::read(view)?;
    let table = Table::new(view, &volume, volume.active);
    Ok(Found {
        label: RootDirectory::read(view, &volume, table)?.label,
        ..Found::named(SCHEME.name, Usage::Opaque)
    })
}

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let volume = Volume::read(view)?;
    let table = Table::new(view, &volume, volume.active);
    table.check_media()?;
    let root = RootDirectory::read(view, &volume, table)?;
    let mut used = ClusterSet::new(volume.heap)?;
    let mut system = root.clusters;
    let mut is_certain = !volume.is_dirty;
    for (number, bitmaps) in (0..).zip(root.bitmaps) {
        let expected = u64::from(number < volume.fats);
        let [bitmap] = *bitmaps else {
            if expected == 0 && bitmaps.is_empty() {
                continue;
            }
            let (what, counted) = ("allocation bitmaps of one FAT", to_u64(bitmaps.len()));
            return Err(Doubt::Count {
                what,
                recorded: expected,
                counted,
            });
        };
        let clusters = join_bitmap(view, &volume, table, bitmap, &mut used)?;
        // Linux has long taken the first one for one piece: if it is not, what it wrote is in no bitmap.
        is_certain &= number != 0 || is_in_one_piece(&clusters);
        system.extend(clusters);
    }
    for upcase in root.upcase {
        if upcase.length > MAX_UPCASE {
            let expected = Expected::AtMost(MAX_UPCASE);
            return Err(wrong_length(view, &volume, upcase, expected));
        }
        let clusters = upcase.length.div_ceil(volume.heap.cluster_size.max(1));
        system.extend(table.chain(upcase.first, clusters)?);
    }
    // Of these it is known that they are in use.
    if let Some(cluster) = system.iter().find(|cluster| !used.has(**cluster)) {
        return Err(Doubt::Field {
            structure: "cluster of the system",
            at: view.position(volume.heap.offset(*cluster)),
            field: "bit in the allocation bitmap",
            found: 0,
            expected: Expected::Exactly(1),
        });
    }
    if volume.fats > 1 && !is_certain {
        // Which FAT the directories' chains are in depends on who mounts it.
        return Err(Doubt::State("it was not unmounted, and has two FATs"));
    }
    let mut metadata = join_what_is_reached(view, &volume, table, &mut used)?;
    for cluster in system {
        metadata.insert(cluster);
    }
    Ok(Found {
        name: "exFAT",
        label: root.label,
        details: Vec::new(),
        content: Usage::Mapped(volume.heap.map(&used, &metadata, volume.size)),
    })
}

fn wrong_length(view: View<'_>, volume: &Volume, system: System, expected: Expected) -> Doubt {
    Doubt::Field {
        structure: "exFAT root directory",
        at: view.position(volume.heap.offset(volume.root)),
        field: "DataLength",
        found: system.length,
        expected,
    }
}

/// Adds what a bitmap says. Returns the clusters that it lies in.
fn join_bitmap(
    view: View<'_>,
    volume: &Volume,
    table: Table<'_>,
    bitmap: System,
    used: &mut ClusterSet,
) -> Result<Vec<u64>, Doubt> {
    let expected = volume.heap.count.div_ceil(8);
    let clusters = |length: u64| length.div_ceil(volume.heap.cluster_size.max(1));
    if bitmap.length < expected || clusters(bitmap.length) != clusters(expected) {
        let expected = Expected::Exactly(expected);
        return Err(wrong_length(view, volume, bitmap, expected));
    }
    let chain = table.chain(bitmap.first, clusters(expected))?;
    let mut at = 0_u64;
    for cluster in &chain {
        volume
            .heap
            .read(view, "allocation bitmap", *cluster, |bytes, _| {
                used.join(at, bytes);
                at.increase(to_u64(bytes.len()));
                Ok(())
            })?;
    }
    Ok(chain)
}

fn is_in_one_piece(clusters: &[u64]) -> bool {
    let mut pairs = clusters.iter().zip(clusters.iter().skip(1));
    pairs.all(|(this, next)| this.plus(1) == *next)
}

/// There is no bitmap that can be trusted alone: there is no order in which it, the FATs and the directories are
/// written, and not all that write tell that they do. Files that lie in one piece are in no FAT, so that the directories
/// are asked, too. Returns the clusters of directories.
fn join_what_is_reached(
    view: View<'_>,
    volume: &Volume,
    table: Table<'_>,
    used: &mut ClusterSet,
) -> Result<ClusterSet, Doubt> {
    table.read(|cluster, entry| {
        used.insert(cluster);
        // Entries of clusters that are free, or of a file in one piece, may say anything.
        if volume.heap.has(entry) {
            used.insert(entry);
        }
    })?;
    entries::join(view, volume, table, used)
}
