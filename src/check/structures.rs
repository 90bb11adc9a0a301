//! The structures of which there is one each, or one a snapshot or bitmap: where they are, and whether they may be.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Code;
use super::findings::{Fault, Finding, Findings, Log, What};
use super::tables::L1;
use super::window::Window;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::units::{Exact, HostOffset, claimed_end};

/// All of them but refcount blocks and L2 tables.
#[derive(Debug, Default)]
pub(super) struct Structures {
    extents: Vec<Extent>,
    /// L1 tables: first the active one, then those of snapshots.
    pub(super) l1s: Vec<L1>,
    /// Tables of bitmaps.
    pub(super) bitmaps: Vec<TableAt>,
    /// By place and number of entries, which of the extents and which of the L1 tables that of a snapshot is.
    of_snapshots: BTreeMap<(HostOffset, u64), (usize, usize)>,
}

/// Where a structure is.
#[derive(Clone, Copy, Debug)]
struct Extent {
    what: What,
    at: HostOffset,
    bytes: u64,
    /// How often it is used.
    weight: u32,
}

impl Structures {
    pub(super) fn add(&mut self, name: &'static str, number: u64, at: HostOffset, bytes: u64) {
        self.extents.push(Extent {
            what: What { name, number },
            at,
            bytes,
            weight: 1,
        });
    }

    pub(super) fn add_table(&mut self, name: &'static str, number: u64, table: TableAt) {
        self.add(name, number, table.at, table.entries.times(ENTRY));
    }

    /// The L1 table of a snapshot.
    pub(super) fn add_l1(&mut self, number: u64, l1: L1) {
        self.add_table("L1 table of snapshot", number, l1.table);
        let at = (self.extents.len().minus(1), self.l1s.len());
        self.of_snapshots.insert((l1.table.at, l1.table.entries), at);
        self.l1s.push(l1);
    }

    /// One more snapshot that has the same L1 table as another. Whether there is such another.
    pub(super) fn add_again(&mut self, table: TableAt) -> bool {
        let Some((extent, l1)) = self.of_snapshots.get(&(table.at, table.entries)) else {
            return false;
        };
        let weight = self.extents.get_mut(*extent).map(|extent| &mut extent.weight);
        let weights = [weight, self.l1s.get_mut(*l1).map(|l1| &mut l1.weight)];
        for weight in weights.into_iter().flatten() {
            weight.increase(1);
        }
        true
    }

    /// Tells of structures that share clusters. Of those the later ones are not read: nobody knows what they are.
    pub(super) fn find_overlaps(&mut self, cluster_size: u64, log: &mut Log<'_>) {
        let mut extents: Vec<&Extent> = self.extents.iter().filter(|extent| extent.bytes > 0).collect();
        extents.sort_by_key(|extent| extent.at);
        let mut doubtful = BTreeSet::new();
        let mut last: Option<(u64, What)> = None;
        for extent in extents {
            let end = claimed_end(extent.at.0, extent.bytes);
            let end = end.checked_next_multiple_of(cluster_size).unwrap_or(end);
            if let Some((taken, other)) = last
                && extent.at.0 < taken
            {
                let (what, at) = (extent.what, extent.at);
                log.add(Finding::new(Code::Overlap, Fault::Overlap { what, at, other }));
                doubtful.insert(extent.at);
            }
            if last.is_none_or(|(taken, _)| end > taken) {
                last = Some((end, extent.what));
            }
        }
        self.l1s
            .retain(|l1| l1.is_active || !doubtful.contains(&l1.table.at));
        self.bitmaps.retain(|table| !doubtful.contains(&table.at));
    }

    /// Counts a reference to each cluster that any of them has, and marks it.
    pub(super) fn claim(&self, window: &Window<'_>, found: &mut Findings) {
        for extent in &self.extents {
            // Whether they overlap is known.
            window.claim(extent.at, extent.bytes, extent.weight, found);
        }
        let cluster_size = window.blocks.geometry.cluster_size();
        for block in window.blocks.all() {
            if window.claim(block.at, cluster_size, 1, found) {
                let fault = Fault::Overlap {
                    what: What {
                        name: "refcount block",
                        number: u64::from(block.entry).plus(1),
                    },
                    at: block.at,
                    other: What {
                        name: "rest of the metadata",
                        number: 0,
                    },
                };
                found.add(Finding::new(Code::Overlap, fault));
            }
        }
    }
}
