//! What waits in somebody's cache when the source is read: it is brought to the disk first, or it is told.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::loops::{Fuse, Held, Loop, Mount, Running, make_ext4};
use crate::support::{Dir, MKQCOW2, assert_equals, noise, qemu, tool};

const MIB: u64 = 1 << 20;

/// A program that has a file mapped and has written to its first page, which nothing has brought to the disk since.
struct Mapper {
    program: Child,
}

impl Mapper {
    fn of(file: &Path) -> Self {
        let script = "\
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    map = mmap.mmap(file.fileno(), 0)
map[0] = map[0] ^ 1
for turn in range(2):
    print(turn, flush=True)
    sys.stdin.readline()
    map[1] = map[1] ^ 1
";
        let program = Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3: {error}: apt-get install python3"));
        let mut mapper = Self { program };
        mapper.reports("0");
        mapper
    }

    fn reports(&mut self, expected: &str) {
        let mut line = String::new();
        let from = self.program.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, from).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }

    /// Writes to the page again.
    fn writes(&mut self) {
        self.program.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.reports("1");
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Writes through a mapping of `mapped` while the arguments are carried out.
fn is_noticed(dir: &Dir, mapped: &Path, arguments: &str, says: &str) {
    let mut mapper = Mapper::of(mapped);
    let run = Held::start(dir, arguments);
    mapper.writes();
    run.let_go().exits(3).says(says);
    drop(mapper);
    // And without a write, there is nothing to notice.
    let mapper = Mapper::of(mapped);
    Held::start(dir, arguments).let_go().exits(0);
    drop(mapper);
}

#[test]
fn a_write_to_a_page_of_a_mapped_file_that_was_written_to_before_is_told() {
    let dir = Dir::new("caches-mapped");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]);

    is_noticed(
        &dir,
        &file,
        "disk.raw image.qcow2",
        "the source changed while it was read (its modification time changed)",
    );
}

#[test]
fn a_write_to_a_mapped_file_behind_the_source_is_told_as_root() {
    let dir = Dir::new("caches-mapped-behind");
    let file = dir.sparse("disk.raw", 6 * MIB, &[(5 * MIB, &noise(1, 1 << 20))]);
    let disk = Loop::over(&file);
    let over = Loop::over(disk.path());

    for source in [disk.path(), over.path()] {
        is_noticed(
            &dir,
            &file,
            &format!("{} image.qcow2", source.display()),
            "the source changed while it was read (the file behind the device was written to)",
        );
    }
}

#[test]
fn a_write_to_a_mapped_file_behind_a_device_that_cannot_be_written_to_is_told_as_root() {
    let dir = Dir::new("caches-mapped-read-only");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]);
    // Nothing is flushed through it.
    let disk = Loop::read_only(&file);

    is_noticed(
        &dir,
        &file,
        &format!("{} image.qcow2", disk.path().display()),
        "the source changed while it was read (the file behind the device was written to)",
    );
}

#[test]
fn a_write_to_a_mapped_file_that_an_image_needs_is_told() {
    let dir = Dir::new("caches-mapped-image");
    dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]);
    qemu::img(&dir, "create -q -f qcow2 -F raw -b disk.raw top.qcow2");

    is_noticed(
        &dir,
        &dir.join("disk.raw"),
        "--source-format qcow2 --follow top.qcow2 image.qcow2",
        "the source changed while it was read",
    );
}

#[test]
fn a_program_that_has_a_file_in_memory_mapped_is_named_as_root() {
    let dir = Dir::new("caches-tmpfs");
    let memory = Mount::tmpfs(8 << 20, dir.join("memory"));
    let file = memory.join("disk.raw");
    fs::write(&file, noise(1, 1 << 20)).unwrap();
    let disk = Loop::over(&file);
    for source in [&file, disk.path()] {
        let arguments = format!("{} image.qcow2", source.display());
        let mapper = Mapper::of(&file);
        let says = format!("process {}, \"python3\", has it mapped", mapper.program.id());
        dir.run(&arguments).exits(3).says(&says);
        let run = Held::start(&dir, &arguments);
        drop(mapper);
        run.let_go()
            .exits(3)
            .says("a process that could write to it closed it");
        assert_eq!(dir.run(&arguments).exits(0).stderr(), "");
        // Who only reads it is no matter.
        let run = Held::start(&dir, &arguments);
        drop(File::open(&file).unwrap());
        run.let_go().exits(0);
    }
}

#[test]
fn a_write_that_waits_in_the_cache_of_the_source_is_told_as_root() {
    let dir = Dir::new("caches-waiting");
    let disk = Loop::over(&dir.sparse("disk.raw", MIB, &[(0, &noise(1, 1 << 20))]));
    let device = File::options().read(true).write(true).open(disk.path()).unwrap();
    let run = Held::start(&dir, &format!("{} image.qcow2", disk.path().display()));

    device.write_all_at(b"not on the disk yet", 4096).unwrap();

    run.let_go()
        .exits(3)
        .says("(8 sectors were written to the device)");
}

#[test]
fn what_was_written_to_a_mounted_filesystem_before_is_in_the_image_as_root() {
    let dir = Dir::new("caches-mounted");
    let file = dir.sparse("disk.raw", 32 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    for (number, source) in [disk.path(), &file].into_iter().enumerate() {
        let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
        let content = noise(7 + number as u64, 10 << 20);
        fs::write(mount.join("new"), &content).unwrap();

        dir.run(&format!("-f {} image.qcow2", source.display()))
            .exits(3)
            .says("the image may mix old and new data");
        drop(mount);

        dir.run("restore image.qcow2 restored.raw").exits(0);
        // Its journal is replayed.
        let restored = Loop::over(&dir.join("restored.raw"));
        let restored = Mount::new("ro", restored.path(), dir.join("restored"));
        let found = fs::read(restored.join("new")).unwrap_or_default();
        assert!(found == content, "{}: {} bytes", source.display(), found.len());
    }
}

#[test]
fn a_filesystem_that_is_frozen_is_imaged_all_the_same_as_root() {
    let dir = Dir::new("caches-frozen");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    let point = mount.point().to_str().unwrap();
    tool("fsfreeze", ["--freeze", point]);

    let run = dir.run(&format!("--force {} image.qcow2", disk.path().display()));

    tool("fsfreeze", ["--unfreeze", point]);
    run.exits(3);
}

#[test]
fn a_plan_of_what_is_mounted_needs_no_force_and_writes_nothing_as_root() {
    let dir = Dir::new("caches-plan");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    fs::write(mount.join("new"), b"waits").unwrap();
    let (written, device) = (disk.sectors_written(), disk.path().display());
    let on = mount.point().display();

    let run = dir.run(&format!("-n --json {device} image.qcow2")).exits(0);
    let plan = run.json();
    run.says(&format!(
        "mkqcow2: {device}: warning: the source is mounted read-write on {on}: would be imaged"
    ))
    .says(" (the run itself needs --force)\n");
    assert!(plan["in-use"].as_str().unwrap().contains("mounted read-write"));
    assert!(plan["warnings"][0].as_str().unwrap().contains("would be imaged"));
    let forced = dir.run(&format!("-n -f {device} image.qcow2")).exits(0);
    assert!(!forced.stderr().contains("needs --force"), "{}", forced.stderr());

    assert_eq!(disk.sectors_written(), written);
    assert_eq!(dir.names(), ["disk.raw", "mnt"]);
    dir.run(&format!("{device} image.qcow2")).exits(1);
}

#[test]
fn what_a_plan_says_is_copied_whole_was_not_copied_yet() {
    let dir = Dir::new("caches-plan-doubt");
    let file = dir.sparse("disk.raw", 8 * MIB, &[]);
    make_ext4(&file);
    tool("debugfs", ["-w", "-R", "ssv state 2", file.to_str().unwrap()]);

    let plan = dir.run("-n disk.raw image.qcow2").exits(0).stderr();
    assert!(plan.ends_with(": would be copied whole\n"), "{plan}");
    dir.run("disk.raw image.qcow2").exits(0).says(": copied whole\n");
}

#[test]
fn what_cannot_be_brought_to_the_disk_is_told_as_root() {
    let dir = Dir::new("caches-failing");
    let plugin = ["--filter=error", "memory", "size=4M", "error-pwrite-rate=100%"];
    let failing = Fuse::writable_disk(dir.join("bad.raw"), &plugin);
    let disk = Loop::over(failing.path());
    let device = File::options().write(true).open(disk.path()).unwrap();
    let waits = || device.write_all_at(b"cannot be written", 0).unwrap();
    let path = disk.path().display();

    waits();
    dir.run(&format!("{path} image.qcow2")).exits(3).says(&format!(
        "mkqcow2: {path}: warning: earlier writes to the source could not be flushed, and may be missing in the \
         image: cannot sync {path}: Input/output error"
    ));
    // It was said once. Nothing waits any more.
    dir.run(&format!("{path} image.qcow2")).exits(0);

    waits();
    dir.run(&format!("compare {path} {path}"))
        .exits(2)
        .says("earlier writes to it could not be flushed");

    let run = Held::start(&dir, &format!("{path} image.qcow2"));
    waits();
    run.let_go()
        .exits(3)
        .says("the source changed while it was read (");

    dir.run("disk.raw image.qcow2").exits(1);
    dir.sparse("disk.raw", MIB, &[]);
    dir.run("disk.raw image.qcow2").exits(0);
    waits();
    dir.run(&format!("restore image.qcow2 {path}"))
        .exits(1)
        .says("cannot flush earlier writes to it");
}

#[test]
fn a_file_that_cannot_be_synced_is_told() {
    let dir = Dir::new("caches-unsynced");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 70_000))]);
    tool("strace", ["--version"]);
    for (number, says) in [
        (
            1,
            "earlier writes to the source could not be flushed, and may be missing in the image: \
             cannot sync disk.raw: Input/output error",
        ),
        (
            2,
            "the source changed while it was read (writes to it failed: Input/output error",
        ),
    ] {
        let mut command = Command::new("strace");
        command.args(["-qq", "-f", "-o", "/dev/null", "-P"]).arg(&file);
        command.args(["-e", &format!("inject=fsync:error=EIO:when={number}")]);
        command
            .args([MKQCOW2, "disk.raw", "image.qcow2"])
            .current_dir(dir.path());
        Running::of(command).ends().exits(3).says(says);
        assert_equals(&file, &dir.join("image.qcow2"));
    }
}

#[test]
fn an_image_that_cannot_be_synced_is_told() {
    let dir = Dir::new("caches-unsynced-image");
    dir.sparse("disk.raw", MIB, &[(0, &noise(1, 70_000))]);
    dir.run("disk.raw image.qcow2").exits(0);
    tool("strace", ["--version"]);
    for (arguments, status) in [
        ("restore image.qcow2 restored.raw", 3),
        ("compare image.qcow2 disk.raw", 2),
        ("--source-format qcow2 image.qcow2 new.qcow2", 3),
        // They only look.
        ("verify image.qcow2", 0),
        ("map image.qcow2", 0),
        ("-n --source-format qcow2 image.qcow2 new.qcow2", 0),
    ] {
        let mut command = Command::new("strace");
        command.args(["-qq", "-f", "-o", "/dev/null", "-P"]);
        command.arg(dir.join("image.qcow2"));
        command.args(["-e", "inject=fsync:error=EIO:when=1", MKQCOW2]);
        command.args(arguments.split(' ')).current_dir(dir.path());
        let run = Running::of(command).ends().exits(status);
        if status > 0 {
            run.says("could not be flushed")
                .says("image.qcow2: Input/output error");
        }
    }
}

#[test]
fn what_waits_for_a_device_over_the_source_is_in_the_image_as_root() {
    let dir = Dir::new("caches-over");
    let file = dir.sparse("disk.raw", MIB, &[]);
    let disk = Loop::over(&file);
    let device = File::options().write(true).open(disk.path()).unwrap();
    device.write_all_at(&noise(3, 5000), 70_000).unwrap();

    dir.run("disk.raw image.qcow2").exits(0);

    assert_equals(&file, &dir.join("image.qcow2"));
    let mut found = vec![0; 5000];
    File::open(&file)
        .unwrap()
        .read_exact_at(&mut found, 70_000)
        .unwrap();
    assert!(found == noise(3, 5000));
}
