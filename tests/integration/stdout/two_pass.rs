//! Images that go to standard output in two passes: the same bytes that would be in a file.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Output, Stdio};

use super::MIB;
use crate::format::Format;
use crate::support::loops::Held;
use crate::support::{Dir, assert_equals, noise};

/// A disk of text, random bytes, zeros and holes, by turns.
fn mixed(dir: &Dir, size: usize) {
    let mut text = (0..).flat_map(|line| format!("line {line} of a text\n").into_bytes());
    let mut disk = Vec::new();
    while disk.len() < size {
        disk.extend(text.by_ref().take(200_000));
        disk.extend(noise(disk.len() as u64, 70_000));
        disk.resize(disk.len() + 130_000, 0);
    }
    disk.truncate(size);
    let file = dir.sparse("disk.raw", 3 * size as u64, &[]);
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(&disk, 65536)
        .unwrap();
}

#[test]
fn a_stream_of_two_passes_is_the_file_byte_for_byte() {
    let dir = Dir::new("two-pass");
    mixed(&dir, 6 << 20);
    for format in Format::all() {
        for compress in ["none", "zstd", "zlib:1"] {
            if compress == "zstd" && format.compat == "0.10" {
                continue;
            }
            dir.run(&format!(
                "-q --no-sync -c {compress} {format} disk.raw file.qcow2"
            ))
            .exits(0)
            .in_silence();
            for threads in [1, 7] {
                let options = format!("-q -j {threads} --two-pass -c {compress} {format}");
                let stream = super::stream(&dir, &options).exits(0);
                assert_eq!(stream.stderr(), "");
                assert!(
                    stream.bytes() == fs::read(dir.join("file.qcow2")).unwrap(),
                    "{format} {compress} -j {threads}"
                );
            }
        }
    }
}

#[test]
fn the_receiver_of_a_compressed_stream_has_a_whole_image() {
    let dir = Dir::new("two-pass-receiver");
    mixed(&dir, 5 << 20);
    let run = super::stream(&dir, "--two-pass -c zstd:5")
        .exits(0)
        .says("mkqcow2: standard output: 15.00 MiB source");
    fs::write(dir.join("disk.qcow2"), run.bytes()).unwrap();
    assert_equals(&dir.join("disk.raw"), &dir.join("disk.qcow2"));
    dir.run("verify -q disk.qcow2").exits(0).in_silence();
    dir.run("check -q --data disk.qcow2").exits(0).in_silence();
    dir.run("compare -q disk.qcow2 disk.raw").exits(0).in_silence();
}

/// Writes to the source once the first pass is over, these bytes at those places: the first byte is here, and the
/// second pass waits until the front of the image is gone, which is more than a pipe holds.
fn changed_between(dir: &Dir, options: &str, changes: &[(u64, &[u8])]) -> Output {
    let arguments = format!("--no-sync --two-pass {options} disk.raw -");
    let mut run = dir
        .command(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = run.stdout.take().unwrap();
    let mut image = vec![0];
    out.read_exact(&mut image).unwrap();
    let disk = File::options().write(true).open(dir.join("disk.raw")).unwrap();
    for (at, bytes) in changes {
        disk.write_all_at(bytes, *at).unwrap();
    }
    out.read_to_end(&mut image).unwrap();
    fs::write(dir.join("disk.qcow2"), image).unwrap();
    run.wait_with_output().unwrap()
}

#[test]
fn a_source_that_changes_between_the_passes_so_that_the_tables_do_is_a_failure() {
    let dir = Dir::new("two-pass-changed");
    let text = b"a text that can be compressed well".repeat(1 << 19);
    fs::write(dir.join("disk.raw"), text).unwrap();

    let output = changed_between(
        &dir,
        "-c zstd --cluster-size 2M",
        &[(8 * MIB, &noise(1, 4 << 20))],
    );

    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("mkqcow2: disk.raw: the source changed during the two passes"),
        "{message}"
    );
    assert!(message.contains("mkqcow2: standard output: "), "{message}");
}

#[test]
fn a_source_that_changes_between_the_passes_and_leaves_the_tables_alone_is_imaged_as_it_is_then() {
    let dir = Dir::new("two-pass-changed-data");
    fs::write(dir.join("disk.raw"), noise(2, 16 << 20)).unwrap();

    let output = changed_between(
        &dir,
        "-c zstd --cluster-size 2M",
        &[(8 * MIB, &noise(3, 4 << 20))],
    );

    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(
        message.contains("the source changed while it was read"),
        "{message}"
    );
    assert_equals(&dir.join("disk.raw"), &dir.join("disk.qcow2"));
    dir.run("verify -q disk.qcow2").exits(0).in_silence();
}

#[test]
fn a_source_that_changes_in_the_first_pass_is_found_out_before_anything_is_sent() {
    let dir = Dir::new("two-pass-first");
    fs::write(dir.join("disk.raw"), noise(4, 8 << 20)).unwrap();
    let held = Held::start(&dir, "--two-pass -c zstd disk.raw -");
    // It has been opened, and not yet been read.
    let disk = File::options().write(true).open(dir.join("disk.raw")).unwrap();
    disk.write_all_at(b"changed", MIB).unwrap();

    let run = held
        .let_go()
        .exits(1)
        .says("the source changed during the two passes");

    assert!(run.bytes().is_empty() && !run.stderr().contains("incomplete"));
}

#[test]
fn tables_that_come_out_different_leave_no_whole_image_even_without_checksums() {
    let dir = Dir::new("two-pass-tables");
    // A front that a pipe does not hold, and two clusters under different L2 tables.
    dir.sparse("disk.raw", 1 << 30, &[(0, &[1; 512]), (1 << 20, &[0; 512])]);

    let options = "--no-checksums --compat 0.10 --cluster-size 512";
    let output = changed_between(&dir, options, &[(0, &[0; 512]), (MIB, &[1; 512])]);

    assert_eq!(output.status.code(), Some(1));
    assert_ne!(dir.run("verify -q disk.qcow2").status(), 0);
}

#[test]
fn two_passes_that_cannot_be_are_refused() {
    let dir = Dir::new("two-pass-refused");
    dir.sparse("disk.raw", MIB, &[]);
    for (arguments, says) in [
        (
            "--two-pass disk.raw disk.qcow2",
            "--two-pass is for standard output only",
        ),
        (
            "--two-pass -c zstd --dedupe disk.raw -",
            "--dedupe reads back what was written",
        ),
        (
            "-c zlib disk.raw -",
            "--compress to standard output needs --two-pass",
        ),
    ] {
        dir.run(arguments).exits(64).says(says);
    }
    assert_eq!(dir.names(), ["disk.raw"]);
}
