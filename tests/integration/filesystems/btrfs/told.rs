//! What is told of a Btrfs: what btrfs-progs tell, or why it is copied whole.

use std::fs;
use std::ops::Range;
use std::path::Path;

use mkqcow2::volumes::{Allocation, State};

use super::super::patched::Patched;
use super::super::proof::btrfs::{Btrfs, free_by_dump_tree};
use super::super::proof::{Filesystem, Marker, Place, Proof, mounted};
use super::{SIZE, with_snapshots};
use crate::support::loops::Loop;
use crate::support::tool;

/// Where fields of the superblock are, in bytes.
const SUPERBLOCK: u64 = 64 << 10;
const FLAGS: u64 = SUPERBLOCK + 56;
const NUM_DEVICES: u64 = SUPERBLOCK + 136;
const COMPAT: u64 = SUPERBLOCK + 172;
const COMPAT_RO: u64 = SUPERBLOCK + 180;
const INCOMPAT: u64 = SUPERBLOCK + 188;

pub(super) fn free(allocation: &Allocation) -> Vec<Range<u64>> {
    let parts = allocation.map.parts();
    let free = parts.filter(|(_, state, _)| *state == State::Free);
    free.map(|(range, ..)| range).collect()
}

#[test]
fn what_is_free_is_what_dump_tree_says_as_root() {
    for (number, options) in [
        "",
        "-R ^free-space-tree",
        "-m single -n 4096",
        "--mixed --csum blake2",
        "-R quota,free-space-tree -n 32768 --csum sha256",
    ]
    .into_iter()
    .enumerate()
    {
        let given = Proof::of(&format!("btrfs-told-{number}"), SIZE, Btrfs::new(options))
            .aged(200)
            .changed_by(|at| {
                mounted("nodiscard", at, at.parent().unwrap(), &mut |root| {
                    with_snapshots(root.to_str().unwrap());
                });
            })
            .made();
        let bytes = fs::read(&given.disk).unwrap();
        let allocation = Patched::new(&bytes).scan();
        let expected = free_by_dump_tree(&given.disk);
        assert!(expected.len() > 8, "{options}: {expected:?}");
        assert_eq!(free(&allocation), expected, "{options}: {:?}", allocation.regions);
        let region = &allocation.regions[0];
        let told = tool(
            "blkid",
            ["-p", "-o", "value", "-s", "UUID", given.disk.to_str().unwrap()],
        );
        assert_eq!(
            (region.name, &*region.details[0].value),
            (Some("Btrfs"), told.trim())
        );
    }
}

/// Not every kernel mounts these: they are held against dump-tree as mkfs.btrfs made them.
#[test]
fn what_is_free_is_what_dump_tree_says_of_large_sectors_and_another_identity_as_root() {
    for (number, (options, change)) in [
        ("-s 16384 -n 16384", ""),
        ("-s 65536 -n 65536 --csum sha256", ""),
        ("-s 8192 -n 32768 -R ^free-space-tree", ""),
        ("-O ^skinny-metadata,^extref", ""),
        ("", "-m"),
    ]
    .into_iter()
    .enumerate()
    {
        let (place, _) = fresh(&format!("btrfs-fresh-{number}"), options);
        let disk = place.dir.join("disk.raw");
        let before = tool(
            "btrfs",
            ["inspect-internal", "dump-super", disk.to_str().unwrap()],
        );
        if !change.is_empty() {
            tool("btrfstune", [change, disk.to_str().unwrap()]);
        }
        let bytes = fs::read(&disk).unwrap();
        let allocation = Patched::new(&bytes).scan();
        let (found, expected) = (free(&allocation), free_by_dump_tree(&disk));
        assert_eq!(found, expected, "{options}: {:?}", allocation.regions);
        let uuid = &allocation.regions[0].details[0].value;
        let is_old = before.contains(&format!("fsid\t\t\t{uuid}"));
        assert_eq!(is_old, change.is_empty(), "{uuid}: {before}");
    }
}

/// A disk with a fresh filesystem.
fn fresh(name: &str, options: &'static str) -> (Place, Vec<u8>) {
    let place = Place::new(name, SIZE);
    let disk = place.dir.join("disk.raw");
    fs::write(&disk, Marker::A.times(SIZE)).unwrap();
    Btrfs::new(options).make(&disk);
    let bytes = fs::read(disk).unwrap();
    (place, bytes)
}

#[track_caller]
pub(super) fn assert_whole(name: &str, disk: &Patched<'_>, words: &str) {
    let allocation = disk.scan();
    let why = allocation.regions[0].why_whole().unwrap_or_default();
    assert!(why.contains(words), "{name}: {why:?}, expected {words:?}");
    assert_eq!(allocation.bytes(State::Free), 0, "{name}");
}

#[test]
fn what_is_not_understood_is_copied_whole_as_root() {
    let (_place, bytes) = fresh("btrfs-doubted", "");
    for (at, bit, words) in [
        (FLAGS, 2, "it has errors"),
        (FLAGS, 32, "a seed"),
        (FLAGS, 33, "a dump of metadata"),
        (FLAGS, 38, "btrfstune was interrupted"),
        (FLAGS, 50, "flags is 0x4000000000001"),
        (COMPAT, 0, "compat_flags"),
        (COMPAT_RO, 3, "no block group tree"),
        (COMPAT_RO, 4, "compat_ro_flags"),
        (INCOMPAT, 7, "RAID5"),
        (INCOMPAT, 12, "zoned"),
        (INCOMPAT, 13, "version 2 of the extent tree"),
        (INCOMPAT, 14, "RAID stripes"),
        (INCOMPAT, 17, "moved extents"),
        (INCOMPAT, 40, "incompat_flags"),
        (NUM_DEVICES, 1, "several devices"),
    ] {
        let mut disk = Patched::new(&bytes);
        let place = at + bit / 8;
        disk.put(place, &[disk.byte(place) ^ (1 << (bit % 8))]);
        assert_whole(words, &disk, "superblock at 0x10000: checksum");
        disk.sum_up();
        assert_whole(words, &disk, words);
    }
    let whole = Patched::new(&bytes).scan();
    assert!(whole.bytes(State::Free) > SIZE / 2, "{:?}", whole.regions);
}

#[test]
fn a_log_that_cannot_be_read_is_a_doubt_as_root() {
    let (_place, bytes) = fresh("btrfs-bad-log", "");
    for (root, words) in [
        (30 << 20, "block of a log tree"),
        (1_u64 << 50, "its trees lead out of the chunks"),
        (u64::MAX, "its trees lead out of the chunks"),
    ] {
        let mut disk = Patched::new(&bytes);
        disk.put(SUPERBLOCK + 96, &root.to_le_bytes());
        disk.sum_up();
        assert_whole("log", &disk, words);
    }
}

#[test]
fn the_devices_of_a_filesystem_on_two_are_copied_whole_as_root() {
    let place = Place::new("btrfs-two", SIZE);
    let disks = ["one.raw", "two.raw"].map(|name| place.dir.join(name));
    for disk in &disks {
        fs::write(disk, Marker::A.times(SIZE)).unwrap();
    }
    let loops = [Loop::over(&disks[0]), Loop::over(&disks[1])];
    let paths = [0, 1].map(|number| loops[number].path().to_str().unwrap());
    tool(
        "mkfs.btrfs",
        [
            "-q", "-f", "-K", "-m", "raid1", "-d", "single", paths[0], paths[1],
        ],
    );
    drop(loops);
    for disk in &disks {
        let bytes = fs::read(disk).unwrap();
        assert_whole("two", &Patched::new(&bytes), "it has several devices");
    }
}

/// A block of a tree that is bad in one copy is read from the other; in both, it is a doubt.
#[test]
fn metadata_that_is_bad_in_one_copy_is_read_from_the_other_as_root() {
    let (place, bytes) = fresh("btrfs-copies", "-m dup");
    let whole = Patched::new(&bytes);
    let expected = free(&whole.scan());
    // Where signatures are looked for there may be blocks of mkfs.btrfs that are no longer in use.
    let is_used = |at: &u64| !expected.iter().any(|free| free.contains(at));
    let (size, identity) = (16 << 10, whole.get::<16>(SUPERBLOCK + 32));
    let disk = place.dir.join("disk.raw");
    let blocks: Vec<_> = whole
        .reads()
        .into_iter()
        .flat_map(|range| (range.start..range.end).step_by(size))
        .filter(|at| *at > SUPERBLOCK && is_used(at) && whole.get(*at + 32) == identity)
        .collect();
    assert!(blocks.len() >= 5, "{blocks:?}");
    for at in blocks {
        let mut damaged = Patched::new(&bytes);
        damaged.put(at + 200, &[!damaged.byte(at + 200)]);
        assert_eq!(free(&damaged.scan()), expected, "block at {at:#x}");
        let mut unreadable = Patched::new(&bytes);
        unreadable.fail(at..at + 4096);
        assert_eq!(free(&unreadable.scan()), expected, "block at {at:#x}");
        let other = copy_of(&disk, at);
        damaged.put(other + 200, &[!damaged.byte(other + 200)]);
        assert_whole("both copies", &damaged, "checksum");
    }
}

/// Where the other copy of a block is, as the program that makes them knows it.
fn copy_of(disk: &Path, at: u64) -> u64 {
    let bytes = fs::read(disk).unwrap();
    let logical = u64::from_le_bytes(bytes[at as usize + 48..][..8].try_into().unwrap());
    let told = tool(
        "btrfs-map-logical",
        ["-l", &logical.to_string(), disk.to_str().unwrap()],
    );
    let places = told.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" physical ")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    let others: Vec<_> = places.filter(|place| *place != at).collect();
    let [other] = *others else { panic!("{told}") };
    other
}
