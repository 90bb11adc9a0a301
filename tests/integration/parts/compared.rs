//! `compare` of a volume or a section with a disk, or with another.

use std::fs;

use serde_json::{Value, json};

use super::volumes::{self, MIB};
use crate::support::{Dice, Dir, flip, noise};

#[test]
fn a_difference_in_a_volume_is_found_where_it_is_and_none_outside_as_root() {
    let dir = Dir::new("parts-compared");
    let volumes = volumes::disk(&dir);
    dir.run("-q disk.raw disk.qcow2").exits(0);
    let (disk, other) = (dir.join("disk.raw"), dir.join("other.raw"));
    fs::copy(&disk, &other).unwrap();
    let mut dice = Dice::new(7);
    for volume in &volumes {
        let name = &volume.name;
        dir.run(&format!(
            "restore -q --overwrite --part {name} disk.qcow2 part.raw"
        ))
        .exits(0);
        dir.run(&format!("compare --strict --part {name} disk.qcow2 part.raw"))
            .exits(0)
            .prints("of disk.qcow2 and part.raw are equal: ");
        let both = format!("compare --json --part {name} --part-b {name} disk.raw other.raw");
        let mut segment = 0;
        let mut offsets = vec![0, volume.size() - 1];
        for range in &volume.ranges {
            segment += range.end - range.start;
            offsets.extend([segment - 1, segment % volume.size(), dice.below(volume.size())]);
        }
        for at in offsets {
            flip(&dir.join("part.raw"), at, 1);
            dir.run(&format!("compare --part {name} disk.qcow2 part.raw"))
                .exits(1)
                .prints(&format!("differ, first at {at:#x} of the selected bytes; "));
            flip(&dir.join("part.raw"), at, 1);
            flip(&other, volume.place(at), 1);
            let told = dir.run(&both).exits(1).json();
            assert_eq!(told["first-difference"], at, "{name}");
            assert_eq!((&told["part-a"], &told["part-b"]), (&json!(name), &json!(name)));
            let all = dir
                .run(&both.replacen("compare", "compare --all", 1))
                .exits(1)
                .json();
            assert_eq!(all["ranges"], json!([{"start": at - at % 512, "length": 512}]));
            flip(&other, volume.place(at), 1);
        }
        // The bytes around each of its ranges.
        for range in &volume.ranges {
            for at in [range.start - 1, range.end] {
                if volume.ranges.iter().all(|range| !range.contains(&at)) {
                    flip(&other, at, 1);
                    assert_eq!(dir.run(&both).exits(0).json()["size-a"], volume.size());
                    flip(&other, at, 1);
                }
            }
        }
    }
    dir.run("compare disk.raw other.raw").exits(0);
}

#[test]
fn free_blocks_of_a_volume_count_as_zeros_only_if_asked_as_root() {
    let dir = Dir::new("parts-compared-used");
    let volumes = volumes::disk(&dir);
    dir.run("-q disk.raw disk.qcow2").exits(0);
    for volume in &volumes {
        let name = &volume.name;
        let both = format!("--part {name} --part-b {name}");
        dir.run(&format!("compare {both} disk.raw disk.qcow2")).exits(1);
        dir.run(&format!("compare --used {both} disk.raw disk.qcow2"))
            .exits(0);
        let bytes = volume.bytes(&fs::read(dir.join("disk.raw")).unwrap());
        fs::write(dir.join("part.raw"), bytes).unwrap();
        dir.run(&format!("compare --part {name} disk.raw part.raw"))
            .exits(0);
        dir.run(&format!("compare --used --part {name} disk.qcow2 part.raw"))
            .exits(0);
    }
    // A section in the middle of a filesystem.
    let both = "--offset 13M --length 6M --offset-b 13M --length-b 6M disk.raw disk.qcow2";
    dir.run(&format!("compare {both}")).exits(1);
    dir.run(&format!("compare -u {both}")).exits(0).prints(
        "the section at 0xd00000 of disk.raw and the section at 0xd00000 of disk.qcow2 are equal: 6.00 MiB",
    );
}

#[test]
fn a_section_is_compared_from_its_first_byte_on() {
    let dir = Dir::new("parts-compared-sections");
    let bytes = noise(1, 4 << 20);
    dir.sparse("disk.raw", 4 * MIB, &[(0, &bytes)]);
    dir.run("-q disk.raw disk.qcow2").exits(0);
    let section = &bytes[512..512 + (1 << 20)];
    dir.sparse("section.raw", MIB, &[(0, section)]);
    dir.run("compare --strict --offset 512 --length 1M disk.qcow2 section.raw")
        .exits(0)
        .prints("the section at 0x200 of disk.qcow2 and section.raw are equal: 1.00 MiB; ");
    dir.run("compare --strict --offset-b 512 --length-b 1M section.raw disk.qcow2")
        .exits(0);
    dir.run("compare --offset 512 disk.qcow2 section.raw")
        .exits(1)
        .prints("first at 0x100000 of the selected bytes");
    dir.run("compare --strict --offset 512 disk.qcow2 section.raw")
        .exits(1)
        .prints("in size: 4193792 and 1048576 bytes");
    flip(&dir.join("section.raw"), 77, 1);
    let told = dir
        .run("compare --json --offset 512 --length 1M disk.qcow2 section.raw")
        .exits(1)
        .json();
    assert_eq!(
        (&told["first-difference"], &told["part-a"]),
        (&json!(77), &Value::Null)
    );
}

#[test]
fn what_cannot_be_selected_is_refused_with_the_file_it_is_about() {
    let dir = Dir::new("parts-compared-refused");
    dir.sparse("a.raw", MIB, &[]);
    dir.sparse("b.raw", MIB, &[]);
    let none = "has no partition or volume \"2\": no partition table or volume group was recognised in it";
    dir.run("compare --part 2 a.raw b.raw")
        .exits(2)
        .says(&format!("a.raw: {none}"));
    dir.run("compare --part-b 2 a.raw b.raw")
        .exits(2)
        .says(&format!("b.raw: {none}"));
    dir.run("compare --offset-b 1M a.raw b.raw")
        .exits(2)
        .says("b.raw: offset is 1048576, expected less than the size, 1048576");
    for options in [
        "--part 2 --offset 512",
        "--part-b 2 --length-b 512",
        "--offset 100",
    ] {
        dir.run(&format!("compare {options} a.raw b.raw")).exits(64);
    }
}
