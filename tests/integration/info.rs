//! `mkqcow2 info`, held against `qemu-img info` and what is known of the disk.

use std::fs;
use std::ops::Range;

use serde_json::{Value, json};

use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, noise, poke, qemu};

/// An image with everything that can be in the active state of one.
fn image(dir: &Dir, options: &str) {
    let commands = [
        "write -P 1 0 192k",
        "write -z 512k 128k",
        "write -c -P 2 1M 64k",
        "write -c -P 3 2M 64k",
    ];
    qemu::image(dir, &format!("-o {options} disk.qcow2 4M"), &commands);
}

#[test]
fn sizes_and_formats_are_those_that_qemu_sees() {
    let dir = Dir::new("info-formats");
    for options in [
        "cluster_size=64k",
        "cluster_size=64k,compat=0.10",
        "cluster_size=512,refcount_bits=1",
        "cluster_size=4k,compression_type=zstd",
        "cluster_size=16k,extended_l2=on,refcount_bits=64,lazy_refcounts=on",
    ] {
        image(&dir, options);
        let theirs: Value = serde_json::from_str(&qemu::img(&dir, "info --output=json disk.qcow2")).unwrap();
        let specific = &theirs["format-specific"]["data"];

        let ours = dir.run("info --json disk.qcow2").exits(0).json();

        for field in ["virtual-size", "cluster-size", "actual-size"] {
            assert_eq!(ours[field], theirs[field], "{options}: {field}");
        }
        assert_eq!(ours["refcount-bits"], specific["refcount-bits"], "{options}");
        assert_eq!(ours["compression"], specific["compression-type"], "{options}");
        let extended = specific["extended-l2"].as_bool().unwrap_or(false);
        assert_eq!(ours["extended-l2"], extended, "{options}");
        assert_eq!(
            (&ours["encryption"], &ours["checksums"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[test]
fn clusters_are_counted_by_what_they_are() {
    let dir = Dir::new("info-clusters");
    for (options, expected) in [
        ("cluster_size=64k", [3, 2, 2, 57]),
        ("cluster_size=64k,compat=0.10", [3, 2, 0, 59]),
        ("cluster_size=512", [384, 256, 256, 7296]),
        ("cluster_size=64k,extended_l2=on", [3, 2, 2, 57]),
    ] {
        image(&dir, options);
        let clusters = dir.run("info --json disk.qcow2").exits(0).json()["clusters"].clone();
        let [data, compressed, zeros, unallocated] = expected;
        let expected =
            json!({"data": data, "compressed": compressed, "zeros": zeros, "unallocated": unallocated});
        assert_eq!(clusters, expected, "{options}");
    }
}

#[test]
fn compression_is_told_only_where_something_is_compressed() {
    let dir = Dir::new("info-compression");
    let assert_told = |text: &str, compressed: Value, method: &str, status| {
        let line = format!("compression        {text}\n");
        dir.run("info disk.qcow2").exits(status).prints(&line);
        let info = dir.run("info --json disk.qcow2").exits(status).json();
        assert_eq!(
            (&info["compression"], &info["compressed"]),
            (&json!(method), &compressed)
        );
    };
    image(&dir, "compression_type=zstd");
    assert_told("zstd", json!(true), "zstd", 0);
    image(&dir, "compat=0.10");
    assert_told("zlib", json!(true), "zlib", 0);
    for method in ["zlib", "zstd"] {
        qemu::image(
            &dir,
            &format!("-o compression_type={method} disk.qcow2 4M"),
            &["write -P 1 0 192k"],
        );
        assert_told("none", json!(false), method, 0);
    }
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    assert_told("none, or zstd in snapshots", json!(false), "zstd", 0);
    let path = dir.join("disk.qcow2");
    let l1 = u64::from_be_bytes(fs::read(&path).unwrap()[40..48].try_into().unwrap());
    poke(&path, l1 + 7, &[1]);
    assert_told("zstd, if any cluster is compressed", Value::Null, "zstd", 1);
}

/// An image with compressed clusters only, which can be given each other's streams.
struct Streams {
    bytes: Vec<u8>,
}

impl Streams {
    /// Of 8 clusters, the streams of which are neither equal nor shorter than half a cluster.
    fn make(dir: &Dir, options: &str, cluster_size: usize) {
        let clusters = (1..9).map(|seed| [noise(seed, cluster_size * 5 / 8), vec![0; cluster_size * 3 / 8]]);
        fs::write(
            dir.join("disk.raw"),
            clusters.flatten().flatten().collect::<Vec<_>>(),
        )
        .unwrap();
        let options = format!("{options},cluster_size={cluster_size}");
        qemu::img(
            dir,
            &format!("convert -c -f raw -O qcow2 -o {options} disk.raw disk.qcow2"),
        );
    }

    fn number<const N: usize>(&self, at: usize) -> usize {
        let bytes = self.bytes[at..at + N].iter();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Where the entry of a cluster stands.
    fn entry(&self, cluster: usize) -> usize {
        let l1 = self.number::<8>(40);
        let is_extended = self.number::<8>(72) & 1 << 4 != 0;
        (self.number::<8>(l1) & !(1 << 63)) + cluster * if is_extended { 16 } else { 8 }
    }

    /// The stream of a cluster: where it begins, and where its last sector ends.
    fn stream(&self, cluster: usize) -> Range<usize> {
        let bits = 62 - (self.number::<4>(20) - 8);
        let entry = self.number::<8>(self.entry(cluster));
        assert_eq!(entry >> 62, 1, "cluster {cluster} is not compressed");
        let at = entry & ((1 << bits) - 1);
        let sectors = (entry & !(1 << 62)) >> bits;
        at..(at / 512 + sectors + 1) * 512
    }

    /// Adds to the refcounts, of 16 bits, of all that a stream lies in.
    fn count(&mut self, stream: &Range<usize>, by: isize) {
        let bits = self.number::<4>(20);
        let block = self.number::<8>(self.number::<8>(48));
        for host in stream.start >> bits..=(stream.end - 1) >> bits {
            let at = block + 2 * host;
            let count = self.number::<2>(at).checked_add_signed(by).unwrap();
            self.bytes[at..at + 2].copy_from_slice(&(count as u16).to_be_bytes());
        }
    }

    /// Gives a cluster the stream of another one instead of its own.
    fn share(&mut self, cluster: usize, other: usize) {
        let (before, after) = (self.stream(cluster), self.stream(other));
        let (to, from) = (self.entry(cluster), self.entry(other));
        self.bytes.copy_within(from..from + 8, to);
        self.count(&before, -1);
        self.count(&after, 1);
    }
}

#[test]
fn clusters_that_share_a_stream_are_counted_with_what_they_save() {
    let dir = Dir::new("info-sharing");
    for (options, cluster_size) in [
        ("compat=1.1", 4096),
        ("compat=0.10", 512),
        ("compression_type=zstd", 65536),
        ("extended_l2=on", 16384),
    ] {
        Streams::make(&dir, options, cluster_size);
        let path = dir.join("disk.qcow2");
        let shared = |clusters: u64, bytes: usize| {
            qemu::img(&dir, "check -q disk.qcow2");
            let info = dir.run("info --json disk.qcow2").exits(0).json();
            assert_eq!(info["clusters"]["compressed"], 8, "{options}");
            let sharing = (&info["shared-clusters"], &info["shared-bytes"]);
            assert_eq!(sharing, (&json!(clusters), &json!(bytes)), "{options}");
            dir.run("info disk.qcow2").exits(0)
        };
        assert!(!shared(0, 0).stdout().contains("shared"), "{options}");
        let mut image = Streams {
            bytes: fs::read(&path).unwrap(),
        };
        let saved = [2, 5].map(|cluster| image.stream(cluster).len());

        image.share(6, 2);
        fs::write(&path, &image.bytes).unwrap();

        shared(1, saved[0]).prints(&format!("\nshared clusters    1, saving about {} (", saved[0]));

        image.share(1, 2);
        image.share(4, 5);
        fs::write(&path, &image.bytes).unwrap();
        // It has the same streams, all of them.
        qemu::img(&dir, "snapshot -c same disk.qcow2");

        let bytes = 2 * saved[0] + saved[1];
        shared(3, bytes).prints(&format!("\nshared clusters    3, saving about {bytes} ("));
    }
}

#[test]
fn a_cluster_of_subclusters_counts_once() {
    let dir = Dir::new("info-subclusters");
    qemu::img(&dir, "create -q -f qcow2 -o extended_l2=on disk.qcow2 300k");
    // Clusters: data in two parts with a hole; zeros and nothing; data from there on into the next one; the end.
    let commands = [
        "write -P 1 0 2k",
        "write -P 1 8k 2k",
        "write -z 66k 4k",
        "write -P 2 190k 4k",
        "write -z 298k 2k",
    ];
    qemu::io(&dir, "qcow2", "disk.qcow2", &commands);

    let clusters = dir.run("info --json disk.qcow2").exits(0).json()["clusters"].clone();

    let expected = json!({"data": 3, "compressed": 0, "zeros": 2, "unallocated": 0});
    assert_eq!(clusters, expected);
}

#[test]
fn images_of_ours_tell_of_their_checksums() {
    let dir = Dir::new("info-ours");
    Disk::hole(1 << 20)
        .data(0..200_000)
        .zeros(262_144..400_000)
        .file(&dir, "disk.raw");
    for format in Format::both(65536) {
        dir.image(format);
        let (state, says) = match format.compat {
            "1.1" => ("unchanged", "of 4 clusters, not written to since"),
            _ => ("unknown", "of 4 clusters, perhaps written to since"),
        };
        dir.run("info disk.qcow2").exits(0).prints(says);
        let info = dir.run("info --json disk.qcow2").exits(0).json();
        assert_eq!(
            info["checksums"],
            json!({"state": state, "clusters": 4, "digests": false})
        );

        // Without a new cluster, so that the table stays.
        qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 7 0 512"]);

        let state = if format.compat == "1.1" {
            "changed"
        } else {
            "unknown"
        };
        let info = dir.run("info --json disk.qcow2").exits(0).json();
        assert_eq!(
            info["checksums"],
            json!({"state": state, "clusters": 4, "digests": false})
        );

        // With new ones, which take the place of the table.
        qemu::io(&dir, "qcow2", "disk.qcow2", &["write -P 7 512k 256k"]);

        let run = dir
            .run("info --json disk.qcow2")
            .exits(0)
            .says("warning: the checksums are lost");
        assert_eq!(run.json()["checksums"]["state"], "lost");
        dir.run("info disk.qcow2")
            .exits(0)
            .prints("checksums          lost");
    }
}

#[test]
fn a_damaged_checksum_table_is_told_with_its_place() {
    let dir = Dir::new("info-table");
    let path = Disk::hole(1 << 20).data(0..100).image(&dir, "");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"mkqcrc32").unwrap();
    poke(&path, at as u64, b"M");

    let run = dir
        .run("info --json disk.qcow2")
        .exits(1)
        .says(&format!("checksum table at {at:#x}: magic"));

    assert_eq!(
        run.json()["checksums"],
        json!({"state": "damaged", "clusters": null, "digests": false})
    );
    assert_eq!(run.json()["errors"].as_array().unwrap().len(), 1);
    dir.run("info disk.qcow2")
        .exits(1)
        .prints("checksums          damaged");
}

#[test]
fn snapshots_and_bitmaps_are_listed() {
    let dir = Dir::new("info-lists");
    image(&dir, "cluster_size=64k");
    qemu::img(&dir, "snapshot -c before disk.qcow2");
    qemu::img(&dir, "resize -q disk.qcow2 8M");
    qemu::img(&dir, "snapshot -c after disk.qcow2");
    qemu::img(&dir, "bitmap --add -g 32k disk.qcow2 changes");
    qemu::img(&dir, "bitmap --add --disable disk.qcow2 idle");
    let theirs: Value = serde_json::from_str(&qemu::img(&dir, "info --output=json disk.qcow2")).unwrap();

    let ours = dir.run("info --json disk.qcow2").exits(0).json();

    for (number, size) in [(0, 4 << 20), (1, 8 << 20)] {
        let (ours, theirs) = (&ours["snapshots"][number], &theirs["snapshots"][number]);
        for field in ["id", "name", "date-sec", "date-nsec", "vm-state-size"] {
            assert_eq!(ours[field], theirs[field], "{field}");
        }
        assert_eq!(ours["disk-size"], size);
    }
    let bitmap = |name, granularity, auto: bool| json!({"name": name, "granularity": granularity, "auto": auto, "in-use": false});
    assert_eq!(
        ours["bitmaps"],
        json!([bitmap("changes", 32768, true), bitmap("idle", 65536, false)])
    );
    let run = dir
        .run("info disk.qcow2")
        .exits(0)
        .prints("snapshot           2 \"after\", 20");
    run.prints(" UTC, disk 8388608 (8.00 MiB), VM state 0")
        .prints("bitmap             \"idle\", granularity 65536");
}

#[test]
fn other_files_are_named_and_not_opened() {
    let dir = Dir::new("info-files");
    qemu::img(&dir, "create -q -f qcow2 -u -b gone -F raw overlay.qcow2 1M");
    qemu::img(
        &dir,
        &format!(
            "create -q -f qcow2 -o data_file={} disk.qcow2 1M",
            dir.join("data").display()
        ),
    );
    fs::remove_file(dir.join("data")).unwrap();

    let run = dir.run("info overlay.qcow2").exits(0);
    run.prints("backing file       \"gone\", raw\n")
        .prints("header extension   0xe2792aca, backing file format, 3 bytes");
    let info = dir.run("info --json overlay.qcow2").exits(0).json();
    assert_eq!(info["backing-file"], json!({"name": "gone", "format": "raw"}));
    let run = dir.run("info disk.qcow2").exits(0).prints("/data\"\n");
    run.prints("incompatible bit 2, \"external data file\"");
}

#[test]
fn names_that_a_terminal_would_obey_are_escaped() {
    let dir = Dir::new("info-names");
    qemu::img(&dir, "create -q -f qcow2 gone 1M");
    qemu::img(&dir, "create -q -f qcow2 -b gone -F qcow2 disk.qcow2 1M");
    let path = dir.join("disk.qcow2");
    qemu::img(&dir, "snapshot -c SNAPSHOT disk.qcow2");
    let bytes = fs::read(&path).unwrap();
    let find = |what: &[u8]| bytes.windows(what.len()).position(|bytes| bytes == what).unwrap() as u64;
    poke(&path, find(b"SNAPSHOT"), b"\x1b[2J\xe2\x80\xaeb");
    poke(&path, find(b"gone"), b"\x1b]\x07\n");
    poke(&path, find(b"lazy refcounts"), b"\x1b[31m");
    // The format, behind the two words of its extension.
    poke(&path, 112 + 8, b"\x1bx\0");
    poke(&path, 87, &[1]);

    let run = dir.run("info disk.qcow2").exits(0);

    assert!(
        !run.stdout()
            .chars()
            .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    );
    let run = run
        .prints("1 \"\\u{1b}[2J\\u{202e}b\"")
        .prints("backing file       \"\\u{1b}]\\u{7}\\n\", \\u{1b}x\n");
    run.prints("compatible bit 0, \"\\u{1b}[31mrefcounts\"");
    let run = dir.run("info --json disk.qcow2").exits(0);
    assert!(
        !run.stdout()
            .chars()
            .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    );
    assert_eq!(run.json()["snapshots"][0]["name"], "\u{1b}[2J\u{202e}b");
}

#[test]
fn what_the_image_says_of_its_state_is_a_warning() {
    let dir = Dir::new("info-remarks");
    image(&dir, "cluster_size=64k");
    poke(&dir.join("disk.qcow2"), 79, &[3]);

    let run = dir
        .run("info --json disk.qcow2")
        .exits(0)
        .says("warning: was not closed properly");

    let run = run.says("warning: is marked as corrupt");
    assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 2);
}

#[test]
fn unknown_extensions_have_their_number_and_length() {
    let dir = Dir::new("info-extensions");
    let path = Disk::hole(1 << 20).data(0..100).image(&dir, "");
    // The feature name table, which is the first.
    poke(&path, 104, &[0xde, 0xad, 0xbe, 0xef]);

    dir.run("info disk.qcow2")
        .exits(0)
        .prints("header extension   0xdeadbeef, unknown, 48 bytes\n");
    let info = dir.run("info --json disk.qcow2").exits(0).json();
    assert_eq!(
        info["extensions"][0],
        json!({"number": 0xdead_beef_u32, "name": null, "host-offset": 104, "length": 48})
    );
}

#[test]
fn what_is_not_damaged_of_an_image_is_shown() {
    let dir = Dir::new("info-damage");
    image(&dir, "cluster_size=64k");
    qemu::img(&dir, "snapshot -c one disk.qcow2");
    let path = dir.join("disk.qcow2");
    let bytes = fs::read(&path).unwrap();
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let (l1, snapshots) = (number(40), number(64));
    poke(&path, l1 + 7, &[1]);
    // More extra data than QEMU allows.
    poke(&path, snapshots + 36, &[1]);

    let run = dir.run("info --json disk.qcow2").exits(1);

    let run = run
        .says(&format!("L1 table at {l1:#x}: entry 0 is 0x"))
        .says(&format!("snapshot at {snapshots:#x}"));
    assert_eq!(run.json()["status"], 1);
    assert_eq!(
        (&run.json()["clusters"], &run.json()["snapshots"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(
        (&run.json()["shared-clusters"], &run.json()["shared-bytes"]),
        (&Value::Null, &Value::Null)
    );
    dir.run("info disk.qcow2")
        .exits(1)
        .prints("virtual size       4194304 (4.00 MiB)");
}

#[test]
fn what_is_no_image_is_refused() {
    let dir = Dir::new("info-refused");
    dir.sparse("disk.raw", 1 << 20, &[]);
    dir.run("info disk.raw")
        .exits(1)
        .says("mkqcow2: disk.raw: not a qcow2 image\n");
    dir.run("info none")
        .exits(1)
        .says("none: cannot open: No such file");
    dir.run("info").exits(64);
    let refused = dir.run("info --json disk.raw").exits(1).json();
    assert_eq!(
        (&refused["status"], &refused["filename"]),
        (&json!(1), &json!("disk.raw"))
    );
}
