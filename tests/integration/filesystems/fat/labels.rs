//! The label of a volume is that of its root directory, whatever its boot sector says: blkid tells the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::Glance;

use super::{Told, bare, get, put, region};
use crate::support::Dir;
use crate::support::tool;

/// Sizes in MiB, options of mkfs.fat, and where the label is in the boot sector.
const KINDS: [(u64, &str, u64); 3] = [
    (8, "-F 12 -s 4 -n MADE", 43),
    (32, "-F 16 -s 2 -n MADE", 43),
    (36, "-F 32 -s 1 -n MADE", 71),
];

/// The label that mkqcow2 tells, both with a map and at a glance.
#[track_caller]
fn label(file: &Path) -> Option<String> {
    let source = disk::open(file, Open::default()).unwrap();
    let glance = Glance::of(&source);
    let label = region(file).label;
    assert_eq!(glance.regions[0].label, label);
    label
}

/// The label that blkid tells.
fn of_blkid(file: &Path) -> Option<String> {
    let arguments = ["-p", "-s", "LABEL", "-s", "TYPE", "-o", "export"];
    let told = tool("blkid", arguments.into_iter().chain([file.to_str().unwrap()]));
    assert!(told.contains("TYPE=vfat"), "{told}");
    let label = told.lines().find_map(|line| line.strip_prefix("LABEL="));
    label.map(|label| label.replace("\\ ", " "))
}

#[track_caller]
fn assert_label(file: &Path, expected: Option<&str>) {
    assert_eq!(of_blkid(file).as_deref(), expected, "by blkid");
    assert_eq!(label(file).as_deref(), expected);
}

/// Changes the label of the root directory.
fn mlabel(file: &Path, argument: &str) {
    tool("mlabel", ["-i", file.to_str().unwrap(), argument]);
}

/// Where the label entry lies.
fn entry(file: &Path, name: &[u8; 11]) -> u64 {
    let bytes = fs::read(file).unwrap();
    let entries = bytes.chunks(32);
    let mut entries = entries.map(|entry| entry.starts_with(name) && entry[11] & 8 != 0);
    entries.position(|is_it| is_it).unwrap() as u64 * 32
}

#[test]
fn the_label_is_that_of_the_root_directory() {
    let dir = Dir::new("fat-label");
    for (size, options, in_boot) in KINDS {
        let file = bare(&dir, "disk.raw", size << 20, options);
        assert_label(&file, Some("MADE"));
        mlabel(&file, "::NEW ONE");
        put(&file, in_boot, b"OLD ONE    ");
        assert_label(&file, Some("NEW ONE"));
    }
}

#[test]
fn a_root_directory_without_a_label_has_none_whatever_the_boot_sector_says() {
    let dir = Dir::new("fat-label-none");
    for (size, options, in_boot) in KINDS {
        let file = bare(&dir, "disk.raw", size << 20, options);
        let at = entry(&file, b"MADE       ");
        put(&file, at, b"\xe5");
        assert_eq!(get(&file, in_boot), *b"MADE       ");
        assert_label(&file, None);
        let file = bare(&dir, "disk.raw", size << 20, options.split_once(" -n").unwrap().0);
        assert_eq!(get(&file, in_boot), *b"NO NAME    ");
        assert_label(&file, None);
    }
}

/// Long names come in front of their entries, and clusters of 512 bytes hold 16 entries.
#[test]
fn a_label_in_a_later_cluster_of_the_root_directory_is_found() {
    let dir = Dir::new("fat-label-later");
    let file = bare(&dir, "disk.raw", 36 << 20, "-F 32 -s 1");
    let path = dir.sparse("a file with a long name", 0, &[]);
    for number in 0..30 {
        let name = format!("::/and a long name, number {number}");
        super::mtool("mcopy", &file, &[path.to_str().unwrap(), &name]);
    }
    mlabel(&file, "::LATER");
    let root = u64::from(u32::from_le_bytes(get(&file, 44)));
    let told = Told::of(&file);
    assert_eq!((root, told.cluster_size), (2, 512));
    let start = u64::from(u16::from_le_bytes(get(&file, 14))) * 512;
    let fats = u64::from(u32::from_le_bytes(get(&file, 36))) * 2 * 512;
    assert!(
        entry(&file, b"LATER      ") >= start + fats + 1024,
        "not in the first two"
    );
    assert_label(&file, Some("LATER"));
}

#[test]
fn a_label_in_some_code_page_is_shown() {
    let dir = Dir::new("fat-label-page");
    for (size, options, _) in KINDS {
        let file = bare(&dir, "disk.raw", size << 20, options);
        let at = entry(&file, b"MADE       ");
        put(&file, at, b"\x05\x8e\xffLABEL\n\x1b ");
        let label = label(&file).unwrap();
        assert!(label.contains("LABEL"), "{label:?}");
        let run = dir.run("map --regions disk.raw").exits(0);
        assert!(run.stdout().contains("LABEL") && !run.stdout().contains('\x1b'));
        let told = Command::new("blkid")
            .args(["-p", file.to_str().unwrap()])
            .output();
        assert!(told.unwrap().status.success());
    }
}

/// Of a chain that never ends, and of one that leads nowhere.
#[test]
fn a_chain_of_the_root_directory_that_leads_nowhere_is_no_harm() {
    let dir = Dir::new("fat-label-chain");
    for next in [2_u32, 3, 0x0fff_fff0, 1] {
        let file = bare(&dir, "disk.raw", 36 << 20, "-F 32 -s 1");
        let start = u64::from(u16::from_le_bytes(get(&file, 14))) * 512;
        let fats = u64::from(u32::from_le_bytes(get(&file, 36))) * 2 * 512;
        put(&file, start + 8, &next.to_le_bytes());
        // No entry ends the first cluster.
        put(&file, start + fats, &[0xe5; 512]);
        let source = disk::open(&file, Open::default()).unwrap();
        assert_eq!(Glance::of(&source).regions[0].label, None, "{next:#x}");
        put(
            &file,
            start + fats + 480,
            b"THE LAST   \x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        );
        let glance = Glance::of(&source);
        assert_eq!(glance.regions[0].label.as_deref(), Some("THE LAST"), "{next:#x}");
    }
}
