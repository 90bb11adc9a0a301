//! Structures that reading the disk does not need: every command reads past what is wrong with them and warns.

use super::patient::{Patient, field};
use crate::mount::served::Served;
use crate::support::{Dir, noise, qemu, root};

const LENGTH: &str = "has a header of an invalid length, which does not matter for reading";
const REFCOUNTS: &str = "has no usable refcount table, which does not matter for reading";
const SNAPSHOTS: &str = "has no usable snapshot table: snapshots cannot be read, the active disk can";

/// The damage, the warning, and what `check` finds.
type Case = (fn(&mut Patient), &'static str, &'static str);

const CASES: [Case; 5] = [
    (
        |p| p.put32(field::HEADER_LENGTH, 0x69),
        LENGTH,
        "error: header at 0x0: header_length is 0x69, expected a multiple of 0x8 [header]",
    ),
    (
        |p| p.put64(field::REFCOUNT_OFFSET, 0),
        REFCOUNTS,
        "error: header at 0x0: refcount_table_offset is 0x0, expected at least 0x10000 [refcount-table]",
    ),
    (
        |p| p.put64(field::REFCOUNT_OFFSET, 1 << 40),
        REFCOUNTS,
        "error: refcount table at 0x10000000000 does not fit: it needs 65536 bytes, 0 are there [refcount-table]",
    ),
    (
        |p| p.put64(field::SNAPSHOTS_OFFSET, 0x100_0000),
        SNAPSHOTS,
        "error: snapshot table at 0x1000000 does not fit: it needs 40 bytes, 0 are there [snapshot-table]",
    ),
    (
        |p| p.put32(field::SNAPSHOTS, 65537),
        SNAPSHOTS,
        "error: header at 0x0: nb_snapshots is 0x10001, expected at most 0x10000 [snapshot-table]",
    ),
];

/// An image with a snapshot, and its disk.
fn dir(name: &str) -> Dir {
    let dir = Dir::new(name);
    std::fs::write(dir.join("noise"), noise(1, 65536)).unwrap();
    qemu::image(&dir, "good.qcow2 1M", &["write -q -s noise 64k 64k"]);
    qemu::img(&dir, "snapshot -q -c before good.qcow2");
    qemu::io(&dir, "qcow2", "good.qcow2", &["write -q -s noise 300k 64k"]);
    qemu::img(&dir, "convert -q -O raw good.qcow2 good.raw");
    dir
}

#[test]
fn every_command_reads_an_image_whose_unneeded_structures_are_wrong_and_warns() {
    let dir = dir("unneeded");
    let bytes = std::fs::read(dir.join("good.qcow2")).unwrap();
    for (damage, warning, finding) in CASES {
        let mut patient = Patient::new(bytes.clone());
        damage(&mut patient);
        std::fs::write(dir.join("bad.qcow2"), &patient.bytes).unwrap();

        dir.run("restore --no-sync --force bad.qcow2 copy.raw")
            .exits(0)
            .says(&format!("bad.qcow2: warning: {warning}"));
        assert!(std::fs::read(dir.join("copy.raw")).unwrap() == std::fs::read(dir.join("good.raw")).unwrap());
        dir.run("info bad.qcow2").exits(0).says(warning);
        dir.run("map --format qcow2 bad.qcow2").exits(0).says(warning);
        dir.run("compare --format-a qcow2 bad.qcow2 good.raw")
            .exits(0)
            .says(warning);
        dir.run("--no-sync --force --source-format qcow2 bad.qcow2 packed.qcow2")
            .exits(0)
            .says(warning);
        dir.run("compare packed.qcow2 good.raw").exits(0);
        dir.run("check bad.qcow2").exits(2).prints(finding);
        dir.run("verify bad.qcow2").exits(2);
    }
}

#[test]
fn an_image_whose_tables_are_in_the_same_place_is_read_only_if_damage_is_borne() {
    let dir = dir("unneeded-overlap");
    let mut patient = Patient::new(std::fs::read(dir.join("good.qcow2")).unwrap());
    patient.put64(field::REFCOUNT_OFFSET, patient.l1());
    std::fs::write(dir.join("bad.qcow2"), &patient.bytes).unwrap();
    qemu::img(&dir, "create -q -f qcow2 -b bad.qcow2 -F qcow2 top.qcow2");
    let refused = "l1_table_offset is 0x30000, expected an offset outside the refcount table";
    for run in [
        "restore --no-sync bad.qcow2 copy.raw",
        "info bad.qcow2",
        "map --format qcow2 bad.qcow2",
        "check bad.qcow2",
        "--no-sync --source-format qcow2 --on-read-error=zero bad.qcow2 packed.qcow2",
    ] {
        dir.run(run).exits(1).says(refused);
    }

    let expected = std::fs::read(dir.join("good.raw")).unwrap();
    qemu::img(&dir, "convert -q -O raw bad.qcow2 theirs.raw");
    assert!(std::fs::read(dir.join("theirs.raw")).unwrap() == expected);
    for (options, image) in [("", "bad.qcow2"), ("--follow ", "top.qcow2")] {
        dir.run(&format!(
            "restore --no-sync --keep-going {options}{image} {image}.raw"
        ))
        .exits(3)
        .says("has its L1 table and its refcount table in the same place: what is read may be wrong");
        assert!(std::fs::read(dir.join(format!("{image}.raw"))).unwrap() == expected);
    }
}

#[test]
fn a_snapshot_is_not_read_by_way_of_a_table_that_cannot_be_used() {
    let dir = dir("unneeded-snapshots");
    let bytes = std::fs::read(dir.join("good.qcow2")).unwrap();
    for (damage, warning, finding) in CASES {
        let mut patient = Patient::new(bytes.clone());
        damage(&mut patient);
        std::fs::write(dir.join("bad.qcow2"), &patient.bytes).unwrap();
        let run = dir.run("restore --no-sync --force --snapshot before bad.qcow2 copy.raw");
        if warning == SNAPSHOTS {
            let (_, says) = finding.split_once(": ").unwrap();
            let (says, _) = says.split_once(" [").unwrap();
            run.exits(1).says(says);
        } else {
            run.exits(0).says(warning);
        }
    }
}

#[test]
fn an_image_whose_unneeded_structures_are_wrong_is_mounted_as_root() {
    root::needed();
    let dir = dir("unneeded-mounted");
    let mut patient = Patient::new(std::fs::read(dir.join("good.qcow2")).unwrap());
    patient.put64(field::REFCOUNT_OFFSET, 0);
    std::fs::write(dir.join("bad.qcow2"), &patient.bytes).unwrap();

    let served = Served::expected(&dir, "bad.qcow2");
    served
        .mount(&dir, "--format qcow2")
        .exits(0)
        .says(&format!("bad.qcow2: warning: {REFCOUNTS}"));

    let disk = std::fs::read(served.join("disk.raw")).unwrap();
    assert!(disk == std::fs::read(dir.join("good.raw")).unwrap());
}

#[test]
fn header_extensions_behind_a_header_of_an_odd_length_are_found_where_qemu_finds_them() {
    let dir = Dir::new("unneeded-extensions");
    qemu::image(&dir, "odd.qcow2 1M", &[]);
    let mut patient = Patient::new(std::fs::read(dir.join("odd.qcow2")).unwrap());
    patient.put32(field::HEADER_LENGTH, 0x69);
    patient.put(0x69, b"\xe2\x79\x2a\xca\0\0\0\x03raw\0\0\0\0\0\0\0\0\0\0\0\0\0");
    // Something has to be behind the extension, and a name of a backing file.
    patient.put64(field::BACKING_OFFSET, 0x400);
    patient.put32(field::BACKING_SIZE, 4);
    patient.put(0x400, b"base");
    std::fs::write(dir.join("odd.qcow2"), &patient.bytes).unwrap();

    let theirs = qemu::img(&dir, "info odd.qcow2");
    assert!(theirs.contains("backing file format: raw"), "{theirs}");
    dir.run("info odd.qcow2").exits(0).prints("\"base\", raw");
}
