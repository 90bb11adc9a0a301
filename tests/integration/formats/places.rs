//! Tables and clusters in places where QEMU puts none, and files that fail behind others.

use std::fs;

use super::assert_converts;
use super::by_hand::Image;
use crate::faults::Job;
use crate::support::{Dir, assert_equals, qemu};
use crate::unreadable::{BAD, damaged, disk_without, unreadable};

#[test]
fn tables_of_qcow_need_not_be_aligned() {
    let dir = Dir::new("formats-odd");
    let mut image = Image::qcow();
    // What is kept in memory are pieces of 64 KiB: one entry lies in two of them.
    let at = 0xff04_usize;
    let table = image.bytes[image.l2[0]..][..512].to_vec();
    image.bytes.resize(at, 0);
    image.bytes.extend(table);
    image.put(image.l1, &(at as u64).to_be_bytes());
    fs::write(dir.join("disk.qcow"), &image.bytes).unwrap();
    assert_converts(&dir, "qcow", "disk.qcow", "");
    assert!(fs::read(dir.join("expected.raw")).unwrap()[..512] == image.raw[..512]);
}

#[test]
fn a_backing_file_without_a_name_is_none() {
    let dir = Dir::new("formats-nameless");
    let mut image = Image::qed(2);
    // Feature bit 0: there is one.
    image.put(16, &[1]);
    fs::write(dir.join("disk.qed"), &image.bytes).unwrap();
    dir.run("--source-format qed disk.qed new.qcow2")
        .exits(1)
        .says("mkqcow2: disk.qed: header at 0x0: backing_filename_size is 0x0, expected at least 0x1\n");
}

#[test]
fn streams_that_begin_in_the_same_place_are_told_apart() {
    let dir = Dir::new("formats-streams");
    let mut image = Image::qcow();
    // Of cluster 3 the first 5 bytes only of what is that of cluster 2.
    let entry = 1 << 63 | 5_u64 << 54 | image.clusters[2] as u64;
    image.put(image.l2[0] + 8 * 3, &entry.to_be_bytes());
    fs::write(dir.join("disk.qcow"), &image.bytes).unwrap();
    for part in ["", "--offset 1024 --length 1024", "--offset 1536 --length 512"] {
        dir.run(&format!("{part} --source-format qcow disk.qcow new.qcow2"))
            .exits(1)
            .says("compressed cluster at ");
    }
}

#[test]
fn what_cannot_be_read_of_a_backing_file_becomes_zeros_if_that_is_asked_for_as_root() {
    let job = Job::new("formats-unreadable", 4 << 20).with_old();
    let _damaged = damaged(&job, &BAD);
    qemu::img(&job.dir, "create -q -f qcow2 -b damaged.raw -F raw top.qcow2 4M");
    let follow = "--follow --source-format qcow2 top.qcow2";

    let stopped = job.dir.run(&format!("{follow} image.qcow2")).exits(1);
    stopped
        .says("mkqcow2: damaged.raw: cannot read at 0x100000: Input/output error (pass --on-read-error=zero");
    job.still_has_old();

    let run = job
        .dir
        .run(&format!("--json --on-read-error=zero {follow} image.qcow2"))
        .exits(3);
    assert_eq!(unreadable(&run), BAD);
    assert_equals(&disk_without(&job, &BAD), &job.image());
}
