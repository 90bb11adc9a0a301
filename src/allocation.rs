//! Which byte ranges of a source are in use, and why.
//!
//! A range is free only if something proves it; everything else is in use.

#![warn(clippy::arithmetic_side_effects)]

pub mod holes;

use std::ops::Range;

use crate::error::Result;
use crate::source::Source;
use crate::units::length;

/// How many extents a map holds at most: 24 MiB of them. Past it, the shortest gaps count as used.
const MAX_EXTENTS: usize = 1 << 20;

/// How to find out what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// All that can be trusted: as yet the same as [`Scan::Sparse`].
    #[default]
    Auto,
    /// Holes of sparse files.
    Sparse,
}

/// Why a range is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no hole of the sparse file that holds it.
    Data,
    /// Nothing tells what of a device is free.
    Unknown,
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

    /// How many bytes are in use.
    pub fn used(&self) -> u64 {
        self.extents
            .iter()
            .fold(0, |sum, extent| sum.saturating_add(length(&extent.range)))
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

/// Finds out what of a source is in use.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) if the source cannot be asked.
pub fn scan(source: &dyn Source, scan: Scan) -> Result<AllocationMap> {
    match scan {
        Scan::Auto | Scan::Sparse => holes::scan(source),
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
}
