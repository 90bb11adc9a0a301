//! Disks that are put on devices whose sectors have another size than those that their tables count in.

use std::fs::{self, File};
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan};

use super::disk::Disk;
use super::{MBR_16, THREE};
use crate::filesystems::proof::MIB;
use crate::support::loops::{Loop, Mount, make_ext4};

const SIZE: u64 = 16 * MIB;

/// A table of sectors of 4096 bytes.
const OF_4K: &str = "label: gpt\nstart=256,size=512\nsize=1024\n";

/// Images the disk, and restores it to a device with sectors of that size.
#[track_caller]
fn restore(disk: &Disk, options: &str, sector_size: u64) -> (crate::support::Run, Vec<u8>) {
    let target = disk.beside("target.raw");
    if !target.exists() {
        disk.run("-q --no-sync disk.raw image.qcow2").exits(0);
    }
    File::create(&target).unwrap().set_len(SIZE).unwrap();
    let device = Loop::with_sectors(&target, sector_size);
    let run = disk.run(&format!(
        "restore {options} image.qcow2 {}",
        device.path().display()
    ));
    drop(device);
    (run, fs::read(target).unwrap())
}

#[track_caller]
fn assert_refused(disk: &Disk, target: u64, table: u64) {
    let sizes = format!(
        "has sectors of {target} bytes, and the partition table of the disk counts in sectors of {table}"
    );
    for options in ["", "-n"] {
        let (run, content) = restore(disk, options, target);
        run.exits(1)
            .says(&format!("{sizes}: no program would find its partitions there ("))
            .says("losetup --sector-size")
            .says("--force");
        assert!(content.iter().all(|byte| *byte == 0), "nothing was written");
    }
    for option in ["-f", "--force"] {
        let (run, content) = restore(disk, option, target);
        run.exits(3).says(&format!(
            "warning: {sizes}: no program finds its partitions there\n"
        ));
        assert!(content.len() as u64 == SIZE && content[..512] == disk.bytes()[..512]);
    }
    let (run, _) = restore(disk, "-n --force", target);
    run.exits(0).says(&format!("warning: {sizes}"));
    let (run, _) = restore(disk, "", table);
    run.exits(0);
    // A file has no sectors.
    disk.run("restore --no-sync image.qcow2 copy.raw").exits(0);
}

#[test]
fn a_gpt_is_not_restored_to_sectors_of_another_size_unless_forced_as_root() {
    let disk = Disk::new("targets-512", SIZE, 512, THREE);
    disk.swap_in(1).swap_in(2).swap_in(3);
    assert_refused(&disk, 4096, 512);
    let disk = Disk::new("targets-4k", SIZE, 4096, OF_4K);
    disk.swap_in(1).swap_in(2);
    assert_refused(&disk, 512, 4096);
}

#[test]
fn a_gpt_is_known_by_its_backup_too_as_root() {
    let disk = Disk::new("targets-backup", SIZE, 512, THREE);
    disk.wreck(&[512]);
    let (run, _) = restore(&disk, "", 4096);
    run.exits(1).says("counts in sectors of 512");
}

#[test]
fn an_mbr_is_not_restored_to_sectors_of_another_size_if_something_is_recognised_in_its_partitions_as_root() {
    let disk = Disk::new("targets-mbr", SIZE, 512, MBR_16);
    disk.swap_in(2);
    assert_refused(&disk, 4096, 512);
    let disk = Disk::new("targets-mbr-4k", SIZE, 4096, "label: dos\nstart=256,size=512\n");
    disk.swap_in(1);
    let device = Loop::with_sectors(disk.path(), 4096);
    disk.run(&format!("-q --no-sync {} image.qcow2", device.path().display()))
        .exits(0);
    drop(device);
    assert_refused(&disk, 512, 4096);
}

#[test]
fn the_sectors_of_a_device_are_recorded_where_its_table_does_not_tell_them_as_root() {
    let disk = Disk::new("targets-recorded", SIZE, 4096, "label: dos\nstart=256,size=512\n");
    File::create(disk.beside("target.raw")).unwrap();
    for (options, is_recorded) in [("", true), ("--compat 0.10", true), ("--no-checksums", false)] {
        let device = Loop::with_sectors(disk.path(), 4096);
        disk.run(&format!(
            "-q --no-sync {options} {} image.qcow2",
            device.path().display()
        ))
        .exits(0);
        drop(device);
        if is_recorded {
            assert_refused(&disk, 512, 4096);
            disk.run("info image.qcow2")
                .exits(0)
                .prints("sector size        4096, of the source\n");
        } else {
            let (run, _) = restore(&disk, "", 512);
            run.exits(0);
        }
    }
}

#[test]
fn a_disk_of_which_the_size_of_sectors_cannot_be_told_is_restored_to_any_as_root() {
    let empty = Disk::new("targets-mbr-empty", SIZE, 512, MBR_16);
    let plain = Disk::new("targets-plain", SIZE, 512, "label: dos\n");
    plain.edit(|edit| edit.put(0, &[0; 512]));
    plain.swap_at(0..SIZE);
    let both = Disk::new("targets-both", SIZE, 4096, OF_4K);
    let other = Disk::new("targets-both-512", SIZE, 512, THREE);
    both.edit(|edit| edit.splice(&other.bytes(), SIZE - 33 * 512..SIZE));
    for disk in [empty, plain, both] {
        for sector_size in [512, 4096] {
            let (run, _) = restore(&disk, "", sector_size);
            run.exits(0);
        }
    }
}

#[test]
fn a_target_that_is_mounted_is_refused_even_if_forced_as_root() {
    let disk = Disk::new("targets-mounted", SIZE, 512, THREE);
    disk.run("-q --no-sync disk.raw image.qcow2").exits(0);
    let target = disk.beside("target.raw");
    File::create(&target).unwrap().set_len(SIZE).unwrap();
    make_ext4(&target);
    let device = Loop::over(&target);
    let mount = Mount::new("ro", device.path(), disk.beside("mounted"));
    let run = format!("restore --force image.qcow2 {}", device.path().display());
    let on = format!("mounted read-only on {}", mount.point().display());
    disk.run(&run).exits(1).says(&on);
}

#[test]
fn the_size_of_sectors_is_that_of_the_device_or_what_the_table_of_a_file_counts_in_as_root() {
    let sector_size = |path: &Path| {
        let source = disk::open(path, Open::default()).unwrap();
        let scans = [Scan::Auto, Scan::Sparse].map(|scan| volumes::scan(&source, scan).unwrap());
        assert_eq!(scans[0].sector_size, scans[1].sector_size);
        scans[0].sector_size
    };
    let of_4k = Disk::new("targets-told-4k", SIZE, 4096, OF_4K);
    assert_eq!(sector_size(of_4k.path()), Some(4096));
    let of_512 = Disk::new("targets-told-512", SIZE, 512, THREE);
    assert_eq!(sector_size(of_512.path()), Some(512));
    let mbr = Disk::new("targets-told-mbr", SIZE, 512, MBR_16);
    assert_eq!(sector_size(mbr.path()), None);
    for size in [512, 4096] {
        let device = Loop::with_sectors(mbr.path(), size);
        assert_eq!(sector_size(device.path()), Some(size));
    }
}
