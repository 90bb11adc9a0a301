//! Reads of a disk that keep the clusters of which a part was read: whoever reads a part of one reads the next part
//! soon, and each cluster is decompressed and compared with its checksum as a whole.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::Disk;
use crate::error::Result;
use crate::idle::Idle;
use crate::units::{Exact, rest_of, to_u64, to_usize, within};

/// How many bytes of clusters are kept at most.
const ROOM: u64 = 64 << 20;

/// How many bytes are read at once at least: the kernel asks for no less than a page.
const PAGE: u64 = 4 << 10;

/// A disk, and the clusters of it that were read last.
#[derive(Debug)]
pub(super) struct Clusters<D> {
    disk: D,
    /// How many bytes are kept as one: a cluster of the image, or more.
    unit: u64,
    kept: Mutex<Kept>,
    /// The memory of clusters that were forgotten: to have the system clear new memory takes as long as decompressing.
    spare: Idle<Vec<u8>>,
}

/// A cluster that is being read, or was read. Those who want the same one wait for it.
type Cluster = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

/// Clusters by their numbers, in two generations: when the younger is full, the older one is forgotten.
#[derive(Debug)]
struct Kept {
    young: HashMap<u64, Cluster>,
    old: HashMap<u64, Cluster>,
    /// How many clusters a generation has at most.
    most: usize,
}

impl Kept {
    /// A cluster, which may have to be read yet. The memory of those that are forgotten goes to `spare`.
    fn get(&mut self, number: u64, spare: &Idle<Vec<u8>>) -> Cluster {
        if let Some(cluster) = self.young.get(&number) {
            return Arc::clone(cluster);
        }
        if self.young.len() >= self.most {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            // One that is being read, or copied from, keeps its memory.
            let clusters = forgotten.into_values().filter_map(Arc::into_inner);
            let bytes = clusters.filter_map(|cluster| cluster.into_inner().ok().flatten());
            bytes
                .filter_map(Arc::into_inner)
                .for_each(|bytes| spare.give(bytes));
        }
        let cluster = self.old.remove(&number).unwrap_or_default();
        self.young.insert(number, Arc::clone(&cluster));
        cluster
    }
}

impl<D: Disk> Clusters<D> {
    pub(super) fn of(disk: D) -> Self {
        let unit = disk.grain().max(PAGE);
        let most = to_usize((ROOM / 2).checked_div(unit).unwrap_or(0).max(1));
        let kept = Kept {
            young: HashMap::new(),
            old: HashMap::new(),
            most,
        };
        Self {
            disk,
            unit,
            kept: Mutex::new(kept),
            spare: Idle::default(),
        }
    }

    /// The disk.
    pub(super) fn disk(&self) -> &D {
        &self.disk
    }

    /// As [`Disk::read_at`].
    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let length = to_u64(rest.len());
            let whole = self.whole(at, length);
            let now = if whole > 0 {
                whole
            } else {
                rest_of(at, self.unit).min(length)
            };
            let (part, behind) = rest.split_at_mut(to_usize(now));
            if whole > 0 {
                self.disk.read_at(part, at)?;
            } else {
                self.read_part(part, at)?;
            }
            at.increase(now);
            rest = behind;
        }
        Ok(())
    }

    /// How many bytes of `length` from `at` on are whole clusters, of which the last may end with the disk.
    fn whole(&self, at: u64, length: u64) -> u64 {
        if within(at, self.unit) != 0 {
            return 0;
        }
        if at.plus(length) == self.disk.len() {
            return length;
        }
        length.minus(within(length, self.unit))
    }

    /// Fills `buf` with a part of one cluster.
    fn read_part(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let into = within(at, self.unit);
        let start = at.minus(into);
        let cluster = self.cluster(start)?;
        let into = to_usize(into);
        match cluster.get(into..into.plus(buf.len())) {
            Some(bytes) => buf.copy_from_slice(bytes),
            // Behind the end of the disk, which the disk tells.
            None => self.disk.read_at(buf, at)?,
        }
        Ok(())
    }

    /// The cluster that begins there. One that cannot be read is not kept.
    fn cluster(&self, start: u64) -> Result<Arc<Vec<u8>>> {
        let number = start.checked_div(self.unit).unwrap_or(0);
        let cluster = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(number, &self.spare);
        let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*cluster {
            return Ok(Arc::clone(bytes));
        }
        let length = self.unit.min(self.disk.len().saturating_sub(start));
        let mut bytes = self.spare.take().unwrap_or_default();
        bytes.resize(to_usize(length), 0);
        self.disk.read_at(&mut bytes, start)?;
        Ok(Arc::clone(cluster.insert(Arc::new(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn disk(length: u64) -> MemoryDisk {
        let mut disk = MemoryDisk::new(length);
        let noise = crate::noise::noise(to_usize(length));
        disk.bytes.copy_from_slice(&noise);
        disk
    }

    #[test]
    fn every_range_reads_as_the_disk_does() {
        let disk = disk(5 * PAGE + 700);
        let bytes = disk.bytes.clone();
        let clusters = Clusters::of(disk);
        for start in (0..bytes.len()).step_by(411) {
            for length in [1, 511, 4096, 9000, bytes.len()] {
                let expected = &bytes[start..bytes.len().min(start + length)];
                let mut found = vec![0; expected.len()];
                clusters.read_at(&mut found, to_u64(start)).unwrap();
                assert_eq!(found, expected, "{start} {length}");
            }
        }
    }

    #[test]
    fn no_more_clusters_are_kept_than_there_is_room_for() {
        let mut clusters = Clusters::of(disk(64 * PAGE));
        clusters.kept.get_mut().unwrap().most = 4;
        for number in (0..64).chain(10..20) {
            let mut byte = [0];
            clusters.read_at(&mut byte, number * PAGE + 1).unwrap();
            // Whatever its memory held before.
            assert_eq!(byte[0], clusters.disk.bytes[to_usize(number * PAGE + 1)]);
            let kept = clusters.kept.get_mut().unwrap();
            assert!(kept.young.len() + kept.old.len() <= 8);
            assert!(kept.young.contains_key(&number));
        }
    }

    #[test]
    fn a_cluster_that_cannot_be_read_is_an_error_each_time() {
        let mut disk = disk(4 * PAGE);
        disk.bad = PAGE..PAGE + 512;
        let clusters = Clusters::of(disk);
        for _ in 0..2 {
            assert!(clusters.read_at(&mut [0; 16], 2 * PAGE - 16).is_err());
            assert!(clusters.read_at(&mut [0; 16], 2 * PAGE).is_ok());
        }
    }
}
