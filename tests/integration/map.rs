//! `mkqcow2 map`, held against `qemu-img map`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::corpus::{Range, ranges};
use crate::disk::Disk;
use crate::format::Format;
use crate::support::loops::Loop;
use crate::support::{Dir, qemu};

/// The map as qemu-img tells it.
fn theirs(dir: &Dir, arguments: &str) -> Vec<Value> {
    serde_json::from_str(&qemu::img(dir, &format!("map --output=json {arguments}"))).unwrap()
}

/// The map as mkqcow2 tells it, without the reasons and regions that qemu-img does not know.
#[track_caller]
fn ours(dir: &Dir, arguments: &str) -> Vec<Value> {
    let mut map = dir.run(&format!("map --json {arguments}")).exits(0).json();
    for range in map.as_array_mut().unwrap() {
        let range = range.as_object_mut().unwrap();
        range.remove("reason");
        range.remove("region");
        range.remove("free");
    }
    map.as_array().unwrap().clone()
}

#[track_caller]
fn assert_same(dir: &Dir, name: &str) {
    let (ours, theirs) = (ours(dir, &format!("--follow {name}")), theirs(dir, name));
    let of = |map: Vec<Value>| without_holes(ranges(Value::from(map).to_string().as_bytes()));
    assert!(theirs.len() > 1, "{name} is worth a comparison");
    assert_eq!(of(ours), of(theirs), "{name}");
}

/// Without what is told of holes of the image: the filesystem tells something else of room that it has allocated,
/// but not written to, once that was read. And without the range of no bytes that a disk of none has in QEMU.
fn without_holes(ranges: Vec<Range>) -> Vec<Range> {
    let mut whole: Vec<Range> = Vec::new();
    for range in ranges.into_iter().filter(|range| range.length > 0) {
        let range = Range {
            zero: range.zero && !range.data,
            ..range
        };
        match whole.last_mut() {
            Some(last) if range.data && range == behind(last, range.length) => last.length += range.length,
            _ => whole.push(range),
        }
    }
    whole
}

/// The range that goes on where this one ends.
fn behind(range: &Range, length: u64) -> Range {
    Range {
        start: range.start + range.length,
        length,
        offset: range.offset.map(|offset| offset + range.length),
        ..*range
    }
}

/// Every kind of cluster there is, side by side with itself and with the others.
const EVERYTHING: [&str; 14] = [
    "write -P 1 0 128k",
    "write -P 2 256k 64k",
    "write -P 3 192k 64k",
    "write -z 512k 128k",
    "write -P 4 640k 64k",
    "write -z 640k 64k",
    "write -P 5 1M 64k",
    "write -P 6 1M 64k",
    "write -P 7 1344k 1k",
    "write -c -P 8 2M 64k",
    "write -c -P 9 2112k 64k",
    "write -z 2176k 64k",
    "discard 0 64k",
    "write -z -u 1M 64k",
];

#[test]
fn every_kind_of_cluster_is_where_qemu_finds_it() {
    let dir = Dir::new("map-kinds");
    for options in [
        "cluster_size=64k",
        "cluster_size=64k,compat=0.10",
        "cluster_size=512",
        "cluster_size=4k,compression_type=zstd",
        "cluster_size=2M",
        "cluster_size=64k,extended_l2=on",
        "cluster_size=16k,extended_l2=on",
    ] {
        // What was done to small clusters in version 3 only: qemu-io refuses parts of larger ones.
        let mut commands = EVERYTHING.to_vec();
        commands.retain(|command| !command.contains("-c") || !options.contains("2M"));
        qemu::image(&dir, &format!("-o {options} disk.qcow2 4M"), &commands);

        assert_same(&dir, "disk.qcow2");
    }
}

#[test]
fn parts_of_clusters_are_where_qemu_finds_them() {
    let dir = Dir::new("map-subclusters");
    let commands = [
        "write -P 1 4k 4k",
        "write -z 8k 8k",
        "write -P 2 20k 2k",
        "write -z 512k 4k",
        "write -z 640k 64k",
        "write -P 3 1M 64k",
        "write -z 1028k 8k",
        "discard 1040k 4k",
    ];
    qemu::image(&dir, "-o extended_l2=on disk.qcow2 4M", &commands);

    assert_same(&dir, "disk.qcow2");
}

#[test]
fn what_lies_in_backing_files_has_their_depth() {
    let dir = Dir::new("map-chain");
    Disk::hole(1_000_001)
        .data(70_000..140_000)
        .data(1_000_000..1_000_001)
        .file(&dir, "raw");
    qemu::image(
        &dir,
        "-b raw -F raw one.qcow2 3M",
        &["write -P 1 0 64k", "write -z 128k 64k", "write -P 2 2M 64k"],
    );
    qemu::image(
        &dir,
        "-b one.qcow2 -F qcow2 -o extended_l2=on,cluster_size=32k two.qcow2 2560k",
        &["write -P 3 4k 4k", "write -z 66k 2k", "write -c -P 4 320k 32k"],
    );
    qemu::image(
        &dir,
        "-b two.qcow2 -F qcow2 -o cluster_size=4k three.qcow2 4M",
        &["write -P 5 3M 4k"],
    );

    for name in ["one.qcow2", "two.qcow2", "three.qcow2"] {
        assert_same(&dir, name);
    }
    dir.run("map --follow one.qcow2")
        .exits(0)
        .prints("zeros at 0x10000, backing file 1");
    dir.run("map one.qcow2")
        .exits(1)
        .says("needs its backing file, \"raw\"");
}

#[test]
fn an_external_data_file_has_the_offsets() {
    let dir = Dir::new("map-data-file");
    qemu::image(
        &dir,
        "-o data_file=data disk.qcow2 2M",
        &["write -P 1 64k 64k", "write -z 256k 64k"],
    );

    assert_same(&dir, "disk.qcow2");
    assert_eq!(
        ours(&dir, "--data-file data disk.qcow2"),
        theirs(&dir, "disk.qcow2")
    );
}

#[test]
fn preallocated_images_have_holes_where_nothing_was_written() {
    let dir = Dir::new("map-preallocated");
    for how in ["off", "metadata", "falloc", "full"] {
        let create = format!("-o preallocation={how} disk.qcow2 8M");
        qemu::image(&dir, &create, &["write -P 1 64k 64k", "write -z 1M 64k"]);

        assert_eq!(ours(&dir, "disk.qcow2"), theirs(&dir, "disk.qcow2"), "{how}");
    }
}

#[test]
fn images_of_ours_are_mapped_as_qemu_maps_them() {
    let dir = Dir::new("map-ours");
    for format in [512, 4096, 64 << 10, 2 << 20].into_iter().flat_map(Format::both) {
        let cluster = format.cluster_size.max(4096);
        Disk::hole(cluster * 20 - 100)
            .data(0..cluster)
            .zeros(cluster..cluster * 2)
            .data(cluster * 8 - 3..cluster * 10 + 5)
            .image(&dir, format);

        assert_same(&dir, "disk.qcow2");
    }
}

#[test]
fn a_snapshot_has_a_map_of_its_own() {
    let dir = Dir::new("map-snapshot");
    qemu::image(&dir, "disk.qcow2 2M", &["write -P 1 64k 64k"]);
    let then = ours(&dir, "disk.qcow2");
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 2 64k 128k"]);

    assert_ne!(ours(&dir, "disk.qcow2"), then);
    assert_eq!(ours(&dir, "--snapshot before disk.qcow2"), then);
    dir.run("map --snapshot after disk.qcow2")
        .exits(1)
        .says("no snapshot with the ID or name \"after\"");
}

#[test]
fn holes_of_raw_files_are_where_qemu_finds_them() {
    let dir = Dir::new("map-raw");
    for size in [4 << 20, 1_000_001, 2_000_500] {
        Disk::hole(size)
            .data(100_000..300_000)
            .data(400_000..400_001)
            .file(&dir, "hole.raw");
        Disk::hole(size).data(size - 1..size).file(&dir, "data.raw");
        for name in ["hole.raw", "data.raw"] {
            assert_eq!(
                ours(&dir, name),
                theirs(&dir, &format!("-f raw {name}")),
                "{name}: {size} bytes"
            );
        }
    }
    dir.run("map hole.raw")
        .exits(0)
        .prints("  zeros: hole\n")
        .prints("  used: data\n");
    let reasons = dir.run("map --json data.raw").exits(0).json();
    assert_eq!(
        (&reasons[0]["reason"], &reasons[1]["reason"]),
        (&"hole".into(), &"data".into())
    );
    dir.sparse("empty.raw", 0, &[]);
    assert!(ours(&dir, "empty.raw").is_empty());
}

#[test]
fn a_device_is_in_use_all_over_as_root() {
    let dir = Dir::new("map-device");
    let file = Disk::hole(1 << 20).data(0..5000).file(&dir, "disk.raw");
    let device = Loop::over(&file);

    let run = dir.run_with([Path::new("map"), device.path()]).exits(0);

    assert_eq!(
        run.stdout(),
        "0x000000000000          1048576  source: nothing recognised, copied whole\n\n\
         0x000000000000          1048576  used: free space not known\n"
    );
}

#[test]
fn what_a_file_is_can_be_said() {
    let dir = Dir::new("map-format");
    qemu::image(&dir, "disk.qcow2 2M", &["write -P 1 64k 64k"]);

    assert_eq!(
        ours(&dir, "--format raw disk.qcow2"),
        theirs(&dir, "-f raw disk.qcow2")
    );
    assert_eq!(
        ours(&dir, "--format qcow2 disk.qcow2"),
        theirs(&dir, "disk.qcow2")
    );
    dir.sparse("raw", 4096, &[]);
    dir.run("map --format qcow2 raw")
        .exits(1)
        .says("header at 0x0: magic is 0x0");
    for (option, says) in [
        ("--backing raw", "has no backing file"),
        ("--data-file raw", "has no external data file"),
        ("--snapshot 1", "has no snapshot"),
    ] {
        dir.run(&format!("map {option} raw")).exits(1).says(says);
    }
}

#[test]
fn a_map_that_cannot_be_completed_ends_where_the_damage_is() {
    let dir = Dir::new("map-damage");
    qemu::image(
        &dir,
        "-o cluster_size=512 disk.qcow2 1M",
        &["write -P 1 0 512", "write -P 2 512k 512"],
    );
    let mut bytes = fs::read(dir.join("disk.qcow2")).unwrap();
    // The L1 entry for what begins at 512 KiB.
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
    bytes[l1 + 16 * 8 + 7] |= 1;
    fs::write(dir.join("disk.qcow2"), bytes).unwrap();

    dir.run("map disk.qcow2")
        .exits(1)
        .says("entry 16 is 0x")
        .prints("0x000000000200           523776  unallocated\n");
    let run = dir.run("map --json disk.qcow2").exits(1);
    assert!(run.stdout().starts_with('['), "{}", run.stdout());
    assert!(serde_json::from_str::<Value>(&run.stdout()).is_err());
}
