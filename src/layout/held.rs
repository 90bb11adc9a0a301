//! Clusters that are stored as they are, held back while a cluster of streams is not full.

use crate::units::{GuestCluster, to_u64};

/// With so many bytes, and so many clusters, no more are held back: the rest of one cluster that is left empty for
/// their sake does not matter.
const ENOUGH_BYTES: u64 = 8 << 20;

/// 64 MiB with clusters of 2 MiB.
const ENOUGH_CLUSTERS: usize = 32;

/// Clusters that wait for their place, ascending.
#[derive(Debug, Default)]
pub(super) struct Held {
    clusters: Vec<GuestCluster>,
    /// All of them, one after the other.
    bytes: Vec<u8>,
}

impl Held {
    /// Adds a cluster.
    pub(super) fn push(&mut self, cluster: GuestCluster, bytes: &[u8]) {
        self.clusters.push(cluster);
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// Whether nothing more should be.
    pub(super) fn is_full(&self) -> bool {
        to_u64(self.bytes.len()) >= ENOUGH_BYTES && self.clusters.len() >= ENOUGH_CLUSTERS
    }

    /// Which they are.
    pub(super) fn clusters(&self) -> &[GuestCluster] {
        &self.clusters
    }

    /// What is in them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.clusters.clear();
        self.bytes.clear();
    }
}
