//! `restore --used-only`: what the image records as free stays as it was on the device, and nothing else does.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan, State};
use serde_json::json;

use crate::disk::Disk;
use crate::naive;
use crate::support::loops::{Loop, Mount};
use crate::support::{Dir, noise, qemu, tool};

const MIB: u64 = 1 << 20;

/// A sparse ext4 of 24 MiB with files, deleted files, and a file full of zeros that are holes of the disk.
fn ext4(dir: &Dir, options: &str) -> PathBuf {
    let disk = dir.sparse("disk.raw", 24 * MIB, &[]);
    let options = options.split_whitespace();
    let options = ["-q", "-F"].into_iter().chain(options);
    tool("mke2fs", options.chain([disk.to_str().unwrap()]));
    let device = Loop::over(&disk);
    let mount = Mount::new("rw", device.path(), dir.join("mnt"));
    fs::write(mount.join("zeros"), vec![0; 3 << 20]).unwrap();
    fs::write(mount.join("noise"), noise(1, 2 << 20)).unwrap();
    fs::write(mount.join("deleted"), noise(2, 3 << 20)).unwrap();
    File::open(mount.point()).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(File::open(mount.point()).unwrap()).unwrap();
    fs::remove_file(mount.join("deleted")).unwrap();
    drop(mount);
    drop(device);
    tool("fallocate", ["-d", disk.to_str().unwrap()]);
    disk
}

/// What of a disk is free, in bytes, as the library tells it.
fn free(disk: &Path) -> Vec<Range<u64>> {
    let source = disk::open(disk, Open::default()).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    let free = allocation.map.parts();
    free.filter_map(|(range, state, _)| (state == State::Free).then_some(range))
        .collect()
}

/// The clusters that lie in ranges as a whole, up to the end of a disk.
fn whole(ranges: &[Range<u64>], cluster_size: u64, size: u64) -> Vec<Range<u64>> {
    let clusters = ranges.iter().map(|range| {
        let end = if range.end == size {
            size.div_ceil(cluster_size)
        } else {
            range.end / cluster_size
        };
        range.start.div_ceil(cluster_size)..end
    });
    clusters
        .filter(|clusters| clusters.start < clusters.end)
        .collect()
}

/// Restores an image to a device that is full of something else. Returns what is there then, and what is told.
fn restored(dir: &Dir, options: &str, before: &[u8]) -> (Vec<u8>, String) {
    let target = dir.join("target.raw");
    fs::write(&target, before).unwrap();
    let device = Loop::over(&target);
    let run = format!("restore {options} image.qcow2 {}", device.path().display());
    let told = dir.run(&run).exits(0).stdout();
    drop(device);
    (fs::read(&target).unwrap(), told)
}

/// Holds what was restored to the disk, but for clusters that are free, which must be as they were.
#[track_caller]
fn assert_restored(
    found: &[u8],
    disk: &[u8],
    before: &[u8],
    free: &[Range<u64>],
    cluster_size: u64,
    name: &str,
) {
    let mut expected = disk.to_vec();
    expected.resize(before.len(), 0);
    for clusters in free {
        let range = (clusters.start * cluster_size) as usize
            ..((clusters.end * cluster_size) as usize).min(disk.len());
        expected[range.clone()].copy_from_slice(&before[range]);
    }
    if found != expected {
        let at = found.iter().zip(&expected).position(|(a, b)| a != b);
        panic!("{name}: it differs from byte {at:x?} on");
    }
}

#[test]
fn files_with_holes_beneath_them_come_back_as_zeros_as_root() {
    let dir = Dir::new("used-only-ext4");
    let disk = ext4(&dir, "-t ext4 -O ^metadata_csum");
    let (bytes, free) = (fs::read(&disk).unwrap(), free(&disk));
    let befores = [vec![0xff; bytes.len()], noise(9, bytes.len())];
    let expected_files = files(&dir, &disk);
    for (options, cluster_size, number) in [
        ("", 65536, 0),
        ("--compat 0.10", 65536, 1),
        ("--cluster-size 512 --compat 0.10", 512, 0),
        ("--cluster-size 4K -c zstd", 4096, 1),
        ("--cluster-size 2M -c zlib --compat 0.10", 2 << 20, 0),
        ("-c zstd --dedupe", 65536, 1),
    ] {
        dir.run(&format!("-q --no-sync {options} disk.raw image.qcow2"))
            .exits(0);
        let whole = whole(&free, cluster_size, bytes.len() as u64);
        assert_eq!(
            naive::Image::read(&dir.join("image.qcow2")).record().free,
            whole,
            "{options}"
        );
        let before = &befores[number];
        let (found, told) = restored(&dir, "--used-only --verify", before);
        let left: u64 = whole.iter().map(|run| run.end - run.start).sum::<u64>() * cluster_size;
        assert!(left > 5 * MIB, "{options}: {left} bytes are free");
        assert!(told.contains(", read back but for "), "{told}");
        // What is free in clusters that are used is zeros.
        let mut zeroed = bytes.clone();
        for range in &free {
            zeroed[range.start as usize..range.end as usize].fill(0);
        }
        assert_restored(&found, &zeroed, before, &whole, cluster_size, options);
        assert_eq!(files(&dir, &dir.join("target.raw")), expected_files, "{options}");
        // Without it, there is nothing of what was there.
        let (found, told) = restored(&dir, "--verify", before);
        assert!(told.ends_with(", read back\n"), "{told}");
        assert_restored(&found, &zeroed, before, &[], cluster_size, options);
    }
}

/// The files of an ext4, which is checked first.
fn files(dir: &Dir, disk: &Path) -> Vec<(String, Vec<u8>)> {
    tool("e2fsck", ["-fn", disk.to_str().unwrap()]);
    let device = Loop::read_only(disk);
    let mount = Mount::new("ro", device.path(), dir.join("look"));
    let names = ["zeros", "noise"];
    names
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(mount.join(name)).unwrap()))
        .collect()
}

#[test]
fn inode_tables_that_are_holes_come_back_as_zeros_as_root() {
    let dir = Dir::new("used-only-ext2");
    for options in ["-t ext2", "-t ext3 -b 1024", "-t ext4 -b 4096"] {
        let disk = ext4(&dir, options);
        for stream in [
            "-q disk.raw -",
            "-q --two-pass -c zstd disk.raw -",
            "-q --compat 0.10 disk.raw -",
        ] {
            fs::write(dir.join("image.qcow2"), dir.run(stream).exits(0).bytes()).unwrap();
            let before = vec![0xff; 24 << 20];
            restored(&dir, "--used-only --no-sync", &before);
            assert_eq!(
                files(&dir, &dir.join("target.raw")),
                files(&dir, &disk),
                "{options}: {stream}"
            );
        }
    }
}

#[test]
fn nothing_is_left_of_a_disk_in_which_nothing_is_free_as_root() {
    let dir = Dir::new("used-only-unknown");
    let disk = Disk::hole(8 * MIB).data(100..70_000).data(5 * MIB..6 * MIB);
    let bytes = fs::read(disk.file(&dir, "disk.raw")).unwrap();
    for options in ["", "--compat 0.10", "--scan sparse"] {
        dir.run(&format!("-q {options} disk.raw image.qcow2")).exits(0);
        let (found, told) = restored(&dir, "--used-only", &vec![0xff; bytes.len()]);
        assert!(found == bytes, "{options}");
        assert!(!told.contains("left"), "{told}");
    }
}

#[test]
fn gaps_between_partitions_come_back_as_zeros_as_root() {
    let dir = Dir::new("used-only-gaps");
    let disk = dir.sparse("disk.raw", 32 * MIB, &[]);
    fs::write(dir.join("table"), "label: gpt\nstart=1MiB, size=24MiB\n").unwrap();
    let (path, table) = (disk.to_str().unwrap(), dir.join("table"));
    tool(
        "sh",
        [
            "-c",
            "sfdisk -q \"$1\" < \"$2\"",
            "sh",
            path,
            table.to_str().unwrap(),
        ],
    );
    let part = ext4(&Dir::new("used-only-gaps-part"), "-t ext4");
    let file = File::options().write(true).open(&disk).unwrap();
    let mut content = fs::read(&part).unwrap_or_default();
    content.resize(24 << 20, 0);
    file.write_all_at(&content, MIB).unwrap();
    tool("fallocate", ["-d", path]);
    let (bytes, free) = (fs::read(&disk).unwrap(), free(&disk));
    for cluster_size in [4096, 65536] {
        dir.run(&format!("-q --cluster-size {cluster_size} disk.raw image.qcow2"))
            .exits(0);
        let before = noise(3, bytes.len());
        let (found, _) = restored(&dir, "--used-only", &before);
        for (at, (found, expected)) in found.iter().zip(&bytes).enumerate() {
            let at = at as u64;
            let is_free = free.iter().any(|range| range.contains(&at));
            assert!(is_free || found == expected, "byte {at:#x}");
        }
        tool("sgdisk", ["-v", dir.join("target.raw").to_str().unwrap()]);
    }
}

#[test]
fn images_that_do_not_record_what_is_free_are_refused_as_root() {
    let dir = Dir::new("used-only-refused");
    ext4(&dir, "-t ext4");
    dir.run("-q disk.raw ours.qcow2").exits(0);
    for format in ["qcow2", "qcow", "qed"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} disk.raw theirs.{format}"),
        );
    }
    qemu::img(&dir, "create -q -f qcow2 -b ours.qcow2 -F qcow2 overlay.qcow2");
    dir.run("-q --no-checksums disk.raw bare.qcow2").exits(0);
    for (name, changes) in [
        ("changed.qcow2", "write -P 7 0 512"),
        ("discarded.qcow2", "discard 0 64k"),
        ("zeroed.qcow2", "write -z 0 64k"),
    ] {
        fs::copy(dir.join("ours.qcow2"), dir.join(name)).unwrap();
        qemu::io(&dir, "qcow2", name, &[changes]);
    }
    fs::copy(dir.join("ours.qcow2"), dir.join("snapshot.qcow2")).unwrap();
    qemu::img(&dir, "snapshot -c before snapshot.qcow2");
    let before = vec![0xff; 24 << 20];
    fs::write(dir.join("target.raw"), &before).unwrap();
    let device = Loop::over(&dir.join("target.raw"));
    let advice = "(restore without --used-only: then everything that is not in the image becomes zeros)";
    for (image, why) in [
        (
            "theirs.qcow2",
            "another program made it, or it was made with --no-checksums",
        ),
        (
            "theirs.qcow",
            "another program made it, or it was made with --no-checksums",
        ),
        (
            "theirs.qed",
            "another program made it, or it was made with --no-checksums",
        ),
        (
            "bare.qcow2",
            "another program made it, or it was made with --no-checksums",
        ),
        (
            "--follow overlay.qcow2",
            "another program made it, or it was made with --no-checksums",
        ),
        ("changed.qcow2", "another program wrote to it since it was made"),
        ("discarded.qcow2", "another program wrote to it since it was made"),
        ("zeroed.qcow2", "another program wrote to it since it was made"),
        ("--snapshot before snapshot.qcow2", "another program wrote to it"),
    ] {
        for target in [device.path().display().to_string(), "new.raw".to_owned()] {
            dir.run(&format!("restore --used-only {image} {target}"))
                .exits(1)
                .says(why)
                .says(advice);
        }
    }
    drop(device);
    assert!(fs::read(dir.join("target.raw")).unwrap() == before);
}

#[test]
fn a_guest_that_writes_to_version_2_leaves_nothing_free_that_it_used_as_root() {
    let dir = Dir::new("used-only-guest");
    let disk = ext4(&dir, "-t ext4");
    let free = free(&disk);
    let hole = free.iter().max_by_key(|range| range.end - range.start).unwrap();
    let at = hole.start.next_multiple_of(65536);
    dir.run("-q --compat 0.10 disk.raw image.qcow2").exits(0);
    let write = format!("write -P 9 {at} 64k");
    qemu::io(&dir, "qcow2", "image.qcow2", &[&write]);
    fs::write(dir.join("target.raw"), vec![0xff; 24 << 20]).unwrap();
    let device = Loop::over(&dir.join("target.raw"));
    // The first new cluster takes the place of the checksums, and of what is free.
    dir.run(&format!(
        "restore --used-only image.qcow2 {}",
        device.path().display()
    ))
    .exits(1);
    drop(device);
}

#[test]
fn an_image_that_lost_what_tells_of_changes_is_not_believed_as_root() {
    let dir = Dir::new("used-only-amended");
    let disk = ext4(&dir, "-t ext4");
    let free = free(&disk);
    let largest = free.iter().max_by_key(|range| range.end - range.start).unwrap();
    // Zeros that a guest needs, where nothing was in use before.
    let zeros = format!("write -z {} 64k", largest.start.next_multiple_of(65536));
    dir.run("-q disk.raw image.qcow2").exits(0);
    dir.run("-q --compat 0.10 disk.raw old.qcow2").exits(0);
    qemu::io(&dir, "qcow2", "image.qcow2", &[&zeros]);
    qemu::img(&dir, "amend -f qcow2 -o compat=0.10 image.qcow2");
    let before = vec![0xff; 24 << 20];
    fs::write(dir.join("target.raw"), &before).unwrap();
    let device = Loop::over(&dir.join("target.raw"));
    let target = device.path().display();
    dir.run(&format!("restore --used-only image.qcow2 {target}"))
        .exits(1)
        .says("another program wrote to it since it was made");
    dir.run(&format!("restore --used-only --keep-going old.qcow2 {target}"))
        .exits(1)
        .says("--keep-going tolerates others");
    drop(device);
    assert!(fs::read(dir.join("target.raw")).unwrap() == before);
    // Version 3 tells of changes by a bit.
    dir.run("-q disk.raw new.qcow2").exits(0);
    dir.run("restore --used-only --keep-going new.qcow2 copy.raw")
        .exits(0);
    dir.run("compare new.qcow2 copy.raw").exits(0);
}

#[test]
fn a_damaged_record_is_told_and_never_believed_as_root() {
    let dir = Dir::new("used-only-damaged");
    ext4(&dir, "-t ext4");
    dir.run("-q disk.raw image.qcow2").exits(0);
    let good = fs::read(dir.join("image.qcow2")).unwrap();
    let at = good.windows(8).position(|bytes| bytes == b"mkqrecrd").unwrap();
    let length = u64::from_be_bytes(good[at + 24..at + 32].try_into().unwrap()) as usize;
    fs::write(dir.join("target.raw"), vec![0xff; 24 << 20]).unwrap();
    let device = Loop::over(&dir.join("target.raw"));
    for byte in (at..at + 36 + length).chain(good.len() - 40..good.len()) {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        fs::write(dir.join("image.qcow2"), &bad).unwrap();
        let is_footer = byte >= good.len() - 40;
        dir.run("verify image.qcow2").exits(2).prints(if is_footer {
            "footer at 0x"
        } else {
            "record at 0x"
        });
        if byte % 7 == 0 && !is_footer {
            dir.run(&format!(
                "restore --used-only image.qcow2 {}",
                device.path().display()
            ))
            .exits(1)
            .says("record at 0x");
            // Nothing else is lost with it.
            dir.run("restore -q image.qcow2 copy.raw")
                .exits(3)
                .says("warning: its record of the source is damaged");
            dir.run("info image.qcow2").exits(1).says("record at 0x");
        }
    }
    drop(device);
}

#[test]
fn what_is_free_is_told_by_info_map_and_plans_as_root() {
    let dir = Dir::new("used-only-told");
    let disk = ext4(&dir, "-t ext4 -b 4096");
    let size = 24 * MIB;
    let report = dir
        .run("--json --cluster-size 4K disk.raw image.qcow2")
        .exits(0)
        .json();
    let states = ["data", "metadata", "zeros", "free"];
    let [data, metadata, zeros, free_bytes] = states.map(|key| report[key].as_u64().unwrap());
    assert_eq!(data + metadata + zeros + free_bytes, size);
    let free: u64 = free(&disk).iter().map(|range| range.end - range.start).sum();
    assert_eq!(free_bytes, free);
    assert!(zeros >= 3 * MIB, "{report}");

    let info = dir.run("info --json image.qcow2").exits(0).json();
    let record = &info["record"];
    assert_eq!(
        (&record["state"], &record["free"], &record["unreadable"]),
        (&json!("unchanged"), &json!(free), &json!([]))
    );
    let parts = ["data", "zeros", "free"].map(|key| record[key].as_u64().unwrap());
    assert_eq!(parts.iter().sum::<u64>(), size);
    dir.run("info image.qcow2")
        .exits(0)
        .prints(&format!("disk               {} (", parts[0]));

    let map = dir.run("map --json image.qcow2").exits(0).json();
    let sum = |is: &dyn Fn(&serde_json::Value) -> bool| -> u64 {
        let ranges = map.as_array().unwrap().iter().filter(|range| is(range));
        ranges.map(|range| range["length"].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&|range| range["free"] == true), free);
    assert_eq!(sum(&|range| range["data"] == true), parts[0]);
    dir.run("map image.qcow2")
        .exits(0)
        .prints("  free\n")
        .prints("  zeros, unallocated\n");
    dir.run("map disk.raw")
        .exits(0)
        .prints("  zeros: hole, in use by ext4\n")
        .prints("  free: unused by ext4\n");

    let plan = dir
        .run("restore -n --json image.qcow2 target.raw")
        .exits(0)
        .json();
    assert_eq!(plan["free"], free);
    dir.run("restore -n image.qcow2 target.raw")
        .exits(0)
        .prints(&format!(" {free} free ("));

    // Written to, the record says nothing any more.
    qemu::io(&dir, "qcow2", "image.qcow2", &["write -P 7 0 512"]);
    let info = dir.run("info --json image.qcow2").exits(0).json();
    assert_eq!(
        (&info["record"]["state"], &info["record"]["free"]),
        (&json!("changed"), &json!(null))
    );
    dir.run("info image.qcow2")
        .exits(0)
        .prints("free               not known, written to since\n");
    dir.run("map image.qcow2").exits(0).prints("  unallocated\n");
}
