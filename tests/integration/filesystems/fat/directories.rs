//! What only the directories of FAT know of, or the entries of a chain.

use std::path::Path;

use mkqcow2::volumes::Treatment;

use super::{FAT32, assert_doubted, bare, get, put, region};
use crate::filesystems::proof::MIB;
use crate::filesystems::proof::fat::{Told, mtool};
use crate::support::Dir;

#[test]
fn directories_are_searched_for_files_whose_clusters_are_not_in_the_fats_yet() {
    let dir = Dir::new("fat-dirty");
    for (options, flag_at, flag) in [
        ("-F 12 -s 4", 37, [1]),
        ("-F 16 -s 2", 37, [1]),
        ("-F 32 -s 1", 65, [1]),
        // In entry 1 of the FAT: not unmounted, and errors.
        ("-F 32 -s 1", 32 * 512 + 7, [0x07]),
        ("-F 32 -s 1", 32 * 512 + 7, [0x0b]),
        ("-F 16 -s 2", 2 * 512 + 3, [0x7f]),
    ] {
        let size = if options.contains("32") { 36 * MIB } else { 8 * MIB };
        let file = bare(&dir, "disk.raw", size, options);
        mtool("mmd", &file, &["::/one", "::/one/two"]);
        let small = dir.sparse("small", 300, &[]);
        mtool("mcopy", &file, &[small.to_str().unwrap(), "::/one/two/small"]);
        let told = Told::of(&file);
        let clean = region(&file).used;
        let entry = chains_removed(&file, &told);
        assert!(entry > 0);
        assert_eq!(region(&file).used, clean, "{options}: clean");

        put(&file, flag_at, &flag);
        let region = region(&file);
        assert!(matches!(region.treatment, Treatment::Mapped), "{region:?}");
        assert_eq!(region.used, clean, "{options}: not unmounted");
    }
}

/// A chain whose next entry was not written.
#[test]
fn what_an_entry_leads_to_is_in_use() {
    let dir = Dir::new("fat-cut");
    for (options, size) in [("-F 12 -s 4", 8), ("-F 16 -s 2", 8), ("-F 32 -s 1", 36)] {
        let file = bare(&dir, "disk.raw", size * MIB, options);
        mtool("mmd", &file, &["::/one", "::/one/two"]);
        let two = Told::of(&file).cluster_size * 2;
        let content = dir.sparse("content", two, &[]);
        mtool("mcopy", &file, &[content.to_str().unwrap(), "::/one/content"]);
        let before = region(&file).used;
        // What lies in the file's second cluster.
        let told = Told::of(&file);
        let removed = free_in_all_fats(&file, &told, 2 + u64::from(told.bits == 32) + 3);
        assert_eq!(removed, [true; 2]);
        assert_eq!(region(&file).used, before, "{options}");
    }
}

/// Frees the last cluster that is in use in all FATs. Returns its number.
fn chains_removed(file: &Path, told: &Told) -> u64 {
    let has_root = u64::from(told.bits == 32);
    // The directories, the file.
    let cluster = 2 + has_root + 2;
    assert_eq!(free_in_all_fats(file, told, cluster), [true; 2]);
    cluster
}

/// Frees the last cluster of a chain in both FATs. Returns whether it was that.
fn free_in_all_fats(file: &Path, told: &Told, cluster: u64) -> [bool; 2] {
    let start = u64::from(u16::from_le_bytes(get(file, 14))) * 512;
    let per_fat = match u16::from_le_bytes(get(file, 22)) {
        0 => u64::from(u32::from_le_bytes(get(file, 36))),
        sectors => sectors.into(),
    } * 512;
    let at = cluster * told.bits / 8;
    [start, start + per_fat].map(|fat| {
        let entry = u32::from_le_bytes(get(file, fat + at));
        let (shift, mask) = match told.bits {
            12 => (4 * (cluster % 2), 0xfff),
            16 => (0, 0xffff),
            _ => (0, 0x0fff_ffff),
        };
        let mask: u32 = mask << shift;
        put(file, fat + at, &(entry & !mask).to_le_bytes());
        entry & mask == mask
    })
}

#[test]
fn what_was_not_unmounted_and_holds_nonsense_is_copied_whole() {
    let dir = Dir::new("fat-dirty-nonsense");
    let file = bare(&dir, "disk.raw", 36 * MIB, FAT32);
    mtool(
        "mcopy",
        &file,
        &[dir.sparse("small", 300, &[]).to_str().unwrap(), "::/"],
    );
    let root = Told::of(&file).data_start;
    put(&file, 65, &[1]);
    // The label is the first entry: the file is the second or third.
    let entry = (1..4)
        .map(|i| root + 32 * i)
        .find(|at| get::<11>(&file, *at) == *b"SMALL      ")
        .unwrap();
    put(&file, entry + 20, &[0xff, 0xff]);
    assert_doubted(
        &file,
        "DIR_FstClus is 0xffff0003, expected 0 or the number of a cluster",
    );

    // Nobody knows which FAT is meant.
    let file = bare(&dir, "disk.raw", 36 * MIB, FAT32);
    put(&file, 65, &[1]);
    put(&file, 40, &[0x81]);
    assert_doubted(&file, "not unmounted, and its FATs are not mirrored");
}

#[test]
fn a_loop_of_directories_ends() {
    let dir = Dir::new("fat-dirty-loop");
    let file = bare(&dir, "disk.raw", 36 * MIB, FAT32);
    mtool("mmd", &file, &["::/one", "::/one/two"]);
    // Root, one, two in clusters 2 to 4: each chain leads into the next one, the last into itself.
    for fat in [
        32 * 512,
        32 * 512 + u64::from(u32::from_le_bytes(get(&file, 36))) * 512,
    ] {
        for (cluster, next) in [(2, 3), (3, 4), (4, 4_u8)] {
            put(&file, fat + cluster * 4, &[next, 0, 0, 0]);
        }
    }
    put(&file, 65, &[1]);
    let region = region(&file);
    assert!(matches!(region.treatment, Treatment::Mapped), "{region:?}");
}

/// More than a GiB, which is a limit, but hardly an entry in it.
#[test]
fn directories_of_large_clusters_are_searched() {
    let dir = Dir::new("fat-large-clusters");
    let file = bare(&dir, "disk.raw", 2048 * MIB, "-F 32 -s 128");
    let (told, before) = (Told::of(&file), region(&file).used);
    let last = 17_000_u32;
    let mut chain: Vec<u8> = (2..last)
        .flat_map(|cluster| (cluster + 1).to_le_bytes())
        .collect();
    chain.extend(0x0fff_ffff_u32.to_le_bytes());
    let start = u64::from(u16::from_le_bytes(get(&file, 14))) * 512;
    put(&file, start + 8, &chain);
    // A file in the last cluster of all, which no FAT has as its own.
    let mut entry = *b"SMALL      \x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x2c\x01\0\0";
    entry[26..28].copy_from_slice(&20_000_u16.to_le_bytes());
    let end = told.data_start + u64::from(last - 1) * told.cluster_size;
    put(&file, end - 32, &entry);
    let region = region(&file);
    assert!(matches!(region.treatment, Treatment::Mapped), "{region:?}");
    assert_eq!(region.used, before + u64::from(last - 2 + 1) * told.cluster_size);
}
