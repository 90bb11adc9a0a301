//! Digests: of every cluster that holds data, and one of the whole disk.
//!
//! Both are BLAKE3, of 32 bytes. The disk is cut into blocks of 2 MiB, the last one padded with zeros, and each block is
//! hashed as an input of its own. The digest of a cluster is the chaining value of the subtree that it is in the tree
//! of its block; so those of the clusters of a block give that of the block, whatever their size. A cluster of 512 bytes
//! is no subtree: there are none of such.
//!
//! The digest of the disk is the BLAKE3 hash of the size of the disk in bytes (8), and of each block that is not all
//! zeros, ascending: its number (8) and its chaining value (32). Integers are big-endian. It does not depend on how the
//! disk is stored.
//!
//! Source: the BLAKE3 specification, section 2.1, "Tree Structure".

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root};

use super::geometry::Geometry;
use crate::units::{Exact, GuestCluster, to_u64, to_usize, within};

/// A digest.
pub type Digest = [u8; 32];

/// The size of a block in bytes, which is that of the largest cluster.
const BLOCK: u64 = 2 << 20;

/// The smallest cluster that has a digest, in bytes: a chunk of BLAKE3.
pub const SMALLEST_CLUSTER: u64 = 1024;

/// The digest of a whole cluster, padded with zeros if the disk ends in it.
pub fn of_cluster(cluster: &[u8], number: GuestCluster) -> Digest {
    let mut hasher = ClusterHasher::new(number.0.times(to_u64(cluster.len())));
    hasher.update(cluster);
    hasher.finish()
}

/// The digest of a cluster whose bytes come piece by piece.
#[derive(Clone, Debug)]
pub struct ClusterHasher(Hasher);

impl ClusterHasher {
    /// Of a cluster that begins at this byte of the disk, and has at least [`SMALLEST_CLUSTER`] bytes.
    pub fn new(start: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(within(start, BLOCK));
        Self(hasher)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest, once all bytes of the cluster were added.
    pub fn finish(&self) -> Digest {
        self.0.finalize_non_root()
    }
}

/// The digest of a disk, from those of its clusters in ascending order.
#[derive(Clone, Debug)]
pub struct DiskDigest {
    /// How many clusters a block has.
    in_block: u64,
    /// What a block of zeros has.
    zeros: Vec<Digest>,
    /// The chaining value of such a block.
    zero_block: Digest,
    /// The block that is not complete yet, and what it has.
    block: u64,
    clusters: Vec<Digest>,
    hasher: Hasher,
}

impl DiskDigest {
    /// Of a disk of this size, none of whose clusters is known yet; none if clusters are too small.
    pub fn new(geometry: Geometry) -> Option<Self> {
        let cluster_size = geometry.cluster_size();
        if cluster_size < SMALLEST_CLUSTER {
            return None;
        }
        let cluster = vec![0; to_usize(cluster_size)];
        // The largest cluster is a block.
        let in_block = BLOCK.checked_div(cluster_size).unwrap_or(1).max(1);
        let zeros: Vec<_> = (0..in_block)
            .map(|number| of_cluster(&cluster, GuestCluster(number)))
            .collect();
        let mut hasher = Hasher::new();
        hasher.update(&geometry.size().to_be_bytes());
        Some(Self {
            in_block,
            zero_block: merged(zeros.clone()),
            block: 0,
            clusters: zeros.clone(),
            zeros,
            hasher,
        })
    }

    /// The digest of a cluster of zeros.
    pub fn of_zeros(&self, cluster: GuestCluster) -> Digest {
        let place = cluster.0.checked_rem(self.in_block).unwrap_or(0);
        self.zeros.get(to_usize(place)).copied().unwrap_or_default()
    }

    /// Adds a cluster, which lies behind all that were added before; those between are zeros.
    pub fn push(&mut self, cluster: GuestCluster, digest: &Digest) {
        let block = cluster.0.checked_div(self.in_block).unwrap_or(0);
        if block != self.block {
            self.end_block();
            self.block = block;
        }
        let place = to_usize(cluster.0.checked_rem(self.in_block).unwrap_or(0));
        if let Some(slot) = self.clusters.get_mut(place) {
            *slot = *digest;
        }
    }

    fn end_block(&mut self) {
        if self.clusters == self.zeros {
            return;
        }
        let value = merged(std::mem::replace(&mut self.clusters, self.zeros.clone()));
        if value != self.zero_block {
            self.hasher.update(&self.block.to_be_bytes());
            self.hasher.update(&value);
        }
    }

    /// The digest of the disk, whose other clusters are zeros.
    pub fn finish(mut self) -> Digest {
        self.end_block();
        self.hasher.finalize().into()
    }
}

/// The chaining value of the subtree that those of its parts give: they are a power of two.
fn merged(mut values: Vec<Digest>) -> Digest {
    while values.len() > 1 {
        let (pairs, _) = values.as_chunks::<2>();
        values = pairs
            .iter()
            .map(|[left, right]| merge_subtrees_non_root(left, right, Mode::Hash))
            .collect();
    }
    values.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::formats::qcow2::structures::geometry::ClusterSize;

    fn digest(disk: &[u8], bits: u32) -> Digest {
        let cluster = ClusterSize::from_bits(bits).unwrap();
        let geometry = Geometry::new(cluster, to_u64(disk.len())).unwrap();
        let mut whole = DiskDigest::new(geometry).unwrap();
        for (number, bytes) in (0..).map(GuestCluster).zip(disk.chunks(1 << bits)) {
            let mut bytes = bytes.to_vec();
            bytes.resize(1 << bits, 0);
            let digest = of_cluster(&bytes, number);
            if bytes.iter().all(|byte| *byte == 0) {
                assert_eq!(digest, whole.of_zeros(number));
            }
            // Zeros may be left out.
            if number.0 % 2 == 0 || bytes.iter().any(|byte| *byte != 0) {
                whole.push(number, &digest);
            }
        }
        whole.finish()
    }

    #[test]
    fn it_does_not_depend_on_the_size_of_clusters() {
        let mut disk = vec![0; (9 << 20) + 512];
        for (at, byte) in disk.iter_mut().enumerate() {
            let megabyte = at >> 20;
            if !(3..8).contains(&megabyte) {
                *byte = u8::try_from((at * 7 + at / 1000) % 251).unwrap();
            }
        }
        let expected = digest(&disk, 10);
        for bits in 11..=21 {
            assert_eq!(digest(&disk, bits), expected, "{bits}");
        }
        // What the description says, from whole blocks.
        let mut hasher = Hasher::new();
        hasher.update(&to_u64(disk.len()).to_be_bytes());
        for (number, block) in disk.chunks(2 << 20).enumerate() {
            let mut block = block.to_vec();
            block.resize(2 << 20, 0);
            if block.iter().any(|byte| *byte != 0) {
                hasher.update(&to_u64(number).to_be_bytes());
                hasher.update(&Hasher::new().update(&block).finalize_non_root());
            }
        }
        assert_eq!(expected, *hasher.finalize().as_bytes());
        for at in [0, 1 << 20, (9 << 20) + 511] {
            disk[at] ^= 1;
            assert_ne!(digest(&disk, 16), expected, "{at}");
            disk[at] ^= 1;
        }
        // The same bytes elsewhere, or on a larger disk.
        disk.swap(4096, 4097);
        assert_ne!(digest(&disk, 16), expected);
        disk.swap(4096, 4097);
        disk.extend([0; 512]);
        assert_ne!(digest(&disk, 16), expected);
    }

    #[test]
    fn the_digest_of_a_disk_is_always_the_same() {
        // So that a change of it is noticed: nothing else computes it.
        let disk: Vec<_> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        let mut hex = String::new();
        for byte in digest(&disk, 16) {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(
            hex,
            "f33ce710122ebcae6b0059329d837825950a8c9fc63f74dd144c40a1951ad70a"
        );
    }

    #[test]
    fn clusters_of_512_bytes_have_none() {
        let geometry = Geometry::new(ClusterSize::MIN, 1 << 20).unwrap();
        assert!(DiskDigest::new(geometry).is_none());
    }
}
