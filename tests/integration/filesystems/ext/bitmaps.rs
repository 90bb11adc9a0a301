//! A bitmap that calls a block free which an inode has, one of bad blocks or of a file: e2fsprogs tests what e2fsck
//! makes of that (`f_dup_ba`). Here everything is in use if the filesystem was not unmounted, and else the block
//! of a file is.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan, Treatment};

use super::{MIB, Place, debugfs, doubt, files, free, make, without_holes};
use crate::support::tool;

/// In bytes.
const BLOCK: u64 = 1024;

/// Blocks that are bad.
const BAD: [u64; 3] = [3000, 3001, 5000];

/// A filesystem with files and with bad blocks, which their inode has.
fn given(name: &str, kind: &str) -> (Place, PathBuf) {
    let place = Place::new(name, 8 * MIB);
    let list = place.dir.join("bad");
    fs::write(&list, BAD.map(|block| format!("{block}\n")).concat()).unwrap();
    let options = format!("-t {kind} -b 1024 -l {} -d {}", list.display(), files(&place));
    let disk = make(&place, 8 * MIB, &options);
    assert!(!in_free(&disk, BAD[0]), "bad blocks are in use");
    (place, disk)
}

fn bytes(block: u64) -> Range<u64> {
    block * BLOCK..(block + 1) * BLOCK
}

/// Whether the map calls a block free.
fn in_free(disk: &Path, block: u64) -> bool {
    let block = bytes(block);
    let mut free = free(disk).into_iter();
    free.any(|range| range.start < block.end && block.start < range.end)
}

/// A block that a file has, as debugfs tells it.
fn block_of_a_file(disk: &Path) -> u64 {
    let listed = tool("debugfs", ["-R", "ls -p /", disk.to_str().unwrap()]);
    let files = listed.lines().filter_map(|line| {
        let fields: Vec<_> = line.split('/').collect();
        let is_file = fields.get(2).is_some_and(|mode| mode.starts_with("100"));
        is_file.then(|| fields[1].to_owned())
    });
    let blocks = files.map(|inode| {
        let command = format!("blocks <{inode}>");
        tool("debugfs", ["-R", &command, disk.to_str().unwrap()])
    });
    let mut blocks = blocks.filter_map(|blocks| blocks.split_whitespace().next()?.parse().ok());
    blocks.next().expect("no file has a block")
}

/// Has the bitmap call a block free, and all counts that go with it. `state` is 0 if it was not unmounted, else 1.
fn set_free(disk: &Path, block: u64, state: u8) {
    let told = tool("dumpe2fs", ["-h", disk.to_str().unwrap()]);
    let mut lines = told.lines();
    let free = lines.find_map(|line| line.strip_prefix("Free blocks:"));
    let free: u64 = free.unwrap().trim().parse().unwrap();
    let free = free + 1;
    debugfs(
        disk,
        &format!(
            "freeb {block}\nset_bg 0 free_blocks_count {free}\nssv free_blocks_count {free}\nssv state {state}\n\
             set_bg 0 checksum calc\n"
        ),
    );
    without_holes(disk);
    let told = tool(
        "debugfs",
        ["-R", &format!("testb {block}"), disk.to_str().unwrap()],
    );
    assert!(told.contains("not in use"), "{told}");
}

/// Makes sure that all is in use if the bitmap calls a block free and the filesystem was not unmounted.
#[track_caller]
fn assert_whole(disk: &Path, block: u64) {
    let before = fs::read(disk).unwrap();
    assert!(!free(disk).is_empty());
    set_free(disk, block, 0);
    assert!(doubt(disk).starts_with("it was not unmounted"));
    assert!(free(disk).is_empty());
    fs::write(disk, before).unwrap();
}

/// Makes sure that a block which the bitmap calls free is in use if all else fits together.
#[track_caller]
fn assert_corrected(disk: &Path, block: u64) {
    set_free(disk, block, 1);
    let source = disk::open(disk, Open::default()).unwrap();
    let region = volumes::scan(&source, Scan::Auto).unwrap().regions.remove(0);
    let Treatment::Corrected(missing) = &region.treatment else {
        panic!("{region:?}")
    };
    assert_eq!((missing.bytes, missing.at), (BLOCK, block * BLOCK));
    assert!(!in_free(disk, block), "block {block} is left out");
    assert!(!free(disk).is_empty());
}

/// Of a filesystem that was unmounted, a bad block counts as the bitmap says: it holds nothing.
#[test]
fn a_bad_block_that_the_bitmap_of_a_dirty_filesystem_calls_free_is_in_use_as_root() {
    for kind in ["ext2", "ext3", "ext4"] {
        for block in BAD {
            let (_place, disk) = given(&format!("ext-bad-{kind}-{block}"), kind);
            assert_whole(&disk, block);
        }
    }
}

#[test]
fn a_block_of_a_file_that_the_bitmap_calls_free_is_in_use_as_root() {
    for kind in ["ext2", "ext3", "ext4"] {
        let (_place, disk) = given(&format!("ext-freed-{kind}"), kind);
        let block = block_of_a_file(&disk);
        assert_whole(&disk, block);
        assert_corrected(&disk, block);
    }
}
