//! One word too few or too many costs no file: what would be replaced, and what was probably meant, is told.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::loops::Loop;
use crate::support::{Dir, are_same, noise};

const MIB: u64 = 1 << 20;

/// A disk, and an image of it.
fn dir(name: &str) -> Dir {
    let dir = Dir::new(&format!("guards-{name}"));
    dir.sparse("disk.raw", MIB, &[(4096, &noise(1, 8192))]);
    dir.run("-q disk.raw image.qcow2").exits(0);
    dir
}

/// Runs a command that must leave a file as it is.
#[track_caller]
fn spares(dir: &Dir, file: &str, command: &str, says: &[&str]) {
    let before = fs::read(dir.join(file)).unwrap();
    let mut run = dir.run(command).exits(1);
    for words in says {
        run = run.says(words);
    }
    assert!(
        fs::read(dir.join(file)).unwrap() == before,
        "{command}: {file} was changed"
    );
}

#[test]
fn restore_does_not_replace_an_image_unless_told_to() {
    let dir = dir("restore");
    fs::copy(dir.join("image.qcow2"), dir.join("monday.qcow2")).unwrap();
    symlink("monday.qcow2", dir.join("link")).unwrap();
    let says = "is a qcow2 image, which would be replaced\n\
                mkqcow2: To keep it: mkqcow2 restore image.qcow2 monday.raw, or any other new name; to replace it by a \
                raw disk: --overwrite\n";
    spares(
        &dir,
        "monday.qcow2",
        "restore image.qcow2 monday.qcow2",
        &[&format!("mkqcow2: monday.qcow2: {says}")],
    );
    spares(
        &dir,
        "monday.qcow2",
        "restore image.qcow2 link",
        &["mkqcow2: link: is a qcow2 image"],
    );
    spares(
        &dir,
        "monday.qcow2",
        "restore -n image.qcow2 monday.qcow2",
        &["is a qcow2 image"],
    );
    for (name, magic, format) in [
        ("old.qcow", &b"QFI\xfb\0\0\0\x01"[..], "qcow"),
        ("old.qed", b"QED\0", "qed"),
        ("other.vmdk", b"KDMV", "vmdk"),
        ("other.vhdx", b"vhdxfile", "vhdx"),
    ] {
        let mut bytes = magic.to_vec();
        bytes.resize(4096, 0);
        fs::write(dir.join(name), bytes).unwrap();
        let says = format!("is a {format} image, which would be replaced");
        spares(&dir, name, &format!("restore image.qcow2 {name}"), &[&says]);
    }
    dir.run("restore --overwrite image.qcow2 monday.qcow2").exits(0);
    assert!(are_same(&dir.join("monday.qcow2"), &dir.join("disk.raw")));
}

#[test]
fn restore_replaces_raw_disks_and_other_files_as_before() {
    let dir = dir("restore-raw");
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("old.raw", &noise(2, 5000)),
        ("luks", b"LUKS\xba\xbe\0\x02"),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        dir.run(&format!("restore image.qcow2 {name}")).exits(0);
    }
}

#[test]
fn an_image_replaces_only_images_and_empty_files_unless_told_to() {
    let dir = dir("create");
    fs::write(dir.join("notes.txt"), "milk\nbread\n").unwrap();
    fs::write(dir.join("other.raw"), noise(3, 5000)).unwrap();
    fs::write(
        dir.join("other.vdi"),
        [&[0; 64][..], b"\x7f\x10\xda\xbe", &[0; 512]].concat(),
    )
    .unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    spares(
        &dir,
        "notes.txt",
        "disk.raw notes.txt",
        &[
            "mkqcow2: notes.txt: is not a qcow2 image but 11 bytes of text, which would be replaced\n\
           mkqcow2: To keep it: mkqcow2 disk.raw notes.txt.qcow2, or any other new name; to replace it: --overwrite\n",
        ],
    );
    spares(&dir, "notes.txt", "-n disk.raw notes.txt", &["11 bytes of text"]);
    spares(
        &dir,
        "other.raw",
        "disk.raw other.raw",
        &["is not a qcow2 image but a file of 5000 bytes"],
    );
    spares(&dir, "other.vdi", "disk.raw other.vdi", &["is a vdi image"]);

    dir.run("disk.raw empty").exits(0);
    // As cron does, night after night.
    assert_eq!(dir.run("disk.raw image.qcow2").exits(0).stderr(), "");
    dir.run("--overwrite -q disk.raw notes.txt").exits(0);
    dir.run("verify notes.txt").exits(0);
    dir.run("--overwrite --no-clobber disk.raw notes.txt")
        .exits(64)
        .says("cannot be used with");
}

#[test]
fn who_gives_a_device_for_an_image_is_led_to_restore_as_root() {
    let dir = dir("device");
    let target = dir.sparse("target.raw", 2 * MIB, &[]);
    let device = Loop::over(&target);
    let device = device.path().display();
    let says = format!("mkqcow2: To write this image to a disk: mkqcow2 restore image.qcow2 {device}\n");
    for options in ["", "--source-format=qcow2 "] {
        dir.run(&format!("{options}image.qcow2 {device}"))
            .exits(1)
            .says(&says);
    }
    dir.run(&format!("restore image.qcow2 {device}")).exits(0);
}

#[test]
fn a_name_with_blanks_is_quoted_where_a_command_is_shown() {
    let dir = dir("quoted");
    fs::write(dir.join("my notes"), "milk\n").unwrap();
    dir.run_with(["disk.raw", "my notes"])
        .exits(1)
        .says("To keep it: mkqcow2 disk.raw 'my notes.qcow2', or");
}

#[test]
fn a_mistyped_or_misplaced_command_is_told() {
    let dir = dir("mistyped");
    for (line, says) in [
        ("retsore a b", "'retsore' is no command; did you mean 'restore'?"),
        ("inof", "'inof' is no command; did you mean 'info'?"),
        ("verfy a b c", "did you mean 'verify'?"),
        (
            "-v restore a b",
            "'restore' is a command, which comes before all options; write ./restore for the file",
        ),
        (
            "-c zstd compare a b",
            "'compare' is a command, which comes before all options",
        ),
        ("help rescue", "'rescue' is no command, expected one of restore, "),
    ] {
        dir.run(line).exits(64).says(says);
    }
    // It could be either.
    dir.run("verfy image.qcow2")
        .exits(1)
        .says("mkqcow2: verfy: cannot open: No such file or directory\nmkqcow2: If a command was meant: mkqcow2 verify image.qcow2\n");
    fs::copy(dir.join("disk.raw"), dir.join("verfy")).unwrap();
    dir.run("verfy image.qcow2").exits(0);
    // Nothing is near.
    let run = dir.run("a b c").exits(64);
    assert!(!run.stderr().contains("did you mean"), "{}", run.stderr());
}

#[test]
fn the_help_is_a_command_too() {
    let dir = dir("help");
    let long = dir.run("--help").exits(0).stdout();
    assert_eq!(dir.run("help").exits(0).stdout(), long);
    assert_eq!(
        dir.run("help restore").exits(0).stdout(),
        dir.run("restore --help").exits(0).stdout()
    );
    // A script whose variables are empty has not done what it should.
    dir.run("")
        .exits(64)
        .says("Usage: mkqcow2 [OPTIONS] SOURCE IMAGE");
}

#[test]
fn a_script_is_told_of_every_failure_in_one_object() {
    let dir = dir("json");
    fs::write(dir.join("notes.txt"), "milk\nbread\n").unwrap();
    let told = |line: &str, status: i32| {
        let object = dir.run(line).exits(status).json();
        assert_eq!(object["status"], status, "{line}");
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        (text("code"), text("error"), text("advice"), object)
    };
    let (code, error, advice, object) = told("--json disk.raw notes.txt", 1);
    let says = "is not a qcow2 image but 11 bytes of text, which would be replaced";
    assert_eq!((code.as_str(), error.as_str()), ("refused", says));
    assert_eq!(object["path"], "notes.txt");
    assert!(advice.starts_with("To keep it: mkqcow2 disk.raw "), "{advice}");

    let (code, error, _, object) = told("--json missing image.qcow2", 1);
    let says = "cannot open: No such file or directory";
    assert_eq!((code.as_str(), error.as_str()), ("system", says));
    assert_eq!(object["errno"], 2);

    let (code, error, advice, _) = told("--json image.qcow2 new.qcow2", 1);
    assert_eq!(
        (code.as_str(), error.as_str()),
        ("refused", "begins like a qcow2 image")
    );
    assert!(advice.contains("--source-format=qcow2"), "{advice}");

    for verb in ["check", "verify", "info"] {
        let (code, _, _, object) = told(&format!("{verb} --json disk.raw"), 1);
        assert_eq!(code, "refused", "{verb}");
        assert_eq!(object["path"], "disk.raw", "{verb}");
        assert_eq!(object["filename"], "disk.raw", "{verb}");
    }
    for (line, says) in [
        (
            "--json disk.raw",
            "the following required arguments were not provided: <IMAGE>",
        ),
        (
            "restore --json",
            "the following required arguments were not provided: <IMAGE> <TARGET>",
        ),
        (
            "restroe --json a b",
            "'restroe' is no command; did you mean 'restore'?",
        ),
        (
            "--json --cluster-size 3 a b",
            "invalid value '3' for '--cluster-size <SIZE>'",
        ),
    ] {
        let (code, error, _, _) = told(line, 64);
        assert_eq!(code, "usage", "{line}");
        assert!(error.starts_with(says), "{error}");
    }
    // Where the image would go, no object goes.
    assert_eq!(dir.run("--json disk.raw -").exits(64).stdout(), "");
}
