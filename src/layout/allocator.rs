//! Host clusters, handed out one after the other: nothing is ever given back, so there are no gaps.

use crate::units::{Exact, HostOffset};

/// The end of the image so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocator {
    cluster_size: u64,
    clusters: u64,
}

impl Allocator {
    /// `clusters` are taken already. `cluster_size` in bytes.
    pub(super) fn new(cluster_size: u64, clusters: u64) -> Self {
        Self {
            cluster_size,
            clusters,
        }
    }

    /// Takes consecutive clusters; returns where the first begins.
    pub(super) fn take(&mut self, clusters: u64) -> HostOffset {
        let start = self.end();
        self.clusters.increase(clusters);
        start
    }

    /// How many clusters are taken.
    pub(super) fn clusters(&self) -> u64 {
        self.clusters
    }

    /// The first byte behind them. `Room` has made sure that it stays below 2^56.
    pub(super) fn end(&self) -> HostOffset {
        HostOffset(self.clusters.times(self.cluster_size))
    }
}
