//! How many clusters of a disk are what.

use crate::error::Result;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::{Exact, GuestOffset};

/// How many clusters of a disk are what, the last one perhaps in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// They hold data as it is. With extended L2 entries, all those of which any subcluster does.
    pub data: u64,
    /// They are compressed.
    pub compressed: u64,
    /// They are zeros, with room kept for data or without. With extended L2 entries, some subclusters are, and
    /// none holds data.
    pub zeros: u64,
    /// They are in the backing file, or nowhere.
    pub unallocated: u64,
    /// How many bytes of the disk are data, compressed or not.
    pub data_bytes: u64,
}

/// What a cluster is; of its subclusters the last in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClusterKind {
    Unallocated,
    Zeros,
    Data,
    Compressed,
}

impl Allocation {
    /// Counts the clusters of the active state.
    ///
    /// # Errors
    ///
    /// Those of [`Image::run_at`].
    pub fn of(image: &Image) -> Result<Self> {
        let (view, cluster_size) = (image.active(), image.header().geometry().cluster_size());
        let mut count = Self::default();
        // The cluster in which the last run ended: the next one may begin there.
        let mut open: Option<(u64, ClusterKind)> = None;
        let (mut at, mut cursor) = (0_u64, image.walk(view));
        while at < view.size {
            let run = cursor.run_at(GuestOffset(at), u64::MAX)?;
            let kind = kind(run.mapping);
            if kind >= ClusterKind::Data {
                count.data_bytes.increase(run.length);
            }
            let first = at.checked_div(cluster_size).unwrap_or(0);
            at.increase(run.length);
            let clusters = at.div_ceil(cluster_size).minus(first);
            let of_first = match open.take() {
                Some((number, before)) if number == first => before.max(kind),
                before => {
                    count.add(before.map(|(_, kind)| kind), 1);
                    kind
                }
            };
            if clusters > 1 {
                count.add(Some(of_first), 1);
                count.add(Some(kind), clusters.minus(2));
                open = Some((first.plus(clusters).minus(1), kind));
            } else {
                open = Some((first, of_first));
            }
        }
        count.add(open.map(|(_, kind)| kind), 1);
        Ok(count)
    }

    fn add(&mut self, kind: Option<ClusterKind>, clusters: u64) {
        let count = match kind {
            None => return,
            Some(ClusterKind::Unallocated) => &mut self.unallocated,
            Some(ClusterKind::Zeros) => &mut self.zeros,
            Some(ClusterKind::Data) => &mut self.data,
            Some(ClusterKind::Compressed) => &mut self.compressed,
        };
        count.increase(clusters);
    }
}

fn kind(mapping: Mapping) -> ClusterKind {
    match mapping {
        Mapping::Unallocated => ClusterKind::Unallocated,
        Mapping::Zero | Mapping::ZeroAllocated(_) => ClusterKind::Zeros,
        Mapping::Data(_) => ClusterKind::Data,
        Mapping::Compressed(_) => ClusterKind::Compressed,
    }
}
