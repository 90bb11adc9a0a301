//! Where the bytes of a volume lie: in one stretch, as those of a partition do, or in many.

use std::ops::Range;

use crate::units::{Exact, claimed_end, length};

/// Where the bytes of a volume lie in what holds it, in the order of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

/// A stretch of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// Where it begins in the volume, in bytes.
    at: u64,
    /// Where it lies, in bytes.
    range: Range<u64>,
}

impl Segment {
    /// Where it ends in the volume: no more than what was added up in [`Segments::new`].
    fn end(&self) -> u64 {
        self.at.plus(length(&self.range))
    }
}

impl Segments {
    /// All of a range, which tells a place even if it is empty.
    pub fn one(range: Range<u64>) -> Self {
        Self(vec![Segment { at: 0, range }])
    }

    /// Of ranges in the order of the volume; none if they are longer together than anything can be.
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Option<Self> {
        let (mut segments, mut at) = (Vec::<Segment>::new(), 0_u64);
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let end = at.checked_add(length(&range))?;
            match segments.last_mut() {
                Some(last) if last.range.end == range.start => last.range.end = range.end,
                Some(_) | None => segments.push(Segment { at, range }),
            }
            at = end;
        }
        Some(Self(segments))
    }

    /// The length of the volume, in bytes.
    pub fn size(&self) -> u64 {
        self.0.last().map_or(0, Segment::end)
    }

    /// Its first bytes, as many as these, if it has as many.
    #[must_use]
    pub fn up_to(&self, size: u64) -> Self {
        Self::new(self.resolve(&(0..size))).unwrap_or_else(|| self.clone())
    }

    /// Where its bytes lie, in the order of the volume.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = &Range<u64>> {
        self.0.iter().map(|segment| &segment.range)
    }

    /// The range of that number, in the order of the volume, and the offset in the volume at which it begins.
    pub fn nth(&self, number: usize) -> Option<(u64, Range<u64>)> {
        let segment = self.0.get(number)?;
        Some((segment.at, segment.range.clone()))
    }

    /// Where the bytes of a range of the volume lie, as far as it reaches.
    pub fn resolve(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let (start, end) = (range.start, range.end);
        let first = self.0.partition_point(|segment| segment.end() <= start);
        let segments = self.0.get(first..).unwrap_or_default().iter();
        segments
            .take_while(move |segment| segment.at < end)
            .map(move |segment| {
                let place = |at: u64| {
                    let within = at.clamp(segment.at, segment.end()).minus(segment.at);
                    segment.range.start.plus(within)
                };
                place(start)..place(end)
            })
    }

    /// What of some ranges of what holds it is of the volume: ascending and apart, if they are.
    pub fn common(&self, others: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut common: Vec<_> = self.shared(others).map(|(_, range)| range).collect();
        common.sort_by_key(|range| range.start);
        common
    }

    /// The same in bytes of the volume: ascending.
    pub fn located(&self, others: &[Range<u64>]) -> Vec<Range<u64>> {
        let located = self.shared(others);
        located.map(|(at, range)| at..at.plus(length(&range))).collect()
    }

    /// What of some ranges, which are ascending and apart, is of the volume, in the order of that, and where it begins in it.
    fn shared(&self, others: &[Range<u64>]) -> impl Iterator<Item = (u64, Range<u64>)> {
        self.0.iter().flat_map(move |segment| {
            let own = &segment.range;
            let first = others.partition_point(|other| other.end <= own.start);
            let others = others.get(first..).unwrap_or_default().iter();
            let here = others.take_while(|other| other.start < own.end);
            here.map(|other| {
                let range = other.start.max(own.start)..other.end.min(own.end);
                (segment.at.plus(range.start.minus(own.start)), range)
            })
        })
    }

    /// Where the bytes of a volume of this volume lie, as far as this reaches.
    #[must_use]
    pub fn within(&self, inner: &Self) -> Self {
        let ranges = inner.ranges().flat_map(|range| self.resolve(range));
        // No longer than `inner`, so that there is one.
        let segments = Self::new(ranges).filter(|segments| segments.size() > 0);
        segments.unwrap_or_else(|| {
            let place = self.place(inner.start());
            Self::one(place..place)
        })
    }

    /// From the first byte of what holds it that is of the volume to the last.
    pub fn around(&self) -> Range<u64> {
        let start = self.ranges().map(|range| range.start).min().unwrap_or(0);
        let end = self.ranges().map(|range| range.end).max().unwrap_or(start);
        start..end
    }

    /// Where it begins, in bytes of what holds it.
    pub fn start(&self) -> u64 {
        self.ranges().next().map_or(0, |range| range.start)
    }

    /// Where a byte of the volume lies, or is claimed to; of those behind its end, the end of its last segment.
    pub fn place(&self, at: u64) -> u64 {
        let here = self.resolve(&(at..claimed_end(at, 1))).next();
        let end = || self.ranges().last().map_or(0, |last| last.end);
        here.map_or_else(end, |range| range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(segments: &Segments, range: Range<u64>) -> Vec<(u64, u64)> {
        let ranges = segments.resolve(&range);
        ranges.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn a_range_of_a_volume_lies_in_as_many_places_as_the_volume_does_there() {
        let segments = Segments::new([100..110, 110..120, 50..60, 7..7, 200..210]).unwrap();
        assert_eq!((segments.size(), segments.ranges().len()), (40, 3));
        assert_eq!(resolved(&segments, 0..5), [(100, 105)]);
        assert_eq!(resolved(&segments, 5..35), [(105, 120), (50, 60), (200, 205)]);
        assert_eq!(resolved(&segments, 20..30), [(50, 60)]);
        assert_eq!(resolved(&segments, 35..99), [(205, 210)]);
        assert_eq!(resolved(&segments, 40..50), []);
        let has = |at: u64| segments.ranges().any(|range| range.contains(&at));
        assert!(has(55) && !has(60));
        assert_eq!(
            (segments.place(39), segments.place(40), segments.place(u64::MAX)),
            (209, 210, 210)
        );
    }

    #[test]
    fn a_volume_in_a_volume_lies_where_both_say() {
        let outer = Segments::new([100..110, 50..60]).unwrap();
        let inner = Segments::new([15..20, 5..12]).unwrap();
        let ranges: Vec<_> = outer.within(&inner).ranges().cloned().collect();
        assert_eq!(ranges, [55..60, 105..110, 50..52]);
    }

    #[test]
    fn only_what_lies_in_a_volume_is_of_it() {
        let segments = Segments::new([100..110, 50..60]).unwrap();
        let others = [0..52, 55..57, 58..101, 105..200];
        assert_eq!(segments.located(&others), [0..1, 5..10, 10..12, 15..17, 18..20]);
        assert_eq!(
            segments.common(&others),
            [50..52, 55..57, 58..60, 100..101, 105..110]
        );
        assert_eq!(segments.located(&[0..50, 60..100]), []);
        assert_eq!(segments.around(), 50..110);
    }

    #[test]
    fn what_would_be_longer_than_anything_is_no_volume() {
        assert_eq!(Segments::new([0..u64::MAX, 0..u64::MAX]), None);
        assert_eq!((Segments::one(5..5).size(), Segments::one(5..5).start()), (0, 5));
    }
}
