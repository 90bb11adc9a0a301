//! What is told of what a source holds: in a plan, of a run, in a map; to people and to scripts.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dir, Run, assert_equals, noise, tool};

const MIB: u64 = 1 << 20;

/// Where the signature of a swap area stands.
const SIGNATURE: u64 = 4096 - 10;

/// Where its label stands.
const LABEL: u64 = 1052;

/// A swap area of a mebibyte that was written to all over, and its path.
fn swap(dir: &Dir, name: &str) -> PathBuf {
    let path = dir.sparse(name, MIB, &[(0, &noise(1, 1 << 20))]);
    tool("mkswap", ["-q", "-L", "pages", path.to_str().unwrap()]);
    path
}

/// The same after the system went to sleep.
fn sleeping(dir: &Dir, name: &str) -> PathBuf {
    let path = swap(dir, name);
    write_at(&path, b"S1SUSPEND\0", SIGNATURE);
    path
}

fn write_at(path: &Path, bytes: &[u8], at: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// What scripts are told of the swap area.
fn object() -> Value {
    json!({
        "start": 0,
        "length": MIB,
        "depth": 0,
        "parent": null,
        "partition": null,
        "partition-label": null,
        "logical-volume": null,
        "details": {},
        "name": "swap",
        "label": "pages",
        "used": 4096,
        "free": MIB - 4096,
        "copied": 4096,
        "metadata": 4096,
        "treatment": "mapped",
        "why": null,
    })
}

const LINE: &str =
    "0x000000000000          1048576  source: swap \"pages\", 4.00 KiB in use, 1020.00 KiB free\n";

const RANGES: &str = "\
    0x000000000000             4096  used: metadata of swap\n\
    0x000000001000          1044480  free: unused by swap\n";

#[test]
fn a_plan_tells_what_was_recognised_and_why_ranges_are_free() {
    let dir = Dir::new("regions-plan");
    swap(&dir, "swap.raw");

    let run = dir.run("-n swap.raw image.qcow2").exits(0);
    assert_eq!(run.stderr(), "");
    let (summary, rest) = run.stdout().split_once(LINE).map(owned).unwrap();
    assert_eq!((summary.lines().count(), rest), (2, format!("\n{RANGES}")));

    let plan = dir.run("-n --json swap.raw image.qcow2").exits(0).json();
    assert_eq!(
        (&plan["regions"], &plan["warnings"]),
        (&json!([object()]), &json!([]))
    );
    assert_eq!(
        plan["ranges"],
        json!([
            {"start": 0, "length": 4096, "state": "metadata", "reason": "metadata of swap", "region": 0},
            {
                "start": 4096, "length": MIB - 4096, "state": "free",
                "reason": "unused by swap", "region": 0,
            },
        ])
    );
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn a_run_tells_what_was_recognised_if_asked() {
    let dir = Dir::new("regions-run");
    swap(&dir, "swap.raw");

    let run = dir.run("swap.raw image.qcow2").exits(0);
    assert_eq!(run.stderr(), "");
    run.prints("image.qcow2: 1.00 MiB source (4.00 KiB metadata, 1020.00 KiB free), ");

    dir.run("-v swap.raw image.qcow2").exits(0).says(LINE);
    let report = dir.run("--json swap.raw image.qcow2").exits(0).json();
    assert_eq!(report["regions"], json!([object()]));
    assert_eq!(
        ["data", "metadata", "zeros", "free"].map(|state| report[state].as_u64()),
        [0, 4096, 0, MIB - 4096].map(Some)
    );
}

#[test]
fn a_map_of_a_source_begins_with_what_was_recognised() {
    let dir = Dir::new("regions-map");
    swap(&dir, "swap.raw");

    let run = dir.run("map swap.raw").exits(0);
    assert_eq!(
        (run.stdout(), run.stderr()),
        (format!("{LINE}\n{RANGES}"), String::new())
    );

    let map = dir.run("map --json swap.raw").exits(0).json();
    let (reason, region) = (&map[1]["reason"], &map[1]["region"]);
    assert_eq!((reason, region), (&json!("unused by swap"), &json!(0)));
}

#[test]
fn what_was_recognised_can_be_had_alone_of_an_image_too() {
    let dir = Dir::new("regions-alone");
    swap(&dir, "swap.raw");
    dir.run("-q -c zstd swap.raw image.qcow2").exits(0);

    for name in ["swap.raw", "image.qcow2"] {
        let run = dir.run(&format!("map --regions {name}")).exits(0);
        assert_eq!((run.stdout().as_str(), run.stderr().as_str()), (LINE, ""));
        let regions = dir.run(&format!("map --regions --json {name}")).exits(0).json();
        assert_eq!(regions, json!([object()]), "{name}");
    }
}

#[test]
fn a_device_has_no_holes_where_something_is_unused_as_root() {
    let dir = Dir::new("regions-device");
    let device = Loop::over(&swap(&dir, "swap.raw"));

    dir.run_with([Path::new("map"), device.path()])
        .exits(0)
        .prints("0x000000001000          1044480  free: unused by swap\n");
}

#[test]
fn what_cannot_be_trusted_is_copied_whole_with_a_warning_and_nothing_is_lost() {
    let dir = Dir::new("regions-doubt");
    let source = sleeping(&dir, "swap.raw");
    let warning = "swap: it holds a hibernated system: copied whole";
    let planned = warning.replace("copied", "would be copied");
    let said = |warning: &str| format!("mkqcow2: swap.raw: warning: {warning}\n");
    let (says, plans) = (said(warning), said(&planned));
    let line = "0x000000000000          1048576  source: swap, copied whole: it holds a hibernated system\n";

    for options in ["-n", "-q", "-v", "--json", "-n --json"] {
        let run = dir.run(&format!("{options} swap.raw image.qcow2")).exits(0);
        let says = if options.starts_with("-n") { &plans } else { &says };
        assert_eq!(run.stderr().matches(says).count(), 1, "{}", run.stderr());
    }
    dir.run("map swap.raw").exits(0).says(&says).prints(line);
    dir.run("-n swap.raw image.qcow2").exits(0).prints(line);
    for (options, warning) in [("--json", warning), ("-n --json", &planned)] {
        let told = dir
            .run(&format!("{options} swap.raw image.qcow2"))
            .exits(0)
            .json();
        let region = &told["regions"][0];
        assert_eq!(
            (&told["status"], &told["warnings"]),
            (&json!(0), &json!([warning]))
        );
        assert_eq!(
            (
                &region["name"],
                &region["treatment"],
                &region["why"],
                &region["used"]
            ),
            (
                &json!("swap"),
                &json!("whole"),
                &json!("it holds a hibernated system"),
                &json!(MIB)
            )
        );
    }
    assert_equals(&source, &dir.join("image.qcow2"));
}

#[test]
fn a_label_cannot_command_the_terminal() {
    let dir = Dir::new("regions-hostile");
    let (label, shown) = ("a\u{1b}[2J\n\"\u{202e}", "a\\u{1b}[2J\\n\"\\u{202e}");
    let source = swap(&dir, "swap.raw");
    write_at(&source, &[0; 16], LABEL);
    write_at(&source, label.as_bytes(), LABEL);
    let is_harmless = |run: &Run| {
        let told = run.stdout() + &run.stderr();
        !told.contains(['\u{1b}', '\u{202e}'])
    };

    for command in [
        "-n swap.raw image.qcow2",
        "map swap.raw",
        "map --regions swap.raw",
    ] {
        let run = dir.run(command).exits(0);
        assert!(is_harmless(&run), "{command}");
        run.prints(&format!("source: swap \"{shown}\", 4.00 KiB in use"));
    }
    let run = dir.run("-v swap.raw image.qcow2").exits(0);
    assert!(is_harmless(&run), "{}", run.stderr());
    for (command, pointer) in [
        ("-n --json swap.raw image.qcow2", "/regions/0/label"),
        ("--json swap.raw image.qcow2", "/regions/0/label"),
        ("map --regions --json swap.raw", "/0/label"),
    ] {
        let run = dir.run(command).exits(0);
        assert!(is_harmless(&run), "{command}");
        assert_eq!(run.json().pointer(pointer), Some(&json!(label)), "{command}");
    }
}

#[test]
fn a_source_that_may_be_written_to_is_not_looked_into_as_root() {
    let dir = Dir::new("regions-in-use");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    let (source, on) = (disk.path().display(), mount.point().display());

    let plan = dir
        .run(&format!("-n --force --json {source} image.qcow2"))
        .exits(0);
    assert_eq!(
        (&plan.json()["regions"], &plan.json()["data"]),
        (&json!([]), &json!(8 * MIB))
    );
    plan.says(&format!(
        "{source}: warning: the source is mounted read-write on {on}: would be imaged with its free blocks; "
    ));
    let run = dir.run(&format!("map {source}")).exits(0).says(&format!(
        "{source}: warning: mounted read-write on {on}: not examined, so free blocks count as used\n"
    ));
    assert_eq!(
        run.stdout(),
        "0x000000000000          8388608  used: free space not known\n"
    );
    let run = dir.run(&format!("map --regions --json {source}")).exits(0);
    assert_eq!(run.json(), json!([]));
}

#[test]
fn a_sparse_scan_looks_for_holes_only() {
    let dir = Dir::new("regions-sparse");
    swap(&dir, "swap.raw");

    let plan = dir
        .run("-n --json --scan sparse swap.raw image.qcow2")
        .exits(0)
        .json();
    assert_eq!((&plan["regions"], &plan["data"]), (&json!([]), &json!(MIB)));
    let run = dir.run("-n --scan sparse swap.raw image.qcow2").exits(0);
    assert_eq!(run.stdout().lines().count(), 3);
    run.prints("0x000000000000          1048576  used: data\n");
}

#[test]
fn holes_are_told_of_what_is_in_use() {
    let dir = Dir::new("regions-holes");
    let pieces = [(0, &noise(1, 8192)[..]), (2 * MIB, &noise(2, 4096))];
    dir.sparse("disk.raw", 4 * MIB, &pieces);

    let run = dir.run("map --regions disk.raw").exits(0);
    assert_eq!(
        run.stdout(),
        "0x000000000000          4194304  source: nothing recognised, copied whole (3.99 MiB of it holes)\n"
    );
    let region = &dir.run("map --regions --json disk.raw").exits(0).json()[0];
    assert_eq!(
        (&region["used"], &region["copied"]),
        (&json!(4 * MIB), &json!(12288))
    );
}

#[test]
fn partitions_are_told_one_by_one_with_number_and_label() {
    let dir = Dir::new("regions-partitions");
    let disk = dir.sparse("disk.raw", 4 * MIB, &[(0, &noise(3, 4 << 20))]);
    let table =
        "label: gpt\nfirst-lba: 2048\nstart=1MiB, size=1MiB, name=\"pages\u{9b}2J\"\nstart=2MiB, size=1MiB\n";
    fs::write(dir.join("table"), table).unwrap();
    let script = "sfdisk -q --wipe always \"$1\" < \"$2\"";
    let (path, given) = (disk.to_str().unwrap(), dir.join("table"));
    tool("sh", ["-c", script, "sh", path, given.to_str().unwrap()]);
    for (name, at) in [(swap(&dir, "swap.raw"), MIB), (swap(&dir, "other.raw"), 2 * MIB)] {
        write_at(&disk, &fs::read(name).unwrap(), at);
    }
    write_at(&disk, b"SWAPSPACE2", 2 * MIB + 65536 - 10);

    let run = dir.run("map disk.raw").exits(0);
    run.says(
        "disk.raw: warning: partition 2, swap: it has swap signatures for two page sizes: copied whole\n",
    )
    .prints("source: GPT, 3.00 MiB in use, 1020.00 KiB free\n")
    .prints("  partition 1 \"pages\\u{9b}2J\": swap \"pages\", 4.00 KiB in use, 1020.00 KiB free\n")
    .prints("  partition 2: swap, copied whole: it has swap signatures for two page sizes\n")
    .prints("0x000000000000          1048576  used: outside of all partitions\n")
    .prints("0x000000100000             4096  used: metadata of swap\n")
    .prints("0x000000101000          1044480  free: unused by swap\n")
    .prints("0x000000200000          1048576  used: data\n")
    .prints("0x000000300000          1048576  used: outside of all partitions\n");

    let map = dir.run("map --json disk.raw").exits(0).json();
    let regions: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|range| range["region"].clone())
        .collect();
    assert_eq!(regions, [0, 1, 1, 2, 0].map(Value::from));
    let regions = dir.run("map --regions --json disk.raw").exits(0).json();
    assert_eq!(
        (
            &regions[0]["treatment"],
            &regions[1]["partition"],
            &regions[1]["partition-label"],
            &regions[2]["partition-label"]
        ),
        (
            &json!("partitioned"),
            &json!(1),
            &json!("pages\u{9b}2J"),
            &json!(null)
        )
    );
}
