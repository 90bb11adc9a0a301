//! What is not merged, and why.

use std::fs;

use super::{Chain, host_offset, l2_entry};
use crate::support::{Run, flip, poke, qemu};

const PLAIN: [&str; 4] = ["", "", "", ""];

fn refused(chain: &Chain, line: &str, says: &str) -> Run {
    let run = chain.dir.run(line).exits(1).says(says);
    chain.is_unchanged();
    run
}

#[test]
fn what_stands_on_nothing_or_not_on_the_base_is_refused() {
    let chain = Chain::new("merge-refused", PLAIN);
    for (line, says) in [
        (
            "merge a.qcow2",
            "mkqcow2: a.qcow2: stands on no other image: there is nothing to merge\n",
        ),
        (
            "merge --onto d.qcow2 d.qcow2",
            "mkqcow2: d.qcow2: is the image itself, expected one that it stands on\n",
        ),
        (
            "merge --onto c.qcow2 d.qcow2",
            "mkqcow2: c.qcow2: is what the image stands on already: there is nothing to merge between them\n",
        ),
        (
            "merge --onto d.qcow2 c.qcow2",
            "mkqcow2: d.qcow2: is none of the images that the image to be merged stands on\n",
        ),
        (
            "merge --onto none.qcow2 d.qcow2",
            "mkqcow2: none.qcow2: cannot open: No such file",
        ),
        (
            "merge none.qcow2",
            "mkqcow2: none.qcow2: cannot open: No such file",
        ),
        ("merge a.raw", "mkqcow2: a.raw: header at 0x0: magic is "),
    ] {
        refused(&chain, line, says);
    }
    chain
        .dir
        .run("merge -")
        .exits(64)
        .says("IMAGE cannot be standard input or output");
    // The error is for scripts, too.
    let json = refused(&chain, "merge --json a.qcow2", "nothing to merge").json();
    assert_eq!(json["code"], "refused");
}

#[test]
fn an_image_or_a_base_that_was_changed_is_refused() {
    let chain = Chain::new("merge-changed", PLAIN);
    let says = "was written to since it was made";
    for name in ["d.qcow2", "b.qcow2", "a.qcow2"] {
        let path = chain.dir.join(name);
        let before = fs::read(&path).unwrap();
        qemu::io(&chain.dir, "qcow2", name, &["write -P 7 0 64k"]);
        let changed = fs::read(&path).unwrap();

        chain
            .dir
            .run("merge d.qcow2")
            .exits(1)
            .says(&format!("mkqcow2: {name}: {says}"));

        assert!(fs::read(&path).unwrap() == changed, "{name}");
        fs::write(&path, before).unwrap();
        chain.is_unchanged();
    }
}

#[test]
fn another_image_in_the_place_of_a_base_is_refused() {
    let chain = Chain::new("merge-another", PLAIN);
    chain.dir.run("-q --no-sync c.raw b.qcow2").exits(0);

    chain
        .dir
        .run("merge d.qcow2")
        .exits(1)
        .says("mkqcow2: b.qcow2: is another image: its UUID is ");

    assert!(fs::read(chain.dir.join("d.qcow2")).unwrap() == chain.image);
    fs::remove_file(chain.dir.join("b.qcow2")).unwrap();
    chain
        .dir
        .run("merge d.qcow2")
        .exits(1)
        .says("b.qcow2: no such file");
    assert!(fs::read(chain.dir.join("d.qcow2")).unwrap() == chain.image);
}

/// Damages the cluster of a base that holds this byte of the disk, and expects a refusal; then undoes that.
fn damage_is_found(chain: &mut Chain, base: &str, cluster: u64, line: &str) {
    let path = chain.dir.join(format!("{base}.qcow2"));
    let before = chain.before[base].clone();
    flip(&path, host_offset(&path, cluster) + 33, 0x10);
    chain.before.insert(base.to_owned(), fs::read(&path).unwrap());

    let run = refused(chain, line, &format!("mkqcow2: {base}.qcow2: "));

    assert!(
        run.stderr().contains("CRC-32 is ") || run.stderr().contains("compressed cluster at "),
        "{}",
        run.stderr()
    );
    fs::write(&path, &before).unwrap();
    chain.before.insert(base.to_owned(), before);
}

#[test]
fn a_damaged_cluster_of_a_base_is_found_and_the_image_is_as_before() {
    for (name, options, in_b, in_a) in [
        ("plain", PLAIN, 9 << 4, 33),
        ("zstd", ["-c zstd"; 4], 9 << 4, 1),
        ("zlib", ["-c zlib"; 4], 9 << 4, 1),
        ("no-digests", ["--no-digests"; 4], 49, 1),
        (
            "sizes",
            [
                "--cluster-size 4K",
                "",
                "--cluster-size 2M --no-digests",
                "--no-digests",
            ],
            49,
            640,
        ),
    ] {
        let mut chain = Chain::new(&format!("merge-damaged-{name}"), options);
        // The disk does not reach that far any more, so that nothing is lost by it.
        let is_cut = in_b == 9 << 4;
        damage_is_found(&mut chain, "a", in_a, "merge d.qcow2");
        damage_is_found(
            &mut chain,
            "b",
            if is_cut { 49 } else { in_b },
            "merge --onto a.qcow2 d.qcow2",
        );
        if is_cut {
            let path = chain.dir.join("b.qcow2");
            flip(&path, host_offset(&path, in_b) + 33, 0x10);
            chain.before.insert("b".to_owned(), fs::read(&path).unwrap());
            chain.dir.run("merge -q --no-sync d.qcow2").exits(0);
            chain.is_right();
        }
    }
}

#[test]
fn a_base_whose_tables_lost_a_cluster_is_refused() {
    for (name, options) in [("digests", PLAIN), ("no-digests", ["--no-digests"; 4])] {
        for (base, cluster, line) in [
            ("b", 49, "merge d.qcow2"),
            ("b", 49, "merge --onto a.qcow2 d.qcow2"),
            ("a", 16 * 3 + 8, "merge d.qcow2"),
        ] {
            let mut chain = Chain::new(&format!("merge-lost-{name}-{base}"), options);
            let path = chain.dir.join(format!("{base}.qcow2"));
            poke(&path, l2_entry(&path, cluster), &[0; 8]);
            chain.before.insert(base.to_owned(), fs::read(&path).unwrap());

            refused(
                &chain,
                line,
                &format!(
                    "mkqcow2: {base}.qcow2: the tables have lost a cluster that the checksum table lists"
                ),
            );
        }
    }
}

#[test]
fn a_cluster_that_the_base_lost_is_missed_in_the_whole_disk() {
    let mut chain = Chain::new("merge-lost-below", PLAIN);
    let path = chain.dir.join("a.qcow2");
    poke(&path, l2_entry(&path, 16 * 3 + 8), &[0; 8]);
    chain.before.insert("a".to_owned(), fs::read(&path).unwrap());

    refused(
        &chain,
        "merge --onto a.qcow2 d.qcow2",
        "mkqcow2: d.qcow2: the disk has another BLAKE3 digest than the one recorded",
    );
}

#[test]
fn an_entry_that_points_to_another_cluster_is_found() {
    let mut chain = Chain::new("merge-swapped", ["--no-digests"; 4]);
    let path = chain.dir.join("a.qcow2");
    let bytes = fs::read(&path).unwrap();
    let [first, second] = [1, 2].map(|cluster| l2_entry(&path, cluster));
    poke(&path, first, &bytes[second as usize..second as usize + 8]);
    chain.before.insert("a".to_owned(), fs::read(&path).unwrap());

    refused(&chain, "merge d.qcow2", "mkqcow2: a.qcow2: CRC-32 is ");
}
