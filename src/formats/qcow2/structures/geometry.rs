//! How large a disk is, how large its clusters are, and all that follows from the two.

use crate::error::TooLarge;
use crate::units::{Exact, GuestCluster, GuestOffset, SECTOR, to_usize};

/// The size of an L1, L2 or refcount table entry in bytes.
pub const ENTRY: u64 = 8;

/// QEMU's limit for the active L1 table, in bytes.
pub const MAX_L1_BYTES: u64 = 32 << 20;

/// QEMU's limit for the refcount table, in bytes.
pub const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;

/// Host offsets in table entries have 56 bits. Spec: "L1 table entry".
pub const MAX_IMAGE_BYTES: u64 = 1 << 56;

/// A cluster size that both the specification and QEMU allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterSize {
    bits: u32,
}

impl ClusterSize {
    /// 512 bytes, the specification's minimum.
    pub const MIN: Self = Self { bits: 9 };
    /// 64 KiB, QEMU's default and ours.
    pub const DEFAULT: Self = Self { bits: 16 };
    /// 2 MiB, QEMU's maximum.
    pub const MAX: Self = Self { bits: 21 };

    /// A power of two from 512 to 2 MiB, in bytes.
    pub fn new(bytes: u64) -> Option<Self> {
        let bits = bytes.is_power_of_two().then(|| bytes.trailing_zeros())?;
        Self::from_bits(bits)
    }

    /// log2 of the size, 9 to 21, as the header has it.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (Self::MIN.bits..=Self::MAX.bits)
            .contains(&bits)
            .then_some(Self { bits })
    }

    /// log2 of the size.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.bits
    }

    /// The largest disk in bytes whose L1 table stays within QEMU's limit.
    pub fn largest_disk(self) -> u64 {
        // At most 2^22 entries, of 2^18 clusters, of 2^21 bytes.
        (MAX_L1_BYTES / ENTRY)
            .times(self.bytes() / ENTRY)
            .times(self.bytes())
    }

    /// The cluster sizes from this one to the largest, ascending.
    pub fn and_larger(self) -> impl Iterator<Item = Self> {
        (self.bits..=Self::MAX.bits).map(|bits| Self { bits })
    }
}

/// The form of L2 entries. Spec: "Extended L2 Entries".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum L2Form {
    /// 8 bytes a cluster.
    #[default]
    Standard,
    /// 16 bytes a cluster, of which each 32nd part is allocated on its own.
    Extended,
}

/// A disk of a certain size cut into clusters of a certain size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    cluster: ClusterSize,
    size: u64,
    form: L2Form,
}

impl Geometry {
    /// A virtual disk of at least `size` bytes, rounded up to whole sectors.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the L1 table would pass QEMU's limit.
    pub fn new(cluster: ClusterSize, size: u64) -> Result<Self, TooLarge> {
        // What cannot be rounded up is too large by far.
        let size = size.checked_next_multiple_of(SECTOR).unwrap_or(size);
        Self::of_image(cluster, size, L2Form::Standard)
    }

    /// The virtual disk of an image, whose size need not be whole sectors.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the L1 table would pass QEMU's limit.
    pub fn of_image(cluster: ClusterSize, size: u64, form: L2Form) -> Result<Self, TooLarge> {
        let too_large = |found| TooLarge {
            size,
            cluster_size: cluster.bytes(),
            what: "the L1 table",
            found,
            limit: MAX_L1_BYTES,
            smallest: None,
        };
        let geometry = Self { cluster, size, form };
        // At most 2^64 bytes of disk, of which an entry maps 32 clusters of 512 bytes at least.
        let l1_bytes = geometry.l1_entries().times(ENTRY);
        if l1_bytes > MAX_L1_BYTES {
            Err(too_large(l1_bytes))
        } else {
            Ok(geometry)
        }
    }

    /// The size of the virtual disk in bytes, a multiple of [`SECTOR`] if the image is one of ours.
    pub fn size(self) -> u64 {
        self.size
    }

    /// The cluster size.
    pub fn cluster(self) -> ClusterSize {
        self.cluster
    }

    /// The cluster size in bytes.
    pub fn cluster_size(self) -> u64 {
        self.cluster.bytes()
    }

    /// How many clusters the virtual disk has, the last one perhaps in part.
    pub fn clusters(self) -> u64 {
        self.size.div_ceil(self.cluster_size())
    }

    /// How many entries an L2 table has; it fills one cluster.
    pub fn l2_entries(self) -> u64 {
        self.cluster_size() >> self.l2_entry_bits()
    }

    /// The form of L2 entries.
    pub fn l2_form(self) -> L2Form {
        self.form
    }

    /// The size of an L2 entry in bytes.
    pub fn l2_entry_size(self) -> u64 {
        1 << self.l2_entry_bits()
    }

    fn l2_entry_bits(self) -> u32 {
        match self.form {
            L2Form::Standard => 3,
            L2Form::Extended => 4,
        }
    }

    /// The smallest part of the disk that is allocated on its own, in bytes.
    pub fn subcluster_size(self) -> u64 {
        match self.form {
            L2Form::Standard => self.cluster_size(),
            L2Form::Extended => self.cluster_size() / 32,
        }
    }

    /// How many bytes of the disk an L2 table maps.
    pub fn l2_reach(self) -> u64 {
        self.l2_entries().times(self.cluster_size())
    }

    /// How many entries the L1 table needs.
    pub fn l1_entries(self) -> u64 {
        self.clusters().div_ceil(self.l2_entries())
    }

    /// How many clusters of the image one refcount block counts, at 16 bits each.
    pub fn refcount_block_entries(self) -> u64 {
        self.cluster_size() / 2
    }

    /// How many clusters `bytes` fill, the last one perhaps in part.
    pub fn clusters_for(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    /// Where a cluster of the virtual disk begins, which has less than 2^62 bytes.
    pub fn start_of(self, cluster: GuestCluster) -> GuestOffset {
        GuestOffset(cluster.0.times(self.cluster_size()))
    }

    /// The cluster that holds a byte of the virtual disk.
    pub fn cluster_of(self, offset: GuestOffset) -> GuestCluster {
        GuestCluster(offset.0 >> self.cluster.bits)
    }

    /// The entry of the L1 table, and that of the L2 table it points to, which map a cluster.
    pub fn indices_of(self, cluster: GuestCluster) -> (usize, usize) {
        // The cluster size is at least 512, so that an L2 table has 32 entries or more.
        let entries_bits = self.cluster.bits.minus(self.l2_entry_bits());
        let l2 = cluster.0 & self.l2_entries().minus(1);
        (to_usize(cluster.0 >> entries_bits), to_usize(l2))
    }
}

/// What has to be mapped: the clusters that hold data, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Clusters in use.
    pub clusters: u64,
    /// L2 tables that map at least one of them.
    pub l2_tables: u64,
    /// Stretches of consecutive clusters, as the checksum table cuts them.
    pub runs: u64,
}

/// How many clusters of the image each of its parts takes, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The header and its extensions: one cluster.
    pub header: u64,
    /// The L1 table.
    pub l1: u64,
    /// The refcount table.
    pub refcount_table: u64,
    /// Data and the L2 tables between it.
    pub content: u64,
    /// Refcount blocks.
    pub refcount_blocks: u64,
}

impl Room {
    /// The room for a disk of which at most `content` is in use, in an image of at most `max_image` bytes.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the refcount table would pass QEMU's limit, or the image its own.
    pub fn new(geometry: Geometry, content: ClusterCounts, max_image: u64) -> Result<Self, TooLarge> {
        let l1 = geometry.clusters_for(geometry.l1_entries().times(ENTRY));
        let content = content.clusters.plus(content.l2_tables);
        let mut room = Self {
            header: 1,
            l1,
            refcount_table: 1,
            content,
            refcount_blocks: 0,
        };
        // A disk with an L1 table that QEMU takes has at most 2^61 bytes, and the tables that map and count all of it
        // have less: no sum below comes near 64 bits.
        // The table counts the blocks, and the blocks count themselves and the table: grow until it fits.
        loop {
            room.refcount_blocks = refcount_blocks(geometry, room.before_refcount_blocks());
            let table_bytes = room.refcount_blocks.times(ENTRY);
            let image_bytes = room.total().times(geometry.cluster_size());
            for (what, found, limit) in [
                ("the refcount table", table_bytes, MAX_REFCOUNT_TABLE_BYTES),
                ("the image", image_bytes, max_image),
            ] {
                if found > limit {
                    let (size, cluster_size) = (geometry.size(), geometry.cluster_size());
                    return Err(TooLarge {
                        size,
                        cluster_size,
                        what,
                        found,
                        limit,
                        smallest: None,
                    });
                }
            }
            let needed = geometry.clusters_for(table_bytes);
            if needed <= room.refcount_table {
                return Ok(room);
            }
            room.refcount_table = needed;
        }
    }

    /// Clusters in front of the refcount blocks.
    fn before_refcount_blocks(self) -> u64 {
        self.tables().plus(self.content)
    }

    /// Clusters in front of the first data cluster: header, L1 table, refcount table.
    pub fn tables(self) -> u64 {
        self.header.plus(self.l1).plus(self.refcount_table)
    }

    /// All clusters that have a refcount.
    pub fn total(self) -> u64 {
        self.before_refcount_blocks().plus(self.refcount_blocks)
    }
}

/// How many refcount blocks count `clusters` in front of them, and themselves.
pub fn refcount_blocks(geometry: Geometry, clusters: u64) -> u64 {
    // A block counts `entries` clusters, one of which is itself.
    clusters.div_ceil(geometry.refcount_block_entries().minus(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_size: u64, size: u64) -> Geometry {
        Geometry::new(ClusterSize::new(cluster_size).unwrap(), size).unwrap()
    }

    #[test]
    fn only_powers_of_two_from_512_to_2m_are_cluster_sizes() {
        for bytes in [0, 1, 256, 511, 513, 1000, 65537, 4 << 20] {
            assert_eq!(ClusterSize::new(bytes), None, "{bytes}");
        }
        assert_eq!(ClusterSize::new(512), Some(ClusterSize::MIN));
        assert_eq!(ClusterSize::new(2 << 20), Some(ClusterSize::MAX));
    }

    #[test]
    fn the_largest_disk_of_a_cluster_size_is_that_of_qemu() {
        for (cluster, largest) in [
            (512, 128 << 30),
            (4096, 8 << 40),
            (65536, 2 << 50),
            (2 << 20, 2 << 60),
        ] {
            let cluster = ClusterSize::new(cluster).unwrap();
            assert_eq!(cluster.largest_disk(), largest);
            assert!(Geometry::new(cluster, largest).is_ok());
            assert!(Geometry::new(cluster, largest + 1).is_err());
        }
    }

    #[test]
    fn refcount_blocks_count_exactly_what_is_there_and_themselves() {
        let geometry = geometry(512, 1 << 30);
        let entries = geometry.refcount_block_entries();
        for clusters in 1..5000 {
            let blocks = refcount_blocks(geometry, clusters);
            assert!(blocks * entries >= clusters + blocks, "{clusters} clusters");
            assert!(
                (blocks - 1) * entries < clusters + blocks - 1,
                "{clusters} clusters: one block less serves"
            );
        }
    }

    #[test]
    fn a_full_disk_of_128_gib_in_512_byte_clusters_does_not_fit_the_refcount_table() {
        let geometry = geometry(512, 128 << 30);
        let all = ClusterCounts {
            clusters: geometry.clusters(),
            l2_tables: geometry.l1_entries(),
            runs: 1,
        };
        assert!(Room::new(geometry, all, MAX_IMAGE_BYTES).is_err());
        assert!(
            Room::new(
                geometry,
                ClusterCounts {
                    clusters: 1 << 20,
                    l2_tables: 1 << 14,
                    runs: 1
                },
                MAX_IMAGE_BYTES
            )
            .is_ok()
        );
    }
}
