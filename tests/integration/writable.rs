//! An image is an ordinary qcow2 image: QEMU writes to it, and what was there before stays right.

use std::fs;
use std::path::Path;

use mkqcow2::Image;
use mkqcow2::formats::qcow2::Freshness;
use mkqcow2::formats::qcow2::structures::extension::ChecksumsAt;

use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, assert_equals, qemu};

fn formats() -> impl Iterator<Item = Format> {
    [512, 4096, 64 << 10, 2 << 20].into_iter().flat_map(Format::both)
}

/// The smallest piece of a disk that a test writes to: whole clusters, whole blocks of the filesystem.
fn piece(format: Format) -> u64 {
    format.cluster_size.max(4096)
}

/// A disk of 32 pieces: data, zeros, a hole, and data at the end.
fn disk(format: Format) -> Disk {
    let piece = piece(format);
    Disk::hole(piece * 32)
        .data(0..piece * 3)
        .zeros(piece * 3..piece * 5)
        .data(piece * 30 + 7..piece * 32)
}

fn freshness(image: &Path) -> Freshness {
    Image::open(image).unwrap().freshness()
}

/// What the header says about the checksum table.
fn extension(image: &Path) -> Option<ChecksumsAt> {
    Image::open(image)
        .unwrap()
        .extensions()
        .ours
        .map(|ours| ours.checksums)
}

/// What freshness an image has that somebody has opened for writing.
fn touched(format: Format) -> Freshness {
    if format.compat == "1.1" {
        Freshness::Changed
    } else {
        Freshness::Unknown
    }
}

#[test]
fn qemu_can_write_anywhere() {
    let dir = Dir::new("writable-writes");
    for format in formats() {
        let (image, piece) = (disk(format).image(&dir, format), piece(format));
        let mut disk = disk(format);
        // Over data, over its edge, over zeros, into a hole, over the end of the data, and a lot at once.
        for (at, length) in [
            (piece, piece),
            (piece * 3 - 512, 1024),
            (piece * 4 + 512, 512),
            (piece * 20, piece * 2),
            (piece * 32 - 512, 512),
            (piece * 2, piece * 28),
        ] {
            qemu::guest(&image, &[format!("write -P 0x5a {at} {length}")]);

            disk = disk.bytes(at, vec![0x5a; length as usize]);
            assert_equals(&disk.file(&dir, "expected.raw"), &image);
        }
    }
}

#[test]
fn qemu_can_discard_and_zero_anywhere() {
    let dir = Dir::new("writable-discards");
    for format in formats() {
        let (image, piece) = (disk(format).image(&dir, format), piece(format));
        let mut disk = disk(format);
        for (command, at, length) in [
            ("discard", piece, piece),
            ("write -z", 0, piece),
            ("write -z -u", piece * 2, piece * 2),
            ("discard", piece * 31, piece),
            ("discard", 0, piece * 32),
        ] {
            qemu::guest(&image, &[format!("{command} {at} {length}")]);

            disk = disk.zeros(at..at + length);
            assert_equals(&disk.file(&dir, "expected.raw"), &image);
        }
        qemu::guest(&image, &[format!("write -P 1 0 {}", piece * 5)]);
    }
}

#[test]
fn qemu_can_take_snapshots_and_go_back() {
    let dir = Dir::new("writable-snapshots");
    for format in formats() {
        let (image, piece) = (disk(format).image(&dir, format), piece(format));

        qemu::manage(&image, "snapshot -c before");
        qemu::guest(&image, &[format!("write -P 0x5a 0 {}", piece * 4)]);
        qemu::manage(&image, "snapshot -c after");
        qemu::guest(&image, &[format!("discard 0 {}", piece * 32)]);
        qemu::manage(&image, "snapshot -a before");

        assert_equals(&disk(format).file(&dir, "expected.raw"), &image);
        qemu::manage(&image, "snapshot -d before");
        qemu::manage(&image, "snapshot -d after");
        assert_equals(&disk(format).file(&dir, "expected.raw"), &image);
    }
}

#[test]
fn qemu_can_grow_the_disk() {
    let dir = Dir::new("writable-resize");
    for format in formats() {
        let (image, piece) = (disk(format).image(&dir, format), piece(format));

        qemu::img(&dir, &format!("resize -q disk.qcow2 {}", piece * 4000));

        qemu::assert_clean(&image);
        qemu::guest(&image, &[format!("write -P 0x5a {} {piece}", piece * 3999)]);
    }
}

#[test]
fn whoever_only_reads_leaves_the_image_fresh() {
    let dir = Dir::new("writable-read");
    for format in formats() {
        let image = disk(format).image(&dir, format);
        let before = fs::read(&image).unwrap();

        qemu::img(&dir, "info disk.qcow2");
        let read = ["-r", "-f", "qcow2", "-c", "read 0 512", "disk.qcow2"];
        qemu::run(dir.path(), "qemu-io", read);
        qemu::assert_clean(&image);

        assert!(fs::read(&image).unwrap() == before, "{format}");
        let expected = if format.compat == "1.1" {
            Freshness::Unchanged
        } else {
            Freshness::Unknown
        };
        assert_eq!(freshness(&image), expected, "{format}");
    }
}

#[test]
fn whoever_opens_the_image_for_writing_leaves_a_trace() {
    let dir = Dir::new("writable-freshness");
    for format in formats() {
        let image = disk(format).image(&dir, format);
        let at = extension(&image);
        assert!(at.is_some(), "{format}");

        // It does not even need a write.
        qemu::guest(&image, &["read 0 512"]);

        assert_eq!(freshness(&image), touched(format), "{format}");
        // QEMU has written the header again, and kept what it does not know.
        assert_eq!(extension(&image), at, "{format}");
        assert!(
            Image::open(&image).unwrap().checksums().unwrap().is_some(),
            "{format}"
        );
    }
}

#[test]
fn the_extension_is_found_behind_those_of_qemu() {
    let dir = Dir::new("writable-extensions");
    for format in formats() {
        let image = disk(format).image(&dir, format);
        let at = extension(&image);

        // The format of the backing file is an extension of three bytes, padded to eight.
        qemu::manage(&image, "rebase -u -f qcow2 -F raw -b disk.raw");

        assert_eq!(extension(&image), at, "{format}");
        assert!(
            Image::open(&image).unwrap().checksums().unwrap().is_some(),
            "{format}"
        );
        assert_eq!(freshness(&image), touched(format), "{format}");
    }
}

#[test]
fn a_checksum_table_that_qemu_has_written_over_is_an_error() {
    let dir = Dir::new("writable-table");
    for format in formats() {
        let (image, piece) = (disk(format).image(&dir, format), piece(format));

        // New clusters come from where the table is.
        qemu::guest(&image, &[format!("write -P 0x5a {} {}", piece * 10, piece * 10)]);

        assert!(extension(&image).is_some(), "{format}");
        // Without a bit that tells of changes, that is all that does.
        let expected = match touched(format) {
            Freshness::Unknown => Freshness::Doubtful,
            known @ (Freshness::Unchanged | Freshness::Changed | Freshness::Doubtful) => known,
        };
        assert_eq!(freshness(&image), expected, "{format}");
        let error = Image::open(&image).unwrap().checksums().unwrap_err();
        assert!(
            error.to_string().starts_with("checksum table at 0x"),
            "{format}: {error}"
        );
    }
}

#[test]
fn an_image_of_version_2_can_become_one_of_version_3() {
    let dir = Dir::new("writable-amend");
    for format in formats().filter(|format| format.compat == "0.10") {
        let image = disk(format).image(&dir, format);
        let at = extension(&image);

        qemu::manage(&image, "amend -f qcow2 -o compat=1.1");

        assert_eq!(extension(&image), at, "{format}");
        assert_eq!(freshness(&image), Freshness::Changed, "{format}");
        assert_equals(&dir.join("disk.raw"), &image);
    }
}
