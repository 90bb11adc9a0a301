//! `check`, held against `qemu-img check`, which knows QED but not QCOW version 1.

use std::time::{Duration, Instant};

use serde_json::json;

use super::images::{CLUSTER, Plain, QCOW_REACH};
use crate::support::Dir;

/// What is damaged, how, the exit status, and all that is printed in front of the figures; `{L2}` is the first table,
/// `{end}` the length of the file.
type Row = (&'static str, fn(&Plain<'_>), i32, &'static [&'static str]);

#[rustfmt::skip]
const QED: &[Row] = &[
    ("nothing", |_| (), 0, &[
        "disk.qed: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)",
    ]),
    ("not closed", |p| p.needs_check(), 0, &[
        "disk.qed: remark: feature bit 1 is set [dirty]",
        "dirty: 1: the image was not closed properly, or is in use",
        "disk.qed: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)",
    ]),
    ("a cluster lost", |p| p.put(p.l2(0, 0), 0), 3, &[
        "disk.qed: leak: cluster at 0x3000: nothing uses it [unused]",
        "unused: 1: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 0, leaked clusters: 1",
    ]),
    ("a table lost", |p| p.put(p.l1(1), 0), 3, &[
        "disk.qed: leak: 3 clusters at 0x8000 to 0xb000: nothing uses them [unused]",
        "unused: 3: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 0, leaked clusters: 3",
    ]),
    ("room behind the last cluster, and a part of a cluster",
        |p| p.resize(p.length() + 2 * CLUSTER + 5), 3, &[
        "disk.qed: leak: 2 clusters at 0xb000 to 0xd000: nothing uses them [unused]",
        "unused: 2: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 0, leaked clusters: 2",
    ]),
    ("a cluster used twice", |p| p.put(p.l2(0, 1), p.get(p.l2(0, 0))), 2, &[
        "disk.qed: error: data cluster at 0x3000 (guest 0x1000 to 0x2000) overlaps the data cluster at 0x3000 \
         (guest 0x0 to 0x1000) [data-overlap]",
        "disk.qed: leak: cluster at 0x4000: nothing uses it [unused]",
        "data-overlap: 1: data that overlaps other data: a write to one destroys the other",
        "unused: 1: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 1",
    ]),
    ("a cluster in a table", |p| p.put(p.l2(1, 9), p.get(p.l1(0)) + CLUSTER), 2, &[
        "disk.qed: error: data cluster at 0x7000 (guest 0x409000 to 0x40a000) overlaps the L2 table at 0x6000 \
         (guest 0x0 to 0x400000) [l2-overlap]",
        "l2-overlap: 1: data that overlaps a table",
        "disk.qed: errors: 1, leaked clusters: 0",
    ]),
    ("a cluster in the header", |p| p.put(p.l2(0, 7), 0x1000), 2, &[
        "disk.qed: error: L2 table at 0x6000: entry 7 is 0x1000, expected an offset outside the L1 table \
         (guest 0x7000 to 0x8000) [l2-overlap]",
        "l2-overlap: 1: data that overlaps a table",
        "disk.qed: errors: 1, leaked clusters: 0",
    ]),
    ("a cluster that is not aligned", |p| p.put(p.l2(0, 1), 0x4001), 2, &[
        "disk.qed: error: L2 table at 0x6000: entry 1 is 0x4001, expected a multiple of 0x1000 \
         (guest 0x1000 to 0x2000) [l2-entry]",
        "disk.qed: leak: cluster at 0x4000: nothing uses it [unused]",
        "l2-entry: 1: an invalid L2 entry: reserved bits are set, or the offset is not a multiple of the cluster size",
        "unused: 1: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 1",
    ]),
    ("a cluster behind the end", |p| p.put(p.l2(0, 1), 0xb000), 2, &[
        "disk.qed: error: L2 table at 0x6000: entry 1 is 0xb000, expected an offset within the file, \
         which has 0xb000 bytes (guest 0x1000 to 0x2000) [l2-outside]",
        "disk.qed: leak: cluster at 0x4000: nothing uses it [unused]",
        "l2-outside: 1: data that lies at least partly past the end of the file",
        "unused: 1: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 1",
    ]),
    ("an entry behind the disk", |p| p.put(p.l1(2), 0x6001), 2, &[
        "disk.qed: error: L1 table at 0x1000: entry 2 is 0x6001, expected a multiple of 0x1000 [l1-entry]",
        "l1-entry: 1: an invalid L1 entry: reserved bits are set, or the offset is not a multiple of the cluster size",
        "disk.qed: errors: 1, leaked clusters: 0",
    ]),
    ("a table that is not aligned", |p| p.put(p.l1(1), 0x9001), 2, &[
        "disk.qed: error: L1 table at 0x1000: entry 1 is 0x9001, expected a multiple of 0x1000 \
         (guest 0x400000 to 0x800000) [l1-entry]",
        "disk.qed: leak: 3 clusters at 0x8000 to 0xb000: nothing uses them [unused]",
        "l1-entry: 1: an invalid L1 entry: reserved bits are set, or the offset is not a multiple of the cluster size",
        "unused: 3: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 3",
    ]),
    ("a table cut off", |p| p.put(p.l1(1), 0xa000), 2, &[
        "disk.qed: error: L2 table at 0xa000 is cut off by the end of the file, 0xb000 \
         (guest 0x400000 to 0x800000) [l1-outside]",
        "disk.qed: leak: 3 clusters at 0x8000 to 0xb000: nothing uses them [unused]",
        "l1-outside: 1: an L2 table that lies at least partly past the end of the file",
        "unused: 3: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 3",
    ]),
    ("a table in the header", |p| p.put(p.l1(1), 0x2000), 2, &[
        "disk.qed: error: L1 table at 0x1000: entry 1 is 0x2000, expected an offset outside the L1 table \
         (guest 0x400000 to 0x800000) [l1-overlap]",
        "disk.qed: leak: 3 clusters at 0x8000 to 0xb000: nothing uses them [unused]",
        "l1-overlap: 1: an L2 table that overlaps another table",
        "unused: 3: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 3",
    ]),
    ("a table used twice", |p| p.put(p.l1(1), p.get(p.l1(0))), 2, &[
        "disk.qed: error: L2 table at 0x6000 (guest 0x400000 to 0x800000) overlaps the L2 table at 0x6000 \
         (guest 0x0 to 0x400000) [l1-overlap]",
        "disk.qed: leak: 3 clusters at 0x8000 to 0xb000: nothing uses them [unused]",
        "l1-overlap: 1: an L2 table that overlaps another table",
        "unused: 3: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 3",
    ]),
    ("a table in the middle of another", |p| p.put(p.l1(1), p.get(p.l1(0)) + CLUSTER), 2, &[
        "disk.qed: error: L2 table at 0x7000 (guest 0x400000 to 0x800000) overlaps the L2 table at 0x6000 \
         (guest 0x0 to 0x400000) [l1-overlap]",
        "disk.qed: leak: 2 clusters at 0x9000 to 0xb000: nothing uses them [unused]",
        "l1-overlap: 1: an L2 table that overlaps another table",
        "unused: 2: clusters of a QED image that nothing uses: space is wasted",
        "disk.qed: errors: 1, leaked clusters: 2",
    ]),
];

/// An entry of a compressed cluster with clusters of 4 KiB.
const fn stream(at: u64, length: u64) -> u64 {
    1 << 63 | length << 51 | at
}

#[rustfmt::skip]
const QCOW: &[Row] = &[
    ("nothing", |_| (), 0, &[
        "disk.qcow: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)",
    ]),
    ("a cluster lost", |p| p.put(p.l2(0, 0), 0), 0, &[
        "disk.qcow: no errors, no leaks in the tables; data was not read (see mkqcow2 verify)",
    ]),
    ("a cluster used twice", |p| p.put(p.l2(0, 1), p.get(p.l2(0, 0))), 2, &[
        "disk.qcow: error: data cluster at 0x2000 (guest 0x1000 to 0x2000) overlaps the data cluster at 0x2000 \
         (guest 0x0 to 0x1000) [data-overlap]",
        "data-overlap: 1: data that overlaps other data: a write to one destroys the other",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a cluster that begins in another", |p| p.put(p.l2(0, 1), p.get(p.l2(0, 0)) + 512), 2, &[
        "disk.qcow: error: data cluster at 0x2200 (guest 0x1000 to 0x2000) overlaps the data cluster at 0x2000 \
         (guest 0x0 to 0x1000) [data-overlap]",
        "data-overlap: 1: data that overlaps other data: a write to one destroys the other",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a cluster that ends in a table", |p| p.put(p.l2(0, 1), p.get(p.l1(2)) - 512), 2, &[
        "disk.qcow: error: data cluster at 0x4e00 (guest 0x1000 to 0x2000) overlaps the data cluster at 0x4000 \
         (guest 0x2000 to 0x3000) [data-overlap]",
        "disk.qcow: error: data cluster at 0x4e00 (guest 0x1000 to 0x2000) overlaps the L2 table at 0x5000 \
         (guest 0x400000 to 0x600000) [l2-overlap]",
        "l2-overlap: 1: data that overlaps a table",
        "data-overlap: 1: data that overlaps other data: a write to one destroys the other",
        "disk.qcow: errors: 2, leaked clusters: 0",
    ]),
    ("a stream that begins in another", |p| p.put(p.l2(0, 17), p.get(p.l2(0, 16)) + 1), 2, &[
        "disk.qcow: error: compressed cluster at 0x7001 (guest 0x11000 to 0x12000) overlaps the compressed cluster \
         at 0x7000 (guest 0x10000 to 0x11000) [data-overlap]",
        "data-overlap: 1: data that overlaps other data: a write to one destroys the other",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a stream in a table", |p| p.put(p.l2(0, 17), stream(p.get(p.l1(0)) + 80, 20)), 2, &[
        "disk.qcow: error: compressed cluster at 0x1050 (guest 0x11000 to 0x12000) overlaps the L2 table at 0x1000 \
         (guest 0x0 to 0x200000) [l2-overlap]",
        "l2-overlap: 1: data that overlaps a table",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a stream of no bytes", |p| p.put(p.l2(0, 17), stream(0x7000, 0)), 2, &[
        "disk.qcow: error: L2 table at 0x1000: entry 17 is 0x8000000000007000, \
         expected the length of a compressed cluster in its upper bits (guest 0x11000 to 0x12000) [l2-entry]",
        "l2-entry: 1: an invalid L2 entry: reserved bits are set, or the offset is not a multiple of the cluster size",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a stream that goes on behind the end", |p| p.put(p.l2(0, 17), stream(0x7200, 4095)), 2, &[
        "disk.qcow: error: compressed cluster at 0x7200 is cut off by the end of the file, {end} \
         (guest 0x11000 to 0x12000) [l2-outside]",
        "l2-outside: 1: data that lies at least partly past the end of the file",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a cluster in the header", |p| p.put(p.l2(0, 1), 40), 2, &[
        "disk.qcow: error: L2 table at 0x1000: entry 1 is 0x28, expected a multiple of 0x200 \
         (guest 0x1000 to 0x2000) [l2-entry]",
        "l2-entry: 1: an invalid L2 entry: reserved bits are set, or the offset is not a multiple of the cluster size",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a table behind the end", |p| p.put(p.l1(1), 1 << 62), 2, &[
        "disk.qcow: error: L1 table at 0x30: entry 1 is 0x4000000000000000, expected an offset within the file, \
         which has {end} bytes (guest 0x200000 to 0x400000) [l1-outside]",
        "l1-outside: 1: an L2 table that lies at least partly past the end of the file",
        "disk.qcow: errors: 1, leaked clusters: 0",
    ]),
    ("a table in another", |p| p.put(p.l1(1), p.get(p.l1(0)) + 1), 2, &[
        "disk.qcow: error: L2 table at 0x1001 (guest 0x200000 to 0x400000) overlaps the L2 table at 0x1000 \
         (guest 0x0 to 0x200000) [l1-overlap]",
        "disk.qcow: error: data cluster at 0x2000 (guest 0x0 to 0x1000) overlaps the L2 table at 0x1001 \
         (guest 0x200000 to 0x400000) [l2-overlap]",
        "l1-overlap: 1: an L2 table that overlaps another table",
        "l2-overlap: 1: data that overlaps a table",
        "disk.qcow: errors: 2, leaked clusters: 0",
    ]),
];

#[test]
fn all_that_can_be_wrong_with_qed_is_told_to_the_word_and_qemu_agrees() {
    for (what, damage, status, expected) in QED {
        let dir = Dir::new("plain-check-qed");
        let image = Plain::qed(&dir);
        damage(&image);

        let text = dir.run("check disk.qed").exits(*status).stdout();
        let json = dir.run("check --json disk.qed").exits(*status).json();
        let theirs = image.qemu_check();

        told(what, &text, &image, expected);
        assert_eq!(json["format"], "qed");
        // What it leaves out is 0.
        let errors = |json: &serde_json::Value| json["corruptions"].as_u64().unwrap_or(0) > 0;
        assert_eq!(errors(&json), errors(&theirs), "{what}: {theirs}");
        assert_eq!(
            json["leaks"],
            theirs["leaks"].as_u64().unwrap_or(0),
            "{what}: {theirs}"
        );
        for field in ["total-clusters", "allocated-clusters", "fragmented-clusters"] {
            if *status != 2 {
                assert_eq!(
                    json[field],
                    theirs[field].as_u64().unwrap_or(0),
                    "{what}: {field}"
                );
            }
        }
    }
}

#[test]
fn all_that_can_be_wrong_with_qcow_is_told_to_the_word() {
    for (what, damage, status, expected) in QCOW {
        let dir = Dir::new("plain-check-qcow");
        let image = Plain::qcow(&dir);
        damage(&image);

        let text = dir.run("check disk.qcow").exits(*status).stdout();

        told(what, &text, &image, expected);
    }
}

/// All but the line of figures.
#[track_caller]
fn told(what: &str, text: &str, image: &Plain<'_>, expected: &[&str]) {
    let lines: Vec<_> = text.lines().collect();
    let (_, lines) = lines.split_last().unwrap();
    let end = format!("{:#x}", image.length());
    let expected: Vec<_> = expected.iter().map(|line| line.replace("{end}", &end)).collect();
    assert_eq!(lines, expected, "{what}");
}

#[test]
fn the_figures_are_those_of_the_tables() {
    let dir = Dir::new("plain-figures");
    let image = Plain::qcow(&dir);
    let length = image.length();

    let run = dir.run("check --data disk.qcow").exits(0);
    assert_eq!(
        run.stdout(),
        format!(
            "disk.qcow: no errors, no leaks\n6 of 2048 clusters = 0.29% allocated, 33.33% fragmented, \
             33.33% compressed, 2 decompressed; {length} bytes\n"
        )
    );
    let mut json = dir.run("check --json --data disk.qcow").exits(0).json();
    json.as_object_mut().unwrap().remove("seconds");
    let expected = json!({
        "status": 0, "filename": "disk.qcow", "format": "qcow",
        "check-errors": 0, "corruptions": 0, "leaks": 0,
        "image-end-offset": length, "total-clusters": 2048, "allocated-clusters": 6, "fragmented-clusters": 2,
        "compressed-clusters": 2, "decompressed-clusters": 2, "codes": {}, "findings": [],
        "bases": [], "base-error": null,
    });
    assert_eq!(json, expected);
}

#[test]
fn streams_are_tried_if_that_is_asked_for() {
    let dir = Dir::new("plain-streams");
    let image = Plain::qcow(&dir);
    let at = image.get(image.l2(0, 16)) & ((1 << 51) - 1);
    image.write(at, &[0xff; 8]);

    dir.run("check -q disk.qcow").exits(0).in_silence();
    let run = dir.run("check -q --data -j 3 disk.qcow").exits(2);

    let expected = format!(
        "disk.qcow: error: compressed cluster at {at:#x}: the stream is damaged (guest 0x10000 to 0x11000) [stream]\n"
    );
    assert_eq!(run.stdout(), expected);
}

#[test]
fn what_only_qcow2_has_cannot_be_asked_for() {
    let dir = Dir::new("plain-asked");
    Plain::qed(&dir);
    dir.run("check --data-file other disk.qed")
        .exits(1)
        .says("disk.qed: has no external data file, but one was given");
}

#[test]
fn tables_are_read_once_however_often_they_are_named_and_holes_not_at_all() {
    let dir = Dir::new("plain-hostile");
    // As many names of one table as can be kept in mind, and more.
    for entries in [1_u64 << 17, 1 << 20] {
        let image = Plain::make(&dir, "disk.qcow", "qcow", &[]);
        image.put(24, QCOW_REACH * entries);
        let table = (48 + 8 * entries).next_multiple_of(CLUSTER);
        for index in 0..entries {
            image.put(48 + 8 * index, table);
        }
        let data = table + CLUSTER;
        for number in 0..512 {
            image.put(table + 8 * number, data + number * CLUSTER);
        }
        image.resize(data + 512 * CLUSTER);
        let begun = Instant::now();

        let json = dir.run("check --json disk.qcow").exits(2).json();

        assert_eq!(json["codes"], json!({"l1-overlap": entries - 1}));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    // 1024 tables of 8 MiB each, all of them holes but the last entry of each.
    let image = Plain::make(&dir, "disk.qed", "qed", &["-o", "cluster_size=4M,table_size=2"]);
    let (cluster, length) = (4 << 20, 8 << 20);
    image.put(48, length / 8 * 1024 * cluster);
    for number in 0..1024 {
        let table = (4 + 2 * number) * cluster;
        image.put(image.l1(number), table);
        image.put(table + length - 8, 1);
    }
    let begun = Instant::now();

    let json = dir.run("check --json disk.qed").exits(3).json();

    // The file begins with room that these tables do not use.
    assert_eq!(json["codes"], json!({"unused": 1}));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
