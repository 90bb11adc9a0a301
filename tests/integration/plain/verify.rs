//! `verify`: there are no checksums, but all can be read, decompressed, and held to the tables.

use serde_json::json;

use super::images::{CLUSTER, Plain};
use crate::support::{Dir, qemu};

#[test]
fn all_clusters_are_read_and_all_streams_decompressed() {
    let dir = Dir::new("plain-verify");
    Plain::qcow(&dir);
    Plain::qed(&dir);

    let run = dir.run("verify disk.qcow").exits(0);
    assert!(
        run.stdout()
            .starts_with("disk.qcow: no checksums to compare with, the rest is all right, "),
        "{}",
        run.stdout()
    );
    let json = dir.run("verify --json disk.qcow").exits(0).json();
    assert_eq!(
        (&json["compared"], &json["changed"]),
        (&json!(null), &json!(null))
    );
    assert_eq!((&json["streams"], &json["size"]), (&json!(2), &json!(8 << 20)));
    assert!(json["read"].as_u64().unwrap() > 4 * CLUSTER, "{json}");
    let json = dir.run("verify --json disk.qed").exits(0).json();
    assert_eq!(
        (&json["read"], &json["streams"]),
        (&json!(4 * CLUSTER), &json!(0))
    );
    dir.run("verify -q disk.qed").exits(0).in_silence();
}

#[test]
fn damage_is_told_by_ranges_of_the_disk() {
    let dir = Dir::new("plain-verify-damage");
    let image = Plain::qcow(&dir);
    let at = image.get(image.l2(0, 16)) & ((1 << 51) - 1);
    image.write(at, &[0xff; 8]);
    image.put(image.l2(0, 1), 40);
    image.put(image.l1(2), 1 << 50);
    // Two clusters in one place can be read: that is found when the tables are looked at.
    image.put(image.l2(0, 2), image.get(image.l2(0, 0)));

    let run = dir.run("verify -q disk.qcow").exits(2);

    let expected = [
        "disk.qcow: 4.00 KiB lost to damage at 0x1000 of the disk: \
         L2 table at 0x1000: entry 1 is 0x28, expected a multiple of 0x200 (guest 0x1000 to 0x2000)",
        &format!(
            "disk.qcow: 4.00 KiB lost to damage at 0x10000 of the disk: \
             compressed cluster at {at:#x}: the stream is damaged (guest 0x10000 to 0x11000)"
        ),
        &format!(
            "disk.qcow: 2.00 MiB lost to damage at 0x400000 of the disk: \
             L1 table at 0x30: entry 2 is 0x4000000000000, expected an offset within the file, which has {:#x} bytes \
             (guest 0x400000 to 0x600000)",
            image.length()
        ),
        "disk.qcow: 4.00 KiB concerned at 0x2000 of the disk: \
         data cluster at 0x2000 (guest 0x2000 to 0x3000) overlaps the data cluster at 0x2000 (guest 0x0 to 0x1000) [data-overlap]",
    ];
    assert_eq!(run.stdout().lines().collect::<Vec<_>>(), expected);
    let json = dir.run("verify --json disk.qcow").exits(2).json();
    assert_eq!((&json["damaged"], &json["structures"]), (&json!(514), &json!(1)));
}

#[test]
fn what_is_no_damage_is_a_warning() {
    let dir = Dir::new("plain-verify-warnings");
    let image = Plain::qed(&dir);
    image.needs_check();
    image.resize(image.length() + 2 * CLUSTER);

    let run = dir.run("verify disk.qed").exits(0);

    assert_eq!(
        run.stderr(),
        "mkqcow2: disk.qed: warning: was not closed properly: its tables were checked and can be read\n\
         mkqcow2: disk.qed: warning: 2 clusters of the file are wasted, see mkqcow2 check\n"
    );
    // Then its tables are not right.
    image.put(image.l2(0, 1), 5);
    let run = dir.run("verify -q disk.qed").exits(2);
    assert!(!run.stderr().contains("can be read"), "{}", run.stderr());
}

#[test]
fn the_rest_of_the_disk_is_not_read() {
    let dir = Dir::new("plain-verify-backing");
    Plain::qed(&dir);
    let base = dir.join("base.raw");
    std::fs::write(&base, vec![7; 8 << 20]).unwrap();
    let image = Plain::make(
        &dir,
        "disk.qed",
        "qed",
        &["-b", base.to_str().unwrap(), "-F", "raw"],
    );
    image.io(&["write -P 1 0 64k"]);

    dir.run("verify disk.qed")
        .exits(0)
        .says("warning: the rest of the disk is in its backing file, which was not read");
}

#[test]
fn encrypted_clusters_are_read_as_they_are() {
    let dir = Dir::new("plain-verify-aes");
    let secret = "secret,id=key,data=geheim";
    let options = "encrypt.format=aes,encrypt.key-secret=key";
    qemu::img(
        &dir,
        &format!("create -q -f qcow --object {secret} -o {options} disk.qcow 8M"),
    );
    let with_key = "driver=qcow,encrypt.key-secret=key,file.filename=disk.qcow";
    let write = [
        "--object",
        secret,
        "-c",
        "write -P 1 0 64k",
        "--image-opts",
        with_key,
    ];
    qemu::run(dir.path(), "qemu-io", write);

    for verb in ["verify", "check --data", "info"] {
        dir.run(&format!("{verb} disk.qcow")).exits(0);
    }

    let json = dir.run("info --json disk.qcow").exits(0).json();
    assert_eq!(json["encryption"], "AES");
}
