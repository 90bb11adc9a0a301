//! A disk restored to a device of another size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::filesystems::partitions::disk::sfdisk;
use crate::support::loops::{Loop, make_ext4};
use crate::support::{Dir, Run, noise, poke, tool};

const MIB: u64 = 1 << 20;

/// A disk of 32 MiB with partitions of 4 and 8 MiB from 1 MiB on, the second one with an ext4.
fn disk(dir: &Dir, script: &str) -> PathBuf {
    let disk = dir.sparse("disk.raw", 32 * MIB, &[(MIB, &noise(1, 4 << 20))]);
    sfdisk(&disk, script);
    let part = dir.sparse("part.raw", 8 * MIB, &[]);
    make_ext4(&part);
    poke(&disk, 5 * MIB, &fs::read(&part).unwrap());
    dir.run("-q disk.raw image.qcow2").exits(0);
    disk
}

const GPT: &str = "label: gpt\nstart=1M,size=4M,name=one\nstart=5M,size=8M,name=two\n";
const MBR: &str = "label: dos\nstart=1M,size=4M\nstart=5M,size=8M\n";

/// A device of so many bytes, full of 0xff.
fn device(dir: &Dir, size: u64) -> (PathBuf, Loop) {
    let path = dir.join("device.raw");
    fs::write(&path, vec![0xff; size as usize]).unwrap();
    let device = Loop::over(&path);
    (path, device)
}

fn restore(dir: &Dir, options: &str, device: &Loop) -> Run {
    dir.run(&format!(
        "restore {options} image.qcow2 {}",
        device.path().display()
    ))
}

/// What sgdisk finds wrong with a disk, and the partitions it finds there.
fn sgdisk(disk: &Path) -> (String, Vec<String>) {
    let verified = Command::new("sgdisk").arg("-v").arg(disk).output().unwrap();
    let said = String::from_utf8(verified.stdout).unwrap() + &String::from_utf8(verified.stderr).unwrap();
    let printed = tool("sgdisk", ["-p", disk.to_str().unwrap()]);
    let parts = printed
        .lines()
        .skip_while(|line| !line.starts_with("Number"))
        .skip(1);
    (said, parts.map(str::to_owned).collect())
}

#[test]
fn a_gpt_fits_a_device_of_another_size_as_root() {
    let dir = Dir::new("fit");
    let disk = disk(&dir, GPT);
    let (sound, parts) = sgdisk(&disk);
    assert!(sound.contains("No problems found"), "{sound}");
    let guid = |disk: &Path| tool("sfdisk", ["--disk-id", disk.to_str().unwrap()]);
    let source = fs::read(&disk).unwrap();
    // Much and little larger and smaller, with the new backup over the old one, and not of whole clusters or sectors.
    for size in [
        64 * MIB,
        32 * MIB + 512,
        32 * MIB + 40 * 512,
        32 * MIB,
        32 * MIB - 512,
        31 * MIB + 3 * 4096,
        13 * MIB + 33 * 512,
    ] {
        let (path, device) = device(&dir, size);
        restore(&dir, "--fit --verify", &device).exits(0).prints(&format!(
            ", GPT made to fit; partprobe {} lets the kernel see its partitions\n",
            device.path().display()
        ));
        tool("sfdisk", ["--verify", device.path().to_str().unwrap()]);
        drop(device);
        let (said, found) = sgdisk(&path);
        assert!(said.contains("No problems found"), "{size}: {said}");
        assert_eq!((found, guid(&path)), (parts.clone(), guid(&disk)), "{size}");
        let written = fs::read(&path).unwrap();
        let (start, end) = (1 << 20, 5 << 20);
        assert!(written[start..end] == source[start..end], "{size}");
        let last = &written[written.len() - 512..];
        assert_eq!(&last[..8], b"EFI PART", "{size}");
        // No second backup that others could take for one.
        let backups = written
            .chunks(512)
            .filter(|sector| sector.starts_with(b"EFI PART"));
        assert_eq!(backups.count(), 2, "{size}");
        fs::write(dir.join("part.raw"), &written[5 << 20..13 << 20]).unwrap();
        tool("e2fsck", ["-fn", dir.join("part.raw").to_str().unwrap()]);
    }
}

#[test]
fn a_gpt_that_cannot_fit_is_refused_before_anything_is_written_as_root() {
    let dir = Dir::new("fit-refused");
    disk(&dir, GPT);
    let refused = |size, options: &str, words: &str| {
        let (path, device) = device(&dir, size);
        restore(&dir, options, &device).exits(1).says(words);
        drop(device);
        assert!(
            fs::read(path).unwrap().iter().all(|byte| *byte == 0xff),
            "{words}"
        );
    };
    refused(
        13 * MIB + 32 * 512,
        "--fit",
        "partition \"2\": it ends where the backup of the GPT would have to be",
    );
    refused(
        31 * MIB,
        "",
        "too small: 31.00 MiB, the disk has 32.00 MiB, 1048576 bytes more, of which 65536 are in use",
    );
    refused(
        31 * MIB,
        "",
        "(only the backup GPT lies there: --fit puts it to the end of TARGET)",
    );
    // Something else lies between the last partition and the backup.
    poke(&dir.join("disk.raw"), 20 * MIB + 5, b"x");
    dir.run("-q disk.raw image.qcow2").exits(0);
    refused(
        20 * MIB,
        "--fit",
        "of which 65536 are in use, the last one in front of 0x1410000",
    );
    let (_, larger) = device(&dir, 21 * MIB);
    restore(&dir, "--fit", &larger).exits(0);
    drop(larger);
    dir.run("restore --fit image.qcow2 new.raw")
        .exits(1)
        .says("new.raw: is no block device");
    dir.run("restore --fit --part 1 image.qcow2 new.raw").exits(64);
    disk(&dir, MBR);
    refused(64 * MIB, "--fit", "has no GPT that could be made to fit");
    assert!(!dir.join("new.raw").exists());
}

#[test]
fn without_the_option_a_gpt_that_does_not_fit_is_told_as_root() {
    let dir = Dir::new("fit-told");
    disk(&dir, GPT);
    let (path, device) = device(&dir, 40 * MIB);
    restore(&dir, "-n", &device)
        .exits(0)
        .prints("would be overwritten but for the last 8388608 (8.00 MiB)\n")
        .says("(--fit puts it there)");
    restore(&dir, "-n --fit", &device)
        .exits(0)
        .prints("would be overwritten, the GPT made to fit\n");
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0xff));
    restore(&dir, "", &device)
        .exits(0)
        .says("warning: is larger than the disk: the backup GPT is not at its end, where programs look for it (--fit puts it there)\n");
}

#[test]
fn a_smaller_device_will_do_if_nothing_in_use_is_left_out_as_root() {
    let dir = Dir::new("fit-smaller");
    let disk = disk(&dir, MBR);
    let source = fs::read(&disk).unwrap();
    let (path, smaller) = device(&dir, 13 * MIB);
    restore(&dir, "--verify", &smaller)
        .exits(0)
        .says("warning: is smaller: the last 19922944 bytes are left out, which are not in use\n");
    drop(smaller);
    let written = fs::read(&path).unwrap();
    assert!(written[..5 << 20] == source[..5 << 20]);
    fs::write(dir.join("part.raw"), &written[5 << 20..]).unwrap();
    tool("e2fsck", ["-fn", dir.join("part.raw").to_str().unwrap()]);

    // The end of the ext4 is free, but it goes by its size.
    let (path, cut) = device(&dir, 13 * MIB - 4096);
    restore(&dir, "", &cut)
        .exits(1)
        .says("too small: 13.00 MiB, and partition 2 reaches up to 13.00 MiB, if only with free space");
    restore(&dir, "--force", &cut)
        .exits(3)
        .says("which are free, but partition 2 reaches into them: no program can use it there");
    drop(cut);
    assert!(fs::read(&path).unwrap()[..5 << 20] == source[..5 << 20]);

    let (_, small) = device(&dir, 4 * MIB);
    restore(&dir, "--force", &small)
        .exits(1)
        .says("are in use, the last one in front of");
    restore(&dir, "--part 2", &small)
        .exits(1)
        .says("partition 2 (ext4) reaches up to 8.00 MiB");
    restore(&dir, "--force --part 2", &small)
        .exits(3)
        .says("no program can use it there");
    drop(small);
    // Who cannot tell what is free cannot tell what is not in use.
    dir.run("-q --no-checksums disk.raw image.qcow2").exits(0);
    let (_, smaller) = device(&dir, 13 * MIB);
    restore(&dir, "", &smaller)
        .exits(1)
        .says("too small: 13.00 MiB, the disk has 32.00 MiB, 19922944 bytes more (an image that records");
}

#[test]
fn a_gpt_of_large_sectors_fits_as_root() {
    let dir = Dir::new("fit-4096");
    let path = dir.sparse("disk.raw", 32 * MIB, &[]);
    let source = Loop::with_sectors(&path, 4096);
    sfdisk(source.path(), "label: gpt\nstart=1M,size=4M\nstart=5M,size=8M\n");
    dir.run(&format!("-q {} image.qcow2", source.path().display()))
        .exits(0);
    drop(source);
    let path = dir.join("device.raw");
    fs::write(&path, vec![0xff; 48 << 20]).unwrap();
    let target = Loop::with_sectors(&path, 4096);
    restore(&dir, "--fit", &target).exits(0);
    let said = tool("sgdisk", ["-v", target.path().to_str().unwrap()]);
    assert!(said.contains("No problems found"), "{said}");
}
