//! ext2, ext3 and ext4 with all features that change where things lie: what is free is exactly what dumpe2fs says,
//! and nobody misses it. What does not fit together is copied whole.

mod bitmaps;
mod doubted;
mod followed;
mod forged;
mod joined;
mod layouts;
mod proven;
mod wrong;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan, State};

use super::proof::{MIB, Marker, Place};
use crate::support::tool;

/// A disk full of markers, with a filesystem that these options of mke2fs make.
fn make(place: &Place, size: u64, options: &str) -> PathBuf {
    let disk = place.dir.join("disk.raw");
    fs::write(&disk, Marker::A.times(size)).unwrap();
    let options = options.split_whitespace();
    let fixed = ["-q", "-F", "-E", "nodiscard"].into_iter();
    tool("mke2fs", fixed.chain(options).chain([disk.to_str().unwrap()]));
    without_holes(&disk);
    disk
}

/// Holes are free whatever a filesystem says, and mke2fs makes some.
fn without_holes(disk: &Path) {
    let bytes = fs::read(disk).unwrap();
    fs::write(disk, bytes).unwrap();
}

/// Has debugfs change a filesystem, a line of `commands` at a time.
fn debugfs(disk: &Path, commands: &str) {
    let script = disk.with_extension("debugfs");
    fs::write(&script, commands).unwrap();
    let script = script.to_str().unwrap();
    tool("debugfs", ["-w", "-f", script, disk.to_str().unwrap()]);
}

/// What of a disk without holes is free, in bytes.
fn free(disk: &Path) -> Vec<Range<u64>> {
    let source = disk::open(disk, Open::default()).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    let parts = allocation.map.parts();
    let free = parts.filter_map(|(range, state, _)| (state == State::Free).then_some(range));
    free.collect()
}

/// Why a disk is copied whole, which it is.
#[track_caller]
fn doubt(disk: &Path) -> String {
    let source = disk::open(disk, Open::default()).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    let doubts: Vec<_> = allocation
        .regions
        .iter()
        .filter_map(|region| region.doubt())
        .collect();
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert_eq!(allocation.bytes(State::Free), 0);
    doubts[0].to_string()
}

/// What dumpe2fs says is free, in bytes.
fn free_by_dumpe2fs(disk: &Path) -> Vec<Range<u64>> {
    let told = tool("dumpe2fs", [disk.to_str().unwrap()]);
    let number = |key: &str| -> Option<u64> {
        let line = told.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().parse().unwrap())
    };
    let block = number("Block size:").unwrap();
    let end = number("Block count:").unwrap() * block;
    let unit = number("Cluster size:").unwrap_or(block);
    let lists = told
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "));
    let mut free: Vec<_> = lists
        .flat_map(|list| list.split(", "))
        .filter(|range| !range.is_empty())
        .map(|range| {
            // The first block of the first cluster, and of the last one.
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let [first, last] = [first, last].map(|at| at.parse::<u64>().unwrap() * block);
            first..(last + unit).min(end)
        })
        .collect();
    free.sort_by_key(|range| range.start);
    free.dedup_by(|next, kept| {
        let joins = kept.end == next.start;
        if joins {
            kept.end = next.end;
        }
        joins
    });
    free
}

/// What is free is what dumpe2fs says, to the block.
#[track_caller]
fn assert_exact(disk: &Path) {
    let expected = free_by_dumpe2fs(disk);
    let layout = || tool("dumpe2fs", ["-h", disk.to_str().unwrap()]);
    assert!(!expected.is_empty(), "{}", layout());
    let source = disk::open(disk, Open::default()).unwrap();
    let regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    assert!(
        free(disk) == expected,
        "{:x?}\n{expected:x?}\n{regions:?}\n{}",
        free(disk),
        layout()
    );
}

/// Files for mke2fs to put into a filesystem that the kernel here cannot mount.
fn files(place: &Place) -> String {
    let directory = place.dir.join("files");
    fs::create_dir(&directory).unwrap();
    for i in 0..60 {
        fs::write(directory.join(format!("{i}")), vec![b'f'; i * 3000]).unwrap();
    }
    directory.to_str().unwrap().to_owned()
}

/// Where the block bitmap of a group lies, in blocks.
fn bitmap_of(disk: &Path, group: usize) -> u64 {
    let told = tool("dumpe2fs", [disk.to_str().unwrap()]);
    let group = told.split(&format!("\nGroup {group}: ")).nth(1).unwrap();
    let at = group.split("Block bitmap at ").nth(1).unwrap();
    let at: String = at.chars().take_while(char::is_ascii_digit).collect();
    at.parse().unwrap()
}
