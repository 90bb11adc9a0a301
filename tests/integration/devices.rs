//! Block devices, and sources that others use: what is refused, what is said, and what comes out.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};

use crate::support::loops::{Held, Loop, Mount, Swap, make_ext4};
use crate::support::{Dir, assert_equals, noise, tool};

const MIB: u64 = 1 << 20;

/// An ext4 with something in it on a loop device or in a partition of one, mounted.
///
/// Fields are dropped in this order.
struct Mounted {
    mount: Mount,
    disk: Loop,
    file: PathBuf,
    dir: Dir,
}

impl Mounted {
    fn whole(test: &str, options: &str) -> Self {
        let dir = Dir::new(test);
        let file = dir.sparse("disk.raw", 8 * MIB, &[]);
        make_ext4(&file);
        let disk = Loop::over(&file);
        let mount = Self::fill_and_mount(disk.path(), options, dir.join("mnt"));
        Self {
            mount,
            disk,
            file,
            dir,
        }
    }

    /// The second partition.
    fn partition(test: &str, options: &str) -> Self {
        let dir = Dir::new(test);
        let file = dir.sparse("disk.raw", 6 * MIB, &[(5 * MIB, &noise(1, 70_000))]);
        let disk = Loop::partitioned(&file);
        make_ext4(&disk.partition(2));
        let mount = Self::fill_and_mount(&disk.partition(2), options, dir.join("mnt"));
        Self {
            mount,
            disk,
            file,
            dir,
        }
    }

    fn fill_and_mount(device: &Path, options: &str, point: PathBuf) -> Mount {
        let mount = Mount::new("rw", device, point.clone());
        fs::write(mount.join("file"), noise(2, 300_000)).unwrap();
        drop(mount);
        Mount::new(options, device, point)
    }

    fn point(&self) -> String {
        self.mount.point().display().to_string()
    }

    /// Its names: the device, and the file behind it.
    fn sources(&self) -> [String; 2] {
        [self.disk.path(), &self.file].map(|path| path.display().to_string())
    }

    fn is_imaged_right(&self) {
        assert_equals(&self.file, &self.dir.join("image.qcow2"));
    }
}

fn of(device: &Path) -> String {
    format!("{} image.qcow2", device.display())
}

#[test]
fn a_block_device_becomes_its_image_as_root() {
    let dir = Dir::new("device-whole");
    let pieces = [(0, noise(1, 100_000)), (3 * MIB + 7, noise(2, 200_001))];
    let pieces = [(pieces[0].0, &*pieces[0].1), (pieces[1].0, &*pieces[1].1)];
    let file = dir.sparse("disk.raw", 5 * MIB, &pieces);
    let disk = Loop::over(&file);

    dir.run(&of(disk.path())).exits(0);

    assert_equals(&file, &dir.join("image.qcow2"));
}

#[test]
fn a_block_device_may_end_within_a_cluster_as_root() {
    let dir = Dir::new("device-odd");
    let size = 2 * MIB + 3 * 512;
    let file = dir.sparse("disk.raw", size, &[(2 * MIB - 600, &noise(3, 600 + 3 * 512))]);
    let disk = Loop::over(&file);

    for clusters in ["512", "64K", "2M"] {
        let run = dir.run(&format!("--json --cluster-size {clusters} {}", of(disk.path())));
        assert_eq!(run.exits(0).json()["size"], size);
        assert_equals(&file, &dir.join("image.qcow2"));
    }
}

#[test]
fn a_partition_becomes_its_image_as_root() {
    let dir = Dir::new("device-partition");
    let file = dir.sparse("disk.raw", 6 * MIB, &[(MIB, &noise(4, 4 << 20))]);
    let disk = Loop::partitioned(&file);

    dir.run(&of(&disk.partition(2))).exits(0);

    let mut content = vec![0; 2 << 20];
    File::open(&file)
        .unwrap()
        .read_exact_at(&mut content, 3 * MIB)
        .unwrap();
    let expected = dir.sparse("expected.raw", 2 * MIB, &[(0, &content)]);
    assert_equals(&expected, &dir.join("image.qcow2"));
}

#[test]
fn a_part_of_a_block_device_becomes_its_image_as_root() {
    let dir = Dir::new("device-part");
    let content = noise(5, 2 << 20);
    let disk = Loop::over(&dir.sparse("disk.raw", 2 * MIB, &[(0, &content)]));

    dir.run(&format!("--offset 1536 --length 1M {}", of(disk.path())))
        .exits(0);

    let expected = dir.sparse("expected.raw", MIB, &[(0, &content[1536..1536 + (1 << 20)])]);
    assert_equals(&expected, &dir.join("image.qcow2"));
}

#[test]
fn a_device_that_cannot_be_written_to_is_imaged_as_root() {
    let dir = Dir::new("device-read-only");
    let file = dir.sparse("disk.raw", MIB, &[(5, b"data")]);
    let disk = Loop::read_only(&file);

    dir.run(&of(disk.path())).exits(0);

    assert_equals(&file, &dir.join("image.qcow2"));
}

#[test]
fn a_device_mounted_read_write_is_refused_by_each_of_its_names_as_root() {
    let mounted = Mounted::whole("device-mounted", "rw");
    let before = mounted.dir.names();
    let [device, file] = mounted.sources();
    let (point, name) = (mounted.point(), mounted.disk.name());
    let advice = "(unmount it, image a snapshot, or pass --force)";

    mounted
        .dir
        .run(&format!("{device} image.qcow2"))
        .exits(1)
        .says(&format!(
            "mkqcow2: {device}: mounted read-write on {point} {advice}\n"
        ));
    mounted
        .dir
        .run(&format!("{file} image.qcow2"))
        .exits(1)
        .says(&format!(
            "mkqcow2: {file}: mounted read-write on {point} as {name} {advice}\n"
        ));

    assert_eq!(mounted.dir.names(), before);
}

#[test]
fn a_disk_of_which_a_partition_is_mounted_read_write_is_refused_as_root() {
    let mounted = Mounted::partition("device-partition-mounted", "rw");
    let before = mounted.dir.names();
    let says = format!(
        "mounted read-write on {} as {}p2 (",
        mounted.point(),
        mounted.disk.name()
    );

    for source in mounted.sources() {
        let run = mounted.dir.run(&format!("{source} image.qcow2"));
        run.exits(1).says(&format!("mkqcow2: {source}: {says}"));
    }

    assert_eq!(mounted.dir.names(), before);
}

#[test]
fn a_partition_beside_a_mounted_one_is_not_in_use_as_root() {
    let mounted = Mounted::partition("device-neighbour", "rw");

    let run = mounted.dir.run(&of(&mounted.disk.partition(1)));

    assert_eq!(run.exits(0).stderr(), "");
}

#[test]
fn force_images_what_is_mounted_and_warns_as_root() {
    for mounted in [
        Mounted::whole("device-forced", "rw"),
        Mounted::partition("device-partition-forced", "rw"),
    ] {
        let says = format!("warning: the source is mounted read-write on {}", mounted.point());
        for source in mounted.sources() {
            let run = mounted.dir.run(&format!("--force {source} image.qcow2"));
            run.exits(3).says(&format!("mkqcow2: {source}: {says}"));
            mounted.is_imaged_right();
        }
    }
}

#[test]
fn what_is_mounted_read_only_is_imaged_without_a_word_as_root() {
    for mounted in [
        Mounted::whole("device-mounted-ro", "ro"),
        Mounted::partition("device-partition-mounted-ro", "ro"),
    ] {
        for source in mounted.sources() {
            let run = mounted.dir.run(&format!("{source} image.qcow2"));
            assert_eq!(run.exits(0).stderr(), "");
            mounted.is_imaged_right();
        }
    }
}

#[test]
fn a_read_only_mount_of_a_filesystem_that_is_writable_elsewhere_is_refused_as_root() {
    let mounted = Mounted::whole("device-two-mounts", "rw");
    let view = Mount::read_only_view(mounted.mount.point(), mounted.dir.join("view"));

    for source in mounted.sources() {
        let run = mounted.dir.run(&format!("{source} image.qcow2"));
        run.exits(1).says("mounted read-write on ");
    }
    drop(view);
}

#[test]
fn an_active_swap_area_is_refused_unless_forced_as_root() {
    let dir = Dir::new("device-swap");
    let file = dir.sparse("disk.raw", 2 * MIB, &[(0, &noise(6, 2 << 20))]);
    let disk = Loop::over(&file);
    let swap = Swap::on(disk.path());
    let (device, name) = (disk.path().display(), disk.name());

    dir.run(&format!("{device} image.qcow2")).exits(1).says(&format!(
        "mkqcow2: {device}: in use as swap (swapoff it, or pass --force)\n"
    ));
    dir.run("disk.raw image.qcow2")
        .exits(1)
        .says(&format!("mkqcow2: disk.raw: in use as swap on {name} "));
    assert_eq!(dir.names(), ["disk.raw"]);

    // The kernel may swap to it meanwhile, which is a change of the source.
    let forced = || dir.run(&format!("-f {device} image.qcow2"));
    let run = std::iter::repeat_with(forced)
        .take(5)
        .find(|run| run.status() != 3);
    run.expect("one run without a change")
        .exits(0)
        .says("warning: the source is in use as swap");
    drop(swap);
    assert_equals(&file, &dir.join("image.qcow2"));
}

#[test]
fn an_active_swap_file_is_refused_as_root() {
    let dir = Dir::new("device-swap-file");
    let file = dir.sparse("swap file", MIB, &[(0, &noise(7, 1 << 20))]);
    let swap = Swap::on(&file);

    dir.run_with(["swap file", "image.qcow2"])
        .exits(1)
        .says("mkqcow2: swap file: in use as swap (swapoff it, or pass --force)\n");

    assert_eq!(dir.names(), ["swap file"]);
    drop(swap);
}

#[test]
fn a_device_that_somebody_holds_exclusively_is_refused_unless_forced_as_root() {
    let dir = Dir::new("device-exclusive");
    let file = dir.sparse("disk.raw", MIB, &[(9, b"data")]);
    let disk = Loop::over(&file);
    let holder = rustix::fs::open(disk.path(), OFlags::RDONLY | OFlags::EXCL, Mode::empty()).unwrap();

    dir.run(&of(disk.path()))
        .exits(1)
        .says("opened exclusively by a filesystem, a RAID or a program")
        .says("pass --force)\n");
    assert_eq!(dir.names(), ["disk.raw"]);

    dir.run(&format!("--force {}", of(disk.path())))
        .exits(3)
        .says("imaging it anyway");
    assert_equals(&file, &dir.join("image.qcow2"));
    drop(holder);
}

#[test]
fn a_device_cannot_be_mounted_while_it_is_read_as_root() {
    let dir = Dir::new("device-guarded");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let run = Held::start(&dir, &of(disk.path()));

    let busy = rustix::fs::open(disk.path(), OFlags::RDONLY | OFlags::EXCL, Mode::empty());

    assert_eq!(busy.unwrap_err(), rustix::io::Errno::BUSY);
    run.let_go().exits(0);
}

#[test]
fn a_device_written_to_while_it_is_read_is_told_as_root() {
    let dir = Dir::new("device-changed");
    let file = dir.sparse("disk.raw", 2 * MIB, &[(0, &noise(8, 2 << 20))]);
    let disk = Loop::over(&file);
    let run = Held::start(&dir, &format!("--json {}", of(disk.path())));

    let to = format!("of={}", disk.path().display());
    let dd = [
        "if=/dev/zero",
        &to,
        "bs=4096",
        "count=1",
        "seek=100",
        "oflag=direct",
        "status=none",
    ];
    tool("dd", dd);

    let run = run
        .let_go()
        .exits(3)
        .says("warning: the source changed while it was read");
    assert_eq!(run.json()["status"], 3);
    let warning = run.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(
        warning.contains("(8 sectors were written to the device)"),
        "{warning}"
    );
    assert_equals(&file, &dir.join("image.qcow2"));
}

#[test]
fn a_disk_of_which_a_partition_was_written_to_is_told_as_root() {
    let dir = Dir::new("device-partition-changed");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let run = Held::start(&dir, &of(disk.path()));

    let to = format!("of={}", disk.partition(1).display());
    tool(
        "dd",
        [
            "if=/dev/zero",
            &to,
            "bs=4096",
            "count=1",
            "conv=fsync",
            "status=none",
        ],
    );

    run.let_go()
        .exits(3)
        .says("(8 sectors were written to the device)");
}

#[test]
fn a_file_written_to_while_it_is_read_is_told() {
    let dir = Dir::new("device-file-changed");
    let file = dir.sparse("disk.raw", 2 * MIB, &[(0, &noise(9, 2 << 20))]);
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    let handle = File::options().write(true).open(&file).unwrap();
    handle.set_modified(long_ago).unwrap();
    let run = Held::start(&dir, "disk.raw image.qcow2");

    handle.write_all_at(b"changed", MIB).unwrap();

    run.let_go().exits(3).says(
        "mkqcow2: disk.raw: warning: the source changed while it was read (its modification time changed)",
    );
    assert_equals(&file, &dir.join("image.qcow2"));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_told_and_imaged_up_to_its_old_end() {
    let dir = Dir::new("device-file-grown");
    let content = noise(10, 1 << 20);
    let file = dir.sparse("disk.raw", MIB, &[(0, &content)]);
    let run = Held::start(&dir, "disk.raw image.qcow2");

    let handle = File::options().write(true).open(&file).unwrap();
    handle.write_all_at(&[1; 512], MIB).unwrap();

    run.let_go()
        .exits(3)
        .says("(its size was 1048576 bytes and is 1049088)");
    let expected = dir.sparse("expected.raw", MIB, &[(0, &content)]);
    assert_equals(&expected, &dir.join("image.qcow2"));
}

#[test]
fn a_device_is_never_written_to_as_root() {
    let dir = Dir::new("device-unwritten");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let (content, written) = (fs::read(&file).unwrap(), disk.sectors_written());

    for options in ["", "--force", "-n", "--on-read-error=zero", "--offset 1M"] {
        dir.run(&format!("{options} {}", of(disk.path()))).exits(0);
    }
    tool("sync", ["-f", disk.path().to_str().unwrap()]);

    assert_eq!(disk.sectors_written(), written);
    drop(disk);
    assert!(fs::read(&file).unwrap() == content, "the disk changed");
}

#[test]
fn a_file_is_never_written_to() {
    let dir = Dir::new("device-file-unwritten");
    let file = dir.sparse("disk.raw", MIB + 77, &[(MIB, &noise(11, 77))]);
    let state = |path: &Path| {
        let metadata = path.metadata().unwrap();
        (
            metadata.modified().unwrap(),
            metadata.permissions(),
            fs::read(path).unwrap(),
        )
    };
    let before = state(&file);

    for options in ["", "--force", "-n", "--on-read-error=zero", "--offset 1M"] {
        dir.run(&format!("{options} disk.raw image.qcow2")).exits(0);
    }

    assert!(state(&file) == before, "the file changed");
}
