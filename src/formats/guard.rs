//! What holds clusters of a disk to the checksums that its images record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::qcow2::Lookup;
use crate::error::Corrupt;
use crate::units::{Exact, GuestCluster, to_u64, to_usize};
use crate::zero::is_zero;

/// How many clusters are kept of which a part was read, and how many bytes of them, at most.
const KEPT: (usize, usize) = (64, 16 << 20);

/// What holds clusters to their checksums when they are read: each image of a disk to its own.
#[derive(Debug)]
pub(crate) struct Guards {
    /// What they should be in each image, the one that was opened first; none if they do not count.
    sums: Vec<Option<Lookup>>,
    /// Those of which a part was read last: whoever reads a part of a cluster reads the next part soon.
    kept: Mutex<VecDeque<Kept>>,
}

/// A cluster of one of the images, and what was found when it was read.
#[derive(Clone, Debug)]
struct Kept {
    depth: usize,
    cluster: GuestCluster,
    found: Found,
}

impl Kept {
    /// How many bytes it takes.
    fn bytes(&self) -> usize {
        match &self.found {
            Found::Right(bytes) => bytes.len(),
            Found::Wrong(_) | Found::Unreadable => 0,
        }
    }
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

/// The CRC-32 of a cluster and what it should be, if that is another; one that is not listed must be zeros. `cluster`
/// is what a single image has of it: a whole one, but for what lies behind the end of the disk.
pub(crate) fn mismatch(cluster: &[u8], cluster_size: u64, expected: Option<u32>) -> Option<(u32, u32)> {
    let padding = vec![0; to_usize(cluster_size.saturating_sub(to_u64(cluster.len())))];
    let hash = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytes);
        hasher.update(&padding);
        hasher.finalize()
    };
    let expected = match expected {
        Some(expected) => expected,
        None if is_zero(cluster) => return None,
        None => hash(&vec![0; cluster.len()]),
    };
    let found = hash(cluster);
    (found != expected).then_some((found, expected))
}

impl Guards {
    /// Of the checksums of each image.
    pub(super) fn new(sums: Vec<Option<Lookup>>) -> Self {
        let kept = Mutex::default();
        Self { sums, kept }
    }

    /// What the clusters of the image of that number should be, if that counts.
    pub(super) fn sums(&self, depth: usize) -> Option<&Lookup> {
        self.sums.get(depth)?.as_ref()
    }

    /// How many images at the most it may be about.
    pub(super) fn depth(&self) -> usize {
        self.sums.len()
    }

    /// What was found of a cluster, if that is still known.
    pub(super) fn find(&self, depth: usize, cluster: GuestCluster) -> Option<Found> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = kept.iter().rev();
        let kept = newest.find(|kept| (kept.depth, kept.cluster) == (depth, cluster));
        kept.map(|kept| kept.found.clone())
    }

    /// Keeps what was found of a cluster.
    pub(super) fn keep(&self, depth: usize, cluster: GuestCluster, found: Found) {
        let new = Kept {
            depth,
            cluster,
            found,
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (most, most_bytes) = KEPT;
        let mut bytes = kept.iter().map(Kept::bytes).fold(new.bytes(), usize::plus);
        while kept.len() >= most || bytes > most_bytes {
            let Some(oldest) = kept.pop_front() else {
                break;
            };
            bytes = bytes.minus(oldest.bytes());
        }
        kept.push_back(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_must_be_zeros() {
        let mut cluster = vec![0; 512];
        let of_zeros = crc32fast::hash(&cluster);
        assert_eq!(mismatch(&cluster, 512, None), None);
        assert_eq!(mismatch(&cluster, 512, Some(of_zeros)), None);
        cluster[17] = 1;
        let found = crc32fast::hash(&cluster);
        assert_eq!(mismatch(&cluster, 512, None), Some((found, of_zeros)));
        assert_eq!(mismatch(&cluster, 512, Some(found)), None);
        assert_eq!(mismatch(&cluster, 512, Some(7)), Some((found, 7)));
        // Behind the end of the disk there are zeros.
        let (begin, _) = cluster.split_at(100);
        assert_eq!(mismatch(begin, 512, Some(found)), None);
    }

    #[test]
    fn clusters_of_each_image_are_kept_up_to_a_number_and_a_size() {
        let guards = Guards::new(Vec::new());
        let is_known = |depth, cluster| guards.find(depth, GuestCluster(cluster)).is_some();
        for cluster in 0..100 {
            guards.keep(1, GuestCluster(cluster), Found::Unreadable);
        }
        assert!(is_known(1, 99) && is_known(1, 36));
        assert!(!is_known(1, 35) && !is_known(0, 99));

        let large = Arc::new(vec![0; 6 << 20]);
        for cluster in 0..3 {
            guards.keep(2, GuestCluster(cluster), Found::Right(Arc::clone(&large)));
        }
        assert!(!is_known(1, 99) && !is_known(2, 0));
        assert!(is_known(2, 1) && is_known(2, 2));
    }
}
