//! What is known of clusters of a disk without a look at them.

use std::ops::Range;

use super::Chain;
use super::qcow2::structures::digest::Digest;
use super::qcow2::{Freshness, Image, Lookup};
use crate::disk::Disk;
use crate::error::Result;
use crate::units::{Exact, GuestCluster, GuestOffset};

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is zeros.
    Zeros,
    /// It has this digest.
    Digest(Digest),
    /// Nothing: it has to be read.
    Nothing,
}

impl Chain {
    /// What is known of each cluster of a range, whose cluster size in bytes need not be that of any image. What lies
    /// behind the end of the disk is zeros.
    ///
    /// # Errors
    ///
    /// Those of [`place_at`](Self::place_at), and of [`Lookup::sum`].
    pub(crate) fn known(&self, clusters: Range<u64>, cluster_size: u64) -> Result<Vec<Known>> {
        let range_end = clusters.end.times(cluster_size);
        let (mut run, mut run_range) = (None, 0..0);
        let mut all = Vec::new();
        for number in clusters {
            let start = number.times(cluster_size);
            let end = start.plus(cluster_size).min(self.len());
            if start >= end {
                all.push(Known::Zeros);
                continue;
            }
            if !run_range.contains(&start) {
                let found = self.place_at(GuestOffset(start), range_end.minus(start))?;
                run_range = start..start.plus(found.length);
                run = Some(found);
            }
            all.push(match &run {
                Some(run) if end <= run_range.end && run.is_zero() => Known::Zeros,
                Some(run) if end <= run_range.end => self.digest_at(run.depth, number, cluster_size)?,
                Some(_) | None => Known::Nothing,
            });
        }
        Ok(all)
    }

    /// What the image that holds a cluster records of it.
    fn digest_at(&self, depth: usize, number: u64, cluster_size: u64) -> Result<Known> {
        let digest = match self.lookup_at(depth) {
            Some((image, sums)) if is_trusted(image, cluster_size) => {
                sums.sum(image, GuestCluster(number))?
            }
            Some(_) | None => None,
        };
        let digest = digest.and_then(|sum| sum.digest);
        Ok(digest.map_or(Known::Nothing, Known::Digest))
    }

    fn lookup_at(&self, depth: usize) -> Option<(&Image, &Lookup)> {
        let sums = self.guards.as_ref()?.sums(depth)?;
        Some((self.image_at(depth)?, sums))
    }
}

/// Whether digests of an image are of clusters of that size, and sure to be of what it holds now: version 2 does not tell
/// of changes.
fn is_trusted(image: &Image, cluster_size: u64) -> bool {
    image.header().geometry().cluster_size() == cluster_size && image.freshness() == Freshness::Unchanged
}
