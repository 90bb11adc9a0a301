//! Sizes at the limit of what a system has: files of 2^63 - 1 bytes, and disks that are as large. A sum that is wrong
//! there stops the run, which no file may bring about.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::loops::{Loop, Mount};
use crate::support::{Dir, assert_equals, noise, poke, qemu};

const MIB: u64 = 1 << 20;

/// The largest clusters of QED, in bytes. Its largest tables have 16 of them.
const CLUSTER: u64 = 64 * MIB;
const TABLE: u64 = 16 * CLUSTER;
const ENTRIES: u64 = TABLE / 8;

/// How much of the disk is in one of the tables of the second level, in bytes.
const REACH: u64 = ENTRIES * CLUSTER;

/// The size of the largest disk, in bytes: of whole sectors.
const DISK: u64 = (1 << 63) - 512;

/// The entry of the table of the first level in which the largest disk ends.
const LAST: u64 = DISK / REACH;

/// Writes QED with the largest disk and the largest tables to a sparse file of `length` bytes: the table of the first
/// level at `l1`, and entries, each with its place.
fn write_qed(path: &Path, length: u64, l1: u64, entries: &[(u64, u64)]) {
    let file = File::create(path).unwrap();
    let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    put(0, b"QED\0");
    put(4, &(CLUSTER as u32).to_le_bytes());
    put(8, &[16, 0, 0, 0, 1]);
    put(40, &l1.to_le_bytes());
    put(48, &DISK.to_le_bytes());
    for (at, entry) in entries {
        put(*at, &entry.to_le_bytes());
    }
    file.set_len(length).unwrap();
}

#[test]
fn the_last_cluster_of_the_largest_disk_is_found() {
    let dir = Dir::new("largest-disk");
    let (l1, l2) = (CLUSTER, CLUSTER + TABLE);
    let (data, content) = (l2 + TABLE, noise(1, 512));
    let entries = [(l1 + 8 * LAST, l2), (l2 + 8 * (ENTRIES - 1), data)];
    write_qed(&dir.join("disk.qed"), data + CLUSTER, l1, &entries);
    poke(&dir.join("disk.qed"), data + CLUSTER - 1024, &content);

    dir.run("map disk.qed").exits(0).prints(
        "0x000000000000 9223372036787666944  unallocated\n\
         0x7ffffffffc000000         67108352  data at 0x84000000\n",
    );
    dir.run("check disk.qed").exits(0).prints("no errors, no leaks");
    let last = DISK - 512;
    dir.run(&format!(
        "--no-sync --source-format qed --offset {last} disk.qed new.qcow2"
    ))
    .exits(0);
    fs::write(dir.join("expected.raw"), content).unwrap();
    assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
}

#[test]
fn entries_behind_the_end_of_the_largest_disk_have_no_place_in_it() {
    let dir = Dir::new("largest-behind");
    let (l1, l2) = (CLUSTER, CLUSTER + TABLE);
    let far = (1 << 63) - CLUSTER;
    let entries = [
        (l1 + 8 * LAST, u64::MAX - CLUSTER + 1),
        (l1 + 8 * (LAST + 1), far),
        // What it is for would begin behind 2^64.
        (l1 + 8 * (ENTRIES - 2), far),
        (l1 + 8 * (ENTRIES - 1), l2),
        (l2 + 8 * (ENTRIES - 1), far),
    ];
    write_qed(&dir.join("disk.qed"), l2 + TABLE, l1, &entries);

    let outside = "expected an offset within the file, which has 0x84000000 bytes";
    let lost = "(guest 0x7fe0000000000000 to 0x7ffffffffffffe00)";
    let mut run = dir.run("check disk.qed").exits(2);
    for line in [
        format!("L1 table at 0x4000000: entry 1023 is 0xfffffffffc000000, {outside} {lost} [l1-outside]\n"),
        format!("L1 table at 0x4000000: entry 1024 is 0x7ffffffffc000000, {outside} [l1-outside]\n"),
        format!("L1 table at 0x4000000: entry 134217726 is 0x7ffffffffc000000, {outside} [l1-outside]\n"),
        format!("L2 table at 0x44000000: entry 134217727 is 0x7ffffffffc000000, {outside} [l2-outside]\n"),
    ] {
        run = run.prints(&line);
    }
    dir.run("map disk.qed").exits(1).says(lost);
}

#[test]
fn tables_at_the_end_of_the_largest_file_are_read_as_root() {
    let dir = Dir::new("largest-tables");
    let memory = Mount::tmpfs(8 * MIB, dir.join("memory"));
    let (l1, l2) = ((1 << 63) - 3 * TABLE, (1 << 63) - 2 * TABLE);
    let entries = [(l1, l2), (l1 + 8, l2 + TABLE), (l2 + 8, l2 + TABLE)];
    write_qed(&memory.join("disk.qed"), (1 << 63) - 1, l1, &entries);

    dir.run("check memory/disk.qed").exits(2).prints(
        "L2 table at 0x7fffffffc0000000 is cut off by the end of the file, 0x7fffffffffffffff \
         (guest 0x20000000000000 to 0x40000000000000) [l1-outside]\n",
    );
    dir.run("map memory/disk.qed").exits(1).prints(
        "0x000000000000         67108864  unallocated\n\
         0x000004000000         67108864  data at 0x7fffffffc0000000\n",
    );
}

#[test]
fn the_largest_file_is_a_disk_like_others_as_root() {
    let dir = Dir::new("largest-file");
    let memory = Mount::tmpfs(8 * MIB, dir.join("memory"));
    let raw = File::create(memory.join("disk.raw")).unwrap();
    raw.write_all_at(&noise(1, 4096), 2 * MIB).unwrap();
    raw.set_len((1 << 63) - 1).unwrap();

    // To the end of its last sector.
    dir.run("map memory/disk.raw").exits(0).prints(
        "0x000000000000          2097152  zeros: hole\n\
         0x000000200000             4096  used: data\n\
         0x000000201000 9223372036852674560  zeros: hole\n",
    );
    dir.run("compare memory/disk.raw memory/disk.raw")
        .exits(0)
        .prints("are equal: 8.00 EiB");
    dir.run("memory/disk.raw new.qcow2")
        .exits(1)
        .says("9223372036854775808 bytes are too many for clusters");
    // Its last sector is not all there.
    for length in ["", "--length 1024"] {
        let line = format!("-f --no-sync --offset 9223372036854774784 {length} memory/disk.raw new.qcow2");
        dir.run(&line).exits(0).prints("1023 B zeros");
    }
    qemu::img(&dir, "create -f qcow2 -F raw -b memory/disk.raw -u over.qcow2 4M");
    dir.run("restore --no-sync --follow over.qcow2 copy.raw").exits(0);
    let copy = fs::read(dir.join("copy.raw")).unwrap();
    assert!(copy.len() as u64 == 4 * MIB && copy[2 * MIB as usize..][..4096] == noise(1, 4096));
}

#[test]
fn loop_devices_each_behind_the_end_of_the_one_below_share_no_byte_as_root() {
    let dir = Dir::new("largest-offsets");
    dir.sparse("disk.raw", MIB, &[]);
    // One on the other: from the third on, they come to more than 2^64.
    let mut devices = vec![Loop::part(&dir.join("disk.raw"), DISK, 0)];
    for _ in 0..3 {
        let below = devices.last().unwrap().path().to_owned();
        devices.push(Loop::part(&below, DISK, 0));
    }
    dir.run("--no-sync disk.raw good.qcow2").exits(0);
    // Those on top go first.
    while let Some(device) = devices.pop() {
        let path = device.path().to_str().unwrap();
        dir.run(&format!("{path} new.qcow2"))
            .exits(1)
            .says("is empty, there is nothing to image");
        dir.run(&format!("restore good.qcow2 {path}"))
            .exits(1)
            .says("too small: 0 B, the disk has ");
    }
}
