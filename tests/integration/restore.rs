//! Disks that come back: from images of any kind, to files, devices and pipes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::disk::Disk;
use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dir, are_same, noise, qemu, tool};

const MIB: u64 = 1 << 20;

/// Data and zeros, aligned and not, side by side and far apart.
fn disk() -> Disk {
    Disk::hole(40 * MIB)
        .data(0..700)
        .data(65_536..400_000)
        .zeros(MIB..2 * MIB)
        .data(5 * MIB - 3..9 * MIB + 5)
        .bytes(7 * MIB, vec![0; 300_000])
        .data(40 * MIB - 1..40 * MIB)
}

/// A directory with a disk and its image.
pub fn imaged(test: &str, disk: &Disk) -> Dir {
    let dir = Dir::new(test);
    disk.file(&dir, "disk.raw");
    dir.run("-q --no-sync disk.raw image.qcow2").exits(0);
    dir
}

#[track_caller]
pub fn same(a: &Path, b: &Path) {
    assert!(are_same(a, b), "{}", b.display());
}

/// What qemu-img makes of an image.
fn by_qemu(dir: &Dir, image: &str) -> PathBuf {
    qemu::img(dir, &format!("convert -O raw {image} by-qemu.raw"));
    dir.join("by-qemu.raw")
}

/// Runs another program in the directory; words are separated by white space.
fn at(dir: &Dir, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = std::process::Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

fn blocks(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

/// A device over a file that is full of old data.
fn stale(dir: &Dir, size: u64) -> (PathBuf, Loop) {
    let file = dir.join("stale.raw");
    fs::write(&file, vec![0xff; size.try_into().unwrap()]).unwrap();
    let device = Loop::over(&file);
    (file, device)
}

#[test]
fn a_disk_comes_back_as_it_was() {
    for (number, disk) in [
        disk(),
        Disk::hole(512),
        Disk::hole(3 * MIB),
        Disk::hole(MIB).data(0..MIB),
        Disk::hole(3 * MIB + 512).data(MIB + 1..3 * MIB + 512),
    ]
    .iter()
    .enumerate()
    {
        let dir = Dir::new(&format!("restore-{number}"));
        let raw = disk.file(&dir, "disk.raw");
        for format in ["", "--cluster-size 512", "--cluster-size 2M", "--compat 0.10"] {
            dir.run(&format!("-q --no-sync {format} disk.raw image.qcow2"))
                .exits(0);
            for options in [
                "",
                "-j 1",
                "-j 7 --verify",
                "--no-sync",
                "--used-only",
                "--keep-going",
            ] {
                let run = dir.run(&format!("restore {options} image.qcow2 copy.raw"));
                assert_eq!(run.exits(0).stderr(), "");
                same(&raw, &dir.join("copy.raw"));
            }
        }
        assert_eq!(dir.names(), ["copy.raw", "disk.raw", "image.qcow2"]);
    }
}

#[test]
fn holes_and_zeros_take_no_room() {
    let dir = imaged("restore-sparse", &disk());

    dir.run("restore image.qcow2 copy.raw").exits(0);

    // What is read as data, and a page at the end.
    assert!(
        blocks(&dir.join("copy.raw")) <= 5 * MIB,
        "{}",
        blocks(&dir.join("copy.raw"))
    );
}

#[test]
fn images_of_qemu_img_come_back_as_it_reads_them() {
    let dir = Dir::new("restore-qemu");
    disk().file(&dir, "disk.raw");
    fs::write(dir.join("text.raw"), "all work and no play ".repeat(200_000)).unwrap();
    for source in ["disk.raw", "text.raw"] {
        for options in [
            "",
            "-c",
            "-c -o compression_type=zstd",
            "-c -o compression_type=zstd,cluster_size=2M",
            "-c -o cluster_size=512",
            "-o compat=0.10,cluster_size=4K",
            "-o extended_l2=on,cluster_size=128K",
            "-o preallocation=full",
            "-o preallocation=metadata -S 0",
        ] {
            qemu::img(&dir, &format!("convert -O qcow2 {options} {source} image.qcow2"));
            dir.run("restore image.qcow2 copy.raw").exits(0);
            let expected = by_qemu(&dir, "image.qcow2");
            same(&expected, &dir.join("copy.raw"));
            dir.run("restore --keep-going -j 3 --verify image.qcow2 copy.raw")
                .exits(0);
            same(&expected, &dir.join("copy.raw"));
        }
    }
}

#[test]
fn an_image_without_its_files_is_refused_and_with_them_restored() {
    let dir = Dir::new("restore-needs");
    Disk::hole(4 * MIB).data(MIB..2 * MIB).file(&dir, "base.raw");
    qemu::img(&dir, "create -q -f qcow2 -b base.raw -F raw top.qcow2 6M");
    qemu::io(&dir, "qcow2", "top.qcow2", &["write -P 7 1500K 100K"]);

    dir.run("restore top.qcow2 copy.raw").exits(1).says(
        "mkqcow2: top.qcow2: needs its backing file, \"base.raw\", which is opened only on request (pass \
         --follow if you trust the image, or --backing PATH)\n",
    );
    assert!(!dir.join("copy.raw").exists());

    let expected = by_qemu(&dir, "top.qcow2");
    for options in ["--follow", "--backing base.raw"] {
        dir.run(&format!("restore {options} top.qcow2 copy.raw")).exits(0);
        same(&expected, &dir.join("copy.raw"));
    }
    dir.run("restore --follow top.qcow2 base.raw")
        .exits(1)
        .says("mkqcow2: base.raw: is base.raw, which the image needs\n");
}

#[test]
fn an_internal_snapshot_comes_back_and_has_no_checksums() {
    let dir = imaged("restore-snapshot", &disk());
    qemu::img(&dir, "snapshot -c before image.qcow2");
    qemu::io(&dir, "qcow2", "image.qcow2", &["write -P 7 0 1M"]);

    let run = dir.run("restore --snapshot before image.qcow2 copy.raw").exits(0);

    assert_eq!(run.stderr(), "");
    same(&dir.join("disk.raw"), &dir.join("copy.raw"));
    let changed = dir.run("restore image.qcow2 copy.raw").exits(0);
    changed.says(
        "mkqcow2: image.qcow2: warning: was changed since it was made: its checksums are out of date and were \
         not compared\n",
    );
    same(&by_qemu(&dir, "image.qcow2"), &dir.join("copy.raw"));
}

#[test]
fn an_image_of_e2image_comes_back_as_root() {
    let dir = Dir::new("restore-e2image");
    let file = dir.sparse("disk.raw", 16 * MIB, &[]);
    make_ext4(&file);
    let mount = Mount::new("loop", &file, dir.join("mnt"));
    fs::write(mount.join("file"), noise(1, 3_000_000)).unwrap();
    drop(mount);
    at(&dir, "e2image -Qa disk.raw image.qcow2");

    dir.run("restore image.qcow2 copy.raw").exits(0);

    same(&by_qemu(&dir, "image.qcow2"), &dir.join("copy.raw"));
    at(&dir, "e2fsck -fn copy.raw");
}

#[test]
fn a_device_has_nothing_left_of_what_was_there_as_root() {
    let dir = imaged("restore-device", &disk());
    let (file, device) = stale(&dir, 41 * MIB + 512);
    let mut expected = fs::read(dir.join("disk.raw")).unwrap();
    expected.resize(expected.len() + (1 << 20) + 512, 0xff);

    let target = device.path().display();
    for options in ["", "--verify -j 2", "--keep-going --no-sync"] {
        fs::write(&file, vec![0xff; expected.len()]).unwrap();
        let run = dir.run(&format!("restore {options} image.qcow2 {target}"));
        assert_eq!(run.exits(0).stderr(), "");
        assert!(fs::read(device.path()).unwrap() == expected, "{options:?}");
    }
    drop(device);
    assert!(fs::read(&file).unwrap() == expected);
}

#[test]
fn a_partition_takes_a_disk_and_its_neighbour_stays_as_root() {
    let dir = imaged("restore-partition", &Disk::hole(2 * MIB).data(MIB..MIB + 9));
    let file = dir.join("whole.raw");
    fs::write(&file, vec![0xff; 6 << 20]).unwrap();
    let whole = Loop::partitioned(&file);
    let before = fs::read(&file).unwrap();

    dir.run(&format!("restore image.qcow2 {}", whole.partition(2).display()))
        .exits(0);

    drop(whole);
    let after = fs::read(&file).unwrap();
    let disk = fs::read(dir.join("disk.raw")).unwrap();
    assert!(after[..3 << 20] == before[..3 << 20], "in front of it");
    assert!(after[3 << 20..5 << 20] == disk);
    assert!(after[5 << 20..] == before[5 << 20..], "behind it");
}

#[test]
fn what_is_free_can_be_left_on_a_device_as_root() {
    let dir = Dir::new("restore-used-only");
    let file = disk().file(&dir, "disk.raw");
    // All but its first page is free.
    tool("mkswap", ["-q", file.to_str().unwrap()]);
    dir.run("-q --no-sync disk.raw image.qcow2").exits(0);
    let (_file, device) = stale(&dir, 40 * MIB);

    let run = dir.run(&format!(
        "restore --json --used-only --verify image.qcow2 {}",
        device.path().display()
    ));

    let json = run.exits(0).json();
    let disk = fs::read(dir.join("disk.raw")).unwrap();
    let found = fs::read(device.path()).unwrap();
    assert!(found[..4096] == disk[..4096]);
    assert!(found[4096..65_536].iter().all(|byte| *byte == 0));
    assert!(found[65_536..].iter().all(|byte| *byte == 0xff));
    assert_eq!(json["left"], 40 * MIB - 65_536);
}

#[test]
fn a_pipe_gets_every_byte() {
    let dir = imaged("restore-pipe", &disk());
    let mut command = dir.command(["restore", "image.qcow2", "-"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut found = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut found).unwrap();

    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.starts_with("mkqcow2: standard output: 40.00 MiB disk, "),
        "{said}"
    );
    assert!(found == fs::read(dir.join("disk.raw")).unwrap());

    let file = File::create(dir.join("redirected.raw")).unwrap();
    let mut command = dir.command(["restore", "-q", "image.qcow2", "-"]);
    let output = command.stdout(file).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    same(&dir.join("disk.raw"), &dir.join("redirected.raw"));
}

#[test]
fn a_dry_run_tells_and_changes_nothing_as_root() {
    let dir = imaged("restore-dry", &disk());
    fs::write(dir.join("old.raw"), "the old disk").unwrap();
    let before = crate::refusals::Listing::of(dir.path());

    for target in ["old.raw", "new.raw"] {
        let run = dir.run(&format!("restore -n image.qcow2 {target}")).exits(0);
        run.prints("image.qcow2: disk of 41943040 bytes (40.00 MiB): ")
            .prints("has checksums\n")
            .prints(&format!("{target}: "))
            .prints("are free\n");
    }
    let plan = dir.run("restore -n --json image.qcow2 old.raw").exits(0).json();
    assert_eq!((&plan["kind"], &plan["checked"]), (&"file".into(), &true.into()));
    assert_eq!(plan["size"], 40 * MIB);
    let sum = ["data", "zeros", "unallocated"].map(|field| plan[field].as_u64().unwrap());
    assert_eq!(sum.iter().sum::<u64>(), 40 * MIB);
    // The clusters of which all is zeros.
    assert_eq!(sum[1], MIB + 4 * 65_536);
    assert_eq!(crate::refusals::Listing::of(dir.path()), before);

    let (_file, device) = stale(&dir, 41 * MIB);
    let written = device.sectors_written();
    dir.run(&format!("restore -n image.qcow2 {}", device.path().display()))
        .exits(0)
        .prints("block device of 42991616 bytes (41.00 MiB), would be overwritten but for the last 1048576 (1.00 MiB)\n");
    assert_eq!(device.sectors_written(), written);
}

#[test]
fn the_report_adds_up() {
    let dir = imaged("restore-report", &disk());

    let json = dir
        .run("restore --json --verify image.qcow2 copy.raw")
        .exits(0)
        .json();

    let number = |field: &str| json[field].as_u64().unwrap();
    assert_eq!(number("size"), 40 * MIB);
    assert_eq!(number("written") + number("zeros") + number("left"), 40 * MIB);
    assert!(number("data") >= number("written"));
    assert_eq!(number("status"), 0);
    assert_eq!(
        (&json["checked"], &json["verified"]),
        (&true.into(), &true.into())
    );
    assert_eq!(json["damaged"], serde_json::json!([]));
    assert_eq!(json["warnings"], serde_json::json!([]));
    dir.run("restore -q image.qcow2 copy.raw").exits(0).in_silence();
    let run = dir.run("restore image.qcow2 copy.raw").exits(0);
    assert_eq!(run.stdout().lines().count(), 1);
    run.prints("copy.raw: 40.00 MiB disk, ")
        .prints(", checksums compared\n");
}

#[test]
fn an_existing_file_keeps_its_mode_and_a_new_one_is_private() {
    let dir = imaged("restore-mode", &disk());
    fs::write(dir.join("old.raw"), "old").unwrap();
    at(&dir, "chmod 0644 old.raw");

    dir.run("restore image.qcow2 old.raw").exits(0);
    dir.run("restore --no-clobber image.qcow2 new.raw").exits(0);

    let mode = |name| dir.join(name).metadata().unwrap().mode() & 0o777;
    assert_eq!((mode("old.raw"), mode("new.raw")), (0o644, 0o600));
}
