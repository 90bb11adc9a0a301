//! Images that lie one behind the other: each is held to its own checksums, wherever it is read.

use std::fs;

use mkqcow2::Image;
use mkqcow2::formats::qcow2::structures::mapping::Mapping;
use mkqcow2::units::GuestOffset;
use serde_json::json;

use crate::damaged::{damage, l2_entry};
use crate::mount::served::{Served, bytes};
use crate::restore::same;
use crate::support::{Dice, Dir, flip, noise, poke, qemu};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const CLUSTER: u64 = 64 * KIB;

/// Images an overlay, with all that lies behind it, once more.
const AGAIN: &str = "--no-sync --follow --source-format qcow2";

/// `base.raw`, all of it data, and `base.qcow2`, which is an image of it.
fn base(test: &str, size: u64, options: &str) -> Dir {
    let dir = Dir::new(&format!("chains-{test}"));
    fs::write(dir.join("base.raw"), noise(1, size as usize)).unwrap();
    ours(&dir, "base", options);
    dir
}

/// Images a raw file.
fn ours(dir: &Dir, name: &str, options: &str) {
    dir.run(&format!("-q --no-sync {options} {name}.raw {name}.qcow2"))
        .exits(0);
}

/// Puts an image of QEMU on another, `top.qcow2` on `base.qcow2`, of which a guest has written some parts.
fn overlay(dir: &Dir, options: &str, size: &str, commands: &[&str]) {
    let create = format!("-F qcow2 -b base.qcow2 {options} top.qcow2 {size}");
    qemu::image(dir, &create, commands);
}

/// Puts an image of ours on another, as it is: it does not count as changed.
fn put_on(dir: &Dir, top: &str, base: &str) {
    qemu::img(dir, &format!("rebase -u -F qcow2 -b {base} {top}"));
    let version = Image::open(&dir.join(top)).unwrap().header().compat().version();
    if version == 3 {
        // The highest bit of the autoclear features.
        poke(&dir.join(top), 88, &[0x80]);
    }
}

/// What QEMU reads of an image and what is behind it.
fn expected(dir: &Dir, image: &str) -> Vec<u8> {
    qemu::img(dir, &format!("convert -f qcow2 -O raw {image} expected.raw"));
    fs::read(dir.join("expected.raw")).unwrap()
}

/// Holds a restore, a repacked image and a comparison to what QEMU reads.
#[track_caller]
fn reads_as_qemu_does(dir: &Dir, image: &str) {
    expected(dir, image);
    dir.run(&format!("restore -q --verify --follow {image} copy.raw"))
        .exits(0)
        .in_silence();
    same(&dir.join("copy.raw"), &dir.join("expected.raw"));
    dir.run(&format!("-q {AGAIN} {image} new.qcow2"))
        .exits(0)
        .in_silence();
    dir.run("verify -q new.qcow2").exits(0);
    dir.run("compare -q new.qcow2 expected.raw").exits(0);
}

/// Holds every way to read all of `top.qcow2` to refusing it because of an image behind it, in these words.
#[track_caller]
fn refused(dir: &Dir, says: &str) {
    fs::write(dir.join("copy.raw"), "the old disk").unwrap();
    for command in [
        "restore --follow top.qcow2 copy.raw",
        "restore -q --follow top.qcow2 -",
        &format!("{AGAIN} top.qcow2 new.qcow2"),
        &format!("{AGAIN} -c zstd --cluster-size 4K top.qcow2 new.qcow2"),
    ] {
        dir.run(command).exits(1).says(says);
    }
    assert_eq!(fs::read(dir.join("copy.raw")).unwrap(), b"the old disk");
    assert!(!dir.join("new.qcow2").exists());
}

/// Restores it even so, and holds what is told of it to these ranges. Returns the disk.
#[track_caller]
fn kept_going(dir: &Dir, bad: &[(u64, u64)]) -> Vec<u8> {
    let run = dir
        .run("restore --json --keep-going --verify --follow top.qcow2 copy.raw")
        .exits(3);
    let told: Vec<_> = bad
        .iter()
        .map(|(start, end)| json!({"start": start, "length": end - start, "why": "checksum", "region": null}))
        .collect();
    assert_eq!(run.json()["damaged"], json!(told));
    fs::read(dir.join("copy.raw")).unwrap()
}

/// Images it even so, and holds the image to the disk that QEMU reads, but for zeros in these ranges.
#[track_caller]
fn imaged_but(dir: &Dir, image: &str, lost: &[(u64, u64)]) {
    let mut disk = expected(dir, image);
    let told: Vec<_> = lost
        .iter()
        .map(|(start, end)| json!({"start": start, "length": end - start}))
        .collect();
    for (start, end) in lost {
        disk[*start as usize..*end as usize].fill(0);
    }
    fs::write(dir.join("expected.raw"), disk).unwrap();
    let run = dir.run(&format!(
        "{AGAIN} --json --on-read-error=zero {image} zeros.qcow2"
    ));
    assert_eq!(run.exits(3).json()["unreadable"], json!(told));
    dir.run("compare zeros.qcow2 expected.raw").exits(0);
}

#[test]
fn damage_behind_an_image_is_told_with_the_file_it_is_in() {
    for options in ["", "--compat 0.10"] {
        let dir = base("damaged", 4 * MIB, options);
        overlay(&dir, "", "4M", &["write -P 5 1M 200k", "write -z 3M 64k"]);
        reads_as_qemu_does(&dir, "top.qcow2");
        damage(&dir.join("base.qcow2"), 10);
        fs::remove_file(dir.join("new.qcow2")).unwrap();

        refused(
            &dir,
            "mkqcow2: base.qcow2: 64.00 KiB damaged at 0xa0000 of the disk: CRC-32 is 0x",
        );
        dir.run("restore --follow top.qcow2 copy.raw")
            .exits(1)
            .says(" (guest 0xa0000 to 0xb0000) (--keep-going restores what can be read)\n");
        assert!(kept_going(&dir, &[(0xa_0000, 0xb_0000)]) == expected(&dir, "top.qcow2"));
        imaged_but(&dir, "top.qcow2", &[(0xa_0000, 0xb_0000)]);
        // Neither compares anything.
        dir.run("compare --follow top.qcow2 expected.raw").exits(1);
        dir.run("map --follow top.qcow2").exits(0);
    }
}

#[test]
fn damage_that_an_image_hides_does_not_matter() {
    let dir = base("hidden", 4 * MIB, "");
    overlay(&dir, "", "4M", &["write -P 5 640k 64k", "write -z 704k 64k"]);
    let base = dir.join("base.qcow2");
    damage(&base, 10);
    damage(&base, 11);
    // Lost as well.
    qemu::io(&dir, "qcow2", "top.qcow2", &["write -P 6 1M 64k"]);
    poke(&base, l2_entry(&base, 16).0, &[0; 8]);
    reads_as_qemu_does(&dir, "top.qcow2");
}

#[test]
fn part_of_a_cluster_is_not_believed_if_the_rest_is_not_what_it_was() {
    // What is shown of the cluster is right.
    for (options, hidden) in [
        ("-o cluster_size=4k", "write -P 5 640k 4k"),
        ("-o cluster_size=512", "write -P 5 640k 1k"),
    ] {
        let dir = base("part", 4 * MIB, "");
        overlay(&dir, options, "4M", &[hidden]);
        reads_as_qemu_does(&dir, "top.qcow2");
        fs::remove_file(dir.join("new.qcow2")).unwrap();
        damage(&dir.join("base.qcow2"), 10);
        refused(
            &dir,
            "mkqcow2: base.qcow2: 64.00 KiB damaged at 0xa0000 of the disk: ",
        );

        let shown = 640 * KIB + if hidden.ends_with("4k") { 4096 } else { 1024 };
        assert!(kept_going(&dir, &[(shown, 704 * KIB)]) == expected(&dir, "top.qcow2"));
        // What the overlay has is not lost.
        imaged_but(&dir, "top.qcow2", &[(shown, 704 * KIB)]);
    }
}

#[test]
fn a_cluster_in_large_clusters_of_an_overlay_is_told_alone() {
    let dir = base("large", 4 * MIB, "--cluster-size 4K -c zstd");
    overlay(&dir, "-o cluster_size=2M", "8M", &["write -P 5 2M 4k"]);
    reads_as_qemu_does(&dir, "top.qcow2");
    fs::remove_file(dir.join("new.qcow2")).unwrap();
    damage(&dir.join("base.qcow2"), 100);
    refused(
        &dir,
        "mkqcow2: base.qcow2: 4.00 KiB damaged at 0x64000 of the disk: ",
    );
    assert!(kept_going(&dir, &[(0x6_4000, 0x6_5000)]) == expected(&dir, "top.qcow2"));
    // What is not wanted does not matter, wherever the large clusters are.
    let line = "restore -q --no-sync --follow --offset 1M --length 1M top.qcow2 part.raw";
    dir.run(line).exits(0);
    let part = fs::read(dir.join("part.raw")).unwrap();
    assert!(part == fs::read(dir.join("base.raw")).unwrap()[1 << 20..2 << 20]);
}

#[test]
fn an_image_that_is_smaller_or_larger_than_what_stands_on_it_is_held_to_its_own_end() {
    for (size, top, cluster) in [
        (MIB + 1536, "4M", "64K"),
        (MIB + 1536, "4M", "2M"),
        (4 * MIB, "1100800", "64K"),
        (4 * MIB, "1100800", "2M"),
        (4 * MIB, "1100800", "512"),
    ] {
        let dir = base("end", size, &format!("--cluster-size {cluster}"));
        overlay(&dir, "-o cluster_size=32k", top, &["write -P 5 100k 50k"]);
        reads_as_qemu_does(&dir, "top.qcow2");
        fs::remove_file(dir.join("new.qcow2")).unwrap();

        // The last cluster, of which a part is shown.
        let image = Image::open(&dir.join("base.qcow2")).unwrap();
        let cluster_size = image.header().geometry().cluster_size();
        let end = size.min(top.parse().unwrap_or(u64::MAX));
        let last = (end - 1) / cluster_size * cluster_size;
        let run = image.run_at(image.active(), GuestOffset(last), 1).unwrap();
        let Mapping::Data(host) = run.mapping else {
            panic!("{run:?}");
        };
        flip(&dir.join("base.qcow2"), host.0 + 100, 1);
        let guest = format!("(guest {last:#x} to ");
        refused(&dir, &guest);
    }
}

#[test]
fn what_a_table_behind_an_image_has_lost_is_missed() {
    let dir = base("lost", 4 * MIB, "");
    let image = dir.join("base.qcow2");
    overlay(
        &dir,
        "-o cluster_size=16k",
        "4M",
        &["write -P 5 672k 16k", "write -P 6 1M 64k"],
    );
    for cluster in [10, 16, 63] {
        poke(&image, l2_entry(&image, cluster).0, &[0; 8]);
    }
    refused(&dir, "mkqcow2: base.qcow2: ");
    dir.run("restore --follow top.qcow2 copy.raw")
        .exits(1)
        .says("(guest 0xa0000 to 0xb0000)");
    let bad = [(0xa_0000, 0xa_8000), (0xa_c000, 0xb_0000), (0x3f_0000, 0x40_0000)];
    assert!(kept_going(&dir, &bad) == expected(&dir, "top.qcow2"));
    imaged_but(&dir, "top.qcow2", &bad);
}

#[test]
fn what_several_images_have_lost_in_the_middle_of_nowhere_is_missed() {
    let dir = Dir::new("chains-nowhere");
    // One cluster alone in each mebibyte that has any.
    for (name, places) in [("base", [3, 9]), ("mid", [6, 12])] {
        let cluster = noise(places[0], CLUSTER as usize);
        dir.sparse(
            &format!("{name}.raw"),
            16 * MIB,
            &places.map(|at| (at * MIB + CLUSTER, &cluster[..])),
        );
        ours(&dir, name, "");
    }
    put_on(&dir, "mid.qcow2", "base.qcow2");
    qemu::img(&dir, "create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2");
    reads_as_qemu_does(&dir, "top.qcow2");
    let mut bad = Vec::new();
    for (name, place) in [("base.qcow2", 3), ("mid.qcow2", 6), ("base.qcow2", 9)] {
        let (image, start) = (dir.join(name), place * MIB + CLUSTER);
        poke(&image, l2_entry(&image, start / CLUSTER).0, &[0; 8]);
        bad.push((start, start + CLUSTER));
    }
    assert!(kept_going(&dir, &bad) == expected(&dir, "top.qcow2"));
    imaged_but(&dir, "top.qcow2", &bad);
}

#[test]
fn what_shows_through_where_an_image_has_lost_something_is_not_taken_for_it() {
    for (options, stands_on) in [
        ("", "base.qcow2"),
        ("--compat 0.10 -c zlib", "base.qcow2"),
        ("", "base.raw"),
    ] {
        let dir = base("through", 4 * MIB, "");
        dir.sparse(
            "top.raw",
            4 * MIB,
            &[(MIB, &noise(2, 300 << 10)), (3 * MIB, &[7; 10])],
        );
        ours(&dir, "top", options);
        match stands_on {
            "base.raw" => {
                qemu::img(&dir, "rebase -u -F raw -b base.raw top.qcow2");
                poke(&dir.join("top.qcow2"), 88, &[0x80]);
            }
            base => put_on(&dir, "top.qcow2", base),
        }
        reads_as_qemu_does(&dir, "top.qcow2");
        fs::remove_file(dir.join("new.qcow2")).unwrap();
        let top = dir.join("top.qcow2");
        poke(&top, l2_entry(&top, 17).0, &[0; 8]);

        refused(
            &dir,
            "mkqcow2: top.qcow2: 64.00 KiB damaged at 0x110000 of the disk: ",
        );
        assert!(kept_going(&dir, &[(0x11_0000, 0x12_0000)]) == expected(&dir, "top.qcow2"));
        imaged_but(&dir, "top.qcow2", &[(0x11_0000, 0x12_0000)]);
    }
}

#[test]
fn whether_all_of_a_disk_was_compared_is_told() {
    let dir = base("told", 4 * MIB, "");
    dir.sparse("top.raw", 4 * MIB, &[(MIB, &noise(2, 300 << 10))]);
    ours(&dir, "top", "");
    put_on(&dir, "top.qcow2", "base.qcow2");
    let checked = |image: &str| {
        let run = dir.run(&format!("restore --json --no-sync --follow {image} copy.raw"));
        run.exits(0).json()["checked"].clone()
    };
    assert_eq!(checked("top.qcow2"), true);
    // Nobody knows what the overlay of QEMU should be.
    qemu::img(&dir, "create -q -f qcow2 -F qcow2 -b top.qcow2 third.qcow2");
    assert_eq!(checked("third.qcow2"), false);
    qemu::img(&dir, "rebase -u -F raw -b base.raw top.qcow2");
    poke(&dir.join("top.qcow2"), 88, &[0x80]);
    assert_eq!(checked("top.qcow2"), false);
}

#[test]
fn a_base_that_another_program_changed_is_read_as_it_is() {
    let dir = base("changed", 4 * MIB, "");
    qemu::io(
        &dir,
        "qcow2",
        "base.qcow2",
        &["write -P 7 1M 100k", "discard 2M 1M"],
    );
    overlay(&dir, "", "4M", &["write -P 5 100k 50k"]);
    reads_as_qemu_does(&dir, "top.qcow2");
}

#[test]
fn a_checksum_table_of_a_base_that_is_damaged_is_told_with_its_file() {
    let dir = base("table", 4 * MIB, "");
    dir.sparse("top.raw", 4 * MIB, &[(MIB, &noise(2, 300 << 10))]);
    ours(&dir, "top", "");
    put_on(&dir, "top.qcow2", "base.qcow2");
    let ours = Image::open(&dir.join("base.qcow2")).unwrap().extensions().ours;
    flip(&dir.join("base.qcow2"), ours.unwrap().checksums.offset.0 + 50, 1);
    refused(&dir, "mkqcow2: base.qcow2: checksum table at 0x");

    // What can be compared is compared.
    damage(&dir.join("base.qcow2"), 10);
    damage(&dir.join("top.qcow2"), 17);
    let words = "warning: checksums of its backing file base.qcow2 were not compared, because their table is damaged: \
                 checksum table at 0x";
    dir.run("restore --keep-going --no-sync --follow top.qcow2 copy.raw")
        .exits(3)
        .says(words);
    assert!(kept_going(&dir, &[(0x11_0000, 0x12_0000)]) == expected(&dir, "top.qcow2"));
    dir.run(&format!("{AGAIN} --on-read-error=zero top.qcow2 new.qcow2"))
        .exits(3)
        .says(words);
    imaged_but(&dir, "top.qcow2", &[(0x11_0000, 0x12_0000)]);
}

/// Where a cluster of an image may show through is what is not in one of the images on it.
#[test]
fn in_a_long_table_every_cluster_that_is_lost_is_missed_and_no_other() {
    let dir = Dir::new("chains-long");
    // Runs of three clusters and of many: the table is read in several pieces.
    let mut disk = noise(3, 16 << 20);
    for hole in (0..8 << 20).step_by(2048) {
        disk[hole..hole + 512].fill(0);
    }
    fs::write(dir.join("base.raw"), &disk).unwrap();
    ours(&dir, "base", "--cluster-size 512");
    overlay(&dir, "-o cluster_size=64k", "16M", &[]);
    reads_as_qemu_does(&dir, "top.qcow2");

    let image = Image::open(&dir.join("base.qcow2")).unwrap();
    let table = image.extensions().ours.unwrap().checksums;
    assert!(table.length > 2 * 65536, "{}", table.length);
    // A table of level 2 for 64 clusters.
    let l1 = image.header().l1().at.0;
    let lost = [3, 77, 200, 300, 511_u64];
    for table in lost {
        poke(&dir.join("base.qcow2"), l1 + table * 8, &[0; 8]);
    }
    let bad: Vec<_> = lost
        .iter()
        .flat_map(|table| table * 64..table * 64 + 64)
        .filter(|cluster| cluster * 512 >= 8 * MIB || cluster % 4 != 0)
        .fold(Vec::<(u64, u64)>::new(), |mut bad, cluster| {
            let (start, end) = (cluster * 512, cluster * 512 + 512);
            match bad.last_mut().filter(|last| last.1 == start) {
                Some(last) => last.1 = end,
                None => bad.push((start, end)),
            }
            bad
        });
    assert!(kept_going(&dir, &bad) == expected(&dir, "top.qcow2"));
    imaged_but(&dir, "top.qcow2", &bad);
}

#[test]
fn images_on_images_read_as_qemu_reads_them() {
    let sizes = ["512", "4K", "64K", "256K", "2M"];
    let mut dice = Dice::new(7);
    for round in 0..12 {
        let dir = Dir::new(&format!("chains-property-{round}"));
        let mut pick = |count: usize| dice.below(count as u64) as usize;
        let depth = 2 + pick(3);
        for level in 0..depth {
            let size = 2 * MIB + 512 * pick(4096) as u64;
            let pieces: Vec<_> = (0..=pick(6))
                .map(|_| {
                    let at = pick(size as usize) as u64;
                    let length = (pick(400 << 10) as u64).min(size - at);
                    (at, noise(at, length as usize))
                })
                .collect();
            let pieces: Vec<_> = pieces.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
            let name = format!("level{level}");
            dir.sparse(&format!("{name}.raw"), size, &pieces);
            let pack = ["", "-c zstd", "-c zlib --compat 0.10"][pick(3)];
            ours(&dir, &name, &format!("--cluster-size {} {pack}", sizes[pick(5)]));
            if level > 0 {
                put_on(
                    &dir,
                    &format!("{name}.qcow2"),
                    &format!("level{}.qcow2", level - 1),
                );
            }
        }
        let last = format!("level{}.qcow2", depth - 1);
        reads_as_qemu_does(&dir, &last);
        // Subclusters, of which each may be somewhere else.
        let create = "-o cluster_size=128k,extended_l2=on";
        qemu::image(
            &dir,
            &format!("-F qcow2 -b {last} {create} top.qcow2 3M"),
            &["write -P 5 100k 4k", "write -P 6 1M 12k", "write -z 1100k 4k"],
        );
        reads_as_qemu_does(&dir, "top.qcow2");
    }
}

#[test]
fn a_mount_returns_nothing_of_a_base_that_is_not_what_it_was_as_root() {
    let dir = base("mount", 4 * MIB, "");
    overlay(&dir, "", "4M", &["write -P 5 1M 64k"]);
    let image = dir.join("base.qcow2");
    damage(&image, 10);
    // Hidden.
    damage(&image, 16);
    poke(&image, l2_entry(&image, 30).0, &[0; 8]);
    let disk = expected(&dir, "top.qcow2");
    let served = Served::new(&dir, "--follow", "top.qcow2");

    let file = served.join("disk.raw");
    for cluster in 0..64 {
        let at = cluster * CLUSTER;
        let found = bytes(&file, at, CLUSTER as usize);
        if [10, 30].contains(&cluster) {
            assert_eq!(found.unwrap_err().raw_os_error(), Some(5), "{cluster}");
        } else {
            assert!(
                found.unwrap() == disk[at as usize..][..CLUSTER as usize],
                "{cluster}"
            );
        }
    }
}

#[test]
fn snapshots_stand_on_a_base_that_is_compared() {
    let dir = base("snapshot", 4 * MIB, "");
    overlay(&dir, "", "4M", &["write -P 5 1M 64k"]);
    qemu::img(&dir, "snapshot -c before top.qcow2");
    qemu::io(&dir, "qcow2", "top.qcow2", &["write -P 6 640k 64k"]);
    damage(&dir.join("base.qcow2"), 10);
    dir.run("restore -q --follow top.qcow2 copy.raw").exits(0);
    dir.run("restore --follow --snapshot before top.qcow2 copy.raw")
        .exits(1)
        .says("mkqcow2: base.qcow2: 64.00 KiB damaged at 0xa0000");
}
