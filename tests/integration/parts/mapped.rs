//! `map` of a volume or a section.

use std::ops::Range;

use serde_json::{Value, json};

use super::volumes::{self, MIB, Volume};
use crate::support::{Dir, qemu};

/// The ranges of a map.
fn entries(map: &Value) -> Vec<(Range<u64>, &Value)> {
    let entries = map.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let start = entry["start"].as_u64().unwrap();
            (start..start + entry["length"].as_u64().unwrap(), entry)
        })
        .collect()
}

/// What a map tells of a byte; of where it is, if the file holds it as it is.
#[track_caller]
fn told(entries: &[(Range<u64>, &Value)], at: u64) -> Value {
    let mut those = entries.iter().filter(|(range, _)| range.contains(&at));
    let (range, entry) = those.next().unwrap_or_else(|| panic!("{at:#x} is missing"));
    assert!(those.next().is_none(), "{at:#x} is told twice");
    let mut entry = entry.as_object().unwrap().clone();
    let offset = entry
        .get("offset")
        .map(|offset| offset.as_u64().unwrap() + at - range.start);
    for key in ["start", "length", "region", "offset"] {
        entry.remove(key);
    }
    json!([entry, offset])
}

/// That the map of a volume is the map of the disk, cut.
#[track_caller]
fn assert_agrees(whole: &Value, part: &Value, ranges: &[Range<u64>]) {
    let (whole, part) = (entries(whole), entries(part));
    // In the order of the volume, without gaps.
    let mut rest = ranges.to_vec();
    for (range, _) in &part {
        assert_eq!(range.start, rest[0].start, "{range:?}");
        assert!(range.end <= rest[0].end, "{range:?} leaves {:?}", rest[0]);
        rest[0].start = range.end;
        rest.retain(|range| !range.is_empty());
    }
    assert_eq!(rest, []);
    let borders = whole
        .iter()
        .chain(&part)
        .flat_map(|(range, _)| [range.start, range.end - 1]);
    for at in borders.filter(|at| ranges.iter().any(|range| range.contains(at))) {
        assert_eq!(told(&part, at), told(&whole, at), "{at:#x}");
    }
}

fn map(dir: &Dir, arguments: &str) -> Value {
    dir.run(&format!("map --json {arguments}")).exits(0).json()
}

#[test]
fn the_map_of_a_volume_is_that_of_the_disk_cut_to_it_as_root() {
    let dir = Dir::new("parts-mapped");
    let volumes = volumes::disk(&dir);
    dir.run("-q disk.raw plain.qcow2").exits(0);
    dir.run("-q --compress zstd --cluster-size 2M disk.raw zstd.qcow2")
        .exits(0);
    qemu::img(&dir, "convert -O qcow2 disk.raw theirs.qcow2");
    for file in ["disk.raw", "plain.qcow2", "zstd.qcow2", "theirs.qcow2"] {
        let whole = map(&dir, file);
        for Volume { name, ranges, .. } in &volumes {
            assert_agrees(&whole, &map(&dir, &format!("--part {name} {file}")), ranges);
        }
        let section = 5 * MIB + 512..29 * MIB;
        let arguments = format!(
            "--offset {} --length {} {file}",
            section.start,
            section.end - section.start
        );
        assert_agrees(&whole, &map(&dir, &arguments), &[section]);
    }
}

#[test]
fn the_regions_of_a_volume_are_itself_and_what_lies_in_it_as_root() {
    let dir = Dir::new("parts-mapped-regions");
    let volumes = volumes::disk(&dir);
    dir.run("-q disk.raw disk.qcow2").exits(0);
    let group = volumes[2].name.split_once('/').unwrap().0;
    for file in ["disk.raw", "disk.qcow2"] {
        let regions = map(&dir, &format!("--regions --part 3 {file}"));
        let told = |key: &str| -> Vec<Value> {
            let regions = regions.as_array().unwrap().iter();
            regions.map(|region| region[key].clone()).collect()
        };
        assert_eq!(told("name"), ["LVM2", "XFS", "ext4"].map(Value::from));
        assert_eq!(told("parent"), [Value::Null, 0.into(), 0.into()]);
        assert_eq!(told("depth"), [0, 1, 1].map(Value::from));
        assert_eq!(
            told("logical-volume"),
            [Value::Null, "data".into(), "root".into()]
        );
        dir.run(&format!("map --regions --part {group}/data {file}"))
            .exits(0)
            .prints("0x000001d00000         16777216  logical volume \"data\": XFS, ");
    }
    // Each range names the region that the other option shows.
    let regions = map(&dir, "--regions --part 3 disk.raw");
    for (range, entry) in entries(&map(&dir, "--part 3 disk.raw")) {
        let region = &regions[entry["region"].as_u64().unwrap() as usize];
        let volume = volumes.iter().find(|volume| {
            let mut ranges = volume.ranges.iter();
            ranges.any(|own| own.start <= range.start && range.end <= own.end)
        });
        let name = volume.map(|volume| volume.name.split_once('/').unwrap().1);
        assert_eq!(region["logical-volume"], json!(name), "{range:?}");
    }
    // Of a section all regions that it shares bytes with.
    let regions = map(&dir, "--regions --offset 13M --length 12M disk.raw");
    let partitions: Vec<_> = regions
        .as_array()
        .unwrap()
        .iter()
        .map(|region| &region["partition"])
        .collect();
    assert_eq!(partitions, [&Value::Null, &json!(2), &json!(3)]);
    assert_eq!(regions[2]["parent"], 0);
}

#[test]
fn a_section_that_ends_with_the_disk_ends_with_the_hole_behind_its_last_bytes() {
    let dir = Dir::new("parts-mapped-end");
    dir.sparse("disk.raw", 4096 + 100, &[(0, &[1; 4196])]);
    let sums = [
        ("", 4608),
        ("--offset 512 --length 512", 512),
        ("--offset 4096", 512),
    ];
    for (options, expected) in sums {
        let map = map(&dir, &format!("{options} disk.raw"));
        let sum: u64 = entries(&map)
            .iter()
            .map(|(range, _)| range.end - range.start)
            .sum();
        assert_eq!(sum, expected, "{options}");
    }
}

#[test]
fn a_volume_that_is_not_there_has_no_map() {
    let dir = Dir::new("parts-mapped-refused");
    dir.sparse("disk.raw", MIB, &[]);
    let run = dir.run("map --json --part 2 disk.raw").exits(1);
    assert_eq!(run.stdout(), "");
    run.says("disk.raw: has no partition or volume \"2\": no partition table");
    dir.run("map --part 2 --length 512 disk.raw").exits(64);
    dir.run("map --offset 1M disk.raw")
        .exits(1)
        .says("expected less than the size");
}
