//! An exFAT in memory, to change what no tool changes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A volume with sectors of 512 bytes.
pub struct Volume {
    pub bytes: Vec<u8>,
    path: PathBuf,
}

impl Volume {
    pub fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes[108], 9, "sectors of 512 bytes");
        let path = path.to_owned();
        Self { bytes, path }
    }

    /// Writes it to where it came from, with the right checksums.
    pub fn write(mut self) {
        self.seal();
        fs::write(&self.path, &self.bytes).unwrap();
    }

    /// The same with those checksums that are there.
    pub fn write_unsealed(self) {
        fs::write(&self.path, &self.bytes).unwrap();
    }

    /// Sets bytes in both boot regions.
    pub fn set_boot(&mut self, at: usize, bytes: &[u8]) {
        for region in [0, 12 * 512] {
            self.bytes[region + at..region + at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn seal(&mut self) {
        for region in [0, 12 * 512] {
            let mut sum = 0_u32;
            for (index, byte) in self.bytes[region..region + 11 * 512].iter().enumerate() {
                if index != 106 && index != 107 && index != 112 {
                    sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
                }
            }
            let last = &mut self.bytes[region + 11 * 512..region + 12 * 512];
            last.copy_from_slice(&sum.to_le_bytes().repeat(128));
        }
    }

    pub fn word(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap()) as usize
    }

    pub fn clusters(&self) -> usize {
        self.word(92)
    }

    pub fn cluster_size(&self) -> usize {
        512 << self.bytes[109]
    }

    pub fn root(&self) -> usize {
        self.word(96)
    }

    pub fn heap(&self) -> usize {
        self.word(88) * 512
    }

    /// The bytes of a cluster.
    pub fn cluster(&self, number: usize) -> Range<usize> {
        let start = self.heap() + (number - 2) * self.cluster_size();
        start..start + self.cluster_size()
    }

    pub fn fat(&self, number: usize) -> Range<usize> {
        let start = (self.word(80) + number * self.word(84)) * 512;
        start..start + self.word(84) * 512
    }

    pub fn set_entry(&mut self, fat: usize, cluster: usize, next: u32) {
        let at = self.fat(fat).start + 4 * cluster;
        self.bytes[at..at + 4].copy_from_slice(&next.to_le_bytes());
    }

    /// Writes a chain.
    pub fn link(&mut self, fat: usize, chain: &[usize]) {
        for pair in chain.windows(2) {
            self.set_entry(fat, pair[0], pair[1] as u32);
        }
        self.set_entry(fat, *chain.last().unwrap(), u32::MAX);
    }

    /// Where the entry of this type stands that comes so many after the first one, in the first cluster of the root.
    pub fn system_entry(&self, kind: u8) -> usize {
        let root = self.cluster(self.root());
        let mut entries = root.step_by(32);
        entries.find(|at| self.bytes[*at] == kind).unwrap()
    }

    /// The clusters of the first bitmap, which lie in one piece.
    pub fn bitmap(&self) -> Vec<usize> {
        let entry = self.system_entry(0x81);
        let count = self.word(entry + 24).div_ceil(self.cluster_size());
        (self.word(entry + 20)..).take(count).collect()
    }

    /// The bits of the first bitmap.
    pub fn bits(&self) -> Vec<u8> {
        let clusters = self.bitmap();
        clusters
            .iter()
            .flat_map(|cluster| self.bytes[self.cluster(*cluster)].to_vec())
            .collect()
    }

    /// Puts bits into clusters.
    pub fn put_bits(&mut self, clusters: &[usize], bits: &[u8]) {
        let size = self.cluster_size();
        for (cluster, bits) in clusters.iter().zip(bits.chunks(size)) {
            let start = self.cluster(*cluster).start;
            self.bytes[start..start + bits.len()].copy_from_slice(bits);
        }
    }

    /// The last clusters that are free.
    pub fn free(&self, count: usize) -> Vec<usize> {
        let bits = self.bits();
        let clusters = (2..self.clusters() + 2).rev();
        clusters
            .filter(|cluster| !is_set(&bits, *cluster))
            .take(count)
            .collect()
    }
}

pub fn is_set(bits: &[u8], cluster: usize) -> bool {
    bits[(cluster - 2) / 8] & 1 << ((cluster - 2) % 8) != 0
}

pub fn set(bits: &mut [u8], cluster: usize, to: bool) {
    let (byte, bit) = (&mut bits[(cluster - 2) / 8], 1 << ((cluster - 2) % 8));
    *byte = if to { *byte | bit } else { *byte & !bit };
}
