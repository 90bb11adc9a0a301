//! Images that are damaged: what `restore` says of them, and what it makes of them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use mkqcow2::Image;

use crate::disk::Disk;
use crate::restore::{imaged, same};
use crate::support::{Dir, flip, poke, qemu};

const MIB: u64 = 1 << 20;
const CLUSTER: u64 = 65_536;

/// Data in the first two mebibytes, and at the end of the third.
fn disk() -> Disk {
    Disk::hole(4 * MIB)
        .data(0..2 * MIB)
        .data(3 * MIB - CLUSTER..3 * MIB)
}

/// The image of that disk, and an old file in the place of the target.
pub fn job(test: &str) -> Dir {
    let dir = imaged(test, &disk());
    fs::write(dir.join("copy.raw"), "the old disk").unwrap();
    dir
}

/// The offset of the entry for a cluster in the only L2 table, and its value.
pub fn l2_entry(image: &Path, cluster: u64) -> (u64, u64) {
    let read = |at| {
        let mut entry = [0; 8];
        File::open(image).unwrap().read_exact_at(&mut entry, at).unwrap();
        u64::from_be_bytes(entry)
    };
    let l1 = Image::open(image).unwrap().header().l1().at.0;
    let at = (read(l1) & 0x00ff_ffff_ffff_fe00) + cluster * 8;
    (at, read(at))
}

/// Changes a byte of a cluster.
pub fn damage(image: &Path, cluster: u64) {
    let at = (l2_entry(image, cluster).1 & 0x00ff_ffff_ffff_fe00) + 100;
    flip(image, at, 1);
}

#[track_caller]
pub fn still_has_old(dir: &Dir) {
    assert_eq!(fs::read(dir.join("copy.raw")).unwrap(), b"the old disk");
    assert_eq!(dir.names(), ["copy.raw", "disk.raw", "image.qcow2"]);
}

/// Holds a restored file to the disk, but for what is told to be `otherwise`.
#[track_caller]
fn is_the_disk_but(dir: &Dir, otherwise: &[(u64, Vec<u8>)]) {
    let mut expected = fs::read(dir.join("disk.raw")).unwrap();
    for (at, bytes) in otherwise {
        let at = usize::try_from(*at).unwrap();
        expected[at..at + bytes.len()].copy_from_slice(bytes);
    }
    assert!(fs::read(dir.join("copy.raw")).unwrap() == expected);
}

#[test]
fn a_cluster_that_is_not_what_it_was_stops_the_run_or_is_listed() {
    let dir = job("damaged-data");
    damage(&dir.join("image.qcow2"), 17);

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("mkqcow2: image.qcow2: 64.00 KiB damaged at 0x110000 of the disk: CRC-32 is 0x")
        .says(" (guest 0x110000 to 0x120000) (--keep-going restores what can be read)\n");
    still_has_old(&dir);

    let run = dir
        .run("restore --json --keep-going --verify image.qcow2 copy.raw")
        .exits(3);
    let json = run.json();
    run.says(
        "mkqcow2: image.qcow2: 64.00 KiB damaged at 0x110000 of the disk: does not match its checksum, \
        restored as it is\n",
    )
    .says("warning: 65536 bytes of the disk are damaged: in the target they are zeros if they could not be read, and wrong if they did not match their checksum\n");
    let damaged =
        serde_json::json!([{"start": 0x11_0000, "length": 65536, "why": "checksum", "region": null}]);
    assert_eq!((&json["status"], &json["damaged"]), (&3.into(), &damaged));
    let mut byte = [0];
    File::open(dir.join("disk.raw"))
        .unwrap()
        .read_exact_at(&mut byte, 17 * CLUSTER + 100)
        .unwrap();
    is_the_disk_but(&dir, &[(17 * CLUSTER + 100, vec![byte[0] ^ 1])]);
}

#[test]
fn a_cluster_that_the_tables_have_lost_is_missed() {
    // The second one in the middle of nowhere, all of whose clusters but one are holes.
    for cluster in [3, 47] {
        let dir = job(&format!("damaged-lost-{cluster}"));
        let image = dir.join("image.qcow2");
        let (at, _) = l2_entry(&image, cluster);
        poke(&image, at, &[0; 8]);

        let guest = format!(
            "(guest {:#x} to {:#x})",
            cluster * CLUSTER,
            (cluster + 1) * CLUSTER
        );
        dir.run("restore image.qcow2 copy.raw").exits(1).says(&guest);
        still_has_old(&dir);

        dir.run("restore --keep-going image.qcow2 copy.raw")
            .exits(3)
            .says(&format!(
                "64.00 KiB damaged at {:#x} of the disk: does not match its checksum",
                cluster * CLUSTER
            ));
        is_the_disk_but(&dir, &[(cluster * CLUSTER, vec![0; 65_536])]);
    }
}

#[test]
fn a_hole_that_turned_into_data_is_no_hole() {
    let dir = job("damaged-found");
    let image = dir.join("image.qcow2");
    // A hole shows what is a cluster of data.
    let data = l2_entry(&image, 4).1;
    poke(&image, l2_entry(&image, 40).0, &data.to_be_bytes());

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("expected 0xd7978eeb (guest 0x280000 to 0x290000)");
    still_has_old(&dir);
}

#[test]
fn an_entry_that_points_nowhere_stops_the_run_or_is_zeros() {
    let dir = job("damaged-entry");
    let image = dir.join("image.qcow2");
    for cluster in [5, 6, 20] {
        let entry = (1_u64 << 63) | (1 << 40);
        poke(&image, l2_entry(&image, cluster).0, &entry.to_be_bytes());
    }

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("L2 table at 0x")
        .says("(guest 0x50000 to 0x60000) (--keep-going restores what can be read)\n");
    still_has_old(&dir);
    dir.run("restore -n image.qcow2 copy.raw")
        .exits(1)
        .says("L2 table at 0x");

    dir.run("restore --keep-going --verify image.qcow2 copy.raw")
        .exits(3)
        .says("128.00 KiB damaged at 0x50000 of the disk: unreadable, zeros in the target\n")
        .says("64.00 KiB damaged at 0x140000 of the disk: unreadable, zeros in the target\n")
        .says("warning: 196608 bytes");
    let zeros = vec![0; 131_072];
    is_the_disk_but(&dir, &[(5 * CLUSTER, zeros), (20 * CLUSTER, vec![0; 65_536])]);
}

#[test]
fn a_table_that_is_not_there_takes_all_that_it_maps() {
    let dir = job("damaged-table");
    let image = dir.join("image.qcow2");
    let l1 = Image::open(&image).unwrap().header().l1().at.0;
    poke(&image, l1, &((1_u64 << 63) | (1 << 40)).to_be_bytes());

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("L1 table at 0x")
        .says("(guest 0x0 to 0x400000)");
    still_has_old(&dir);

    dir.run("restore --keep-going image.qcow2 copy.raw")
        .exits(3)
        .says("4.00 MiB damaged at 0x0 of the disk: unreadable, zeros in the target\n");
    assert!(fs::read(dir.join("copy.raw")).unwrap() == vec![0; 4 << 20]);
}

#[test]
fn a_cut_image_loses_what_was_cut() {
    let dir = job("damaged-cut");
    let image = dir.join("image.qcow2");
    let length = (l2_entry(&image, 31).1 & 0x00ff_ffff_ffff_fe00) + 1000;
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(length)
        .unwrap();

    let run = dir.run("restore image.qcow2 copy.raw").exits(1);
    assert!(run.stderr().lines().count() == 1, "{}", run.stderr());
    still_has_old(&dir);
}

#[test]
fn a_stream_that_is_damaged_is_zeros_and_its_neighbours_are_not() {
    let dir = Dir::new("damaged-stream");
    fs::write(dir.join("disk.raw"), "all work and no play ".repeat(50_000)).unwrap();
    qemu::img(&dir, "convert -c -O qcow2 disk.raw image.qcow2");
    let image = dir.join("image.qcow2");
    let entry = l2_entry(&image, 3).1;
    poke(&image, (entry & ((1 << 54) - 1)) + 20, &[0xff; 50]);

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("compressed cluster at 0x")
        .says("(guest 0x30000 to 0x40000)");
    dir.run("restore --keep-going image.qcow2 copy.raw")
        .exits(3)
        .says("64.00 KiB damaged at 0x30000 of the disk: unreadable, zeros in the target\n");
    let size = fs::metadata(dir.join("copy.raw")).unwrap().len();
    let mut expected = fs::read(dir.join("disk.raw")).unwrap();
    expected.resize(size.try_into().unwrap(), 0);
    expected[3 << 16..4 << 16].fill(0);
    assert!(fs::read(dir.join("copy.raw")).unwrap() == expected);
}

#[test]
fn a_checksum_table_that_is_damaged_is_not_believed() {
    let dir = job("damaged-checksums");
    let image = dir.join("image.qcow2");
    let at = Image::open(&image).unwrap().extensions().ours.unwrap().checksums;
    poke(&image, at.offset.0 + at.length - 20, &[0xff; 3]);

    dir.run("restore image.qcow2 copy.raw")
        .exits(1)
        .says("checksum table at 0x")
        .says("(--keep-going restores what can be read)\n");
    still_has_old(&dir);

    dir.run("restore --keep-going image.qcow2 copy.raw")
        .exits(3)
        .says("warning: checksums were not compared, because their table is damaged: ");
    same(&dir.join("disk.raw"), &dir.join("copy.raw"));
}
