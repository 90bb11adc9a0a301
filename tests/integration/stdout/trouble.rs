//! Streams that end too early, and places that are none for a stream: status 1, and what was written is not taken
//! for an image.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use rustix::process::Signal;

use super::{MIB, shell, some_disk};
use crate::faults::Job;
use crate::support::loops::{Fuse, Held, Loop, Mount, Running, make_ext4};
use crate::support::{Dir, Run, assert_equals, noise};

const INCOMPLETE: &str = "mkqcow2: standard output: is incomplete: what was written is not a usable image\n";

/// Holds what came out to what every receiver can see.
#[track_caller]
fn is_no_image(dir: &Dir, run: &Run) {
    fs::write(dir.join("received.qcow2"), run.bytes()).unwrap();
    assert_ne!(dir.run("verify -q received.qcow2").status(), 0);
    assert_ne!(dir.run("check received.qcow2").status(), 0);
}

#[test]
fn a_receiver_that_has_had_enough_is_a_failure() {
    let dir = Dir::new("stdout-broken");
    some_disk(&dir);
    let mut child = dir
        .command(["disk.raw", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut vec![0; 100_000]).unwrap();
    drop(stdout);

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("mkqcow2: standard output: cannot write at 0x"),
        "{said}"
    );
    assert!(said.ends_with(&format!(": Broken pipe\n{INCOMPLETE}")), "{said}");

    let output = shell(
        &dir,
        "set -o pipefail; $MKQCOW2 disk.raw - | head -c 100000 > head",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::metadata(dir.join("head")).unwrap().len(), 100_000);
}

#[test]
fn a_full_device_is_a_failure_as_root() {
    let dir = Dir::new("stdout-full");
    some_disk(&dir);
    let output = shell(&dir, "$MKQCOW2 disk.raw - > /dev/full");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let advice = "(nothing was written; mkqcow2 -n shows how much space is needed)";
    let expected =
        format!("mkqcow2: standard output: cannot write at 0x0: No space left on device {advice}\n");
    assert_eq!(said, expected);

    let full = Mount::tmpfs(MIB, dir.join("full"));
    let output = shell(&dir, "$MKQCOW2 disk.raw - > full/image.qcow2");
    assert_eq!(output.status.code(), Some(1));
    assert!(fs::metadata(full.join("image.qcow2")).unwrap().len() > 0);
    assert_ne!(dir.run("verify -q full/image.qcow2").status(), 0);
}

#[test]
fn a_limit_on_the_size_of_files_is_a_failure_and_no_death() {
    let dir = Dir::new("stdout-fsize");
    some_disk(&dir);
    let output = shell(&dir, "ulimit -f 1000; $MKQCOW2 disk.raw - > image.qcow2");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("File too large (the filesystem or ulimit -f allows no larger file)\n"),
        "{said}"
    );
    assert!(said.ends_with(INCOMPLETE), "{said}");
}

/// A refusal in one line, before anything is written.
#[track_caller]
fn refused(dir: &Dir, redirected: &str, says: &str) {
    let before = crate::refusals::Listing::of(dir.path());
    let output = shell(dir, &format!("$MKQCOW2 disk.raw - {redirected}"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said, format!("mkqcow2: standard output: {says}\n"));
    assert_eq!(crate::refusals::Listing::of(dir.path()), before);
}

#[test]
fn nothing_is_written_where_it_would_be_lost_or_do_harm_as_root() {
    let dir = Dir::new("stdout-refused");
    some_disk(&dir);
    let closed = "is closed, or is /dev/null opened for reading and writing, which looks the same";
    refused(&dir, ">&-", closed);
    refused(&dir, "1<>/dev/null", closed);
    refused(&dir, ">>disk.raw", "is the source itself (the same file)");
    // What is thrown away knowingly is thrown away.
    let output = shell(&dir, "$MKQCOW2 -q disk.raw - >/dev/null");
    assert!(output.status.success(), "{output:?}");

    let device = Loop::over(&dir.sparse("device.raw", 16 * MIB, &[]));
    let says = "is a block device: give its name as the target, so that it can be checked";
    refused(&dir, &format!(">{}", device.path().display()), says);
}

#[test]
fn a_stream_into_a_file_on_the_source_is_refused_as_root() {
    let dir = Dir::new("stdout-on-source");
    let file = dir.sparse("disk.raw", 16 * MIB, &[]);
    make_ext4(&file);
    let device = Loop::over(&file);
    let path = device.path().display();
    let mount = Mount::new("rw", device.path(), dir.join("mnt"));
    for source in [path.to_string(), "disk.raw".to_owned()] {
        let output = shell(&dir, &format!("$MKQCOW2 --force {source} - > mnt/image.qcow2"));
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        let expected =
            "mkqcow2: standard output: lies on the source: writing it would change what is being read";
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(fs::metadata(mount.join("image.qcow2")).unwrap().len(), 0);
    }
    drop(mount);
    let output = shell(&dir, &format!("$MKQCOW2 {path} - >> disk.raw"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("mkqcow2: standard output: is the source itself ("),
        "{said}"
    );
    assert_eq!(file.metadata().unwrap().len(), 16 * MIB);
}

#[test]
fn a_terminal_gets_no_image() {
    let dir = Dir::new("stdout-terminal");
    some_disk(&dir);
    let run = dir.run_on_terminal("disk.raw -").exits(1);
    assert_eq!(
        run.stdout().trim_end(),
        "mkqcow2: standard output: is a terminal, expected a file or a pipe (redirect it, or name a file)"
    );
}

#[test]
fn a_plan_is_shown_on_any_screen() {
    let dir = Dir::new("stdout-plan");
    some_disk(&dir);
    for (command, status) in [
        ("$MKQCOW2 -n disk.raw - >&-", 0),
        ("$MKQCOW2 -n disk.raw - > plan", 0),
    ] {
        let output = shell(&dir, command);
        assert_eq!(output.status.code(), Some(status));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("standard output: a stream of "), "{said}");
    }
    assert_eq!(
        fs::metadata(dir.join("plan")).unwrap().len(),
        0,
        "whoever reads it expects an image"
    );
}

#[test]
fn a_file_that_would_have_something_in_front_of_the_image_is_refused() {
    let dir = Dir::new("stdout-middle");
    some_disk(&dir);
    fs::write(dir.join("old.qcow2"), "old").unwrap();
    let says = "has 3 bytes in front of the image, which must begin at offset 0 \
                (redirect it to a file of its own, with > and not >>)";
    refused(&dir, ">> old.qcow2", says);
    let output = shell(&dir, "(printf old; $MKQCOW2 disk.raw -) > new.qcow2");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("mkqcow2: standard output: {says}\n")
    );
    assert_eq!(fs::read(dir.join("new.qcow2")).unwrap(), b"old");
}

#[test]
fn a_source_that_shrinks_where_it_was_read_already_leaves_no_image() {
    for (options, is_begun) in [("", true), ("--two-pass -c zstd ", false)] {
        let job = Job::new("stdout-shrinks-behind", 4 * MIB);
        let end = File::options().write(true).open(&job.disk).unwrap();
        end.set_len(40 * MIB).unwrap();
        let held = Held::start(&job.dir, &format!("{options}disk.raw -"));
        // A hole at the end, which nobody reads.
        end.set_len(30 * MIB).unwrap();

        let run = held.let_go().exits(1).says("shrank");

        assert_eq!(run.stderr().contains(INCOMPLETE), is_begun);
        assert_eq!(run.bytes().is_empty(), !is_begun);
        // Nothing but the checksum table is missing.
        fs::write(job.dir.join("received.qcow2"), run.bytes()).unwrap();
        assert_ne!(job.dir.run("verify -q received.qcow2").status(), 0);
    }
}

#[test]
fn a_source_that_shrinks_leaves_no_image() {
    let job = Job::new("stdout-shrinks", 4 * MIB);
    let held = Held::start(&job.dir, "disk.raw -");
    let file = File::options().write(true).open(&job.disk).unwrap();
    file.set_len(3 * MIB).unwrap();

    let run = held
        .let_go()
        .exits(1)
        .says("mkqcow2: disk.raw: ")
        .says(INCOMPLETE);

    assert!(run.stderr().contains("shrank"), "{}", run.stderr());
    assert!(run.bytes().len() > 100_000);
    is_no_image(&job.dir, &run);
}

/// The disk, of which the sector at 2 MiB and a half cannot be read.
fn damaged(job: &Job) -> Fuse {
    let mapfile = job.dir.join("damage.map");
    fs::write(
        &mapfile,
        "0x0 + 1\n0x0 0x280000 +\n0x280000 0x200 -\n0x280200 0x17fe00 +\n",
    )
    .unwrap();
    let mapfile = format!("ddrescue-mapfile={}", mapfile.display());
    let plugin = ["--filter=ddrescue", "file", job.disk.to_str().unwrap(), &mapfile];
    Fuse::disk(job.dir.join("damaged.raw"), &plugin)
}

#[test]
fn an_unreadable_sector_leaves_no_image_unless_it_may_be_zeros_as_root() {
    let job = Job::new("stdout-unreadable", 4 * MIB);
    let _damaged = damaged(&job);
    let run = job.dir.run("damaged.raw -").exits(1);
    assert!(run.bytes().len() > 2 << 20, "the good half was written");
    is_no_image(&job.dir, &run);
    run.says("mkqcow2: damaged.raw: cannot read at 0x280000: Input/output error (pass --on-read-error=zero")
        .says(INCOMPLETE);

    let run = job
        .dir
        .run("--on-read-error=zero damaged.raw -")
        .exits(3)
        .says("mkqcow2: damaged.raw: unreadable: 512 bytes at 0x280000, zeros in the image\n")
        .says("mkqcow2: damaged.raw: warning: 512 bytes of the source could not be read");
    fs::write(job.dir.join("image.qcow2"), run.bytes()).unwrap();
    let file = File::options().write(true).open(&job.disk).unwrap();
    file.write_all_at(&[0; 512], 0x28_0000).unwrap();
    assert_equals(&job.disk, &job.image());
    job.dir.run("verify -q image.qcow2").exits(0);
}

#[test]
fn a_source_that_changes_is_told_when_the_stream_is_complete() {
    let job = Job::new("stdout-changes", 4 * MIB);
    let held = Held::start(&job.dir, "disk.raw -");
    let file = File::options().write(true).open(&job.disk).unwrap();
    file.write_all_at(b"news", 4 * MIB - 4).unwrap();

    let run = held
        .let_go()
        .exits(3)
        .says("mkqcow2: disk.raw: warning: the source changed while it was read (");

    assert!(!run.stderr().contains("incomplete"), "{}", run.stderr());
    fs::write(job.image(), run.bytes()).unwrap();
    assert_equals(&job.disk, &job.image());
}

#[test]
fn a_device_in_use_is_streamed_if_forced_as_root() {
    let dir = Dir::new("stdout-in-use");
    let file = dir.sparse("disk.raw", 16 * MIB, &[]);
    make_ext4(&file);
    let device = Loop::over(&file);
    let _mount = Mount::new("rw", device.path(), dir.join("mnt"));
    let path = device.path().display();
    dir.run(&format!("{path} -"))
        .exits(1)
        .says("mounted read-write on ");

    let run = dir.run(&format!("--force {path} -")).exits(3);

    fs::write(dir.join("image.qcow2"), run.bytes()).unwrap();
    run.says("imaging it anyway");
    dir.run("verify -q image.qcow2").exits(0);
}

#[test]
fn stopped_it_says_that_the_stream_is_incomplete_as_root() {
    let job = Job::new("stdout-stopped", 4 * MIB);
    let rate = ["--filter=rate", "file", job.disk.to_str().unwrap(), "rate=16M"];
    let _slow = Fuse::disk(job.dir.join("slow.raw"), &rate);
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let run = Running::start(&job.dir, "slow.raw -")
            .until_it_writes()
            .send(signal)
            .ends();
        is_no_image(&job.dir, &run);
        run.dies_of(signal).says(&format!(
            "mkqcow2: standard output: stopped by {name}, incomplete\n"
        ));
    }
    let run = Running::start(&job.dir, "slow.raw -")
        .until_it_writes()
        .send(Signal::KILL)
        .ends();
    is_no_image(&job.dir, &run);
}

#[test]
fn the_scratch_file_is_made_before_anything_is_written_as_root() {
    let dir = Dir::new("stdout-scratch");
    // More than two million clusters of 512 bytes, all of them in use, for nothing tells what of a device is free.
    let device = Loop::over(&dir.sparse("disk.raw", 1100 * MIB, &[]));
    let arguments = ["--cluster-size", "512", device.path().to_str().unwrap(), "-"];
    let run = |directory: &str| {
        let output = dir.command(arguments).env("TMPDIR", directory).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let says = "cannot write tables to a scratch file: ";
    let advice = " (set TMPDIR to another directory)\n";
    assert_eq!(
        run("/nowhere"),
        format!("mkqcow2: /nowhere: {says}No such file or directory{advice}")
    );
    fs::write(dir.join("file"), "no directory").unwrap();
    assert_eq!(
        run("file"),
        format!("mkqcow2: file: {says}Not a directory{advice}")
    );
    assert_eq!(
        run("/proc"),
        format!("mkqcow2: /proc: {says}No such file or directory{advice}")
    );

    // A stream without checksums, or one of a few, needs none.
    dir.sparse("small.raw", MIB, &[(5, &noise(1, 5000))]);
    let mut command = dir.command(["-q", "small.raw", "-"]);
    assert!(
        command
            .env("TMPDIR", "/nowhere")
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn large_checksums_go_through_a_scratch_file_without_a_name_as_root() {
    let dir = Dir::new("stdout-scratch-used");
    let device = Loop::over(&dir.sparse("disk.raw", 1100 * MIB, &[(7 * MIB, &noise(1, 3 << 20))]));
    let temporary = Mount::tmpfs(64 * MIB, dir.join("tmp"));
    let script = format!(
        "set -o pipefail; TMPDIR=tmp $MKQCOW2 -q --cluster-size 512 {} - | tail -c 10000000 > tail",
        device.path().display()
    );
    let output = shell(&dir, &script);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_dir(temporary.point()).unwrap().count(), 0);

    let tail = fs::read(dir.join("tail")).unwrap();
    let at = tail.windows(8).position(|bytes| bytes == b"mkqcrc32").unwrap();
    let clusters: u64 = 1100 * 2048;
    let length = 36 + usize::try_from(clusters * 4 + clusters.div_ceil(8192) * 12).unwrap();
    let (table, crc) = tail[at..at + length].split_last_chunk::<4>().unwrap();
    assert_eq!(crc32fast::hash(table).to_be_bytes(), *crc);
    assert_eq!(&tail[at + length..at + length + 8], b"mkqrecrd");
    assert!(tail.len() - at - length < 1024);
}
