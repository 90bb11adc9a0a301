//! Clusters that are stored as they are, held back while a cluster of streams is not full.

use crate::units::{GuestCluster, to_u64};

/// No more are held back once there are as many bytes: enough that a cluster which is left half empty does not
/// matter.
const MAX_BYTES: u64 = 8 << 20;

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
        to_u64(self.bytes.len()) >= MAX_BYTES
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
