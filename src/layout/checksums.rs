//! The checksum table while the image grows: in memory, and past a limit in a scratch file.

use std::fs::File;
use std::io::{Read, Seek, Write};

use crc32fast::Hasher;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::error::{Action, Error, Result};
use crate::formats::qcow2::structures::checksum::{MAX_RUN, RawRun, RawTable, Sum};
use crate::formats::qcow2::structures::digest::{Digest, DiskDigest};
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::output::WriteAt;
use crate::units::{Exact, GuestCluster, HostOffset, to_u64, to_usize};

/// How much of the table is kept in memory, in bytes: enough for 128 GiB in clusters of 64 KiB, or 14 GiB with
/// digests.
pub(super) const IN_MEMORY_BYTES: u64 = 8 << 20;

/// The longest run with its head, in bytes.
const LONGEST_RUN: usize = 12 + 36 * (1 << 13);

/// A checksum table under construction; clusters are added in ascending order.
#[derive(Debug)]
pub(super) struct Checksums {
    geometry: Geometry,
    /// The first cluster of the run that is not complete yet.
    first: GuestCluster,
    /// The checksums of that run, and its digests.
    run: Vec<[u8; 4]>,
    digests: Vec<Digest>,
    /// What the digests give, if there are any.
    disk: Option<DiskDigest>,
    /// Complete runs that are not in the scratch file.
    bytes: Vec<u8>,
    scratch: Option<File>,
    /// Bytes in the scratch file.
    spilled: u64,
    in_memory: usize,
    clusters: u64,
    /// Of all complete runs.
    hasher: Hasher,
    strong: blake3::Hasher,
}

/// A table that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Its length in bytes.
    pub(super) length: u64,
    /// The hash of its runs: of all that it says of the disk.
    pub(super) hash: Digest,
    /// The digest of the disk, if there are digests.
    pub(super) disk: Option<Digest>,
}

impl Checksums {
    /// Of nothing yet; `has_digests` only of clusters that can have them.
    pub(super) fn new(geometry: Geometry, has_digests: bool) -> Self {
        Self::bounded(geometry, has_digests, to_usize(IN_MEMORY_BYTES))
    }

    fn bounded(geometry: Geometry, has_digests: bool, in_memory: usize) -> Self {
        Self {
            geometry,
            first: GuestCluster(0),
            run: Vec::new(),
            digests: Vec::new(),
            disk: has_digests.then(|| DiskDigest::new(geometry)).flatten(),
            // Not more when it is full: no reallocation doubles it.
            bytes: Vec::with_capacity(in_memory.plus(LONGEST_RUN)),
            scratch: None,
            spilled: 0,
            in_memory,
            clusters: 0,
            hasher: Hasher::new(),
            strong: blake3::Hasher::new(),
        }
    }

    /// Makes sure of a scratch file with room for it if a table of `length` bytes needs one: before anything is
    /// written, not after hours of it.
    pub(super) fn expect(&mut self, length: u64, writer: &impl WriteAt) -> Result<()> {
        if length > to_u64(self.in_memory) && self.scratch.is_none() {
            let scratch = writer.scratch()?;
            match rustix::fs::fallocate(&scratch, FallocateFlags::KEEP_SIZE, 0, length) {
                // Not every filesystem can.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.scratch = Some(scratch),
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }

    /// Adds a cluster.
    pub(super) fn push(&mut self, cluster: GuestCluster, sum: &Sum, writer: &impl WriteAt) -> Result<()> {
        let length = to_u64(self.run.len());
        if self.first + length != cluster || length == u64::from(MAX_RUN) {
            self.end_run(writer)?;
            self.first = cluster;
        }
        self.run.push(sum.crc.to_be_bytes());
        if let (Some(disk), Some(digest)) = (&mut self.disk, &sum.digest) {
            disk.push(cluster, digest);
            self.digests.push(*digest);
        }
        self.clusters.increase(1);
        Ok(())
    }

    /// Takes note of a cluster that is not listed, because another image has it.
    pub(super) fn pass(&mut self, cluster: GuestCluster, digest: &Digest) {
        if let Some(disk) = &mut self.disk {
            disk.push(cluster, digest);
        }
    }

    fn end_run(&mut self, writer: &impl WriteAt) -> Result<()> {
        let clusters = u32::try_from(self.run.len()).expect("a run has at most MAX_RUN clusters");
        if clusters == 0 {
            return Ok(());
        }
        let start = self.bytes.len();
        self.bytes.extend(
            RawRun {
                first: self.first.0.into(),
                clusters: clusters.into(),
            }
            .as_bytes(),
        );
        self.bytes.extend(self.run.as_flattened());
        self.bytes.extend(self.digests.as_flattened());
        self.run.clear();
        self.digests.clear();
        let (_, run) = self.bytes.split_at(start);
        self.hasher.update(run);
        self.strong.update(run);
        if self.bytes.len() >= self.in_memory {
            self.spill(writer)
        } else {
            Ok(())
        }
    }

    fn spill(&mut self, writer: &impl WriteAt) -> Result<()> {
        let mut scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => writer.scratch()?,
        };
        scratch.write_all(&self.bytes).map_err(failed)?;
        self.spilled.increase(to_u64(self.bytes.len()));
        self.bytes.clear();
        self.scratch = Some(scratch);
        Ok(())
    }

    /// The digest of a cluster of zeros, if clusters have digests.
    pub(super) fn digest_of_zeros(&self, cluster: GuestCluster) -> Option<Digest> {
        self.disk.as_ref().map(|disk| disk.of_zeros(cluster))
    }

    /// Writes the table to `at`.
    pub(super) fn finish(mut self, writer: &mut impl WriteAt, at: HostOffset) -> Result<Table> {
        self.end_run(writer)?;
        let head = RawTable::new(self.geometry, self.clusters, self.disk.is_some());
        let mut hasher = Hasher::new();
        hasher.update(head.as_bytes());
        hasher.combine(&self.hasher);
        self.bytes.extend(hasher.finalize().to_be_bytes());

        let mut host = at;
        let mut write = |bytes: &[u8]| {
            writer.write_at(bytes, host)?;
            host += to_u64(bytes.len());
            Ok::<_, Error>(())
        };
        write(head.as_bytes())?;
        if let Some(mut scratch) = self.scratch {
            scratch.rewind().map_err(failed)?;
            let mut piece = vec![0; self.in_memory];
            let mut left = self.spilled;
            while left > 0 {
                let length = piece.len().min(to_usize(left));
                let (bytes, _) = piece.split_at_mut(length);
                scratch.read_exact(bytes).map_err(failed)?;
                write(bytes)?;
                left = left.minus(to_u64(length));
            }
        }
        write(&self.bytes)?;
        Ok(Table {
            length: host - at,
            hash: self.strong.finalize().into(),
            disk: self.disk.map(DiskDigest::finish),
        })
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::target_io(Action::Scratch, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::checksum::table_length;
    use crate::formats::qcow2::structures::geometry::{ClusterCounts, ClusterSize};
    use crate::output::MemoryImage;

    const IN_MEMORY: usize = 8 << 20;

    fn table(in_memory: usize, has_digests: bool, clusters: &[u64]) -> Vec<u8> {
        let geometry = Geometry::new(ClusterSize::DEFAULT, 1 << 40).unwrap();
        let mut checksums = Checksums::bounded(geometry, has_digests, in_memory);
        let mut writer = MemoryImage::default();
        for cluster in clusters {
            let sum = Sum {
                crc: crc32fast::hash(&cluster.to_be_bytes()),
                digest: has_digests.then_some([u8::try_from(cluster % 256).unwrap(); 32]),
            };
            checksums.push(GuestCluster(*cluster), &sum, &writer).unwrap();
        }
        let table = checksums.finish(&mut writer, HostOffset(512)).unwrap();
        assert_eq!(table.disk.is_some(), has_digests);
        assert_eq!(table.length, to_u64(writer.bytes.len()) - 512);
        writer.bytes.split_off(512)
    }

    #[test]
    fn a_table_is_as_its_description_says() {
        let table = table(IN_MEMORY, false, &[3, 4, 9]);
        assert_eq!(table.len(), 32 + 12 + 8 + 12 + 4 + 4);
        assert_eq!(&table[..8], b"mkqcrc32");
        assert_eq!(
            table[8..32],
            [
                0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3
            ]
        );
        assert_eq!(table[32..44], [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2]);
        assert_eq!(table[48..52], crc32fast::hash(&4_u64.to_be_bytes()).to_be_bytes());
        assert_eq!(table[52..64], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]);
        let (before, crc) = table.split_last_chunk::<4>().unwrap();
        assert_eq!(crc32fast::hash(before).to_be_bytes(), *crc);
    }

    #[test]
    fn digests_lie_behind_the_checksums_of_their_run() {
        let (without, with) = (
            table(IN_MEMORY, false, &[3, 4, 9]),
            table(IN_MEMORY, true, &[3, 4, 9]),
        );
        assert_eq!(with.len(), without.len() + 3 * 32);
        assert_eq!(with[8..12], [0, 0, 0, 2]);
        assert_eq!(with[12..52], without[12..52]);
        assert_eq!(with[52..84], [3; 32]);
        assert_eq!(with[84..116], [4; 32]);
        assert_eq!(with[116..132], without[52..68]);
        assert_eq!(with[132..164], [9; 32]);
        let (before, crc) = with.split_last_chunk::<4>().unwrap();
        assert_eq!(crc32fast::hash(before).to_be_bytes(), *crc);
    }

    #[test]
    fn a_table_that_went_through_the_scratch_file_is_the_same() {
        let clusters: Vec<_> = (0..5000).filter(|cluster| cluster % 7 != 0).collect();
        let content = ClusterCounts {
            clusters: 4285,
            l2_tables: 1,
            runs: 715,
        };
        for digests in [false, true] {
            let expected = table(IN_MEMORY, digests, &clusters);
            assert_eq!(to_u64(expected.len()), table_length(content, digests));
            for in_memory in [1, 100, 4096] {
                assert!(
                    table(in_memory, digests, &clusters) == expected,
                    "{in_memory} bytes in memory"
                );
            }
        }
    }

    #[test]
    fn a_long_run_is_cut() {
        let clusters: Vec<_> = (0..=u64::from(MAX_RUN)).collect();
        assert_eq!(
            table(IN_MEMORY, false, &clusters).len(),
            32 + 2 * 12 + 8193 * 4 + 4
        );
    }
}
