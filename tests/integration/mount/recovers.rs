//! Filesystems whose machine lost its power: the kernel replays their journal in a mount that can be written to, and
//! every file that was synced is there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::served::{Served, unmount};
use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::{Loop, Mount};
use crate::support::{Dir, noise, tool};

/// A filesystem: what makes it, of how many MiB, and its options for a mount that may not write.
struct Kind {
    name: &'static str,
    mkfs: &'static str,
    size: u64,
    only_read: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "ext4",
        mkfs: "mkfs.ext4 -q -F",
        size: 64,
        only_read: "ro",
    },
    Kind {
        name: "xfs",
        mkfs: "mkfs.xfs -q -f",
        size: 320,
        only_read: "ro",
    },
    Kind {
        name: "btrfs",
        mkfs: "mkfs.btrfs -q -f",
        size: 128,
        only_read: "ro",
    },
];

/// The content of a file.
fn content(number: u64) -> Vec<u8> {
    noise(number, 20_000 + 1000 * number as usize)
}

/// Makes a disk on which `count` files were synced one by one, and copies it while it is mounted.
fn crashed(dir: &Dir, kind: &Kind, count: u64) {
    let live = dir.sparse("live.raw", kind.size << 20, &[]);
    let mut words = kind.mkfs.split(' ');
    tool(words.next().unwrap(), words.chain([live.to_str().unwrap()]));
    let device = Loop::over(&live);
    let mount = Mount::new("rw", device.path(), dir.join("live"));
    for number in 0..count {
        let file = File::create(mount.join(&number.to_string())).unwrap();
        file.write_all_at(&content(number), 0).unwrap();
        file.sync_all().unwrap();
    }
    let paths = ["live.raw", "disk.raw"].map(|name| dir.join(name));
    tool(
        "cp",
        [
            "--sparse=always",
            paths[0].to_str().unwrap(),
            paths[1].to_str().unwrap(),
        ],
    );
    drop(mount);
}

/// How many of the files are there; those are as they were.
fn files(root: &Path, count: u64) -> u64 {
    let numbers = (0..count).filter(|number| {
        let found = fs::read(root.join(number.to_string()));
        found.is_ok_and(|found| found == content(*number))
    });
    numbers.count() as u64
}

#[test]
fn a_journal_is_replayed_into_what_is_forgotten_as_root() {
    const COUNT: u64 = 20;
    for kind in KINDS {
        let dir = Dir::new(&format!("mount-{}", kind.name));
        crashed(&dir, &kind, COUNT);
        let image = dir.image("-c zstd");
        let before = fs::read(&image).unwrap();

        // It needs a replay: what may not be written to is not all there, or cannot be mounted at all.
        let only_read = Served::new(&dir, "", "disk.qcow2");
        let point = dir.join("inside");
        let options = format!("loop,{}", kind.only_read);
        let arguments = [
            "-o",
            &options,
            only_read.join("disk.raw").to_str().unwrap(),
            point.to_str().unwrap(),
        ]
        .map(str::to_owned);
        fs::create_dir(&point).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(&arguments)
            .output()
            .unwrap();
        if mounted.status.success() {
            let found = files(&point, COUNT);
            unmount(&point);
            assert!(found < COUNT, "{}: nothing is in the journal", kind.name);
        }
        only_read.unmount();

        let served = Served::new(&dir, "--copy-on-write", "disk.qcow2");
        let mount = Mount::new("loop", &served.join("disk.raw"), dir.join("inside"));
        assert_eq!(files(mount.point(), COUNT), COUNT, "{}", kind.name);
        fs::write(mount.join("new"), "written").unwrap();
        tool("sync", ["-f", mount.point().to_str().unwrap()]);
        drop(mount);
        let again = Mount::new("loop", &served.join("disk.raw"), dir.join("inside"));
        assert_eq!(fs::read(again.join("new")).unwrap(), b"written");
        drop(again);
        served.unmount();
        assert!(fs::read(&image).unwrap() == before, "{}", kind.name);
    }
}

/// The example of the manual: the files are those that Windows sees, whatever mkqcow2 knows of NTFS.
#[test]
fn a_file_of_an_ntfs_in_a_partition_is_read_through_ntfs_3g_as_root() {
    let dir = Dir::new("mount-ntfs");
    let disk = dir.sparse("disk.raw", 40 << 20, &[]);
    sfdisk(
        &disk,
        "label: gpt\nstart=2048,size=65536,type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
    );
    let device = Loop::part(&disk, 1 << 20, 32 << 20);
    tool("mkfs.ntfs", ["-Q", "-q", "-F", device.path().to_str().unwrap()]);
    let live = Mount::of_type("ntfs-3g", device.path(), dir.join("live"));
    fs::create_dir(live.join("Users")).unwrap();
    for number in 0..20 {
        fs::write(live.join(&format!("Users/{number}")), content(number)).unwrap();
    }
    fs::remove_file(live.join("Users/7")).unwrap();
    drop(live);
    drop(device);
    dir.image("-c zstd");
    let served = Served::new(&dir, "", "disk.qcow2");
    let point = dir.join("inside");
    fs::create_dir(&point).unwrap();
    let part = served.join("part1.raw");
    let words = [
        "-t",
        "ntfs-3g",
        "-o",
        "ro,loop",
        part.to_str().unwrap(),
        point.to_str().unwrap(),
    ];
    tool("mount", words);
    let mount = Mount::of(point);
    assert_eq!(files(&mount.join("Users"), 20), 19);
    drop(mount);
    served.unmount();
}
