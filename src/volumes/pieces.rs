//! A source in pieces, each in one region.

use std::collections::BTreeMap;
use std::ops::Range;

use super::map::{AllocationMap, Reason, State};
use super::region::Region;
use crate::units::Exact;

/// A piece of the source, all of it in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub range: Range<u64>,
    /// What it is.
    pub state: State,
    /// Why it is in use, if it is: data or zeros.
    pub reason: Option<Reason>,
    /// The number of the innermost region that holds it; none if the source was not looked into.
    pub region: Option<usize>,
}

/// A stretch of which each byte has the same innermost region.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    end: u64,
    region: usize,
}

/// The parts of the map in some ranges, cut where regions begin and end.
pub(super) fn pieces<'a, R: Iterator<Item = Range<u64>>>(
    map: &'a AllocationMap,
    regions: &[Region],
    ranges: R,
) -> impl Iterator<Item = Piece> + use<'a, R> {
    let stretches = innermost(regions);
    let mut parts = ranges.flat_map(|range| map.parts_in(range));
    let mut rest = None;
    std::iter::from_fn(move || {
        let (mut range, state, reason) = rest.take().or_else(|| parts.next())?;
        let number = stretches.partition_point(|stretch| stretch.end <= range.start);
        let stretch = stretches.get(number);
        if let Some(end) = stretch.map(|stretch| stretch.end).filter(|end| *end < range.end) {
            rest = Some((end..range.end, state, reason));
            range.end = end;
        }
        let region = stretch.map(|stretch| stretch.region);
        Some(Piece {
            range,
            state,
            reason,
            region,
        })
    })
}

/// Which region is the innermost one where, ascending and without gaps: the first region is all of the source.
fn innermost(regions: &[Region]) -> Vec<Stretch> {
    // Of volumes that overlap, the one that begins last.
    let ranks = regions.iter().enumerate();
    let ranks = ranks.map(|(number, region)| (region.depth, number));
    let mut borders: Vec<_> = ranks
        .zip(regions)
        .flat_map(|(rank, region)| region.segments.ranges().map(move |range| (rank, range)))
        .filter(|(_, range)| !range.is_empty())
        .flat_map(|(rank, range)| [(range.start, true, rank), (range.end, false, rank)])
        .collect();
    borders.sort_unstable();
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut here = BTreeMap::<_, usize>::new();
    let mut borders = borders.into_iter().peekable();
    while let Some((at, begins, rank)) = borders.next() {
        let count = here.entry(rank).or_default();
        // What ends here has begun before: no range is empty.
        *count = if begins { count.plus(1) } else { count.minus(1) };
        if *count == 0 {
            here.remove(&rank);
        }
        let Some(end) = borders.peek().map(|(end, ..)| *end).filter(|end| *end > at) else {
            continue;
        };
        let Some(((_, region), _)) = here.last_key_value() else {
            continue;
        };
        match stretches.last_mut() {
            Some(last) if last.region == *region => last.end = end,
            Some(_) | None => stretches.push(Stretch { end, region: *region }),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::super::builder::MapBuilder;
    use super::super::region::Treatment;
    use super::*;
    use crate::disk::Segments;

    fn region(depth: usize, range: Range<u64>) -> Region {
        Region {
            segments: Segments::one(range),
            parent: None,
            depth,
            part: None,
            is_complete: true,
            name: None,
            label: None,
            details: Vec::new(),
            used: 0,
            copied: 0,
            metadata: 0,
            treatment: Treatment::Unknown,
        }
    }

    fn told(map: &AllocationMap, regions: &[Region]) -> Vec<(u64, u64, bool, Option<usize>)> {
        pieces(map, regions, std::iter::once(0..map.size()))
            .map(|piece| {
                let Range { start, end } = piece.range;
                (start, end, piece.state == State::Data, piece.region)
            })
            .collect()
    }

    #[test]
    fn a_range_in_two_regions_is_two_pieces() {
        let mut map = MapBuilder::all_free(100);
        map.used(5..45, Reason::Data);
        let map = map.build();
        let regions = [region(0, 0..100), region(1, 10..40), region(1, 40..60)];
        assert_eq!(
            told(&map, &regions),
            [
                (0, 5, false, Some(0)),
                (5, 10, true, Some(0)),
                (10, 40, true, Some(1)),
                (40, 45, true, Some(2)),
                (45, 60, false, Some(2)),
                (60, 100, false, Some(0)),
            ]
        );
    }

    #[test]
    fn what_was_not_looked_into_is_in_no_region() {
        let mut map = MapBuilder::all_free(100);
        map.used(5..45, Reason::Data);
        let map = map.build();
        assert_eq!(
            told(&map, &[]),
            [(0, 5, false, None), (5, 45, true, None), (45, 100, false, None)]
        );
    }

    #[test]
    fn where_regions_overlap_it_is_the_one_that_begins_last() {
        let mut map = MapBuilder::all_free(100);
        map.used(0..100, Reason::Unknown);
        let map = map.build();
        let regions = [region(0, 0..100), region(1, 0..50), region(1, 20..80)];
        assert_eq!(
            told(&map, &regions),
            [
                (0, 20, true, Some(1)),
                (20, 80, true, Some(2)),
                (80, 100, true, Some(0)),
            ]
        );
    }
}
