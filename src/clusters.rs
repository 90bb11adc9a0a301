//! From byte ranges to batches of clusters: what is read in one go.

use std::ops::Range;

use crate::error::Result;
use crate::formats::qcow2::structures::checksum::MAX_RUN;
use crate::formats::qcow2::structures::geometry::{ClusterCounts, Geometry};
use crate::units::{Exact, GuestCluster, GuestOffset};
use crate::volumes::{AllocationMap, Extent};

/// Consecutive clusters of the virtual disk, each of them data at least in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The first cluster.
    pub first: GuestCluster,
    /// How many clusters.
    pub count: u64,
    /// The bytes to be read, ascending; what lies between them is to be zeros.
    pub used: Vec<Range<u64>>,
}

/// Cuts what is data into batches of at most `max_clusters` (1 or more) consecutive clusters, ascending.
pub fn batches(
    map: &AllocationMap,
    geometry: Geometry,
    max_clusters: u64,
) -> impl Iterator<Item = Batch> + use<'_> {
    let mut data = map.data();
    let mut rest = data.next();
    std::iter::from_fn(move || {
        let first = first_of(geometry, rest.as_ref()?);
        let limit = first.plus(max_clusters);
        let mut end = first;
        let mut used: Vec<Range<u64>> = Vec::new();
        while let Some(range) = rest.take() {
            let starts = first_of(geometry, &range);
            if starts > end || starts >= limit {
                rest = Some(range);
                break;
            }
            let taken = range.start..range.end.min(geometry.start_of(GuestCluster(limit)).0);
            end = end_of(geometry, &taken);
            if taken.end < range.end {
                rest = Some(taken.end..range.end);
            } else {
                rest = data.next();
            }
            match used.last_mut() {
                Some(last) if last.end == taken.start => last.end = taken.end,
                Some(_) | None => used.push(taken),
            }
        }
        Some(Batch {
            first: GuestCluster(first),
            count: end.minus(first),
            used,
        })
    })
}

/// What is data as [`batches`] has it, and between that what `others` tells to be data on another disk: of that, nothing
/// is to be read. It is asked for the first data in a range of bytes. After an error there is no more.
pub fn batches_over<'a>(
    map: &'a AllocationMap,
    geometry: Geometry,
    max_clusters: u64,
    mut others: impl FnMut(Range<u64>) -> Result<Option<Range<u64>>> + 'a,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    let mut own = batches(map, geometry, max_clusters).peekable();
    let (mut at, mut has_failed) = (0_u64, false);
    std::iter::from_fn(move || {
        while !has_failed {
            let next = own.peek().map_or(geometry.clusters(), |batch| batch.first.0);
            if at >= next {
                let batch = own.next()?;
                at = batch.first.0.plus(batch.count);
                return Some(Ok(batch));
            }
            let end = geometry.start_of(GuestCluster(next)).0.min(geometry.size());
            let data = match others(geometry.start_of(GuestCluster(at)).0..end) {
                Ok(Some(data)) => data,
                Ok(None) => {
                    at = next;
                    continue;
                }
                Err(error) => {
                    has_failed = true;
                    return Some(Err(error));
                }
            };
            let first = first_of(geometry, &data).max(at);
            at = end_of(geometry, &data).min(next).min(first.plus(max_clusters));
            return Some(Ok(Batch {
                first: GuestCluster(first),
                count: at.minus(first),
                used: Vec::new(),
            }));
        }
        None
    })
}

/// The same of [`batches_over`] another disk: an upper bound, because what is data there may be the same here.
///
/// # Errors
///
/// Those of `others`.
pub fn count_over(
    map: &AllocationMap,
    geometry: Geometry,
    others: impl FnMut(Range<u64>) -> Result<Option<Range<u64>>>,
) -> Result<ClusterCounts> {
    let mut counter = Counter::default();
    for batch in batches_over(map, geometry, MAX_RUN.into(), others) {
        let batch = batch?;
        counter.add(geometry, &(batch.first.0..batch.first.0.plus(batch.count)));
    }
    Ok(counter.content)
}

/// Counts the clusters with data, the tables they need and the runs they form.
pub fn count(map: &AllocationMap, geometry: Geometry) -> ClusterCounts {
    let mut counter = Counter::default();
    for run in runs(map, geometry) {
        counter.add(geometry, &run);
    }
    counter.content
}

/// Counts runs of clusters, which come in ascending order.
#[derive(Default)]
struct Counter {
    content: ClusterCounts,
    /// The first L2 table that was not counted yet.
    next_table: u64,
}

impl Counter {
    fn add(&mut self, geometry: Geometry, run: &Range<u64>) {
        let clusters = run.end.minus(run.start);
        let first_table = (run.start / geometry.l2_entries()).max(self.next_table);
        self.next_table = run.end.div_ceil(geometry.l2_entries());
        self.content.clusters.increase(clusters);
        let tables = self.next_table.minus(first_table);
        self.content.l2_tables = self.content.l2_tables.plus(tables);
        self.content.runs.increase(clusters.div_ceil(MAX_RUN.into()));
    }
}

/// The longest stretches of consecutive clusters with data, ascending.
pub(crate) fn runs(map: &AllocationMap, geometry: Geometry) -> Runs<'_> {
    Runs {
        extents: map.extents(),
        geometry,
        with_zeros: false,
    }
}

/// The longest stretches of consecutive clusters that are free all over, ascending.
pub(crate) fn free_runs(
    map: &AllocationMap,
    geometry: Geometry,
) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
    let used = Runs {
        with_zeros: true,
        ..runs(map, geometry)
    };
    let clusters = geometry.clusters();
    let mut end = 0;
    used.chain(std::iter::once(clusters..clusters))
        .filter_map(move |used| {
            let free = end..used.start;
            end = used.end;
            (!free.is_empty()).then_some(free)
        })
}

/// What [`runs`] returns.
#[derive(Clone, Debug)]
pub(crate) struct Runs<'a> {
    /// Those that are still to come.
    extents: &'a [Extent],
    geometry: Geometry,
    /// Clusters count that hold zeros and no data, too.
    with_zeros: bool,
}

impl Runs<'_> {
    /// The clusters of the next extent that counts.
    fn clusters(&mut self) -> Option<Range<u64>> {
        loop {
            let (next, behind) = self.extents.split_first()?;
            if self.with_zeros || !next.is_zeros {
                return Some(first_of(self.geometry, &next.range)..end_of(self.geometry, &next.range));
            }
            self.extents = behind;
        }
    }

    fn pass(&mut self) {
        self.extents = self.extents.get(1..).unwrap_or_default();
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let mut run = self.clusters()?;
        self.pass();
        while let Some(next) = self.clusters().filter(|next| next.start <= run.end) {
            run.end = next.end;
            self.pass();
        }
        Some(run)
    }
}

fn first_of(geometry: Geometry, range: &Range<u64>) -> u64 {
    geometry.cluster_of(GuestOffset(range.start)).0
}

fn end_of(geometry: Geometry, range: &Range<u64>) -> u64 {
    geometry.clusters_for(range.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::geometry::ClusterSize;
    use crate::units::to_u64;
    use crate::volumes::{MapBuilder, Reason};

    fn map(size: u64, ranges: &[Range<u64>]) -> (AllocationMap, Geometry) {
        let mut map = MapBuilder::all_free(size);
        for range in ranges {
            map.used(range.clone(), Reason::Data);
        }
        (map.build(), Geometry::new(ClusterSize::MIN, size).unwrap())
    }

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "a list of one range is what is meant"
    )]
    fn a_batch_ends_where_the_next_cluster_is_free() {
        let (map, geometry) = map(10_000, &[1..2, 600..601, 1023..1024, 2000..4000]);
        let batches: Vec<_> = batches(&map, geometry, 3).collect();
        let expected = [
            Batch {
                first: GuestCluster(0),
                count: 2,
                used: vec![1..2, 600..601, 1023..1024],
            },
            Batch {
                first: GuestCluster(3),
                count: 3,
                used: vec![2000..3072],
            },
            Batch {
                first: GuestCluster(6),
                count: 2,
                used: vec![3072..4000],
            },
        ];
        assert_eq!(batches, expected);
        assert_eq!(
            count(&map, geometry),
            ClusterCounts {
                clusters: 7,
                l2_tables: 1,
                runs: 2
            }
        );
    }

    proptest::proptest! {
        #[test]
        fn batches_hold_every_used_byte_once_and_no_other(
            cuts in proptest::collection::btree_set(0_u64..200_000, 0..200),
            max_clusters in 1_u64..9,
        ) {
            let cuts: Vec<_> = cuts.into_iter().collect();
            let ranges: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let (map, geometry) = map(200_000, &ranges);
            let mut bytes = vec![false; 200_000];
            let mut next = 0;
            let (mut clusters, mut tables) = (0, std::collections::BTreeSet::new());
            for batch in batches(&map, geometry, max_clusters) {
                assert!(batch.count >= 1 && batch.count <= max_clusters && batch.first.0 >= next);
                next = batch.first.0 + batch.count;
                clusters += batch.count;
                tables.extend((batch.first.0..next).map(|cluster| cluster / 64));
                for range in batch.used {
                    assert!(range.start >= batch.first.0 * 512 && range.end <= next * 512 && !range.is_empty());
                    for at in range {
                        assert!(!std::mem::replace(&mut bytes[usize::try_from(at).unwrap()], true));
                    }
                }
            }
            for (at, used) in bytes.iter().enumerate() {
                assert_eq!(*used, ranges.iter().any(|r| r.contains(&u64::try_from(at).unwrap())));
            }
            let content = count(&map, geometry);
            assert_eq!((content.clusters, content.l2_tables), (clusters, to_u64(tables.len())));
        }
    }
}
