//! `mkqcow2 compare`: agrees with `qemu-img compare`.

mod property;
mod trouble;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::json;

use mkqcow2::Silent;
use mkqcow2::compare::{Options, Said};
use mkqcow2::formats::Access;

use crate::corpus::Corpus;
use crate::disk::Disk;
use crate::support::{Dir, flip, noise, qemu, tool};

const MIB: u64 = 1 << 20;

/// Holds a comparison to the verdict of `qemu-img compare`, and its first difference to the same sector.
/// `options` mean the same to both.
#[track_caller]
fn agreed(dir: &Dir, options: &str, a: &str, b: &str) -> serde_json::Value {
    let output = Command::new("qemu-img")
        .arg("compare")
        .args(options.split_whitespace())
        .args(["-f", format_of(a), "-F", format_of(b), a, b])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    let status = output.status.code().unwrap();
    assert!(status <= 1, "{theirs}");

    let ours = dir
        .run(&format!("compare --json {options} {a} {b}"))
        .exits(status)
        .json();
    assert_eq!(ours["equal"], json!(status == 0));
    // All of them begin with the first, and mean the same.
    let all = dir
        .run(&format!("compare --json --all {options} {a} {b}"))
        .exits(status)
        .json();
    if options.is_empty() {
        assert_eq!(all["first-difference"], ours["first-difference"]);
        let first = ours["first-difference"].as_u64().map(|first| first / 512 * 512);
        assert_eq!(all["ranges"][0]["start"].as_u64(), first);
        let offset = theirs.split_once("at offset ").map(|(_, rest)| {
            let digits = rest.split_once('!').unwrap().0;
            digits.parse::<u64>().unwrap() / 512 * 512
        });
        assert_eq!(first, offset, "{theirs}");
    }
    ours
}

fn format_of(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((_, "qcow2")) => "qcow2",
        _ => "raw",
    }
}

/// A disk with data at both ends and in the middle, holes and zeros between.
fn patchwork(size: u64) -> Disk {
    let middle = size / 2 + 12_345;
    Disk::hole(size)
        .data(0..70_000)
        .zeros(200_000..400_000)
        .data(middle..middle + 300_000)
        .data(size - 5000..size)
}

#[test]
fn a_disk_equals_itself_in_every_format() {
    let dir = Dir::new("compare-formats");
    patchwork(5 * MIB).file(&dir, "disk.raw");
    let formats = [
        "-o cluster_size=512",
        "-o cluster_size=4k,compat=0.10",
        "-c -o cluster_size=4k",
        "-c -o compression_type=zstd",
        "-c -o compression_type=zstd,cluster_size=2M",
        "-o extended_l2=on,cluster_size=32k",
        "-o preallocation=falloc",
        "-S 0",
    ];
    let mut names = vec!["disk.raw".to_owned()];
    for (number, format) in formats.iter().enumerate() {
        let name = format!("{number}.qcow2");
        qemu::img(&dir, &format!("convert -f raw -O qcow2 {format} disk.raw {name}"));
        names.push(name);
    }
    dir.run("-q disk.raw ours.qcow2").exits(0);
    names.push("ours.qcow2".to_owned());

    for name in &names {
        agreed(&dir, "", "disk.raw", name);
        dir.run(&format!("compare --strict {name} 3.qcow2")).exits(0);
    }
    dir.run("compare disk.raw disk.raw").exits(0).prints("are equal");
}

#[test]
fn every_snapshot_in_a_specimen_equals_its_content_and_nothing_else() {
    let dir = Dir::new("compare-corpus");
    Corpus::shared().each(|specimen| {
        let raw = dir.join(format!("{}.raw", specimen.name));
        let first_difference = |snapshot: &str| {
            let access = Access {
                follow: specimen.follow,
                snapshot: Some(snapshot.to_owned()),
                ..Access::default()
            };
            let options = Options {
                a: Said {
                    access,
                    ..Said::default()
                },
                strict: true,
                ..Options::default()
            };
            let report = mkqcow2::compare(&specimen.path, &raw, options, &Silent);
            let report = report.map_err(|error| format!("{snapshot}: {error}"))?;
            if report.sizes_differ {
                return Err(format!("{snapshot}: {:?}", report.sizes));
            }
            Ok(report.first_difference)
        };
        for snapshot in &specimen.snapshots {
            let mut bytes = specimen.raw_snapshot(snapshot);
            fs::write(&raw, &bytes).unwrap();
            assert_eq!(first_difference(snapshot)?, None, "{snapshot}");
            let at = bytes.len() / 3 * 2;
            bytes[at] ^= 1;
            fs::write(&raw, &bytes).unwrap();
            assert_eq!(first_difference(snapshot)?, Some(at as u64), "{snapshot}");
        }
        Ok(())
    });
}

#[test]
fn one_byte_that_differs_is_found_wherever_it_is() {
    let dir = Dir::new("compare-byte");
    let disk = patchwork(5 * MIB);
    let raw = disk.file(&dir, "disk.raw");
    for (number, options) in [
        "",
        "-c -o cluster_size=2M",
        "-c -o compression_type=zstd,cluster_size=512",
    ]
    .iter()
    .enumerate()
    {
        let image = format!("{number}.qcow2");
        qemu::img(&dir, &format!("convert -O qcow2 {options} disk.raw {image}"));
        let size = disk.size();
        // In data, in zeros, in a hole; at borders of sectors, clusters and batches.
        for at in [
            0,
            511,
            512,
            69_999,
            100_000,
            300_000,
            MIB - 1,
            MIB,
            size / 2 + 20_000,
            size - 1,
        ] {
            flip(&raw, at, 0x40);
            for (a, b) in [("disk.raw", image.as_str()), (image.as_str(), "disk.raw")] {
                assert_eq!(agreed(&dir, "", a, b)["first-difference"], json!(at), "{a} {b}");
            }
            flip(&raw, at, 0x40);
        }
    }
}

#[test]
fn a_longer_tail_counts_only_if_it_is_not_zeros_or_sizes_do() {
    let dir = Dir::new("compare-tail");
    let short = patchwork(2 * MIB);
    short.file(&dir, "short.raw");
    for (name, tail) in [
        ("zeros", vec![0; 4096]),
        ("hole", Vec::new()),
        ("data", vec![0, 0, 1]),
    ] {
        let raw = short.file(&dir, &format!("{name}.raw"));
        let file = File::options().write(true).open(raw).unwrap();
        file.set_len(3 * MIB + 512).unwrap();
        file.write_all_at(&tail, 3 * MIB).unwrap();
        qemu::img(&dir, &format!("convert -c -O qcow2 {name}.raw {name}.qcow2"));
    }
    for (long, is_equal) in [("zeros", true), ("hole", true), ("data", false)] {
        for long in [format!("{long}.raw"), format!("{long}.qcow2")] {
            for (a, b) in [("short.raw", long.as_str()), (long.as_str(), "short.raw")] {
                let ours = agreed(&dir, "", a, b);
                assert_eq!(ours["equal"], json!(is_equal), "{a} {b}");
                if !is_equal {
                    assert_eq!(ours["first-difference"], json!(3 * MIB + 2));
                }
                assert_eq!(agreed(&dir, "-s", a, b)["equal"], json!(false), "{a} {b}");
            }
        }
    }
    dir.run("compare short.raw hole.qcow2").exits(0).prints(
        "short.raw and hole.qcow2 are equal: 3.00 MiB, the last 1049088 bytes are only in hole.qcow2, and zeros;",
    );
    dir.run("compare --strict short.raw hole.qcow2")
        .exits(1)
        .prints("short.raw and hole.qcow2 differ, in size: 2097152 and 3146240 bytes;");
    let all = dir
        .run("compare --strict --all --json short.raw data.raw")
        .exits(1)
        .json();
    assert_eq!(all["ranges"], json!([{"start": 3 * MIB, "length": 512}]));
}

#[test]
fn sizes_count_in_sectors_and_an_empty_file_is_zeros() {
    let dir = Dir::new("compare-sectors");
    dir.sparse("odd.raw", 1000, &[(999, b"x")]);
    dir.sparse("even.raw", 1024, &[(999, b"x")]);
    dir.sparse("empty.raw", 0, &[]);
    dir.sparse("zeros.raw", 1 << 40, &[]);

    for (a, b) in [
        ("odd.raw", "even.raw"),
        ("empty.raw", "zeros.raw"),
        ("empty.raw", "odd.raw"),
    ] {
        agreed(&dir, "", a, b);
        agreed(&dir, "", b, a);
    }
    dir.run("compare --strict odd.raw even.raw").exits(0);
    dir.run("compare --strict empty.raw zeros.raw").exits(1);
    let all = dir.run("compare --all --json odd.raw empty.raw").exits(1).json();
    assert_eq!(all["ranges"], json!([{"start": 512, "length": 488}]));
    assert_eq!(all["size-a"], json!(1000));
    // Nothing of a hole is read.
    let zeros = dir.run("compare --json zeros.raw empty.raw").exits(0).json();
    assert_eq!(zeros["compared"], json!(0));
}

#[test]
fn what_both_have_as_a_hole_is_not_read() {
    let dir = Dir::new("compare-holes");
    let size = 4 << 30;
    dir.sparse("a.raw", size, &[(0, b"x"), (MIB - 1, b"x"), (size / 2, b"x")]);
    dir.sparse(
        "b.raw",
        size,
        &[(0, b"x"), (MIB - 1, b"x"), (size / 2, b"x"), (size - 1, b"\0")],
    );
    qemu::img(&dir, "convert -c -O qcow2 a.raw a.qcow2");
    for (pair, granules) in [("a.raw a.qcow2", 3), ("a.qcow2 b.raw", 4), ("a.qcow2 a.qcow2", 3)] {
        let run = dir.run(&format!("compare --json {pair}")).exits(0).json();
        assert_eq!(run["compared"], json!(granules << 16), "{pair}");
    }
    qemu::img(&dir, "create -q -f qcow2 empty.qcow2 4G");
    let run = dir.run("compare --json empty.qcow2 a.raw").exits(1).json();
    assert_eq!(run["first-difference"], json!(0));
    let run = dir.run("compare --json --all empty.qcow2 b.raw").exits(1).json();
    assert_eq!(run["compared"], json!(4 << 16));
    let expected = [0, MIB - 512, size / 2].map(|start| json!({"start": start, "length": 512}));
    assert_eq!(run["ranges"], json!(expected));
}

#[test]
fn ranges_are_listed_as_they_are_found_and_joined() {
    let dir = Dir::new("compare-ranges");
    let size = 4 * MIB;
    let disk = patchwork(size);
    disk.file(&dir, "a.raw");
    let b = disk.file(&dir, "b.raw");
    // Across a border of batches; single bytes in neighbouring sectors.
    let file = File::options().write(true).open(b).unwrap();
    file.write_all_at(&noise(1, 3000), MIB - 1000).unwrap();
    file.write_all_at(b"!", 3 * MIB + 511).unwrap();
    file.write_all_at(b"!", 3 * MIB + 512).unwrap();
    qemu::img(&dir, "convert -c -O qcow2 b.raw b.qcow2");

    let listed = dir.run("compare --all a.raw b.qcow2").exits(1).stdout();
    let expected = "0x0000000ffc00             3072\n0x000000300000             1024\n";
    let (lines, closing) = listed.split_at(expected.len());
    assert_eq!(lines, expected);
    assert!(
        closing
            .starts_with("a.raw and b.qcow2 differ, first at 0xffc18: 4096 bytes in 2 ranges of sectors; "),
        "{closing}"
    );
    assert_eq!(dir.run("compare -qa a.raw b.qcow2").exits(1).stdout(), expected);
    dir.run("compare -q a.raw b.qcow2").exits(1).in_silence();
    dir.run("compare -qa a.raw a.raw").exits(0).in_silence();
    let json = dir.run("compare --json --all b.qcow2 a.raw").exits(1).json();
    assert_eq!(json["ranges"].as_array().unwrap().len(), 2);
    assert_eq!(json["differing"], json!(4096));
    assert_eq!((&json["a"], &json["status"]), (&json!("b.qcow2"), &json!(1)));
}

#[test]
fn an_image_is_told_from_a_raw_disk_unless_that_is_said() {
    let dir = Dir::new("compare-format");
    patchwork(MIB).file(&dir, "disk.raw");
    qemu::img(&dir, "convert -O qcow2 disk.raw disk.qcow2");
    fs::copy(dir.join("disk.qcow2"), dir.join("copy.raw")).unwrap();

    dir.run("compare disk.raw copy.raw").exits(0);
    dir.run("compare --format-a raw --format-b raw disk.qcow2 copy.raw")
        .exits(0);
    dir.run("compare --format-b raw disk.qcow2 copy.raw").exits(1);
    dir.run("compare --format-a qcow2 disk.raw disk.qcow2")
        .exits(2)
        .says("mkqcow2: disk.raw: ");
    for (option, says) in [
        ("--snapshot s", "has no snapshot with the ID or name \"s\""),
        ("--backing disk.raw", "has no backing file, but one was given"),
        (
            "--data-file disk.raw",
            "has no external data file, but one was given",
        ),
    ] {
        dir.run(&format!("compare {option} disk.raw disk.qcow2"))
            .exits(2)
            .says(says);
    }
}

#[test]
fn a_snapshot_is_compared_with_what_became_of_the_disk() {
    let dir = Dir::new("compare-snapshot");
    patchwork(2 * MIB).file(&dir, "before.raw");
    qemu::img(&dir, "convert -O qcow2 before.raw disk.qcow2");
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    dir.run("compare --snapshot before disk.qcow2 disk.qcow2")
        .exits(0);
    qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 7 1000000 5"]);

    dir.run("compare --snapshot before disk.qcow2 before.raw")
        .exits(0);
    dir.run("compare --snapshot 1 disk.qcow2 disk.qcow2")
        .exits(1)
        .prints("first at 0xf4240");
    agreed(&dir, "", "disk.qcow2", "before.raw");
    dir.run("compare --snapshot after disk.qcow2 disk.qcow2")
        .exits(2)
        .says("mkqcow2: disk.qcow2: has no snapshot");
}

#[test]
fn backing_files_are_opened_only_if_asked_for() {
    let dir = Dir::new("compare-chain");
    patchwork(3 * MIB).file(&dir, "base.raw");
    qemu::img(
        &dir,
        "create -q -f qcow2 -b base.raw -F raw -o cluster_size=2M middle.qcow2",
    );
    qemu::img(
        &dir,
        "create -q -f qcow2 -b middle.qcow2 -F qcow2 -o cluster_size=4k top.qcow2",
    );
    qemu::img(&dir, "convert -c -O qcow2 top.qcow2 flat.qcow2");
    for (a, b) in [("top.qcow2", "flat.qcow2"), ("flat.qcow2", "top.qcow2")] {
        let needs = "mkqcow2: top.qcow2: needs its backing file, \"middle.qcow2\"";
        dir.run(&format!("compare {a} {b}")).exits(2).says(needs);
        dir.run(&format!("compare --follow {a} {b}")).exits(0);
    }
    dir.run("compare --backing middle.qcow2 top.qcow2 flat.qcow2")
        .exits(2)
        .says("mkqcow2: middle.qcow2: needs its backing file");
    qemu::io(&dir, "qcow2", "top.qcow2", &["write -P 7 2900000 5"]);
    dir.run("compare --follow flat.qcow2 top.qcow2")
        .exits(1)
        .prints("first at 0x2c4020");
    dir.run("compare --backing base.raw middle.qcow2 flat.qcow2")
        .exits(0);
}

#[test]
fn remnants_in_free_blocks_are_a_difference_unless_only_what_is_in_use_counts() {
    let dir = Dir::new("compare-used");
    let swap = Disk::hole(2 * MIB)
        .bytes(0, noise(1, 2 * MIB as usize))
        .file(&dir, "swap.raw");
    tool("mkswap", ["-q", "-p", "4096", swap.to_str().unwrap()]);
    dir.run("swap.raw swap.qcow2").exits(0);

    dir.run("compare swap.qcow2 swap.raw")
        .exits(1)
        .prints("differ, first at 0x1000");
    dir.run("compare --used swap.qcow2 swap.raw").exits(0);
    dir.run("compare --used swap.raw swap.qcow2").exits(0);

    // What is in use is compared: the UUID.
    let file = File::options().read(true).write(true).open(&swap).unwrap();
    let mut uuid = [0; 16];
    file.read_exact_at(&mut uuid, 1036).unwrap();
    file.write_all_at(&uuid.map(|byte| !byte), 1036).unwrap();
    dir.run("compare --used --all swap.qcow2 swap.raw")
        .exits(1)
        .prints("first at 0x40c");
    // What is free is not, but a byte of it in the image is.
    dir.run("--scan sparse swap.raw all.qcow2").exits(0);
    dir.run("compare all.qcow2 swap.raw").exits(0);
    dir.run("compare --used all.qcow2 swap.raw")
        .exits(1)
        .prints("first at 0x1000");
}
