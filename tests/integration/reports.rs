//! What a run tells: people in a line, scripts in an object, and what it does to the image's place.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use serde_json::{Value, json};

use crate::faults::OLD;
use crate::refusals::Listing;
use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dir, MKQCOW2, assert_equals, noise, root};

const MIB: u64 = 1 << 20;

/// A directory with a disk of 4 MiB: a mebibyte of data, one of zeros, and a hole.
fn dir(test: &str) -> Dir {
    let dir = Dir::new(test);
    let pieces: [(u64, &[u8]); 2] = [(0, &noise(1, 1 << 20)), (MIB, &vec![0; 1 << 20])];
    dir.sparse("disk.raw", 4 * MIB, &pieces);
    dir
}

/// What is told of a disk in which there is nothing to recognise.
fn nothing_recognised(size: u64) -> Value {
    json!({
        "start": 0,
        "length": size,
        "depth": 0,
        "parent": null,
        "partition": null,
        "partition-label": null,
        "logical-volume": null,
        "details": {},
        "name": null,
        "label": null,
        "used": size,
        "free": 0,
        "copied": 2 * MIB,
        "metadata": 0,
        "treatment": "whole",
        "why": "nothing recognised",
    })
}

fn length_of(dir: &Dir, name: &str) -> u64 {
    dir.join(name).metadata().unwrap().len()
}

#[test]
fn a_run_says_one_line() {
    let dir = dir("closing-line");

    let run = dir.run("disk.raw image.qcow2").exits(0);

    assert_eq!(run.stderr(), "");
    let line = run.stdout();
    let rest = line
        .strip_prefix("image.qcow2: 4.00 MiB source (2.00 MiB data, 2.00 MiB zeros), 1.38 MiB image, ")
        .unwrap_or_else(|| panic!("{line}"));
    let (seconds, rate) = rest.split_once(" s, ").unwrap();
    assert!(seconds.parse::<f64>().unwrap() >= 0.0);
    let (number, unit) = rate.strip_suffix("/s\n").unwrap().split_once(' ').unwrap();
    assert!(number.parse::<f64>().unwrap() > 0.0);
    assert!(["B", "KiB", "MiB", "GiB"].contains(&unit), "{rate}");
}

#[test]
fn a_quiet_run_says_nothing() {
    let dir = dir("quiet");
    dir.run("-q disk.raw image.qcow2").exits(0).in_silence();
    dir.run("--quiet disk.raw image.qcow2").exits(0).in_silence();
    assert_equals(&dir.join("disk.raw"), &dir.join("image.qcow2"));
}

#[test]
fn a_quiet_run_still_says_what_went_wrong() {
    let dir = dir("quiet-failure");
    let run = dir.run("-q missing.raw image.qcow2").exits(1);
    assert_eq!(run.stdout(), "");
    run.says("mkqcow2: missing.raw: cannot open: No such file or directory");
}

#[test]
fn a_script_is_told_in_one_object() {
    let dir = dir("json");

    let run = dir.run("--json disk.raw image.qcow2").exits(0);

    assert_eq!((run.stdout().lines().count(), run.stderr().as_str()), (1, ""));
    let mut report = run.json();
    let seconds = report.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    assert_eq!(
        report,
        json!({
            "status": 0,
            "source": "disk.raw",
            "image": "image.qcow2",
            "size": 4 * MIB,
            "part": null,
            "data": 2 * MIB,
            "metadata": 0,
            "zeros": 2 * MIB,
            "free": 0,
            "read": 2 * MIB,
            "cluster-size": 65536,
            "data-clusters": 16,
            "zero-clusters": 16,
            "unchanged-clusters": 0,
            "base": null,
            "compression": null,
            "compression-level": null,
            "compressed-clusters": 0,
            "stream-bytes": 0,
            "shared-clusters": 0,
            "shared-bytes": 0,
            "written": length_of(&dir, "image.qcow2"),
            "regions": [nothing_recognised(4 * MIB)],
            "unreadable": [],
            "unreadable-before": [],
            "warnings": [],
        })
    );
}

#[test]
fn a_script_is_told_of_a_failure_in_one_object() {
    let dir = dir("json-failure");

    let run = dir.run("--json missing.raw image.qcow2").exits(1);

    let failure = json!({
        "status": 1,
        "source": "missing.raw",
        "image": "image.qcow2",
        "path": "missing.raw",
        "error": "cannot open: No such file or directory",
        "code": "system",
        "errno": 2,
        "advice": null,
    });
    assert_eq!(run.json(), failure);
    run.says("mkqcow2: missing.raw: cannot open");
}

#[test]
fn a_script_is_told_of_warnings_as_root() {
    let dir = Dir::new("json-warnings");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));

    let run = dir.run(&format!("--json --force {} image.qcow2", disk.path().display()));

    let warning = format!(
        "the source is mounted read-write on {}: imaging it anyway, free blocks included; the image may mix old and new data, and files in it may be inconsistent",
        mount.point().display()
    );
    let report = run.exits(3).json();
    assert_eq!(
        (&report["status"], &report["warnings"][0]),
        (&json!(3), &json!(warning))
    );
}

#[test]
fn a_dry_run_touches_nothing() {
    let dir = dir("dry");
    let before = Listing::of(dir.path());
    dir.run("-n disk.raw new.qcow2").exits(0);
    dir.run("--dry-run -v --json disk.raw new.qcow2").exits(0);
    assert_eq!(Listing::of(dir.path()), before);

    fs::write(dir.join("old.qcow2"), OLD).unwrap();
    let before = Listing::of(dir.path());
    dir.run("-n disk.raw old.qcow2").exits(0);
    dir.run("-n --force -p disk.raw old.qcow2").exits(0);
    assert_eq!(Listing::of(dir.path()), before);
}

#[test]
fn a_dry_run_tells_what_is_used_and_why() {
    let dir = dir("dry-text");
    let run = dir.run("-n disk.raw image.qcow2").exits(0);
    assert_eq!(run.stderr(), "");
    run.prints("disk.raw: regular file, 4194304 bytes (4.00 MiB): 2.00 MiB data, 2.00 MiB zeros\n")
        .prints("image.qcow2: ")
        .prints(" bytes (2.38 MiB), less if some of the data is zeros\n")
        .prints("0x000000000000          2097152  used: data\n")
        .prints("0x000000200000          2097152  zeros: hole\n");
}

#[test]
fn a_dry_run_of_many_ranges_shows_the_first_unless_all_are_asked_for() {
    let dir = Dir::new("dry-many");
    let pieces: Vec<_> = (0..30_u64)
        .map(|i| (i * (128 << 10), &[1_u8; 4096][..]))
        .collect();
    dir.sparse("disk.raw", 4 * MIB, &pieces);

    let run = dir.run("-n disk.raw image.qcow2").exits(0);
    assert_eq!(run.stdout().lines().count(), 2 + 2 + 20 + 1);
    run.prints("... and 40 more ranges (-v shows all)\n");

    let run = dir.run("-n -v disk.raw image.qcow2").exits(0);
    assert_eq!(run.stdout().lines().count(), 2 + 2 + 60);
}

#[test]
fn a_dry_run_foretells_the_size_to_the_byte_where_nothing_is_zeros() {
    let dir = Dir::new("dry-size");
    // Whole blocks of the filesystem: the rest of one would be zeros.
    let pieces = [(0, noise(1, 1 << 20)), (3 * MIB, noise(2, 50 * 4096))];
    dir.sparse(
        "disk.raw",
        40 * MIB,
        &pieces.each_ref().map(|(at, bytes)| (*at, &**bytes)),
    );
    for options in [
        "",
        "--cluster-size 512",
        "--cluster-size 2M",
        "--compat 0.10",
        "--no-checksums",
    ] {
        let plan = dir
            .run(&format!("-n --json {options} disk.raw image.qcow2"))
            .exits(0)
            .json();
        dir.run(&format!("{options} disk.raw image.qcow2")).exits(0);
        assert_eq!(plan["image-size"], length_of(&dir, "image.qcow2"), "{options}");
    }
}

#[test]
fn a_script_is_told_the_plan() {
    let dir = dir("dry-json");

    let mut plan = dir.run("-n --json disk.raw image.qcow2").exits(0).json();

    let mut take = |name: &str| plan.as_object_mut().unwrap().remove(name).unwrap();
    assert!(take("free-space").as_u64().unwrap() > 0);
    let image_size = take("image-size");
    assert!(image_size.as_u64().unwrap() > 2 * MIB);
    assert_eq!(take("room-needed"), image_size);
    assert_eq!(
        plan,
        json!({
            "status": 0,
            "source": "disk.raw",
            "kind": "file",
            "image": "image.qcow2",
            "size": 4 * MIB,
            "part": null,
            "base": null,
            "data": 2 * MIB,
            "metadata": 0,
            "zeros": 2 * MIB,
            "free": 0,
            "in-use": Value::Null,
            "warnings": [],
            "regions": [nothing_recognised(4 * MIB)],
            "ranges": [
                {"start": 0, "length": 2 * MIB, "state": "data", "reason": "data", "region": 0},
                {"start": 2 * MIB, "length": 2 * MIB, "state": "zeros", "reason": "hole", "region": 0},
            ],
        })
    );
}

#[test]
fn a_dry_run_of_a_mounted_source_tells_that_a_real_one_needs_force_as_root() {
    let dir = Dir::new("dry-mounted");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    let (source, before) = (disk.path().display(), dir.names());
    let says = format!("mounted read-write on {}", mount.point().display());

    dir.run(&format!("{source} image.qcow2")).exits(1).says(&says);
    let run = dir
        .run(&format!("-n --json {source} image.qcow2"))
        .exits(0)
        .says("(the run itself needs --force)\n");

    assert_eq!(
        (&run.json()["in-use"], &run.json()["kind"]),
        (&json!(says), &json!("device"))
    );
    run.says(&format!("mkqcow2: {source}: "));
    assert_eq!(dir.names(), before);
}

#[test]
fn a_verbose_run_tells_the_plan_and_the_clusters() {
    let dir = dir("verbose");

    let run = dir.run("-v disk.raw image.qcow2").exits(0);

    let length = length_of(&dir, "image.qcow2");
    run.says("disk.raw: regular file, 4194304 bytes (4.00 MiB): 2.00 MiB data, 2.00 MiB zeros\n")
        .says("image.qcow2: ")
        .prints("image.qcow2: 4.00 MiB source (")
        .prints(&format!(
            "clusters of 65536 bytes with data: 16, zeros: 16; {length} bytes in all\n"
        ));
}

#[test]
fn progress_without_a_terminal_is_lines_and_no_control_characters() {
    let dir = dir("progress");
    for options in ["-p", "-p --json", "-p -v"] {
        let run = dir.run(&format!("{options} disk.raw image.qcow2")).exits(0);
        let said = run.stderr();
        assert!(!said.contains(['\u{1b}', '\r']), "{said:?}");
    }
    assert_equals(&dir.join("disk.raw"), &dir.join("image.qcow2"));
}

#[test]
fn a_new_image_is_for_its_owner_only_whatever_the_umask() {
    let dir = dir("mode-new");
    for umask in ["000", "022", "077"] {
        let script = format!("umask {umask}; exec '{MKQCOW2}' -q disk.raw image.qcow2");
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", &script]).current_dir(dir.path()).status();
        assert!(status.unwrap().success());
        let metadata = dir.join("image.qcow2").metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600, "umask {umask}");
        fs::remove_file(dir.join("image.qcow2")).unwrap();
    }
}

#[test]
fn an_image_that_is_replaced_keeps_its_mode_and_owner_as_root() {
    root::needed();
    let dir = dir("mode-kept");
    let image = dir.join("image.qcow2");
    fs::write(&image, OLD).unwrap();
    chown(&image, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&image, Permissions::from_mode(0o640)).unwrap();

    let run = dir.run("disk.raw image.qcow2").exits(0);

    assert_eq!(run.stderr(), "");
    let metadata = image.metadata().unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (1000, 1000, 0o640)
    );
    assert_equals(&dir.join("disk.raw"), &image);
}

#[test]
fn another_name_of_the_old_image_keeps_the_old_content() {
    let dir = dir("hard-link");
    fs::write(dir.join("image.qcow2"), OLD).unwrap();
    fs::hard_link(dir.join("image.qcow2"), dir.join("yesterday.qcow2")).unwrap();

    dir.run("disk.raw image.qcow2").exits(0);

    assert_equals(&dir.join("disk.raw"), &dir.join("image.qcow2"));
    assert_eq!(fs::read(dir.join("yesterday.qcow2")).unwrap(), OLD);
    assert_eq!(dir.names(), ["disk.raw", "image.qcow2", "yesterday.qcow2"]);
}

#[test]
fn whoever_has_the_old_image_open_keeps_reading_it() {
    let dir = dir("open-old");
    fs::write(dir.join("image.qcow2"), OLD).unwrap();
    let mut reader = File::open(dir.join("image.qcow2")).unwrap();

    dir.run("disk.raw image.qcow2").exits(0);

    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, OLD);
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = Dir::new("help");
    dir.run("--help")
        .exits(0)
        .prints("Usage: mkqcow2 [OPTIONS] SOURCE IMAGE");
    dir.run("--version")
        .exits(0)
        .prints(concat!("mkqcow2 ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_plan_that_cannot_be_printed_is_a_failure() {
    let dir = dir("dry-full");
    for options in ["-n", "-n --json"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let arguments = format!("{options} disk.raw image.qcow2");
        let mut command = dir.command(arguments.split_whitespace());
        let output = command.stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{options}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("cannot write to standard output: No space left on device"),
            "{said}"
        );
    }
}
