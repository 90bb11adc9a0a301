//! An image of ours as a source: what is read is compared with its checksums.

use std::fs;
use std::path::Path;

use mkqcow2::Image;

use super::MIB;
use crate::damaged::{damage, job, l2_entry};
use crate::disk::Disk;
use crate::restore::same;
use crate::support::loops::make_ext4;
use crate::support::{Dir, flip, poke, qemu};

const CLUSTER: usize = 65_536;

/// Images the disk in the image of [`job`] once more.
const AGAIN: &str = "--no-sync --source-format qcow2";

/// The disk as it was, with zeros in the place of some of its clusters.
fn without(dir: &Dir, clusters: &[usize]) {
    let mut disk = fs::read(dir.join("disk.raw")).unwrap();
    for cluster in clusters {
        disk[cluster * CLUSTER..(cluster + 1) * CLUSTER].fill(0);
    }
    fs::write(dir.join("expected.raw"), disk).unwrap();
}

/// Holds the new image to the disk without these clusters, and its list of what could not be read to that.
#[track_caller]
fn lacks_only(dir: &Dir, clusters: &[usize]) {
    without(dir, clusters);
    dir.run("verify new.qcow2").exits(0);
    dir.run("restore -q new.qcow2 back.raw").exits(3);
    same(&dir.join("back.raw"), &dir.join("expected.raw"));
}

/// Makes the entry of the L1 table zero that tells where the whole disk is.
fn forget(image: &Path) {
    let l1 = Image::open(image).unwrap().header().l1().at.0;
    poke(image, l1, &[0; 8]);
}

#[test]
fn a_damaged_cluster_stops_the_run_wherever_the_image_goes() {
    let dir = job("source-damaged");
    damage(&dir.join("image.qcow2"), 17);
    fs::write(dir.join("old.qcow2"), "").unwrap();

    for target in ["new.qcow2", "old.qcow2"] {
        dir.run(&format!("{AGAIN} image.qcow2 {target}"))
            .exits(1)
            .says("mkqcow2: image.qcow2: 64.00 KiB damaged at 0x110000 of the disk: CRC-32 is 0x")
            .says("(use another copy, or pass --on-read-error=zero to go on, with zeros for damaged clusters)\n");
    }
    for stream in ["image.qcow2 -", "--two-pass image.qcow2 -"] {
        dir.run(&format!("{AGAIN} {stream}"))
            .exits(1)
            .says("64.00 KiB damaged at 0x110000 of the disk: CRC-32 is 0x");
    }
    assert_eq!(fs::read(dir.join("old.qcow2")).unwrap(), b"");
    assert!(!dir.join("new.qcow2").exists());
}

#[test]
fn a_damaged_cluster_becomes_zeros_if_that_is_asked_for() {
    let dir = job("source-zeros");
    damage(&dir.join("image.qcow2"), 17);

    let run = dir.run(&format!(
        "{AGAIN} --json --on-read-error=zero image.qcow2 new.qcow2"
    ));
    let json = run.exits(3).json();
    let listed = serde_json::json!([{"start": 0x11_0000, "length": 65536}]);
    assert_eq!((&json["unreadable"], &json["status"]), (&listed, &3.into()));
    dir.run(&format!("{AGAIN} --on-read-error=zero image.qcow2 other.qcow2"))
        .exits(3)
        .says("unreadable: 65536 bytes at 0x110000, zeros in the image\n")
        .says("warning: 65536 bytes of the source could not be read and are zeros in the image\n");
    lacks_only(&dir, &[17]);

    for passes in ["", "--two-pass"] {
        let run = dir.run(&format!("-q {AGAIN} {passes} --on-read-error=zero image.qcow2 -"));
        fs::write(dir.join("new.qcow2"), run.exits(3).bytes()).unwrap();
        lacks_only(&dir, &[17]);
    }
}

#[test]
fn a_compressed_cluster_that_decompresses_to_something_else_is_noticed() {
    let dir = job("source-zstd");
    fs::write(dir.join("disk.raw"), b"some words\n".repeat(204_800)).unwrap();
    dir.run("-q --no-sync -c zstd disk.raw image.qcow2").exits(0);
    let image = dir.join("image.qcow2");
    // Two clusters of text change places: both streams are right.
    let (at, first) = l2_entry(&image, 3);
    let (other, second) = l2_entry(&image, 8);
    poke(&image, at, &second.to_be_bytes());
    poke(&image, other, &first.to_be_bytes());

    dir.run(&format!("{AGAIN} image.qcow2 new.qcow2"))
        .exits(1)
        .says("64.00 KiB damaged at 0x30000 of the disk: CRC-32 is 0x");
    dir.run(&format!(
        "-q {AGAIN} --on-read-error=zero -c zstd image.qcow2 new.qcow2"
    ))
    .exits(3);
    lacks_only(&dir, &[3, 8]);

    // A stream that is damaged itself.
    dir.run("-q --no-sync -c zstd disk.raw image.qcow2").exits(0);
    let stream = l2_entry(&image, 3).1 & ((1 << 54) - 1);
    poke(&image, stream, &[0; 4]);
    dir.run(&format!("{AGAIN} image.qcow2 other.qcow2"))
        .exits(1)
        .says("64.00 KiB damaged at 0x30000 of the disk: compressed cluster at ");
    dir.run(&format!("-q {AGAIN} --on-read-error=zero image.qcow2 new.qcow2"))
        .exits(3);
    lacks_only(&dir, &[3]);
}

#[test]
fn what_the_tables_have_lost_is_missed() {
    let dir = job("source-lost");
    let image = dir.join("image.qcow2");
    forget(&image);
    dir.run("check image.qcow2").exits(3).prints(
        "image.qcow2: mkqcow2 made it, so that a leak is damage: run mkqcow2 verify, and repair nothing\n",
    );
    let refused = |run: &str| {
        dir.run(run)
            .exits(1)
            .says("mkqcow2: image.qcow2: 64.00 KiB damaged at 0x0 of the disk: CRC-32 is 0x");
    };
    refused(&format!("{AGAIN} image.qcow2 new.qcow2"));
    refused(&format!("{AGAIN} image.qcow2 -"));
    refused(&format!("{AGAIN} -n image.qcow2 new.qcow2"));
    assert!(!dir.join("new.qcow2").exists());

    let run = dir.run(&format!(
        "{AGAIN} --json --on-read-error=zero image.qcow2 new.qcow2"
    ));
    let listed = serde_json::json!([
        {"start": 0, "length": 2 * MIB},
        {"start": 3 * MIB - 65_536, "length": 65_536},
    ]);
    assert_eq!(run.exits(3).json()["unreadable"], listed);
    let lost: Vec<_> = (0..32).chain([47]).collect();
    lacks_only(&dir, &lost);
    // Nothing was lost of the part that is wanted.
    dir.run(&format!("{AGAIN} --offset 3M image.qcow2 part.qcow2"))
        .exits(0);
}

#[test]
fn damage_in_the_map_of_a_filesystem_leaves_nothing_out() {
    let dir = Dir::new("source-map");
    let file = dir.sparse("disk.raw", 16 * MIB, &[]);
    make_ext4(&file);
    dir.run("-q --no-sync --cluster-size 4K disk.raw image.qcow2")
        .exits(0);
    // What is in use is not known from what is damaged: the block bitmap, or whatever lies in cluster 0 and behind it.
    let image = dir.join("image.qcow2");
    for cluster in 0..20 {
        let entry = l2_entry(&image, cluster).1 & 0x00ff_ffff_ffff_fe00;
        if entry == 0 {
            continue;
        }
        flip(&image, entry + 7, 255);
        dir.run(&format!("{AGAIN} image.qcow2 new.qcow2"))
            .exits(1)
            .says(&format!("4.00 KiB damaged at {:#x} of the disk", cluster * 4096));
        flip(&image, entry + 7, 255);
    }
    dir.run(&format!("-q {AGAIN} image.qcow2 new.qcow2")).exits(0);
}

#[test]
fn a_damaged_checksum_table_stops_the_run() {
    let dir = job("source-table");
    let image = dir.join("image.qcow2");
    let at = Image::open(&image)
        .unwrap()
        .extensions()
        .ours
        .unwrap()
        .checksums
        .offset
        .0;
    flip(&image, at + 50, 1);

    dir.run(&format!("{AGAIN} image.qcow2 new.qcow2"))
        .exits(1)
        .says("checksum table at 0x")
        .says("(use another copy, or pass --on-read-error=zero to go on, without a comparison)\n");
    assert!(!dir.join("new.qcow2").exists());
    dir.run(&format!("{AGAIN} --on-read-error=zero image.qcow2 new.qcow2"))
        .exits(3)
        .says("warning: checksums were not compared, because their table is damaged: checksum table at 0x");
    without(&dir, &[]);
    dir.run("restore -q new.qcow2 back.raw").exits(0);
    same(&dir.join("back.raw"), &dir.join("expected.raw"));
}

#[test]
fn what_another_program_changed_is_imaged_as_it_is() {
    let dir = job("source-changed");
    qemu::io(&dir, "qcow2", "image.qcow2", &["write -P 7 0 1M"]);

    dir.run(&format!("{AGAIN} image.qcow2 new.qcow2")).exits(0).says(
        "mkqcow2: image.qcow2: warning: was changed since it was made: its checksums are out of date and were \
         not compared\n",
    );
    qemu::img(&dir, "compare -q image.qcow2 new.qcow2");
}

#[test]
fn a_good_image_has_the_same_disk_whatever_its_clusters_are() {
    let dir = Dir::new("source-good");
    let disk = Disk::hole(4 * MIB + 1536)
        .data(700..2 * MIB)
        .data(4 * MIB - 5..4 * MIB + 1536);
    disk.file(&dir, "disk.raw");
    for (size, other) in [("512", "2M"), ("2M", "512"), ("64K", "64K")] {
        for pack in ["", "-c zlib"] {
            dir.run(&format!(
                "-q --no-sync {pack} --cluster-size {size} disk.raw image.qcow2"
            ))
            .exits(0);
            dir.run(&format!(
                "-q {AGAIN} --cluster-size {other} image.qcow2 new.qcow2"
            ))
            .exits(0)
            .in_silence();
            dir.run("compare -q disk.raw new.qcow2").exits(0);
        }
    }
}
