//! A GPT of which one copy is damaged, or not where it belongs: that is told by name, with what repairs it, and that
//! does repair it.

use std::fs::{self, File};
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Tables};
use serde_json::json;

use super::THREE;
use super::disk::Disk;
use super::edits::Header;
use crate::filesystems::proof::MIB;
use crate::support::loops::Loop;
use crate::support::tool;

const END: u64 = 16 * MIB;

fn tables(path: &Path) -> Tables {
    volumes::tables(&disk::open(path, Open::default()).unwrap())
}

/// A disk of 16 MiB with three swap areas.
fn three(name: &str) -> Disk {
    let disk = Disk::new(&format!("flaws-{name}"), END, 512, THREE);
    disk.swap_in(1).swap_in(2).swap_in(3);
    assert_eq!(tables(disk.path()).flaws, []);
    disk
}

/// All that look at the disk tell it, with status 0, and so does a restore; and `sgdisk -e` repairs what was restored.
#[track_caller]
fn assert_told_and_repaired(disk: &Disk, told: &[&str]) {
    let flaws: Vec<_> = tables(disk.path())
        .flaws
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(flaws.len(), told.len(), "{flaws:?}");
    for (flaw, words) in flaws.iter().zip(told) {
        assert!(flaw.contains(words), "expected {words:?}: {flaw:?}");
        assert!(flaw.contains("sgdisk -e"), "{flaw}");
        let warning = format!("disk.raw: warning: {flaw}\n");
        for run in [
            "-n disk.raw image.qcow2",
            "-q --no-sync disk.raw image.qcow2",
            "-q --no-sync --scan sparse disk.raw image.qcow2",
            "map disk.raw",
            "map --regions disk.raw",
        ] {
            disk.run(run).exits(0).says(&warning);
        }
        disk.run("map --regions disk.raw").prints(&format!("  {flaw}\n"));
        let object = |arguments: &str| disk.run(arguments).exits(0).json();
        for regions in [
            object("map --regions --json disk.raw"),
            object("map --regions --json image.qcow2"),
            object("-n --json disk.raw image.qcow2")["regions"].clone(),
            object("--json --no-sync disk.raw image.qcow2")["regions"].clone(),
        ] {
            let whys = regions[0]["flaws"]
                .as_array()
                .unwrap()
                .iter()
                .map(|flaw| flaw["message"].clone());
            assert!(whys.clone().any(|why| why == json!(flaw)), "{regions}");
        }
        let warning = format!("image.qcow2: warning: {flaw}\n");
        disk.run("map --regions image.qcow2").exits(0).says(&warning);
        disk.run("restore -n image.qcow2 copy.raw")
            .exits(0)
            .says(&warning);
        disk.run("restore --no-sync image.qcow2 copy.raw")
            .exits(0)
            .says(&warning);
    }
    let copy = disk.beside("copy.raw");
    tool("sgdisk", ["-e", copy.to_str().unwrap()]);
    assert_sound(&copy);
}

#[track_caller]
fn assert_sound(disk: &Path) {
    let told = tool("sgdisk", ["-v", disk.to_str().unwrap()]);
    assert!(told.contains("No problems found"), "{told}");
    let told = tool("sfdisk", ["--dump", disk.to_str().unwrap()]);
    let starts: Vec<_> = told
        .lines()
        .filter_map(|line| line.split_once("start=")?.1.trim_start().split_once(','))
        .map(|(start, _)| start.parse::<u64>().unwrap() * 512 / MIB)
        .collect();
    assert_eq!(starts, [1, 4, 7], "{told}");
    assert_eq!(tables(disk).flaws, []);
}

#[test]
fn a_damaged_copy_beside_a_good_one_is_named_and_can_be_repaired_as_root() {
    let rows: [(&str, u64, &str); 6] = [
        (
            "primary",
            512 + 24,
            "the primary GPT at 0x200 is damaged (GPT header at 0x200: checksum is ",
        ),
        (
            "primary-signature",
            512,
            "the primary GPT at 0x200 is damaged (there is no GPT header), the other one at 0xfffe00 is good: ",
        ),
        (
            "primary-entries",
            1024 + 32,
            "the primary GPT at 0x200 is damaged (GPT entries at 0x400: checksum is ",
        ),
        (
            "backup",
            END - 512 + 24,
            "the backup GPT at 0xfffe00 is damaged (GPT header at 0xfffe00: checksum is ",
        ),
        (
            "backup-signature",
            END - 512,
            "the backup GPT at 0xfffe00 is damaged (there is no GPT header), the other one at 0x200 is good: ",
        ),
        (
            "backup-entries",
            END - 33 * 512 + 32,
            "the backup GPT at 0xfffe00 is damaged (GPT entries at 0xffbe00: checksum is ",
        ),
    ];
    for (name, at, told) in rows {
        let disk = three(name);
        disk.wreck(&[at]);
        assert_told_and_repaired(&disk, &[told]);
    }
}

#[test]
fn copies_that_are_not_the_same_are_told_as_root() {
    let disk = three("differ");
    let entries = END - 33 * 512;
    disk.edit(|edit| {
        edit.gpt_entry(entries, 2048, 4095);
        Header::at(END - 512).write(edit);
    });
    let told = "the primary GPT at 0x200 and the one at 0xfffe00 are not the same: sgdisk -e makes both like the primary";
    assert_told_and_repaired(&disk, &[told]);
}

#[test]
fn a_gpt_of_a_disk_that_grew_is_told_with_the_place_of_its_backup_as_root() {
    let disk = three("grown");
    disk.resize(20 * MIB);
    let told = "the disk has 20971520 bytes, its GPT is made for 16777216: the backup GPT, at 0xfffe00, is not at the end";
    assert_told_and_repaired(&disk, &[told]);

    let disk = three("grown-damaged");
    disk.resize(20 * MIB);
    disk.wreck(&[END - 512]);
    let damaged = "the backup GPT at 0xfffe00 is damaged (there is no GPT header)";
    assert_told_and_repaired(&disk, &[damaged, told]);
}

#[test]
fn a_gpt_of_a_disk_that_was_cut_off_is_told_as_such_as_root() {
    let told = "the disk was larger when its table was made, 16777216 bytes, and has ";
    // In the middle of the backup, and behind the last partition.
    for (name, size) in [("cut-tail", END - 10 * 512), ("cut", 10 * MIB)] {
        let disk = three(name);
        disk.resize(size);
        assert_told_and_repaired(&disk, &[&format!("{told}{size}: cut off?")]);
    }
    // In the middle of a partition nothing repairs it.
    let disk = three("cut-part");
    disk.resize(8 * MIB);
    let flaws = tables(disk.path()).flaws;
    assert!(flaws[0].to_string().contains(told), "{flaws:?}");
    disk.assert_whole("LastUsableLBA is 0x7fde, expected a sector of this disk");
}

#[test]
fn two_damaged_copies_are_both_told_as_root() {
    let disk = three("lost");
    disk.wreck(&[512 + 24, END - 512]);
    disk.run("-n disk.raw image.qcow2")
        .exits(0)
        .says("warning: the primary GPT at 0x200 is damaged (GPT header at 0x200: checksum is ")
        .says("and so is the backup at 0xfffe00 (there is no GPT header)\n");
    // A disk without a trace of a GPT but its MBR is told by that.
    disk.wreck(&[512]);
    assert_eq!(tables(disk.path()).flaws, []);
}

/// Repairs a GPT whose only good copy lies where a disk of 16 MiB ended.
#[track_caller]
fn repair_by_the_old_end(path: &Path) {
    let old = Loop::part(path, 0, END);
    tool("sgdisk", ["-e", old.path().to_str().unwrap()]);
    drop(old);
    tool("sgdisk", ["-e", path.to_str().unwrap()]);
    assert_sound(path);
}

const STRAY: &str = "and the backup at 0xfffe00 is good but not at the end of the disk, so that no program finds it, \
                     and sgdisk -e would make the table empty: first repair it with sgdisk -e on a loop device \
                     (losetup --sizelimit 16777216)";

#[test]
fn a_good_backup_where_no_program_looks_is_told_and_can_be_used_as_root() {
    let disk = three("stray");
    disk.wreck(&[512 + 24]);
    disk.resize(20 * MIB);
    for run in [
        "-n disk.raw image.qcow2",
        "map --regions disk.raw",
        "-q disk.raw image.qcow2",
    ] {
        disk.run(run)
            .exits(0)
            .says("warning: the primary GPT at 0x200 is damaged (GPT header at 0x200: checksum is ")
            .says(STRAY);
    }
    disk.run("restore --no-sync image.qcow2 copy.raw")
        .exits(0)
        .says(STRAY);
    repair_by_the_old_end(&disk.beside("copy.raw"));

    // What is told of sgdisk is so.
    tool("sgdisk", ["-e", disk.path().to_str().unwrap()]);
    assert_eq!(disk.oracle(), []);
}

#[test]
fn a_disk_whose_only_good_table_ends_up_where_no_program_looks_is_restored_with_status_3_as_root() {
    let disk = three("larger");
    disk.wreck(&[512 + 24]);
    disk.run("-q --no-sync disk.raw image.qcow2").exits(0);
    let target = disk.beside("target.raw");
    File::create(&target).unwrap().set_len(20 * MIB).unwrap();
    let device = Loop::over(&target);
    let to = device.path().display();

    for (options, status) in [("-n", 0), ("--no-sync", 3)] {
        let said = format!("{to}: warning: is larger than the disk: the primary GPT at 0x200 is damaged (");
        disk.run(&format!("restore {options} image.qcow2 {to}"))
            .exits(status)
            .says(&said)
            .says(STRAY);
    }
    drop(device);
    let (there, here) = (fs::read(&target).unwrap(), disk.bytes());
    assert!(there[..MIB as usize] == here[..MIB as usize]);
    repair_by_the_old_end(&target);

    // With a primary that is good, and on a device that is as large as the disk, nothing is out of reach.
    File::create(&target).unwrap().set_len(END).unwrap();
    let device = Loop::over(&target);
    let run = format!("restore --no-sync image.qcow2 {}", device.path().display());
    disk.run(&run).exits(0).says("sgdisk -e repairs that");
}
