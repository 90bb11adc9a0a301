//! Refcounts as they are, against how often clusters are used.

use std::ops::Range;

use super::catalogue::Code;
use super::findings::{Fault, Finding, Findings};
use super::window::Window;
use crate::units::{Exact, HostOffset, claimed_size, to_usize};

/// How many refcounts are compared in one job.
const JOB: u64 = 1 << 16;

/// What came of a job.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) found: Findings,
    /// One more than the last cluster that is used, or has a refcount that is not 0.
    pub(super) end: u64,
}

/// The refcounts of a window, cut into jobs: ranges of its entries, none of which spans two blocks.
pub(super) fn jobs(window: &Window<'_>) -> impl Iterator<Item = Range<u64>> + use<> {
    let entries = window.blocks.entries();
    let total = u64::from(window.numbers.end.minus(window.numbers.start)).times(entries);
    let step = entries.min(JOB);
    (0..total.checked_div(step).unwrap_or(0)).map(move |number| {
        let start = number.times(step);
        start..start.plus(step)
    })
}

/// Compares the refcounts of a range of entries.
pub(super) fn compare(window: &Window<'_>, range: Range<u64>) -> Compared {
    let (mut compared, mut run) = (Compared::default(), FaultRun::default());
    let entries = window.blocks.entries();
    let number = window.numbers.start.plus(
        // There are fewer blocks than 2^20.
        u32::try_from(range.start.checked_div(entries).unwrap_or(0)).unwrap_or(u32::MAX),
    );
    let Some(block) = window.blocks.all().get(to_usize(number.into())) else {
        return compared;
    };
    let within = range.start.checked_rem(entries).unwrap_or(0);
    let first = window.blocks.first_cluster(*block).plus(within);
    for (cluster, index) in (first..).zip(range) {
        let index = to_usize(index);
        let (stored, counted) = (window.stored(index), window.counts.get(index));
        if stored | counted != 0 {
            compared.end = cluster.plus(1);
        }
        // Counters that overflow stay at their largest value.
        if stored == counted && counted < u16::MAX.into() {
            continue;
        }
        let largest = window.blocks.width.largest();
        if counted > largest || window.overflown.has(index) {
            // A refcount table may count clusters past 64 bits.
            let at = HostOffset(claimed_size(cluster, window.blocks.geometry.cluster_size()));
            let fault = Fault::Overflow { at, largest };
            compared.found.add(Finding::new(Code::RefcountOverflow, fault));
        } else if stored != counted {
            run.add(cluster, stored, counted, window, &mut compared.found);
        }
    }
    run.tell(window, &mut compared.found);
    compared
}

/// Clusters side by side that have the same fault.
#[derive(Debug, Default)]
struct FaultRun {
    clusters: Range<u64>,
    stored: u64,
    counted: u64,
}

impl FaultRun {
    fn add(&mut self, cluster: u64, stored: u64, counted: u64, window: &Window<'_>, found: &mut Findings) {
        let is_same = self.clusters.end == cluster && (self.stored, self.counted) == (stored, counted);
        if !is_same || self.clusters.is_empty() {
            self.tell(window, found);
            self.clusters.start = cluster;
        }
        self.clusters.end = cluster.plus(1);
        (self.stored, self.counted) = (stored, counted);
    }

    fn tell(&self, window: &Window<'_>, found: &mut Findings) {
        if !self.clusters.is_empty() {
            found.add(window.miscounted(self.clusters.clone(), self.stored, self.counted));
        }
    }
}
