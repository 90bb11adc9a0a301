//! The refcounts that are dealt with at a time, and how often their clusters are used.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::blocks::{Blocks, Where};
use super::catalogue::Code;
use super::counts::{Counts, Marks};
use super::findings::{Fault, Finding, Findings};
use crate::error::Result;
use crate::formats::HostFile;
use crate::units::{Exact, HostOffset, claimed_end, claimed_size, to_usize};

/// Some refcount blocks, and all that is counted and marked of the clusters that they count.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pub(super) blocks: &'a Blocks,
    pub(super) numbers: Range<u32>,
    /// The blocks one behind the other.
    raw: Vec<u8>,
    pub(super) counts: Counts,
    /// There are references that could not be counted.
    pub(super) overflown: Marks,
    /// Belongs to a structure of which there is one: header, L1 tables, refcount blocks and so on.
    fixed: Marks,
    /// Is an L2 table.
    tables: Marks,
    /// One more than the last cluster that is used but has no refcount here or in any other window.
    end: AtomicU64,
    /// Whether it is the first: it tells what is the same in all of them.
    pub(super) is_first: bool,
}

/// What a cluster is, as far as the window knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// Its refcount is here.
    Here(usize),
    /// It has no refcount, which is a refcount of 0.
    Missing,
    /// Another window deals with it, or none can.
    NotHere,
}

impl<'a> Window<'a> {
    pub(super) fn load(file: &HostFile, blocks: &'a Blocks, numbers: Range<u32>) -> Result<Self> {
        let is_first = numbers.start == 0;
        let here = blocks.all().iter();
        let here = here.skip(to_usize(numbers.start.into())).take(numbers.len());
        let cluster_size = blocks.geometry.cluster_size();
        let entries = u64::from(numbers.end.minus(numbers.start)).times(blocks.entries());
        let mut raw = vec![0; numbers.len().times(to_usize(cluster_size))];
        for (bytes, block) in raw.chunks_exact_mut(to_usize(cluster_size)).zip(here) {
            file.read_exact(bytes, block.at)?;
        }
        Ok(Self {
            blocks,
            numbers,
            raw,
            counts: Counts::new(blocks.width, entries),
            overflown: Marks::new(entries),
            fixed: Marks::new(entries),
            tables: Marks::new(entries),
            end: AtomicU64::new(0),
            is_first,
        })
    }

    /// The cluster of that number.
    pub(super) fn spot(&self, cluster: u64) -> Spot {
        match self.blocks.find(cluster) {
            Where::Block(number, entry) if self.numbers.contains(&number) => {
                let slot = u64::from(number.minus(self.numbers.start));
                Spot::Here(to_usize(slot.times(self.blocks.entries()).plus(entry)))
            }
            Where::Missing => Spot::Missing,
            Where::Block(..) | Where::Unknown => Spot::NotHere,
        }
    }

    /// The refcount that is stored for a cluster that is here.
    pub(super) fn stored(&self, index: usize) -> u64 {
        // Blocks are whole bytes, so that the next one goes on where the last ended.
        self.blocks.width.get(&self.raw, index)
    }

    /// The refcount of a cluster, if this window is the one to say so.
    pub(super) fn stored_of(&self, spot: Spot) -> Option<u64> {
        match spot {
            Spot::Here(index) => Some(self.stored(index)),
            Spot::Missing => self.is_first.then_some(0),
            Spot::NotHere => None,
        }
    }

    /// Counts references to a cluster.
    pub(super) fn count(&self, cluster: u64, spot: Spot, more: u32, found: &mut Findings) {
        match spot {
            Spot::Here(index) => {
                if self.counts.add(index, more) {
                    self.overflown.set(index);
                }
            }
            Spot::Missing if self.is_first => {
                found.add(self.uncounted(cluster..cluster.plus(1), more));
            }
            Spot::Missing => {}
            Spot::NotHere => self.reaches(cluster),
        }
    }

    /// Counts references to clusters side by side, up to `length` of them, if there is nothing to be said of any.
    /// Returns how many that were; none if there is. `copied` is what COPIED is, where that has to fit the refcount.
    pub(super) fn count_run(&self, cluster: u64, length: u64, more: u32, copied: Option<bool>) -> u64 {
        let Spot::Here(start) = self.spot(cluster) else {
            return 0;
        };
        let entries = self.blocks.entries();
        let in_block = entries.minus(cluster & entries.minus(1));
        let length = length.min(in_block);
        let range = start..start.plus(to_usize(length));
        let is_plain = !self.fixed.has_any(range.clone())
            && !self.tables.has_any(range.clone())
            && copied.is_none_or(|copied| self.all_are_one(range.clone(), copied));
        if !is_plain {
            return 0;
        }
        self.counts.add_to_all(range, more, &self.overflown);
        length
    }

    /// Whether all refcounts in a range are 1, or none of them.
    fn all_are_one(&self, range: Range<usize>, expected: bool) -> bool {
        let (refcounts, _) = self.raw.as_chunks();
        match refcounts.get(range.clone()) {
            // As most images have it.
            Some(refcounts) if self.blocks.width.bits() == 16 => {
                refcounts.iter().all(|refcount| (*refcount == [0, 1]) == expected)
            }
            _ => range
                .into_iter()
                .all(|index| (self.stored(index) == 1) == expected),
        }
    }

    /// Counts a reference to each cluster that a range of the file touches, and marks them as part of something that
    /// there is only one of. Whether any of them was marked before.
    pub(super) fn claim(&self, at: HostOffset, bytes: u64, more: u32, found: &mut Findings) -> bool {
        let (mut is_taken, mut missing) = (false, 0..0);
        for cluster in self.clusters(at, bytes) {
            match self.spot(cluster) {
                Spot::Here(index) => is_taken |= self.fixed.set(index),
                Spot::Missing if missing.end == cluster => {
                    missing.end = cluster.plus(1);
                    continue;
                }
                Spot::Missing => {
                    let run = std::mem::replace(&mut missing, cluster..cluster.plus(1));
                    self.tell_uncounted(run, more, found);
                    continue;
                }
                Spot::NotHere => {}
            }
            self.count(cluster, self.spot(cluster), more, found);
        }
        self.tell_uncounted(missing, more, found);
        is_taken
    }

    /// Whether a cluster that is here belongs to a structure of which there is only one.
    pub(super) fn is_fixed(&self, spot: Spot) -> bool {
        matches!(spot, Spot::Here(index) if self.fixed.has(index))
    }

    /// Whether a cluster that is here holds anything but data.
    pub(super) fn is_taken(&self, spot: Spot) -> bool {
        matches!(spot, Spot::Here(index) if self.fixed.has(index) || self.tables.has(index))
    }

    pub(super) fn mark_table(&self, spot: Spot) {
        if let Spot::Here(index) = spot {
            self.tables.set(index);
        }
    }

    /// The numbers of the clusters that a range of the file touches.
    pub(super) fn clusters(&self, at: HostOffset, bytes: u64) -> Range<u64> {
        let bits = self.blocks.geometry.cluster().bits();
        let end = claimed_end(at.0, bytes);
        match bytes {
            0 => 0..0,
            _ => at.0 >> bits..(end.minus(1) >> bits).plus(1),
        }
    }

    /// One more than the last cluster that is used although nobody counts it.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    fn tell_uncounted(&self, clusters: Range<u64>, more: u32, found: &mut Findings) {
        if self.is_first && !clusters.is_empty() {
            found.add(self.uncounted(clusters, more));
        }
    }

    fn uncounted(&self, clusters: Range<u64>, references: u32) -> Finding {
        self.reaches(clusters.end.minus(1));
        self.miscounted(clusters, 0, references.into())
    }

    /// Clusters whose refcount does not fit how often they are used.
    pub(super) fn miscounted(&self, clusters: Range<u64>, stored: u64, references: u64) -> Finding {
        let cluster_size = self.blocks.geometry.cluster_size();
        let count = clusters.end.minus(clusters.start);
        let code = if stored < references {
            Code::RefcountLow
        } else {
            Code::RefcountHigh
        };
        Finding {
            code,
            count,
            fault: Fault::Refcount {
                // A refcount table may count clusters past 64 bits.
                at: HostOffset(claimed_size(clusters.start, cluster_size)),
                clusters: count,
                cluster_size,
                stored,
                references,
            },
        }
    }

    fn reaches(&self, cluster: u64) {
        self.end.fetch_max(cluster.plus(1), Relaxed);
    }
}
