//! What cannot be opened, read, trusted or told.

use std::fs::{self, File};

use serde_json::json;

use super::{MIB, patchwork};
use crate::disk::Disk;
use crate::support::loops::{Fuse, Loop, Mount, Running, make_ext4};
use crate::support::{Dir, Run, flip, qemu};

#[test]
fn a_list_that_nobody_reads_to_its_end_is_broken_off() {
    let dir = Dir::new("compare-head");
    dir.sparse("zeros.raw", 64 * MIB, &[]);
    let every_other: Vec<u8> = (0..64 * MIB as usize)
        .map(|at| u8::from(at % 1024 == 0))
        .collect();
    fs::write(dir.join("b.raw"), every_other).unwrap();

    let mut command = dir.command(["compare", "--all", "zeros.raw", "b.raw"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer);
    drop(reader);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = dir.command(["compare", "--all", "zeros.raw", "b.raw"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let all = dir.run("compare --all --json zeros.raw b.raw").exits(1).json();
    assert_eq!(all["ranges"].as_array().unwrap().len(), 65536);
}

#[test]
fn damage_is_told_of_the_one_that_has_it() {
    let dir = Dir::new("compare-damage");
    let disk = Disk::hole(4 * MIB).data(0..MIB).data(3 * MIB..4 * MIB);
    let raw = disk.file(&dir, "disk.raw");
    qemu::img(&dir, "convert -O qcow2 disk.raw good.qcow2");
    qemu::img(&dir, "convert -O qcow2 disk.raw bad.qcow2");
    let file = File::options().write(true).open(dir.join("bad.qcow2")).unwrap();
    file.set_len(fs::metadata(dir.join("bad.qcow2")).unwrap().len() - 512 * 1024)
        .unwrap();

    for pair in [
        "bad.qcow2 good.qcow2",
        "good.qcow2 bad.qcow2",
        "disk.raw bad.qcow2",
    ] {
        for options in ["", "--all", "-j 7"] {
            let run = dir.run(&format!("compare {options} {pair}")).exits(2);
            assert!(
                run.stderr().starts_with("mkqcow2: bad.qcow2: "),
                "{}",
                run.stderr()
            );
        }
    }
    // What was to be read in one go is compared up to the damage.
    let small = Disk::hole(MIB).data(0..200_000).data(700_000..MIB);
    let raw_of_small = small.file(&dir, "small.raw");
    qemu::img(&dir, "convert -O qcow2 small.raw small.qcow2");
    let file = File::options().write(true).open(dir.join("small.qcow2")).unwrap();
    // The last cluster of the second data, then all six.
    for (lost, first, at) in [(1, "0xf0000", 900_000), (5, "0xa0000", 10)] {
        let whole = fs::metadata(dir.join("small.qcow2")).unwrap().len();
        file.set_len(whole - lost * 65536).unwrap();
        let says = format!("(guest {first} to ");
        dir.run("compare small.raw small.qcow2").exits(2).says(&says);
        flip(&raw_of_small, at, 0x40);
        let first = dir.run("compare --json small.qcow2 small.raw").exits(1).json();
        assert_eq!(first["first-difference"], json!(at));
        let all = dir
            .run("compare --all --json small.raw small.qcow2")
            .exits(2)
            .json();
        assert_eq!(all["ranges"], json!([{"start": at / 512 * 512, "length": 512}]));
        flip(&raw_of_small, at, 0x40);
    }
    // A difference in front of it is a difference; what is behind it nobody can tell.
    flip(&raw, 700_000, 0x40);
    dir.run("compare disk.raw bad.qcow2")
        .exits(1)
        .prints("first at 0xaae60");
    let all = dir.run("compare --all --json disk.raw bad.qcow2").exits(2).json();
    assert_eq!(all["ranges"], json!([{"start": 699_904, "length": 512}]));
    assert_eq!((&all["path"], &all["status"]), (&json!("bad.qcow2"), &json!(2)));
    assert!(all["error"].as_str().unwrap().contains("guest"), "{all}");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = Dir::new("compare-open");
    dir.sparse("disk.raw", MIB, &[]);
    fs::create_dir(dir.join("directory")).unwrap();
    for (other, says) in [
        ("missing", "cannot open: No such file or directory"),
        (
            "directory",
            "is a directory, expected a regular file or a block device",
        ),
        (
            "/dev/zero",
            "is a character device, expected a regular file or a block device",
        ),
    ] {
        let says = format!("mkqcow2: {other}: {says}");
        dir.run(&format!("compare {other} disk.raw")).exits(2).says(&says);
        dir.run(&format!("compare disk.raw {other}")).exits(2).says(&says);
    }
    let failure = dir.run("compare --json disk.raw missing").exits(2).json();
    assert_eq!(failure["path"], json!("missing"));
    assert_eq!(
        (&failure["a"], &failure["b"]),
        (&json!("disk.raw"), &json!("missing"))
    );
    for usage in [
        "disk.raw",
        "disk.raw disk.raw disk.raw",
        "disk.raw -",
        "-j 0 disk.raw disk.raw",
        "--format-a vmdk disk.raw disk.raw",
    ] {
        dir.run(&format!("compare {usage}")).exits(64);
    }
}

#[test]
fn devices_are_compared_with_files_and_with_themselves_as_root() {
    let dir = Dir::new("compare-device");
    let disk = patchwork(4 * MIB);
    let raw = disk.file(&dir, "disk.raw");
    disk.file(&dir, "copy.raw");
    qemu::img(&dir, "convert -c -O qcow2 disk.raw disk.qcow2");
    let device = Loop::over(&dir.join("copy.raw"));
    let name = device.path().display();

    dir.run(&format!("compare disk.qcow2 {name}")).exits(0);
    dir.run(&format!("compare {name} disk.raw")).exits(0);
    // The device, and the file behind it, which is claimed with it.
    dir.run(&format!("compare {name} {name}")).exits(0);
    dir.run(&format!("compare copy.raw {name}")).exits(0);
    dir.run(&format!("compare {name} copy.raw")).exits(0);
    flip(&raw, 123_456, 0x40);
    dir.run(&format!("compare {name} disk.raw"))
        .exits(1)
        .prints("first at 0x1e240");
}

#[test]
fn a_mounted_device_is_compared_only_by_force_as_root() {
    let dir = Dir::new("compare-mounted");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    dir.run("-q disk.raw disk.qcow2").exits(0);
    let device = Loop::over(&file);
    let name = device.path().display().to_string();
    let mount = Mount::new("rw", device.path(), dir.join("mnt"));

    for pair in [format!("disk.qcow2 {name}"), format!("{name} disk.qcow2")] {
        let says = format!(
            "mkqcow2: {name}: mounted read-write on {}",
            mount.point().display()
        );
        dir.run(&format!("compare {pair}"))
            .exits(2)
            .says(&says)
            .says("--force");
        let forced = dir.run(&format!("compare --force --json {pair}")).exits(1);
        assert!(
            forced.stderr().contains("warning: is mounted read-write"),
            "{}",
            forced.stderr()
        );
        assert_eq!(forced.json()["warnings"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn what_changes_while_it_is_read_proves_nothing_as_root() {
    let dir = Dir::new("compare-changed");
    let disk = Disk::hole(2 * MIB).data(0..MIB);
    let raw = disk.file(&dir, "disk.raw");
    qemu::img(&dir, "convert -O qcow2 disk.raw disk.qcow2");
    let plugin = [
        "--filter=delay",
        "file",
        raw.to_str().unwrap(),
        "delay-read=200ms",
    ];
    let slow = Fuse::disk(dir.join("slow.raw"), &plugin);
    for changed in ["disk.qcow2", "disk.raw"] {
        let slow = slow.path().display();
        let run = Running::start(&dir, &format!("compare --json {changed} {slow}"));
        std::thread::sleep(std::time::Duration::from_millis(400));
        let file = File::options().write(true).open(dir.join(changed)).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        let run: Run = run.ends().exits(2).says(&format!(
            "mkqcow2: {changed}: warning: changed while it was read (its modification time changed): \
             the comparison proves nothing"
        ));
        assert_eq!(run.json()["equal"], json!(null));
    }
}
