//! Which byte ranges are in use: what all schemes and the sparse scan come to.

use std::ops::Range;

use crate::units::{Exact, length};

/// How many extents a map holds at most: 24 MiB of them. Past it, the shortest gaps count as used.
pub(super) const MAX_EXTENTS: usize = 1 << 20;

/// Why a range is in use. Where there are two reasons, the first of them is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is the filesystem's own: what tells where files lie, and directories. Of what it has, what is not is
    /// [`Self::Mapped`].
    Metadata,
    /// The map of the filesystem, or other format, that it belongs to says so.
    Mapped,
    /// It lies behind the end of the filesystem.
    Behind,
    /// It lies outside of all partitions: tables, boot code, gaps.
    Unpartitioned,
    /// It lies in a file that was not looked into.
    Data,
    /// Nothing tells what is free there, or nothing that can be trusted.
    Unknown,
}

/// What a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use, and has to be read.
    Data,
    /// The same, and a filesystem's own: what tells where files lie, and directories.
    Metadata,
    /// In use, or nothing tells, and known to be zeros: a hole. It must read as zeros after every restore.
    Zeros,
    /// Free: a filesystem, or another format that can be trusted, says so.
    Free,
}

impl State {
    /// Whether it has to be read.
    pub fn is_read(self) -> bool {
        match self {
            Self::Data | Self::Metadata => true,
            Self::Zeros | Self::Free => false,
        }
    }
}

/// A range that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the virtual disk.
    pub range: Range<u64>,
    /// Why they are in use.
    pub reason: Reason,
    /// They are known to be zeros, and need not be read.
    pub is_zeros: bool,
}

impl Extent {
    /// What it is: never free.
    pub fn state(&self) -> State {
        match (self.is_zeros, self.reason) {
            (true, _) => State::Zeros,
            (false, Reason::Metadata) => State::Metadata,
            (
                false,
                Reason::Mapped | Reason::Behind | Reason::Unpartitioned | Reason::Data | Reason::Unknown,
            ) => State::Data,
        }
    }
}

/// The ranges of a source that are in use, to be read or zeros: ascending, apart, and bounded in number. All others are
/// free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationMap {
    size: u64,
    extents: Vec<Extent>,
    /// Gaps shorter than this count as used, and zeros shorter than this as data, in bytes. From 1 on, what touches
    /// and differs by its reason only is one extent.
    shortest_gap: u64,
    max_extents: usize,
}

impl AllocationMap {
    /// A map of `size` bytes, of which none is in use.
    pub(super) fn bounded(size: u64, max_extents: usize) -> Self {
        Self {
            size,
            extents: Vec::new(),
            shortest_gap: 0,
            max_extents,
        }
    }

    /// The bytes it speaks of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is in use, to be read or zeros, ascending.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// All of the disk, ascending: what is in use with the reason, and what is free between.
    pub fn parts(&self) -> impl Iterator<Item = (Range<u64>, State, Option<Reason>)> {
        self.parts_in(0..self.size)
    }

    /// The same of a range.
    pub fn parts_in(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, State, Option<Reason>)> {
        let Range { start, end } = range;
        let first = self.extents.partition_point(|extent| extent.range.end <= start);
        let behind = self.extents.partition_point(|extent| extent.range.start < end);
        let extents = self.extents.get(first..behind).unwrap_or_default().iter();
        let used = extents.map(move |extent| {
            let part = extent.range.start.max(start)..extent.range.end.min(end);
            (part, extent.state(), Some(extent.reason))
        });
        let free = |gap| (gap, State::Free, None);
        let ends = std::iter::once(start).chain(used.clone().map(|(part, ..)| part.end));
        let starts = used.clone().map(|(part, ..)| part.start);
        let gaps = ends
            .zip(starts.chain([end]))
            .map(move |(end, start)| free(end..start));
        gaps.zip(used.chain([free(0..0)]))
            .flat_map(|(gap, used)| [gap, used])
            .filter(|(range, ..)| !range.is_empty())
    }

    /// What has to be read, ascending. Ranges may touch.
    pub fn data(&self) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        let data = self.extents.iter().filter(|extent| !extent.is_zeros);
        data.map(|extent| extent.range.clone())
    }

    /// What of a range has to be read, ascending.
    pub fn data_within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        self.within(range)
            .filter(|(_, state)| state.is_read())
            .map(|(part, _)| part)
    }

    /// What of a range is in use, ascending, and what that is.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, State)> + '_ {
        let first = self
            .extents
            .partition_point(|extent| extent.range.end <= range.start);
        let extents = self.extents.get(first..).unwrap_or_default().iter();
        extents
            .map(move |extent| {
                let part = extent.range.start.max(range.start)..extent.range.end.min(range.end);
                (part, extent.state())
            })
            .take_while(|(part, _)| !part.is_empty())
    }

    /// How many bytes are in a state.
    pub fn bytes(&self, state: State) -> u64 {
        self.bytes_in(state, &(0..self.size))
    }

    /// How many bytes of a range are in a state.
    pub fn bytes_in(&self, state: State, range: &Range<u64>) -> u64 {
        let there = range.start.min(self.size)..range.end.min(self.size);
        if state == State::Free {
            // Extents are apart: what is used of it is no longer than it is.
            return length(&there).minus(self.used_in(&there));
        }
        let parts = self.within(there).filter(|(_, found)| *found == state);
        parts.map(|(part, _)| length(&part)).sum()
    }

    /// How many bytes have to be read.
    pub fn to_read(&self) -> u64 {
        self.to_read_in(&(0..self.size))
    }

    /// How many bytes of a range have to be read.
    pub(super) fn to_read_in(&self, range: &Range<u64>) -> u64 {
        self.data_within(range.clone()).map(|part| length(&part)).sum()
    }

    /// How many bytes are in use, to be read or zeros.
    pub fn used(&self) -> u64 {
        self.used_in(&(0..self.size))
    }

    /// How many bytes of a range are in use, to be read or zeros.
    pub(super) fn used_in(&self, range: &Range<u64>) -> u64 {
        let parts = self.within(range.clone());
        parts.map(|(part, _)| length(&part)).sum()
    }

    /// Marks a range as used that begins at or behind the end of the last one.
    ///
    /// # Panics
    ///
    /// If it does not: then a byte in use could pass for free.
    pub(super) fn push(&mut self, range: Range<u64>, reason: Reason) {
        self.push_extent(Extent {
            range,
            reason,
            is_zeros: false,
        });
    }

    fn push_extent(&mut self, mut extent: Extent) {
        extent.range.end = extent.range.end.min(self.size);
        if extent.range.is_empty() {
            return;
        }
        while !self.extend_last(&extent) {
            if self.extents.len() < self.max_extents {
                self.extents.push(extent);
                return;
            }
            self.thin_out();
        }
    }

    /// The same map, with zeros for what lies outside of `data`, which is ascending and apart: holes.
    pub(super) fn with_holes(&self, data: &Self) -> Self {
        let mut map = Self::bounded(self.size, self.max_extents);
        let mut ahead = data.extents.as_slice();
        for extent in &self.extents {
            let mut at = extent.range.start;
            while at < extent.range.end {
                while let Some((first, behind)) = ahead.split_first()
                    && first.range.end <= at
                {
                    ahead = behind;
                }
                let next = ahead.first().filter(|next| next.range.start < extent.range.end);
                let (end, is_zeros) = match next {
                    None => (extent.range.end, true),
                    Some(next) if next.range.start > at => (next.range.start, true),
                    Some(next) => (next.range.end.min(extent.range.end), false),
                };
                // What reads as data is that much more than nothing.
                let reason = match (extent.reason, next) {
                    (Reason::Unknown, Some(next)) if !is_zeros => next.reason,
                    (reason, _) => reason,
                };
                map.push_extent(Extent {
                    range: at..end,
                    reason,
                    is_zeros,
                });
                at = end;
            }
        }
        map
    }

    /// Lets the last extent reach to the end of the next, if nothing worth telling lies between them.
    fn extend_last(&mut self, next: &Extent) -> bool {
        let shortest_gap = self.shortest_gap;
        let Some(last) = self.extents.last_mut() else {
            return false;
        };
        assert!(
            last.range.end <= next.range.start,
            "extents come in ascending order"
        );
        let is_same = (last.reason, last.is_zeros) == (next.reason, next.is_zeros);
        let goes_on = last.range.end == next.range.start && is_same;
        let is_one = goes_on || (shortest_gap > 0 && joins(last, next, shortest_gap));
        if is_one {
            join(last, next);
        }
        is_one
    }

    /// Counts gaps as used, and zeros as data, that are shorter than twice what was too short so far: nothing is lost
    /// by it. Before it does so, reasons that touch become one.
    fn thin_out(&mut self) {
        // Where it cannot be doubled, every gap is short.
        self.shortest_gap = self.shortest_gap.saturating_mul(2).max(1);
        let shortest_gap = self.shortest_gap;
        self.extents.dedup_by(|next, kept| {
            let joins = joins(kept, next, shortest_gap);
            if joins {
                join(kept, next);
            }
            joins
        });
    }
}

/// Whether an extent and the next one count as one where gaps and zeros shorter than `shortest` are not told.
fn joins(last: &Extent, next: &Extent, shortest: u64) -> bool {
    let is_short = |extent: &Extent| !extent.is_zeros || length(&extent.range) < shortest;
    let is_alike = last.is_zeros == next.is_zeros || (is_short(last) && is_short(next));
    is_alike && next.range.start.minus(last.range.end) < shortest
}

/// Lets an extent reach to the end of the next. If either has to be read, so has all of it; if either is metadata, so is
/// all of it.
fn join(last: &mut Extent, next: &Extent) {
    last.range.end = last.range.end.max(next.range.end);
    last.is_zeros &= next.is_zeros;
    if next.reason == Reason::Metadata {
        last.reason = Reason::Metadata;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn empty(size: u64) -> AllocationMap {
        AllocationMap::bounded(size, MAX_EXTENTS)
    }

    #[test]
    fn touching_extents_are_one() {
        let mut map = empty(100);
        map.push(0..10, Reason::Data);
        map.push(10..20, Reason::Data);
        map.push(30..200, Reason::Data);
        let ranges: Vec<_> = map.extents().iter().map(|extent| extent.range.clone()).collect();
        assert_eq!(ranges, [0..20, 30..100]);
        assert_eq!(map.used(), 90);
    }

    #[test]
    fn what_is_used_in_a_range_is_counted_to_its_borders() {
        let mut map = empty(100);
        map.push(0..10, Reason::Data);
        map.push(20..30, Reason::Data);
        map.push(50..60, Reason::Data);
        let ranges = [0..100, 5..55, 10..20, 25..26, 60..100, 0..0];
        let used = ranges.clone().map(|range| map.bytes_in(State::Data, &range));
        assert_eq!(used, [30, 20, 0, 1, 0, 0]);
        let free = ranges.map(|range| map.bytes_in(State::Free, &range));
        assert_eq!(free, [70, 30, 10, 0, 40, 0]);
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

    #[test]
    fn a_map_that_grows_too_large_forgets_where_metadata_ends_before_it_calls_anything_used_that_is_free() {
        let mut map = AllocationMap::bounded(1 << 20, 16);
        let reasons = [Reason::Mapped, Reason::Metadata, Reason::Mapped];
        let pushed = |at: u64| {
            (0..3)
                .zip(reasons)
                .map(move |(part, reason)| (at + part..at + part + 1, reason))
        };
        for (range, reason) in (0..10).flat_map(|number| pushed(number * 1000)) {
            map.push(range, reason);
        }
        assert_eq!((map.extents().len(), map.used()), (10, 30));
        assert_eq!(map.bytes(State::Metadata), 30);
        assert_eq!(map.to_read(), 30);
    }

    /// Of pairs of ascending cuts, each pair a range.
    fn map_of(cuts: &BTreeSet<u64>, reason: Reason) -> AllocationMap {
        let cuts: Vec<_> = cuts.iter().copied().collect();
        let mut map = empty(500);
        for pair in cuts.chunks_exact(2) {
            map.push(pair[0]..pair[1], reason);
        }
        map
    }

    fn state_at(map: &AllocationMap, at: u64) -> State {
        let extent = map.extents().iter().find(|extent| extent.range.contains(&at));
        extent.map_or(State::Free, Extent::state)
    }

    #[test]
    fn a_hole_in_use_is_zeros_and_a_hole_that_is_free_is_free() {
        let (mut used, mut data) = (empty(100), empty(100));
        used.push(10..40, Reason::Mapped);
        used.push(40..60, Reason::Unknown);
        data.push(0..20, Reason::Data);
        data.push(30..50, Reason::Data);
        let map = used.with_holes(&data);
        let told: Vec<_> = map.parts().collect();
        let expected = [
            (0..10, State::Free, None),
            (10..20, State::Data, Some(Reason::Mapped)),
            (20..30, State::Zeros, Some(Reason::Mapped)),
            (30..40, State::Data, Some(Reason::Mapped)),
            (40..50, State::Data, Some(Reason::Data)),
            (50..60, State::Zeros, Some(Reason::Unknown)),
            (60..100, State::Free, None),
        ];
        assert_eq!(told, expected);
        let bytes = [State::Data, State::Zeros, State::Free].map(|state| map.bytes(state));
        assert_eq!(bytes, [30, 20, 50]);
    }

    #[test]
    fn long_zeros_are_not_data_however_many_extents_there_are() {
        let mut data = AllocationMap::bounded(1 << 30, 64);
        let mut used = AllocationMap::bounded(1 << 30, 64);
        used.push(0..1 << 30, Reason::Mapped);
        for at in 0..60 {
            data.push(at * 4096..at * 4096 + 100, Reason::Data);
        }
        let map = used.with_holes(&data);
        assert!(map.extents().len() <= 64);
        assert_eq!(map.used(), 1 << 30);
        // The hole behind the last data, at least.
        assert!(map.bytes(State::Zeros) >= (1 << 30) - 60 * 4096);
        assert!(map.bytes(State::Data) >= 60 * 100);
    }

    proptest::proptest! {
        #[test]
        fn each_byte_is_what_the_two_maps_say_of_it(
            used in proptest::collection::btree_set(0_u64..500, 0..60),
            data in proptest::collection::btree_set(0_u64..500, 0..60),
        ) {
            let (used, data) = (map_of(&used, Reason::Mapped), map_of(&data, Reason::Data));
            let both = used.with_holes(&data);
            for at in 0..500 {
                let expected = match (state_at(&used, at), state_at(&data, at)) {
                    (State::Free, _) => State::Free,
                    (_, State::Free) => State::Zeros,
                    _ => State::Data,
                };
                proptest::prop_assert_eq!(state_at(&both, at), expected, "byte {}", at);
            }
            for range in [0..500, 17..18, 100..400, 499..600] {
                let within: Vec<_> = both.data_within(range.clone()).flatten().collect();
                let expected: Vec<_> = range.filter(|at| state_at(&both, *at) == State::Data).collect();
                proptest::prop_assert_eq!(within, expected);
            }
            proptest::prop_assert!(both.extents().iter().all(|extent| extent.reason == Reason::Mapped));
        }

        #[test]
        fn a_map_with_few_extents_reads_more_but_calls_nothing_free_or_zeros_that_is_not(
            used in proptest::collection::btree_set(0_u64..500, 0..60),
            data in proptest::collection::btree_set(0_u64..500, 0..60),
            max_extents in 1_usize..20,
        ) {
            let (mut used, data) = (map_of(&used, Reason::Mapped), map_of(&data, Reason::Data));
            let exact = used.with_holes(&data);
            used.max_extents = max_extents;
            let bounded = used.with_holes(&data);
            proptest::prop_assert!(bounded.extents().len() <= max_extents);
            for at in 0..500 {
                let is_right = match (state_at(&exact, at), state_at(&bounded, at)) {
                    (_, State::Data) | (State::Free, _) | (State::Zeros, State::Zeros) => true,
                    (State::Zeros | State::Data | State::Metadata, _) => false,
                };
                proptest::prop_assert!(is_right, "byte {}", at);
            }
        }
    }
}
