//! The clusters of FAT and exFAT: where they lie, which of them are in use, and the map that this comes to.

use std::ops::Range;

use super::bits;
use crate::units::{Exact, length, to_usize};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::{AllocationMap, Reason};
use crate::volumes::view::View;
use crate::zero::is_zero;

/// The number of the first cluster: entries 0 and 1 of a FAT are no clusters'.
pub(super) const FIRST: u64 = 2;

/// How many clusters are looked into: 64 MiB of bits. Linux and Windows make larger ones long before there are so
/// many.
const MAX_CLUSTERS: u64 = 1 << 29;

/// Where clusters lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heap {
    /// Where the first one begins, in bytes.
    pub(super) start: u64,
    /// The size of each, in bytes.
    pub(super) cluster_size: u64,
    /// How many there are.
    pub(super) count: u64,
}

impl Heap {
    /// Whether there is a cluster of this number.
    pub(super) fn has(self, cluster: u64) -> bool {
        (FIRST..self.count.plus(FIRST)).contains(&cluster)
    }

    /// Where a cluster begins: one that it has, or the one behind the last. Numbers have 32 bits, and clusters 32 MiB at
    /// most.
    pub(super) fn offset(self, cluster: u64) -> u64 {
        let before = cluster.minus(FIRST);
        self.start.plus(before.times(self.cluster_size))
    }

    /// Where the last cluster ends.
    pub(super) fn end(self) -> u64 {
        self.offset(self.count.plus(FIRST))
    }

    /// Hands out the bytes of a cluster in pieces of 1 MiB at most, with the offset of each.
    pub(super) fn read(
        self,
        view: View<'_>,
        structure: &'static str,
        cluster: u64,
        mut take: impl FnMut(&[u8], u64) -> Result<(), Doubt>,
    ) -> Result<(), Doubt> {
        let start = self.offset(cluster);
        for piece in pieces(self.cluster_size, PIECE) {
            let at = start.plus(piece.start);
            let bytes = view.bytes(structure, at, length(&piece))?;
            take(&bytes, at)?;
        }
        Ok(())
    }

    /// The map of a volume of `size` bytes, some of whose clusters hold metadata: what lies before the clusters is
    /// metadata, and what lies behind them is in use.
    pub(super) fn map(self, used: &ClusterSet, metadata: &ClusterSet, size: u64) -> AllocationMap {
        let mut map = MapBuilder::all_free(size);
        map.used(0..self.start, Reason::Metadata);
        for run in self.runs(metadata) {
            map.metadata(run);
        }
        for run in self.runs(used) {
            map.used(run, Reason::Mapped);
        }
        map.used(self.end()..size, Reason::Mapped);
        map.build()
    }

    /// Where clusters of a set lie, ascending.
    fn runs(self, clusters: &ClusterSet) -> impl Iterator<Item = Range<u64>> + '_ {
        let offset = move |index: u64| self.offset(index.plus(FIRST));
        let runs = bits::runs(&clusters.bits, self.count);
        runs.map(move |run| offset(run.start)..offset(run.end))
    }
}

/// How much is read in one go, in bytes.
pub(super) const PIECE: u64 = 1 << 20;

/// The bytes of a piece of a FAT that begins at `start`; none if all are 0, and call their clusters free.
pub(super) fn unless_zero(
    view: View<'_>,
    structure: &'static str,
    start: u64,
    piece: &Range<u64>,
) -> Result<Option<Vec<u8>>, Doubt> {
    let at = start.plus(piece.start);
    if view.is_hole(&(at..at.plus(length(piece)))) {
        return Ok(None);
    }
    let bytes = view.bytes(structure, at, length(piece))?;
    Ok((!is_zero(&bytes)).then_some(bytes))
}

/// Cuts `length` bytes into pieces.
pub(super) fn pieces(length: u64, piece: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = 0_u64;
    std::iter::from_fn(move || {
        let range = at..length.min(at.plus(piece));
        at = range.end;
        (!range.is_empty()).then_some(range)
    })
}

/// Clusters, by one bit each.
#[derive(Debug)]
pub(super) struct ClusterSet {
    /// That of cluster 2 first.
    bits: Vec<u8>,
}

impl ClusterSet {
    /// None of the clusters.
    pub(super) fn new(heap: Heap) -> Result<Self, Doubt> {
        if heap.count > MAX_CLUSTERS {
            return Err(Doubt::TooMany {
                what: "clusters",
                limit: MAX_CLUSTERS,
            });
        }
        Ok(Self {
            bits: vec![0; to_usize(heap.count.div_ceil(8))],
        })
    }

    /// Adds one. Returns whether it was not there; one that does not exist always is.
    pub(super) fn insert(&mut self, cluster: u64) -> bool {
        let Some(index) = cluster.checked_sub(FIRST) else {
            return false;
        };
        let Some(byte) = self.bits.get_mut(to_usize(index / 8)) else {
            return false;
        };
        let bit = 1 << (index % 8);
        let is_new = *byte & bit == 0;
        *byte |= bit;
        is_new
    }

    /// Adds those whose bits are ones in `bits`, of which the first is that of the cluster `8 * at + 2`.
    pub(super) fn join(&mut self, at: u64, bits: &[u8]) {
        let those = self.bits.get_mut(to_usize(at)..).unwrap_or_default();
        for (this, other) in those.iter_mut().zip(bits) {
            *this |= *other;
        }
    }

    /// Adds all of another set, of the same clusters.
    pub(super) fn add(&mut self, other: &Self) {
        self.join(0, &other.bits);
    }

    /// Whether one is among them.
    pub(super) fn has(&self, cluster: u64) -> bool {
        let Some(index) = cluster.checked_sub(FIRST) else {
            return false;
        };
        let byte = self.bits.get(to_usize(index / 8));
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::map::State;

    const HEAP: Heap = Heap {
        start: 1000,
        cluster_size: 10,
        count: 13,
    };

    #[test]
    fn the_first_cluster_is_number_2() {
        let mut used = ClusterSet::new(HEAP).unwrap();
        assert!(used.insert(2) && !used.insert(2));
        assert!(used.insert(14));
        assert!(!used.insert(0) && !used.insert(1), "no clusters");

        let map = HEAP.map(&used, &ClusterSet::new(HEAP).unwrap(), 1200);
        let ranges: Vec<_> = map.extents().iter().map(|extent| extent.range.clone()).collect();
        assert_eq!(ranges, [0..1000, 1000..1010, 1120..1200]);
        assert_eq!(map.bytes(State::Metadata), 1000);
    }

    #[test]
    fn bits_of_clusters_that_are_not_there_say_nothing() {
        let mut used = ClusterSet::new(HEAP).unwrap();
        used.join(0, &[0, 0xff, 0xff, 0xff]);
        let map = HEAP.map(&used, &ClusterSet::new(HEAP).unwrap(), 1130);
        assert_eq!(map.used(), 1050);
        assert_eq!((HEAP.has(14), HEAP.has(15), HEAP.has(1)), (true, false, false));
    }
}
