//! Images that are made without QEMU, so that it is known where everything is; or because QEMU makes none.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::corpus::text;
use crate::support::noise;

/// Clusters of a disk, by number, and what is in them.
type Clusters = Vec<(u64, Content)>;

/// What is in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Data,
    /// Of QCOW only.
    Compressed,
    /// Of QED only.
    Zeros,
}

use Content::{Compressed, Data, Zeros};

/// An image, the disk in it, and where its parts are.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) raw: Vec<u8>,
    pub(super) l1: usize,
    pub(super) l2: [usize; 2],
    /// Of each cluster that is there, in the order of the disk; 0 for one of zeros.
    pub(super) clusters: Vec<usize>,
}

impl Image {
    /// QCOW with clusters of 512 bytes, and tables of 64 entries: each of 32 KiB. Cluster 2 is compressed.
    pub(super) fn qcow() -> Self {
        let (cluster, size) = (512, 40 * 1024 + 512);
        let mut image = Self::of(size, 0x200, [0x400, 0x600], 0x800);
        let mut header = b"QFI\xfb\0\0\0\x01".to_vec();
        header.extend([0; 16]);
        header.extend(size.to_be_bytes());
        header.extend([9, 6, 0, 0, 0, 0, 0, 0]);
        header.extend(0x200_u64.to_be_bytes());
        image.put(0, &header);
        for (number, table) in image.l2.into_iter().enumerate() {
            image.put(0x200 + 8 * number, &(table as u64).to_be_bytes());
        }
        let clusters = vec![(0, Data), (1, Data), (2, Compressed), (64, Data), (80, Data)];
        image.fill(cluster, 64, clusters, |at, length| {
            (at | length.map_or(0, |length| 1 << 63 | length << 54)).to_be_bytes()
        });
        image
    }

    /// QED with clusters of 4 KiB, and tables of so many clusters. Cluster 2 is zeros.
    pub(super) fn qed(table_size: u32) -> Self {
        let table = table_size as usize * 4096;
        let entries = table as u64 / 8;
        let size = (entries + 5) * 4096 + 512;
        let mut image = Self::of(
            size,
            0x1000,
            [0x1000 + table, 0x1000 + 2 * table],
            0x1000 + 3 * table,
        );
        let mut header = b"QED\0".to_vec();
        for number in [4096, table_size, 1] {
            header.extend(number.to_le_bytes());
        }
        for number in [0, 0, 0, 0x1000, size] {
            header.extend(number.to_le_bytes());
        }
        header.extend([0; 8]);
        image.put(0, &header);
        for (number, table) in image.l2.into_iter().enumerate() {
            image.put(0x1000 + 8 * number, &(table as u64).to_le_bytes());
        }
        let clusters = vec![
            (0, Data),
            (1, Data),
            (2, Zeros),
            (entries, Data),
            (entries + 5, Data),
        ];
        image.fill(4096, entries, clusters, |at, _| at.to_le_bytes());
        image
    }

    /// Writes QED with clusters of 64 MiB, the largest there are, to a sparse file. The first two are data.
    pub(super) fn write_largest_qed(path: &Path) {
        const CLUSTER: u64 = 64 << 20;
        let file = File::create(path).unwrap();
        let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
        put(0, b"QED\0");
        put(4, &(CLUSTER as u32).to_le_bytes());
        put(8, &[1, 0, 0, 0, 1]);
        put(40, &CLUSTER.to_le_bytes());
        put(48, &(20 * CLUSTER + 512).to_le_bytes());
        put(CLUSTER, &(2 * CLUSTER).to_le_bytes());
        for number in 0..2 {
            let at = (3 + number) * CLUSTER;
            put(2 * CLUSTER + 8 * number, &at.to_le_bytes());
            put(at, &noise(number, 1 << 20));
        }
        file.set_len(5 * CLUSTER).unwrap();
    }

    fn of(size: u64, l1: usize, l2: [usize; 2], data: usize) -> Self {
        Self {
            bytes: vec![0; data],
            raw: vec![0; size as usize],
            l1,
            l2,
            clusters: Vec::new(),
        }
    }

    /// Adds clusters; `entry` tells how a table has one, from where it is and, if it is compressed, how long.
    fn fill(
        &mut self,
        cluster: u64,
        entries: u64,
        clusters: Clusters,
        entry: impl Fn(u64, Option<u64>) -> [u8; 8],
    ) {
        for (number, content) in clusters {
            let table = self.l2[(number / entries) as usize];
            let at = table + 8 * (number % entries) as usize;
            let guest = (number * cluster) as usize;
            let end = (guest + cluster as usize).min(self.raw.len());
            let host = self.bytes.len();
            let bytes = match content {
                Data => noise(number, cluster as usize),
                Compressed => text(number, cluster as usize),
                Zeros => vec![0; cluster as usize],
            };
            self.raw[guest..end].copy_from_slice(&bytes[..end - guest]);
            let value = match content {
                Data => {
                    // QEMU takes sectors only, wherever they are.
                    let host = host.next_multiple_of(512);
                    self.bytes.resize(host, 0);
                    self.bytes.extend(&bytes);
                    entry(host as u64, None)
                }
                Compressed => {
                    let stream = deflated(&bytes);
                    self.bytes.extend(&stream);
                    entry(host as u64, Some(stream.len() as u64))
                }
                Zeros => 1_u64.to_le_bytes(),
            };
            let place = if content == Compressed {
                host
            } else {
                host.next_multiple_of(512)
            };
            self.clusters.push(if content == Zeros { 0 } else { place });
            self.put(at, &value);
        }
    }

    /// Overwrites bytes.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
