//! A map made of what is told of it, in whatever order.

use std::ops::Range;

use super::map::{AllocationMap, MAX_EXTENTS, Reason};
use super::ranges::{Ranges, Rounding};
use crate::disk::Segments;

/// Makes a map of what different sources tell of the same bytes.
///
/// Used wins over free: a byte is free if one of them calls it free and none calls it used. What none of them speaks of
/// is in use. The order in which they tell it does not matter. What is too much for memory counts as used.
#[derive(Debug)]
pub struct MapBuilder {
    size: u64,
    free: Ranges,
    /// By reason, that which is told first where there are two.
    used: Vec<(Reason, Ranges)>,
    /// What of that which is mapped is metadata.
    metadata: Ranges,
    most: usize,
}

impl MapBuilder {
    /// A map of `size` bytes, of which none is known to be free.
    pub fn new(size: u64) -> Self {
        Self::bounded(size, MAX_EXTENTS)
    }

    /// A map of `size` bytes, all of which are free but for those that will be called used.
    pub fn all_free(size: u64) -> Self {
        let mut map = Self::new(size);
        map.free(0..size);
        map
    }

    pub(super) fn bounded(size: u64, most: usize) -> Self {
        Self {
            size,
            free: Ranges::new(Rounding::Down, most),
            used: Vec::new(),
            metadata: Ranges::new(Rounding::Up, most),
            most,
        }
    }

    /// Bytes are free, unless somebody else uses them.
    pub fn free(&mut self, range: Range<u64>) {
        self.free.add(self.there(range));
    }

    /// Bytes are in use.
    pub fn used(&mut self, range: Range<u64>, reason: Reason) {
        let (range, most) = (self.there(range), self.most);
        let reason = if reason == Reason::Metadata {
            self.metadata(range.clone());
            Reason::Mapped
        } else {
            reason
        };
        let place = self.used.binary_search_by_key(&reason, |(reason, _)| *reason);
        let place = place.unwrap_or_else(|place| {
            self.used.insert(place, (reason, Ranges::new(Rounding::Up, most)));
            place
        });
        if let Some((_, ranges)) = self.used.get_mut(place) {
            ranges.add(range);
        }
    }

    /// What of some bytes is in use by a map is metadata. If there is too much of it, what lies between is called so,
    /// too, if it is in use.
    pub fn metadata(&mut self, range: Range<u64>) {
        self.metadata.add(self.there(range));
    }

    /// Bytes of a volume are what its own map says. It ends no later than the volume.
    pub(super) fn volume(&mut self, map: &AllocationMap, segments: &Segments) {
        for (range, _, reason) in map.parts() {
            for range in segments.resolve(&range) {
                match reason {
                    Some(reason) => self.used(range, reason),
                    None => self.free(range),
                }
            }
        }
    }

    /// The map.
    pub fn build(self) -> AllocationMap {
        let mut map = AllocationMap::bounded(self.size, self.most);
        let mut free = Ahead::of(self.free);
        let mut used: Vec<_> = self
            .used
            .into_iter()
            .map(|(reason, ranges)| (reason, Ahead::of(ranges)))
            .collect();
        let mut metadata = Ahead::of(self.metadata);
        let mut at = 0;
        while at < self.size {
            let (is_free, mut end) = free.look(at);
            let mut found = (!is_free).then_some(Reason::Unknown);
            for (reason, ranges) in used.iter_mut().rev() {
                let (is_used, border) = ranges.look(at);
                end = end.min(border);
                if is_used {
                    found = Some(*reason);
                }
            }
            if found == Some(Reason::Mapped) {
                let (is_metadata, border) = metadata.look(at);
                end = end.min(border);
                if is_metadata {
                    found = Some(Reason::Metadata);
                }
            }
            end = end.min(self.size);
            if let Some(reason) = found {
                map.push(at..end, reason);
            }
            at = end;
        }
        map
    }

    fn there(&self, range: Range<u64>) -> Range<u64> {
        range.start.min(self.size)..range.end.min(self.size)
    }
}

/// Ranges that are walked along, ascending and apart.
#[derive(Debug)]
struct Ahead(std::iter::Peekable<std::vec::IntoIter<Range<u64>>>);

impl Ahead {
    fn of(ranges: Ranges) -> Self {
        Self(ranges.into_settled().into_iter().peekable())
    }

    /// Whether a byte that lies no further back than the last one is in them, and up to where that is so: behind the
    /// byte.
    fn look(&mut self, at: u64) -> (bool, u64) {
        while self.0.next_if(|range| range.end <= at).is_some() {}
        match self.0.peek() {
            None => (false, u64::MAX),
            Some(range) if range.start > at => (false, range.start),
            Some(range) => (true, range.end),
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::super::map::State;
    use super::*;

    const REASONS: [Reason; 6] = [
        Reason::Metadata,
        Reason::Mapped,
        Reason::Behind,
        Reason::Unpartitioned,
        Reason::Data,
        Reason::Unknown,
    ];

    /// One thing that is told: nothing is a reason, or free.
    type Told = (Range<u64>, Option<Reason>);

    fn told() -> impl proptest::strategy::Strategy<Value = Told> {
        use proptest::strategy::Strategy;
        (0_u64..250, 0_u64..40, 0_usize..9)
            .prop_map(|(start, length, reason)| (start..start + length, REASONS.get(reason).copied()))
    }

    fn built(size: u64, told: &[Told], most: usize) -> AllocationMap {
        let mut map = MapBuilder::bounded(size, most);
        for (range, reason) in told {
            match reason {
                Some(reason) => map.used(range.clone(), *reason),
                None => map.free(range.clone()),
            }
        }
        map.build()
    }

    fn at(map: &AllocationMap, byte: u64) -> Option<Reason> {
        let part = map.parts().find(|(range, ..)| range.contains(&byte));
        part.expect("all of the disk has a state").2
    }

    #[test]
    fn what_nobody_speaks_of_is_in_use() {
        let map = built(100, &[(10..20, None)], 10);
        assert_eq!(map.bytes(State::Free), 10);
        assert_eq!(at(&map, 50), Some(Reason::Unknown));
    }

    #[test]
    fn what_one_calls_free_and_another_used_is_used_whoever_comes_first() {
        let (free, used) = ((0..60, None), (40..50, Some(Reason::Mapped)));
        for told in [[free.clone(), used.clone()], [used, free]] {
            let map = built(60, &told, 10);
            let used: Vec<_> = (0..60).filter(|byte| at(&map, *byte).is_some()).collect();
            assert_eq!(used, (40..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_map_of_a_volume_comes_back_through_its_segments() {
        let mut inner = MapBuilder::all_free(30);
        inner.used(8..12, Reason::Mapped);
        let segments = Segments::new([50..60, 20..40]).unwrap();
        let mut map = MapBuilder::new(100);
        map.volume(&inner.build(), &segments);
        map.used(0..20, Reason::Unpartitioned);
        map.used(40..50, Reason::Unpartitioned);
        map.used(60..100, Reason::Unpartitioned);
        let map = map.build();
        let free: Vec<_> = (0..100).filter(|byte| at(&map, *byte).is_none()).collect();
        let expected: Vec<_> = (22..40).chain(50..58).collect();
        assert_eq!(free, expected);
        assert_eq!(at(&map, 21), Some(Reason::Mapped));
        assert_eq!(at(&map, 58), Some(Reason::Mapped));
    }

    proptest::proptest! {
        #[test]
        fn each_byte_is_what_is_told_of_it_in_whatever_order(
            told in proptest::collection::vec(told(), 0..40),
            turn in 0_usize..40,
        ) {
            let map = built(256, &told, 1000);
            for byte in 0..256 {
                let all = told.iter().filter(|(range, _)| range.contains(&byte));
                let reasons: Vec<_> = all.map(|(_, reason)| *reason).collect();
                let first = REASONS.into_iter().find(|reason| reasons.contains(&Some(*reason)));
                let expected = first.or(reasons.is_empty().then_some(Reason::Unknown));
                proptest::prop_assert_eq!(at(&map, byte), expected, "byte {}", byte);
            }
            let mut turned = told.clone();
            turned.rotate_left(turn.min(told.len()));
            turned.reverse();
            proptest::prop_assert_eq!(built(256, &turned, 1000), map);
        }

        #[test]
        fn with_few_extents_it_calls_nothing_free_that_is_not(
            told in proptest::collection::vec(told(), 0..40),
            most in 1_usize..12,
        ) {
            let (exact, bounded) = (built(256, &told, 1000), built(256, &told, most));
            proptest::prop_assert!(bounded.extents().len() <= most);
            for byte in 0..256 {
                let is_right = at(&bounded, byte).is_some() || at(&exact, byte).is_none();
                proptest::prop_assert!(is_right, "byte {}", byte);
            }
        }
    }
}
