//! Volume groups that LVM made. This machine's kernel need not have the device mapper: volumes are not activated, and
//! their bytes are put where LVM says that they lie.

use std::fs;
use std::ops::Range;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan, State};

use crate::filesystems::partitions::disk::sfdisk;
use crate::filesystems::proof::ext::Ext;
use crate::filesystems::proof::{MIB, Proof};
use crate::support::loops::Loop;
use crate::support::{Dice, Dir, noise, tool};

/// Runs a command of LVM about one disk and no other.
#[track_caller]
fn lvm(device: &Loop, line: &str) -> String {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap();
    let options = ["--devices", device.path().to_str().unwrap()];
    tool(command, options.into_iter().chain(words))
}

/// Makes a volume group on all of a disk, with extents of 1 MiB from 1 MiB on, and does more.
fn group(device: &Loop, name: &str, lines: &[&str]) {
    let path = device.path().display();
    lvm(device, &format!("pvcreate --yes --quiet {path}"));
    lvm(
        device,
        &format!("vgcreate --quiet --physicalextentsize 1M {name} {path}"),
    );
    for line in lines {
        lvm(device, line);
    }
}

/// How a volume is made without the device mapper.
const MADE: &str = "lvcreate --quiet --yes --driverloaded n --activate n --zero n --wipesignatures n";

/// Volumes that are made, removed, extended, so that one lies in three segments.
fn scattered(device: &Loop, name: &str) {
    let made = |volume: &str, size: u64| format!("{MADE} --extents {size} --name {volume} {name}");
    group(
        device,
        name,
        &[
            &made("root", 6),
            &made("gone", 5),
            &made("data", 8),
            &format!("lvremove --quiet --yes --driverloaded n {name}/gone"),
            &format!("lvextend --quiet --driverloaded n --extents 20 {name}/root"),
        ],
    );
    let told = lvm(
        device,
        &format!("lvs --noheadings --options seg_pe_ranges {name}/root"),
    );
    let ranges: Vec<_> = told
        .split_whitespace()
        .map(|word| word.split_once(':').unwrap().1)
        .collect();
    assert_eq!(ranges, ["0-10", "19-27"], "LVM lays it out in another way");
}

const ROOT: [Range<u64>; 2] = [MIB..12 * MIB, 20 * MIB..29 * MIB];
const DATA: Range<u64> = 12 * MIB..20 * MIB;

#[test]
fn volumes_on_a_whole_disk_come_back_as_root() {
    Proof::disk("lvm-disk", 48 * MIB)
        .laid_out_by(|disk| scattered(&Loop::over(disk), "mkqcow2-disk"))
        .scattered(ROOT, Ext::new("-t ext4"))
        .volume(DATA, Ext::new("-t ext2 -b 1024"))
        .aged(200)
        .made()
        .holds();
}

#[test]
fn volumes_in_a_partition_come_back_as_root() {
    let there = |range: Range<u64>| range.start + 2 * MIB..range.end + 2 * MIB;
    Proof::disk("lvm-partition", 52 * MIB)
        .laid_out_by(|disk| {
            sfdisk(disk, "label: gpt\nstart=2M,size=48M\n");
            scattered(&Loop::part(disk, 2 * MIB, 48 * MIB), "mkqcow2-partition");
        })
        .scattered(ROOT.map(there), Ext::new("-t ext4"))
        .volume(there(DATA), Ext::new("-t ext3"))
        .made()
        .on_a_device()
        .holds();
}

#[test]
fn a_volume_comes_back_alone_as_root() {
    let dir = Dir::new("lvm-alone");
    let disk = dir.join("disk.raw");
    fs::write(&disk, noise(1, 52 << 20)).unwrap();
    sfdisk(&disk, "label: gpt\nstart=2M,size=48M\n");
    let partition = Loop::part(&disk, 2 * MIB, 48 * MIB);
    scattered(&partition, "mkqcow2-alone");
    drop(partition);
    let bytes = fs::read(&disk).unwrap();
    let at = |range: Range<u64>| &bytes[(range.start + 2 * MIB) as usize..(range.end + 2 * MIB) as usize];
    for options in ["", "-c zstd --cluster-size 2M"] {
        dir.run(&format!("-q {options} disk.raw image.qcow2")).exits(0);
        dir.run("restore --verify --overwrite --part mkqcow2-alone/root image.qcow2 root.raw")
            .exits(0)
            .prints("root.raw: 20.00 MiB logical volume mkqcow2-alone/root, ");
        let root = fs::read(dir.join("root.raw")).unwrap();
        assert!(root == ROOT.map(at).concat(), "{options}");
        let data = dir.run("restore -q --part data image.qcow2 -").exits(0);
        assert!(data.bytes() == at(DATA), "{options}");
    }
    dir.run("restore --part mkqcow2-alone/gone image.qcow2 new.raw")
        .exits(1)
        .says("it has 1 (LVM2 \"mkqcow2-alone\"), mkqcow2-alone/root, mkqcow2-alone/data\n");
}

#[test]
fn a_volume_that_goes_on_elsewhere_does_not_come_back_alone_as_root() {
    let dir = Dir::new("lvm-elsewhere");
    let noises = [1, 2].map(|seed| noise(seed, 16 << 20));
    let disks = [("one.raw", &noises[0]), ("two.raw", &noises[1])];
    let disks = disks.map(|(name, bytes)| dir.sparse(name, 16 * MIB, &[(0, bytes)]));
    let [one, two] = disks.each_ref().map(|disk| Loop::over(disk));
    let devices = format!("{},{}", one.path().display(), two.path().display());
    let lvm = |line: String| {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        tool(command, ["--devices", &devices].into_iter().chain(words))
    };
    let (first, second) = (one.path().display(), two.path().display());
    lvm(format!("pvcreate --yes --quiet {first} {second}"));
    lvm(format!(
        "vgcreate --quiet --physicalextentsize 1M mkqcow2-two {first} {second}"
    ));
    lvm(format!("{MADE} --extents 4 --stripes 2 --name wide mkqcow2-two"));
    lvm(format!("{MADE} --extents 20 --name long mkqcow2-two"));
    // A volume that goes on in front of where it begins.
    lvm(format!(
        "{MADE} --extents 3 --name back mkqcow2-two {second}:12-14"
    ));
    lvm(format!(
        "lvextend --quiet --driverloaded n --extents 5 mkqcow2-two/back {second}:9-10"
    ));
    drop((one, two));
    dir.run("-q two.raw image.qcow2").exits(0);
    for volume in ["long", "wide"] {
        dir.run(&format!(
            "restore --part mkqcow2-two/{volume} image.qcow2 new.raw"
        ))
        .exits(1)
        .says(&format!(
            "does not hold all of mkqcow2-two/{volume}: a part of it lies elsewhere"
        ));
    }
    let run = dir
        .run("restore -q --part mkqcow2-two/back image.qcow2 -")
        .exits(0);
    let at = |range: Range<usize>| &noises[1][range.start << 20..range.end << 20];
    assert!(run.bytes() == [at(13..16), at(10..12)].concat());
}

#[test]
fn what_is_free_is_what_lvm_says_as_root() {
    for seed in 0..6 {
        let dir = Dir::new(&format!("lvm-oracle-{seed}"));
        let path = dir.sparse("disk.raw", 64 * MIB, &[]);
        let (device, name) = (Loop::over(&path), format!("mkqcow2-{seed}"));
        group(&device, &name, &[]);
        let mut dice = Dice::new(seed);
        let mut there = Vec::new();
        for number in 0..25 {
            let size = 1 + dice.below(4);
            match if there.is_empty() { 0 } else { dice.below(3) } {
                0 | 1 if number < 12 => {
                    lvm(
                        &device,
                        &format!("{MADE} --extents {size} --name v{number} {name}"),
                    );
                    there.push(number);
                }
                2 if there.len() > 2 => {
                    let gone = there.swap_remove(dice.below(there.len() as u64) as usize);
                    lvm(
                        &device,
                        &format!("lvremove --quiet --yes --driverloaded n {name}/v{gone}"),
                    );
                }
                _ => {
                    let longer = there[dice.below(there.len() as u64) as usize];
                    lvm(
                        &device,
                        &format!("lvextend --quiet --driverloaded n --extents +{size} {name}/v{longer}"),
                    );
                }
            }
        }
        assert_agreed(&device, &path);
    }
}

/// What LVM has in no volume is free, and nothing else: there is nothing in the volumes.
#[track_caller]
fn assert_agreed(device: &Loop, path: &Path) {
    let told = lvm(
        device,
        "pvs --noheadings --units b --nosuffix --segments --options pvseg_start,pvseg_size,segtype",
    );
    let free = told.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [start, length, kind] = *words else {
            panic!("{line}");
        };
        let number = |word: &str| word.parse::<u64>().unwrap() * MIB;
        (kind == "free").then(|| MIB + number(start)..MIB + number(start) + number(length))
    });
    let free: Vec<_> = free.collect();
    let source = disk::open(path, Open::default()).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    let parts = allocation.map.parts();
    let found: Vec<_> = parts
        .filter(|(_, state, _)| *state == State::Free)
        .map(|(range, ..)| range)
        .collect();
    assert_eq!(found, free, "{told}");
    assert!(!free.is_empty());
}

#[test]
fn a_group_that_is_exported_is_copied_whole_as_root() {
    let dir = Dir::new("lvm-exported");
    let path = dir.sparse("disk.raw", 16 * MIB, &[]);
    let device = Loop::over(&path);
    group(
        &device,
        "mkqcow2-exported",
        &["vgexport --quiet mkqcow2-exported"],
    );
    drop(device);
    dir.run("disk.raw image.qcow2")
        .exits(0)
        .says("LVM2: volume group \"mkqcow2-exported\": it is exported");
    fs::remove_file(path).unwrap();
}
