//! A source that a virtual machine may write to is no backup: it is refused, unless forced.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use crate::support::loops::{Loop, Mount, until};
use crate::support::{Dir, assert_equals, noise, qemu, tool};

/// A file that qemu-io has open, as a virtual machine would.
struct Guest(Child);

impl Guest {
    fn opens(dir: &Dir, format: &str, file: &str, more: &[&str]) -> Self {
        let mut command = Command::new("qemu-io");
        let child = command
            .args(["-f", format])
            .args(more)
            .arg(file)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let guest = Self(child);
        let inode = fs::metadata(dir.join(file)).unwrap().ino();
        let is_its = |line: &str| line.contains("OFDLCK") && line.contains(&format!(":{inode} "));
        until("qemu-io locks its file", || {
            fs::read_to_string("/proc/locks").unwrap().lines().any(is_its)
        });
        guest
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It ends with its commands.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

const REFUSED: &str =
    "open for writing by QEMU (shut the virtual machine down, image a snapshot, or pass --force)\n";
const WARNED_OF_IMAGE: &str =
    "warning: the source is open for writing by QEMU: data that its tables do not list yet reads as zeros";
const WARNED: &str = "warning: the source is open for writing by QEMU: imaging it anyway";

fn images(name: &str) -> Dir {
    let dir = Dir::new(name);
    fs::write(dir.join("disk.raw"), noise(1, 300_032)).unwrap();
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} disk.raw disk.{format}"),
        );
    }
    dir
}

#[test]
fn a_source_that_a_guest_writes_to_is_refused_and_goes_with_force() {
    let dir = images("formats-in-use");
    for format in ["raw", "qcow2", "qcow", "qed"] {
        let file = format!("disk.{format}");
        let guest = Guest::opens(&dir, format, &file, &[]);
        let before = dir.names();
        for seen_as in [format, "raw"] {
            dir.run(&format!("--source-format {seen_as} {file} new.qcow2"))
                .exits(1)
                .says(&format!("mkqcow2: {file}: {REFUSED}"));
        }
        assert_eq!(dir.names(), before);
        dir.run(&format!("--force --source-format raw {file} new.qcow2"))
            .exits(3)
            .says(&format!("mkqcow2: {file}: {WARNED}"));
        let warned = if format == "raw" { WARNED } else { WARNED_OF_IMAGE };
        dir.run(&format!("--force --source-format {format} {file} new.qcow2"))
            .exits(3)
            .says(&format!("mkqcow2: {file}: {warned}"));
        if format != "raw" {
            dir.run(&format!("restore {file} copy.raw"))
                .exits(1)
                .says(&format!("mkqcow2: {file}: open for writing by QEMU"));
            dir.run(&format!("compare {file} disk.raw"))
                .exits(2)
                .says(&format!("mkqcow2: {file}: open for writing by QEMU"));
        }
        // Nor is it replaced: the guest would go on with a file that nobody sees any more.
        dir.run(&format!("--source-format raw new.qcow2 {file}"))
            .exits(1)
            .says(&format!("mkqcow2: {file}: open for writing by QEMU"));
        assert_equals(&dir.join("disk.raw"), &dir.join("new.qcow2"));
        drop(guest);
        dir.run(&format!("-q --source-format {format} {file} new.qcow2"))
            .exits(0)
            .in_silence();
        fs::remove_file(dir.join("new.qcow2")).unwrap();
    }
}

#[test]
fn a_guest_that_only_reads_is_no_reason() {
    let dir = images("formats-in-use-read-only");
    for format in ["raw", "qcow2", "qcow", "qed"] {
        let file = format!("disk.{format}");
        let _guest = Guest::opens(&dir, format, &file, &["-r"]);
        dir.run(&format!("-q --source-format {format} {file} new.qcow2"))
            .exits(0)
            .in_silence();
        assert_equals(&dir.join("disk.raw"), &dir.join("new.qcow2"));
    }
}

#[test]
fn a_backing_or_data_file_that_a_guest_writes_to_is_refused_by_its_name() {
    let dir = images("formats-in-use-below");
    qemu::img(&dir, "create -q -f qcow2 -o data_file=disk.data disk.top 300032");
    for format in ["raw", "qcow2", "qcow", "qed", "data"] {
        let file = format!("disk.{format}");
        let guest_format = if format == "data" { "raw" } else { format };
        if format != "data" {
            qemu::img(
                &dir,
                &format!("create -q -f qcow2 -b {file} -F {format} disk.top 300032"),
            );
        }
        if format == "data" {
            qemu::img(&dir, "create -q -f qcow2 -o data_file=disk.data disk.top 300032");
            fs::write(dir.join("disk.raw"), vec![0; 300_032]).unwrap();
        }
        // As somebody does who forgets what stands on it.
        let guest = Guest::opens(&dir, guest_format, &file, &[]);
        dir.run("--follow --source-format qcow2 disk.top new.qcow2")
            .exits(1)
            .says(&format!("mkqcow2: {file}: {REFUSED}"));
        dir.run("--force --follow --source-format qcow2 disk.top new.qcow2")
            .exits(3)
            .says(WARNED_OF_IMAGE);
        assert_equals(&dir.join("disk.raw"), &dir.join("new.qcow2"));
        dir.run("map --follow --format qcow2 disk.top").exits(0);
        let compare = "compare --follow --format-a qcow2 --format-b qcow2 disk.top new.qcow2";
        dir.run(compare)
            .exits(2)
            .says(&format!("{file}: open for writing by QEMU"));
        dir.run(&compare.replace("--follow", "--follow --force"))
            .exits(0)
            .says(&format!("mkqcow2: {file}: warning: "));
        drop(guest);
        dir.run("-q --follow --source-format qcow2 disk.top new.qcow2")
            .exits(0)
            .in_silence();
    }
}

#[test]
fn what_stands_on_a_file_does_not_keep_it_from_being_read() {
    let dir = images("formats-in-use-above");
    for format in ["raw", "qcow2", "qcow", "qed"] {
        let file = format!("disk.{format}");
        qemu::img(
            &dir,
            &format!("create -q -f qcow2 -b {file} -F {format} disk.top 300032"),
        );
        let _guest = Guest::opens(&dir, "qcow2", "disk.top", &[]);
        dir.run(&format!("-q --source-format {format} {file} new.qcow2"))
            .exits(0)
            .in_silence();
        dir.run("--follow --source-format qcow2 disk.top new.qcow2")
            .exits(1)
            .says(&format!("mkqcow2: disk.top: {REFUSED}"));
    }
}

#[test]
fn a_guest_is_noticed_in_a_subvolume_of_btrfs_too_as_root() {
    let dir = images("formats-in-use-btrfs");
    let disk = dir.sparse("btrfs.raw", 128 << 20, &[]);
    tool("mkfs.btrfs", ["-q", disk.to_str().unwrap()]);
    let device = Loop::over(&disk);
    let mount = Mount::of_type("btrfs", device.path(), dir.join("mnt"));
    let volume = mount.join("volume");
    tool("btrfs", ["-q", "subvolume", "create", volume.to_str().unwrap()]);
    for file in ["mnt/disk.qcow2", "mnt/volume/disk.qcow2"] {
        fs::copy(dir.join("disk.qcow2"), dir.join(file)).unwrap();
        let guest = Guest::opens(&dir, "qcow2", file, &[]);
        dir.run(&format!("--source-format qcow2 {file} new.qcow2"))
            .exits(1)
            .says(&format!("mkqcow2: {file}: {REFUSED}"));
        drop(guest);
        dir.run(&format!("-q --source-format qcow2 {file} new.qcow2"))
            .exits(0);
    }
}

const NOT_LOOKED_INTO: &str = "open for writing by QEMU: not examined, so free blocks count as used\n";

#[test]
fn an_image_that_a_guest_writes_to_is_looked_into_no_more_than_a_raw_source() {
    let dir = Dir::new("formats-in-use-regions");
    let swap = dir.sparse("disk.raw", 1 << 20, &[(0, &noise(1, 1 << 20))]);
    tool("mkswap", ["-q", swap.to_str().unwrap()]);
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} disk.raw disk.{format}"),
        );
    }
    qemu::img(&dir, "create -q -f qcow2 -b disk.raw -F raw disk.top");
    for (format, used, shown) in [
        ("raw", "disk.raw", "disk.raw"),
        ("qcow2", "disk.qcow2", "disk.qcow2"),
        ("qcow", "disk.qcow", "disk.qcow"),
        ("qed", "disk.qed", "disk.qed"),
        ("raw", "disk.raw", "disk.top"),
    ] {
        let map = format!("map --follow --regions {shown}");
        let map = map.replace("--follow --regions disk.raw", "--regions disk.raw");
        let seen = "source: swap, 4.00 KiB in use, 1020.00 KiB free\n";
        dir.run(&map).exits(0).prints(seen);
        let guest = Guest::opens(&dir, format, used, &[]);

        let run = dir.run(&map).exits(0);

        let warning = format!("mkqcow2: {used}: warning: {NOT_LOOKED_INTO}");
        assert_eq!((run.stdout(), run.stderr()), (String::new(), warning), "{shown}");
        let json = dir.run(&format!("{map} --json")).exits(0).json();
        assert_eq!(json, serde_json::json!([]), "{shown}");
        drop(guest);
        dir.run(&map).exits(0).prints(seen);
    }
}
