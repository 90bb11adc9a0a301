//! The files hold what the disk holds, or nothing.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};

use super::served::{Served, bytes};
use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dir, flip, names_in, noise, tool};

const MIB: usize = 1 << 20;

/// A disk with holes, noise, and what can be compressed.
fn content() -> Vec<u8> {
    let mut content = noise(1, 3 * MIB);
    content.extend(vec![0; MIB]);
    content.extend(b"all work and no play\n".repeat(MIB / 10));
    content.truncate(6 * MIB + 1536);
    content
}

/// A disk with two partitions: from 1 MiB on 2 MiB, from 3 MiB on 2 MiB.
fn partitioned(dir: &Dir) -> Vec<u8> {
    let mut content = noise(7, 6 * MIB);
    content[..MIB].fill(0);
    fs::write(dir.join("disk.raw"), &content).unwrap();
    drop(Loop::partitioned(&dir.join("disk.raw")));
    content = fs::read(dir.join("disk.raw")).unwrap();
    content
}

#[test]
fn eight_readers_at_once_read_what_was_imaged_while_the_image_is_deleted_as_root() {
    for options in [
        "",
        "-c zstd",
        "-c zlib --cluster-size 4K",
        "-c zstd --cluster-size 2M",
    ] {
        let dir = Dir::new("mount-read");
        fs::write(dir.join("disk.raw"), content()).unwrap();
        let image = dir.image(options);
        let served = Served::new(&dir, "", "disk.qcow2");
        let expected = tool("sha256sum", [dir.join("disk.raw")]);

        let start = |_| {
            let mut sum = Command::new("sha256sum");
            sum.arg(served.join("disk.raw"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let readers: Vec<_> = (0..8).map(start).collect();
        fs::remove_file(&image).unwrap();

        for reader in readers {
            let output = reader.wait_with_output().unwrap();
            let sum = String::from_utf8(output.stdout).unwrap();
            assert_eq!(sum.split(' ').next(), expected.split(' ').next(), "{options}");
        }
        served.unmount();
        assert_eq!(dir.names(), ["disk.raw", "point"]);
    }
}

#[test]
fn reads_of_any_size_at_any_place_agree_with_the_disk_as_root() {
    let dir = Dir::new("mount-pieces");
    let content = content();
    fs::write(dir.join("disk.raw"), &content).unwrap();
    dir.image("-c zstd");
    let served = Served::new(&dir, "-j 3", "disk.qcow2");
    let file = File::open(served.join("disk.raw")).unwrap();
    // What the kernel has already is not asked for again.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
    let mut dice = crate::support::Dice::new(3);
    for _ in 0..2000 {
        let at = dice.below(content.len() as u64) as usize;
        let length = dice.below(200_000) as usize;
        let end = content.len().min(at + length);
        let mut found = vec![0; end - at];
        file.read_exact_at(&mut found, at as u64).unwrap();
        assert!(found == content[at..end], "{at} {length}");
    }
    let mut behind = [0; 10];
    assert_eq!(file.read_at(&mut behind, content.len() as u64).unwrap(), 0);
}

#[test]
fn partitions_are_files_of_their_own_as_root() {
    let dir = Dir::new("mount-partitions");
    let content = partitioned(&dir);
    dir.image("-c zstd");
    let served = Served::new(&dir, "", "disk.qcow2");

    assert_eq!(names_in(served.point()), ["disk.raw", "part1.raw", "part2.raw"]);
    assert!(fs::read(served.join("disk.raw")).unwrap() == content);
    assert!(fs::read(served.join("part1.raw")).unwrap() == content[MIB..3 * MIB]);
    assert!(fs::read(served.join("part2.raw")).unwrap() == content[3 * MIB..5 * MIB]);
    for name in ["disk.raw", "part2.raw"] {
        let metadata = fs::metadata(served.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o400);
        let image = fs::metadata(dir.join("disk.qcow2")).unwrap();
        assert_eq!(metadata.modified().unwrap(), image.modified().unwrap());
    }
    let options = tool(
        "findmnt",
        ["-no", "OPTIONS,FSTYPE", served.point().to_str().unwrap()],
    );
    for option in ["ro,", "nosuid,", "nodev,", "noexec,", "fuse.mkqcow2"] {
        assert!(options.contains(option), "{options}");
    }
    assert!(File::options().write(true).open(served.join("disk.raw")).is_err());
}

#[test]
fn an_image_with_a_backing_file_shows_both_as_root() {
    let dir = Dir::new("mount-chain");
    let mut content = content();
    fs::write(dir.join("disk.raw"), &content).unwrap();
    dir.image("-c zstd");
    let overlay = dir.join("overlay.qcow2");
    tool(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            "disk.qcow2",
            overlay.to_str().unwrap(),
        ],
    );
    tool(
        "qemu-io",
        ["-c", "write -q -P 7 1M 300k", overlay.to_str().unwrap()],
    );
    content[MIB..MIB + 300 * 1024].fill(7);

    Served::expected(&dir, "overlay.qcow2")
        .mount(&dir, "")
        .exits(1)
        .says("pass --follow");
    let served = Served::new(&dir, "--follow", "overlay.qcow2");
    assert!(fs::read(served.join("disk.raw")).unwrap() == content);
}

#[test]
fn damage_is_an_error_and_never_zeros_and_the_rest_can_be_read_as_root() {
    for options in ["", "-c zstd"] {
        let dir = Dir::new("mount-damaged");
        let content = noise(2, 4 * MIB);
        fs::write(dir.join("disk.raw"), &content).unwrap();
        let image = dir.image(options);
        // In the middle of the data, whatever lies there.
        let size = fs::metadata(&image).unwrap().len();
        flip(&image, size / 2, 0x10);
        let served = Served::new(&dir, "", "disk.qcow2");

        let file = served.join("disk.raw");
        let cluster = 64 << 10;
        let mut damaged = Vec::new();
        for at in (0..content.len()).step_by(cluster) {
            match bytes(&file, at as u64, cluster) {
                Ok(bytes) => assert!(bytes == content[at..at + cluster]),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(5), "{error}");
                    damaged.push(at);
                }
            }
        }
        assert_eq!(damaged.len(), 1, "{options}");
        assert!(fs::read(&file).is_err());
    }
}

#[test]
fn a_file_is_copied_out_of_a_filesystem_by_a_loop_mount_as_root() {
    let dir = Dir::new("mount-loop");
    dir.sparse("disk.raw", 16 << 20, &[]);
    let disk = dir.join("disk.raw");
    make_ext4(&disk);
    let wanted = noise(9, 300_000);
    let mount = Mount::new("loop", &disk, dir.join("made"));
    fs::write(mount.join("wanted"), &wanted).unwrap();
    drop(mount);
    dir.image("-c zstd");
    let served = Served::new(&dir, "", "disk.qcow2");

    let mount = Mount::new("ro,loop", &served.join("disk.raw"), dir.join("mounted"));
    assert!(fs::read(mount.join("wanted")).unwrap() == wanted);
    drop(mount);
    served.unmount();
}
