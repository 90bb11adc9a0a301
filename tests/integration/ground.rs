//! What a new file would lie on: not among the devices, and in memory only with a word about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::endings::imaged;
use crate::support::loops::Mount;
use crate::support::{Dir, MKQCOW2, assert_equals, root, tool};

const MIB: u64 = 1 << 20;

/// A directory with a disk and its image, for a test that makes files in /dev, mounts, or locks directories.
fn dir(test: &str) -> Dir {
    root::needed();
    imaged(test)
}

/// Something that must not be there when the test ends.
struct Gone(PathBuf);

impl Gone {
    fn new(name: &str) -> Self {
        Self(format!("{name}-{}", std::process::id()).into())
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shell(dir: &Dir, script: &str) -> Output {
    let mut shell = Command::new("bash");
    shell
        .args(["-c", script])
        .current_dir(dir.path())
        .env("MKQCOW2", MKQCOW2);
    shell.output().unwrap()
}

/// Holds both ways of writing a file there to a refusal of a device that is not there.
#[track_caller]
fn is_no_device(dir: &Dir, place: &Path) {
    let place = place.display();
    let says = format!("mkqcow2: {place}: no such device, ");
    for command in [
        format!("disk.raw {place}"),
        format!("-n disk.raw {place}"),
        format!("--no-sync --json disk.raw {place}"),
        format!("restore image.qcow2 {place}"),
        format!("restore -n image.qcow2 {place}"),
    ] {
        let said = dir.run(&command).exits(1).says(&says).stderr();
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!Path::new(&place.to_string()).exists());
}

#[test]
fn a_file_in_the_place_of_a_mistyped_device_is_refused_as_root() {
    let dir = dir("ground-devices");
    let missing = Gone::new("/dev/mkqcow2-no-such-disk");
    is_no_device(&dir, &missing.0);
    let below = Gone::new("/dev/mkqcow2-directory");
    fs::create_dir_all(below.0.join("deep")).unwrap();
    is_no_device(&dir, &below.0.join("disk"));
    is_no_device(&dir, &below.0.join("deep/disk"));
    std::os::unix::fs::symlink(&missing.0, dir.join("link")).unwrap();
    is_no_device(&dir, Path::new("link"));
    // What tells is the filesystem, wherever it is mounted.
    let elsewhere = Mount::of_type("devtmpfs", Path::new("devtmpfs"), dir.join("devices"));
    is_no_device(&dir, &elsewhere.point().join(missing.0.file_name().unwrap()));
}

#[test]
fn a_file_that_is_among_the_devices_is_not_replaced_as_root() {
    let dir = dir("ground-devices-old");
    let file = Gone::new("/dev/mkqcow2-typo");
    fs::write(&file.0, "a file").unwrap();
    let place = file.0.display();
    for command in [
        format!("disk.raw {place}"),
        format!("restore image.qcow2 {place}"),
    ] {
        dir.run(&command)
            .exits(1)
            .says(&format!("mkqcow2: {place}: no such device, "));
    }
    assert_eq!(fs::read(&file.0).unwrap(), b"a file");
}

#[test]
fn a_stream_into_a_file_among_the_devices_is_refused_as_root() {
    let dir = dir("ground-devices-stream");
    let file = Gone::new("/dev/mkqcow2-stream");
    for command in ["disk.raw -", "restore image.qcow2 -"] {
        let output = shell(&dir, &format!("\"$MKQCOW2\" {command} > {}", file.0.display()));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("mkqcow2: standard output: no such device, "),
            "{said}"
        );
        assert_eq!(fs::metadata(&file.0).unwrap().len(), 0);
    }
}

#[test]
fn in_a_container_dev_is_a_tmpfs_and_no_place_for_a_file_either_as_root() {
    let dir = dir("ground-devices-container");
    let script = "exec 9< \"$MKQCOW2\"; mount -t tmpfs tmpfs /dev && mkdir /dev/shm && \
                  mount -t tmpfs tmpfs /dev/shm || exit 99; \
                  /proc/self/fd/9 disk.raw /dev/sdzz1; echo $?; \
                  /proc/self/fd/9 restore image.qcow2 /dev/sdzz1; echo $?; \
                  /proc/self/fd/9 -q disk.raw /dev/shm/image.qcow2; echo $?; ls /dev";
    let mut command = Command::new("unshare");
    let output = command
        .args(["--mount", "bash", "-c", script])
        .current_dir(dir.path())
        .env("MKQCOW2", MKQCOW2)
        .output()
        .unwrap();
    let refused = "mkqcow2: /dev/sdzz1: no such device, and a file of this name would be in memory, gone at the \
        next boot\n";
    let told = "mkqcow2: /dev/shm/image.qcow2: warning: is in memory (tmpfs), and gone at the next boot\n";
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!("{refused}{refused}{told}")
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n1\n0\nshm\n");
}

/// Holds both ways of writing a file there to a warning, and to success.
#[track_caller]
fn is_told(dir: &Dir, place: &Path, kind: &str) {
    let shown = place.display();
    let warning = format!("is in memory ({kind}), and gone at the next boot");
    let line = format!("mkqcow2: {shown}: warning: {warning}\n");
    for command in [
        format!("-q disk.raw {shown}"),
        format!("-n disk.raw {shown}"),
        format!("restore --overwrite -q image.qcow2 {shown}"),
        format!("restore -n image.qcow2 {shown}"),
    ] {
        let run = dir.run(&command).exits(0);
        assert_eq!(run.stderr(), line, "{command}");
    }
    for command in [
        format!("--overwrite --json disk.raw {shown}"),
        format!("-n --json disk.raw {shown}"),
        format!("restore --overwrite -n --json image.qcow2 {shown}"),
        format!("restore --overwrite --json image.qcow2 {shown}"),
    ] {
        let object = dir.run(&command).exits(0).json();
        assert_eq!(object["warnings"], serde_json::json!([warning]), "{command}");
        assert_eq!(object["status"], 0);
    }
    dir.run(&format!("--overwrite -q disk.raw {shown}")).exits(0);
    assert_equals(&dir.join("disk.raw"), &dir.join(place));
}

#[test]
fn a_file_in_memory_is_told_and_written_as_root() {
    let dir = dir("ground-memory");
    let shared = Gone::new("/dev/shm/mkqcow2-image");
    is_told(&dir, &shared.0, "tmpfs");
    let tmpfs = Mount::tmpfs(8 * MIB, dir.join("tmpfs"));
    is_told(&dir, Path::new("tmpfs/image.qcow2"), "tmpfs");
    fs::create_dir(tmpfs.join("deep")).unwrap();
    is_told(&dir, Path::new("tmpfs/deep/image.qcow2"), "tmpfs");
    let _ramfs = Mount::of_type("ramfs", Path::new("ramfs"), dir.join("ramfs"));
    is_told(&dir, Path::new("ramfs/image.qcow2"), "ramfs");
}

#[test]
fn a_stream_into_a_file_in_memory_is_told_as_root() {
    let dir = dir("ground-memory-stream");
    let tmpfs = Mount::tmpfs(8 * MIB, dir.join("tmpfs"));
    for (command, file) in [
        ("-q disk.raw -", "image.qcow2"),
        ("restore -q image.qcow2 -", "disk.raw"),
    ] {
        let output = shell(&dir, &format!("\"$MKQCOW2\" {command} > tmpfs/{file}"));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "mkqcow2: standard output: warning: is in memory (tmpfs), and gone at the next boot\n"
        );
    }
    assert_equals(&tmpfs.join("disk.raw"), &tmpfs.join("image.qcow2"));
}

#[test]
fn a_file_in_a_directory_for_temporary_files_is_meant_as_root() {
    let dir = dir("ground-meant");
    let tmpfs = Mount::tmpfs(8 * MIB, dir.join("tmpfs"));
    fs::create_dir(tmpfs.join("deep")).unwrap();
    let quiet = |directory: &str, place: &str| {
        let arguments = ["-q", "disk.raw", place];
        let mut command = dir.command(arguments);
        let output = command.env("TMPDIR", directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stderr.is_empty()
    };
    let absolute = tmpfs.point().to_str().unwrap();
    assert!(quiet(absolute, "tmpfs/image.qcow2"));
    assert!(quiet(absolute, "tmpfs/deep/image.qcow2"));
    assert!(quiet("tmpfs", "tmpfs/image.qcow2"));
    // Not by chance: a filesystem of its own below that directory, or a directory beside it.
    assert!(!quiet("/", "tmpfs/image.qcow2"));
    assert!(!quiet(&format!("{absolute}/deep"), "tmpfs/image.qcow2"));
    assert!(!quiet("", "tmpfs/image.qcow2"));

    // The default, which in a namespace of its own can be covered without harm.
    for directory in ["unset TMPDIR", "export TMPDIR=/var/tmp"] {
        let script = format!(
            "{directory}; exec 9< \"$MKQCOW2\"; mount -t tmpfs -o size=8m tmpfs /tmp && \
             /proc/self/fd/9 -q disk.raw /tmp/image.qcow2"
        );
        let mut command = Command::new("unshare");
        let output = command
            .args(["--mount", "bash", "-c", &script])
            .current_dir(dir.path())
            .env("MKQCOW2", MKQCOW2)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

/// A directory in which names can only be added, until the test ends.
pub struct AppendOnly(PathBuf);

impl AppendOnly {
    pub fn new(directory: PathBuf) -> Self {
        root::needed();
        tool("chattr", ["+a", directory.to_str().unwrap()]);
        Self(directory)
    }
}

impl Drop for AppendOnly {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-a").arg(&self.0).status();
    }
}

#[test]
fn a_file_that_its_directory_keeps_for_ever_is_refused_before_anything_is_read_as_root() {
    let dir = dir("ground-append-only");
    let append_only = dir.join("append-only");
    fs::create_dir(&append_only).unwrap();
    fs::write(append_only.join("old"), "old").unwrap();
    let guard = AppendOnly::new(append_only.clone());
    let names = || fs::read_dir(&append_only).unwrap().count();

    for command in ["disk.raw", "-n disk.raw", "restore image.qcow2"] {
        dir.run(&format!("{command} append-only/old")).exits(1).says(
            "mkqcow2: append-only/old: cannot be replaced, because its directory is append-only \
             (choose a new name, or remove the attribute with chattr -a)\n",
        );
    }
    assert_eq!(names(), 1);
    // A new name is what such a directory is for.
    dir.run("-q disk.raw append-only/new").exits(0).in_silence();
    assert_equals(&dir.join("disk.raw"), &append_only.join("new"));
    assert_eq!(
        (names(), fs::read(append_only.join("old")).unwrap()),
        (2, b"old".to_vec())
    );
    drop(guard);
}
