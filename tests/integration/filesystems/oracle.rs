//! The proof can fail: of a filesystem that is whole, one block in use at a time is left out, as a map that is wrong
//! would do, and its checker, the mount or a file's hash tells.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::proof::ext::Ext;
use super::proof::{Given, MIB, Marker, Proof};
use crate::support::{Dice, tool};

/// In bytes.
const BLOCK: usize = 1024;

/// How many blocks of a kind are left out.
const OF_EACH_KIND: usize = 8;

#[test]
fn a_block_that_is_missing_is_noticed_whatever_it_holds_as_root() {
    let given = Proof::of("oracle", 16 * MIB, Ext::new("-t ext4 -b 1024"))
        .aged(300)
        .made();
    let kinds = blocks(&given.disk);
    let source = fs::read(&given.disk).unwrap();
    given.assert_intact(&copy(&given, &source, None));

    let mut dice = Dice::new(1);
    let mut tried = 0;
    for (kind, mut blocks) in kinds {
        assert!(!blocks.is_empty(), "no block is a {kind}");
        while blocks.len() > OF_EACH_KIND {
            blocks.swap_remove(dice.below(blocks.len() as u64) as usize);
        }
        for block in blocks {
            let disk = copy(&given, &source, Some(block));
            let is_noticed = catch_unwind(AssertUnwindSafe(|| given.assert_intact(&disk))).is_err();
            assert!(is_noticed, "nobody misses block {block}, a {kind}");
            tried += 1;
        }
    }
    assert!(tried >= 40, "only {tried} blocks");
}

/// The disk without one block.
fn copy(given: &Given, source: &[u8], without: Option<usize>) -> PathBuf {
    let mut bytes = source.to_vec();
    if let Some(block) = without {
        let marker = Marker::B.times(BLOCK as u64);
        bytes[block * BLOCK..][..BLOCK].copy_from_slice(&marker);
    }
    let path = given.place.dir.join("oracle.raw");
    fs::write(&path, bytes).unwrap();
    path
}

/// Blocks of each kind, as dumpe2fs and debugfs tell them.
fn blocks(disk: &Path) -> BTreeMap<&'static str, Vec<usize>> {
    let disk = disk.to_str().unwrap();
    let debugfs = |command: &str| tool("debugfs", ["-R", command, disk]);
    let mut kinds = blocks_of_groups(&tool("dumpe2fs", [disk]));
    kinds.insert("superblock", vec![1]);
    kinds.insert("descriptor block", vec![2]);
    let bottom: PathBuf = (0..12).map(|level| format!("deep-{level}")).collect();
    for (kind, file) in [
        ("directory block", "/many"),
        ("block of a large file", "/large"),
        ("block of a small file", &format!("/{}/bottom", bottom.display())),
        ("block of a sparse file", "/sparse"),
        ("target of a symbolic link", "/long-link"),
    ] {
        let told = debugfs(&format!("blocks {file}"));
        let numbers = told
            .split_whitespace()
            .map(|number| number.parse::<usize>().unwrap());
        kinds.insert(kind, numbers.collect());
    }
    let attributes = number_behind(&debugfs("stat /block"), "File ACL:");
    kinds.insert("block of extended attributes", vec![attributes]);
    let journal = debugfs("blocks <8>");
    kinds.insert("superblock of the journal", vec![number_behind(&journal, "")]);
    kinds
}

/// Those that stand in descriptors, as far as they are in use.
fn blocks_of_groups(told: &str) -> BTreeMap<&'static str, Vec<usize>> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let inodes_in_block = BLOCK / number_behind(told, "Inode size:");
    let inodes = number_behind(told, "Inodes per group:");
    let (_, groups) = told.split_once("\n\n").unwrap();
    for group in groups.split("\nGroup ").skip(1) {
        if !group.contains("BLOCK_UNINIT") {
            let bitmaps = kinds.entry("block bitmap").or_default();
            bitmaps.push(number_behind(group, "Block bitmap at "));
        }
        if !group.contains("INODE_UNINIT") {
            let bitmaps = kinds.entry("inode bitmap").or_default();
            bitmaps.push(number_behind(group, "Inode bitmap at "));
            let unused = group.lines().find(|line| line.ends_with(" unused inodes"));
            let unused = unused.map_or(0, |line| number_behind(line.rsplit_once(',').unwrap().1, ""));
            let first = number_behind(group, "Inode table at ");
            let tables = kinds.entry("inode table block").or_default();
            tables.extend(first..first + (inodes - unused) / inodes_in_block);
        }
    }
    kinds
}

/// The number that follows the first of these words.
fn number_behind(told: &str, words: &str) -> usize {
    let (_, number) = told
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words} in\n{told}"));
    let number = number.trim_start();
    let end = number.find(|c: char| !c.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().unwrap()
}
