//! Disks of which every write is known: what an image must hold needs nobody to be asked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::support::{Dir, noise};

/// A disk: holes, and what was written into them, later writes over earlier ones.
#[derive(Clone, Debug)]
pub struct Disk {
    size: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    /// Nothing but a hole of `size` bytes.
    pub fn hole(size: u64) -> Self {
        let writes = Vec::new();
        Self { size, writes }
    }

    /// Writes bytes that are not zeros, neither the first nor the last of them.
    pub fn data(self, range: Range<u64>) -> Self {
        let mut bytes = noise(range.start, (range.end - range.start) as usize);
        *bytes.first_mut().unwrap() |= 1;
        *bytes.last_mut().unwrap() |= 1;
        self.bytes(range.start, bytes)
    }

    /// Writes zeros, which is not the same as a hole.
    pub fn zeros(self, range: Range<u64>) -> Self {
        self.bytes(range.start, vec![0; (range.end - range.start) as usize])
    }

    /// Writes `bytes`.
    pub fn bytes(mut self, at: u64, bytes: Vec<u8>) -> Self {
        assert!(
            at + bytes.len() as u64 <= self.size,
            "a write past the end of the disk"
        );
        self.writes.push((at, bytes));
        self
    }

    /// Its size in bytes, not rounded to sectors.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A sparse file that is this disk.
    pub fn file(&self, dir: &Dir, name: &str) -> PathBuf {
        let writes: Vec<_> = self
            .writes
            .iter()
            .map(|(at, bytes)| (*at, bytes.as_slice()))
            .collect();
        dir.sparse(name, self.size, &writes)
    }

    /// The clusters that were written to, by number, each padded with zeros to its full size.
    pub fn clusters(&self, cluster_size: u64) -> BTreeMap<u64, Vec<u8>> {
        let mut clusters = BTreeMap::new();
        for (at, bytes) in &self.writes {
            let (mut at, mut rest) = (*at, bytes.as_slice());
            while !rest.is_empty() {
                let (number, within) = (at / cluster_size, (at % cluster_size) as usize);
                let (now, later) = rest.split_at(rest.len().min(cluster_size as usize - within));
                let cluster = clusters
                    .entry(number)
                    .or_insert_with(|| vec![0; cluster_size as usize]);
                cluster[within..within + now.len()].copy_from_slice(now);
                (at, rest) = (at + now.len() as u64, later);
            }
        }
        clusters
    }

    /// Those of them that hold anything but zeros.
    pub fn data_clusters(&self, cluster_size: u64) -> BTreeMap<u64, Vec<u8>> {
        let mut clusters = self.clusters(cluster_size);
        clusters.retain(|_, bytes| bytes.iter().any(|byte| *byte != 0));
        clusters
    }
}
