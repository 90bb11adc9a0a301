//! Damage of what is not data: every region of an image, every bit of a small one.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mkqcow2::Silent;
use mkqcow2::verify::{Options, verify};
use serde_json::{Value, json};

use super::{Parts, SMALL, disk, finding};
use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, flip, qemu};

/// The first words of the extension that points to the checksum table.
const EXTENSION: &[u8] = b"mkqc\0\0\0\x18";

#[test]
fn a_damaged_checksum_table_is_found_with_its_place() {
    let dir = Dir::new("verify-table");
    for format in Format::both(512) {
        let path = disk(format).image(&dir, format);
        let (table, end) = (Parts::of(&path).checksums, fs::metadata(&path).unwrap().len());
        // The table ends with its own checksum; what is behind it in the last cluster is padding.
        for at in [
            table,
            table + 8,
            table + 20,
            table + 31,
            table + 32,
            table + 44,
            table + 60,
        ] {
            assert!(at < end);
            flip(&path, at, 0x40);

            let run = dir.run("verify --json disk.qcow2").exits(2);

            let run = run.prints("checksum table at 0x");
            assert_eq!(finding(&run)["code"], "checksum-table");
            assert_eq!(
                (&run.json()["compared"], &run.json()["structures"]),
                (&Value::Null, &json!(1))
            );
            flip(&path, at, 0x40);
        }
    }
}

#[test]
fn damaged_tables_are_found_with_their_place_and_range() {
    let dir = Dir::new("verify-metadata");
    for format in [512, 64 << 10].into_iter().flat_map(Format::both) {
        let path = disk(format).image(&dir, format);
        let Parts { l1, l2, .. } = Parts::of(&path);
        let reach = format.l2_reach().min(disk(format).size());
        for (at, bits, says) in [
            (l1 + 7, 0x02, format!("L1 table at {l1:#x}: entry 0 is 0x")),
            (l1 + 7, 0x02, format!("(guest 0x0 to {reach:#x})")),
            (l1 + 2, 0x80, "expected an offset within the file".to_owned()),
            (l2 + 7, 0x02, format!("L2 table at {l2:#x}: entry 0 is 0x")),
            (l2 + 7, 0x02, format!("(guest 0x0 to {:#x})", format.cluster_size)),
            (l2 + 1, 0x40, "expected an offset within the file".to_owned()),
        ] {
            flip(&path, at, bits);
            let run = dir.run("verify disk.qcow2").exits(2).prints(" lost to damage");
            // By the reader, and not once more by the check.
            assert_eq!(run.stdout().matches(&says).count(), 1, "{}", run.stdout());
            flip(&path, at, bits);
        }
    }
}

#[test]
fn a_damaged_header_is_what_was_looked_for() {
    let dir = Dir::new("verify-header");
    let path = disk(SMALL).image(&dir, SMALL);
    for (at, bits, says) in [
        (0, 1, "header at 0x0: magic is 0x"),
        (23, 0x10, "header at 0x0: cluster_bits is 0x1c"),
        (31, 2, "checksum table at 0x"),
        (47, 0x40, "header at 0x0: l1_table_offset is 0x"),
    ] {
        flip(&path, at, bits);
        let run = dir.run("verify --json disk.qcow2").exits(2).prints(says);
        assert_eq!(run.json()["status"], 2);
        flip(&path, at, bits);
    }
}

#[test]
fn a_damaged_snapshot_is_named() {
    let dir = Dir::new("verify-snapshot-table");
    qemu::img(&dir, "create -q -f qcow2 disk.qcow2 1M");
    let path = dir.join("disk.qcow2");
    qemu::io(&dir, "qcow2", "disk.qcow2", &["write -c -P 1 0 64k"]);
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    let bytes = fs::read(&path).unwrap();
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let table = number(64);
    let l1 = number(table as usize);
    for (at, bits, says) in [
        (
            table + 36,
            1,
            format!("snapshot at {table:#x}: extra_data_size is 0x"),
        ),
        (
            table + 7,
            1,
            "snapshot \"before\": snapshot with the L1 table at 0x".to_owned(),
        ),
        (
            l1 + 7,
            2,
            format!(" lost to damage at 0x0 of the disk: L1 table at {l1:#x}: entry 0 is 0x"),
        ),
    ] {
        flip(&path, at, bits);
        dir.run("verify disk.qcow2").exits(2).prints(&says);
        flip(&path, at, bits);
    }
    dir.run("verify disk.qcow2").exits(0);
}

/// An image of ours with every region that there is, as small as it can be.
fn tiny(dir: &Dir, compat: &'static str) -> PathBuf {
    let format = Format {
        cluster_size: 512,
        compat,
    };
    // Two L2 tables.
    let disk = Disk::hole(65536)
        .data(0..700)
        .zeros(1024..2048)
        .data(40_000..40_001);
    disk.image(dir, format)
}

/// Whether the library says that all is right.
fn passes(path: &Path) -> bool {
    verify(path, Options::default(), &Silent).is_ok_and(|report| report.findings.is_empty())
}

#[test]
fn no_bit_of_an_image_can_change_unnoticed() {
    let dir = Dir::new("verify-bits");
    for compat in ["0.10", "1.1"] {
        let path = tiny(&dir, compat);
        let bytes = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        assert!(passes(&path), "{compat}");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let changed = bytes[at] ^ 1 << bit;
                file.write_all_at(&[changed], at as u64).unwrap();
                assert!(
                    !passes(&path) || is_harmless(&bytes, at, changed),
                    "{compat}: {at:#x} is {changed:#x} instead of {:#x}",
                    bytes[at]
                );
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}

/// Whether it does not matter to anybody that a byte of that image has changed.
fn is_harmless(image: &[u8], at: usize, changed: u8) -> bool {
    let number = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let (l1, table) = (number(40) as usize, checksum_table(image));
    let ranges = [
        // Where a backing file name of no bytes is; how many bytes one has at offset 0.
        0x08..0x14,
        // Where the snapshot table would be, if there were any snapshots.
        0x40..0x48,
        // The rest of the cluster of the L1 table, which has two entries, and what is between record and footer.
        l1 + 16..l1 + 512,
        record_end(image, table.end)..image.len() - 40,
    ];
    // More L1 entries than the disk needs, all of them empty.
    let is_more_l1 = at == 0x27 && changed > image[at];
    if is_more_l1 || ranges.iter().any(|range| range.contains(&at)) {
        return true;
    }
    if image[7] == 2 {
        // Behind the extensions.
        return (0x68..0x200).contains(&at);
    }
    let ranges = [
        // Features that can be ignored, by definition; that bit 63 is clear is told as a change.
        0x50..0x60,
        // Names of features.
        0x68..0xa0,
        // Behind the extensions.
        0xc0..0x200,
    ];
    // A cluster that is nowhere reads as zeros, with the zero flag or without.
    let is_zero_flag = at % 8 == 7 && number(at - 7) <= 1 && changed <= 1 && at < table.start;
    is_zero_flag || ranges.iter().any(|range| range.contains(&at))
}

/// Where the checksum table begins and ends.
fn checksum_table(image: &[u8]) -> Range<usize> {
    let extension = image.windows(8).position(|words| words == EXTENSION).unwrap();
    let number = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let start = number(extension + 8);
    start..start + number(extension + 16)
}

/// Where the record ends that begins there.
fn record_end(image: &[u8], start: usize) -> usize {
    let length = u64::from_be_bytes(image[start + 24..start + 32].try_into().unwrap()) as usize;
    start + 32 + length + 4
}

#[test]
fn every_region_is_told_with_its_place() {
    let dir = Dir::new("verify-regions");
    for compat in ["0.10", "1.1"] {
        let path = tiny(&dir, compat);
        let Parts {
            l1,
            l2,
            refcount_table,
            refcount_block,
            data,
            checksums,
        } = Parts::of(&path);
        let bytes = fs::read(&path).unwrap();
        let extension = bytes.windows(8).position(|words| words == EXTENSION).unwrap() as u64;
        for (at, bits, says) in [
            (
                extension,
                1,
                format!("header at 0x0: no extension points to the checksum table at {checksums:#x}"),
            ),
            (l1, 0x80, format!("L1 table at {l1:#x}: entry 0 is ")),
            (l2, 0x80, format!("L2 table at {l2:#x}: entry 0 is ")),
            (
                refcount_table + 7,
                1,
                format!("refcount table at {refcount_table:#x}: entry 0 is "),
            ),
            (
                refcount_block + 1,
                1,
                "cluster at 0x0: refcount is 0, expected 1".to_owned(),
            ),
            (
                refcount_block + 2,
                1,
                "cluster at 0x200: refcount is 257, expected 1".to_owned(),
            ),
            (data, 1, format!("(guest 0x0 to 0x200, at {data:#x})")),
            (checksums + 44, 1, format!("checksum table at {checksums:#x}: ")),
        ] {
            flip(&path, at, bits);
            dir.run("verify disk.qcow2").exits(2).prints(&says);
            flip(&path, at, bits);
        }
        dir.run("verify disk.qcow2").exits(0);
    }
}

#[test]
fn an_image_that_nobody_wrote_to_is_neither_dirty_nor_corrupt() {
    let dir = Dir::new("verify-remarks");
    let path = tiny(&dir, "1.1");
    flip(&path, 79, 2);
    dir.run("verify disk.qcow2")
        .exits(2)
        .prints("is marked as corrupt: what is read may be wrong, although no program");
    qemu::img(&dir, "create -q -f qcow2 disk.qcow2 1M");
    let path = dir.join("disk.qcow2");
    flip(&path, 79, 1);
    // Refcounts are wrong then, as they may be.
    flip(&path, Parts::of(&path).refcount_block + 1, 1);
    dir.run("verify disk.qcow2")
        .exits(0)
        .says("warning: was not closed properly");
}

#[test]
fn room_that_is_wasted_is_no_damage_of_an_image_of_others() {
    let dir = Dir::new("verify-leaks");
    qemu::img(&dir, "create -q -f qcow2 disk.qcow2 1M");
    let path = dir.join("disk.qcow2");
    flip(&path, Parts::of(&path).refcount_block + 1, 3);

    let run = dir
        .run("verify --json disk.qcow2")
        .exits(0)
        .says("warning: 1 clusters of the file are wasted");

    assert_eq!(run.json()["leaks"], 1);
}

#[test]
fn an_encrypted_image_cannot_be_verified() {
    let dir = Dir::new("verify-encrypted");
    let path = tiny(&dir, "1.1");
    flip(&path, 35, 2);
    dir.run("verify disk.qcow2")
        .exits(1)
        .says("is encrypted with LUKS, which is not supported yet");
}

#[test]
fn a_structure_that_claims_the_end_of_all_offsets_is_damage_and_is_not_read() {
    let dir = Dir::new("verify-claim");
    qemu::img(&dir, "create -q -f qcow2 -o cluster_size=4096 disk.qcow2 1M");
    qemu::img(&dir, "bitmap --add -g 4096 disk.qcow2 name");
    let path = dir.join("disk.qcow2");
    let mut bytes = fs::read(&path).unwrap();
    // The first words of the bitmaps extension; the offset of the directory is its last.
    let extension = bytes
        .windows(8)
        .position(|words| words == b"\x23\x85\x28\x75\0\0\0\x18");
    let directory = extension.unwrap() + 24;
    bytes[directory..directory + 8].copy_from_slice(&(!0xfff_u64).to_be_bytes());
    fs::write(&path, bytes).unwrap();

    dir.run("verify disk.qcow2")
        .exits(2)
        .prints("bitmap directory at 0xfffffffffffff000 is cut off by the end of the file");
}
