//! What does not fit together is copied whole, and it is said why.

use std::fs;
use std::path::Path;

use super::{MIB, Marker, Place, assert_exact, debugfs, doubt, free, make};
use crate::support::loops::Loop;
use crate::support::{flip, poke, tool};

const SUPERBLOCK: u64 = 1024;

/// What is changed, how, and the words of the doubt.
type Change<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

/// Each change is done to a filesystem that was fine before, and must lead to these words.
#[track_caller]
fn assert_doubted(name: &str, options: &str, changes: &[Change<'_>]) {
    let place = Place::new(name, 24 * MIB);
    let disk = make(&place, 24 * MIB, options);
    let good = fs::read(&disk).unwrap();
    assert_exact(&disk);
    for (what, change, words) in changes {
        fs::write(&disk, &good).unwrap();
        change(&disk);
        super::without_holes(&disk);
        let doubt = doubt(&disk);
        assert!(doubt.contains(words), "{what}: {doubt}");
        place
            .dir
            .run("disk.raw image.qcow2 --no-sync")
            .exits(0)
            .says(words);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn without_checksums_counts_and_places_tell_as_root() {
    // 3 groups of 8 MiB: descriptors in block 2, bitmaps of the last group in 16385 + 2.
    let group = |number: u64, field: u64| 2 * 1024 + number * 32 + field;
    assert_doubted(
        "ext-doubted-2",
        "-t ext2 -b 1024 -O ^resize_inode",
        &[
            (
                "in use or lost",
                &|disk| flip(disk, SUPERBLOCK + 0x3a, 1),
                "it was not unmounted, and has no journal",
            ),
            (
                "errors",
                &|disk| flip(disk, SUPERBLOCK + 0x3a, 2),
                "its superblock says that it has errors",
            ),
            (
                "unknown",
                &|disk| flip(disk, SUPERBLOCK + 0x5e, 1),
                "s_feature_compat is",
            ),
            (
                "compression",
                &|disk| flip(disk, SUPERBLOCK + 0x60, 1),
                "s_feature_incompat is 0x3",
            ),
            (
                "unknown",
                &|disk| flip(disk, SUPERBLOCK + 0x63, 0x80),
                "s_feature_incompat is",
            ),
            (
                "snapshots",
                &|disk| flip(disk, SUPERBLOCK + 0x64, 0x80),
                "s_feature_ro_compat is",
            ),
            (
                "shared blocks",
                &|disk| flip(disk, SUPERBLOCK + 0x65, 0x40),
                "s_feature_ro_compat is",
            ),
            (
                "recovery of nothing",
                &|disk| flip(disk, SUPERBLOCK + 0x60, 4),
                "without a journal",
            ),
            (
                "large blocks",
                &|disk| poke(disk, SUPERBLOCK + 0x18, &[3, 0, 0, 0, 3]),
                "would end at",
            ),
            (
                "first block",
                &|disk| flip(disk, SUPERBLOCK + 0x14, 1),
                "s_first_data_block is 0x0",
            ),
            (
                "clusters",
                &|disk| flip(disk, SUPERBLOCK + 0x1c, 1),
                "s_log_cluster_size is 0x1",
            ),
            (
                "group size",
                &|disk| flip(disk, SUPERBLOCK + 0x21, 1),
                "s_blocks_per_group is",
            ),
            (
                "group sizes",
                &|disk| poke(disk, SUPERBLOCK + 0x20, &[0, 0, 0, 0, 0, 0, 0, 0]),
                "s_clusters_per_group is",
            ),
            (
                "more groups",
                &|disk| poke(disk, SUPERBLOCK + 0x20, &[8, 0, 0, 0, 8, 0, 0, 0]),
                "s_inodes_count is",
            ),
            (
                "inode size",
                &|disk| flip(disk, SUPERBLOCK + 0x58, 1),
                "s_inode_size is",
            ),
            (
                "inodes",
                &|disk| flip(disk, SUPERBLOCK + 0x28, 8),
                "s_inodes_count is",
            ),
            (
                "larger",
                &|disk| flip(disk, SUPERBLOCK + 0x6, 1),
                "filesystem at 0x0 would end at",
            ),
            (
                "free in all",
                &|disk| flip(disk, SUPERBLOCK + 0xc, 1),
                "free blocks:",
            ),
            (
                "free in a group",
                &|disk| flip(disk, group(1, 0xc), 1),
                "free clusters of a group:",
            ),
            (
                "a used bit",
                &|disk| poke(disk, bitmap(disk, 1), &[0xfe]),
                "free clusters of a group:",
            ),
            (
                "table bit moved",
                &|disk| {
                    flip(disk, bitmap(disk, 1), 1);
                    flip(disk, bitmap(disk, 1) + 1000, 1);
                },
                "marks blocks of tables or bitmaps as free",
            ),
            (
                "padding",
                &|disk| flip(disk, bitmap(disk, 2) + 1023, 0x80),
                "past the end of the filesystem as free",
            ),
            (
                "another group's",
                &|disk| flip(disk, group(1, 0x1), 0x40),
                "bg_block_bitmap is",
            ),
            (
                "two in one place",
                &|disk| poke(disk, group(1, 0x4), &table(disk, 1)),
                "in the same blocks",
            ),
            (
                "table past the end",
                &|disk| poke(disk, group(2, 0x8), &[0xff, 0x5f]),
                "bg_inode_table is",
            ),
        ],
    );
}

/// Where the block bitmap of a group lies, in bytes: as the descriptors in block 2 say.
fn bitmap(disk: &Path, group: usize) -> u64 {
    let at = 2048 + group * 32;
    let bytes = fs::read(disk).unwrap();
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())) * 1024
}

/// Where its inode table begins, as it is written there.
fn table(disk: &Path, group: usize) -> [u8; 4] {
    let at = 2048 + group * 32 + 8;
    fs::read(disk).unwrap()[at..at + 4].try_into().unwrap()
}

#[test]
fn checksums_tell_as_root() {
    assert_doubted(
        "ext-doubted-4",
        "-t ext4 -b 1024 -O ^64bit,^has_journal",
        &[
            (
                "superblock",
                &|disk| flip(disk, SUPERBLOCK + 0x120, 1),
                "superblock at 0x400: checksum is",
            ),
            (
                "descriptor",
                &|disk| flip(disk, 2048 + 32 + 0x10, 1),
                "group descriptor at 0x820: checksum is",
            ),
            (
                "bitmap",
                &|disk| {
                    flip(disk, bitmap(disk, 0) + 900, 1);
                    flip(disk, bitmap(disk, 0) + 901, 1);
                },
                "block bitmap at",
            ),
            (
                "kind",
                &|disk| flip(disk, SUPERBLOCK + 0x175, 2),
                "s_checksum_type is 0x3",
            ),
            (
                "first without a bitmap",
                &|disk| debugfs(disk, "set_bg 0 flags 6\nset_bg 0 checksum calc\n"),
                "expected a block bitmap in group 0",
            ),
            (
                "flags",
                &|disk| debugfs(disk, "set_bg 1 flags 0x14\nset_bg 1 checksum calc\n"),
                "bg_flags is 0x14",
            ),
            (
                "more inodes unused than there are",
                &|disk| {
                    let change = "set_bg 1 flags 4\nset_bg 1 itable_unused 65535\nset_bg 1 checksum calc\n";
                    debugfs(disk, change);
                },
                "bg_itable_unused is 0xffff",
            ),
        ],
    );
    assert_doubted(
        "ext-doubted-crc16",
        "-t ext4 -b 1024 -O ^64bit,^has_journal,^metadata_csum,uninit_bg",
        &[
            (
                "descriptor",
                &|disk| flip(disk, 2048 + 32 + 0x10, 1),
                "group descriptor at 0x820: checksum is",
            ),
            (
                "identity",
                &|disk| flip(disk, SUPERBLOCK + 0x68, 1),
                "group descriptor at 0x800: checksum is",
            ),
        ],
    );
    assert_doubted(
        "ext-doubted-64bit",
        "-t ext4 -b 1024 -O ^has_journal",
        &[
            (
                "descriptor",
                &|disk| flip(disk, 2048 + 64 + 0x30, 1),
                "group descriptor at 0x840: checksum is",
            ),
            (
                "size",
                &|disk| debugfs(disk, "set_super_value desc_size 96\n"),
                "s_desc_size is 0x60",
            ),
            (
                "mmp",
                &|disk| debugfs(disk, "feature mmp\nset_super_value mmp_block 30000\n"),
                "s_mmp_block is 0x7530",
            ),
        ],
    );
}

#[test]
fn a_journal_that_is_elsewhere_matters_if_it_is_needed_as_root() {
    let place = Place::new("ext-external", 32 * MIB);
    let journal = place.dir.join("journal.raw");
    fs::write(&journal, Marker::A.times(8 * MIB)).unwrap();
    let device = Loop::over(&journal);
    let path = device.path().to_str().unwrap();
    tool("mke2fs", ["-q", "-F", "-b", "1024", "-O", "journal_dev", path]);
    let disk = make(&place, 24 * MIB, &format!("-t ext4 -b 1024 -J device={path}"));
    drop(device);
    assert_exact(&disk);
    debugfs(&disk, "feature needs_recovery\n");
    super::without_holes(&disk);
    assert!(doubt(&disk).contains("on another device"));

    // That device is no filesystem, and all of it is copied without a warning.
    super::without_holes(&journal);
    assert!(free(&journal).is_empty());
    assert_no_doubt(&place, "journal.raw");
}

#[test]
fn a_check_that_was_cut_off_is_no_map_as_root() {
    let place = Place::new("ext-fsck", 24 * MIB);
    let disk = make(&place, 16 * MIB, "-t ext4 -b 1024 -O mmp,^metadata_csum");
    assert_exact(&disk);
    let told = tool("dumpe2fs", ["-h", disk.to_str().unwrap()]);
    let block = told
        .lines()
        .find_map(|line| line.strip_prefix("MMP block number:"))
        .unwrap();
    let block: u64 = block.trim().parse().unwrap();
    poke(&disk, block * 1024 + 4, &0xe24d_4d50_u32.to_le_bytes());
    assert!(doubt(&disk).contains("e2fsck is checking it"));
    poke(&disk, block * 1024, &[0]);
    assert!(doubt(&disk).contains("mmp_magic"));
}

#[test]
fn random_data_is_no_filesystem_as_root() {
    let place = Place::new("ext-random", MIB);
    let disk = place.dir.join("disk.raw");
    let mut bytes = crate::support::noise(5, MIB as usize);
    bytes[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
    fs::write(&disk, &bytes).unwrap();
    assert_no_doubt(&place, "disk.raw");
}

/// Images a disk without a warning, but for that of a place that is in memory.
#[track_caller]
fn assert_no_doubt(place: &Place, disk: &str) {
    let run = place.dir.run(&format!("{disk} image.qcow2 --no-sync")).exits(0);
    let told = run.stderr();
    assert!(
        told.lines()
            .all(|line| line.contains("warning: is in memory (tmpfs)")),
        "{told}"
    );
}
