//! Which clusters of the disk there is something in, batch by batch.

use std::ops::Range;

use crate::disk::Disk;
use crate::error::Result;
use crate::formats::Chain;
use crate::formats::qcow2::structures::checksum::MAX_RUN;
use crate::formats::qcow2::structures::geometry::{ClusterCounts, Geometry};
use crate::units::{Exact, GuestCluster, GuestOffset};

/// Cuts the clusters in which one of `disks` has data into batches of at most `max_clusters` (1 or more), ascending.
/// After an error there are no more.
pub(super) fn batches(
    disks: Vec<&Chain>,
    geometry: Geometry,
    max_clusters: u64,
) -> impl Iterator<Item = Result<Range<u64>>> {
    let mut ahead: Vec<Option<Range<u64>>> = vec![None; disks.len()];
    let (mut at, mut has_failed) = (0_u64, false);
    std::iter::from_fn(move || {
        if has_failed || at >= geometry.clusters() {
            return None;
        }
        let from = geometry.start_of(GuestCluster(at)).0;
        let mut next: Option<Range<u64>> = None;
        for (disk, ahead) in disks.iter().zip(&mut ahead) {
            match data(disk, ahead, from, geometry.size()) {
                Ok(Some(found)) if next.as_ref().is_none_or(|next| found.start < next.start) => {
                    next = Some(found);
                }
                Ok(_) => {}
                Err(error) => {
                    has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        let next = next?;
        let first = geometry.cluster_of(GuestOffset(next.start)).0;
        let end = geometry.clusters_for(next.end).min(first.plus(max_clusters));
        at = end;
        Some(Ok(first..end))
    })
}

/// The first data of a disk from `from` on, which is behind all that was asked for before.
fn data(disk: &Chain, ahead: &mut Option<Range<u64>>, from: u64, size: u64) -> Result<Option<Range<u64>>> {
    if ahead.as_ref().is_none_or(|data| data.end <= from) {
        // None stays none: behind it there is nothing.
        *ahead = Some(disk.data_in(from..size)?.unwrap_or(u64::MAX..u64::MAX));
    }
    let found = ahead.as_ref().filter(|data| data.start < size);
    Ok(found.map(|data| data.start.max(from)..data.end))
}

/// Counts the clusters that may have to be stored: not those that only images from number `merged` on have.
///
/// # Errors
///
/// Those of [`Chain::place_at`].
pub(super) fn count(
    chain: &Chain,
    base: Option<&Chain>,
    geometry: Geometry,
    merged: usize,
) -> Result<ClusterCounts> {
    let disks = [chain].into_iter().chain(base).collect();
    let (mut content, mut counted, mut next_table) = (ClusterCounts::default(), 0_u64, 0_u64);
    for batch in batches(disks, geometry, MAX_RUN.into()) {
        let batch = batch?;
        let mut at = geometry.start_of(GuestCluster(batch.start)).0;
        let end = geometry.start_of(GuestCluster(batch.end)).0.min(geometry.size());
        while at < end {
            let run = chain.place_at(GuestOffset(at), end.minus(at))?;
            let run_end = at.plus(run.length.max(1));
            if run.depth < merged {
                let first = geometry.cluster_of(GuestOffset(at)).0.max(counted);
                let behind = geometry.clusters_for(run_end).max(first);
                let first_table = (first / geometry.l2_entries()).max(next_table);
                if behind > first {
                    next_table = behind.div_ceil(geometry.l2_entries()).max(next_table);
                    content.l2_tables = content.l2_tables.plus(next_table.saturating_sub(first_table));
                    content.runs.increase(u64::from(first != counted || counted == 0));
                    content.clusters.increase(behind.minus(first));
                    counted = behind;
                }
            }
            at = run_end;
        }
    }
    content.runs = content.runs.plus(content.clusters / u64::from(MAX_RUN));
    Ok(content)
}
