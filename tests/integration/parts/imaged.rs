//! One volume of a disk becomes the disk in an image.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::volumes::{self, MIB, Volume};
use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::{Loop, Mount};
use crate::support::{Dir, flip, poke, qemu};

/// How many bytes of free space an image must have left out at least.
const LEFT_OUT: u64 = MIB / 2;

/// What a run reports, with what must be in the image of a volume.
#[track_caller]
fn image(dir: &Dir, options: &str, volume: &Volume) -> Value {
    let line = format!("--json --overwrite {options} --part {} ", volume.name);
    let told = dir.run(&format!("{line} part.qcow2")).exits(0).json();
    assert_eq!(
        (&told["part"], &told["size"]),
        (&json!(volume.name), &json!(volume.size()))
    );
    told
}

/// The disk in the image is the volume, but for free bytes that are zeros.
#[track_caller]
fn assert_is(dir: &Dir, volume: &Volume, expected: &[u8], what: &str) {
    qemu::assert_clean(&dir.join("part.qcow2"));
    dir.run("verify -q part.qcow2").exits(0);
    dir.run("restore -q --overwrite part.qcow2 part.raw").exits(0);
    let found = fs::read(dir.join("part.raw")).unwrap();
    assert!(found == expected, "{what}, {}", volume.name);
    volume.check(dir.join("part.raw").to_str().unwrap());
}

#[test]
fn a_volume_is_imaged_as_it_is_restored_from_the_image_of_its_disk_as_root() {
    let dir = Dir::new("parts-imaged");
    let volumes = volumes::disk(&dir);
    dir.run("-q disk.raw whole.qcow2").exits(0);
    // Free bytes are in this one, too.
    qemu::img(&dir, "convert -O qcow2 disk.raw theirs.qcow2");
    let disk = fs::read(dir.join("disk.raw")).unwrap();
    for volume in &volumes {
        let run = dir.run(&format!("restore -q --part {} whole.qcow2 -", volume.name));
        let expected = run.exits(0).bytes().to_vec();
        let raw = volume.bytes(&disk);
        let differing = raw
            .iter()
            .zip(&expected)
            .filter(|(raw, expected)| raw != expected);
        let left_out = differing.fold(0, |count, (_, expected)| {
            assert_eq!(*expected, 0);
            count + 1
        });
        assert!(left_out > LEFT_OUT, "{}: {left_out}", volume.name);
        for options in [
            "disk.raw",
            "-c zstd --cluster-size 512 disk.raw",
            "--compat 0.10 --cluster-size 2M disk.raw",
            "--source-format qcow2 theirs.qcow2",
            "--source-format qcow2 -c zlib whole.qcow2",
        ] {
            image(&dir, options, volume);
            assert_is(&dir, volume, &expected, options);
        }
        // Everything is copied if no map is asked.
        image(&dir, "--scan sparse disk.raw", volume);
        assert_is(&dir, volume, &raw, "sparse");
        let stream = dir.run(&format!(
            "-q --two-pass -c zstd --part {} disk.raw -",
            volume.name
        ));
        fs::write(dir.join("part.qcow2"), stream.exits(0).bytes()).unwrap();
        assert_is(&dir, volume, &expected, "two passes");
    }
}

#[test]
fn a_volume_is_told_before_and_after_it_is_imaged_as_root() {
    let dir = Dir::new("parts-imaged-told");
    let volumes = volumes::disk(&dir);
    dir.run("-n --part data disk.raw part.qcow2").exits(1).says(
        "has more than one partition or volume \"data\", expected a name of one of 1 (FAT16 \"boot\"), 2 (",
    );
    dir.run("-n --part 2 disk.raw part.qcow2")
        .exits(0)
        .prints("disk.raw: partition 2 (ext4) of a regular file, 8388608 bytes (8.00 MiB): ");
    let root = &volumes[2].name;
    let plan = dir
        .run(&format!("-n --json --part {root} disk.raw part.qcow2"))
        .exits(0)
        .json();
    assert_eq!((&plan["part"], &plan["size"]), (&json!(root), &json!(12 * MIB)));
    assert_eq!(plan["regions"][0]["name"], "ext4");
    assert_eq!(plan["regions"].as_array().unwrap().len(), 1);
    assert!(!dir.join("part.qcow2").exists());
    dir.run(&format!("--part {root} disk.raw part.qcow2"))
        .exits(0)
        .prints(&format!("part.qcow2: 12.00 MiB logical volume {root} (ext4): "));
    dir.run("--part 9 disk.raw new.qcow2")
        .exits(1)
        .says("disk.raw: has no partition or volume \"9\", it has 1 (FAT16 \"boot\"), 2 (");
    dir.run("--part 2 --offset 512 disk.raw new.qcow2").exits(64);
    assert!(!dir.join("new.qcow2").exists());
}

/// Damages the cluster of an image that holds a byte of its disk.
fn damage(dir: &Dir, image: &Path, at: u64) {
    let map = dir
        .run(&format!("map --json {}", image.display()))
        .exits(0)
        .json();
    let entry = map.as_array().unwrap().iter().find(|entry| {
        let start = entry["start"].as_u64().unwrap();
        (start..start + entry["length"].as_u64().unwrap()).contains(&at)
    });
    let entry = entry.unwrap();
    let offset = entry["offset"].as_u64().unwrap() + at - entry["start"].as_u64().unwrap();
    flip(image, offset, 1);
}

#[test]
fn what_cannot_be_read_of_a_volume_is_told_where_it_lies_on_the_disk_as_root() {
    let dir = Dir::new("parts-imaged-unreadable");
    let volumes = volumes::disk(&dir);
    dir.run("-q --scan sparse disk.raw whole.qcow2").exits(0);
    // At the beginning of a cluster in the second segment, which lies in front of the first.
    let root = &volumes[2];
    let at = 3 * MIB + 2 * 65536;
    let place = root.place(at);
    damage(&dir, &dir.join("whole.qcow2"), place);
    let line = format!(
        "--source-format qcow2 --scan sparse --part {} whole.qcow2",
        root.name
    );
    dir.run(&format!("{line} part.qcow2"))
        .exits(1)
        .says(&format!("{place:#x} of the disk"));
    let told = dir
        .run(&format!("--json --on-read-error=zero {line} part.qcow2"))
        .exits(3)
        .says(&format!(
            "unreadable: 65536 bytes at {place:#x}, zeros in the image"
        ))
        .json();
    assert_eq!(told["unreadable"], json!([{"start": place, "length": 65536}]));
    // The image has it in bytes of its own disk.
    let info = dir.run("info --json part.qcow2").exits(0).json();
    assert_eq!(
        info["record"]["unreadable"],
        json!([{"start": at, "length": 65536}]),
        "{info}"
    );
    // Of the others nothing is missing.
    for volume in volumes.iter().filter(|volume| volume.name != root.name) {
        image(&dir, "--source-format qcow2 whole.qcow2", volume);
    }
}

#[test]
fn a_volume_of_a_disk_that_is_in_use_is_refused_as_root() {
    let dir = Dir::new("parts-imaged-mounted");
    let range = volumes::disk(&dir)[1].ranges[0].clone();
    let partition = Loop::part(&dir.join("disk.raw"), range.start, range.end - range.start);
    let mounted = Mount::new("rw", partition.path(), dir.join("mounted"));
    for name in ["2", "4"] {
        dir.run(&format!("--part {name} disk.raw part.qcow2"))
            .exits(1)
            .says("mounted read-write");
        assert!(!dir.join("part.qcow2").exists());
    }
    dir.run("--force --part 4 disk.raw part.qcow2").exits(3);
    drop(mounted);
    dir.run("--overwrite --part 2 disk.raw part.qcow2").exits(0);
}

#[test]
fn a_hibernated_system_elsewhere_on_the_disk_makes_the_map_of_a_volume_worthless_as_root() {
    let dir = Dir::new("parts-imaged-asleep");
    let volumes = volumes::disk(&dir);
    let disk = dir.join("disk.raw");
    let swap = volumes[4].ranges[0].start;
    poke(&disk, swap + 4086, b"S1SUSPEND\0");
    let raw = volumes[1].bytes(&fs::read(&disk).unwrap());
    dir.run("--part 2 disk.raw part.qcow2")
        .exits(0)
        .says("a hibernated system on this disk may hold unwritten changes to it: copied whole");
    assert_is(&dir, &volumes[1], &raw, "asleep");
}

#[test]
fn the_map_of_a_volume_that_overlaps_with_another_is_worthless() {
    let dir = Dir::new("parts-imaged-overlap");
    let content = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ext4.raw")).unwrap();
    for (end_of_first, is_whole) in [(4096_u32, false), (4104, true)] {
        // Two entries of an MBR: type, first sector, count.
        let mut table = [0; 512];
        for (number, (start, count)) in [(2048_u32, end_of_first - 2048), (4096, 8192)]
            .into_iter()
            .enumerate()
        {
            let entry = &mut table[446 + 16 * number..];
            entry[4] = 0x83;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..16].copy_from_slice(&count.to_le_bytes());
        }
        table[510..].copy_from_slice(&[0x55, 0xaa]);
        dir.sparse("disk.raw", 6 * MIB, &[(0, &table), (2 * MIB, &content)]);
        let run = dir
            .run("--json --overwrite --part 2 disk.raw part.qcow2")
            .exits(0);
        let told = run.json();
        assert_eq!(told["free"] == 0, is_whole, "{told}");
        if is_whole {
            run.says("it overlaps with another partition: copied whole");
        }
    }
}

#[test]
fn a_part_keeps_the_sector_size_of_its_disk_as_root() {
    let dir = Dir::new("parts-imaged-sectors");
    let disk = dir.sparse("disk.raw", 8 * MIB, &[]);
    sfdisk(
        Loop::with_sectors(&disk, 4096).path(),
        "label: gpt\nstart=256,size=512\n",
    );
    for options in ["--part 1", "--offset 1M --length 2M"] {
        dir.run(&format!("-q --overwrite {options} disk.raw part.qcow2"))
            .exits(0);
        let info = dir.run("info --json part.qcow2").exits(0).json();
        assert_eq!(
            (&info["record"]["sector-size"], &info["virtual-size"]),
            (&json!(4096), &json!(2 * MIB)),
            "{info}"
        );
    }
}
