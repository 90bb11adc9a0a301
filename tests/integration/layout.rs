//! What an image looks like: every cluster size and version, disks of every shape, with `qemu-img` and the naive
//! reader as judges.

use std::fs;

use serde_json::Value;

use crate::disk::Disk;
use crate::format::Format;
use crate::naive;
use crate::support::{Dir, assert_equals, noise};

/// Images a disk with one, two and seven threads and holds the image to all there is to hold it to: other
/// people's tools, the naive reader, what was written, and what the dry run predicted.
fn image(dir: &Dir, format: Format, disk: &Disk) -> naive::Image {
    let raw = disk.file(dir, "disk.raw");
    let plan = dir
        .run(&format!("-n --json {format} disk.raw disk.qcow2"))
        .exits(0)
        .json();
    let report = dir
        .run(&format!("--json --no-sync -j 1 {format} disk.raw disk.qcow2"))
        .exits(0)
        .json();

    let path = dir.join("disk.qcow2");
    assert_equals(&raw, &path);
    assert_same_with_threads(dir, format, &fs::read(&path).unwrap());
    let image = naive::Image::read(&path);
    image.assert_holds(disk);
    image.assert_format(format, true);
    assert_was_predicted(&image, &plan, &report);
    // Some filesystems wait for the disk when a file is replaced that was just written.
    fs::remove_file(raw).unwrap();
    fs::remove_file(path).unwrap();
    image
}

/// Holds images made with more threads than one to the same bytes.
fn assert_same_with_threads(dir: &Dir, format: Format, bytes: &[u8]) {
    for threads in [2, 7] {
        dir.run(&format!(
            "-q --no-sync -j {threads} {format} disk.raw again.qcow2"
        ))
        .exits(0)
        .in_silence();
        let again = dir.join("again.qcow2");
        assert!(
            fs::read(&again).unwrap() == bytes,
            "{format}: other bytes with {threads} threads"
        );
        fs::remove_file(again).unwrap();
    }
}

/// Holds a dry run to the size of the image, exactly unless something in use turned out to be zeros.
fn assert_was_predicted(image: &naive::Image, plan: &Value, report: &Value) {
    let (predicted, length) = (plan["image-size"].as_u64().unwrap(), image.length());
    let zeros = report["zero-clusters"].as_u64().unwrap();
    assert!(
        predicted == length || (predicted > length && zeros > 0),
        "{predicted} predicted, {length} written"
    );
    assert_eq!(report["written"], length);
    assert_eq!(report["data-clusters"], image.data().count());
    if image.compat() == "1.1" {
        assert_eq!(
            zeros,
            image.zeros().count() as u64,
            "clusters in use that are zeros"
        );
    }
}

#[test]
fn a_hole_becomes_an_image_that_maps_nothing() {
    let dir = Dir::new("layout-hole");
    for format in Format::all() {
        let image = image(&dir, format, &Disk::hole(format.cluster_size * 70));

        assert_eq!(
            (image.l2_tables(), image.data().count(), image.zeros().count()),
            (0, 0, 0),
            "{format}"
        );
    }
}

#[test]
fn zeros_that_were_written_take_no_room() {
    let dir = Dir::new("layout-zeros");
    for format in Format::all() {
        // Room for whole blocks of the filesystem, which are what a hole is made of.
        let size = (format.cluster_size * 3).max(64 << 10);

        let image = image(&dir, format, &Disk::hole(size).zeros(0..size));

        let zeros = if format.compat == "1.1" {
            size / format.cluster_size
        } else {
            0
        };
        assert_eq!(
            (image.data().count(), image.zeros().count() as u64),
            (0, zeros),
            "{format}"
        );
    }
}

#[test]
fn a_disk_full_of_data_becomes_an_image_of_the_size_that_was_predicted() {
    let dir = Dir::new("layout-data");
    for format in Format::all() {
        let size = (format.cluster_size * 5).max(64 << 10);

        let image = image(&dir, format, &Disk::hole(size).data(0..size));

        assert_eq!(
            image.data().count() as u64,
            size / format.cluster_size,
            "{format}"
        );
        assert_eq!(image.zeros().count(), 0, "{format}");
    }
}

#[test]
fn a_byte_at_either_end_is_kept() {
    let dir = Dir::new("layout-ends");
    for format in Format::all() {
        let size = format.cluster_size * 100;

        let image = image(&dir, format, &Disk::hole(size).data(0..1).data(size - 1..size));

        let clusters: Vec<_> = image.data().map(|(cluster, _)| cluster).collect();
        assert_eq!(clusters, [0, 99], "{format}");
    }
}

#[test]
fn a_disk_that_ends_within_a_sector_is_padded_with_zeros() {
    let dir = Dir::new("layout-odd");
    for format in Format::all() {
        let full = format.cluster_size * 3;
        for size in [1, 513, full - 1, full + 700] {
            let from = size.saturating_sub(600);

            let image = image(&dir, format, &Disk::hole(size).data(from..size));

            assert_eq!(image.size(), size.next_multiple_of(512), "{format}");
        }
    }
}

#[test]
fn holes_zeros_and_data_may_alternate() {
    let dir = Dir::new("layout-patterns");
    for format in Format::all() {
        image(&dir, format, &Disk::alternating(format.cluster_size.max(4096)));
    }
}

#[test]
fn a_disk_may_need_many_l2_tables() {
    let dir = Dir::new("layout-tables");
    for format in Format::all() {
        let (cluster, reach) = (format.cluster_size, format.l2_reach());
        let disk = Disk::hole(reach * 5 / 2)
            .data(reach - cluster..reach + cluster)
            .data(reach * 2 + cluster..reach * 2 + cluster + 3)
            .data(reach * 5 / 2 - 1..reach * 5 / 2);

        let image = image(&dir, format, &disk);

        assert_eq!(image.l2_tables(), 3, "{format}");
    }
}

#[test]
fn tables_are_flushed_when_512_of_them_wait() {
    let dir = Dir::new("layout-flush");
    for format in [512, 4096].into_iter().flat_map(Format::both) {
        for tables in [511, 512, 513, 1024, 1025, 1300] {
            // Some tables have more than one cluster, and some have nothing but zeros.
            let (cluster, reach) = (format.cluster_size, format.l2_reach());
            let disk = (0..tables).fold(Disk::hole(reach * tables), |disk, table| {
                let at = table * reach + table % 7 * cluster;
                if table % 13 == 5 {
                    disk.zeros(at..at + cluster)
                } else {
                    disk.data(at..at + cluster / 2 + 1)
                }
            });

            image(&dir, format, &disk);
        }
    }
}

#[test]
fn tables_may_have_to_be_flushed_between_two_clusters_that_are_read_together() {
    let dir = Dir::new("layout-flush-between");
    for format in [512, 4096].into_iter().flat_map(Format::both) {
        let (cluster, reach) = (format.cluster_size, format.l2_reach());
        let disk = (0..1100).fold(Disk::hole(reach * 1100), |disk, table| {
            // Data from the last clusters of each table to the first of the next.
            let end = (table + 1) * reach;
            disk.data(end - 2 * cluster..(end + cluster).min(reach * 1100))
        });

        image(&dir, format, &disk);
    }
}

#[test]
fn fewer_tables_wait_if_they_are_large() {
    let dir = Dir::new("layout-large-tables");
    for format in Format::both(1 << 20) {
        // 64 of them are 64 MiB. With 2M clusters the file would be larger than ext4 allows.
        let disk = (0..66).fold(Disk::hole(format.l2_reach() * 66), |disk, table| {
            let at = table * format.l2_reach();
            if table % 8 == 1 {
                disk.data(at..at + 1)
            } else {
                disk.zeros(at..at + 1)
            }
        });

        image(&dir, format, &disk);
    }
}

#[test]
fn refcount_blocks_are_as_many_as_needed() {
    let dir = Dir::new("layout-refcounts");
    for bits in 9..=13 {
        for format in Format::both(1 << bits) {
            let size = format.cluster_size * (format.cluster_size / 2 + 3);
            image(&dir, format, &Disk::hole(size).data(0..size));
        }
    }
}

#[test]
fn refcount_blocks_are_right_wherever_the_image_ends() {
    let dir = Dir::new("layout-refcounts-512");
    for format in Format::both(512) {
        // 256 and 512 clusters in all, and some before and behind.
        for clusters in (245..252).chain(494..504) {
            let size = clusters * format.cluster_size;
            image(&dir, format, &Disk::hole(size).data(0..size));
        }
    }
}

#[test]
fn a_refcount_table_may_have_more_than_one_cluster() {
    let dir = Dir::new("layout-refcount-table");
    for format in Format::both(512) {
        // One cluster of the table has 64 blocks, which count 8 MiB.
        image(&dir, format, &Disk::hole(9 << 20).data(0..9 << 20));
        // Room for the worst case, of which nothing is left.
        image(&dir, format, &Disk::hole(9 << 20).zeros(0..9 << 20));
    }
}

#[test]
fn a_run_of_checksums_is_cut_after_8192_clusters() {
    let dir = Dir::new("layout-runs");
    for format in Format::both(512) {
        let size = format.cluster_size * (8192 + 8);
        image(&dir, format, &Disk::hole(size).data(0..size));
    }
}

#[test]
fn metadata_are_a_small_part_of_the_image() {
    let dir = Dir::new("layout-overhead");
    for format in Format::both(64 << 10) {
        let data = 48 << 20;
        let image = image(&dir, format, &Disk::hole(data).data(0..data));

        let overhead = image.length() - data;
        let allowed = data / 2000 + 6 * format.cluster_size;
        assert!(
            overhead <= allowed,
            "{format}: {overhead} bytes, at most {allowed}"
        );
    }
}

#[test]
fn a_disk_of_16_tib_is_no_larger_than_what_it_holds() {
    let dir = Dir::new("layout-16t");
    // The largest file that ext4 can hold, less one cluster.
    let size = (16 << 40) - (64 << 10);
    for format in Format::both(64 << 10) {
        let disk = Disk::hole(size)
            .data(0..4096)
            .data((9 << 40) + 3..(9 << 40) + 4)
            .data(size - 1..size);

        let image = image(&dir, format, &disk);

        assert_eq!((image.l2_tables(), image.data().count()), (3, 3), "{format}");
        assert!(image.length() < 1 << 20, "{format}: {} bytes", image.length());
    }
}

#[test]
fn a_disk_too_large_for_its_clusters_is_refused_with_the_size_that_serves() {
    let dir = Dir::new("layout-too-large");
    dir.sparse("disk.raw", 129 << 30, &[(0, b"data")]);

    dir.run("--cluster-size 512 disk.raw disk.qcow2")
        .exits(1)
        .says("disk.raw: 138512695296 bytes are too many for clusters of 512 bytes")
        .says("the smallest cluster size that works is 1024");

    assert_eq!(dir.names(), ["disk.raw"]);
}

#[test]
fn a_part_of_a_disk_is_imaged_alone() {
    let dir = Dir::new("layout-part");
    // From byte 512 on: data up to the end, and a last sector that is not whole.
    let bytes = noise(1, 100_000);
    dir.sparse("disk.raw", 100_000, &[(0, &bytes)]);
    for (part, range) in [
        ("--offset 512", 512..100_000),
        ("--length 64K", 0..65536),
        ("--offset 4K --length 512", 4096..4608),
        ("--offset 0x1000 --length 0X400", 4096..5120),
        ("--offset 99840 --length 512", 99840..100_000),
    ] {
        for format in [512, 64 << 10].into_iter().flat_map(Format::both) {
            dir.run(&format!("-q --no-sync {part} {format} disk.raw part.qcow2"))
                .exits(0)
                .in_silence();

            let part = Disk::hole(range.end - range.start)
                .bytes(0, bytes[range.start as usize..range.end as usize].to_vec());
            naive::Image::read(&dir.join("part.qcow2")).assert_holds(&part);
            assert_equals(&part.file(&dir, "part.raw"), &dir.join("part.qcow2"));
        }
    }
}

#[test]
fn without_checksums_there_is_no_trace_of_them() {
    let dir = Dir::new("layout-no-checksums");
    let disk = Disk::hole(1 << 20).data(0..300_000).zeros(400_000..500_000);
    let raw = disk.file(&dir, "disk.raw");
    for format in [512, 64 << 10, 2 << 20].into_iter().flat_map(Format::both) {
        let plan = dir
            .run(&format!("-n --json --no-checksums {format} disk.raw disk.qcow2"))
            .json();
        dir.run(&format!(
            "-q --no-sync --no-checksums {format} disk.raw disk.qcow2"
        ))
        .exits(0);

        // It is the naive reader that holds header and end of file to their absence.
        let image = naive::Image::read(&dir.join("disk.qcow2"));
        assert!(!image.has_checksums(), "{format}");
        assert!(plan["image-size"].as_u64().unwrap() >= image.length(), "{format}");
        image.assert_holds(&disk);
        assert_equals(&raw, &dir.join("disk.qcow2"));
    }
}

#[test]
fn a_cluster_size_can_be_written_in_many_ways() {
    let dir = Dir::new("layout-cluster-sizes");
    Disk::hole(1 << 20).data(0..4096).file(&dir, "disk.raw");
    for (text, cluster_size) in [
        ("64K", 1 << 16),
        ("65536", 1 << 16),
        ("64KiB", 1 << 16),
        ("2M", 2 << 20),
        ("512", 512),
        ("4k", 4096),
    ] {
        dir.run(&format!("-q --no-sync --cluster-size {text} disk.raw disk.qcow2"))
            .exits(0);

        assert_eq!(
            naive::Image::read(&dir.join("disk.qcow2")).cluster_size(),
            cluster_size,
            "{text}"
        );
    }
}

#[test]
fn version_3_and_clusters_of_64k_are_the_default() {
    let dir = Dir::new("layout-default");
    Disk::hole(1 << 20).data(0..4096).file(&dir, "disk.raw");

    dir.run("-q disk.raw disk.qcow2").exits(0).in_silence();

    let image = naive::Image::read(&dir.join("disk.qcow2"));
    let [_, format] = Format::both(64 << 10);
    image.assert_format(format, true);
}
