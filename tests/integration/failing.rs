//! Targets that fail or are none, and runs that are stopped: what `restore` says, and what it leaves.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use rustix::process::Signal;

use crate::damaged::{damage, job, still_has_old};
use crate::refusals::{Listing, misused};
use crate::support::loops::{Fuse, Loop, Mount, Running, make_ext4};
use crate::support::{Dir, tool};

const MIB: u64 = 1 << 20;

#[test]
fn a_device_is_said_to_be_incomplete_once_it_was_written_to_as_root() {
    let dir = job("damaged-device");
    let image = dir.join("image.qcow2");
    let file = dir.sparse("device.raw", 4 * MIB, &[]);
    let device = Loop::over(&file);
    let target = device.path().display().to_string();
    let restore = format!("restore --json image.qcow2 {target}");
    let incomplete = format!(
        "mkqcow2: {target}: is incomplete: it holds neither its old content nor the whole disk; \
         the first 1048576 bytes of the disk were written\n"
    );
    damage(&image, 16);

    let run = dir.run(&restore).exits(1);
    let json = run.json();
    run.says("(guest 0x100000 to 0x110000)").says(&incomplete);
    assert!(
        json["target-state"]
            .as_str()
            .unwrap()
            .starts_with("is incomplete")
    );

    damage(&image, 0);
    let run = dir.run(&restore).exits(1);
    assert!(
        !run.stderr().contains("incomplete"),
        "nothing was written: {}",
        run.stderr()
    );
}

#[test]
fn a_device_that_forgets_what_was_written_is_found_out_as_root() {
    let dir = job("forgetful");
    // Takes everything, and keeps nothing.
    let forgetful = Fuse::writable_disk(dir.join("null.raw"), &["null", "size=4M"]);
    // Or the cache of the file behind it would remember.
    let device = Loop::direct(forgetful.path());
    let target = device.path().display();

    dir.run(&format!("restore --verify image.qcow2 {target}"))
        .exits(1)
        .says(&format!(
            "mkqcow2: {target}: does not read back as it was written (guest 0x0 to 0x100000)\n"
        ))
        .says(&format!("mkqcow2: {target}: is incomplete"));
}

#[test]
fn a_device_that_cannot_be_written_to_the_end_is_an_error_as_root() {
    let dir = job("failing");
    let failing = Fuse::writable_disk(
        dir.join("bad.raw"),
        &["--filter=error", "memory", "size=4M", "error-pwrite-rate=100%"],
    );
    let device = Loop::over(failing.path());
    let target = device.path().display();

    dir.run(&format!("restore image.qcow2 {target}"))
        .exits(1)
        .says(&format!("mkqcow2: {target}: cannot "))
        .says("Input/output error")
        .says(&format!("mkqcow2: {target}: is incomplete"));
}

/// The image, seen through something that is slow.
fn slow(dir: &Dir) -> Fuse {
    let image = dir.join("image.qcow2");
    let rate = ["--filter=rate", "file", image.to_str().unwrap(), "rate=8M"];
    Fuse::disk(dir.join("slow.qcow2"), &rate)
}

#[test]
fn killed_or_stopped_it_leaves_the_old_file_as_root() {
    let dir = job("killed");
    let _slow = slow(&dir);
    for (signal, says) in [
        (Signal::KILL, ""),
        (
            Signal::TERM,
            "mkqcow2: copy.raw: stopped by SIGTERM, not written\n",
        ),
        (Signal::INT, "mkqcow2: copy.raw: stopped by SIGINT, not written\n"),
    ] {
        Running::start(&dir, "restore slow.qcow2 copy.raw")
            .until_it_writes()
            .send(signal)
            .ends()
            .dies_of(signal)
            .says(says);
        assert_eq!(fs::read(dir.join("copy.raw")).unwrap(), b"the old disk");
        assert!(!dir.names().iter().any(|name| name.starts_with('.')));
    }
}

#[test]
fn stopped_it_says_that_a_device_is_incomplete_as_root() {
    let dir = job("stopped-device");
    let _slow = slow(&dir);
    let device = Loop::over(&dir.sparse("device.raw", 4 * MIB, &[]));
    let target = device.path().display();

    Running::start(&dir, &format!("restore slow.qcow2 {target}"))
        .until_it_writes()
        .send(Signal::TERM)
        .ends()
        .dies_of(Signal::TERM)
        .says(&format!("mkqcow2: {target}: stopped by SIGTERM, incomplete\n"));
}

#[test]
fn a_full_filesystem_keeps_the_old_file_as_root() {
    let dir = job("full");
    let full = Mount::tmpfs(MIB, dir.join("full"));
    fs::write(full.join("copy.raw"), "old").unwrap();

    dir.run("restore image.qcow2 full/copy.raw")
        .exits(1)
        .says("mkqcow2: full/copy.raw: cannot write at 0x")
        .says("No space left on device (nothing was changed; mkqcow2 restore -n shows how much space is needed)\n");

    assert_eq!(fs::read(full.join("copy.raw")).unwrap(), b"old");
    dir.run("restore -n image.qcow2 full/copy.raw")
        .exits(0)
        .prints("full/copy.raw: may not fit, 2162688 bytes are needed, ");
}

#[test]
fn a_reader_that_has_had_enough_is_a_failure() {
    let dir = job("broken-pipe");
    let mut child = dir
        .command(["restore", "image.qcow2", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 512]).unwrap();
    drop(stdout);

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("mkqcow2: standard output: cannot write at 0x"),
        "{said}"
    );
    assert!(said.contains("Broken pipe\n"), "{said}");
    assert!(said.contains("standard output: is incomplete"), "{said}");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = dir.command(["restore", "image.qcow2", "-"]).stdout(full).output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

#[test]
fn an_image_that_is_written_to_meanwhile_is_told_as_root() {
    let dir = job("meanwhile");
    let image = dir.join("image.qcow2");
    let slow_target = Fuse::writable_disk(
        dir.join("slow.raw"),
        &["--filter=rate", "memory", "size=4M", "rate=4M"],
    );
    let device = Loop::direct(slow_target.path());
    let run =
        Running::start(&dir, &format!("restore image.qcow2 {}", device.path().display())).until_it_writes();
    // Behind all that is read.
    let end = fs::metadata(&image).unwrap().len();
    File::options()
        .append(true)
        .open(&image)
        .unwrap()
        .write_all(b"more")
        .unwrap();
    assert!(fs::metadata(&image).unwrap().len() > end);

    run.ends().exits(3).says(
        "mkqcow2: image.qcow2: warning: image.qcow2 was written to while it was read: the restored disk may mix old and new data\n",
    );
}

/// A slow target, and a run that restores `image` to it and has begun.
fn restoring_slowly(dir: &Dir, image: &str) -> (Fuse, Loop, Running) {
    let slow = Fuse::writable_disk(
        dir.join("slow.raw"),
        &["--filter=rate", "memory", "size=4M", "rate=4M"],
    );
    let target = Loop::direct(slow.path());
    let run = Running::start(dir, &format!("restore {image} {}", target.path().display())).until_it_writes();
    (slow, target, run)
}

#[test]
fn another_file_by_the_name_of_the_image_is_no_change_of_it_as_root() {
    let dir = job("meanwhile-replaced");
    let image = dir.join("image.qcow2");
    let (_slow, _target, run) = restoring_slowly(&dir, "image.qcow2");

    fs::rename(&image, dir.join("moved.qcow2")).unwrap();
    fs::write(&image, "another").unwrap();

    let run = run.ends().exits(0);
    assert!(!run.stderr().contains("warning"), "{}", run.stderr());
}

#[test]
fn an_image_that_is_written_to_by_another_name_is_told_as_root() {
    let dir = job("meanwhile-moved");
    let image = dir.join("image.qcow2");
    let same = fs::read(&image).unwrap();
    let before = fs::metadata(&image).unwrap().modified().unwrap();
    let (_slow, _target, run) = restoring_slowly(&dir, "image.qcow2");

    fs::rename(&image, dir.join("moved.qcow2")).unwrap();
    let moved = File::options().append(true).open(dir.join("moved.qcow2"));
    moved.unwrap().write_all(b"more").unwrap();
    // By its name and all that can be asked of it, it is what it was.
    fs::write(&image, same).unwrap();
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_modified(before)
        .unwrap();

    run.ends()
        .exits(3)
        .says("mkqcow2: image.qcow2: warning: image.qcow2 was written to while it was read");
}

#[test]
fn a_device_that_holds_the_image_and_is_written_to_meanwhile_is_told_as_root() {
    let dir = job("meanwhile-device");
    let image = dir.join("image.qcow2");
    let device = Loop::over(&image);
    let source = device.path().display().to_string();
    let (_slow, _target, run) = restoring_slowly(&dir, &source);

    // What is there already.
    let last = fs::metadata(&image).unwrap().len() / 512 * 512 - 512;
    let disk = File::options()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap();
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, last).unwrap();
    disk.write_all_at(&sector, last).unwrap();
    disk.sync_all().unwrap();
    drop(disk);

    run.ends().exits(3).says(&format!(
        "mkqcow2: {source}: warning: {source} was written to while it was read: the restored disk may mix old and new data\n"
    ));
}

/// What is refused in one line, with nothing changed.
#[track_caller]
fn refused(dir: &Dir, arguments: &str, says: &str) {
    let before = Listing::of(dir.path());
    let said = dir.run(arguments).exits(1).says(says).stderr();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(Listing::of(dir.path()), before);
}

#[test]
fn what_cannot_be_meant_is_told_from_what_cannot_be_done() {
    let dir = job("misused-restore");
    misused(&dir, "restore", "<IMAGE>");
    misused(&dir, "restore image.qcow2", "<TARGET>");
    misused(&dir, "restore image.qcow2 a b", "unexpected argument 'b'");
    misused(
        &dir,
        "restore --verify image.qcow2 -",
        "--verify cannot read standard output back",
    );
    misused(
        &dir,
        "restore --json image.qcow2 -",
        "both write to standard output",
    );
    misused(
        &dir,
        "restore --verify --no-sync image.qcow2 x",
        "cannot be used with",
    );
    misused(&dir, "--no-sync restore image.qcow2", "comes before all options");
    // Until there is a disk of that size to be had.
    refused(
        &dir,
        "restore missing.qcow2 copy.raw",
        "mkqcow2: missing.qcow2: cannot open: No such file",
    );
    refused(&dir, "restore disk.raw copy.raw", "mkqcow2: disk.raw: ");
    refused(&dir, "restore copy.raw image.qcow2", "mkqcow2: copy.raw: ");
    refused(
        &dir,
        "restore image.qcow2 image.qcow2",
        "mkqcow2: image.qcow2: is the source itself (the same file)\n",
    );
    refused(
        &dir,
        "restore image.qcow2 .",
        "mkqcow2: .: is a directory, expected a regular file, a block device or a new name\n",
    );
    refused(
        &dir,
        "restore image.qcow2 nowhere/copy.raw",
        "mkqcow2: nowhere/copy.raw: cannot ",
    );
    refused(
        &dir,
        "restore --no-clobber image.qcow2 copy.raw",
        "mkqcow2: copy.raw: exists already, expected a new name (because of --no-clobber)\n",
    );
    refused(
        &dir,
        "restore --snapshot x image.qcow2 copy.raw",
        "mkqcow2: image.qcow2: has no snapshot with the ID or name \"x\"\n",
    );
    refused(
        &dir,
        "restore --backing disk.raw image.qcow2 copy.raw",
        "mkqcow2: image.qcow2: has no backing file, but one was given\n",
    );
    still_has_old(&dir);
}

#[test]
fn a_device_that_is_no_place_for_it_is_refused_as_root() {
    let dir = job("refused-devices");
    refused(
        &dir,
        "restore image.qcow2 /dev/sdzz9",
        "mkqcow2: /dev/sdzz9: no such device, ",
    );
    let small = Loop::over(&dir.sparse("small.raw", 4 * MIB - 512, &[]));
    let path = small.path().display();
    refused(
        &dir,
        &format!("restore image.qcow2 {path}"),
        &format!(
            "mkqcow2: {path}: too small: 4.00 MiB, the disk has 4.00 MiB, 512 bytes more, of which 512 are in use"
        ),
    );
    refused(
        &dir,
        &format!("restore --no-clobber image.qcow2 {path}"),
        "exists already, expected a new name (because of --no-clobber)\n",
    );
    let read_only = Loop::read_only(&dir.sparse("read-only.raw", 8 * MIB, &[]));
    let path = read_only.path().display();
    refused(
        &dir,
        &format!("restore image.qcow2 {path}"),
        &format!("mkqcow2: {path}: is a read-only device\n"),
    );
    let file = dir.sparse("fs.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let device = Loop::over(&file);
    let path = device.path().display();
    for options in ["ro", "rw"] {
        let mount = Mount::new(options, device.path(), dir.join("mnt"));
        let kind = if options == "ro" {
            "read-only"
        } else {
            "read-write"
        };
        let point = mount.point().display();
        refused(
            &dir,
            &format!("restore image.qcow2 {path}"),
            &format!("mkqcow2: {path}: mounted {kind} on {point} (unmount it first)\n"),
        );
        if options == "rw" {
            fs::copy(dir.join("image.qcow2"), mount.join("image.qcow2")).unwrap();
            tool("sync", ["-f", mount.point().to_str().unwrap()]);
            refused(
                &dir,
                &format!("restore mnt/image.qcow2 {path}"),
                &format!(
                    "mkqcow2: {path}: holds mnt/image.qcow2: writing to it would destroy what is being read\n"
                ),
            );
        }
    }
    refused(
        &dir,
        "restore image.qcow2 fs.raw",
        &format!(
            "mkqcow2: fs.raw: is behind the loop device {}, which would keep using the old file (detach it with \
             losetup -d first, or restore to the loop device)\n",
            device.name()
        ),
    );
    let over = Loop::over(&dir.join("image.qcow2"));
    let path = over.path().display();
    refused(
        &dir,
        &format!("restore image.qcow2 {path}"),
        &format!("mkqcow2: {path}: is the source itself (a loop device over it)\n"),
    );
}

#[test]
fn a_terminal_gets_no_disk() {
    let dir = job("terminal");
    dir.run_on_terminal("restore image.qcow2 -")
        .exits(1)
        .prints("standard output: is a terminal, expected a file or a pipe (redirect it, or name a file)");
}
