//! While sectors are retried, progress goes on, and lost ranges are told as they are found.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{damaged, damaged_behind, disk_without, unreadable};
use crate::faults::Job;
use crate::support::assert_equals;
use crate::support::loops::{Fuse, Running};
use crate::support::terminal::Terminal;

const MIB: u64 = 1 << 20;

/// Around each, hundreds of sectors are retried one by one.
const BAD: [Range<u64>; 2] = [0x12_4000..0x12_8000, 0x18_4000..0x18_c000];

/// A disk that takes so many milliseconds for each read.
fn slow(job: &Job, bad: &[Range<u64>], delay: u32) -> Fuse {
    let delay = format!("rdelay={delay}ms");
    damaged_behind(job, bad, &["--filter=delay", &delay])
}

const RETRYING: &str = "retrying unreadable sectors at 0x";

#[test]
fn lines_go_on_while_unreadable_sectors_are_retried_as_root() {
    let job = Job::new("retrying-lines", 2 * MIB);
    let _slow = slow(&job, &BAD, 10);

    let run = job
        .dir
        .run("-p -j 1 --json --on-read-error=zero damaged.raw image.qcow2");

    let run = run.exits(3);
    let said = run.stderr();
    let told: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("mkqcow2: "))
        .filter(|line| line.starts_with(RETRYING))
        .collect();
    assert!(!told.is_empty(), "{said}");
    assert!(
        told.iter().all(|line| line.ends_with(" unreadable so far")),
        "{said}"
    );
    assert_eq!(unreadable(&run), BAD);
    for range in BAD {
        let (start, length) = (range.start, range.end - range.start);
        let line =
            format!("mkqcow2: damaged.raw: unreadable: {length} bytes at {start:#x}, zeros in the image\n");
        assert_eq!(said.matches(&line).count(), 1, "{said}");
    }
    assert_equals(&disk_without(&job, &BAD), &job.image());
}

#[test]
fn a_bar_tells_that_sectors_are_retried_and_what_is_lost_stands_above_it_as_root() {
    let job = Job::new("retrying-bar", 2 * MIB);
    let _slow = slow(&job, &BAD, 15);
    let arguments = ["-j", "1", "--on-read-error=zero", "damaged.raw", "image.qcow2"];

    let shown = Terminal::start(80, job.dir.command(arguments), true)
        .ends()
        .exits(3);

    let shown = shown.leaves(&[
        "mkqcow2: damaged.raw: unreadable: 16384 bytes at 0x124000, zeros in the image",
        "mkqcow2: damaged.raw: unreadable: 32768 bytes at 0x184000, zeros in the image",
        "mkqcow2: damaged.raw: warning: signature at ",
        "mkqcow2: damaged.raw: warning: 49152 bytes of the source could not be read",
        "image.qcow2: 2.00 MiB source (",
    ]);
    let mut retried = shown.drawn().filter(|line| line.starts_with(RETRYING));
    assert!(
        retried.any(|line| line.contains(" KiB unreadable so far")),
        "{shown:#?}"
    );
    assert!(shown.drawn().any(|line| line.contains('%')), "{shown:#?}");
}

/// Reads lines up to one that begins like this.
fn until_said(stderr: ChildStderr, begins: &str) {
    let mut lines = BufReader::new(stderr).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with(begins)), "{begins}");
}

#[test]
fn what_cannot_be_read_is_told_at_once_and_the_run_can_be_stopped_while_it_retries_as_root() {
    let job = Job::new("retrying-stopped", 4 * MIB).with_old();
    let bad = [0x10_0000..0x10_0400, 0x30_0000..0x38_0000];
    let _slow = slow(&job, &bad, 10);
    let arguments = ["-j", "1", "--on-read-error=zero", "damaged.raw", "image.qcow2"];
    let mut child = job
        .dir
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    // The rest of the bad sectors takes ten seconds.
    let said = "mkqcow2: damaged.raw: unreadable: 1024 bytes at 0x100000, zeros in the image";
    until_said(child.stderr.take().unwrap(), said);

    let begun = Instant::now();
    Running::from(child).send(Signal::INT).ends().dies_of(Signal::INT);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    job.still_has_old();
}

#[test]
fn a_restore_tells_that_it_tries_again_what_cannot_be_read_as_root() {
    let job = Job::new("retrying-restore", 4 * MIB);
    job.dir.run("-q disk.raw image.qcow2").exits(0);
    fs::rename(job.image(), &job.disk).unwrap();
    let _slow = slow(&job, &[0x20_0000..0x20_8000, 0x28_0000..0x28_8000], 20);
    let arguments = ["restore", "--keep-going", "-j", "1", "damaged.raw", "copy.raw"];

    let shown = Terminal::start(80, job.dir.command(arguments), true)
        .ends()
        .exits(3);

    let mut retried = shown.drawn().filter(|line| line.starts_with(RETRYING));
    assert!(
        retried.any(|line| line.contains(" KiB unreadable so far")),
        "{shown:#?}"
    );
    assert!(
        shown
            .lines
            .iter()
            .all(|line| line.starts_with("mkqcow2: damaged.raw: ") || line.starts_with("copy.raw: ")),
        "{shown:#?}"
    );
}

#[test]
fn two_passes_over_a_damaged_disk_tell_what_is_lost_once_as_root() {
    let job = Job::new("unreadable-two-pass", 4 * MIB);
    let _damaged = damaged(&job, &BAD);

    let run = job
        .dir
        .run("--two-pass --on-read-error=zero damaged.raw -")
        .exits(3);

    let said = run.stderr();
    let told: Vec<_> = said
        .lines()
        .filter(|line| line.contains("unreadable: "))
        .collect();
    assert_eq!(told.len(), BAD.len(), "{said}");
}
