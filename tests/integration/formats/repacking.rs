//! An image that was in use for long becomes a packed one with the same disk, no larger than the one of QEMU.

use std::fs;

use super::{MIB, allocated, assert_converts, noisy};
use crate::corpus::text;
use crate::disk::Disk;
use crate::support::loops::{Mount, make_ext4};
use crate::support::{Dir, assert_equals, noise, qemu, tool};

/// Holds a re-packed image to the disk, and to the size of what `qemu-img convert` makes of the same.
#[track_caller]
fn assert_repacks(dir: &Dir, image: &str, options: &str) {
    assert_converts(dir, "qcow2", image, options);
    assert_small(dir, image, options);
}

/// Checksums are a table more, of 4 bytes for each cluster of the disk; without them it is no larger at all.
#[track_caller]
fn assert_small(dir: &Dir, image: &str, options: &str) {
    qemu::img(dir, &format!("convert -f qcow2 -O qcow2 {image} theirs.qcow2"));
    assert_no_larger(dir, image, options);
}

#[track_caller]
fn assert_no_larger(dir: &Dir, image: &str, options: &str) {
    let size = |name: &str| fs::metadata(dir.join(name)).unwrap().len();
    let theirs = size("theirs.qcow2");
    for (more, room) in [("--no-checksums", 0), ("", 65_536)] {
        let run = format!("-q --no-sync {more} {options} --source-format qcow2 {image} ours.qcow2");
        dir.run(&run).exits(0).in_silence();
        let ours = size("ours.qcow2");
        assert!(ours <= theirs + room, "{more} {ours}, qemu-img: {theirs}");
    }
}

/// Writes, zeros and discards, as a guest leaves them.
const WORN: [&str; 8] = [
    "write -q -s noise-0 0 2M",
    "write -q -s noise-1 3M 3M",
    "write -q -z 1M 500k",
    "discard -q 3M 1M",
    "write -q -P 0 5M 300k",
    "write -q -s noise-2 3500k 70000",
    "write -q -P 7 9000000 5",
    "discard -q 100k 100k",
];

#[test]
fn an_image_after_writes_and_discards() {
    let dir = noisy("repack-worn");
    for options in [
        "",
        "-o compat=0.10",
        "-o cluster_size=4k",
        "-o cluster_size=2M",
        "-o extended_l2=on",
        "-o preallocation=full",
        "-o lazy_refcounts=on",
    ] {
        qemu::img(&dir, &format!("create -q -f qcow2 {options} worn.qcow2 10241536"));
        qemu::io(&dir, "qcow2", "worn.qcow2", &WORN);
        assert_repacks(&dir, "worn.qcow2", "");
    }
}

#[test]
fn an_image_with_snapshots_and_without_those_that_were_deleted() {
    let dir = noisy("repack-snapshots");
    qemu::img(&dir, "create -q -f qcow2 worn.qcow2 10M");
    qemu::io(&dir, "qcow2", "worn.qcow2", &WORN[..2]);
    qemu::img(&dir, "convert -f qcow2 -O raw worn.qcow2 first.raw");
    qemu::img(&dir, "snapshot -c first worn.qcow2");
    qemu::io(&dir, "qcow2", "worn.qcow2", &WORN[2..6]);
    qemu::img(&dir, "convert -f qcow2 -O raw worn.qcow2 second.raw");
    qemu::img(&dir, "snapshot -c second worn.qcow2");
    qemu::io(&dir, "qcow2", "worn.qcow2", &["write -q -s noise-3 0 4M"]);
    assert_repacks(&dir, "worn.qcow2", "");

    for (number, name) in [(1, "first"), (2, "second")] {
        qemu::img(
            &dir,
            &format!("convert -f qcow2 -l {name} -O qcow2 worn.qcow2 theirs.qcow2"),
        );
        for wanted in [name.to_owned(), number.to_string()] {
            assert_no_larger(&dir, "worn.qcow2", &format!("--snapshot {wanted}"));
            assert_equals(&dir.join(format!("{name}.raw")), &dir.join("ours.qcow2"));
        }
    }
    dir.run("--source-format qcow2 --snapshot third worn.qcow2 new.qcow2")
        .exits(1)
        .says("mkqcow2: worn.qcow2: has no snapshot with the ID or name \"third\"\n");

    let before = fs::metadata(dir.join("worn.qcow2")).unwrap().len();
    qemu::img(&dir, "snapshot -d first worn.qcow2");
    qemu::img(&dir, "snapshot -d second worn.qcow2");
    assert_repacks(&dir, "worn.qcow2", "");
    let after = fs::metadata(dir.join("ours.qcow2")).unwrap().len();
    assert!(
        after + 2 * MIB < before,
        "dead space stays: {before}, then {after}"
    );
}

#[test]
fn a_chain_of_three() {
    let dir = noisy("repack-chain");
    fs::write(dir.join("base.raw"), noise(1, 6 << 20)).unwrap();
    qemu::img(
        &dir,
        "create -q -f qcow2 -b base.raw -F raw -o cluster_size=4k middle.qcow2 9M",
    );
    qemu::io(&dir, "qcow2", "middle.qcow2", &WORN[..5]);
    qemu::img(&dir, "create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2 10M");
    qemu::io(&dir, "qcow2", "top.qcow2", &WORN[5..]);
    assert_repacks(&dir, "top.qcow2", "--follow");
    dir.run("--source-format qcow2 top.qcow2 new.qcow2")
        .exits(1)
        .says(
            "mkqcow2: top.qcow2: needs its backing file, \"middle.qcow2\", which is opened only on request",
        );
    dir.run("--source-format qcow2 --backing middle.qcow2 top.qcow2 new.qcow2")
        .exits(1)
        .says("mkqcow2: middle.qcow2: needs its backing file, \"base.raw\", which is opened only on request");
}

#[test]
fn compressed_clusters() {
    let dir = noisy("repack-compressed");
    Disk::hole(9 * MIB + 512)
        .bytes(0, text(1, 3 << 20))
        .data(4 * MIB..5 * MIB)
        .file(&dir, "disk.raw");
    for compression in ["zlib", "zstd"] {
        let options = format!("-c -o compression_type={compression}");
        qemu::img(
            &dir,
            &format!("convert -f raw -O qcow2 {options} disk.raw packed.qcow2"),
        );
        qemu::io(
            &dir,
            "qcow2",
            "packed.qcow2",
            &["write -q -s noise-2 1000000 70000"],
        );
        assert_repacks(&dir, "packed.qcow2", "");
        // And compressed again, by us and by them, which is a third smaller than not.
        qemu::img(
            &dir,
            &format!("convert -f qcow2 -O qcow2 {options} packed.qcow2 theirs.qcow2"),
        );
        assert_no_larger(&dir, "packed.qcow2", &format!("-c {compression}"));
        assert_equals(&dir.join("expected.raw"), &dir.join("ours.qcow2"));
    }
}

#[test]
fn an_external_data_file() {
    let dir = noisy("repack-data-file");
    qemu::img(
        &dir,
        "create -q -f qcow2 -o data_file=other.data worn.qcow2 10241536",
    );
    qemu::io(&dir, "qcow2", "worn.qcow2", &WORN);
    assert_repacks(&dir, "worn.qcow2", "--follow");
    fs::rename(dir.join("other.data"), dir.join("moved.data")).unwrap();
    let run = |options: &str| dir.run(&format!("{options} --source-format qcow2 worn.qcow2 new.qcow2"));
    run("--data-file moved.data").exits(0);
    assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
    run("").exits(1).says(
        "mkqcow2: worn.qcow2: needs its external data file, \"other.data\", which is opened only on request",
    );
    run("--follow").exits(1).says(
        "other.data: no such file, but worn.qcow2 names it as its external data file (pass --data-file PATH)",
    );
}

/// An ext4 of which files were deleted, of each block of which the first bytes are known.
fn worn_ext4(dir: &Dir) -> Vec<u8> {
    let file = dir.sparse("disk.raw", 40 * MIB, &[]);
    make_ext4(&file);
    let mount = Mount::new("loop", &file, dir.join("mnt"));
    let secret = b"this was deleted ".repeat(241);
    let secret = &secret[..4096];
    fs::write(mount.join("kept"), noise(1, 5 << 20)).unwrap();
    fs::write(mount.join("deleted"), secret.repeat(2560)).unwrap();
    tool("sync", ["-f", mount.point().to_str().unwrap()]);
    fs::remove_file(mount.join("deleted")).unwrap();
    tool("sync", ["-f", mount.point().to_str().unwrap()]);
    drop(mount);
    secret.to_vec()
}

fn holds(dir: &Dir, image: &str, secret: &[u8]) -> bool {
    let bytes = fs::read(dir.join(image)).unwrap();
    bytes.chunks(512).any(|piece| secret.starts_with(piece))
}

#[test]
fn stale_blocks_of_a_filesystem_are_left_out_as_root() {
    let dir = Dir::new("repack-ext4");
    let secret = worn_ext4(&dir);
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(&dir, &format!("convert -f raw -O {format} disk.raw disk.image"));
        qemu::img(
            &dir,
            &format!("convert -f {format} -O qcow2 disk.image theirs.qcow2"),
        );
        assert!(holds(&dir, "theirs.qcow2", &secret));
        dir.run(&format!("--source-format {format} disk.image ours.qcow2"))
            .exits(0);
        assert!(!holds(&dir, "ours.qcow2", &secret), "{format}");
        // 10 MiB were deleted, of which the first blocks may be written again.
        let [ours, theirs] = ["ours.qcow2", "theirs.qcow2"].map(|image| allocated(&dir, image));
        assert!(ours + 100 < theirs, "{ours} clusters, qemu-img: {theirs}");

        dir.run("restore ours.qcow2 copy.raw").exits(0);
        let copy = dir.join("copy.raw");
        tool("e2fsck", ["-fn", copy.to_str().unwrap()]);
        let mount = Mount::new("loop,ro", &copy, dir.join("mnt"));
        assert!(fs::read(mount.join("kept")).unwrap() == noise(1, 5 << 20));
        drop(mount);
        dir.run(&format!("compare --format-a {format} disk.image ours.qcow2"))
            .exits(1);

        dir.run(&format!(
            "--scan sparse --source-format {format} disk.image all.qcow2"
        ))
        .exits(0);
        assert!(holds(&dir, "all.qcow2", &secret), "{format}");
        assert_equals(&dir.join("disk.raw"), &dir.join("all.qcow2"));
    }
}

#[test]
fn a_partition_of_the_disk_in_an_image_as_root() {
    let dir = Dir::new("repack-partition");
    let file = dir.sparse("disk.raw", 24 * MIB + 512, &[(20 * MIB, &noise(2, 3 << 20))]);
    let part = dir.sparse("part.raw", 16 * MIB, &[]);
    make_ext4(&part);
    let mount = Mount::new("loop", &part, dir.join("mnt"));
    fs::write(mount.join("kept"), noise(1, 2 << 20)).unwrap();
    drop(mount);
    let bytes = fs::read(&part).unwrap();
    let disk = fs::File::options().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &bytes, 2 * MIB).unwrap();
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(&dir, &format!("convert -f raw -O {format} disk.raw disk.image"));
        let run = |options: &str| {
            let run = format!("{options} --source-format {format} disk.image new.qcow2");
            dir.run(&run)
        };
        run("--offset 2M --length 16M").exits(0);
        dir.run("restore new.qcow2 copy.raw").exits(0);
        let copy = dir.join("copy.raw");
        tool("e2fsck", ["-fn", copy.to_str().unwrap()]);
        run("--scan sparse --offset 2M --length 16M").exits(0);
        assert_equals(&part, &dir.join("new.qcow2"));
        // Neither begins nor ends with a cluster; up to the end of the disk.
        for (offset, length) in [(2 * MIB + 512, Some(3 * MIB + 1024)), (20 * MIB - 512, None)] {
            let words = length.map_or(String::new(), |length| format!("--length {length}"));
            run(&format!("--scan sparse --offset {offset} {words}")).exits(0);
            let all = fs::read(&file).unwrap();
            let end = length.map_or(all.len(), |length| (offset + length) as usize);
            fs::write(dir.join("expected.raw"), &all[offset as usize..end]).unwrap();
            assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
        }
        run("--offset 25M")
            .exits(1)
            .says("offset is 26214400, expected less than the size, 25166336");
    }
}
