//! What cannot be mounted, and what is said of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{Dir, MKQCOW2, Run, root};

fn dir(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.sparse("disk.raw", 1 << 20, &[(0, b"first")]);
    dir.image("");
    fs::create_dir(dir.join("point")).unwrap();
    dir
}

#[test]
fn only_an_image_is_mounted_and_only_on_an_empty_directory() {
    let dir = dir("mount-refused");
    fs::create_dir(dir.join("full")).unwrap();
    fs::write(dir.join("full/file"), "").unwrap();
    fs::write(dir.join("text"), "text\n".repeat(1000)).unwrap();
    for foreground in ["", "--foreground "] {
        for (words, status, says) in [
            ("none.qcow2 point", 1, "none.qcow2: cannot open: No such file"),
            ("text point", 1, "text: "),
            ("--format=qcow2 text point", 1, "text: "),
            ("disk.qcow2 none", 1, "none: cannot open: No such file"),
            (
                "disk.qcow2 full",
                1,
                "full: is not empty, expected an empty directory",
            ),
            ("disk.qcow2 text", 1, "text: is not a directory"),
            ("disk.qcow2 text/below", 1, "text/below: is not a directory"),
            ("--snapshot none disk.qcow2 point", 1, "disk.qcow2: "),
            ("- point", 64, "IMAGE cannot be standard input"),
            ("disk.qcow2", 64, "DIRECTORY"),
        ] {
            dir.run(&format!("mount {foreground}{words}"))
                .exits(status)
                .says(says);
        }
    }
    dir.run("mount --in-background disk.qcow2 point")
        .exits(64)
        .says("--foreground");
    let names = ["disk.qcow2", "disk.raw", "full", "point", "text"];
    assert_eq!(dir.names(), names);
}

#[test]
fn a_raw_disk_is_not_mounted() {
    let dir = dir("mount-raw");
    dir.run("mount --format=raw disk.raw point")
        .exits(1)
        .says("losetup --partscan");
}

#[test]
fn another_user_than_root_mounts_by_fusermount3_as_root() {
    root::needed();
    // Of a filesystem that other users may look into.
    let dir = dir("mount-nobody");
    let place = std::env::temp_dir().join(format!("mkqcow2-mount-{}, \\a", std::process::id()));
    fs::create_dir_all(place.join("point")).unwrap();
    fs::copy(dir.join("disk.qcow2"), place.join("disk.qcow2")).unwrap();
    fs::copy(MKQCOW2, place.join("mkqcow2")).unwrap();
    for name in ["", "point", "disk.qcow2"] {
        std::os::unix::fs::chown(place.join(name), Some(65534), Some(65534)).unwrap();
    }
    let run = |words: &[&str], path: &str| {
        let mut command = Command::new(place.join("mkqcow2"));
        command.args(words).current_dir(&place);
        command.env("PATH", path).uid(65534).gid(65534);
        Run::of(&mut command)
    };
    let path = std::env::var("PATH").unwrap();

    run(&["mount", "disk.qcow2", "point"], "/nowhere")
        .exits(1)
        .says("there is no fusermount3, which mounts for users other than root (install the package fuse3)");
    run(&["mount", "disk.qcow2", "point"], &path)
        .exits(0)
        .in_silence();
    let read = |name: &str| {
        let mut head = Command::new("head");
        head.args(["-c5", name]).current_dir(&place).uid(65534).gid(65534);
        String::from_utf8(head.output().unwrap().stdout).unwrap()
    };
    let first = read("point/disk.raw");
    let mut unmount = Command::new("fusermount3");
    unmount
        .args(["-u", "point"])
        .current_dir(&place)
        .uid(65534)
        .gid(65534);
    let unmounted = unmount.status().unwrap();
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(first, "first");
    assert!(unmounted.success());
}
