//! Who uses a source or a target cannot always be found out: that is not taken for "nobody".

use std::fs;
use std::path::Path;

use crate::support::loops::{Loop, Mount, Running, make_ext4};
use crate::support::{Dir, MKQCOW2, Run, assert_equals, noise, tool};

const MIB: u64 = 1 << 20;

/// Runs the program by another one.
fn under(dir: &Dir, program: &[&str], arguments: &str) -> Run {
    let (name, first) = program.split_first().unwrap();
    // Its absence would else pass for a refusal.
    tool(name, ["--version"]);
    let mut command = std::process::Command::new(name);
    command
        .args(first)
        .arg(MKQCOW2)
        .args(arguments.split_whitespace())
        .current_dir(dir.path());
    Running::of(command).ends()
}

/// Runs it where something is mounted over a directory, so that nothing of the kernel shows there.
fn without(dir: &Dir, directory: &str, arguments: &str) -> Run {
    let script = format!("mount -t tmpfs none {directory} && exec \"$0\" \"$@\"");
    under(dir, &["unshare", "--mount", "sh", "-c", &script], arguments)
}

/// Runs it where one kind of call fails for one file of the kernel.
fn failing(dir: &Dir, call: &str, path: &str, arguments: &str) -> Run {
    let inject = format!("inject={call}:error=EIO");
    let strace = [
        "strace",
        "-qq",
        "-f",
        "-o",
        "/dev/null",
        "-P",
        path,
        "-e",
        &inject,
    ];
    under(dir, &strace, arguments)
}

/// As strace calls it, whatever the machine.
const OPEN: &str = "?open,openat";

/// An ext4 in a file, mounted read-write from a loop device over it.
fn mounted(dir: &Dir) -> (Mount, Loop) {
    let file = dir.sparse("mounted.raw", 8 * MIB, &[]);
    make_ext4(&file);
    let disk = Loop::over(&file);
    let mount = Mount::new("rw", disk.path(), dir.join("mnt"));
    (mount, disk)
}

#[test]
fn without_sys_or_proc_a_source_counts_as_in_use_as_root() {
    let dir = Dir::new("unknown-absent");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 70_000))]);
    let _mounted = mounted(&dir);
    for (directory, missing) in [("/sys", "/sys/block"), ("/proc", "/proc/")] {
        let says = format!("perhaps in use: cannot read {missing}");
        for source in ["disk.raw", "mounted.raw"] {
            let arguments = format!("{source} image.qcow2");
            without(&dir, directory, &arguments)
                .exits(1)
                .says(&format!("mkqcow2: {source}: {says}"))
                .says("No such file or directory")
                .says("(/proc and /sys must be mounted and readable; or pass --force)\n");
            assert!(!dir.join("image.qcow2").exists());
            without(&dir, directory, &format!("-n {arguments}"))
                .exits(0)
                .says("(the run itself needs --force)");
            without(&dir, directory, &format!("compare {source} {source}"))
                .exits(2)
                .says(&says);
            without(&dir, directory, &format!("map {source}")).exits(0);
        }
        let run = without(&dir, directory, "--force disk.raw image.qcow2");
        run.exits(3).says(&format!("warning: the source is {says}"));
        assert_equals(&file, &dir.join("image.qcow2"));
        // The old image may be in use as well.
        without(&dir, directory, "--force disk.raw image.qcow2")
            .exits(3)
            .says("mkqcow2: image.qcow2: warning: it was perhaps in use");
        assert_equals(&file, &dir.join("image.qcow2"));
        without(&dir, directory, "compare --force disk.raw image.qcow2").exits(0);
        fs::remove_file(dir.join("image.qcow2")).unwrap();
    }
}

#[test]
fn without_sys_or_proc_nothing_is_restored_as_root() {
    let dir = Dir::new("unknown-restore");
    dir.sparse("disk.raw", 8 * MIB, &[(0, &noise(1, 70_000))]);
    dir.run("disk.raw image.qcow2").exits(0);
    let (mount, disk) = mounted(&dir);
    let twin = Loop::over(&dir.join("mounted.raw"));
    let before = fs::read(dir.join("mounted.raw")).unwrap();
    let restore = |directory: &str, target: &Path| {
        without(
            &dir,
            directory,
            &format!("restore image.qcow2 {}", target.display()),
        )
        .exits(1)
        .says("perhaps in use: cannot read ")
        .says("(/proc and /sys must be mounted and readable");
    };
    for directory in ["/sys", "/proc"] {
        restore(directory, twin.path());
        restore(directory, &dir.join("mounted.raw"));
        restore(directory, &dir.join("new.raw"));
    }
    assert!(fs::read(dir.join("mounted.raw")).unwrap() == before);
    assert!(!dir.join("new.raw").exists());
    drop((mount, disk));
    // What is not known can be forced, what is known cannot.
    let target = Loop::over(&dir.sparse("target.raw", 8 * MIB, &[]));
    for directory in ["/sys", "/proc"] {
        for target in [target.path().display().to_string(), "new.raw".to_owned()] {
            without(&dir, directory, &format!("restore --force image.qcow2 {target}"))
                .exits(3)
                .says("warning: perhaps in use: cannot read ");
        }
    }
    let (mount, disk) = mounted(&dir);
    dir.run(&format!("restore --force image.qcow2 {}", disk.path().display()))
        .exits(1)
        .says("mounted read-write");
    drop((mount, disk));
}

#[test]
fn what_cannot_be_read_of_the_kernel_counts_as_use_as_root() {
    let dir = Dir::new("unknown-failing");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 70_000))]);
    let disk = Loop::over(&file);
    let backing = format!("/sys/block/{}/loop/backing_file", disk.name());
    let holders = format!("/sys/dev/block/{}/holders", number(&disk));
    let target = Loop::over(&dir.sparse("target.raw", 2 * MIB, &[]));
    dir.run("disk.raw restorable.qcow2").exits(0);
    for (call, path) in [
        (OPEN, "/sys/block"),
        ("getdents64", "/sys/block"),
        (OPEN, &backing),
        ("read", &backing),
        (OPEN, &holders),
        (OPEN, "/proc/self/mountinfo"),
        (OPEN, "/proc/swaps"),
        ("read", "/proc/swaps"),
        (OPEN, "/proc/locks"),
        ("read", "/proc/locks"),
    ] {
        let says = format!("perhaps in use: cannot read {path}: Input/output error");
        for source in ["disk.raw", disk.path().to_str().unwrap()] {
            let arguments = format!("{source} image.qcow2");
            failing(&dir, call, path, &arguments).exits(1).says(&says);
            assert!(!dir.join("image.qcow2").exists(), "{call} {path}");
            failing(&dir, call, path, &format!("--force {arguments}"))
                .exits(3)
                .says(&says);
            assert_equals(&file, &dir.join("image.qcow2"));
            fs::remove_file(dir.join("image.qcow2")).unwrap();
        }
        if path != holders {
            let restore = format!("restore restorable.qcow2 {}", target.path().display());
            failing(&dir, call, path, &restore).exits(1).says(&says);
        }
    }
    let content = fs::read(dir.join("target.raw")).unwrap();
    assert!(content.iter().all(|byte| *byte == 0));
}

fn number(disk: &Loop) -> String {
    let path = format!("/sys/block/{}/dev", disk.name());
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

#[test]
fn with_too_few_files_no_use_is_overlooked_as_root() {
    let dir = Dir::new("unknown-files");
    let (_mount, disk) = mounted(&dir);
    let mut refusals = 0;
    for limit in 3..24 {
        let limit = format!("--nofile={limit}");
        for source in ["mounted.raw", disk.path().to_str().unwrap()] {
            let run = under(&dir, &["prlimit", &limit], &format!("{source} image.qcow2"));
            // Without a file to spare it does not even start.
            assert!(matches!(run.status(), 1 | 127), "{limit}: {}", run.stderr());
            refusals += usize::from(run.stderr().contains("perhaps in use"));
        }
    }
    assert!(refusals > 0, "the limit was not low enough");
    assert!(!dir.join("image.qcow2").exists());
}

#[test]
fn a_device_that_cannot_be_asked_for_is_no_free_device_as_root() {
    let dir = Dir::new("unknown-claim");
    let file = dir.sparse("disk.raw", MIB, &[(0, &noise(1, 70_000))]);
    let disk = Loop::over(&file);
    let node = disk.path().to_str().unwrap();

    let says = format!("perhaps in use: cannot open {node} exclusively: Input/output error");
    failing(&dir, OPEN, node, "disk.raw image.qcow2")
        .exits(1)
        .says(&says);
    failing(&dir, OPEN, node, "--force disk.raw image.qcow2")
        .exits(3)
        .says(&says);
}
