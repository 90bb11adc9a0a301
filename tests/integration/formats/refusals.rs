//! What is an image, and what is a disk that begins like one, is never guessed.

use std::fs;

use super::by_hand::Image;
use super::{assert_holds, noisy};
use crate::refusals::Listing;
use crate::support::loops::Loop;
use crate::support::{Dir, assert_equals, noise, qemu};

/// An image of each format, of the disk `expected.raw`.
fn images(name: &str) -> Dir {
    let dir = noisy(name);
    fs::write(dir.join("expected.raw"), noise(1, 300_544)).unwrap();
    for format in ["qcow2", "qcow", "qed"] {
        let convert = format!("convert -f raw -O {format} expected.raw disk.{format}");
        qemu::img(&dir, &convert);
    }
    dir
}

const FORMATS: [&str; 3] = ["qcow2", "qcow", "qed"];

#[test]
fn a_file_that_begins_like_an_image_is_refused_until_it_is_told_what_is_wanted() {
    let dir = images("formats-magic");
    fs::write(dir.join("new.qcow2"), "the old image").unwrap();
    let before = Listing::of(dir.path());
    for format in FORMATS {
        for options in ["", "--force", "-n", "--scan sparse", "--offset 512"] {
            let run = dir.run(&format!("{options} disk.{format} new.qcow2")).exits(1);
            let expected = format!(
                "mkqcow2: disk.{format}: begins like a {format} image (--source-format={format} images the disk in it, --source-format=raw the file as it is)\n"
            );
            assert_eq!((run.stderr(), run.stdout()), (expected, String::new()));
        }
    }
    assert_eq!(Listing::of(dir.path()), before);
    assert_eq!(fs::read(dir.join("new.qcow2")).unwrap(), b"the old image");
}

#[test]
fn a_magic_is_enough_even_if_nothing_else_is_there() {
    let dir = Dir::new("formats-magic-only");
    for (name, magic) in [
        ("qcow2", &b"QFI\xfb"[..]),
        ("qcow2", b"QFI\xfb\0\0\0\x02"),
        ("qcow2", b"QFI\xfb\0\0\0\x04"),
        ("qcow", b"QFI\xfb\0\0\0\x01"),
        ("qed", b"QED\0"),
    ] {
        for length in [0, 512] {
            let bytes = [magic, &vec![7; length]].concat();
            fs::write(dir.join("disk"), &bytes).unwrap();
            dir.run("disk new.qcow2")
                .exits(1)
                .says(&format!("mkqcow2: disk: begins like a {name} image ("));
            dir.run("--source-format raw disk new.qcow2").exits(0);
            assert_equals(&dir.join("disk"), &dir.join("new.qcow2"));
            fs::remove_file(dir.join("new.qcow2")).unwrap();
        }
    }
    // One byte less, or another.
    for bytes in [&b"QFI"[..], b"QED", b"QED\x01", b"QFI\xfa\0\0\0\x01"] {
        fs::write(dir.join("disk"), bytes).unwrap();
        dir.run("disk new.qcow2").exits(0);
    }
}

#[test]
fn as_a_raw_file_an_image_is_copied_byte_by_byte() {
    let dir = images("formats-raw");
    for format in FORMATS {
        let run = format!("--source-format raw disk.{format} new.qcow2");
        dir.run(&run).exits(0);
        dir.run("restore --overwrite new.qcow2 copy").exits(0);
        let (found, expected) = ["copy", &format!("disk.{format}")]
            .map(|name| fs::read(dir.join(name)).unwrap())
            .into();
        assert!(
            found.starts_with(&expected) && found.len() - expected.len() < 512,
            "{format}"
        );
    }
}

#[test]
fn a_device_is_raw_unless_it_is_told_otherwise_as_root() {
    let dir = images("formats-device");
    for format in FORMATS {
        let file = dir.join(format!("disk.{format}"));
        let length = fs::metadata(&file).unwrap().len().next_multiple_of(4096);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(length)
            .unwrap();
        let disk = Loop::over(&file);
        let path = disk.path().to_str().unwrap();
        dir.run(&format!("{path} new.qcow2")).exits(0);
        assert_equals(&file, &dir.join("new.qcow2"));
        dir.run(&format!("--source-format raw {path} new.qcow2")).exits(0);
        assert_equals(&file, &dir.join("new.qcow2"));
        dir.run(&format!("--source-format {format} {path} new.qcow2"))
            .exits(0);
        assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
        dir.run(&format!("--source-format {format} {path} disk.{format}"))
            .exits(1)
            .says(&format!(
                "mkqcow2: disk.{format}: is the source itself (the file behind the loop device)"
            ));
    }
}

#[test]
fn no_image_is_the_target_of_itself_or_of_what_stands_on_it() {
    let dir = images("formats-itself");
    fs::hard_link(dir.join("disk.qed"), dir.join("link.qed")).unwrap();
    std::os::unix::fs::symlink("disk.qed", dir.join("symlink.qed")).unwrap();
    for format in FORMATS {
        qemu::img(
            &dir,
            &format!("create -q -f qcow2 -b disk.{format} -F {format} on-{format} 1M"),
        );
    }
    qemu::img(&dir, "create -q -f qcow2 -b expected.raw -F raw on-raw 1M");
    qemu::img(&dir, "create -q -f qcow2 -o data_file=other.data with-data 1M");
    let before = Listing::of(dir.path());
    let itself = "source itself (the same file)";
    for (run, target, what) in [
        ("qed disk.qed", "disk.qed", itself),
        ("qed disk.qed", "link.qed", itself),
        ("qed disk.qed", "symlink.qed", itself),
        ("qed symlink.qed", "disk.qed", itself),
        ("qcow disk.qcow", "disk.qcow", itself),
        ("qcow2 disk.qcow2", "./disk.qcow2", itself),
        ("raw disk.qed", "disk.qed", itself),
        (
            "qcow2 --follow on-qcow2",
            "disk.qcow2",
            "backing file of on-qcow2",
        ),
        ("qcow2 --follow on-qcow", "disk.qcow", "backing file of on-qcow"),
        ("qcow2 --follow on-qed", "disk.qed", "backing file of on-qed"),
        ("qcow2 --follow on-raw", "expected.raw", "backing file of on-raw"),
        (
            "qcow2 --backing disk.qed on-qed",
            "disk.qed",
            "backing file of on-qed",
        ),
        (
            "qcow2 --follow with-data",
            "other.data",
            "external data file of with-data",
        ),
    ] {
        for options in ["", "--force"] {
            dir.run(&format!("{options} --source-format {run} {target}"))
                .exits(1)
                .says(&format!("mkqcow2: {target}: is the {what}\n"));
        }
    }
    assert_eq!(Listing::of(dir.path()), before);
}

#[test]
fn another_format_than_it_is_in_is_refused() {
    let dir = images("formats-other");
    let before = dir.names();
    for (format, file, says) in [
        ("qed", "expected.raw", "header at 0x0: magic is 0x"),
        (
            "qed",
            "disk.qcow2",
            "header at 0x0: magic is 0x514649fb, expected 0x51454400",
        ),
        (
            "qed",
            "disk.qcow",
            "header at 0x0: magic is 0x514649fb, expected 0x51454400",
        ),
        ("qcow", "disk.qed", "header at 0x0: magic is 0x51454400"),
        (
            "qcow",
            "disk.qcow2",
            "header at 0x0: magic is 0x514649fb00000003, expected 0x514649fb00000001",
        ),
        (
            "qcow2",
            "disk.qed",
            "header at 0x0: magic is 0x51454400, expected 0x514649fb",
        ),
        ("qcow2", "disk.qcow", "version is 1, which is not supported"),
        ("qcow2", "expected.raw", "header at 0x0: magic is 0x"),
        (
            "qed",
            ".",
            "is a directory, expected a regular file or a block device",
        ),
        (
            "qed",
            "/dev/null",
            "is a character device, expected a regular file or a block device",
        ),
        ("qcow", "nowhere", "cannot open: No such file or directory"),
    ] {
        dir.run(&format!("--source-format {format} {file} new.qcow2"))
            .exits(1)
            .says(&format!("mkqcow2: {file}: {says}"));
    }
    for option in ["vmdk", "QED", ""] {
        dir.run_with(["--source-format", option, "disk.qed", "new.qcow2"])
            .exits(64);
    }
    assert_eq!(dir.names(), before);
}

#[test]
fn what_an_image_does_not_have_is_refused_by_name() {
    let dir = images("formats-needless");
    for (format, options, says) in [
        (
            "qed",
            "--backing disk.qcow",
            "has no backing file, but one was given",
        ),
        (
            "qcow",
            "--backing disk.qed",
            "has no backing file, but one was given",
        ),
        (
            "qcow2",
            "--backing disk.qed",
            "has no backing file, but one was given",
        ),
        (
            "qed",
            "--data-file disk.qcow",
            "has no external data file, but one was given",
        ),
        (
            "qcow",
            "--data-file disk.qcow",
            "has no external data file, but one was given",
        ),
        ("qed", "--snapshot 1", "has no snapshot with the ID or name \"1\""),
        (
            "qcow",
            "--snapshot 1",
            "has no snapshot with the ID or name \"1\"",
        ),
    ] {
        let file = format!("disk.{format}");
        dir.run(&format!("{options} --source-format {format} {file} new.qcow2"))
            .exits(1)
            .says(&format!("mkqcow2: {file}: {says}"));
    }
}

#[test]
fn an_image_that_was_not_closed_is_read_with_a_warning() {
    let dir = noisy("formats-dirty");
    let mut image = Image::qed(2);
    image.put(16, &[2]);
    fs::write(dir.join("disk.qed"), &image.bytes).unwrap();
    fs::write(dir.join("expected.raw"), &image.raw).unwrap();
    let says = "disk.qed: warning: was not closed properly: its tables were checked and can be read";
    let run = dir.run("--source-format qed disk.qed new.qcow2");
    assert!([0, 3].contains(&run.status()), "{}", run.stderr());
    run.says(says);
    assert_equals(&dir.join("expected.raw"), &dir.join("new.qcow2"));
    let run = dir.run("restore disk.qed copy.raw");
    assert!([0, 3].contains(&run.status()), "{}", run.stderr());
    run.says(says);
    // Opened for writing, QEMU repairs it.
    qemu::io(&dir, "qed", "disk.qed", &["write -q -s noise-1 4096 4096"]);
    qemu::img(&dir, "convert -f qed -O raw disk.qed expected.raw");
    assert_holds(&dir, "qed", "disk.qed", "");
}

#[test]
fn what_only_images_have_is_refused_without_a_format() {
    let dir = images("formats-raw-options");
    for options in [
        "--backing disk.qed",
        "--backing-format raw",
        "--data-file disk.qed",
        "--follow",
        "--snapshot 1",
        "--source-format raw --follow",
    ] {
        dir.run(&format!("{options} disk.qed new.qcow2"))
            .exits(64)
            .says("are for images: say what SOURCE is with --source-format");
    }
}

#[test]
fn an_image_that_cannot_be_read_does_not_pass_for_a_disk() {
    let dir = images("formats-foreign-source");
    for foreign in ["vmdk", "vdi", "vhdx", "vpc"] {
        qemu::img(
            &dir,
            &format!("convert -f qcow2 -O {foreign} disk.qcow2 disk.foreign"),
        );
        dir.run("disk.foreign new.qcow2").exits(1).says(&format!(
            "mkqcow2: disk.foreign: begins like a {foreign} image (the disk in it cannot be read here; --source-format=raw images the file as it is)\n"
        ));
        dir.run("-q --source-format raw disk.foreign new.qcow2").exits(0);
        assert_equals(&dir.join("disk.foreign"), &dir.join("new.qcow2"));
    }
    // A disk that is encrypted as a whole is one.
    let mut luks = vec![0; 65_536];
    luks[..6].copy_from_slice(b"LUKS\xba\xbe");
    fs::write(dir.join("luks.raw"), luks).unwrap();
    dir.run("-q luks.raw new.qcow2").exits(0);
}
