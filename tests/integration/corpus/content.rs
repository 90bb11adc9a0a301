//! What the disks of the corpus hold: every kind of cluster, next to every other kind.

use std::path::Path;

use super::text;
use crate::support::noise;

/// Files that do not compress; qemu-io repeats them as often as needed.
pub(super) const NOISE: &str = "noise";
/// Files that compress to about half.
pub(super) const TEXT: &str = "text";

/// How many files of either kind there are, so that neighbours differ.
const FILES: u64 = 16;

/// Longest write that is not a whole cluster: clusters of 2 MiB are many bytes, the corpus is to be few.
const MOST: u64 = 64 << 10;

/// A cluster size, its name, and the size of a disk that makes sense with it: several L2 tables where they are
/// small, and a last cluster that the disk does not fill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clusters {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
    pub(super) disk: u64,
}

/// The smallest, the usual ones, the largest.
pub(super) const CLUSTERS: [Clusters; 4] = [
    Clusters {
        name: "512",
        bytes: 512,
        disk: (150 << 10) + 512,
    },
    Clusters {
        name: "4K",
        bytes: 4 << 10,
        disk: (5 << 20) + 512,
    },
    Clusters {
        name: "64K",
        bytes: 64 << 10,
        disk: (3 << 20) + 512,
    },
    Clusters {
        name: "2M",
        bytes: 2 << 20,
        disk: (40 << 20) + 512,
    },
];

/// Writes the files that the commands below take their bytes from.
pub(super) fn write_sources(dir: &Path) {
    // Not a multiple of anything, so that what is repeated is not the same for any two clusters.
    const LENGTH: usize = 0x1_2345;
    for number in 0..FILES {
        std::fs::write(dir.join(source(NOISE, number)), noise(1 + number, LENGTH)).unwrap();
        std::fs::write(dir.join(source(TEXT, number)), text(100 + number, LENGTH)).unwrap();
    }
}

/// Data, zeros of both kinds, discarded clusters, parts of clusters; far behind them some more.
pub(super) fn mixed(clusters: Clusters) -> Vec<String> {
    let Clusters {
        bytes: unit, disk, ..
    } = clusters;
    let part = unit.min(MOST);
    let middle = disk / 2 / unit * unit;
    vec![
        // Whole clusters, and parts.
        write(NOISE, 0, unit + part),
        format!("write -q -P 17 {} {}", 3 * unit - part, 2 * part - 512),
        write(NOISE, 5 * unit + half(unit), 512),
        // Zeros that were nothing, zeros that were data and keep its place, zeros that give it up.
        format!("write -q -z {} {}", 6 * unit, unit),
        write(NOISE, 7 * unit, part),
        format!("write -q -z {} {}", 7 * unit, unit),
        write(NOISE, 8 * unit, part),
        format!("write -q -z -u {} {}", 8 * unit, unit),
        write(NOISE, 9 * unit, 2 * part),
        format!("discard -q {} {}", 9 * unit, unit),
        // Zeros that are not whole clusters.
        write(NOISE, 10 * unit, 2 * part),
        format!("write -q -z {} {}", 11 * unit - half(unit), half(unit).max(512)),
        // Over several L2 tables, if they are small; the last sector of the disk.
        write(NOISE, middle, 70 * part.min(1024)),
        write(NOISE, disk - 512, 512),
    ]
}

/// Compressed clusters, of which one was written over in part and one whole, and one that would not compress.
pub(super) fn compressed(clusters: Clusters) -> Vec<String> {
    let unit = clusters.bytes;
    let mut commands: Vec<String> = (12..18)
        .map(|n| {
            let source = if n == 15 { NOISE } else { TEXT };
            write(source, n * unit, unit).replace("write", "write -c")
        })
        .collect();
    let part = unit.min(MOST);
    commands.extend([
        write(NOISE, 13 * unit, 512),
        write(NOISE, 16 * unit, part),
        format!("write -q -c -P 0 {} {unit}", 18 * unit),
    ]);
    commands
}

/// What is done to a disk after a snapshot of it, or a copy behind it, was made.
pub(super) fn changed(clusters: Clusters) -> Vec<String> {
    let Clusters {
        bytes: unit, disk, ..
    } = clusters;
    let part = unit.min(MOST);
    vec![
        format!("write -q -P 34 {} {part}", half(unit)),
        format!("write -q -z {unit} {unit}"),
        format!("write -q -z -u {} {unit}", 3 * unit),
        format!("discard -q {} {unit}", 5 * unit),
        format!("write -q -P 51 {} 512", 12 * unit),
        write(TEXT, disk / 2 / unit * unit, part),
    ]
}

/// Half a cluster, or nothing if that is no whole sector.
pub(super) fn half(unit: u64) -> u64 {
    unit / 2 / 512 * 512
}

/// A write of bytes from a file that depends on the place.
pub(super) fn write(kind: &str, at: u64, length: u64) -> String {
    format!("write -q -s {} {at} {length}", source(kind, at / 512))
}

fn source(kind: &str, number: u64) -> String {
    format!("{kind}-{}", number % FILES)
}
