//! A compressed image is an ordinary image: QEMU writes to clusters that share a host cluster or a stream with
//! others, and the others stay as they were.

use super::text;
use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, assert_equals, noise, qemu};

/// Cluster sizes and versions, and ways to compress.
fn ways() -> impl Iterator<Item = (Format, &'static str)> {
    let of = |cluster_size: u64| {
        let [v2, v3] = Format::both(cluster_size);
        [
            (v3, "-c zstd"),
            (v3, "-c zstd --dedupe"),
            (v2, "-c zlib"),
            (v3, "-c zlib --dedupe"),
        ]
    };
    [512, 4096, 64 << 10].into_iter().flat_map(of)
}

/// The smallest piece of a disk that a test writes to.
fn piece(format: Format) -> u64 {
    format.cluster_size.max(4096)
}

/// A disk of 16 pieces: text, zeros, the same text, noise, a hole, and that text once more.
fn disk(format: Format) -> Disk {
    let piece = piece(format);
    let again = text(1, piece * 3);
    Disk::hole(piece * 16)
        .bytes(0, again.clone())
        .zeros(piece * 3..piece * 5)
        .bytes(piece * 5, again.clone())
        .bytes(piece * 8, noise(1, piece as usize * 2))
        .bytes(piece * 12, again)
}

#[test]
fn qemu_can_write_over_compressed_clusters() {
    let dir = Dir::new("compress-writes");
    for (format, options) in ways() {
        let image = disk(format).image(&dir, format_args!("{options} {format}"));
        let piece = piece(format);
        let mut disk = disk(format);
        // A part of a cluster, a whole one and more, over the edges of all that there is, and compressed.
        for (command, at, length) in [
            ("write -P 0x5a", 512, 512),
            ("write -P 0x5b", piece, piece),
            ("write -P 0x5c", piece * 3 - 512, 1024),
            ("write -P 0x5d", piece * 6 + 512, piece * 3),
            ("write -c -P 0x5e", piece * 11, format.cluster_size),
            ("write -P 0x5f", piece * 11 + 512, piece * 2),
        ] {
            qemu::guest(&image, &[format!("{command} {at} {length}")]);

            let byte = u8::from_str_radix(&command[command.len() - 2..], 16).unwrap();
            disk = disk.bytes(at, vec![byte; length as usize]);
            assert_equals(&disk.file(&dir, "expected.raw"), &image);
        }
    }
}

#[test]
fn qemu_can_discard_and_zero_compressed_clusters() {
    let dir = Dir::new("compress-discards");
    for (format, options) in ways() {
        let image = disk(format).image(&dir, format_args!("{options} {format}"));
        let piece = piece(format);
        let mut disk = disk(format);
        for (command, at, length) in [
            ("discard", piece, piece),
            ("write -z", 0, piece),
            ("write -z -u", piece * 2, piece * 4),
            ("discard", piece * 8, piece * 6),
            ("discard", 0, piece * 16),
        ] {
            qemu::guest(&image, &[format!("{command} {at} {length}")]);

            disk = disk.zeros(at..at + length);
            assert_equals(&disk.file(&dir, "expected.raw"), &image);
        }
        qemu::guest(&image, &[format!("write -P 1 0 {}", piece * 5)]);
    }
}

#[test]
fn qemu_can_take_snapshots_of_compressed_clusters() {
    let dir = Dir::new("compress-snapshots");
    for (format, options) in ways() {
        let image = disk(format).image(&dir, format_args!("{options} {format}"));
        let piece = piece(format);
        let expected = disk(format).file(&dir, "expected.raw");

        qemu::manage(&image, "snapshot -c before");
        qemu::guest(&image, &[format!("write -P 0x5a 512 {}", piece * 6)]);
        qemu::manage(&image, "snapshot -c after");
        qemu::guest(&image, &[format!("discard 0 {}", piece * 16)]);
        qemu::manage(&image, "snapshot -a before");

        assert_equals(&expected, &image);
        qemu::manage(&image, "snapshot -d after");
        qemu::manage(&image, "snapshot -d before");
        assert_equals(&expected, &image);
    }
}
