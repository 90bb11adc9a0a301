//! What scripts are told of a mount.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::served::{Served, unmount};
use crate::filesystems::partitions::disk::sfdisk;
use crate::support::{Dir, Run, poke, root, tool};

const MIB: u64 = 1 << 20;

/// A disk with a partition that holds an ext4, and one that holds nothing.
fn dir(name: &str) -> Dir {
    let dir = Dir::new(name);
    let disk = dir.sparse("disk.raw", 16 * MIB, &[]);
    sfdisk(
        &disk,
        "label: gpt\nstart=1M,size=8M,name=first\nstart=9M,size=2M\n",
    );
    let ext4 = dir.sparse("part", 8 * MIB, &[]);
    tool("mkfs.ext4", ["-q", "-L", "root", ext4.to_str().unwrap()]);
    poke(&disk, MIB, &fs::read(ext4).unwrap());
    dir.image("");
    dir
}

/// Holds an object to what is in the directory.
#[track_caller]
fn tells(object: &Value, served: &Served) {
    assert_eq!(object["status"], 0);
    assert_eq!(object["warnings"], json!([]));
    assert_eq!(object["directory"], served.point().to_str().unwrap());
    let files = object["files"].as_array().unwrap();
    for file in files {
        let path = served.join(file["file"].as_str().unwrap());
        assert_eq!(path.metadata().unwrap().len(), file["size"], "{file}");
    }
    let parts: Vec<_> = files.iter().map(|file| &file["part"]).collect();
    assert_eq!(parts, [&json!(null), &json!("1"), &json!("2")]);
    assert_eq!(files[0]["region"]["name"], "GPT");
    assert_eq!(
        files[1],
        json!({
            "file": "part1.raw", "size": 8 * MIB, "part": "1",
            "region": {
                "start": MIB, "length": 8 * MIB, "partition": 1, "partition-label": "first",
                "logical-volume": null, "name": "ext4", "label": "root",
            },
        })
    );
    assert_eq!(files[2]["region"]["name"], json!(null));
}

#[test]
fn one_object_names_the_files_once_they_can_be_read_as_root() {
    root::needed();
    let dir = dir("mount-json");
    let served = Served::expected(&dir, "disk.qcow2");
    let run = served.mount(&dir, "--json").exits(0);
    assert_eq!((run.stdout().lines().count(), run.stderr()), (1, String::new()));
    tells(&run.json(), &served);
    served.unmount();
}

#[test]
fn in_the_foreground_it_comes_before_the_end_as_root() {
    root::needed();
    let dir = dir("mount-json-foreground");
    let served = Served::expected(&dir, "disk.qcow2");
    let image = dir.join("disk.qcow2");
    let words = ["mount", "--json", "--foreground", image.to_str().unwrap()];
    let mut command = dir.command(words.iter().copied().chain([served.point().to_str().unwrap()]));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    tells(&serde_json::from_str(&line).unwrap(), &served);
    unmount(served.point());
    assert!(child.wait().unwrap().success());
    assert!(lines.next().is_none(), "there is one object");
}

#[test]
fn an_object_that_cannot_be_printed_is_missed_and_a_failure_has_one_as_root() {
    root::needed();
    let dir = dir("mount-json-trouble");
    let served = Served::expected(&dir, "disk.qcow2");
    let point = served.point().to_str().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = dir.command(["mount", "--json", "disk.qcow2", point]);
    Run::of(command.stdout(full))
        .exits(3)
        .says("cannot write to standard output: No space left on device");
    assert!(served.join("part2.raw").exists());
    served.unmount();

    for foreground in ["", "--foreground "] {
        let run = dir
            .run(&format!("mount --json {foreground}disk.raw {point}"))
            .exits(1);
        let object = run.json();
        assert_eq!(
            (&object["status"], &object["path"]),
            (&json!(1), &json!("disk.raw"))
        );
        assert_eq!(run.stdout().lines().count(), 1);
    }
}
