//! Sources that cannot be read: the run stops, or what is lost is said to the byte.

mod meanwhile;
mod signatures;

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::faults::Job;
use crate::naive;
use crate::support::loops::{Fuse, Held, Loop, Running};
use crate::support::{Run, assert_equals};

const MIB: u64 = 1 << 20;

/// The disk behind a server that cannot read some of it.
pub fn damaged(job: &Job, bad: &[Range<u64>]) -> Fuse {
    damaged_behind(job, bad, &[])
}

/// The same behind other filters of nbdkit, with their parameters.
pub fn damaged_behind(job: &Job, bad: &[Range<u64>], filters: &[&str]) -> Fuse {
    let mut map = vec!["0x0 + 1".to_owned()];
    let mut at = 0;
    for range in bad {
        let (good, length) = (range.start - at, range.end - range.start);
        if good > 0 {
            map.push(format!("{at:#x} {good:#x} +"));
        }
        map.push(format!("{:#x} {length:#x} -", range.start));
        at = range.end;
    }
    let size = job.disk.metadata().unwrap().len();
    map.push(format!("{at:#x} {:#x} +\n", size - at));
    let mapfile = job.dir.join("damage.map");
    fs::write(&mapfile, map.join("\n")).unwrap();
    let mapfile = format!("ddrescue-mapfile={}", mapfile.display());
    let (options, parameters): (Vec<_>, Vec<_>) = filters.iter().partition(|word| word.starts_with("--"));
    let plugin = ["--filter=ddrescue", "file", job.disk.to_str().unwrap(), &mapfile];
    let plugin = [options, plugin.to_vec(), parameters].concat();
    Fuse::disk(job.dir.join("damaged.raw"), &plugin)
}

/// What the disk is but for the ranges that are zeros.
pub fn disk_without(job: &Job, bad: &[Range<u64>]) -> PathBuf {
    let expected = job.dir.join("expected.raw");
    fs::copy(&job.disk, &expected).unwrap();
    let file = File::options().write(true).open(&expected).unwrap();
    for range in bad {
        let length = (range.end - range.start).try_into().unwrap();
        file.write_all_at(&vec![0; length], range.start).unwrap();
    }
    expected
}

/// A sector in the middle of a page, one at the begin of the next batch, a pair at the end of one, the last.
pub const BAD: [Range<u64>; 4] = [
    0x10_0400..0x10_0600,
    0x14_0000..0x14_0200,
    0x17_fc00..0x18_0000,
    0x3f_fe00..0x40_0000,
];

#[track_caller]
pub fn unreadable(run: &Run) -> Vec<Range<u64>> {
    let of = |range: &serde_json::Value| {
        let start = range["start"].as_u64().unwrap();
        start..start + range["length"].as_u64().unwrap()
    };
    run.json()["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

#[test]
fn an_unreadable_sector_stops_the_run_with_its_offset_as_root() {
    let job = Job::new("unreadable-stop", 4 * MIB).with_old();
    let _damaged = damaged(&job, &BAD[..1]);

    // Read through the cache, all of its page fails.
    job.dir
        .run("damaged.raw image.qcow2")
        .exits(1)
        .says("mkqcow2: damaged.raw: cannot read at 0x100000: Input/output error")
        .says("(pass --on-read-error=zero to go on, with zeros for what cannot be read)\n");

    job.still_has_old();
}

#[test]
fn unreadable_sectors_become_zeros_and_are_listed_and_nothing_else_is_lost_as_root() {
    let job = Job::new("unreadable-zero", 4 * MIB).with_old();
    let _damaged = damaged(&job, &BAD);

    let run = job
        .dir
        .run("--json --on-read-error=zero damaged.raw image.qcow2")
        .exits(3);

    assert_eq!(unreadable(&run), BAD);
    // The last sector is where a RAID would be told.
    assert_eq!(
        run.json()["warnings"],
        json!([
            "signature at 0x3ffe00 cannot be read: Input/output error: copied whole",
            "2560 bytes of the source could not be read and are zeros in the image"
        ])
    );
    run.says(
        "mkqcow2: damaged.raw: unreadable: 512 bytes at 0x100400, zeros in the image\n\
         mkqcow2: damaged.raw: unreadable: 512 bytes at 0x140000, zeros in the image\n\
         mkqcow2: damaged.raw: unreadable: 1024 bytes at 0x17fc00, zeros in the image\n\
         mkqcow2: damaged.raw: unreadable: 512 bytes at 0x3ffe00, zeros in the image\n\
         mkqcow2: damaged.raw: warning: signature at 0x3ffe00 cannot be read: Input/output error: copied whole\n\
         mkqcow2: damaged.raw: warning: 2560 bytes of the source could not be read",
    );
    assert_equals(&disk_without(&job, &BAD), &job.image());
}

#[test]
fn what_could_not_be_read_is_told_by_everything_that_reads_the_image_as_root() {
    for options in ["", "--compat 0.10", "-c zstd"] {
        let job = Job::new(&format!("unreadable-recorded{}", options.len()), 4 * MIB);
        let damaged = damaged(&job, &BAD);
        job.dir
            .run(&format!(
                "-q --on-read-error=zero {options} damaged.raw image.qcow2"
            ))
            .exits(3);
        drop(damaged);
        assert_eq!(
            naive::Image::read(&job.image()).record().unreadable,
            BAD,
            "{options}"
        );

        assert_tells_what_was_unreadable(&job);

        // A part of it tells of what is in that.
        let run = "--json --source-format qcow2 --offset 1M --length 1M image.qcow2 part.qcow2";
        let run = job.dir.run(run).exits(3);
        run.json()["unreadable-before"][0]["start"]
            .as_u64()
            .filter(|at| *at == 0x400)
            .unwrap();
        let part = naive::Image::read(&job.dir.join("part.qcow2"));
        assert_eq!(
            part.record().unreadable,
            [0x400..0x600, 0x4_0000..0x4_0200, 0x7_fc00..0x8_0000]
        );
        // And so does an image of the image.
        job.dir
            .run("-q --source-format qcow2 image.qcow2 again.qcow2")
            .exits(3)
            .says("image.qcow2: warning: 2560 bytes of the disk could not be read when the source was made");
        fs::rename(job.dir.join("again.qcow2"), job.image()).unwrap();
        assert_tells_what_was_unreadable(&job);
    }
}

#[track_caller]
fn assert_tells_what_was_unreadable(job: &Job) {
    let at = "512 bytes at 0x100400";
    job.dir.run("verify image.qcow2").exits(0).prints(&format!(
        "unreadable when the image was made: {at} of the disk, zeros in the image\n"
    ));
    job.dir
        .run("info image.qcow2")
        .exits(0)
        .prints(&format!("unreadable         {at} when it was made\n"));
    for verb in ["verify --json", "info --json"] {
        let json = job.dir.run(&format!("{verb} image.qcow2")).exits(0).json();
        let listed = json
            .pointer("/record/unreadable")
            .unwrap_or(&json["unreadable-before"]);
        assert_eq!(listed[0], json!({"start": 0x10_0400, "length": 512}), "{verb}");
        assert_eq!(listed.as_array().unwrap().len(), BAD.len(), "{verb}");
    }
    let warning = "warning: 2560 bytes of the disk could not be read when the image was made, and are zeros";
    job.dir
        .run("restore -n image.qcow2 copy.raw")
        .exits(0)
        .says(warning);
    job.dir
        .run("restore image.qcow2 copy.raw")
        .exits(3)
        .says(warning)
        .says(&format!(
            "unreadable when the image was made: {at} of the disk, zeros in the target\n"
        ));
}

#[test]
fn a_stream_records_what_could_not_be_read_too_as_root() {
    let job = Job::new("unreadable-recorded-stream", 4 * MIB);
    let damaged = damaged(&job, &BAD);
    let run = job.dir.run("-q --on-read-error=zero damaged.raw -").exits(3);
    drop(damaged);
    fs::write(job.image(), run.bytes()).unwrap();
    assert_eq!(naive::Image::read_stream(&job.image()).record().unreadable, BAD);
    assert_tells_what_was_unreadable(&job);
}

#[test]
fn unreadable_sectors_of_a_device_are_zeros_and_nothing_else_is_lost_as_root() {
    let job = Job::new("unreadable-device", 4 * MIB).with_old();
    let damaged = damaged(&job, &BAD);
    let disk = Loop::direct(damaged.path());

    let command = format!(
        "--json --on-read-error=zero {} image.qcow2",
        disk.path().display()
    );
    let run = job.dir.run(&command).exits(3);

    assert_eq!(unreadable(&run), BAD);
    assert_equals(&disk_without(&job, &BAD), &job.image());
}

#[test]
fn a_device_that_fails_by_the_page_loses_those_pages_and_nothing_else_as_root() {
    let job = Job::new("unreadable-pages", 4 * MIB).with_old();
    let damaged = damaged(&job, &BAD);
    // Such a loop device reads its file through the cache of the filesystem.
    let disk = Loop::over(damaged.path());

    let command = format!(
        "--json --on-read-error=zero {} image.qcow2",
        disk.path().display()
    );
    let run = job.dir.run(&command).exits(3);

    let listed = unreadable(&run);
    let pages = BAD.map(|bad| bad.start / 4096 * 4096..bad.end.next_multiple_of(4096));
    let is_within = |inner: &Range<u64>, outer: &[Range<u64>]| {
        outer
            .iter()
            .any(|outer| outer.start <= inner.start && inner.end <= outer.end)
    };
    assert!(BAD.iter().all(|bad| is_within(bad, &listed)), "{listed:x?}");
    assert!(listed.iter().all(|range| is_within(range, &pages)), "{listed:x?}");
    assert_equals(&disk_without(&job, &listed), &job.image());
}

#[test]
fn unreadable_sectors_of_a_part_are_listed_where_they_lie_in_the_source_as_root() {
    let job = Job::new("unreadable-part", 4 * MIB);
    let _damaged = damaged(&job, &BAD);

    let part = "--offset 513K --length 1M";
    let run = job
        .dir
        .run(&format!(
            "--json --on-read-error=zero {part} damaged.raw image.qcow2"
        ))
        .exits(3);

    assert_eq!(unreadable(&run), BAD[..3]);
    run.says("damaged.raw: unreadable: 512 bytes at 0x100400, zeros in the image");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_not_imaged() {
    let job = Job::new("shrinks", 4 * MIB).with_old();
    for options in ["", "--on-read-error=zero"] {
        let file = File::options().write(true).open(&job.disk).unwrap();
        file.set_len(4 * MIB).unwrap();
        let run = Held::start(&job.dir, &format!("{options} disk.raw image.qcow2"));

        file.set_len(MIB + 100).unwrap();

        run.let_go()
            .exits(1)
            .says("mkqcow2: disk.raw: the data ends at 0x100064, expected 0x400000: the source shrank");
        job.still_has_old();
    }
}

#[test]
fn a_file_that_shrinks_where_it_is_a_hole_is_not_imaged_either() {
    let job = Job::new("shrinks-hole", MIB).with_old();
    let file = File::options().write(true).open(&job.disk).unwrap();
    file.set_len(64 * MIB).unwrap();
    let run = Held::start(&job.dir, "disk.raw image.qcow2");

    file.set_len(32 * MIB).unwrap();

    run.let_go()
        .exits(1)
        .says("disk.raw: the data ends at 0x2000000, expected 0x4000000: the source shrank");
    job.still_has_old();
}

#[test]
fn sectors_are_read_again_from_the_same_file_whatever_its_name_is_by_then_as_root() {
    let job = Job::new("unreadable-renamed", 4 * MIB);
    let _damaged = damaged(&job, &BAD);
    job.dir.sparse("other.raw", 4 * MIB, &[(0, &vec![7; 4 << 20])]);
    std::os::unix::fs::symlink("damaged.raw", job.dir.join("link.raw")).unwrap();
    let run = Held::start(&job.dir, "--on-read-error=zero link.raw image.qcow2");

    fs::remove_file(job.dir.join("link.raw")).unwrap();
    std::os::unix::fs::symlink("other.raw", job.dir.join("link.raw")).unwrap();

    run.let_go().exits(3);
    assert_equals(&disk_without(&job, &BAD), &job.image());
}

#[test]
fn waiting_for_a_disk_that_does_not_answer_can_be_interrupted_as_root() {
    let job = Job::new("hung", MIB).with_old();
    let plugin = ["--filter=delay", "file", job.disk.to_str().unwrap(), "rdelay=600"];
    let _hung = Fuse::disk(job.dir.join("hung.raw"), &plugin);
    let run = Running::start(&job.dir, "hung.raw image.qcow2");
    sleep(Duration::from_millis(300));
    let begun = Instant::now();

    run.send(Signal::INT).ends().dies_of(Signal::INT);

    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    job.still_has_old();
}
