//! The good images that are damaged.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::corpus::text;
use crate::disk::Disk;
use crate::support::{Dir, noise, qemu};

/// Clusters of 4 KiB, so that an L2 table maps 2 MiB.
const CLUSTER: u64 = 4096;
/// The size of the disk: a second L2 table, a last cluster that is not full.
const SIZE: u64 = (2 << 20) + 10 * CLUSTER + 512;

/// A good image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// By qemu, version 2.
    V2,
    /// By qemu, version 3.
    V3,
    /// With compressed clusters.
    Zlib,
    Zstd,
    /// With extended L2 entries, clusters of 64 KiB.
    Extended,
    /// With a snapshot, after which clusters 0 and 1 were written again.
    Snapshot,
    /// With two bitmaps.
    Bitmap,
    /// With a backing file that holds clusters 4 to 7.
    Backed,
    /// With an external data file.
    DataFile,
    /// By mkqcow2, with checksums.
    Ours,
}

/// A good image, and what it holds.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) base: Base,
    pub(super) bytes: Vec<u8>,
    pub(super) raw: Vec<u8>,
    /// Files that it needs, by name.
    pub(super) others: Vec<(&'static str, Vec<u8>)>,
}

impl Base {
    pub(super) const ALL: [Self; 10] = [
        Self::V2,
        Self::V3,
        Self::Zlib,
        Self::Zstd,
        Self::Extended,
        Self::Snapshot,
        Self::Bitmap,
        Self::Backed,
        Self::DataFile,
        Self::Ours,
    ];

    /// What mkqcow2 must be told to read it.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        if matches!(self, Self::Backed | Self::DataFile) {
            &["--follow"]
        } else {
            &[]
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::V2 => "compat=0.10,cluster_size=4096",
            Self::Zstd => "compression_type=zstd,cluster_size=4096",
            Self::Extended => "extended_l2=on,cluster_size=65536",
            Self::DataFile => "data_file=other.data,cluster_size=4096",
            Self::V3 | Self::Zlib | Self::Snapshot | Self::Bitmap | Self::Backed | Self::Ours => {
                "cluster_size=4096"
            }
        }
    }

    /// Clusters 0 to 3 are data, one write each; 8 is a zero cluster; 513 and the last one are data too.
    /// Of compressed images 0 to 3 and 513 are compressed.
    fn writes(self, cluster: u64) -> Vec<String> {
        let is_compressed = matches!(self, Self::Zlib | Self::Zstd);
        let how = if is_compressed { "-c -s text" } else { "-s noise" };
        let write = |number: u64| format!("write -q {how}-{} {} {cluster}", number % 8, number * cluster);
        let mut writes: Vec<String> = (0..4).map(write).collect();
        writes.push(format!("write -q -z {} {cluster}", 8 * cluster));
        if self == Self::Extended {
            // Two subclusters.
            writes.push(format!("write -q -s noise-5 {} 4096", 5 * cluster));
        } else {
            writes.push(write(513));
        }
        writes.push(format!("write -q -s noise-7 {} 512", SIZE - 512));
        writes
    }

    fn make(self, dir: &Path) {
        let run = |program: &str, words: &[&str]| qemu::run(dir, program, words);
        if self == Self::Backed {
            let base = noise(3, 8 * CLUSTER as usize);
            std::fs::write(dir.join("other.base"), base).unwrap();
        }
        let size = SIZE.to_string();
        let mut create = vec!["create", "-q", "-f", "qcow2", "-o", self.options()];
        if self == Self::Backed {
            create.extend(["-b", "other.base", "-F", "raw"]);
        }
        create.extend(["image.qcow2", &size]);
        run("qemu-img", &create);
        let cluster = if self == Self::Extended { 65536 } else { CLUSTER };
        for write in self.writes(cluster) {
            run("qemu-io", &["-c", &write, "image.qcow2"]);
        }
        if self == Self::Snapshot {
            run("qemu-img", &["snapshot", "-q", "-c", "before", "image.qcow2"]);
        }
        if self == Self::Bitmap {
            for name in ["one", "two"] {
                run(
                    "qemu-img",
                    &["bitmap", "--add", "-g", "4096", "image.qcow2", name],
                );
            }
        }
        if matches!(self, Self::Snapshot | Self::Bitmap) {
            run("qemu-io", &["-c", "write -q -P 7 0 8192", "image.qcow2"]);
        }
    }

    /// Data of the same places, in an image of our own.
    fn make_ours(dir: &Dir) {
        let data = |disk: Disk, number: u64| disk.data(number * CLUSTER..(number + 1) * CLUSTER);
        let disk = (0..4).fold(Disk::hole(SIZE), data);
        let disk = data(disk, 513).zeros(8 * CLUSTER..9 * CLUSTER);
        disk.data(SIZE - 512..SIZE).file(dir, "disk.raw");
        dir.run("-q --no-sync --cluster-size 4K disk.raw image.qcow2")
            .exits(0);
    }
}

impl Good {
    /// Makes all of them.
    pub(super) fn make_all() -> Vec<Self> {
        crate::corpus::in_parallel(&Base::ALL, |base| Self::make(*base))
    }

    fn make(base: Base) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let dir = Dir::new(&format!("good-{base:?}-{}", MADE.fetch_add(1, Ordering::Relaxed)));
        // So that no two clusters hold the same.
        for number in 0..8 {
            std::fs::write(dir.join(format!("noise-{number}")), noise(1 + number, 65536)).unwrap();
            std::fs::write(dir.join(format!("text-{number}")), text(100 + number, 65536)).unwrap();
        }
        if base == Base::Ours {
            Base::make_ours(&dir);
        } else {
            base.make(dir.path());
        }
        qemu::img(&dir, "check -q image.qcow2");
        qemu::img(&dir, "convert -q -O raw image.qcow2 image.raw");
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let others = ["other.base", "other.data"];
        let others = others.into_iter().filter(|name| dir.join(name).exists());
        Self {
            base,
            bytes: read("image.qcow2"),
            raw: read("image.raw"),
            others: others.map(|name| (name, read(name))).collect(),
        }
    }
}
