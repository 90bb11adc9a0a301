//! Every file that is read is opened once, and what is read to tell what it is is not read again: between two times it
//! could be another.

use std::process::Command;

use crate::support::loops::Running;
use crate::support::{Dir, MKQCOW2, noise, qemu};

/// How often a run opens each of some files, and how often it reads the first byte of any.
fn opened(dir: &Dir, arguments: &str, files: &[&str], status: i32) -> (Vec<usize>, usize) {
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=?open,openat,?openat2,pread64",
            "-o",
            "trace",
        ])
        .arg(MKQCOW2)
        .args(arguments.split_whitespace())
        .current_dir(dir.path());
    Running::of(command).ends().exits(status);
    let trace = std::fs::read_to_string(dir.join("trace")).unwrap();
    let of = |file: &&str| {
        let quoted = format!("\"{file}\"");
        let is_it = |line: &&str| line.contains("open") && line.contains(&quoted);
        trace.lines().filter(is_it).count()
    };
    let begins = |line: &&str| line.contains("pread64(") && line.contains(", 0) = ");
    (
        files.iter().map(of).collect(),
        trace.lines().filter(begins).count(),
    )
}

#[test]
fn every_file_is_opened_once() {
    let dir = Dir::new("formats-opened-once");
    dir.sparse("disk.raw", 4 << 20, &[(0, &noise(1, 3 << 20))]);
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} disk.raw disk.{format}"),
        );
    }
    for (base, format) in [("disk.raw", "raw"), ("disk.qcow2", "qcow2")] {
        qemu::img(
            &dir,
            &format!("create -q -f qcow2 -b {base} -F {format} {format}.top"),
        );
        qemu::io(&dir, "qcow2", &format!("{format}.top"), &["write -P 3 1M 64k"]);
    }
    let once = |arguments: &str, files: &[&str], status| {
        let arguments = arguments.replace("IMAGE", files[0]);
        let (opened, _) = opened(&dir, &arguments, files, status);
        assert_eq!(opened, vec![1; files.len()], "{arguments}: {files:?}");
    };
    once("-q --no-sync IMAGE new", &["disk.raw"], 0);
    for files in [
        &["disk.qcow2"][..],
        &["disk.qcow"],
        &["disk.qed"],
        &["raw.top", "disk.raw"],
        &["qcow2.top", "disk.qcow2"],
    ] {
        let format = files[0].rsplit('.').next().unwrap().replace("top", "qcow2");
        once(
            &format!("-q --no-sync --source-format {format} --follow IMAGE new"),
            files,
            0,
        );
        once("restore -q --no-sync --follow IMAGE copy", files, 0);
        once("restore -n --follow IMAGE copy", files, 0);
        once("restore -q --no-sync --force --follow IMAGE copy", files, 0);
        once("compare -q --follow IMAGE copy", files, 0);
        once("compare -q --follow copy IMAGE", files, 0);
        once("map --follow IMAGE", files, 0);
        once("map --follow --regions IMAGE", files, 0);
        for verb in ["info", "check", "verify"] {
            once(&format!("{verb} IMAGE"), &files[..1], 0);
        }
    }
    once("compare -q IMAGE disk.qcow2", &["disk.raw", "disk.qcow2"], 0);
    once("map IMAGE", &["disk.raw"], 0);
}

#[test]
fn the_beginning_of_an_image_is_read_once() {
    let dir = Dir::new("formats-read-once");
    dir.sparse("disk.raw", 4 << 20, &[(0, &noise(1, 3 << 20))]);
    // In a QCOW a table lies next to the header, and is read with all that lies around it.
    for format in ["qcow2", "qed"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} disk.raw disk.{format}"),
        );
        for arguments in [
            format!("-q --no-sync --source-format {format} disk.{format} new.{format}"),
            format!("restore -q --no-sync disk.{format} copy.{format}.raw"),
            format!("map disk.{format}"),
            format!("info disk.{format}"),
        ] {
            let (_, begins) = opened(&dir, &arguments, &[], 0);
            assert_eq!(begins, 1, "{arguments}");
        }
    }
}
