//! `mkqcow2 verify`: what is right passes, and nothing that is not.

mod metadata;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::disk::Disk;
use crate::format::Format;
use crate::support::loops::Fuse;
use crate::support::{Dir, Run, flip, noise, qemu};

const SMALL: Format = Format {
    cluster_size: 4096,
    compat: "1.1",
};

/// Data at both ends and in between, zeros, and a last cluster that is not whole.
fn disk(format: Format) -> Disk {
    let cluster = format.cluster_size.max(4096);
    Disk::hole(cluster * 40 - 1536)
        .data(0..cluster)
        .zeros(cluster..cluster * 2)
        .data(cluster * 8 - 3..cluster * 10 + 5)
        .data(cluster * 40 - 2000..cluster * 40 - 1536)
}

/// Where the first compressed cluster of the disk is in the image.
fn first_stream(dir: &Dir) -> u64 {
    let map = dir.run("map disk.qcow2").stdout();
    let offset = map.split("compressed at 0x").nth(1).unwrap().lines().next();
    u64::from_str_radix(offset.unwrap(), 16).unwrap()
}

/// Where the parts of an image are, as far as its first cluster needs them.
struct Parts {
    l1: u64,
    refcount_table: u64,
    l2: u64,
    refcount_block: u64,
    /// The first cluster of the disk.
    data: u64,
    checksums: u64,
}

impl Parts {
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let number = |at: u64| {
            let at = at as usize;
            u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) & 0x00ff_ffff_ffff_ffff
        };
        let (l1, refcount_table) = (number(40), number(48));
        let l2 = number(l1);
        let magic = bytes.windows(8).position(|bytes| bytes == b"mkqcrc32");
        Self {
            l1,
            refcount_table,
            l2,
            refcount_block: number(refcount_table),
            data: number(l2),
            checksums: magic.unwrap_or(0) as u64,
        }
    }
}

/// The one finding there is.
#[track_caller]
fn finding(run: &Run) -> Value {
    let json = run.json();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings[0].clone()
}

#[test]
fn images_of_ours_are_all_right() {
    let dir = Dir::new("verify-right");
    for format in Format::all() {
        disk(format).image(&dir, format);
        let clusters = disk(format).data_clusters(format.cluster_size).len();

        let run = dir.run("verify --json disk.qcow2").exits(0);

        let report = run.json();
        assert_eq!(run.stderr(), "", "{format}");
        assert_eq!(
            (&report["status"], &report["compared"]),
            (&json!(0), &json!(clusters)),
            "{format}"
        );
        assert_eq!(report["findings"], json!([]));
        let changed = if format.compat == "1.1" {
            json!(false)
        } else {
            Value::Null
        };
        assert_eq!(report["changed"], changed);
    }
    let run = dir.run("verify disk.qcow2").exits(0);
    run.prints("disk.qcow2: all right, 6 clusters compared with checksums, 12.00 MiB read, ");
    dir.run("verify -q disk.qcow2").exits(0).in_silence();
}

#[test]
fn an_empty_disk_is_all_right() {
    let dir = Dir::new("verify-empty");
    Disk::hole(1 << 40).image(&dir, "");

    dir.run("verify disk.qcow2")
        .exits(0)
        .prints("all right, 0 clusters");
}

#[test]
fn a_bit_of_a_cluster_is_found_with_its_place() {
    let dir = Dir::new("verify-cluster");
    for format in [512, 4096, 64 << 10, 2 << 20].into_iter().flat_map(Format::both) {
        let path = disk(format).image(&dir, format);
        let (data, cluster) = (Parts::of(&path).data, format.cluster_size);
        for at in [data, data + cluster / 2, data + cluster - 1] {
            flip(&path, at, 0x10);

            let run = dir.run("verify --json disk.qcow2").exits(2);

            let says = if format.compat == "1.1" {
                "\"damaged: CRC-32 0x"
            } else {
                "\"damaged, or changed since it was made: CRC-32 0x"
            };
            let run = run
                .prints(says)
                .prints(&format!("(guest 0x0 to {cluster:#x}, at {data:#x})"));
            let found = finding(&run);
            assert_eq!(found["code"], "checksum");
            assert_eq!((&found["start"], &found["length"]), (&json!(0), &json!(cluster)));
            assert_eq!(
                (&run.json()["mismatched"], &found["host-offset"]),
                (&json!(1), &json!(data))
            );
            flip(&path, at, 0x10);
        }
        dir.run("verify -q disk.qcow2").exits(0);
    }
}

#[test]
fn damage_side_by_side_is_one_range_and_the_verifier_goes_on() {
    let dir = Dir::new("verify-ranges");
    let format = Format {
        cluster_size: 512,
        compat: "1.1",
    };
    let path = Disk::hole(1 << 20).data(0..512 * 100).image(&dir, format);
    let data = Parts::of(&path).data;
    for cluster in [3, 4, 5, 60, 61] {
        // Clusters are packed in the order of the disk; tables come only after 64 of them.
        flip(&path, data + cluster * 512, 1);
    }

    let run = dir.run("verify disk.qcow2").exits(2);

    let place = |first: u64, clusters: u64| {
        let (start, end) = (first * 512, (first + clusters) * 512);
        format!("(guest {start:#x} to {end:#x}, at {:#x})", data + start)
    };
    let run = run
        .prints(&place(3, 3))
        .prints(&place(60, 2))
        .prints(" of the disk: 3 clusters, of the first CRC-32 0x");
    assert_eq!(run.stdout().lines().count(), 3);
    run.prints("disk.qcow2: 5 clusters not as written, ");
    let quiet = dir.run("verify -q disk.qcow2").exits(2).prints("damaged");
    assert_eq!(quiet.stdout().lines().count(), 2);
}

#[test]
fn a_long_list_has_an_end_and_an_exact_count() {
    let dir = Dir::new("verify-many");
    let format = Format {
        cluster_size: 512,
        compat: "1.1",
    };
    let size = 512 * 6000;
    let path = Disk::hole(size).data(0..size).image(&dir, format);
    let mut bytes = fs::read(&path).unwrap();
    let raw = fs::read(dir.join("disk.raw")).unwrap();
    let data = Parts::of(&path).data as usize;
    // Every second cluster of the disk, wherever it is.
    let clusters: Vec<_> = raw.chunks(512).step_by(2).collect();
    for cluster in bytes[data..].chunks_mut(512) {
        if clusters.contains(&&*cluster) {
            cluster[100] ^= 0x80;
        }
    }
    fs::write(&path, bytes).unwrap();

    let run = dir
        .run("verify --json disk.qcow2")
        .exits(2)
        .prints("\"unlisted\":2000");

    let report = run.json();
    assert_eq!(report["findings"].as_array().unwrap().len(), 1000);
    assert_eq!(
        (&report["mismatched"], &report["unlisted"]),
        (&json!(3000), &json!(2000))
    );
}

#[test]
fn data_where_zeros_should_be_is_found() {
    let dir = Dir::new("verify-zeros");
    let format = SMALL;
    let path = disk(format).image(&dir, format);
    // The entry of the first cluster moves to the third, which is a hole.
    let l2 = Parts::of(&path).l2 as usize;
    let mut bytes = fs::read(&path).unwrap();
    bytes.copy_within(l2..l2 + 8, l2 + 16);
    bytes[l2..l2 + 8].fill(0);
    fs::write(&path, bytes).unwrap();

    let run = dir.run("verify --json disk.qcow2").exits(2);

    let run = run
        .prints("(guest 0x0 to 0x1000, reads as zeros)")
        .prints("1 cluster not in the checksum table, expected zeros");
    let kinds: Vec<_> = run.json()["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["code"].clone())
        .collect();
    assert_eq!(kinds, ["checksum", "not-zeros"]);
}

#[test]
fn what_cannot_be_verified_has_a_status_of_its_own() {
    let dir = Dir::new("verify-cannot");
    let path = disk(SMALL).image(&dir, SMALL);
    dir.run("verify none")
        .exits(1)
        .says("none: cannot open: No such file");
    dir.run("verify .").exits(1).says("is a directory");
    dir.run("verify").exits(64);
    // Version 7, then incompatible bit 7.
    for at in [7, 79] {
        let bits = if at == 7 { 4 } else { 0x80 };
        flip(&path, at, bits);
        dir.run("verify disk.qcow2").exits(1);
        flip(&path, at, bits);
    }
}

#[test]
fn changes_are_told_from_damage() {
    let dir = Dir::new("verify-changed");
    for format in Format::both(4096) {
        disk(format).image(&dir, format);
        let is_v3 = format.compat == "1.1";
        let tell = "warning: the image was opened for writing since it was made";

        // Nothing but opened for writing.
        qemu::io(&dir, "qcow2", "disk.qcow2", &["flush"]);
        let run = dir
            .run("verify disk.qcow2")
            .exits(0)
            .prints("all right, 6 clusters");
        assert_eq!(run.stderr().contains(tell), is_v3, "{format}");

        // Without a new cluster, so that the table stays.
        qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 7 0 512"]);
        let says = if is_v3 {
            "\"changed since it was made, or damaged: CRC-32"
        } else {
            "\"damaged, or changed since it was made: CRC-32"
        };
        let run = dir.run("verify --json disk.qcow2").exits(2).prints(says);
        assert_eq!(finding(&run)["start"], 0);

        // With new ones, which take the place of the table.
        qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 7 16384 16384"]);
        let says = if is_v3 {
            "(the image was opened for writing since"
        } else {
            "(the image may have been written to since"
        };
        let run = dir.run("verify --json disk.qcow2").exits(2).prints(says);
        assert_eq!(finding(&run)["code"], "checksum-table");
    }
}

#[test]
fn an_image_without_checksums_is_verified_as_far_as_it_can_be() {
    let dir = Dir::new("verify-none");
    disk(Format {
        cluster_size: 65536,
        compat: "1.1",
    })
    .file(&dir, "disk.raw");
    for (compression, damage) in [
        ("zlib", "the stream is damaged"),
        ("zstd", "the stream is damaged"),
    ] {
        let options = format!("-o compression_type={compression}");
        // Compressible, so that it is compressed, and large enough for some damage.
        let text: Vec<u8> = noise(7, 300_000).iter().map(|byte| byte & 0x33).collect();
        dir.sparse("disk.raw", 1 << 20, &[(0, &text)]);
        qemu::img(
            &dir,
            &format!("convert -q -c -O qcow2 {options} disk.raw disk.qcow2"),
        );

        let run = dir.run("verify --json disk.qcow2").exits(0);
        assert_eq!(
            (&run.json()["compared"], &run.json()["streams"]),
            (&Value::Null, &json!(5))
        );
        dir.run("verify disk.qcow2")
            .exits(0)
            .prints("no checksums to compare with, the rest is all right");

        // The middle of the first stream.
        let at = first_stream(&dir);
        let path = dir.join("disk.qcow2");
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize..at as usize + 64].fill(0xff);
        fs::write(&path, bytes).unwrap();
        let run = dir.run("verify --json disk.qcow2").exits(2);
        let run = run.prints(&format!(
            "compressed cluster at {at:#x}: {damage} (guest 0x0 to 0x10000)"
        ));
        assert_eq!(
            (&run.json()["damaged"], &run.json()["streams"]),
            (&json!(1), &json!(4))
        );
    }
}

#[test]
fn streams_that_only_a_snapshot_has_are_verified() {
    let dir = Dir::new("verify-snapshot");
    qemu::img(&dir, "create -q -f qcow2 disk.qcow2 1M");
    let path = dir.join("disk.qcow2");
    qemu::io(
        &dir,
        "qcow2",
        "disk.qcow2",
        &["write -c -P 1 0 64k", "write -c -P 2 64k 64k"],
    );
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    qemu::img(&dir, "snapshot -c again disk.qcow2");
    let at = first_stream(&dir);
    qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 3 0 64k"]);

    // One that the active state shares with both, one that the snapshots share.
    let run = dir.run("verify --json disk.qcow2").exits(0);
    assert_eq!(run.json()["streams"], 2);

    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize..at as usize + 16].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let run = dir.run("verify --json disk.qcow2").exits(2);
    let run = run.prints(&format!(
        "\"snapshot \\\"before\\\": compressed cluster at {at:#x}: "
    ));
    assert_eq!(finding(&run)["snapshot"], "before");
}

#[test]
fn what_lies_in_other_files_is_none_of_this_image() {
    let dir = Dir::new("verify-files");
    qemu::img(&dir, "create -q -f raw base 1M");
    qemu::img(&dir, "create -q -f qcow2 -b base -F raw overlay.qcow2");
    qemu::img(&dir, "create -q -f qcow2 -o data_file=data outside.qcow2 1M");
    for name in ["overlay.qcow2", "outside.qcow2"] {
        qemu::io(&dir, "qcow2", name, &["write -P 1 0 128k"]);
    }
    fs::remove_file(dir.join("base")).unwrap();
    fs::remove_file(dir.join("data")).unwrap();

    let run = dir.run("verify --json overlay.qcow2").exits(0);
    let run = run.says("warning: the rest of the disk is in its backing file, which was not read");
    assert_eq!(run.json()["read"], 128 << 10);
    dir.run("verify overlay.qcow2").exits(0).prints(
        "no checksums to compare with; the tables of this file are right; its backing file was not read",
    );
    let run = dir.run("verify --json outside.qcow2").exits(0);
    let run = run.says("warning: the rest of the disk is in its external data file, which was not read");
    assert_eq!(run.json()["read"], 0);
}

#[test]
fn sectors_that_cannot_be_read_are_listed_and_are_no_damage_as_root() {
    let dir = Dir::new("verify-unreadable");
    let format = Format {
        cluster_size: 65536,
        compat: "1.1",
    };
    let path = disk(format).image(&dir, format);
    let (data, end) = (Parts::of(&path).data, fs::metadata(&path).unwrap().len());
    // In the middle of four clusters that are read in one go.
    let bad = data + 0x28000;
    let map = format!(
        "0x0 + 1\n0x0 {bad:#x} +\n{bad:#x} 0x1000 -\n{:#x} {:#x} +\n",
        bad + 0x1000,
        end - bad - 0x1000
    );
    fs::write(dir.join("damage.map"), map).unwrap();
    let mapfile = format!("ddrescue-mapfile={}", dir.join("damage.map").display());
    let plugin = ["--filter=ddrescue", "file", path.to_str().unwrap(), &mapfile];
    let _served = Fuse::disk(dir.join("bad.qcow2"), &plugin);

    let run = dir.run("verify --json bad.qcow2").exits(1);

    let run = run
        .prints("\"cannot read at 0x")
        .prints("(guest 0x80000, 65536 bytes)");
    assert_eq!(
        (&finding(&run)["code"], &run.json()["unreadable"]),
        (&json!("unreadable"), &json!(1))
    );
    assert_eq!(run.json()["compared"], 5, "the others");
}

#[test]
fn the_number_of_workers_does_not_matter() {
    let dir = Dir::new("verify-workers");
    let path = disk(SMALL).image(&dir, SMALL);
    flip(&path, Parts::of(&path).data + 77, 4);
    let says = |options: &str| {
        dir.run(&format!("verify -q {options} disk.qcow2"))
            .exits(2)
            .stdout()
    };
    let expected = says("");
    for options in ["-j 1", "-j 2", "-j 7", "-j 256"] {
        assert_eq!(says(options), expected, "{options}");
    }
}
