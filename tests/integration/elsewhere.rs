//! Writers that are hard to see: in other namespaces, beside a loop device, over it, on another device.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::loops::{Loop, Mount, Running, make_ext4};
use crate::support::{Dir, MKQCOW2, noise, tool};

const MIB: u64 = 1 << 20;
const BUSY: &str = "opened exclusively by a filesystem, a RAID or a program";

fn of(source: &Path) -> String {
    format!("{} image.qcow2", source.display())
}

/// A filesystem that only another namespace sees as mounted, for as long as this lives.
struct Elsewhere {
    holder: std::process::Child,
}

impl Elsewhere {
    fn mount(device: &Path, point: &Path) -> Self {
        fs::create_dir_all(point).unwrap();
        let script = format!(
            "mount {} {} && echo && exec sleep 60",
            device.display(),
            point.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("unshare: {error}: apt-get install util-linux"));
        let mut line = [0];
        holder.stdout.take().unwrap().read_exact(&mut line).unwrap();
        Self { holder }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // The mount ends with the namespace, and that with its last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_mount_in_another_namespace_is_found_even_behind_a_file_as_root() {
    let dir = Dir::new("device-namespace");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let elsewhere = Elsewhere::mount(disk.path(), &dir.join("mnt"));

    dir.run(&of(disk.path())).exits(1).says(BUSY);
    dir.run(&of(&file))
        .exits(1)
        .says(&format!("{BUSY} as {}", disk.name()));
    let forced = dir
        .run(&format!("--force --json {}", of(disk.path())))
        .exits(3)
        .says("warning");

    assert!(forced.json()["warnings"][0].as_str().unwrap().contains(BUSY));
    drop(elsewhere);
}

#[test]
fn a_partition_mounted_read_only_does_not_hide_another_that_is_busy_as_root() {
    let dir = Dir::new("elsewhere-partition");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    make_ext4(&disk.partition(1));
    make_ext4(&disk.partition(2));
    let _here = Mount::new("ro", &disk.partition(1), dir.join("here"));
    dir.run(&of(disk.path())).exits(0);

    let _elsewhere = Elsewhere::mount(&disk.partition(2), &dir.join("there"));

    let says = format!("{BUSY} as {}p2", disk.name());
    dir.run(&of(disk.path())).exits(1).says(&says);
    dir.run(&of(&file)).exits(1).says(&says);
}

#[test]
fn a_device_that_cannot_be_written_to_may_be_mounted_in_another_namespace_as_root() {
    let dir = Dir::new("elsewhere-read-only");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::read_only(&file);
    let _elsewhere = Elsewhere::mount(disk.path(), &dir.join("mnt"));

    assert_eq!(dir.run(&of(disk.path())).exits(0).stderr(), "");
}

#[test]
fn a_partition_that_only_the_host_sees_keeps_the_disk_in_use_in_a_container_as_root() {
    let dir = Dir::new("elsewhere-container");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    make_ext4(&disk.partition(1));
    let _mount = Mount::new("rw", &disk.partition(1), dir.join("mnt"));
    let (disk, dev) = (disk.path().display(), dir.join("dev"));
    fs::create_dir(&dev).unwrap();
    // The mount does not show, and of all devices only the disk has a node.
    let script = format!(
        "umount mnt && mount -t tmpfs tmpfs dev && cp -a {disk} dev/ && mount --bind dev /dev && \
         exec '{MKQCOW2}' \"$@\" {disk} image.qcow2"
    );
    let run = |options: &[&str]| {
        let mut container = Command::new("unshare");
        container.args(["--mount", "sh", "-ec", &script, "sh"]);
        container.args(options).current_dir(dir.path());
        Running::of(container).ends()
    };

    run(&[]).exits(1).says(BUSY);
    run(&["--force"]).exits(3).says("warning");
}

/// A mounted filesystem, and another device that shows the same bytes.
struct Twins {
    mount: Mount,
    mounted: Loop,
    twin: Loop,
    dir: Dir,
}

impl Twins {
    /// Both over the same file.
    fn side_by_side(test: &str) -> Self {
        let dir = Dir::new(test);
        let file = dir.sparse("disk.raw", 8 * MIB, &[]);
        make_ext4(&file);
        let (twin, mounted) = (Loop::over(&file), Loop::over(&file));
        let mount = Mount::new("rw", mounted.path(), dir.join("mnt"));
        Self {
            mount,
            mounted,
            twin,
            dir,
        }
    }

    /// The mounted one over the other.
    fn stacked(test: &str) -> Self {
        let dir = Dir::new(test);
        let file = dir.sparse("disk.raw", 8 * MIB, &[]);
        make_ext4(&file);
        let twin = Loop::over(&file);
        let mounted = Loop::over(twin.path());
        let mount = Mount::new("rw", mounted.path(), dir.join("mnt"));
        Self {
            mount,
            mounted,
            twin,
            dir,
        }
    }

    fn is_found(&self) {
        let says = format!(
            "mounted read-write on {} as {}",
            self.mount.point().display(),
            self.mounted.name()
        );
        let twin = self.twin.path();
        self.dir.run(&of(twin)).exits(1).says(&says);
        self.dir.run(&of(&self.dir.join("disk.raw"))).exits(1).says(&says);
        self.dir
            .run(&format!("--force {} mnt/image.qcow2", twin.display()))
            .exits(1)
            .says("lies on the source: writing it would change what is being read");
        assert!(!self.mount.join("image.qcow2").exists());
    }
}

#[test]
fn a_filesystem_mounted_from_another_loop_device_over_the_same_file_is_found_as_root() {
    Twins::side_by_side("elsewhere-twin").is_found();
}

#[test]
fn a_filesystem_mounted_from_a_loop_device_over_a_device_is_found_as_root() {
    Twins::stacked("elsewhere-stacked").is_found();
}

#[test]
fn a_filesystem_mounted_from_a_loop_device_over_the_bytes_of_a_partition_is_found_as_root() {
    let dir = Dir::new("elsewhere-partition-twin");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let partition = disk.partition(1);
    make_ext4(&partition);
    for below in [&file, disk.path()] {
        let twin = Loop::part(below, MIB, 2 * MIB);
        let mount = Mount::new("rw", twin.path(), dir.join("mnt"));
        let says = format!(
            "mounted read-write on {} as {}",
            mount.point().display(),
            twin.name()
        );

        dir.run(&of(&partition)).exits(1).says(&says);
        dir.run(&format!("--force {} mnt/image.qcow2", partition.display()))
            .exits(1)
            .says("lies on the source: writing it would change what is being read");
        dir.run(&of(&disk.partition(2))).exits(0);
    }
}

#[test]
fn a_filesystem_mounted_from_another_part_of_the_same_file_is_no_hindrance_as_root() {
    let dir = Dir::new("elsewhere-parts");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let (first, second) = (
        Loop::part(&file, MIB, 2 * MIB),
        Loop::part(&file, 3 * MIB, 2 * MIB),
    );
    make_ext4(first.path());
    let _mount = Mount::new("rw", first.path(), dir.join("mnt"));
    let overlapping = Loop::part(&file, 3 * MIB - 512, 2 * MIB);

    dir.run(&of(second.path())).exits(0);
    dir.run(&of(overlapping.path()))
        .exits(1)
        .says("mounted read-write on ");
}

#[test]
fn what_is_written_past_a_loop_device_is_noticed_as_root() {
    let twins = Twins::side_by_side("elsewhere-changed");
    let run = crate::support::loops::Held::start(&twins.dir, &format!("--force {}", of(twins.twin.path())));

    fs::write(twins.mount.join("file"), noise(1, 100_000)).unwrap();
    tool("sync", ["-f", twins.mount.point().to_str().unwrap()]);

    run.let_go()
        .exits(3)
        .says("the source changed while it was read (the file behind the device was written to)");
}

#[test]
fn the_other_device_of_a_btrfs_is_part_of_it_as_root() {
    let dir = Dir::new("elsewhere-btrfs");
    let first = Loop::over(&dir.sparse("first.raw", 128 * MIB, &[]));
    let second = Loop::over(&dir.sparse("second.raw", 128 * MIB, &[]));
    let devices = [first.path(), second.path()].map(|path| path.to_str().unwrap());
    tool(
        "mkfs.btrfs",
        ["-q", "-d", "single", "-m", "single"].into_iter().chain(devices),
    );
    let mount = Mount::new(&format!("device={}", devices[1]), first.path(), dir.join("mnt"));

    for device in devices {
        dir.run(&format!("--force {device} mnt/image.qcow2"))
            .exits(1)
            .says("lies on the source");
    }
    let point = mount.point().to_owned();
    for device in devices {
        dir.run(&format!("{device} image.qcow2"))
            .exits(1)
            .says(&format!("mounted read-write on {}", point.display()));
    }
    drop(mount);

    let _read_only = Mount::new(&format!("ro,device={}", devices[1]), first.path(), point);
    for device in devices {
        let run = dir.run(&format!("{device} image.qcow2")).exits(0);
        let warning = "warning: Btrfs: it has several devices: copied whole\n";
        assert_eq!(run.stderr(), format!("mkqcow2: {device}: {warning}"));
    }
}
