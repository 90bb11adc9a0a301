//! What a message tells those who have nothing but it: what is wrong in their words, and no advice that does not help.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;

use crate::damaged::{damage, l2_entry};
use crate::faults::Job;
use crate::refusals::Listing;
use crate::support::loops::{Loop, Running};
use crate::support::{Dir, MKQCOW2, are_same, flip, noise, poke, qemu, root, tool};

const MIB: u64 = 1 << 20;

/// A disk of a mebibyte without a hole, and its image.
fn imaged(test: &str) -> Dir {
    let dir = Dir::new(test);
    fs::write(dir.join("disk.raw"), noise(1, 1 << 20)).unwrap();
    dir.image("");
    dir
}

/// Holds a run to a refusal with exactly these words, and to a directory in which nothing changes.
#[track_caller]
fn refused(dir: &Dir, arguments: &str, words: &str) {
    let before = Listing::of(dir.path());
    let run = dir.run(arguments);
    assert_eq!(
        (run.status(), run.stderr()),
        (1, format!("mkqcow2: {words}\n")),
        "{arguments}"
    );
    assert_eq!(Listing::of(dir.path()), before, "{arguments}");
}

#[test]
fn a_file_that_is_no_image_is_called_so() {
    let dir = imaged("messages-no-image");
    fs::write(dir.join("notes.txt"), "milk").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    for file in ["disk.raw", "notes.txt", "empty"] {
        for verb in ["verify", "check", "info"] {
            refused(
                &dir,
                &format!("{verb} {file}"),
                &format!("{file}: not a qcow2 image"),
            );
        }
        let words = format!("{file}: not a qcow2 image");
        refused(&dir, &format!("restore {file} new.raw"), &words);
        let words = format!("{words} (TARGET is one: are the arguments the wrong way round?)");
        refused(&dir, &format!("restore {file} disk.qcow2"), &words);
        refused(&dir, &format!("restore -n {file} disk.qcow2"), &words);
    }
    fs::write(dir.join("disk.vmdk"), b"KDMV and more").unwrap();
    let words = "disk.vmdk: not a qcow2 image: it begins like vmdk, which mkqcow2 cannot read";
    refused(&dir, "verify disk.vmdk", words);
}

#[test]
fn an_image_of_which_only_the_magic_is_damaged_is_a_damaged_image() {
    let dir = imaged("messages-magic");
    poke(&dir.join("disk.qcow2"), 0, b"XX");
    dir.run("verify disk.qcow2")
        .exits(2)
        .says("header at 0x0: magic is 0x585849fb, expected 0x514649fb");
}

#[test]
fn a_plan_that_cannot_be_carried_out_fails_and_a_file_grows_as_root() {
    let dir = imaged("messages-plan");
    let small = Loop::over(&dir.sparse("small.raw", MIB / 2, &[]));
    let device = small.path().display();
    let words = format!(
        "{device}: too small: 512.00 KiB, the disk has 1.00 MiB, 524288 bytes more, of which 524288 are in use, the \
         last one in front of 0x100000"
    );
    refused(&dir, &format!("restore -n disk.qcow2 {device}"), &words);
    refused(&dir, &format!("restore disk.qcow2 {device}"), &words);

    dir.sparse("short.raw", MIB / 2, &[]);
    dir.run("restore -n disk.qcow2 short.raw").exits(0);
    dir.run("restore disk.qcow2 short.raw").exits(0);
    assert!(are_same(&dir.join("short.raw"), &dir.join("disk.raw")));
}

#[test]
fn a_mistyped_device_is_no_such_device_for_any_user_as_root() {
    root::needed();
    let job = Job::new("messages-typo", MIB);
    job.dir.run("disk.raw image.qcow2").exits(0);
    tool("chmod", ["0644", job.disk.to_str().unwrap()]);
    tool("chmod", ["0644", job.dir.join("image.qcow2").to_str().unwrap()]);
    let as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for arguments in ["restore image.qcow2 /dev/sdzz9", "disk.raw /dev/sdzz9"] {
        Running::of(job.under(&as_other, arguments))
            .ends()
            .exits(1)
            .says("mkqcow2: /dev/sdzz9: no such device, and a file of this name would be in memory");
    }
}

#[test]
fn another_run_that_has_a_device_is_named_and_not_to_be_overruled_as_root() {
    let dir = imaged("messages-other-run");
    let disk = Loop::over(&dir.sparse("other.raw", 8 * MIB, &[(0, &noise(2, 8 << 20))]));
    let device = disk.path().display();
    let mut other = Command::new(MKQCOW2)
        .args(["-q", disk.path().to_str().unwrap(), "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It writes once it has the device, and waits, for nobody reads on.
    let mut pipe = other.stdout.take().unwrap();
    pipe.read_exact(&mut [0]).unwrap();

    let words = format!(
        "{device}: in use by another run of mkqcow2, process {} (wait until it is done)",
        other.id()
    );
    refused(&dir, &format!("restore disk.qcow2 {device}"), &words);
    refused(&dir, &format!("{device} new.qcow2"), &words);
    dir.run(&format!("compare {device} disk.raw"))
        .exits(2)
        .says(&words);

    std::io::copy(&mut pipe, &mut std::io::sink()).unwrap();
    assert!(other.wait().unwrap().success());
}

#[test]
fn what_was_asked_for_is_no_advice() {
    let dir = imaged("messages-keep-going");
    // The L1 table, and the header.
    for (at, bytes, structure) in [(0x1_0000, [0xff; 8], "L1 table"), (20, [0xff; 8], "header")] {
        let image = dir.join("bad.qcow2");
        fs::copy(dir.join("disk.qcow2"), &image).unwrap();
        poke(&image, at, &bytes);
        for options in ["--keep-going", "-n --keep-going"] {
            let run = dir.run(&format!("restore {options} bad.qcow2 new.raw"));
            assert!(
                !run.stderr().contains("keep-going"),
                "{structure}: {}",
                run.stderr()
            );
        }
    }
}

#[test]
fn a_pipe_is_named_and_what_to_give_instead() {
    let dir = imaged("messages-pipe");
    rustix::fs::mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for command in ["disk.raw", "restore disk.qcow2"] {
        // Standard output of a run is a pipe here.
        let words = "/dev/stdout: is a pipe: give - instead";
        refused(&dir, &format!("{command} /dev/stdout"), words);
        let words = "pipe: is a pipe (give - and redirect standard output to it)";
        refused(&dir, &format!("{command} pipe"), words);
    }
}

#[test]
fn a_source_whose_disk_is_encoded_is_imaged_as_it_is_with_a_warning() {
    let dir = Dir::new("messages-encoded");
    let disk = noise(1, 1 << 16);
    let begins: [(&[u8], &str); 6] = [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x3a\xff\x26\xed", "an Android sparse image"),
        (b"partclone-image", "an image of partclone"),
    ];
    for (begin, name) in begins {
        dir.sparse("disk", 1 << 16, &[(0, &disk), (0, begin)]);
        let words = format!("begins like {name}: its bytes are imaged as they are, not the disk in it");
        let expected = format!("mkqcow2: disk: warning: {words}\n");
        for options in ["-n", "-q"] {
            let run = dir.run(&format!("{options} disk disk.qcow2")).exits(0);
            assert_eq!(run.stderr(), expected);
        }
        dir.run("compare disk disk.qcow2").exits(0);
        dir.run("-q --source-format raw disk disk.qcow2")
            .exits(0)
            .in_silence();
    }
    // What is there elsewhere, or in part, is none of them.
    dir.sparse("disk", 1 << 16, &[(1, b"\x1f\x8b\x08\0")]);
    dir.run("-q disk disk.qcow2").exits(0).in_silence();
}

#[test]
fn an_image_that_was_resized_is_no_damaged_one() {
    let dir = imaged("messages-resized");
    let image = dir.join("disk.qcow2");
    tool("qemu-img", ["resize", "-q", image.to_str().unwrap(), "+1M"]);
    dir.run("verify disk.qcow2")
        .exits(0)
        .says("warning: resized by another program since it was made: its checksums no longer count\n")
        .prints("no checksums to compare with, the rest is all right");
    let report = dir.run("verify --json disk.qcow2").exits(0).json();
    assert_eq!(report["findings"], json!([]));
}

#[test]
fn files_behind_a_source_are_named_by_what_they_are_to_which_image() {
    let dir = imaged("messages-chain");
    let create = "create -q -f qcow2 -F qcow2 -b disk.qcow2 mid.qcow2";
    qemu::img(&dir, create);
    qemu::img(&dir, "create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2");
    let source = "--follow --source-format qcow2 top.qcow2";
    refused(
        &dir,
        &format!("{source} mid.qcow2"),
        "mid.qcow2: is the backing file of top.qcow2",
    );
    refused(
        &dir,
        &format!("{source} disk.qcow2"),
        "disk.qcow2: is the backing file of mid.qcow2",
    );
    refused(
        &dir,
        &format!("{source} top.qcow2"),
        "top.qcow2: is the source itself (the same file)",
    );

    fs::rename(dir.join("disk.qcow2"), dir.join("other.qcow2")).unwrap();
    let words = "disk.qcow2: no such file, but mid.qcow2 names it as its backing file";
    refused(&dir, &format!("{source} new.qcow2"), words);
    refused(
        &dir,
        "restore --follow mid.qcow2 new.raw",
        &format!("{words} (pass --backing PATH)"),
    );
    dir.run("restore --backing other.qcow2 mid.qcow2 new.raw")
        .exits(0);
    dir.run("restore --backing nothing mid.qcow2 new.raw")
        .exits(1)
        .says("mkqcow2: nothing: cannot open: No such file or directory\n");
}

#[test]
fn what_qemu_reaches_by_a_protocol_is_no_file_name() {
    let dir = imaged("messages-protocol");
    for name in ["nbd:localhost:10809", "json:{}", "fat:/tmp", "nbd://host/name"] {
        qemu::img(&dir, "create -q -f qcow2 top.qcow2 1M");
        qemu::img(&dir, &format!("rebase -u -f qcow2 -F raw -b {name} top.qcow2"));
        let words = format!("top.qcow2: needs {name:?}, which is not a plain file name");
        refused(&dir, "restore --follow top.qcow2 new.raw", &words);
    }
    fs::create_dir(dir.join("a")).unwrap();
    fs::copy(dir.join("disk.qcow2"), dir.join("a/b:c")).unwrap();
    for name in ["a/b:c", "file:a/b:c"] {
        qemu::img(&dir, "create -q -f qcow2 top.qcow2 1M");
        qemu::img(&dir, &format!("rebase -u -f qcow2 -F qcow2 -b {name} top.qcow2"));
        dir.run("restore --follow top.qcow2 new.raw").exits(0);
    }
}

#[test]
fn a_link_that_dangles_tells_where_it_leads() {
    let dir = imaged("messages-link");
    symlink("nowhere/disk.qcow2", dir.join("link")).unwrap();
    let words = "link: is a symbolic link to nowhere/disk.qcow2, and there is no such directory";
    refused(&dir, "disk.raw link", words);
    refused(&dir, "restore disk.qcow2 link", words);
}

#[test]
fn a_stream_that_broke_off_is_incomplete() {
    let dir = imaged("messages-broken");
    fs::write(dir.join("disk.raw"), noise(1, 4 << 20)).unwrap();
    dir.image("");
    let mut run = dir.command(["restore", "disk.qcow2", "-"]);
    run.stdout(Stdio::piped())
        .stderr(File::create(dir.join("said")).unwrap());
    let mut run = run.spawn().unwrap();
    let mut pipe = run.stdout.take().unwrap();
    pipe.read_exact(&mut [0]).unwrap();
    drop(pipe);
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let said = fs::read_to_string(dir.join("said")).unwrap();
    let words = "mkqcow2: standard output: is incomplete: only a part of the disk was written\n";
    assert!(said.ends_with(words), "{said}");
}

/// A disk with two partitions, of which the second has a label and an ext4, and its image.
fn partitioned(test: &str) -> Dir {
    let dir = Dir::new(test);
    let disk = dir.sparse("disk.raw", 32 * MIB, &[]);
    let disk = disk.to_str().unwrap();
    let parts = ["--new=1:2048:4095", "--new=2:4096:45055", "--change-name=2:root"];
    tool("sgdisk", parts.into_iter().chain([disk]));
    tool("mkfs.ext4", ["-q", "-F", "-E", "offset=2097152", disk, "20M"]);
    poke(dir.join("disk.raw").as_path(), MIB, &noise(1, 1 << 16));
    dir.image("");
    dir
}

#[test]
fn damage_is_told_with_the_image_the_range_and_the_partition() {
    let dir = partitioned("messages-places");
    let image = dir.join("disk.qcow2");
    for (cluster, place, partition) in [
        (0, "outside of all partitions", json!(null)),
        (16, "partition 1", json!(1)),
        (34, "partition 2 \"root\", ext4", json!(2)),
    ] {
        damage(&image, cluster);
        let at = cluster * 0x1_0000;
        let words = format!("disk.qcow2: 64.00 KiB damaged at {at:#x} of the disk ({place}): ");
        dir.run("verify disk.qcow2").exits(2).prints(&words);
        dir.run("restore disk.qcow2 copy.raw").exits(1).says(&words);
        dir.run("restore --keep-going disk.qcow2 copy.raw")
            .exits(3)
            .says(&words);
        let report = dir.run("verify --json disk.qcow2").exits(2).json();
        assert_eq!(report["findings"][0]["region"]["partition"], partition);
        let report = dir
            .run("restore --json --keep-going disk.qcow2 copy.raw")
            .exits(3);
        assert_eq!(report.json()["damaged"][0]["region"]["partition"], partition);
        damage(&image, cluster);
    }
    dir.run("verify disk.qcow2").exits(0);

    // Reserved bits of an entry.
    let (at, _) = l2_entry(&image, 34);
    flip(&image, at + 7, 2);
    // Without what that holds, nobody knows which of the three it is.
    let place = ", in partition 2 \"root\", ext2/3/4 [l2-entry]\n";
    dir.run("check disk.qcow2")
        .exits(2)
        .prints("disk.qcow2: error: L2 table at ")
        .prints(place);
    let report = dir.run("check --json disk.qcow2").exits(2).json();
    assert_eq!(report["findings"][0]["region"]["partition-label"], "root");
    let words = "disk.qcow2: 64.00 KiB lost to damage at 0x220000 of the disk (partition 2 \"root\", ext2/3/4): L2 table at ";
    dir.run("verify disk.qcow2").exits(2).prints(words);
}
