//! What holds clusters of a disk to the checksums that its image records.

use std::sync::{Arc, Mutex, PoisonError};

use super::qcow2::Lookup;
use crate::error::Corrupt;
use crate::units::{GuestCluster, to_u64, to_usize};
use crate::zero::is_zero;

/// How many clusters are kept of which a part was read.
const KEPT: usize = 8;

/// What holds clusters to their checksums when they are read.
#[derive(Debug)]
pub(super) struct Guard {
    /// What they should be.
    pub(super) sums: Lookup,
    /// Those of which a part was read last: whoever reads a part of a cluster reads the next part soon.
    kept: Mutex<Vec<Kept>>,
}

/// A cluster, and what was found when it was read.
#[derive(Clone, Debug)]
struct Kept {
    cluster: GuestCluster,
    found: Found,
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// It is what it was.
    Right(Arc<Vec<u8>>),
    /// It is not.
    Wrong(Corrupt),
    /// Not all of it could be read, so that nothing can be compared.
    Unreadable,
}

/// The CRC-32 of a cluster and what it should be, if that is another; one that is not listed must be zeros, unless it may
/// come out of a backing file. `cluster` is a whole one, but for what lies behind the end of the disk.
pub(crate) fn mismatch(
    cluster: &[u8],
    cluster_size: u64,
    expected: Option<u32>,
    is_alone: bool,
) -> Option<(u32, u32)> {
    let padding = vec![0; to_usize(cluster_size.saturating_sub(to_u64(cluster.len())))];
    let hash = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytes);
        hasher.update(&padding);
        hasher.finalize()
    };
    let expected = match expected {
        Some(expected) => expected,
        None if is_alone && !is_zero(cluster) => hash(&vec![0; cluster.len()]),
        None => return None,
    };
    let found = hash(cluster);
    (found != expected).then_some((found, expected))
}

impl Guard {
    /// Of these checksums.
    pub(super) fn new(sums: Lookup) -> Self {
        let kept = Mutex::default();
        Self { sums, kept }
    }

    /// What was found of a cluster, if that is still known.
    pub(super) fn find(&self, cluster: GuestCluster) -> Option<Found> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.iter().rfind(|kept| kept.cluster == cluster);
        kept.map(|kept| kept.found.clone())
    }

    /// Keeps what was found of a cluster.
    pub(super) fn keep(&self, cluster: GuestCluster, found: Found) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Kept { cluster, found });
    }
}
