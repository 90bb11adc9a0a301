//! Partitions that tell something about others of the same disk, and tables in them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan};

use super::proof::MIB;
use crate::support::{Dir, tool};

/// A disk with an ext2 of 4 MiB from 1 MiB on, and 2 MiB from 5 MiB on that begin with `second`.
fn disk(dir: &Dir, second: &[u8]) -> PathBuf {
    let path = dir.sparse("disk.raw", 8 * MIB, &[(0, &table()), (5 * MIB, second)]);
    let part = dir.sparse("part.raw", 4 * MIB, &[]);
    tool("mkfs.ext4", ["-q", "-F", "-t", "ext2", part.to_str().unwrap()]);
    let disk = File::options().write(true).open(&path).unwrap();
    disk.write_all_at(&fs::read(part).unwrap(), MIB).unwrap();
    path
}

/// A partition table that is right both for the disk and, cut off, for nothing else.
fn table() -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (number, (start, sectors)) in [(2048_u32, 8192_u32), (10240, 4096)].into_iter().enumerate() {
        let entry = &mut sector[446 + number * 16..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn regions(path: &Path) -> Vec<Region> {
    let source = disk::open(path, Open::default()).unwrap();
    volumes::scan(&source, Scan::Auto).unwrap().regions
}

fn why(path: &Path) -> Option<String> {
    let regions = regions(path);
    assert_eq!(regions.len(), 3, "{regions:?}");
    regions[1].why_whole()
}

#[test]
fn no_map_is_trusted_on_a_disk_on_which_a_hibernated_system_sleeps() {
    let dir = Dir::new("neighbours-sleeping");
    let mut page = vec![0; 4096];
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    assert_eq!(why(&disk(&dir, &page)), None);
    page[4086..].copy_from_slice(b"S1SUSPEND\0");
    let path = disk(&dir, &page);
    let why = why(&path).unwrap();
    assert!(why.contains("a hibernated system"), "{why}");
    assert_eq!(regions(&path)[1].used, 4 * MIB);
}

#[test]
fn no_map_is_trusted_beside_a_hash_tree() {
    let dir = Dir::new("neighbours-verity");
    let why = why(&disk(&dir, b"verity\0\0")).unwrap();
    assert!(why.starts_with("dm-verity"), "{why}");
}

#[test]
fn a_partition_that_holds_a_table_and_a_filesystem_is_copied_whole() {
    let dir = Dir::new("neighbours-table");
    let path = disk(&dir, &[]);
    assert_eq!(why(&path), None);
    // As a machine writes it that has the partition for its disk.
    let mut inner = table();
    inner[446 + 8..446 + 12].copy_from_slice(&1024_u32.to_le_bytes());
    inner[446 + 12..446 + 16].copy_from_slice(&4096_u32.to_le_bytes());
    inner[462..478].fill(0);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&inner, MIB).unwrap();
    let why = why(&path).unwrap();
    assert!(why.starts_with("it looks like") && why.contains("ext2"), "{why}");
}
