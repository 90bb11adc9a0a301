//! Ranges in any order, as one set of bytes: bounded in number.

use std::ops::Range;

use crate::units::{Exact, length};

/// Which way a set goes that has too many ranges to keep all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// It grows by its shortest gaps.
    Up,
    /// It loses its shortest ranges.
    Down,
}

/// A set of bytes, as ranges. They come in any order, and may overlap.
#[derive(Debug)]
pub(super) struct Ranges {
    list: Vec<Range<u64>>,
    /// They are ascending, and none touches the next.
    is_settled: bool,
    rounding: Rounding,
    /// Gaps, or ranges, shorter than this are too short to be kept, in bytes.
    shortest: u64,
    most: usize,
}

impl Ranges {
    /// No byte, and `most` ranges at most, which is not 0.
    pub(super) fn new(rounding: Rounding, most: usize) -> Self {
        Self {
            list: Vec::new(),
            is_settled: true,
            rounding,
            shortest: 1,
            most,
        }
    }

    /// Adds the bytes of a range.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.list.last_mut() {
            if last.start <= range.start && range.start <= last.end {
                last.end = last.end.max(range.end);
                return;
            }
            self.is_settled &= last.end < range.start;
        }
        self.list.push(range);
        if self.list.len() > self.most {
            self.settle();
        }
    }

    /// All of it, ascending and apart.
    pub(super) fn into_settled(mut self) -> Vec<Range<u64>> {
        self.settle();
        self.list
    }

    /// Sorts them, puts together those that touch, and lets go of the shortest if there are too many.
    fn settle(&mut self) {
        if !self.is_settled {
            self.list.sort_unstable_by_key(|range| range.start);
            self.close(0);
            self.is_settled = true;
        }
        if self.list.len() > self.most {
            // So few that it is not to be done again for each of the next.
            let few = self.most.minus(self.most / 8);
            while self.list.len() > few {
                // Where it cannot be doubled, none is as long.
                self.shortest = self.shortest.saturating_mul(2);
                self.thin_out();
            }
        }
    }

    fn thin_out(&mut self) {
        let shortest = self.shortest;
        match self.rounding {
            Rounding::Up => self.close(shortest),
            Rounding::Down => self.list.retain(|range| length(range) >= shortest),
        }
    }

    /// Puts together what overlaps, touches, or has a gap between that is shorter than this.
    fn close(&mut self, shortest: u64) {
        self.list.dedup_by(|next, kept| {
            let joins = next.start <= kept.end || next.start.minus(kept.end) < shortest;
            if joins {
                kept.end = kept.end.max(next.end);
            }
            joins
        });
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn settled(ranges: &[Range<u64>], rounding: Rounding, most: usize) -> Vec<Range<u64>> {
        let mut set = Ranges::new(rounding, most);
        for range in ranges {
            set.add(range.clone());
        }
        set.into_settled()
    }

    fn bytes(ranges: &[Range<u64>]) -> BTreeSet<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_set_of_all_bytes_that_were_added_in_whatever_order(
            cuts in proptest::collection::vec((0_u64..300, 0_u64..20), 0..60),
            most in 1_usize..70,
        ) {
            let ranges: Vec<_> = cuts.iter().map(|(start, length)| *start..start + length).collect();
            let expected = bytes(&ranges);
            let exact = settled(&ranges, Rounding::Up, 100);
            proptest::prop_assert_eq!(bytes(&exact), expected.clone());
            for rounding in [Rounding::Up, Rounding::Down] {
                let bounded = settled(&ranges, rounding, most);
                let found = bytes(&bounded);
                let is_right = match rounding {
                    Rounding::Up => found.is_superset(&expected),
                    Rounding::Down => found.is_subset(&expected),
                };
                proptest::prop_assert!(bounded.len() <= most);
                proptest::prop_assert!(bounded.is_sorted_by(|one, next| one.end < next.start));
                proptest::prop_assert!(is_right, "{:?}", rounding);
                if exact.len() <= most && ranges.len() <= most {
                    proptest::prop_assert_eq!(&bounded, &exact);
                }
            }
        }
    }
}
