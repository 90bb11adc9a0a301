//! Bytes that the cache of a device still holds although others are on the disk by now.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::loops::{Held, Loop, Mount, make_ext4};
use crate::support::{Dir, assert_equals, noise, qemu, tool};

const MIB: u64 = 1 << 20;

/// Overwrites a file in place, so that its filesystem writes to the same blocks again.
fn overwrite(file: &Path, content: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_forced_image_of_a_mounted_device_holds_what_was_written_since_the_last_one_as_root() {
    let dir = Dir::new("stale-mounted");
    let file = dir.sparse("disk.raw", 16 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    fs::write(mount.join("file"), noise(1, 1 << 20)).unwrap();
    tool("sync", ["-f", mount.point().to_str().unwrap()]);
    let image = format!("--force {} image.qcow2", disk.path().display());
    dir.run(&image).exits(3);

    overwrite(&mount.join("file"), &noise(2, 1 << 20));
    tool("sync", ["-f", mount.point().to_str().unwrap()]);
    dir.run(&image).exits(3);

    drop(mount);
    tool("sync", ["-f", file.to_str().unwrap()]);
    let raw = fs::read(&file).unwrap();
    qemu::img(&dir, "convert -O raw image.qcow2 restored.raw");
    let restored = fs::read(dir.join("restored.raw")).unwrap();
    let new = noise(2, 1024);
    let find = |bytes: &[u8]| bytes.chunks_exact(1024).position(|block| block == new);
    assert!(find(&raw).is_some(), "the file is on the disk");
    assert_eq!(
        find(&restored),
        find(&raw),
        "and where it is there, it is in the image"
    );
}

#[test]
fn a_disk_with_a_partition_mounted_read_only_is_imaged_as_it_is_now_as_root() {
    let dir = Dir::new("stale-partition");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    make_ext4(&disk.partition(1));
    make_ext4(&disk.partition(2));
    let second = Mount::new("rw", &disk.partition(2), dir.join("second"));
    fs::write(second.join("file"), noise(1, 500_000)).unwrap();
    drop(second);
    // Keeps the cache of the disk alive between the two images.
    let _first = Mount::new("ro", &disk.partition(1), dir.join("first"));
    let image = format!("{} image.qcow2", disk.path().display());
    dir.run(&image).exits(0);

    let second = Mount::new("rw", &disk.partition(2), dir.join("second"));
    overwrite(&second.join("file"), &noise(2, 500_000));
    drop(second);
    dir.run(&image).exits(0);

    assert_equals(&file, &dir.join("image.qcow2"));
}

/// Writes to the cache of a device, which keeps it for as long as the file is open.
fn write_through(device: &Path, bytes: &[u8], at: u64) -> File {
    let device = OpenOptions::new().write(true).open(device).unwrap();
    device.write_all_at(bytes, at).unwrap();
    device
}

#[test]
fn what_the_cache_of_a_loop_device_over_the_source_holds_is_imaged_as_root() {
    let dir = Dir::new("stale-loop");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    let disk = Loop::over(&file);
    let writer = write_through(disk.path(), &noise(1, 4 << 20), MIB);

    dir.run("disk.raw image.qcow2").exits(0);

    assert_equals(disk.path(), &dir.join("image.qcow2"));
    drop(writer);
}

#[test]
fn what_the_cache_of_the_disk_of_a_partition_holds_is_imaged_as_root() {
    let dir = Dir::new("stale-disk");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let content = noise(1, 2 << 20);
    let writer = write_through(disk.path(), &content, MIB);

    dir.run(&format!("{} image.qcow2", disk.partition(1).display()))
        .exits(0);

    let expected = dir.sparse("expected.raw", 2 * MIB, &[(0, &content)]);
    assert_equals(&expected, &dir.join("image.qcow2"));
    drop(writer);
}

#[test]
fn what_the_cache_of_the_source_held_before_it_was_read_is_no_change_as_root() {
    let dir = Dir::new("stale-unchanged");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    let disk = Loop::over(&file);
    let writer = write_through(disk.path(), &noise(1, 4 << 20), MIB);
    let run = Held::start(&dir, &format!("{} image.qcow2", disk.path().display()));

    // As the kernel does after a while.
    writer.sync_all().unwrap();

    run.let_go().exits(0);
    assert_equals(&file, &dir.join("image.qcow2"));
}
