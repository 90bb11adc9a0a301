//! After status 0 a power cut takes nothing away: what the disk holds at that moment is copied, repaired and mounted
//! as after a reboot.
//!
//! A loop device writes to the page cache of the file behind it. That file, copied, is the disk as a power cut leaves
//! it: what only the filesystem on it has in its caches is lost.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faults::OLD;
use crate::support::loops::{Fuse, Loop, Mount, Running, until};
use crate::support::{Dir, MKQCOW2, assert_equals, noise, tool};

const MIB: u64 = 1 << 20;

/// How a filesystem is made, brought in order after a power cut, and mounted.
struct Kind {
    name: &'static str,
    size: u64,
    make: &'static [&'static str],
    repair: &'static [&'static str],
    options: &'static str,
}

const EXT2: Kind = Kind {
    name: "ext2",
    size: 32 * MIB,
    make: &["mke2fs", "-q", "-F", "-t", "ext2"],
    repair: &["e2fsck", "-fy"],
    options: "loop",
};

const EXT4: Kind = Kind {
    name: "ext4",
    size: 64 * MIB,
    make: &[
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
    ],
    ..EXT2
};

const EXT4_WITHOUT_JOURNAL: Kind = Kind {
    name: "ext4-without-journal",
    make: &[
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-E",
        "lazy_itable_init=0",
    ],
    ..EXT2
};

const XFS: Kind = Kind {
    name: "xfs",
    size: 320 * MIB,
    make: &["mkfs.xfs", "-q"],
    repair: &[],
    options: "loop,nouuid",
};

const BTRFS: Kind = Kind {
    name: "btrfs",
    size: 160 * MIB,
    make: &["mkfs.btrfs", "-q"],
    repair: &[],
    options: "loop",
};

/// What the disk held after a run.
#[derive(Debug)]
struct Copy {
    path: PathBuf,
    /// The name that the run wrote.
    name: &'static str,
}

/// A filesystem whose power is cut after each run.
struct Cut {
    kind: &'static Kind,
    dir: Dir,
    file: PathBuf,
    copies: Vec<Copy>,
}

impl Cut {
    /// A disk of a mebibyte, an image of it outside, and a filesystem that holds an old image and an old disk.
    fn new(test: &str, kind: &'static Kind) -> (Self, Loop, Mount) {
        let dir = Dir::new(&format!("durable-{test}-{}", kind.name));
        dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]);
        dir.run("disk.raw image.qcow2").exits(0);
        let file = dir.sparse("filesystem", kind.size, &[]);
        let arguments = kind.make[1..].iter().map(OsStr::new);
        tool(kind.make[0], arguments.chain([file.as_os_str()]));
        let device = Loop::over(&file);
        let mount = Mount::new("rw", device.path(), dir.join("mnt"));
        for name in ["old.qcow2", "old.raw", "seen/old.qcow2"] {
            let path = mount.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, OLD).unwrap();
        }
        tool("sync", ["-f", mount.point().to_str().unwrap()]);
        let copies = Vec::new();
        let cut = Self {
            kind,
            dir,
            file,
            copies,
        };
        (cut, device, mount)
    }

    /// Keeps what is on the disk when a run ends that has written a file.
    #[track_caller]
    fn after(&mut self, arguments: &str, name: &'static str) {
        let run = self.dir.run(arguments);
        self.copy(name);
        run.exits(0);
    }

    /// Keeps what is on the disk when a file has got its name, and the kernel has written the directory before
    /// anything else.
    #[track_caller]
    fn amid(&mut self, arguments: &str, name: &'static str) {
        let mut strace = Command::new("strace");
        let delay = "inject=renameat,renameat2:delay_exit=2s";
        strace.args(["-f", "-e", "trace=renameat,renameat2", "-e", delay, MKQCOW2]);
        strace
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path());
        tool("strace", ["--version"]);
        let run = Running::of(strace);
        let file = self.dir.join("mnt").join(name);
        until("an image that has its name", || {
            file.metadata().is_ok_and(|metadata| metadata.len() > 4096)
        });
        File::open(file.parent().unwrap()).unwrap().sync_all().unwrap();
        self.copy(name);
        run.ends().exits(0);
    }

    fn copy(&mut self, name: &'static str) {
        let path = self.dir.join(format!("copy-{}", self.copies.len()));
        tool("cp", [self.file.as_os_str(), path.as_os_str()]);
        self.copies.push(Copy { path, name });
    }

    /// Mounts every copy and compares what is there with the disk.
    #[track_caller]
    fn has_all(self, device: Loop, mount: Mount) {
        // Btrfs takes two filesystems with one UUID for one.
        drop(mount);
        drop(device);
        let lost: Vec<_> = self.copies.iter().filter(|copy| self.is_lost(copy)).collect();
        assert!(lost.is_empty(), "{}: {lost:#?}", self.kind.name);
    }

    fn is_lost(&self, copy: &Copy) -> bool {
        self.repair(&copy.path);
        let rebooted = Mount::new(self.kind.options, &copy.path, self.dir.join("rebooted"));
        let (disk, found) = (self.dir.join("disk.raw"), rebooted.join(copy.name));
        match fs::read(&found) {
            Err(_) => return true,
            Ok(content) if content == OLD => return true,
            Ok(content) if found.extension() == Some(OsStr::new("raw")) => {
                assert!(content == fs::read(disk).unwrap(), "{copy:?}");
            }
            Ok(_) => assert_equals(&disk, &found),
        }
        false
    }

    fn repair(&self, copy: &Path) {
        let Some((program, arguments)) = self.kind.repair.split_first() else {
            return;
        };
        let mut command = Command::new(program);
        let status = command.args(arguments).arg(copy).output().unwrap().status;
        // Clean, or repaired.
        assert!(
            matches!(status.code(), Some(0 | 1)),
            "{}: {status}",
            self.kind.name
        );
    }
}

fn survives(kind: &'static Kind) {
    let (mut cut, device, mount) = Cut::new("after", kind);
    cut.after("disk.raw mnt/new.qcow2", "new.qcow2");
    cut.after("disk.raw mnt/old.qcow2", "old.qcow2");
    cut.after("-c zstd disk.raw mnt/old.qcow2", "old.qcow2");
    cut.after("--no-clobber disk.raw mnt/other.qcow2", "other.qcow2");
    cut.after("restore image.qcow2 mnt/new.raw", "new.raw");
    cut.after("restore --overwrite image.qcow2 mnt/old.raw", "old.raw");
    fs::create_dir_all(mount.join("2026/november")).unwrap();
    cut.after("disk.raw mnt/2026/november/27.qcow2", "2026/november/27.qcow2");
    // This server syncs no directories, and the kernel does not tell.
    let view = Fuse::passthrough(&mount.join("seen"), cut.dir.join("view"));
    cut.after("disk.raw view/new.qcow2", "seen/new.qcow2");
    cut.after("disk.raw view/old.qcow2", "seen/old.qcow2");
    cut.after("--no-clobber disk.raw view/other.qcow2", "seen/other.qcow2");
    drop(view);
    cut.has_all(device, mount);
}

#[test]
fn an_image_survives_a_power_cut_on_ext2_as_root() {
    survives(&EXT2);
}

#[test]
fn an_image_survives_a_power_cut_on_ext4_as_root() {
    survives(&EXT4);
}

#[test]
fn an_image_survives_a_power_cut_on_ext4_without_a_journal_as_root() {
    survives(&EXT4_WITHOUT_JOURNAL);
}

#[test]
fn an_image_survives_a_power_cut_on_xfs_as_root() {
    survives(&XFS);
}

#[test]
fn an_image_survives_a_power_cut_on_btrfs_as_root() {
    survives(&BTRFS);
}

#[test]
fn a_name_is_given_only_to_a_file_that_is_on_the_disk_as_root() {
    for kind in [&EXT2, &EXT4_WITHOUT_JOURNAL] {
        let (mut cut, device, mount) = Cut::new("given", kind);
        cut.amid("disk.raw mnt/new.qcow2", "new.qcow2");
        cut.amid("disk.raw mnt/old.qcow2", "old.qcow2");
        cut.has_all(device, mount);
    }
}
