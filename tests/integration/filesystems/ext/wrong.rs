//! Maps that are consistent and wrong: what files have is in use all the same, and it is said that they are wrong.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan, Treatment};
use rustix::fs::XattrFlags;

use super::super::patched::Patched;
use super::super::proof::ext::Ext;
use super::super::proof::{Given, Listing, MIB, Proof, mounted};
use super::forged::{Forged, INODE_UNINIT};
use super::layouts::LAYOUTS;
use super::{Place, debugfs, doubt, files, free, make, without_holes};
use crate::support::loops::Loop;
use crate::support::noise;

/// A name, and options of mke2fs.
const MOUNTED: &[(&str, &str)] = &[
    ("ext2", "-t ext2 -b 1024"),
    ("ext2-4k", "-t ext2 -b 4096 -g 1024"),
    ("ext3", "-t ext3 -b 1024"),
    ("ext3-4k", "-t ext3 -b 4096 -g 1024"),
    ("ext4", "-t ext4 -b 1024 -g 2048"),
    ("ext4-4k", "-t ext4 -b 4096 -g 1024"),
    ("32bit", "-t ext4 -b 1024 -g 2048 -O ^64bit"),
    (
        "sums-of-old",
        "-t ext4 -b 1024 -g 2048 -O ^metadata_csum,uninit_bg",
    ),
    ("no-sums", "-t ext4 -b 1024 -g 2048 -O ^metadata_csum"),
    ("no-extents", "-t ext4 -b 1024 -g 2048 -O ^extent,^64bit"),
    (
        "no-extents-4k",
        "-t ext4 -b 4096 -g 1024 -O ^extent,^64bit,^metadata_csum",
    ),
    ("bigalloc", "-t ext4 -b 1024 -O bigalloc -C 4096 -g 4096"),
    ("bigalloc-4k", "-t ext4 -b 4096 -O bigalloc -C 16384 -g 512"),
    ("inline", "-t ext4 -b 1024 -g 2048 -O inline_data -I 512"),
    ("inline-4k", "-t ext4 -b 4096 -g 1024 -O inline_data"),
    ("ea-inode", "-t ext4 -b 1024 -g 2048 -O ea_inode"),
];

/// One with files whose trees are deep, and what is on it.
pub fn given(name: &str, size: u64, options: &'static str, extended: &'static str) -> Given {
    let ext = Ext::new(options).extended(extended);
    let mut given = Proof::of(&format!("wrong-{name}"), size, ext).made();
    let scratch = given.place.dir.path().to_owned();
    let listing = &mut given.volumes[0].listing;
    mounted("rw", &given.disk, &scratch, &mut |root| {
        // Extents of extents; blocks that name blocks that name blocks that name blocks.
        let deep = File::create(root.join("deep")).unwrap();
        for i in 0..500 {
            deep.write_all_at(&noise(i, 500), i * 48 * 1024).unwrap();
        }
        let far = File::create(root.join("far")).unwrap();
        far.write_all_at(&noise(1, 5000), 66 * MIB).unwrap();
        if options.contains("ea_inode") {
            let (path, value) = (root.join("deep"), noise(2, 3000));
            rustix::fs::setxattr(&path, "user.large", &value, XattrFlags::empty()).unwrap();
        }
        *listing = Listing::of(root, true);
    });
    without_holes(&given.disk);
    given
}

/// What was recognised.
pub fn region(given: &Given) -> Region {
    let source = disk::open(&given.disk, Open::default()).unwrap();
    let mut allocation = volumes::scan(&source, Scan::Auto).unwrap();
    allocation.regions.remove(0)
}

/// All files come back, onto a device that holds something else wherever nothing is written.
#[track_caller]
fn assert_comes_back(given: &Given) {
    let Given { place, .. } = given;
    place
        .dir
        .run("--no-sync --cluster-size 4K disk.raw image.qcow2")
        .exits(0)
        .says("bytes that its bitmaps call free");
    let target = place.dir.join("restored.raw");
    fs::write(&target, vec![0xff; given.disk.metadata().unwrap().len() as usize]).unwrap();
    let device = Loop::over(&target);
    let path = device.path().to_str().unwrap();
    let run = format!("restore --no-sync --used-only image.qcow2 {path}");
    place.dir.run(&run).exits(0);
    drop(device);
    mounted("ro", &target, place.dir.path(), &mut |root| {
        given.volumes[0].listing.assert_in(&Listing::of(root, true));
    });
}

/// What is called free now, if `forge` changes the maps; nothing of what was in use is.
#[track_caller]
fn assert_survived(given: &Given, name: &str, forge: impl FnOnce(&mut Forged)) {
    let good = fs::read(&given.disk).unwrap();
    let before = free(&given.disk);
    let mut forged = Forged::of(&given.disk);
    forge(&mut forged);
    forged.write(&given.disk);
    let region = region(given);
    assert!(
        matches!(region.treatment, Treatment::Corrected(_)),
        "{name}: {region:?}"
    );
    for range in free(&given.disk) {
        let is_free = |free: &std::ops::Range<u64>| free.start <= range.start && range.end <= free.end;
        assert!(before.iter().any(is_free), "{name}: {range:x?} was in use");
    }
    assert_comes_back(given);
    fs::write(&given.disk, good).unwrap();
}

/// The blocks of a group that are in use and hold no tables.
fn of_files(forged: &Forged, group: u64) -> Vec<u64> {
    let blocks = forged.clusters(group);
    blocks
        .filter(|block| forged.is_used(*block) && !forged.holds_tables(*block))
        .collect()
}

/// A group with files, and a block of it that is free.
fn with_room(forged: &Forged) -> (u64, u64) {
    let groups = 0..forged.groups();
    let with_files =
        groups.filter(|group| !forged.is_unwritten(*group) && !of_files(forged, *group).is_empty());
    let free = |group| forged.clusters(group).find(|block| !forged.is_used(*block));
    let mut found = with_files.filter_map(|group| Some((group, free(group)?)));
    found.next().expect("a group with files and room")
}

#[track_caller]
fn survives(name: &str) {
    let (_, options) = MOUNTED.iter().find(|(of, _)| *of == name).unwrap();
    let given = given(name, 32 * MIB, options, "");
    let before = free(&given.disk);

    assert_survived(&given, "a bit that moved", |forged| {
        let (group, free) = with_room(forged);
        let used = of_files(forged, group);
        forged.turn(used[used.len() / 2]);
        forged.turn(free);
    });
    assert_survived(&given, "bits that were cleared", |forged| {
        for group in 0..forged.groups() {
            forged.clear(group);
        }
    });
    assert_survived(&given, "a bitmap that moved", |forged| {
        let (group, to) = with_room(forged);
        forged.turn(to);
        forged.move_bitmap(group, to);
        forged.clear(group);
        forged.turn(to);
    });
    let has_flags = options.contains("ext4") && !name.starts_with("no-sums") && name != "no-extents-4k";
    if has_flags {
        assert_survived(&given, "a bitmap that was never written", |forged| {
            let mut groups = 1..forged.groups();
            let group = groups.find(|group| forged.clear(*group) > 0);
            forged.unwrite(group.expect("a group with files"));
        });
    }
    assert_eq!(free(&given.disk), before);
}

macro_rules! survives {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                survives($name);
            }
        )*
    };
}

survives! {
    a_wrong_map_of_ext2_is_survived_as_root: "ext2",
    a_wrong_map_of_ext2_with_large_blocks_is_survived_as_root: "ext2-4k",
    a_wrong_map_of_ext3_is_survived_as_root: "ext3",
    a_wrong_map_of_ext3_with_large_blocks_is_survived_as_root: "ext3-4k",
    a_wrong_map_of_ext4_is_survived_as_root: "ext4",
    a_wrong_map_of_ext4_with_large_blocks_is_survived_as_root: "ext4-4k",
    a_wrong_map_of_ext4_without_64bit_is_survived_as_root: "32bit",
    a_wrong_map_of_ext4_with_the_checksums_of_old_is_survived_as_root: "sums-of-old",
    a_wrong_map_of_ext4_without_checksums_is_survived_as_root: "no-sums",
    a_wrong_map_of_ext4_without_extents_is_survived_as_root: "no-extents",
    a_wrong_map_of_ext4_without_extents_and_checksums_is_survived_as_root: "no-extents-4k",
    a_wrong_map_of_ext4_with_clusters_is_survived_as_root: "bigalloc",
    a_wrong_map_of_ext4_with_large_clusters_is_survived_as_root: "bigalloc-4k",
    a_wrong_map_of_ext4_with_data_in_inodes_is_survived_as_root: "inline",
    a_wrong_map_of_ext4_with_data_in_small_inodes_is_survived_as_root: "inline-4k",
    a_wrong_map_of_ext4_with_attributes_in_inodes_of_their_own_is_survived_as_root: "ea-inode",
}

#[test]
fn whatever_the_bitmaps_say_files_and_tables_are_in_use_and_nothing_else_as_root() {
    let place = Place::new("ext-cleared", 48 * MIB);
    let files = files(&place);
    let mut tried = 0;
    for layout in LAYOUTS.lines().filter(|line| !line.is_empty()) {
        let disk = make(&place, 41 * MIB + 37 * 1024, &format!("{layout} -d {files}"));
        let before = free(&disk);
        let mut forged = Forged::of(&disk);
        if forged.has_meta_bg() {
            continue;
        }
        let cleared: usize = (0..forged.groups()).map(|group| forged.clear(group)).sum();
        assert!(cleared > 10, "{layout}");
        forged.write(&disk);
        let after = free(&disk);
        assert!(!after.is_empty(), "{layout}: {}", doubt(&disk));
        assert_eq!(after, before, "{layout}");
        tried += 1;
    }
    assert!(tried > 38, "{tried}");
}

/// In a large table that was never cleared, a checksum of 16 bits is right by chance.
#[test]
fn what_an_inode_table_held_before_is_no_file_even_if_its_short_checksum_is_right_as_root() {
    let place = Place::new("ext-by-chance", 8 * MIB);
    let disk = make(&place, 8 * MIB, "-t ext4 -b 1024 -I 128");
    let (before, bytes) = (free(&disk), fs::read(&disk).unwrap());
    let told = crate::support::tool("debugfs", ["-R", "imap <12>", disk.to_str().unwrap()]);
    let (_, rest) = told.split_once("located at block ").unwrap();
    let (block, offset) = rest.trim().split_once(", offset 0x").unwrap();
    let at = block.parse::<u64>().unwrap() * 1024 + u64::from_str_radix(offset, 16).unwrap();
    for (name, mode, reserved) in [
        ("of no type", 0xe8f7_u16, 0xa5_u8),
        ("of a file", 0x81a4, 0xa5),
        ("with the bits of an inode", 0xe8f7, 0),
    ] {
        let mut patched = Patched::new(&bytes);
        let mut inode = noise(7, 128);
        inode[..2].copy_from_slice(&mode.to_le_bytes());
        inode[26..28].copy_from_slice(&[1, 0]);
        inode[126..].copy_from_slice(&[reserved; 2]);
        patched.put(at, &inode);
        patched.sum_up_small_inode(at, 12);
        let changed = place.dir.join("changed.raw");
        fs::write(&changed, patched.bytes()).unwrap();
        let found = free(&changed);
        assert_eq!(found == before, reserved != 0, "{name}: {found:x?}, {before:x?}");
    }
}

#[test]
fn an_inode_table_that_was_never_used_by_its_descriptor_is_looked_at_as_root() {
    for (name, options) in [
        ("unused", "-t ext4 -b 1024 -g 2048"),
        (
            "unused-old",
            "-t ext4 -b 1024 -g 2048 -O ^metadata_csum,uninit_bg",
        ),
    ] {
        // What was never used holds zeros, and is said to.
        let given = given(name, 32 * MIB, options, "lazy_itable_init=0");
        assert_survived(&given, name, |forged| {
            let uninit = u64::from(INODE_UNINIT);
            let used = (1..forged.groups()).filter(|group| forged.field(*group, 0x12) & uninit == 0);
            let used: Vec<u64> = used.collect();
            assert!(!used.is_empty(), "{name}: all inodes are in the first group");
            for group in 0..forged.groups() {
                forged.clear(group);
            }
            for group in used {
                let flags = forged.field(group, 0x12) | uninit;
                forged.set_field(group, 0x12, flags);
            }
        });
    }
}

/// A filesystem without checksums, with one file whose blocks its map calls free.
fn lost_file(name: &str) -> (Given, u64, Vec<u8>) {
    let given = given(name, 32 * MIB, "-t ext4 -b 1024 -O ^metadata_csum,^64bit", "");
    let mut forged = Forged::of(&given.disk);
    for group in 0..forged.groups() {
        forged.clear(group);
    }
    let inode = inode_block(&given, "/deep");
    let at = inode as usize * forged.block;
    let end = at + forged.block;
    let block = forged.bytes()[at..end].to_vec();
    forged.write(&given.disk);
    (given, inode, block)
}

/// The block of the inode table that holds the inode of a file.
fn inode_block(given: &Given, path: &str) -> u64 {
    let disk = given.disk.to_str().unwrap();
    let told = crate::support::tool("debugfs", ["-R", &format!("imap {path}"), disk]);
    let (_, block) = told.split_once("located at block ").unwrap();
    block.split(',').next().unwrap().trim().parse().unwrap()
}

/// Commits a transaction that has a block.
fn commit(given: &Given, block: u64, bytes: &[u8]) {
    let file = given.place.dir.join("block");
    fs::write(&file, bytes).unwrap();
    debugfs(
        &given.disk,
        &format!("jo\njw -b {block} {}\njc\n", file.display()),
    );
    without_holes(&given.disk);
}

#[test]
fn files_whose_inodes_are_in_the_journal_only_are_found_as_root() {
    let (given, block, bytes) = lost_file("journal-new");
    let before = free(&given.disk);
    fs::OpenOptions::new()
        .write(true)
        .open(&given.disk)
        .unwrap()
        .write_all_at(&vec![0; bytes.len()], block * 1024)
        .unwrap();
    let without: u64 = free(&given.disk)
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    assert!(without > before.iter().map(|range| range.end - range.start).sum());
    commit(&given, block, &bytes);
    assert_eq!(free(&given.disk), before);
    assert_comes_back(&given);
}

#[test]
fn files_that_only_the_journal_deletes_are_in_use_as_root() {
    let (given, block, bytes) = lost_file("journal-old");
    let before = free(&given.disk);
    let missing = *region(&given).missing().unwrap();
    commit(&given, block, &vec![0; bytes.len()]);
    assert_eq!(free(&given.disk), before);
    // What the journal takes away is no fault of the map.
    let rest = *region(&given).missing().unwrap();
    assert!(rest.bytes + 500 * 1024 <= missing.bytes, "{rest} of {missing}");
}
