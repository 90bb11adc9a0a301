//! Which byte ranges are in use: what all schemes and the sparse scan come to.

use std::ops::Range;

use crate::units::length;

/// How many extents a map holds at most: 24 MiB of them. Past it, the shortest gaps count as used.
const MAX_EXTENTS: usize = 1 << 20;

/// Why a range is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no hole of the sparse file that holds it.
    Data,
    /// Nothing tells what is free there, or nothing that can be trusted.
    Unknown,
    /// It lies outside of all partitions: tables, boot code, gaps.
    Unpartitioned,
    /// The map of the filesystem, or other format, that it belongs to says so.
    Mapped,
    /// It lies behind the end of the filesystem.
    Behind,
}

/// A range that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the virtual disk.
    pub range: Range<u64>,
    /// Why they are in use.
    pub reason: Reason,
}

/// The ranges of a source that are in use: ascending, apart, and bounded in number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationMap {
    size: u64,
    extents: Vec<Extent>,
    /// Gaps shorter than this count as used, in bytes.
    shortest_gap: u64,
    max_extents: usize,
}

impl AllocationMap {
    /// A map of `size` bytes, of which none is in use.
    pub fn new(size: u64) -> Self {
        Self::bounded(size, MAX_EXTENTS)
    }

    fn bounded(size: u64, max_extents: usize) -> Self {
        Self {
            size,
            extents: Vec::new(),
            shortest_gap: 1,
            max_extents,
        }
    }

    /// The bytes it speaks of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is in use, ascending.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// All of the disk, ascending: what is in use with the reason, and what is free between.
    pub fn parts(&self) -> impl Iterator<Item = (Range<u64>, Option<Reason>)> {
        let ends = std::iter::once(0).chain(self.extents.iter().map(|extent| extent.range.end));
        let starts = self.extents.iter().map(|extent| extent.range.start);
        let gaps = ends
            .zip(starts.chain([self.size]))
            .map(|(end, start)| (end..start, None));
        let used = self
            .extents
            .iter()
            .map(|extent| (extent.range.clone(), Some(extent.reason)));
        gaps.zip(used.chain([(0..0, None)]))
            .flat_map(|(gap, used)| [gap, used])
            .filter(|(range, _)| !range.is_empty())
    }

    /// What of a range is in use, ascending.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self
            .extents
            .partition_point(|extent| extent.range.end <= range.start);
        let extents = self.extents.get(first..).unwrap_or_default().iter();
        extents
            .map(move |extent| extent.range.start.max(range.start)..extent.range.end.min(range.end))
            .take_while(|part| !part.is_empty())
    }

    /// How many bytes are in use.
    pub fn used(&self) -> u64 {
        self.extents
            .iter()
            .fold(0, |sum, extent| sum.saturating_add(length(&extent.range)))
    }

    /// How many bytes of a range are in use.
    pub(super) fn used_in(&self, range: &Range<u64>) -> u64 {
        let ranges = self.within(range.clone());
        ranges.fold(0, |sum, part| sum.saturating_add(length(&part)))
    }

    /// Marks a range as used that begins at or behind the end of the last one.
    pub fn push(&mut self, range: Range<u64>, reason: Reason) {
        let range = range.start..range.end.min(self.size);
        if range.is_empty() {
            return;
        }
        while !self.extend_last(&range, reason) {
            if self.extents.len() < self.max_extents {
                self.extents.push(Extent { range, reason });
                return;
            }
            self.thin_out();
        }
    }

    /// Appends what another map says of the bytes from `at` on, which is at or behind the end of the last extent.
    pub(super) fn append(&mut self, other: &Self, at: u64) {
        for Extent { range, reason } in &other.extents {
            let range = range.start.saturating_add(at)..range.end.saturating_add(at);
            self.push(range, *reason);
        }
    }

    /// What is in use in both maps; why, `other` tells, unless that does not know.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::bounded(self.size.min(other.size), self.max_extents);
        let (mut these, mut those) = (self.extents.iter().peekable(), other.extents.iter().peekable());
        while let (Some(this), Some(that)) = (these.peek(), those.peek()) {
            let reason = match that.reason {
                Reason::Unknown => this.reason,
                known @ (Reason::Data | Reason::Unpartitioned | Reason::Mapped | Reason::Behind) => known,
            };
            let start = this.range.start.max(that.range.start);
            both.push(start..this.range.end.min(that.range.end), reason);
            if this.range.end <= that.range.end {
                these.next();
            } else {
                those.next();
            }
        }
        both
    }

    /// Lets the last extent reach to the end of `range`, if nothing worth telling lies between them.
    fn extend_last(&mut self, range: &Range<u64>, reason: Reason) -> bool {
        let shortest_gap = self.shortest_gap;
        let last = self.extents.last_mut().filter(|last| {
            debug_assert!(
                last.range.end <= range.start,
                "extents are pushed in ascending order"
            );
            let gap = range.start.saturating_sub(last.range.end);
            (gap == 0 && last.reason == reason) || (gap < shortest_gap && shortest_gap > 1)
        });
        let found = last.is_some();
        if let Some(last) = last {
            last.range.end = last.range.end.max(range.end);
        }
        found
    }

    /// Counts gaps as used that are shorter than twice what was too short so far: nothing is lost by it.
    fn thin_out(&mut self) {
        self.shortest_gap = self.shortest_gap.saturating_mul(2);
        let shortest_gap = self.shortest_gap;
        self.extents.dedup_by(|next, kept| {
            let joins = next.range.start.saturating_sub(kept.range.end) < shortest_gap;
            if joins {
                kept.range.end = next.range.end;
            }
            joins
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_extents_are_one() {
        let mut map = AllocationMap::new(100);
        map.push(0..10, Reason::Data);
        map.push(10..20, Reason::Data);
        map.push(30..200, Reason::Data);
        let ranges: Vec<_> = map.extents().iter().map(|extent| extent.range.clone()).collect();
        assert_eq!(ranges, [0..20, 30..100]);
        assert_eq!(map.used(), 90);
    }

    #[test]
    fn what_is_used_in_a_range_is_counted_to_its_borders() {
        let mut map = AllocationMap::new(100);
        map.push(0..10, Reason::Data);
        map.push(20..30, Reason::Data);
        map.push(50..60, Reason::Data);
        let counts = [0..100, 5..55, 10..20, 25..26, 60..100, 0..0].map(|range| map.used_in(&range));
        assert_eq!(counts, [30, 20, 0, 1, 0, 0]);
    }

    #[test]
    fn a_map_that_grows_too_large_counts_short_gaps_as_used_and_loses_nothing() {
        let mut map = AllocationMap::bounded(1 << 20, 16);
        let pushed: Vec<_> = (0..1000_u64).map(|i| i * 1000..i * 1000 + 1 + i % 7).collect();
        for range in &pushed {
            map.push(range.clone(), Reason::Data);
        }
        assert!(map.extents().len() <= 16);
        for range in pushed {
            assert!(
                map.extents()
                    .iter()
                    .any(|e| e.range.start <= range.start && e.range.end >= range.end)
            );
        }
        assert!(map.extents().is_sorted_by(|a, b| a.range.end < b.range.start));
    }

    proptest::proptest! {
        #[test]
        fn an_intersection_holds_what_is_in_both(
            a in proptest::collection::btree_set(0_u64..500, 0..60),
            b in proptest::collection::btree_set(0_u64..500, 0..60),
        ) {
            let map = |cuts: std::collections::BTreeSet<u64>, reason| {
                let cuts: Vec<_> = cuts.into_iter().collect();
                let mut map = AllocationMap::new(500);
                for pair in cuts.chunks_exact(2) {
                    map.push(pair[0]..pair[1], reason);
                }
                map
            };
            let (a, b) = (map(a, Reason::Data), map(b, Reason::Mapped));
            let has = |map: &AllocationMap, at| map.extents().iter().any(|extent| extent.range.contains(&at));
            let both = a.intersection(&b);
            for at in 0..500 {
                proptest::prop_assert_eq!(has(&both, at), has(&a, at) && has(&b, at), "byte {}", at);
            }
            for range in [0..500, 17..18, 100..400, 499..600] {
                let within: Vec<_> = both.within(range.clone()).flatten().collect();
                let expected: Vec<_> = range.filter(|at| has(&both, *at)).collect();
                proptest::prop_assert_eq!(within, expected);
            }
            proptest::prop_assert!(both.extents().iter().all(|extent| extent.reason == Reason::Mapped));
        }
    }
}
