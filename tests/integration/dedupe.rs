//! Equal clusters are stored once, others never: whatever their checksums are, however many there are, and
//! whatever is written to the image later.

use std::collections::BTreeSet;
use std::fs;

use crate::compress::{image, text};
use crate::disk::Disk;
use crate::format::Format;
use crate::naive::{self, crc32};
use crate::support::{Dir, assert_equals, noise, qemu};

const KIB: u64 = 1 << 10;

/// Equal clusters of 512 bytes in the test of many.
const MANY: u64 = 100_000;

/// A disk of nothing but the same text.
fn many() -> Disk {
    let bytes = text(1, 512).repeat(MANY as usize);
    Disk::hole(MANY * 512).bytes(0, bytes)
}

#[test]
fn a_hundred_thousand_equal_clusters_take_hardly_any_room() {
    let dir = Dir::new("dedupe-many");
    let [_, format] = Format::both(512);

    let image = image(&dir, format, "-c zstd --dedupe", &many());

    assert_eq!(image.compressed().count() as u64, MANY);
    // A stream for each 1023 references to its cluster, or to one of its two.
    assert!(
        (98..300).contains(&image.streams().count()),
        "{}",
        image.streams().count()
    );
    assert_eq!(image.most_references(), 1023);
}

#[test]
fn a_hundred_thousand_equal_clusters_stay_right_whatever_qemu_does() {
    let dir = Dir::new("dedupe-many-qemu");
    let [_, format] = Format::both(512);
    let image = many().image(&dir, format_args!("-c zlib --dedupe {format}"));

    qemu::manage(&image, "snapshot -c first");
    qemu::manage(&image, "snapshot -c second");
    let command = |what: &str, at: u64, clusters: u64| format!("{what} {} {}", at * 512, clusters * 512);
    qemu::guest(
        &image,
        &[
            command("write -P 0x5a", 7, 1),
            command("write -P 0x5b", 50_000, 3000),
            command("discard", 1000, 5000),
            command("write -z -u", 90_000, 10_000),
            "write -P 0x5c 5120100 300".to_owned(),
        ],
    );
    let mut expected = fs::read(dir.join("disk.raw")).unwrap();
    for (byte, range) in [
        (0x5a, 7 * 512..8 * 512),
        (0x5b, 50_000 * 512..53_000 * 512),
        (0, 1000 * 512..6000 * 512),
        (0, 90_000 * 512..100_000 * 512),
        (0x5c, 5_120_100..5_120_400),
    ] {
        expected[range].fill(byte);
    }
    dir.sparse("changed.raw", MANY * 512, &[(0, &expected)]);
    let equals = |raw: &str| drop(dir.run(&format!("compare -q {raw} disk.qcow2")).exits(0));
    equals("changed.raw");

    qemu::manage(&image, "snapshot -d first");
    qemu::manage(&image, "snapshot -a second");
    equals("disk.raw");
    qemu::manage(&image, "snapshot -d second");
    equals("disk.raw");
}

#[test]
fn sixty_three_snapshots_find_room_in_the_refcounts() {
    let dir = Dir::new("dedupe-snapshots");
    let [_, format] = Format::both(4 * KIB);
    let bytes = text(1, 4 * KIB).repeat(1500);
    let disk = Disk::hole(bytes.len() as u64).bytes(0, bytes);
    assert_eq!(
        image(&dir, format, "-c zstd --dedupe", &disk).most_references(),
        1023
    );
    let path = dir.join("disk.qcow2");
    for number in 1..=63 {
        qemu::img(&dir, &format!("snapshot -c {number} disk.qcow2"));
    }
    assert_equals(&dir.join("disk.raw"), &path);
}

#[test]
fn equal_clusters_are_found_however_far_apart() {
    let dir = Dir::new("dedupe-far");
    let size = 8 << 40;
    for (format, method) in [
        (Format::both(64 * KIB)[0], "zlib"),
        (Format::both(2 << 20)[1], "zstd"),
    ] {
        let cluster = format.cluster_size;
        let again = text(1, cluster);
        let disk = Disk::hole(size)
            .bytes(0, again.clone())
            .bytes(cluster, text(2, cluster))
            .bytes(5 << 40, again.clone())
            // Not where a cluster begins.
            .bytes((6 << 40) + 512, again.clone())
            .bytes(size - cluster, again);

        let image = image(&dir, format, &format!("-c {method} --dedupe"), &disk);

        let compressed: Vec<_> = image.compressed().map(|(cluster, _)| cluster).collect();
        assert_eq!(compressed.len(), 6, "{compressed:?}");
        assert_eq!(image.streams().count(), 4);
    }
}

#[test]
fn clusters_that_are_stored_as_they_are_are_not_shared() {
    let dir = Dir::new("dedupe-plain");
    let [_, format] = Format::both(64 * KIB);
    let disk = Disk::hole(2 << 20).bytes(0, noise(1, 64 << 10).repeat(9));

    let image = image(&dir, format, "-c zstd --dedupe", &disk);

    assert_eq!((image.data().count(), image.compressed().count()), (9, 0));
    assert_eq!(image.most_references(), 1);
}

/// A cluster that ends in four bytes which make its CRC-32 the one that is wanted.
fn with_crc(mut cluster: Vec<u8>, wanted: u32) -> Vec<u8> {
    let end = cluster.len() - 4;
    // The register before these bytes, and the one that has to come out of them, taken back bit by bit.
    let before = !crc32(&cluster[..end]);
    let mut after = !wanted;
    for _ in 0..32 {
        after = if after >> 31 == 1 {
            ((after ^ 0xedb8_8320) << 1) | 1
        } else {
            after << 1
        };
    }
    cluster[end..].copy_from_slice(&(before ^ after).to_le_bytes());
    assert_eq!(crc32(&cluster), wanted);
    cluster
}

#[test]
fn clusters_are_told_apart_if_their_checksums_and_lengths_are_equal() {
    let dir = Dir::new("dedupe-crc");
    let [_, format] = Format::both(4 * KIB);
    // Half of each becomes smaller, half does not, and there are the four bytes.
    let cluster = |seed: u64| {
        let bytes = [vec![b'a'; 2048], noise(seed, 2048)].concat();
        with_crc(bytes, 0x1234_5678)
    };
    let clusters: Vec<_> = (0..60).map(cluster).collect();
    // All of them, and all of them again.
    let bytes = [clusters.concat(), clusters.concat()].concat();
    let disk = Disk::hole(bytes.len() as u64).bytes(0, bytes);
    for method in ["zstd", "zlib"] {
        let image = image(&dir, format, &format!("-c {method} --dedupe"), &disk);

        let lengths: BTreeSet<_> = image.streams().map(|stream| stream.length).collect();
        assert_eq!(image.compressed().count(), 120);
        assert!(image.streams().count() >= 60, "{method}: one is lost");
        assert!(
            lengths.len() < 30,
            "{method}: the lengths differ, which proves nothing"
        );
    }
}

#[test]
fn what_is_forgotten_is_stored_again() {
    let dir = Dir::new("dedupe-memory");
    let [_, format] = Format::both(512);
    // More than there is room for in the smallest table, twice.
    let clusters: Vec<u8> = (0..70_000_u64)
        .flat_map(|number| [number.to_be_bytes().repeat(4), vec![b'-'; 480]].concat())
        .collect();
    let disk = Disk::hole(clusters.len() as u64 * 2)
        .bytes(0, clusters.clone())
        .bytes(clusters.len() as u64, clusters);

    let few = image(&dir, format, "-c zstd:1 --dedupe --dedupe-memory 1M", &disk);

    let streams = few.streams().count();
    assert!((70_001..140_000).contains(&streams), "{streams}");
}

#[test]
fn what_sharing_saved_is_said() {
    let dir = Dir::new("dedupe-said");
    let disk = Disk::hole(1 << 20).bytes(0, text(1, 64 * KIB).repeat(4));
    disk.file(&dir, "disk.raw");
    dir.run("-v --no-sync -c zlib --dedupe disk.raw disk.qcow2")
        .exits(0)
        .prints("saved by sharing), ")
        .prints("; 3 of them share the stream of another\n");
    let image = naive::Image::read(&dir.join("disk.qcow2"));
    assert_eq!((image.compressed().count(), image.streams().count()), (4, 1));
}
