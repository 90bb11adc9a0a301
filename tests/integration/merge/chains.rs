//! Chains of all kinds become one image, or a shorter chain, and the disk stays the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Chain, MIB, put, text};
use crate::support::{Dir, are_same, assert_equals, noise};

/// Options for each generation, and whether all compressed clusters can keep their streams.
const CHAINS: [(&str, [&str; 4], bool); 8] = [
    ("plain", ["", "", "", ""], true),
    ("zstd", ["-c zstd", "-c zstd", "-c zstd", "-c zstd"], true),
    (
        "version-2",
        [
            "-c zlib --compat 0.10",
            "--compat 0.10",
            "-c zlib:9 --compat 0.10",
            "-c zlib --compat 0.10",
        ],
        true,
    ),
    ("plain-on-zstd", ["-c zstd", "-c zstd", "", ""], true),
    ("methods", ["-c zlib", "-c zstd", "-c zlib", "-c zstd"], false),
    (
        "sizes",
        [
            "-c zstd --cluster-size 4K",
            "--cluster-size 2M",
            "-c zlib --cluster-size 16K",
            "-c zlib",
        ],
        false,
    ),
    (
        "small-on-large",
        [
            "-c zstd --cluster-size 2M",
            "",
            "--cluster-size 512",
            "--compat 0.10 --cluster-size 4K",
        ],
        false,
    ),
    (
        "no-digests",
        ["--no-digests", "-c zstd --no-digests", "", "-c zlib --no-digests"],
        false,
    ),
];

#[test]
fn a_chain_becomes_one_full_image_that_is_the_same_disk() {
    for (name, options, keeps_streams) in CHAINS {
        let chain = Chain::new(&format!("merge-{name}"), options);
        let identity = chain.identity();
        // Stands on it, and must stand on it afterwards.
        let mut next = fs::read(chain.dir.join("d.raw")).unwrap();
        put(&mut next, 6 * MIB, &noise(9, 100_000));
        fs::write(chain.dir.join("e.raw"), &next).unwrap();
        chain
            .dir
            .run("-q --no-sync -c zstd --base d.qcow2 e.raw e.qcow2")
            .exits(0);

        let report = chain.dir.run("merge --json --no-sync d.qcow2").exits(0).json();

        chain.is_right();
        assert_eq!(chain.identity(), identity, "{name}");
        assert!(chain.info("d.qcow2")["backing-file"].is_null(), "{name}");
        assert_eq!(report["images"].as_array().unwrap().len(), 4);
        if keeps_streams {
            // But for the one in which the disk ended for a while.
            let number = |field: &str| report[field].as_u64().unwrap();
            let anew = number("recompressed-clusters");
            assert!(anew <= 1, "{name}: {report}");
            assert_eq!(
                number("copied-streams") + anew,
                number("compressed-clusters"),
                "{name}"
            );
        }
        chain
            .dir
            .run("restore -q --no-sync e.qcow2 e-restored.raw")
            .exits(0);
        assert!(
            fs::read(chain.dir.join("e-restored.raw")).unwrap() == next,
            "{name}"
        );
        assert_equals(&chain.dir.join("e.raw"), &chain.dir.join("e.qcow2"));
        // It needs them no longer.
        for base in ["a", "b", "c"] {
            fs::remove_file(chain.dir.join(format!("{base}.qcow2"))).unwrap();
        }
        assert_equals(&chain.dir.join("d.raw"), &chain.dir.join("d.qcow2"));
        chain
            .dir
            .run("restore -q --no-sync e.qcow2 e-restored.raw")
            .exits(0);
    }
}

#[test]
fn a_chain_is_merged_down_to_an_image_that_it_then_stands_on() {
    for (name, options, _) in CHAINS {
        let chain = Chain::new(&format!("merge-onto-{name}"), options);
        let identity = chain.identity();
        for base in ["a", "b"] {
            chain.put_back();

            chain
                .dir
                .run(&format!("merge -q --no-sync --onto {base}.qcow2 d.qcow2"))
                .exits(0)
                .in_silence();

            chain.is_right();
            assert_eq!(chain.identity(), identity, "{name}");
            let info = chain.info("d.qcow2");
            assert_eq!(info["backing-file"]["name"], format!("{base}.qcow2"), "{name}");
            // Those between are not needed any more, the one that it stands on is.
            let hidden = chain.dir.join("hidden");
            fs::rename(chain.dir.join("c.qcow2"), &hidden).unwrap();
            assert_equals(&chain.dir.join("d.raw"), &chain.dir.join("d.qcow2"));
            fs::rename(hidden, chain.dir.join("c.qcow2")).unwrap();
        }
        // And then all the way.
        chain.dir.run("merge -q --no-sync d.qcow2").exits(0);
        chain.is_right();
        assert_eq!(chain.identity(), identity, "{name}");
    }
}

#[test]
fn what_a_base_has_behind_the_end_of_the_disk_does_not_come_along() {
    for options in [["", "", "", ""], ["-c zstd", "-c zstd", "-c zstd", "-c zstd"]] {
        let chain = Chain::new("merge-cut", options);
        let info = chain.info("c.qcow2");
        chain.dir.run("merge -q --no-sync c.qcow2").exits(0);

        assert_equals(&chain.dir.join("c.raw"), &chain.dir.join("c.qcow2"));
        chain.dir.run("verify -q c.qcow2").exits(0);
        assert_eq!(chain.info("c.qcow2")["digest"], info["digest"]);
        // The next one, which is larger, stands on it.
        chain
            .dir
            .run("restore -q --no-sync d.qcow2 restored.raw")
            .exits(0);
        assert!(are_same(
            &chain.dir.join("restored.raw"),
            &chain.dir.join("d.raw")
        ));
    }
}

#[test]
fn what_is_as_in_the_base_is_not_stored_in_an_image_merged_down_to_it() {
    let chain = Chain::new("merge-same", ["-c zstd", "", "", ""]);
    // As it was two generations ago, by way of another.
    let mut disk = fs::read(chain.dir.join("a.raw")).unwrap();
    disk.truncate((8 * MIB) as usize);
    fs::write(chain.dir.join("d.raw"), &disk).unwrap();
    chain
        .dir
        .run("-q --no-sync --base c.qcow2 d.raw d.qcow2")
        .exits(0);

    let report = chain
        .dir
        .run("merge --json --no-sync --onto a.qcow2 d.qcow2")
        .exits(0)
        .json();

    assert_eq!(report["data-clusters"], 0);
    assert_eq!(report["zero-clusters"], 0);
    chain.is_right();
}

#[test]
fn streams_are_copied_byte_for_byte() {
    for (method, options) in [("zlib", "-c zlib:9"), ("zstd", "-c zstd:19")] {
        let dir = Dir::new(&format!("merge-streams-{method}"));
        let mut disk = vec![0; 6 << 20];
        put(&mut disk, 0, &text(1, 2 << 20));
        fs::write(dir.join("a.raw"), &disk).unwrap();
        put(&mut disk, 3 * MIB, &text(2, 2 << 20));
        fs::write(dir.join("b.raw"), &disk).unwrap();
        let made = |line: &str| {
            dir.run(&format!("--json --no-sync {options} {line}"))
                .exits(0)
                .json()
        };
        let lengths = [made("a.raw a.qcow2"), made("--base a.qcow2 b.raw b.qcow2")]
            .map(|report| report["stream-bytes"].as_u64().unwrap());
        made("b.raw full.qcow2");

        let report = dir.run("merge --json --no-sync b.qcow2").exits(0).json();

        // Merged again and again, they would grow if what follows them came along.
        assert_eq!(report["stream-bytes"], lengths.iter().sum::<u64>(), "{method}");
        assert_eq!(report["recompressed-clusters"], 0, "{method}");
        let read = |name: &str| fs::read(dir.join(name)).unwrap();
        let (merged, full) = (read("b.qcow2"), read("full.qcow2"));
        assert_eq!(merged.len(), full.len(), "{method}");
        let streams = 3 << 16..(3 << 16) + lengths.iter().sum::<u64>() as usize;
        assert!(merged[streams.clone()] == full[streams], "{method}");
    }
}

#[test]
fn streams_that_were_shared_are_shared_again() {
    let dir = Dir::new("merge-shared");
    let piece = text(1, 1 << 16);
    fs::write(dir.join("a.raw"), piece.repeat(64)).unwrap();
    let mut disk = piece.repeat(64);
    put(&mut disk, MIB, &noise(1, 100));
    fs::write(dir.join("d.raw"), &disk).unwrap();
    dir.run("-q --no-sync -c zstd --dedupe a.raw a.qcow2").exits(0);
    dir.run("-q --no-sync -c zstd --base a.qcow2 d.raw d.qcow2")
        .exits(0);

    let report = dir.run("merge --json --no-sync d.qcow2").exits(0).json();

    assert_eq!(report["compressed-clusters"], 64);
    assert!(report["stream-bytes"].as_u64().unwrap() < 2 << 16, "{report}");
    assert_equals(&dir.join("d.raw"), &dir.join("d.qcow2"));
}

#[test]
fn what_is_free_is_still_recorded() {
    let dir = Dir::new("merge-free");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ext4.raw");
    let mut disk = fs::read(sample).unwrap();
    fs::write(dir.join("a.raw"), &disk).unwrap();
    dir.run("-q --no-sync a.raw a.qcow2").exits(0);
    // The boot block of the filesystem is nobody's.
    put(&mut disk, 0, &noise(1, 512));
    fs::write(dir.join("d.raw"), &disk).unwrap();
    dir.run("-q --no-sync --base a.qcow2 d.raw d.qcow2").exits(0);
    let map = || dir.run("map --json d.qcow2").exits(0).json();
    let free = |map: &serde_json::Value| {
        let ranges = map["ranges"].as_array().cloned().unwrap_or_default();
        let is_free = |range: &&serde_json::Value| range.to_string().contains("free");
        ranges.iter().filter(is_free).count()
    };
    let before = dir.run("info --json d.qcow2").exits(0).json();
    let expected = free(&map());

    dir.run("merge -q --no-sync d.qcow2").exits(0);

    let after = dir.run("info --json d.qcow2").exits(0).json();
    assert_eq!(free(&map()), expected);
    assert!(before["record"]["free"].as_u64().unwrap() > MIB);
    for field in ["free", "unreadable", "sector-size"] {
        assert_eq!(after["record"][field], before["record"][field], "{field}");
    }
    // Only what records it can be restored like this.
    dir.run("restore -q --no-sync --used-only d.qcow2 used.raw")
        .exits(0);
    dir.run("compare -q d.qcow2 used.raw").exits(0);
}

#[test]
fn a_dry_run_tells_what_would_be_merged_and_changes_nothing() {
    let chain = Chain::new("merge-dry", ["-c zstd", "-c zstd", "-c zstd", "-c zstd"]);

    chain
        .dir
        .run("merge -n d.qcow2")
        .exits(0)
        .prints("d.qcow2: would be merged, 4 images of ")
        .prints("c.qcow2: would be merged into it, and stay as it is\n")
        .prints(" at most, less if clusters are compressed\n");
    let plans = ["", "--onto b.qcow2"].map(|onto| {
        let plan = chain
            .dir
            .run(&format!("merge -n --json {onto} d.qcow2"))
            .exits(0)
            .json();
        (
            plan["images"].as_array().unwrap().len(),
            plan["image-size"].as_u64().unwrap(),
        )
    });

    chain.is_unchanged();
    assert_eq!(plans.map(|(images, _)| images), [4, 2]);
    for ((_, most), onto) in plans.into_iter().zip(["", "--onto b.qcow2"]) {
        let report = chain
            .dir
            .run(&format!("merge --json --no-sync {onto} d.qcow2"))
            .exits(0)
            .json();
        assert!(report["written"].as_u64().unwrap() <= most, "{report}");
        chain.put_back();
    }
    let both = plans.map(|(_, size)| size);
    assert!(both[1] < both[0], "{both:?}");
}

#[test]
fn the_new_image_has_the_rights_of_the_old_one_and_a_line_tells_of_it() {
    let chain = Chain::new("merge-rights", ["", "", "", ""]);
    let path = chain.dir.join("d.qcow2");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

    chain
        .dir
        .run("merge d.qcow2")
        .exits(0)
        .prints("d.qcow2: 4 images of ")
        .prints(" merged, 10.00 MiB disk, ");

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    chain.is_right();
}

#[test]
fn bases_elsewhere_are_followed_and_named_as_seen_from_the_image() {
    let chain = Chain::new("merge-elsewhere", ["", "", "", ""]);
    fs::create_dir(chain.dir.join("new")).unwrap();
    chain
        .dir
        .run("-q --no-sync --base b.qcow2 c.raw new/c.qcow2")
        .exits(0);
    chain
        .dir
        .run("-q --no-sync --base new/c.qcow2 d.raw new/d.qcow2")
        .exits(0);

    chain
        .dir
        .run("merge -q --no-sync --onto ./a.qcow2 new/d.qcow2")
        .exits(0);

    let info = chain.info("new/d.qcow2");
    assert_eq!(info["backing-file"]["name"], "../a.qcow2");
    assert_equals(&chain.dir.join("d.raw"), &chain.dir.join("new/d.qcow2"));
    chain.dir.run("merge -q --no-sync new/d.qcow2").exits(0);
    assert_equals(&chain.dir.join("d.raw"), &chain.dir.join("new/d.qcow2"));
}
