//! `info`, held against `qemu-img info`.

use serde_json::{Value, json};

use super::images::Plain;
use crate::support::{Dir, qemu};

fn qemu_info(dir: &Dir, name: &str) -> Value {
    serde_json::from_str(&qemu::img(dir, &format!("info --output=json {name}"))).unwrap()
}

#[test]
fn sizes_are_those_that_qemu_sees() {
    let dir = Dir::new("plain-info");
    Plain::qed(&dir);
    Plain::qcow(&dir);
    for (name, clusters) in [
        (
            "disk.qed",
            json!({"data": 4, "compressed": 0, "zeros": 16, "unallocated": 2028}),
        ),
        (
            "disk.qcow",
            json!({"data": 4, "compressed": 2, "zeros": 0, "unallocated": 2042}),
        ),
    ] {
        let theirs = qemu_info(&dir, name);

        let ours = dir.run(&format!("info --json {name}")).exits(0).json();

        for field in ["virtual-size", "cluster-size", "actual-size", "format"] {
            assert_eq!(ours[field], theirs[field], "{name}: {field}");
        }
        assert_eq!(ours["clusters"], clusters, "{name}");
        for field in ["encryption", "backing-file", "checksums"] {
            assert_eq!(ours[field], Value::Null, "{name}: {field}");
        }
        assert_eq!((&ours["errors"], &ours["warnings"]), (&json!([]), &json!([])));
    }
}

#[test]
fn a_line_tells_each_thing() {
    let dir = Dir::new("plain-info-text");
    let base = dir.join("base.raw");
    std::fs::write(&base, vec![7; 8 << 20]).unwrap();
    let options = [
        "-o",
        "cluster_size=64k,table_size=4",
        "-b",
        base.to_str().unwrap(),
        "-F",
        "raw",
    ];
    let image = Plain::make(&dir, "disk.qed", "qed", &options);
    image.io(&["write -P 1 0 64k"]);
    image.needs_check();
    image.put(32, 1 << 7);
    let length = image.length();
    let on_disk = dir.run("info --json disk.qed").json()["actual-size"]
        .as_u64()
        .unwrap();

    let run = dir.run("info disk.qed").exits(0);

    let expected = format!(
        "disk.qed: qed\n\
         virtual size       8388608 (8.00 MiB)\n\
         file size          {length} ({})\n\
         on disk            {on_disk} ({})\n\
         cluster size       65536 (64.00 KiB)\n\
         table size         4 clusters\n\
         encryption         none\n\
         backing file       \"{}\", raw\n\
         feature            incompatible bit 0, \"backing file\"\n\
         feature            incompatible bit 1, \"need check\"\n\
         feature            incompatible bit 2, \"backing format no probe\"\n\
         feature            autoclear bit 7\n\
         clusters           1 data\n\
         \x20                  0 compressed\n\
         \x20                  0 zeros\n\
         \x20                  127 unallocated\n",
        kib(length),
        kib(on_disk),
        base.display(),
    );
    assert_eq!(run.stdout(), expected);
    assert_eq!(
        run.stderr(),
        "mkqcow2: disk.qed: warning: was not closed properly: its tables were checked and can be read\n"
    );
}

fn kib(bytes: u64) -> String {
    format!("{}.00 KiB", bytes / 1024)
}

#[test]
fn qcow_tells_when_its_backing_file_was_changed() {
    let dir = Dir::new("plain-info-mtime");
    let image = Plain::qcow(&dir);
    image.put(16, 951_868_800);

    dir.run("info disk.qcow")
        .exits(0)
        .prints("disk.qcow: qcow version 1\n")
        .prints("\nL2 entries         512\n")
        .prints("\nbacking changed    2000-03-01 00:00:00 UTC\n");

    let json = dir.run("info --json disk.qcow").exits(0).json();
    let own = ["version", "l2-entries", "mtime"].map(|field| json[field].as_u64());
    assert_eq!(own, [Some(1), Some(512), Some(951_868_800)]);
}

#[test]
fn clusters_behind_the_end_of_the_disk_do_not_count() {
    let dir = Dir::new("plain-info-end");
    let image = Plain::qed(&dir);
    // Two clusters and a part of a third are left.
    image.put(48, 2 * 4096 + 512);

    let json = dir.run("info --json disk.qed").exits(0).json();

    let expected = json!({"data": 3, "compressed": 0, "zeros": 0, "unallocated": 0});
    assert_eq!(json["clusters"], expected);
}

#[test]
fn damaged_tables_are_faults() {
    let dir = Dir::new("plain-info-faults");
    let image = Plain::qed(&dir);
    image.needs_check();
    image.put(image.l2(0, 1), 5);

    let run = dir.run("info disk.qed").exits(1);

    let fault = "L2 table at 0x6000: entry 1 is 0x5, expected a multiple of 0x1000 (guest 0x1000 to 0x2000)";
    assert_eq!(run.stderr(), format!("mkqcow2: disk.qed: {fault}\n"));
    assert!(!run.stdout().contains("clusters  "), "{}", run.stdout());
    let json = dir.run("info --json disk.qed").exits(1).json();
    assert_eq!(
        (&json["errors"], &json["clusters"]),
        (&json!([fault]), &Value::Null)
    );
}
