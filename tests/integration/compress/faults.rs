//! Whatever goes wrong while clusters are compressed: the image is the old one or the new one, and nothing else is
//! left.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::process::Signal;

use super::{MIB, text};
use crate::faults::{Job, OLD, stopped_at_20_moments};
use crate::naive;
use crate::support::loops::{Fuse, Held, Mount, Running};
use crate::support::{Dir, assert_equals, noise};
use crate::unreadable::{BAD, damaged, disk_without, unreadable};

/// A job whose disk is text and noise in turn, and an old image.
fn job(test: &str, size: u64) -> Job {
    let dir = Dir::new(test);
    let piece = |number: u64| {
        let noise = noise(number, 100 << 10);
        [text(number % 7, 156 << 10), noise].concat()
    };
    let bytes: Vec<u8> = (0..size.div_ceil(256 << 10)).flat_map(piece).collect();
    let disk = dir.sparse("disk.raw", size, &[(0, &bytes[..size as usize])]);
    Job { dir, disk }.with_old()
}

#[test]
fn killed_while_it_compresses_it_leaves_the_old_image_or_the_new_one() {
    let job = job("compress-killed", 8 * MIB);
    let killed = stopped_at_20_moments(&job, "-c zstd --dedupe", Some(OLD), Signal::KILL);
    assert!(killed > 5, "{killed} of 20 were killed in time");
}

#[test]
fn terminated_while_it_compresses_it_says_what_it_left() {
    let job = job("compress-terminated", 4 * MIB);
    stopped_at_20_moments(&job, "-c zlib:1", Some(OLD), Signal::TERM);
}

#[test]
fn stopped_while_it_compresses_it_leaves_the_old_image_as_root() {
    let job = job("compress-stopped", 4 * MIB);
    let _slow = job.slow();
    for (signal, says) in [
        (Signal::KILL, ""),
        (
            Signal::TERM,
            "mkqcow2: image.qcow2: stopped by SIGTERM, not written\n",
        ),
    ] {
        Running::start(&job.dir, "-c zlib:9 --dedupe slow.raw image.qcow2")
            .until_it_writes()
            .send(signal)
            .ends()
            .dies_of(signal)
            .says(says);
        job.still_has_old();
    }
}

#[test]
fn a_source_that_shrinks_while_it_is_compressed_leaves_the_old_image() {
    let job = job("compress-shrinks", 8 * MIB);
    let run = Held::start(&job.dir, "-c zstd --dedupe disk.raw image.qcow2");
    let disk = File::options().write(true).open(&job.disk).unwrap();
    disk.set_len(5 * MIB).unwrap();

    run.let_go().exits(1).says("mkqcow2: disk.raw: ");

    job.still_has_old();
}

#[test]
fn what_was_written_is_read_back_on_a_filesystem_without_unnamed_files_as_root() {
    let job = job("compress-named", 4 * MIB);
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    let _view = Fuse::passthrough(&real, job.dir.join("view"));

    let report = job
        .dir
        .run("--json -c zstd --dedupe --cluster-size 4K disk.raw view/image.qcow2")
        .exits(0)
        .json();

    let image = naive::Image::read(&real.join("image.qcow2"));
    let shared = image.compressed().count() - image.streams().count();
    assert!(shared > 0);
    assert_eq!(report["shared-clusters"], shared);
    assert_equals(&job.disk, &real.join("image.qcow2"));
}

#[test]
fn a_filesystem_that_fills_up_with_streams_keeps_the_old_image_as_root() {
    let job = job("compress-full", 4 * MIB);
    for options in [
        "-c zstd --cluster-size 4K",
        "-c zlib:1 --dedupe --cluster-size 4K",
    ] {
        job.dir
            .run(&format!("-q --no-sync {options} disk.raw whole.qcow2"))
            .exits(0);
        let needed = fs::metadata(job.dir.join("whole.qcow2")).unwrap().len();
        // The last one lacks the page that the old image takes.
        for size in [32 << 10, 700 << 10, needed / 2, needed - (100 << 10), needed] {
            let full = Mount::tmpfs(size, job.dir.join("full"));
            fs::write(full.join("image.qcow2"), OLD).unwrap();
            let free = || rustix::fs::statvfs(full.point()).unwrap().f_bfree;
            let before = free();

            job.dir
                .run(&format!("{options} disk.raw full/image.qcow2"))
                .exits(1)
                .says("mkqcow2: full/image.qcow2: cannot write at 0x")
                .says("No space left on device")
                .says("(nothing was changed; mkqcow2 -n shows how much space is needed)\n");

            assert_eq!(free(), before, "{size}");
            assert!(fs::read(full.join("image.qcow2")).unwrap() == OLD);
        }
        let just_enough = Mount::tmpfs(needed + 4096, job.dir.join("full"));
        fs::write(just_enough.join("image.qcow2"), OLD).unwrap();
        job.dir
            .run(&format!("{options} disk.raw full/image.qcow2"))
            .exits(0);
        assert_equals(&job.disk, &just_enough.join("image.qcow2"));
    }
}

#[test]
fn a_limit_on_the_size_of_files_stops_compressed_images_too() {
    let job = job("compress-fsize", 4 * MIB);

    let limited = job.under(&["prlimit", "--fsize=1000000"], "-c zstd disk.raw image.qcow2");
    Running::of(limited)
        .ends()
        .exits(1)
        .says("mkqcow2: image.qcow2: cannot write at 0x")
        .says("File too large");

    job.still_has_old();
}

#[test]
fn unreadable_sectors_are_zeros_in_compressed_clusters_too_as_root() {
    let job = job("compress-unreadable", 4 * MIB);
    let _damaged = damaged(&job, &BAD);
    job.dir
        .run("-c zstd damaged.raw image.qcow2")
        .exits(1)
        .says("mkqcow2: damaged.raw: cannot read at 0x100000: Input/output error");
    job.still_has_old();

    let expected = disk_without(&job, &BAD);
    for options in ["-c zstd", "-c zlib --cluster-size 4K --dedupe"] {
        let run = job
            .dir
            .run(&format!(
                "--json --on-read-error=zero {options} damaged.raw image.qcow2"
            ))
            .exits(3);

        assert_eq!(unreadable(&run), BAD);
        assert_equals(&expected, &job.image());
        assert!(naive::Image::read(&job.image()).compressed().count() > 0);
        job.dir.run("compare -q expected.raw image.qcow2").exits(0);
    }
}

#[test]
fn memory_is_what_the_manual_says() {
    let job = job("compress-memory", 32 * MIB);
    // Behind that, something in each of more L2 tables than are kept in memory.
    let disk = File::options().write(true).open(&job.disk).unwrap();
    for table in 1..520 {
        disk.write_all_at(&text(table, 4096), table << 29).unwrap();
    }
    for options in ["-c zstd", "-c zstd -j 8", "-c zlib -j 8"] {
        let arguments = format!("-q --no-sync {options} disk.raw image.qcow2");
        let limited = job.under(&["prlimit", "--data=201326592", "--core=0"], &arguments);
        Running::of(limited).ends().exits(0);
        assert_equals(&job.disk, &job.image());
    }
}
