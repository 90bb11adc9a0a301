//! One volume of a disk, or a section of it, without the rest: restored, compared, mapped, imaged.

mod compared;
mod imaged;
mod mapped;
mod volumes;

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::Loop;
use crate::support::{Dir, flip, noise, poke, qemu, tool};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB;

/// Of sectors: the first partition begins and ends inside of clusters of any size, and inside of pages.
const FAT: Range<u64> = 2047 * 512..22048 * 512;
const EXT: Range<u64> = 12 * MIB..28 * MIB;
const SWAP: Range<u64> = 28 * MIB..29 * MIB;

const SCRIPT: &str = "label: gpt\nfirst-lba: 34\nstart=2047,size=20001,name=boot\nstart=24576,size=32768,name=data\n\
     start=57344,size=2048,name=twice\nstart=59392,size=2048,name=twice\n";

/// A disk full of noise with a FAT, an ext4 with files, a swap area and a partition that holds nothing known.
fn disk(dir: &Dir) -> PathBuf {
    let disk = dir.join("disk.raw");
    fs::write(&disk, noise(1, SIZE as usize)).unwrap();
    for at in [0, SIZE - 33 * 512] {
        poke(&disk, at, &vec![0; 33 * 512]);
    }
    sfdisk(&disk, SCRIPT);
    let make = |range: Range<u64>, command: &str| {
        let part = dir.join("part.raw");
        fs::write(&part, noise(2, (range.end - range.start) as usize)).unwrap();
        let mut words = command.split_whitespace();
        let name = words.next().unwrap();
        let words: Vec<_> = words.map(str::to_owned).collect();
        tool(name, words.into_iter().chain([part.to_str().unwrap().to_owned()]));
        poke(&disk, range.start, &fs::read(&part).unwrap());
        fs::remove_file(part).unwrap();
    };
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("some"), noise(3, 3 << 20)).unwrap();
    fs::write(files.join("zeros"), vec![0; 1 << 20]).unwrap();
    make(FAT, "mkfs.vfat -n BOOTFS");
    make(
        EXT,
        &format!("mke2fs -q -F -t ext4 -L rootfs -d {}", files.display()),
    );
    make(SWAP, "mkswap -q -L pages");
    disk
}

/// The bytes of a range of the disk, as they come back with the whole disk.
fn expected(dir: &Dir, image: &str, ranges: &[Range<u64>]) -> Vec<u8> {
    dir.run(&format!("restore -q --no-sync --overwrite {image} whole.raw"))
        .exits(0);
    let whole = File::open(dir.join("whole.raw")).unwrap();
    let mut bytes = Vec::new();
    for range in ranges {
        let mut part = vec![0; (range.end - range.start) as usize];
        whole.read_exact_at(&mut part, range.start).unwrap();
        bytes.append(&mut part);
    }
    bytes
}

/// Restores it to a file and to standard output, and compares that.
#[track_caller]
fn assert_restored(dir: &Dir, image: &str, options: &str, ranges: &[Range<u64>]) {
    let expected = expected(dir, image, ranges);
    dir.run(&format!(
        "restore --verify --overwrite {options} {image} part.raw"
    ))
    .exits(0);
    assert!(
        fs::read(dir.join("part.raw")).unwrap() == expected,
        "{image}, {options}"
    );
    let run = dir.run(&format!("restore -q {options} {image} -")).exits(0);
    assert!(run.bytes() == expected, "{image}, {options}, standard output");
}

#[test]
fn a_part_comes_back_as_it_does_with_the_disk() {
    let dir = Dir::new("parts");
    disk(&dir);
    for options in [
        "",
        "--compress zstd --cluster-size 512",
        "--compress zlib --cluster-size 2M",
        "--compat 0.10 --no-checksums --cluster-size 4K",
        "--scan sparse",
    ] {
        dir.run(&format!("-q {options} disk.raw image.qcow2")).exits(0);
        assert_restored(&dir, "image.qcow2", "--part 1", std::slice::from_ref(&FAT));
        assert_restored(&dir, "image.qcow2", "--part 2", std::slice::from_ref(&EXT));
        tool("e2fsck", ["-fn", dir.join("part.raw").to_str().unwrap()]);
        assert_restored(&dir, "image.qcow2", "--part pages", std::slice::from_ref(&SWAP));
        assert_restored(
            &dir,
            "image.qcow2",
            "--offset 12M --length 7680",
            std::slice::from_ref(&(12 * MIB..12 * MIB + 7680)),
        );
        assert_restored(
            &dir,
            "image.qcow2",
            "--offset 30408704",
            std::slice::from_ref(&(29 * MIB..SIZE)),
        );
    }
}

#[test]
fn every_section_comes_back_wherever_it_begins() {
    let dir = Dir::new("parts-sections");
    // Data, zeros and what is allocated nowhere, of clusters and of less.
    qemu::image(
        &dir,
        "-o cluster_size=4k base.qcow2 300k",
        &["write -P 1 0 300k", "write -P 2 8k 20k"],
    );
    qemu::image(
        &dir,
        "-b base.qcow2 -F qcow2 -o cluster_size=16k image.qcow2 300k",
        &["write -P 3 32k 16k", "write -z 64k 32k", "write -P 4 100k 1k"],
    );
    qemu::img(&dir, "convert -O raw image.qcow2 expected.raw");
    let expected = fs::read(dir.join("expected.raw")).unwrap();
    for start in (0..300 << 10).step_by(13 * 512) {
        for length in [512, 4096, 5 * 4096 + 512, 70 << 10] {
            if start + length > 300 << 10 {
                continue;
            }
            let run = dir.run(&format!(
                "restore -q --follow --offset {start} --length {length} image.qcow2 -"
            ));
            assert!(
                run.exits(0).bytes() == &expected[start..start + length],
                "{start}, {length}"
            );
        }
    }
}

#[test]
fn what_is_in_a_part_is_told_before_and_after() {
    let dir = Dir::new("parts-told");
    disk(&dir);
    dir.run("-q disk.raw image.qcow2").exits(0);
    dir.run("restore -n --part data image.qcow2 new.raw")
        .exits(0)
        .prints("image.qcow2: partition 2 (ext4) of 16777216 bytes (16.00 MiB): ");
    let plan = dir
        .run("restore -n --json --part 2 image.qcow2 new.raw")
        .exits(0)
        .json();
    assert_eq!((&plan["part"], &plan["size"]), (&"2".into(), &(16 * MIB).into()));
    let sum: u64 = ["data", "zeros", "unallocated"]
        .map(|key| plan[key].as_u64().unwrap())
        .iter()
        .sum();
    assert_eq!(sum, 16 * MIB);
    let free = plan["free"].as_u64().unwrap();
    assert!((8 * MIB..13 * MIB).contains(&free), "{free} free");
    dir.run("restore --part 2 image.qcow2 new.raw")
        .exits(0)
        .prints("new.raw: 16.00 MiB partition 2 (ext4), ");
    dir.run("restore --offset 1M --length 1M image.qcow2 new.raw")
        .exits(0)
        .prints("new.raw: 1.00 MiB of the disk, ");
}

#[test]
fn a_name_that_means_none_or_two_is_refused_with_those_there_are() {
    let dir = Dir::new("parts-refused");
    disk(&dir);
    dir.run("-q disk.raw image.qcow2").exits(0);
    let there = r#"1 (FAT16 "boot"), 2 (ext4 "data"), 3 (swap "twice"), 4 "twice""#;
    dir.run("restore --part 7 image.qcow2 new.raw")
        .exits(1)
        .says(&format!(
            "image.qcow2: has no partition or volume \"7\", it has {there}\n"
        ));
    dir.run("restore --part twice image.qcow2 new.raw").exits(1).says(&format!(
        "image.qcow2: has more than one partition or volume \"twice\", expected a name of one of {there}\n"
    ));
    dir.run("restore --part 1 --offset 1M image.qcow2 new.raw")
        .exits(64);
    dir.run("restore --offset 41M image.qcow2 new.raw")
        .exits(1)
        .says("offset is 42991616, expected less than the size, 41943040");
    dir.run("restore --offset 39M --length 2M image.qcow2 new.raw")
        .exits(1)
        .says("reach past the end");
    dir.run("restore --length 100 image.qcow2 new.raw")
        .exits(64)
        .says("length is 100, expected a multiple of 512");
    dir.sparse("empty.raw", MIB, &[]);
    dir.run("-q empty.raw empty.qcow2").exits(0);
    dir.run("restore --part 1 empty.qcow2 new.raw")
        .exits(1)
        .says("no partition table or volume group was recognised in it");
    assert!(!dir.join("new.raw").exists());
}

/// Damages the cluster that holds a byte of the disk: changes it in the image without its checksum.
fn damage(dir: &Dir, image: &Path, at: u64) {
    let map = dir.run("map --json image.qcow2").exits(0).json();
    let holds = |entry: &&Value| {
        let start = entry["start"].as_u64().unwrap();
        (start..start + entry["length"].as_u64().unwrap()).contains(&at)
    };
    let entry = map.as_array().unwrap().iter().find(holds).unwrap();
    let host = entry["offset"].as_u64().unwrap() + at - entry["start"].as_u64().unwrap();
    flip(image, host, 1);
}

#[test]
fn damage_elsewhere_does_not_matter_and_damage_of_the_table_does() {
    let dir = Dir::new("parts-damaged");
    disk(&dir);
    dir.run("-q disk.raw image.qcow2").exits(0);
    let image = dir.join("image.qcow2");
    // In a cluster that begins in front of the partition.
    damage(&dir, &image, FAT.start);
    dir.run("restore --part 2 image.qcow2 new.raw").exits(0);
    dir.run("restore --part 1 image.qcow2 fat.raw")
        .exits(1)
        .says("CRC-32 is 0x");
    let told = dir
        .run("restore --json --keep-going --part 1 image.qcow2 fat.raw")
        .exits(3)
        .json();
    let end = FAT.start.next_multiple_of(65536);
    let lost = json!([{"start": FAT.start, "length": end - FAT.start, "why": "checksum"}]);
    let mut damaged = told["damaged"].clone();
    damaged[0].as_object_mut().unwrap().remove("region");
    assert_eq!(damaged, lost);
    // Its name is found by a table that is not what it was.
    damage(&dir, &image, 512);
    dir.run("restore --part 2 image.qcow2 other.raw").exits(1);
    assert!(!dir.join("other.raw").exists());
}

#[test]
fn a_part_goes_to_a_device_and_what_is_behind_it_stays_as_root() {
    let dir = Dir::new("parts-device");
    disk(&dir);
    dir.run("-q disk.raw image.qcow2").exits(0);
    let expected = expected(&dir, "image.qcow2", &[EXT]);
    for (options, is_left) in [("", false), ("--used-only", true)] {
        let path = dir.join("device.raw");
        fs::write(&path, vec![0xff; 17 << 20]).unwrap();
        let device = Loop::over(&path);
        let line = format!(
            "restore --verify {options} --part 2 image.qcow2 {}",
            device.path().display()
        );
        dir.run(&line).exits(0);
        drop(device);
        let found = fs::read(&path).unwrap();
        let (part, rest) = found.split_at(16 << 20);
        assert!(rest.iter().all(|byte| *byte == 0xff));
        let left = part
            .iter()
            .zip(&expected)
            .filter(|(found, expected)| found != expected);
        let left = left.fold(0, |count, (found, expected)| {
            assert_eq!((*found, *expected), (0xff, 0));
            count + 1
        });
        assert_eq!(left > 0, is_left, "{left} bytes were left");
        fs::write(&path, part).unwrap();
        tool("e2fsck", ["-fn", path.to_str().unwrap()]);
    }
    let path = dir.sparse("small.raw", 15 * MIB, &[]);
    let device = Loop::over(&path);
    dir.run(&format!(
        "restore --part 2 image.qcow2 {}",
        device.path().display()
    ))
    .exits(1)
    .says("too small: 15.00 MiB");
}
