//! What QEMU makes of QCOW version 1 and QED becomes a qcow2 image with the same disk.

use crate::corpus::text;
use crate::disk::Disk;
use crate::support::{Dir, noise, qemu};

use super::by_hand::Image;
use super::{KIB, MIB, assert_converts, assert_holds, noisy, pack};

/// Data at both ends and in the middle of a disk, over a border of clusters, and single bytes.
fn writes(size: u64, more: &[&str]) -> Vec<String> {
    let places = [
        (0, 0, 10_000),
        (1, 65_000, 70_000),
        (2, MIB + 5, 1),
        (3, size / 2 - 3000, 300_000),
        (4, size - 700, 700),
        (5, size - 1_300_000, 4096),
    ];
    let data = places.map(|(number, at, length)| format!("write -q -s noise-{number} {at} {length}"));
    let more = more.iter().map(|command| (*command).to_owned());
    data.into_iter().chain(more).collect()
}

/// Makes `base.raw`, with data at both ends.
fn base(dir: &Dir, length: u64) {
    Disk::hole(length)
        .data(0..400_000)
        .data(length - 700_000..length)
        .file(dir, "base.raw");
}

#[track_caller]
fn qemu_writes(dir: &Dir, format: &str, image: &str, size: u64, more: &[&str]) {
    let writes = writes(size, more);
    let writes: Vec<_> = writes.iter().map(String::as_str).collect();
    qemu::io(dir, format, image, &writes);
}

#[test]
fn qcow_as_qemu_writes_it() {
    let dir = noisy("formats-qcow");
    // One L2 table is for 2 MiB.
    for size in [2 * MIB, 5 * MIB + 3 * 512, 300 * MIB + 512] {
        qemu::img(&dir, &format!("create -q -f qcow plain.qcow {size}"));
        qemu_writes(
            &dir,
            "qcow",
            "plain.qcow",
            size,
            &[
                "write -q -z 128k 64k",
                "discard -q 256k 64k",
                "write -q -P 0 512k 64k",
            ],
        );
        assert_converts(&dir, "qcow", "plain.qcow", "");
    }
}

#[test]
fn qcow_with_compressed_clusters() {
    let dir = noisy("formats-qcow-compressed");
    let size = 4 * MIB + 1536;
    // What compresses and what does not.
    Disk::hole(size)
        .bytes(0, text(1, 1_000_000))
        .data(MIB + 300..MIB + 200_000)
        .bytes(3 * MIB, text(2, 500_000))
        .bytes(size - 600, text(3, 600))
        .file(&dir, "disk.raw");
    pack(&dir, "disk.raw", "packed.qcow");
    assert_converts(&dir, "qcow", "packed.qcow", "");
    dir.run("map --format qcow packed.qcow")
        .exits(0)
        .prints("compressed");
    // Some of them are written again.
    qemu_writes(&dir, "qcow", "packed.qcow", size, &[]);
    assert_converts(&dir, "qcow", "packed.qcow", "");
}

#[test]
fn qcow_on_a_backing_file() {
    let dir = noisy("formats-qcow-backing");
    let size = 5 * MIB + 512;
    // Shorter than what stands on it, and longer.
    for length in [3 * MIB + 100, 7 * MIB] {
        base(&dir, length);
        qemu::img(&dir, "convert -f raw -O qcow2 base.raw base.qcow2");
        pack(&dir, "base.raw", "base.qcow");
        for base in ["base.raw", "base.qcow2", "base.qcow"] {
            let format = base.strip_prefix("base.").unwrap();
            let create = format!("create -q -f qcow -b {base} -F {format} top.qcow {size}");
            qemu::img(&dir, &create);
            qemu_writes(&dir, "qcow", "top.qcow", size, &["write -q -z 64k 32k"]);
            assert_converts(&dir, "qcow", "top.qcow", "--follow");
            assert_converts(&dir, "qcow", "top.qcow", &format!("--backing {base}"));
            dir.run("--source-format qcow top.qcow other.qcow2")
                .exits(1)
                .says(&format!("top.qcow: needs its backing file, \"{base}\", which"));
        }
    }
}

#[test]
fn qed_with_clusters_and_tables_of_every_size() {
    let dir = noisy("formats-qed");
    // Of tables of one cluster QEMU thinks that they overflow.
    for (cluster, tables) in [
        (4 * KIB, &[2, 4, 16][..]),
        (64 * KIB, &[4, 16]),
        (MIB, &[2, 4, 16]),
    ] {
        for table in tables {
            // More than one L2 table, and no whole number of clusters.
            let size = cluster * (cluster * table / 8) + 3 * MIB + 3 * 512;
            qemu::img(
                &dir,
                &format!("create -q -f qed -o cluster_size={cluster},table_size={table} disk.qed {size}"),
            );
            let zeros = format!("write -q -z {} {}", 2 * cluster, 3 * cluster);
            let discard = format!("discard -q {} {cluster}", 3 * cluster);
            let more = [
                zeros.as_str(),
                &discard,
                "write -q -z 700 100",
                "write -q -P 0 512k 64k",
            ];
            qemu_writes(&dir, "qed", "disk.qed", size, &more);
            assert_converts(&dir, "qed", "disk.qed", "");
        }
    }
}

#[test]
fn qed_of_all_sizes() {
    let dir = noisy("formats-qed-sizes");
    for size in [512, 4096, 5120, 3 * MIB, 3 * MIB + 512, 3 * MIB - 512] {
        qemu::img(
            &dir,
            &format!("create -q -f qed -o cluster_size=64k,table_size=4 disk.qed {size}"),
        );
        let last = format!("write -q -s noise-1 {} 512", size - 512);
        qemu::io(&dir, "qed", "disk.qed", &[&last]);
        assert_converts(&dir, "qed", "disk.qed", "");
    }
}

#[test]
fn qed_on_a_backing_file() {
    let dir = noisy("formats-qed-backing");
    let size = 5 * MIB + 512;
    for length in [3 * MIB + 100, 7 * MIB] {
        base(&dir, length);
        qemu::img(&dir, "convert -f raw -O qed base.raw base.qed");
        qemu::img(&dir, "convert -f raw -O qcow2 base.raw base.qcow2");
        for base in ["base.raw", "base.qed", "base.qcow2"] {
            let format = base.strip_prefix("base.").unwrap();
            let options = "cluster_size=64k,table_size=4";
            let create = format!("create -q -f qed -o {options} -b {base} -F {format} top.qed {size}");
            qemu::img(&dir, &create);
            // Over data of its own, over data of the backing file, over parts of clusters.
            let more = [
                "write -q -z 64k 64k",
                "write -q -z 256k 64k",
                "write -q -z 200k 10k",
                "discard -q 320k 64k",
            ];
            qemu_writes(&dir, "qed", "top.qed", size, &more);
            dir.run("map --follow top.qed")
                .exits(0)
                .prints("0x000000040000            65536  zeros\n");
            assert_converts(&dir, "qed", "top.qed", "--follow");
            assert_converts(&dir, "qed", "top.qed", &format!("--backing {base}"));
            dir.run("--source-format qed top.qed other.qcow2")
                .exits(1)
                .says(&format!("top.qed: needs its backing file, \"{base}\", which"));
        }
    }
}

#[test]
fn a_raw_backing_file_of_qed_is_not_probed() {
    let dir = noisy("formats-qed-raw");
    // Whose guest has written an image into it, which names a file of the host.
    std::fs::write(dir.join("secret"), vec![b's'; 65_536]).unwrap();
    qemu::img(&dir, "create -q -f qcow2 -b secret -F raw base.raw 1M");
    qemu::img(
        &dir,
        "create -q -f qed -b base.raw -F raw -o cluster_size=4k,table_size=4 top.qed 1M",
    );
    assert_converts(&dir, "qed", "top.qed", "--follow");
    let raw = std::fs::read(dir.join("expected.raw")).unwrap();
    assert!(raw.starts_with(b"QFI\xfb"));

    // If nobody said what the backing file is, what it names is not opened.
    qemu::img(&dir, "create -q -f qcow -b base.raw -F qcow2 top.qcow 1M");
    dir.run("--source-format qcow --follow top.qcow new.qcow2")
        .exits(1)
        .says(
            "mkqcow2: base.raw: begins like a qcow2 image, but its format is not recorded: its backing file, \
            \"secret\", is not opened on a guess (pass --backing-format with its format)",
        );
    assert_converts(&dir, "qcow", "top.qcow", "--backing-format qcow2,raw --follow");
    assert_converts(&dir, "qed", "top.qed", "--backing-format raw --follow");
}

#[test]
fn a_chain_that_does_not_tell_its_formats_is_read_if_they_are_told() {
    let dir = noisy("formats-steps");
    std::fs::copy(dir.join("noise-0"), dir.join("base.raw")).unwrap();
    for format in ["qcow", "qed"] {
        let write = |image: &str, command: &str| qemu::io(&dir, format, image, &[command]);
        qemu::img(
            &dir,
            &format!("create -q -f {format} -b base.raw -F raw middle 2M"),
        );
        write("middle", "write -q -s noise-1 300k 200k");
        qemu::img(
            &dir,
            &format!("create -q -f {format} -b middle -F {format} top 2M"),
        );
        write("top", "write -q -s noise-2 400k 200k");
        // What the middle seems to be may be the work of a guest, and so may be the name that it gives.
        dir.run(&format!(
            "--backing middle --source-format {format} top new.qcow2"
        ))
        .exits(1)
        .says("mkqcow2: middle: needs its backing file, \"base.raw\", which is opened only on request");
        for options in ["--follow", "--follow --backing middle"] {
            dir.run(&format!("{options} --source-format {format} top new.qcow2"))
                .exits(1)
                .says(&format!("mkqcow2: middle: begins like a {format} image, but its format is not recorded: \
                    its backing file, \"base.raw\", is not opened on a guess (pass --backing-format with its format)"));
        }
        for told in [format.to_owned(), format!("{format},raw")] {
            assert_converts(&dir, format, "top", &format!("--follow --backing-format {told}"));
        }
        dir.run(&format!("--follow --source-format {format} middle middle.qcow2"))
            .exits(0);
        assert_converts(&dir, format, "top", "--backing middle.qcow2");
    }
}

#[test]
fn images_that_qemu_does_not_make() {
    let dir = noisy("formats-by-hand");
    let images = [
        ("qcow", Image::qcow()),
        ("qed", Image::qed(1)),
        ("qed", Image::qed(2)),
    ];
    for (number, (format, image)) in images.into_iter().enumerate() {
        let name = format!("image-{number}.{format}");
        std::fs::write(dir.join(&name), &image.bytes).unwrap();
        std::fs::write(dir.join("expected.raw"), &image.raw).unwrap();
        assert_holds(&dir, format, &name, "");
        // QEMU takes tables of one cluster for some that overflow.
        if number != 1 {
            assert_converts(&dir, format, &name, "");
            assert!(std::fs::read(dir.join("expected.raw")).unwrap() == image.raw);
        }
    }
}

#[test]
fn the_last_cluster_need_not_be_there_behind_the_end_of_the_disk() {
    let dir = noisy("formats-last-cluster");
    let mut image = Image::qed(2);
    // 512 bytes of it belong to the disk.
    image.bytes.truncate(image.bytes.len() - 4096 + 512);
    std::fs::write(dir.join("disk.qed"), &image.bytes).unwrap();
    std::fs::write(dir.join("expected.raw"), &image.raw).unwrap();
    assert_holds(&dir, "qed", "disk.qed", "");
}

#[test]
fn a_backing_file_in_a_format_that_is_not_known_does_not_pass_for_raw() {
    let dir = noisy("formats-foreign");
    std::fs::write(dir.join("raw"), noise(7, 1 << 20)).unwrap();
    for foreign in ["vmdk", "vdi", "vhdx", "vpc"] {
        qemu::img(&dir, &format!("convert -f raw -O {foreign} raw base"));
        for format in ["qcow", "qed", "qcow2"] {
            qemu::img(
                &dir,
                &format!("create -q -f {format} -b base -F {foreign} top 1M"),
            );
            dir.run(&format!("--source-format {format} --follow top new.qcow2"))
                .exits(1)
                .says(&format!(
                    "has a backing file in the format \"{foreign}\", which is not supported"
                ));
            // Somebody may want what is in the file all the same.
            dir.run(&format!(
                "-q --source-format {format} --follow --backing-format raw top new.qcow2"
            ))
            .exits(0);
        }
    }
    // Nor does one whose content a guest has written.
    std::fs::write(dir.join("base"), b"KDMV".repeat(1 << 18)).unwrap();
    qemu::img(&dir, "create -q -f qed -b base -F raw top 1M");
    assert_converts(&dir, "qed", "top", "--follow");
}
