//! What is refused, and that a refusal changes nothing: the message, the status, and the directory as it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};

use crate::faults::OLD;
use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dir, Run, assert_equals, noise};

const MIB: u64 = 1 << 20;

/// All of a directory that a run could change: names, kinds, inodes, owners, times and contents.
#[derive(Debug, PartialEq)]
pub struct Listing(Vec<String>);

impl Listing {
    pub fn of(directory: &Path) -> Self {
        let mut lines = Vec::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let it = path.symlink_metadata().unwrap();
            // A sparse giant is told by its times alone.
            let is_read = it.is_file() && it.len() < 64 * MIB;
            let content = if is_read {
                crc32fast::hash(&fs::read(&path).unwrap())
            } else {
                0
            };
            let (inode, mode, owner) = (it.ino(), it.mode(), (it.uid(), it.gid(), it.nlink()));
            let times = (it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec());
            lines.push(format!(
                "{} {inode} {mode:o} {owner:?} {times:?} {content:x}",
                path.display()
            ));
        }
        lines.sort();
        Self(lines)
    }
}

/// Runs it in a directory, of which nothing may change, and holds it to a status.
#[track_caller]
fn refused_with(status: i32, dir: &Dir, arguments: &[&OsStr]) -> Run {
    let before = Listing::of(dir.path());
    let run = dir.run_with(arguments).exits(status);
    assert_eq!(Listing::of(dir.path()), before);
    assert_eq!(run.stdout(), "", "errors do not go to standard output");
    run
}

/// A refusal in one line, which begins like this.
#[track_caller]
fn refused(dir: &Dir, arguments: &str, says: &str) {
    let arguments: Vec<_> = arguments.split_whitespace().map(OsStr::new).collect();
    let said = refused_with(1, dir, &arguments).stderr();
    assert!(
        said.starts_with(&format!("mkqcow2: {says}")),
        "expected {says:?}\n{said}"
    );
    assert!(said.ends_with('\n') && said.lines().count() == 1, "{said}");
}

/// A usage that makes no sense.
#[track_caller]
pub fn misused(dir: &Dir, arguments: &str, says: &str) {
    let arguments: Vec<_> = arguments.split_whitespace().map(OsStr::new).collect();
    let said = refused_with(64, dir, &arguments).stderr();
    assert!(said.contains(says), "expected {says:?}\n{said}");
    assert!(said.contains("try '--help'"), "{said}");
}

/// A directory with a disk of a mebibyte and an old image.
fn dir(test: &str) -> Dir {
    let dir = Dir::new(test);
    dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]);
    fs::write(dir.join("old.qcow2"), OLD).unwrap();
    dir
}

fn make_node(dir: &Dir, name: &str, kind: FileType) {
    rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn a_source_that_is_not_there() {
    let dir = dir("no-source");
    refused(
        &dir,
        "missing.raw new.qcow2",
        "missing.raw: cannot open: No such file or directory",
    );
    refused(
        &dir,
        "disk.raw/x new.qcow2",
        "disk.raw/x: cannot open: Not a directory",
    );
    symlink("nowhere", dir.join("dangling")).unwrap();
    refused(
        &dir,
        "dangling new.qcow2",
        "dangling: cannot open: No such file or directory",
    );
}

#[test]
fn a_source_that_holds_no_disk() {
    let dir = dir("no-disk");
    fs::create_dir(dir.join("directory")).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    make_node(&dir, "fifo", FileType::Fifo);
    make_node(&dir, "socket", FileType::Socket);
    let expected = "expected a regular file or a block device\n";
    for (source, kind) in [
        ("directory", "directory"),
        ("fifo", "FIFO"),
        ("socket", "socket"),
        ("/dev/null", "character device"),
    ] {
        for options in ["", "-n", "--force"] {
            let says = format!("{source}: is a {kind}, {expected}");
            refused(&dir, &format!("{options} {source} old.qcow2"), &says);
        }
    }
    refused(
        &dir,
        "empty old.qcow2",
        "empty: is empty, there is nothing to image\n",
    );
}

#[test]
fn a_part_that_no_source_has() {
    let dir = dir("odd-part");
    for (part, says) in [
        ("--offset 100", "offset is 100, expected a multiple of 512"),
        ("--length 1000", "length is 1000, expected a multiple of 512"),
        ("--length 0", "length is 0, there is nothing to image"),
    ] {
        dir.run(&format!("{part} disk.raw new.qcow2"))
            .exits(64)
            .says(says);
        assert!(!dir.join("new.qcow2").exists());
    }
}

#[test]
fn a_part_that_is_not_in_the_source() {
    let dir = dir("no-part");
    for (part, says) in [
        (
            "--offset 1M",
            "offset is 1048576, expected less than the size, 1048576",
        ),
        (
            "--offset 15E",
            "offset is 17293822569102704640, expected less than the size, 1048576",
        ),
        (
            "--length 2M",
            "offset 0 and length 2097152 reach past the end of the source, at 1048576",
        ),
        (
            "--offset 512K --length 513K",
            "offset 524288 and length 525312 reach past the end of the source, at 1048576",
        ),
    ] {
        refused(
            &dir,
            &format!("{part} disk.raw old.qcow2"),
            &format!("disk.raw: {says}\n"),
        );
    }
}

#[test]
fn a_source_too_large_for_its_clusters() {
    let dir = dir("too-large");
    dir.sparse("huge.raw", 129 << 30, &[]);
    let says = "huge.raw: 138512695296 bytes are too many for clusters of 512 bytes: ";
    refused(&dir, "--cluster-size 512 huge.raw old.qcow2", says);
    dir.run("--cluster-size 512 huge.raw old.qcow2")
        .exits(1)
        .says("(the smallest cluster size that works is 1024)");
}

#[test]
fn an_image_that_is_no_file_as_root() {
    let dir = dir("no-file");
    fs::create_dir(dir.join("directory")).unwrap();
    make_node(&dir, "fifo", FileType::Fifo);
    make_node(&dir, "socket", FileType::Socket);
    symlink("directory", dir.join("link")).unwrap();
    let disk = Loop::over(&dir.sparse("other.raw", MIB, &[]));
    let device = disk.path().to_str().unwrap();
    for (image, kind) in [
        ("directory", "directory"),
        ("directory/", "directory"),
        (".", "directory"),
        ("/", "directory"),
        ("link", "directory"),
        ("socket", "socket"),
        ("/dev/null", "character device"),
        (device, "block device"),
    ] {
        let says = format!("{image}: is a {kind}, expected a regular file or a new name\n");
        refused(&dir, &format!("disk.raw {image}"), &says);
    }
    let says = "fifo: is a pipe (give - and redirect standard output to it)\n";
    refused(&dir, "disk.raw fifo", says);
}

#[test]
fn an_image_whose_name_no_file_can_have() {
    let dir = dir("no-name");
    refused(
        &dir,
        "disk.raw new.qcow2/",
        "new.qcow2/: is not the name of a file\n",
    );
    refused(&dir, "disk.raw new/.", "new/.: is not the name of a file\n");
    refused(&dir, "disk.raw new/..", "new/..: is not the name of a file\n");
    refused(
        &dir,
        "disk.raw old.qcow2/",
        "old.qcow2/: cannot open: Not a directory",
    );
    refused(
        &dir,
        "disk.raw missing/new.qcow2",
        "missing/new.qcow2: cannot write to its directory: No such file or directory",
    );
    refused(
        &dir,
        "disk.raw disk.raw/new.qcow2",
        "disk.raw/new.qcow2: cannot open: Not a directory",
    );
    let long = "x".repeat(256);
    refused(
        &dir,
        &format!("disk.raw {long}"),
        &format!("{long}: cannot open: File name too long"),
    );
    symlink("circle", dir.join("circle")).unwrap();
    refused(&dir, "disk.raw circle", "circle: cannot open: ");
}

#[test]
fn an_image_that_must_not_be_replaced() {
    let dir = dir("no-clobber");
    symlink("old.qcow2", dir.join("link")).unwrap();
    for image in ["old.qcow2", "link"] {
        let says = format!("{image}: exists already, expected a new name (because of --no-clobber)\n");
        refused(&dir, &format!("--no-clobber disk.raw {image}"), &says);
        refused(&dir, &format!("-n --no-clobber disk.raw {image}"), &says);
    }
    dir.run("--no-clobber disk.raw new.qcow2").exits(0);
}

#[test]
fn an_image_that_is_the_source_as_root() {
    let dir = dir("itself");
    fs::hard_link(dir.join("disk.raw"), dir.join("hard")).unwrap();
    symlink("disk.raw", dir.join("soft")).unwrap();
    for image in ["disk.raw", "./disk.raw", "hard", "soft"] {
        for options in ["", "--force", "--no-sync"] {
            let says = format!("{image}: is the source itself (the same file)\n");
            refused(&dir, &format!("{options} disk.raw {image}"), &says);
        }
    }
    refused(&dir, "soft hard", "hard: is the source itself (the same file)\n");
    let disk = Loop::over(&dir.join("disk.raw"));
    for image in ["disk.raw", "hard", "soft"] {
        let says = format!("{image}: is the source itself (the file behind the loop device)\n");
        refused(&dir, &format!("--force {} {image}", disk.path().display()), &says);
    }
}

/// Mounts the device, and holds every one of these sources to a refusal of an image on it.
#[track_caller]
fn refused_on_itself(dir: &Dir, device: &Path, sources: &[&Path]) {
    make_ext4(device);
    let mount = Mount::new("rw", device, dir.join("mnt"));
    fs::create_dir(mount.join("deep")).unwrap();
    fs::write(mount.join("deep/old.qcow2"), OLD).unwrap();
    for source in sources {
        for image in ["mnt/new.qcow2", "mnt/deep/old.qcow2"] {
            let before = [Listing::of(mount.point()), Listing::of(&mount.join("deep"))];
            let run = dir.run(&format!("--force {} {image}", source.display()));
            run.exits(1).says(&format!(
                "mkqcow2: {image}: lies on the source: writing it would change what is being read \
                 (write it to another filesystem)\n"
            ));
            let after = [Listing::of(mount.point()), Listing::of(&mount.join("deep"))];
            assert_eq!(after, before);
        }
    }
}

#[test]
fn an_image_on_the_filesystem_that_is_imaged_as_root() {
    let dir = Dir::new("on-itself");
    let file = dir.sparse("fs.raw", 8 * MIB, &[]);
    let disk = Loop::over(&file);
    refused_on_itself(&dir, disk.path(), &[disk.path(), &file]);
}

#[test]
fn an_image_on_a_partition_of_the_disk_that_is_imaged_as_root() {
    let dir = Dir::new("on-its-partition");
    let file = dir.sparse("disk.raw", 6 * MIB, &[]);
    let disk = Loop::partitioned(&file);
    let partition = disk.partition(1);
    refused_on_itself(&dir, &partition, &[disk.path(), &partition, &file]);

    // The neighbour is another matter.
    let mount = Mount::new("rw", &partition, dir.join("mnt"));
    dir.run(&format!("{} mnt/new.qcow2", disk.partition(2).display()))
        .exits(0);
    drop(mount);
}

#[test]
fn an_image_on_a_file_on_the_filesystem_that_is_imaged_as_root() {
    let dir = Dir::new("on-nested");
    let outer = Loop::over(&dir.sparse("outer.raw", 16 * MIB, &[]));
    make_ext4(outer.path());
    let below = Mount::new("rw", outer.path(), dir.join("below"));
    fs::write(below.join("inner.raw"), vec![0; 8 << 20]).unwrap();
    let inner = Loop::over(&below.join("inner.raw"));
    refused_on_itself(
        &dir,
        inner.path(),
        &[outer.path(), inner.path(), &dir.join("outer.raw")],
    );
}

#[test]
fn a_link_to_an_image_is_followed() {
    let dir = dir("links");
    symlink("old.qcow2", dir.join("link")).unwrap();
    symlink("new.qcow2", dir.join("dangling")).unwrap();
    symlink("link", dir.join("chain")).unwrap();
    for (link, image) in [
        ("link", "old.qcow2"),
        ("dangling", "new.qcow2"),
        ("chain", "old.qcow2"),
    ] {
        dir.run(&format!("disk.raw {link}")).exits(0);
        assert!(dir.join(link).is_symlink());
        assert!(dir.join(image).symlink_metadata().unwrap().is_file());
        assert_equals(&dir.join("disk.raw"), &dir.join(image));
        fs::remove_file(dir.join(image)).unwrap();
    }
    assert_eq!(dir.names(), ["chain", "dangling", "disk.raw", "link"]);
}

#[test]
fn options_that_mean_nothing() {
    let dir = dir("usage");
    for (options, says) in [
        (
            "--cluster-size 1000",
            "1000 bytes, expected a power of two from 512 to 2M",
        ),
        (
            "--cluster-size 256",
            "256 bytes, expected a power of two from 512 to 2M",
        ),
        (
            "--cluster-size 4M",
            "4194304 bytes, expected a power of two from 512 to 2M",
        ),
        (
            "--cluster-size 64X",
            "'X' is not a unit, expected K, M, G, T, P or E",
        ),
        (
            "--cluster-size big",
            "'big' is not a unit, expected K, M, G, T, P or E",
        ),
        (
            "--cluster-size K",
            "expected a number of bytes, such as 4096, 64K or 1GiB",
        ),
        ("--compat 2", "invalid value '2' for '--compat"),
        ("--scan hard", "invalid value 'hard' for '--scan"),
        (
            "--on-read-error never",
            "invalid value 'never' for '--on-read-error",
        ),
        ("--offset=-512", "'-512' is not a unit"),
        (
            "--offset 0x10K",
            "'0x10K' is not a hexadecimal number of bytes, such as 0x4100000 (without a unit)",
        ),
        ("--length 0x10000000000000000", "is 16 EiB or more"),
        ("--length 16E", "is 16 EiB or more"),
        ("-j 0", "expected a number from 1 to 256"),
        ("-j 257", "expected a number from 1 to 256"),
        ("-j many", "expected a number from 1 to 256"),
        ("-q -p", "cannot be used with"),
        ("-q -v", "cannot be used with"),
        ("--frobnicate", "unexpected argument '--frobnicate'"),
    ] {
        misused(&dir, &format!("{options} disk.raw old.qcow2"), says);
    }
}

#[test]
fn names_that_are_missing_or_too_many() {
    let dir = dir("usage-names");
    misused(&dir, "disk.raw", "<IMAGE>");
    misused(&dir, "disk.raw old.qcow2 more", "unexpected argument 'more'");
    misused(&dir, "- old.qcow2", "SOURCE cannot be standard input");
    misused(&dir, "--json disk.raw -", "both write to standard output");
    misused(&dir, "-n --json disk.raw -", "both write to standard output");
    misused(
        &dir,
        "-c zstd disk.raw -",
        "--compress to standard output needs --two-pass",
    );
}

#[test]
fn a_source_named_like_a_command() {
    let dir = dir("verbs");
    for verb in ["check", "compare", "info", "map", "restore", "verify"] {
        fs::copy(dir.join("disk.raw"), dir.join(verb)).unwrap();
        let says = format!("write ./{verb} for the file");
        misused(&dir, &format!("-n {verb} old.qcow2"), &says);
        misused(&dir, &format!("-- {verb} old.qcow2"), &says);
    }
    dir.run("./check old.qcow2").exits(0);
    dir.run("--overwrite disk.raw check").exits(0);
}

#[test]
fn names_cannot_play_tricks_on_the_terminal() {
    let dir = dir("tricks");
    let name = OsStr::new("no\nsuch\u{1b}[31m\r\u{9b}2Jfile");
    let shown = "no\\nsuch\\u{1b}[31m\\r\\u{9b}2Jfile";

    let in_json = dir.run_with([name, OsStr::new("new.qcow2"), OsStr::new("--json")]);
    let (object, text) = (in_json.json(), in_json.stdout());
    assert_eq!(object["path"], name.to_str().unwrap());
    assert!(!text.contains(['\u{1b}', '\r', '\u{9b}']), "{text:?}");

    let run = refused_with(1, &dir, &[name, OsStr::new("new.qcow2")]);
    assert!(
        run.stderr()
            .starts_with(&format!("mkqcow2: {shown}: cannot open: ")),
        "{}",
        run.stderr()
    );

    fs::create_dir(dir.join(name)).unwrap();
    let run = refused_with(1, &dir, &[OsStr::new("disk.raw"), name]);
    assert!(
        run.stderr()
            .starts_with(&format!("mkqcow2: {shown}: is a directory")),
        "{}",
        run.stderr()
    );

    fs::rename(dir.join("disk.raw"), dir.join(name).join("x")).unwrap();
    let inside = dir.join(name).join("x");
    let run = dir
        .run_with([inside.as_os_str(), OsStr::new("new.qcow2"), OsStr::new("-v")])
        .exits(0);
    for text in [run.stdout(), run.stderr()] {
        assert!(!text.contains(['\u{1b}', '\r', '\u{9b}']), "{text:?}");
    }
}

#[test]
fn names_need_not_be_text() {
    let dir = dir("bytes");
    let image = OsStr::from_bytes(b"\xff\xfe image");
    let run = dir.run_with([OsStr::new("disk.raw"), image]).exits(0);
    assert!(
        run.stdout()
            .starts_with("\u{fffd}\u{fffd} image: 1.00 MiB source"),
        "{}",
        run.stdout()
    );
    assert_equals(&dir.join("disk.raw"), &dir.join(image));

    let before = Listing::of(dir.path());
    let run = dir.run_with([
        image,
        OsStr::new("disk.raw"),
        OsStr::new("--json"),
        OsStr::new("--no-clobber"),
    ]);
    assert_eq!(run.exits(1).json()["source"], "\u{fffd}\u{fffd} image");
    assert_eq!(Listing::of(dir.path()), before);
}

#[test]
fn an_image_on_which_something_is_mounted_as_root() {
    let dir = dir("image-mounted");
    fs::write(dir.join("behind"), "something else").unwrap();
    let _mount = Mount::on_file(&dir.join("behind"), dir.join("old.qcow2"));

    dir.run("disk.raw old.qcow2")
        .exits(1)
        .says("mkqcow2: old.qcow2: is a mount point, which no new image can replace\n");

    assert_eq!(fs::read(dir.join("behind")).unwrap(), b"something else");
}
