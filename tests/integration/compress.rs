//! Compressed images: what goes in comes out, whatever it is, and QEMU, the naive reader and we ourselves agree
//! on every byte.

mod faults;
mod property;
mod writable;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;

use crate::disk::Disk;
use crate::format::Format;
use crate::naive;
use crate::refusals::misused;
use crate::support::{Dice, Dir, MKQCOW2, assert_equals, noise, qemu};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How many clusters are compared by QEMU, which takes a tenth of a millisecond for each.
const PATIENCE: usize = 20_000;

/// Words that come again and again: what becomes much smaller. Other seeds are other words.
pub fn text(seed: u64, length: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "cluster", "the", "of", "a", "table", "refcount", "and", "is", "stream", "in", "offset", "to",
        "bytes", "image", "that", "disk",
    ];
    let mut dice = Dice::new(seed);
    let mut text = format!("{seed}:");
    while text.len() < length as usize {
        text.push(' ');
        text.push_str(WORDS[dice.below(16) as usize]);
    }
    text.truncate(length as usize);
    text.into_bytes()
}

/// A part of a program.
fn program(at: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    File::open(MKQCOW2)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

/// A disk with some of everything, in parts of a few clusters each.
fn all_kinds(cluster: u64) -> Disk {
    let part = cluster.max(64 * KIB);
    let alternating = |number: u64| {
        if number.is_multiple_of(2) {
            text(number, cluster)
        } else {
            noise(number, cluster as usize)
        }
    };
    let one_byte_different = |number: u64| {
        let mut bytes = text(77, cluster);
        bytes[(number * 131 % cluster) as usize] ^= 0x80;
        bytes
    };
    let clusters = 0..part / cluster + 2;
    let parts = [
        text(1, part),
        program(MIB, part),
        vec![0; part as usize],
        noise(2, part as usize),
        clusters.clone().flat_map(alternating).collect(),
        clusters.flat_map(one_byte_different).collect(),
        vec![0xff; part as usize],
        text(1, part),
    ];
    let size = parts.iter().map(|part| part.len() as u64).sum::<u64>() + 3 * part;
    // At the end, behind a hole, something that is neither a whole cluster nor a whole sector.
    let mut disk = Disk::hole(size + 700).bytes(size, text(3, 700));
    let mut at = 0;
    for part in parts {
        let length = part.len() as u64;
        disk = disk.bytes(at, part);
        at += length;
    }
    disk
}

/// Images a disk and holds the image to all there is to hold it to: other people's tools, the naive reader, our
/// own, what was planned and what was said.
#[track_caller]
pub fn image(dir: &Dir, format: Format, options: &str, disk: &Disk) -> naive::Image {
    let raw = disk.file(dir, "disk.raw");
    let run = |more: &str| {
        let arguments = format!("{more} {options} {format} disk.raw disk.qcow2");
        dir.run(&arguments).exits(0).json()
    };
    let (plan, report) = (run("-n --json"), run("--json --no-sync"));

    let path = dir.join("disk.qcow2");
    if disk.clusters(format.cluster_size).len() > PATIENCE {
        qemu::assert_clean(&path);
    } else {
        assert_equals(&raw, &path);
    }
    let image = naive::Image::read(&path);
    image.assert_holds(disk);
    image.assert_format(format, !options.contains("--no-checksums"));
    assert_eq!(image.is_zstd(), options.contains("zstd"));
    assert_was_said(&image, &plan, &report);
    if !options.contains("--dedupe") {
        assert_eq!(image.streams().count(), image.compressed().count());
    }

    for verb in ["verify -q", "check -q --data", "compare -q disk.raw"] {
        dir.run(&format!("{verb} disk.qcow2")).exits(0);
    }
    assert_is_told(dir, &image);
    if disk.size() > 1 << 30 {
        return image;
    }
    dir.run("restore -q --no-sync disk.qcow2 copy.raw").exits(0);
    let (mut expected, copy) = (fs::read(raw).unwrap(), dir.join("copy.raw"));
    expected.resize(expected.len().next_multiple_of(512), 0);
    assert!(
        fs::read(&copy).unwrap() == expected,
        "{options} {format}: restored"
    );
    fs::remove_file(copy).unwrap();
    image
}

/// Holds a plan and a report to the image, exactly where they claim to be exact.
#[track_caller]
fn assert_was_said(image: &naive::Image, plan: &Value, report: &Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&plan["image-size"]) >= image.length());
    assert_eq!(number(&report["written"]), image.length());
    assert_eq!(number(&report["data-clusters"]), image.data().count() as u64);
    if image.compat() == "1.1" {
        assert_eq!(number(&report["zero-clusters"]), image.zeros().count() as u64);
    }
    let (clusters, streams) = (image.compressed().count(), image.streams().count());
    let would_be: u64 = image.compressed().map(|(_, stream)| stream.length).sum();
    let bytes: u64 = image.streams().map(|stream| stream.length).sum();
    assert_eq!(number(&report["compressed-clusters"]), clusters as u64);
    assert_eq!(number(&report["stream-bytes"]), bytes);
    assert_eq!(number(&report["shared-clusters"]), (clusters - streams) as u64);
    assert_eq!(number(&report["shared-bytes"]), would_be - bytes);
}

/// Holds `info` to the image.
#[track_caller]
fn assert_is_told(dir: &Dir, image: &naive::Image) {
    let info = dir.run("info --json disk.qcow2").exits(0).json();
    let shared = image.compressed().count() - image.streams().count();
    assert_eq!(info["shared-clusters"], shared);
    assert_eq!(info["shared-bytes"], image.shared_bytes());
}

/// Images a disk of all kinds at all `levels`, the easiest first; the last takes no more room than the first.
fn at_levels(dir: &Dir, format: Format, method: &str, levels: &[&str]) {
    let disk = all_kinds(format.cluster_size);
    let sizes = levels.iter().map(|level| {
        let image = image(dir, format, &format!("-c {method}{level}"), &disk);
        // Noise does not become smaller, all else does, but for the first of 512 bytes of a program.
        assert!(image.compressed().count() > 0, "{method}{level} {format}");
        assert!(image.compressed().count() < image.data().count());
        image.streams().map(|stream| stream.length).sum()
    });
    let sizes: Vec<u64> = sizes.collect();
    assert!(sizes.last() <= sizes.first(), "{method} {format}: {sizes:?}");
}

/// The cluster sizes at which all levels are tried, but for the highest one at the last: it takes its time.
const SIZES: [u64; 4] = [512, 4 * KIB, 64 * KIB, 2 * MIB];

/// Images a disk of all kinds in all [`SIZES`] and at all `levels`.
fn at_sizes_and_levels(dir: &Dir, version: usize, method: &str, levels: &[&str]) {
    for cluster_size in SIZES {
        let count = levels.len() - usize::from(cluster_size > MIB);
        at_levels(dir, Format::both(cluster_size)[version], method, &levels[..count]);
    }
}

#[test]
fn all_kinds_of_data_come_back_from_zstd() {
    let dir = Dir::new("compress-zstd");
    at_sizes_and_levels(&dir, 1, "zstd", &[":1", "", ":19"]);
}

#[test]
fn all_kinds_of_data_come_back_from_zlib() {
    let dir = Dir::new("compress-zlib");
    at_sizes_and_levels(&dir, 1, "zlib", &[":1", "", ":9"]);
}

#[test]
fn all_kinds_of_data_come_back_from_zlib_in_version_2() {
    let dir = Dir::new("compress-zlib-2");
    at_sizes_and_levels(&dir, 0, "zlib", &[":1", ":9"]);
}

#[test]
fn all_cluster_sizes_will_do() {
    let dir = Dir::new("compress-sizes");
    for cluster_size in (9..=20).map(|bits| 1 << bits) {
        if !SIZES.contains(&cluster_size) {
            let [v2, v3] = Format::both(cluster_size);
            at_levels(&dir, v3, "zstd", &[""]);
            at_levels(&dir, v2, "zlib", &[""]);
        }
    }
}

#[test]
fn the_number_of_threads_makes_no_difference() {
    let dir = Dir::new("compress-threads");
    for (cluster_size, options) in [
        (512, "-c zstd --dedupe"),
        (4 * KIB, "-c zlib"),
        (64 * KIB, "-c zstd"),
        (64 * KIB, "-c zlib --dedupe"),
        (MIB, "-c zstd --dedupe"),
    ] {
        let format = Format::both(cluster_size)[1];
        all_kinds(cluster_size).file(&dir, "disk.raw");
        let bytes = [1, 2, 7].map(|threads| {
            let image = dir.image(format!("-j {threads} {options} {format}"));
            fs::read(image).unwrap()
        });
        assert!(
            bytes[0] == bytes[1] && bytes[0] == bytes[2],
            "{options} {format}: other bytes"
        );
    }
}

#[test]
fn a_level_that_is_not_given_is_the_default_and_none_is_no_compression() {
    let dir = Dir::new("compress-levels");
    all_kinds(64 * KIB).file(&dir, "disk.raw");
    for (left, right) in [
        ("-c zstd", "--compress=zstd:3"),
        ("-c zlib", "-c zlib:6"),
        ("", "-c none"),
    ] {
        let bytes = [left, right].map(|options| fs::read(dir.image(options)).unwrap());
        assert!(bytes[0] == bytes[1], "{left} is not {right}");
    }
}

#[test]
fn what_does_not_become_smaller_is_stored_as_it_is() {
    let dir = Dir::new("compress-noise");
    for method in ["zstd", "zlib:1"] {
        for cluster_size in SIZES {
            let format = Format::both(cluster_size)[1];
            let size = cluster_size.max(4 * KIB) * 5;
            let disk = Disk::hole(size).bytes(0, noise(5, size as usize));
            let compressed = image(&dir, format, &format!("-c {method}"), &disk);
            let plain = image(&dir, format, "", &disk);
            assert_eq!(compressed.compressed().count(), 0, "{method} {format}");
            assert_eq!(compressed.length(), plain.length(), "{method} {format}");
        }
    }
}

#[test]
fn a_stream_has_to_save_a_sector() {
    let dir = Dir::new("compress-sector");
    let [_, format] = Format::both(4 * KIB);
    // One cluster of each, with more and more that is easy.
    let cluster = |easy: u64| {
        let hard = noise(easy, (4 * KIB - easy) as usize);
        [hard, vec![b'a'; easy as usize]].concat()
    };
    let bytes: Vec<u8> = (480..620).flat_map(cluster).collect();
    let disk = Disk::hole(bytes.len() as u64).bytes(0, bytes);
    for method in ["zstd", "zlib"] {
        let image = image(&dir, format, &format!("-c {method}"), &disk);
        let longest = image.streams().map(|stream| stream.length).max();
        // That none is longer is for the naive reader to say.
        assert!(longest.unwrap() > 4 * KIB - 544, "{method}: {longest:?}");
        assert!(image.compressed().count() < image.data().count());
    }
}

#[test]
fn clusters_that_wait_for_a_stream_are_not_lost() {
    let dir = Dir::new("compress-wait");
    for options in ["-c zstd", "-c zlib --dedupe"] {
        let [_, format] = Format::both(64 * KIB);
        // More than wait at most, then again, and some that still wait at the end.
        let disk = Disk::hole(24 * MIB)
            .bytes(0, text(1, 64 * KIB))
            .bytes(64 * KIB, noise(1, 9 << 20))
            .bytes(10 * MIB, text(2, 200 * KIB))
            .bytes(11 * MIB, noise(2, 5 << 20))
            .bytes(17 * MIB, text(3, 100 * KIB))
            .bytes(18 * MIB, noise(3, 3 << 20));

        image(&dir, format, options, &disk);
    }
}

#[test]
fn nothing_waits_longer_than_the_tables() {
    let dir = Dir::new("compress-tables");
    let [v2, v3] = Format::both(512);
    for (format, options) in [(v3, "-c zstd"), (v2, "-c zlib"), (v3, "-c zlib --dedupe")] {
        // Tables are written after 512 of them, in the middle of streams and of clusters that wait.
        let reach = format.l2_reach();
        let disk = (0..1100).fold(Disk::hole(reach * 1100), |disk, table| {
            let end = (table + 1) * reach;
            let disk = disk.bytes(end - 4 * KIB, text(table % 300, 1024));
            match table % 3 {
                0 => disk.bytes(end - 3 * KIB, noise(table, 1024)),
                1 => disk.bytes(end - KIB, noise(table, 1024)),
                _ => disk,
            }
        });

        let image = image(&dir, format, options, &disk);

        assert_eq!(image.l2_tables(), 1100);
    }
}

#[test]
fn a_host_cluster_holds_no_more_streams_than_it_can_count() {
    let dir = Dir::new("compress-1023");
    let [v2, v3] = Format::both(32 * KIB);
    for (format, method) in [(v3, "zstd:1"), (v2, "zlib")] {
        // All different, and all of them tiny.
        let cluster = |number: u64| {
            let mut bytes = vec![b'x'; 32 << 10];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        let bytes: Vec<u8> = (0..1200).flat_map(cluster).collect();
        let disk = Disk::hole(bytes.len() as u64).bytes(0, bytes);

        let image = image(&dir, format, &format!("-c {method}"), &disk);

        assert_eq!(image.streams().count(), 1200);
        if method == "zstd:1" {
            assert_eq!(image.most_references(), 1023);
        }
    }
}

#[test]
fn a_plan_says_that_it_does_not_know_what_compression_saves() {
    let dir = Dir::new("compress-plan");
    Disk::hole(MIB).bytes(0, text(1, MIB)).file(&dir, "disk.raw");
    dir.run("-n -c zstd disk.raw disk.qcow2")
        .exits(0)
        .prints(", less after compression\n");
    dir.run("-v --no-sync -c zlib:2 disk.raw disk.qcow2")
        .exits(0)
        .prints("compressed by zlib, level 2: 16 clusters into ");
    let report = dir.run("--json --no-sync -c zlib disk.raw disk.qcow2").json();
    assert_eq!(
        (&report["compression"], &report["compression-level"]),
        (&"zlib".into(), &6.into())
    );
}

#[test]
fn what_cannot_be_compressed_like_that_is_refused() {
    let dir = Dir::new("compress-refused");
    dir.sparse("disk.raw", MIB, &[]);
    let methods = "expected none, zstd or zlib, such as zstd:9";
    let zstd = "expected 1 to 19 for zstd";
    let zlib = "expected 1 to 9 for zlib";
    let needs = "--dedupe needs --compress zstd or zlib: only compressed clusters can be shared";
    for (options, says) in [
        ("-c gzip", methods),
        ("-c ZSTD", methods),
        ("-c lz4:3", methods),
        ("-c", "--compress <METHOD>"),
        ("-c none:1", "none has no level"),
        ("-c zstd:", "the level is ''"),
        ("-c zstd:0", zstd),
        ("-c zstd:20", "the level is '20', expected 1 to 19 for zstd"),
        ("-c zstd:-1", zstd),
        ("-c zstd:3:4", "the level is '3:4'"),
        ("-c zlib:0", zlib),
        ("-c zlib:10", zlib),
        ("-c zlib:x", "the level is 'x', expected 1 to 9 for zlib"),
        (
            "-c zstd --compat 0.10",
            "--compress zstd needs --compat 1.1; version 2 knows zlib only",
        ),
        ("--dedupe", needs),
        ("--dedupe -c none", needs),
        (
            "-c zstd --dedupe --dedupe-memory 1048575",
            "1048575 bytes, expected 1M to 64G",
        ),
        ("-c zstd --dedupe --dedupe-memory 65G", "expected 1M to 64G"),
        ("-c zstd --dedupe --dedupe-memory 1X", "'X' is not a unit"),
        ("-c zstd --dedupe --dedupe-memory", "--dedupe-memory <SIZE>"),
    ] {
        misused(&dir, &format!("{options} disk.raw disk.qcow2"), says);
    }
}

#[test]
fn the_compression_type_is_named_as_qemu_names_it() {
    let dir = Dir::new("compress-name");
    qemu::img(
        &dir,
        "create -q -f qcow2 -o compression_type=zstd theirs.qcow2 64K",
    );
    // Only now it has the table.
    qemu::img(&dir, "amend -f qcow2 -o lazy_refcounts=on theirs.qcow2");
    // The table is the first extension, behind the header of 112 bytes.
    let entries = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes[112..116], 0x6803_f857_u32.to_be_bytes());
        let length = u32::from_be_bytes(bytes[116..120].try_into().unwrap()) as usize;
        let entries = bytes[120..120 + length].chunks(48).map(<[u8]>::to_vec);
        entries.collect::<Vec<_>>()
    };
    let theirs = entries(&dir.join("theirs.qcow2"));
    let of_compression = theirs.iter().find(|entry| entry[..2] == [0, 3]).unwrap();

    for (options, count) in [
        ("-c zstd", 2),
        ("-c zstd --cluster-size 512", 2),
        ("-c zstd --no-checksums", 1),
    ] {
        let path = Disk::hole(1 << 20).data(0..100).image(&dir, options);
        let ours = entries(&path);
        assert_eq!((ours.len(), &ours[0]), (count, of_compression), "{options}");
    }
}
