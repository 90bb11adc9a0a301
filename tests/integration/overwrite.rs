//! A block device that holds something is named with what it holds, and not overwritten without `--overwrite`.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::Loop;
use crate::support::{Dir, Run, noise, poke, tool};

const MIB: u64 = 1 << 20;

/// A directory with the image of a disk of 2 MiB.
fn imaged(test: &str) -> Dir {
    let dir = Dir::new(test);
    dir.sparse("disk.raw", 2 * MIB, &[(0, &noise(1, 1 << 20))]);
    dir.run("-q disk.raw image.qcow2").exits(0);
    dir
}

/// A disk of 64 MiB with a GPT and three partitions: a FAT, an ext4 and one with nothing in it.
fn partitioned(dir: &Dir) -> Loop {
    let disk = dir.sparse("target.raw", 64 * MIB, &[]);
    sfdisk(
        &disk,
        "label: gpt\nstart=1M,size=8M\nstart=9M,size=16M,name=two\nstart=25M,size=8M\n",
    );
    let [fat, ext4] = [("fat", 8), ("ext4", 16)].map(|(name, size)| dir.sparse(name, size * MIB, &[]));
    tool("mkfs.fat", ["-n", "EFI", fat.to_str().unwrap()]);
    tool("mkfs.ext4", ["-q", "-L", "root", ext4.to_str().unwrap()]);
    poke(&disk, MIB, &fs::read(fat).unwrap());
    poke(&disk, 9 * MIB, &fs::read(ext4).unwrap());
    Loop::over(&disk)
}

fn restore(dir: &Dir, options: &str, target: &Path) -> Run {
    dir.run(&format!("restore {options} image.qcow2 {}", target.display()))
}

/// Holds a run to a refusal in these words, after which the device is as it was.
#[track_caller]
fn refused(dir: &Dir, options: &str, device: &Path, holds: &str) {
    let before = fs::read(device).unwrap();
    let run = restore(dir, options, device).exits(1);
    let path = device.display();
    let words = format!(
        "mkqcow2: {path}: {holds}, which would be overwritten (if this is the right device: --overwrite)\n"
    );
    assert_eq!(run.stderr(), words, "{options}");
    assert!(
        fs::read(device).unwrap() == before,
        "{options}: the device has changed"
    );
}

const HOLDS: &str = "64.00 MiB; holds GPT: 1 (FAT12 \"EFI\"), 2 (ext4 \"two\"), 3";

#[test]
fn a_device_that_holds_something_is_named_and_refused_as_root() {
    let dir = imaged("overwrite-refused");
    let device = partitioned(&dir);
    for options in [
        "",
        "-n",
        "--force",
        "--force --verify -q",
        "--offset 0 --length 1M",
    ] {
        refused(&dir, options, device.path(), HOLDS);
    }
    let json = restore(&dir, "--json", device.path()).exits(1).json();
    assert_eq!(json["advice"], "if this is the right device: --overwrite");
    // What matters more than what it holds.
    restore(&dir, "--no-clobber", device.path())
        .exits(1)
        .says("exists already");

    let path = device.path().display();
    restore(&dir, "-n --overwrite", device.path())
        .exits(0)
        .prints(&format!(
            "would be overwritten but for the last 65011712 (62.00 MiB)\n{path}: {HOLDS}\n"
        ));
    let run = restore(&dir, "-v -q --overwrite", device.path()).exits(0);
    assert_eq!(run.stderr(), format!("mkqcow2: {path}: {HOLDS}\n"));
    assert!(fs::read(device.path()).unwrap()[..2 << 20] == fs::read(dir.join("disk.raw")).unwrap());
    // The backup GPT is still there, but no protective MBR; nor is there anything of the disk that is known.
    let run = restore(&dir, "-v -q", device.path()).exits(0);
    assert_eq!(
        run.stderr(),
        format!("mkqcow2: {path}: 64.00 MiB; holds nothing that is recognised\n")
    );
}

#[test]
fn json_tells_what_was_on_the_device_as_root() {
    let dir = imaged("overwrite-json");
    let device = partitioned(&dir);
    let plan = restore(&dir, "-n --overwrite --json", device.path())
        .exits(0)
        .json();
    let done = restore(&dir, "--overwrite --json", device.path()).exits(0).json();
    assert_eq!(plan["device"], done["device"]);
    let device_told = &done["device"];
    assert_eq!(device_told["size"], 64 * MIB);
    assert_eq!(device_told["unreadable"], json!(null));
    assert_eq!(
        device_told["holds"][2],
        json!({
            "start": 9 * MIB, "length": 16 * MIB, "partition": 2, "partition-label": "two", "logical-volume": null,
            "name": "ext4", "label": "root",
        })
    );
    assert_eq!(device_told["holds"].as_array().unwrap().len(), 4);
    let nothing = restore(&dir, "--json", device.path()).exits(0).json();
    assert_eq!(nothing["device"]["holds"], json!([]));
    let file = dir.run("restore --json image.qcow2 new.raw").exits(0).json();
    assert_eq!(file["device"], json!(null));
}

#[test]
fn everything_that_is_recognised_is_refused_and_nothing_else_as_root() {
    let dir = imaged("overwrite-kinds");
    let file = dir.sparse("target.raw", 320 * MIB, &[]);
    let device = Loop::over(&file);
    let path = device.path().to_str().unwrap();
    let makers: [(&[&str], &str); 5] = [
        (&["mkfs.xfs", "-q", "-f", "-L", "data"], "holds XFS \"data\""),
        (&["mkfs.btrfs", "-q", "-f", "-L", "data"], "holds Btrfs \"data\""),
        (&["mkfs.exfat", "-L", "data"], "holds exFAT \"data\""),
        (&["mkfs.ext4", "-q", "-F"], "holds ext4"),
        (&["mkswap", "-L", "page"], "holds swap \"page\""),
    ];
    for (words, holds) in makers {
        tool("blkdiscard", ["-z", path]);
        tool(words[0], words[1..].iter().chain(&[path]));
        refused(&dir, "", device.path(), &format!("320.00 MiB; {holds}"));
    }
    drop(device);
    for (at, magic, holds) in [
        (0, &b"LUKS\xba\xbe\0\x01"[..], Some("LUKS1")),
        (512, b"LABELONE", Some("LVM2")),
        (3, b"NTFS    ", Some("NTFS")),
        (0, b"QFI\xfb\0\0\0\x03", Some("qcow")),
        (0, b"\0", None),
        (0, &[0xff; 4096], None),
        (0, &noise(5, 1 << 20), None),
    ] {
        let file = dir.sparse("small.raw", 4 * MIB, &[(at, magic)]);
        let device = Loop::over(&file);
        match holds {
            Some(holds) => refused(&dir, "", device.path(), &format!("4.00 MiB; holds {holds}")),
            None => drop(restore(&dir, "", device.path()).exits(0)),
        }
    }
}

#[test]
fn a_partition_that_holds_something_is_refused_and_its_neighbour_is_not_as_root() {
    let dir = imaged("overwrite-partition");
    let file = dir.sparse("target.raw", 8 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let [one, two] = [1, 2].map(|number| disk.partition(number));
    tool("mkfs.ext4", ["-q", "-L", "keep", one.to_str().unwrap()]);

    refused(&dir, "", &one, "2.00 MiB; holds ext4 \"keep\"");
    restore(&dir, "", &two).exits(0);
    restore(&dir, "--overwrite", &one).exits(0);
}
