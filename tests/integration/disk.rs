//! Disks of which every write is known: what an image must hold needs nobody to be asked.

use std::collections::BTreeMap;
use std::fmt;
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

    /// Holes, data and zeros side by side, within clusters of this size and at their borders.
    pub fn alternating(cluster: u64) -> Self {
        Self::hole(cluster * 24 + 1536)
            .data(cluster..cluster * 2)
            .zeros(cluster * 2..cluster * 4)
            .data(cluster * 4 - 1..cluster * 4 + 1)
            .data(cluster * 7 + 100..cluster * 7 + 300)
            .zeros(cluster * 7 + 300..cluster * 8)
            .data(cluster * 8..cluster * 8 + 1)
            .zeros(cluster * 12..cluster * 13 + 512)
            .data(cluster * 15 - 512..cluster * 15)
            .data(cluster * 24..cluster * 24 + 1536)
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

    /// An image of this disk, `disk.qcow2`, with more options; the disk itself is `disk.raw`.
    #[track_caller]
    pub fn image(&self, dir: &Dir, options: impl fmt::Display) -> PathBuf {
        self.file(dir, "disk.raw");
        dir.image(options)
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
