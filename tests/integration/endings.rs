//! What fails last: words that nobody can read, files that cannot be closed, names that cannot be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::faults::{Job, OLD};
use crate::ground::AppendOnly;
use crate::support::loops::{Fuse, Loop, Running};
use crate::support::{Dir, MKQCOW2, assert_equals, names_in, noise};

const MIB: u64 = 1 << 20;

/// A directory with a disk and its image.
pub fn imaged(test: &str) -> Dir {
    let dir = Dir::new(test);
    dir.sparse("disk.raw", MIB, &[(0, &noise(1, 100_000))]);
    dir.run("-q disk.raw image.qcow2").exits(0).in_silence();
    dir
}

/// Runs it with its outputs redirected.
#[track_caller]
fn redirected(dir: &Dir, arguments: &str, to: &str, status: i32) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec '{MKQCOW2}' {arguments} {to}")]);
    let output = shell.current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments} {to}\n{said}");
    said
}

#[test]
fn an_answer_that_nobody_can_read_is_a_failure() {
    let dir = imaged("endings-answers");
    let closed = "is closed, or is /dev/null opened for reading and writing, which looks the same";
    for (arguments, status) in [
        ("--json disk.raw new.qcow2", 3),
        ("-n --json disk.raw new.qcow2", 1),
        ("-n disk.raw new.qcow2", 1),
        ("restore --json image.qcow2 new.raw", 3),
        ("restore -n --json image.qcow2 new.raw", 1),
        ("restore -n image.qcow2 new.raw", 1),
        ("check --json image.qcow2", 1),
        ("verify --json image.qcow2", 1),
        ("info --json image.qcow2", 1),
        ("info image.qcow2", 1),
        ("map --json image.qcow2", 1),
        ("map image.qcow2", 1),
        ("map disk.raw", 1),
        ("map --regions disk.raw", 1),
        ("map --regions --json disk.raw", 1),
        ("compare --json image.qcow2 disk.raw", 2),
        ("compare --all --json image.qcow2 disk.raw", 2),
        ("compare --all image.qcow2 disk.raw", 2),
    ] {
        for (to, why) in [
            (">&-", closed),
            ("1<>/dev/null", closed),
            ("1</dev/null", "Bad file descriptor"),
            (">/dev/full", "No space left on device"),
        ] {
            let said = redirected(&dir, arguments, to, status);
            let says = format!("mkqcow2: cannot write to standard output: {why}");
            assert!(said.starts_with(&says), "{arguments} {to}\n{said}");
        }
        redirected(&dir, arguments, ">/dev/null", 0);
    }
    assert_equals(&dir.join("disk.raw"), &dir.join("new.qcow2"));
    redirected(&dir, "-n disk.raw -", ">/dev/null 2>&-", 1);
}

#[test]
fn where_the_status_says_it_all_nobody_need_listen() {
    let dir = imaged("endings-verdicts");
    fs::write(dir.join("other.raw"), vec![1; 1 << 20]).unwrap();
    for (arguments, status) in [
        ("disk.raw new.qcow2", 0),
        ("restore image.qcow2 new.raw", 0),
        ("check image.qcow2", 0),
        ("check -q image.qcow2", 0),
        ("verify image.qcow2", 0),
        ("compare image.qcow2 disk.raw", 0),
        ("compare image.qcow2 other.raw", 1),
        ("--help", 0),
        ("--version", 0),
    ] {
        for to in [">&-", "1<>/dev/null"] {
            assert_eq!(redirected(&dir, arguments, to, status), "", "{arguments} {to}");
        }
    }
    for (arguments, status) in [
        ("check image.qcow2", 1),
        ("check -q image.qcow2", 0),
        ("verify image.qcow2", 1),
        ("compare image.qcow2 disk.raw", 2),
        ("--help", 1),
        ("restore --help", 1),
    ] {
        redirected(&dir, arguments, ">/dev/full", status);
    }
}

/// The closes of one thread, in order, of a run in which none fails. Each thread counts for itself.
fn closes(dir: &Dir, arguments: &str) -> Vec<String> {
    calls(dir, "close", arguments)
}

/// The same of another system call.
fn calls(dir: &Dir, call: &str, arguments: &str) -> Vec<String> {
    let trace = dir.join("calls");
    let expression = format!("trace={call}");
    let options = [
        "-f",
        "-qq",
        "-y",
        "-e",
        &expression,
        "-o",
        trace.to_str().unwrap(),
    ];
    let strace = options
        .into_iter()
        .chain([MKQCOW2])
        .chain(arguments.split_whitespace());
    let mut command = Command::new("strace");
    let output = command.args(strace).current_dir(dir.path()).output();
    let output = output.unwrap_or_else(|error| panic!("strace: {error} (apt-get install strace)"));
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(trace).unwrap();
    let thread = text.lines().last().unwrap().split_whitespace().next().unwrap();
    let lines = text.lines().filter(|line| line.starts_with(thread));
    lines.map(str::to_owned).collect()
}

/// Runs it with a system call that fails.
fn injected(dir: &Dir, fault: &str, arguments: &str, to: &str) -> Output {
    let mut shell = Command::new("bash");
    let call = fault.split_once(':').unwrap().0;
    let script =
        format!("strace -f -qq -o trace -e trace={call} -e inject={fault} '{MKQCOW2}' {arguments} {to}");
    let output = shell
        .args(["-c", &script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let trace = fs::read_to_string(dir.join("trace")).unwrap_or_default();
    assert!(
        trace.contains("(INJECTED)"),
        "no fault was injected (apt-get install strace): {output:?}"
    );
    output
}

/// Holds it to a status, and to what it says first.
#[track_caller]
fn fails(dir: &Dir, fault: &str, arguments: &str, to: &str, (status, says): (i32, &str)) {
    let output = injected(dir, fault, arguments, to);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments} {to}\n{said}");
    assert!(said.contains(says), "{arguments} {to}\n{said}");
}

#[test]
fn a_disk_that_is_found_full_when_a_file_is_closed_is_a_failure_even_without_a_sync_as_root() {
    let dir = imaged("endings-close");
    fs::write(dir.join("old.qcow2"), OLD).unwrap();
    let device = Loop::over(&dir.sparse("device.raw", MIB, &[]));
    let path = device.path().display().to_string();
    let to_device = format!("restore --no-sync image.qcow2 {path}");
    // The loader of programs does not bear it, and closes as often as a program that does nothing, or less.
    let fault = &format!("close:error=ENOSPC:when={}+", closes(&dir, "--version").len() + 1);
    let full = "cannot close: No space left on device";
    let kept = format!("mkqcow2: old.qcow2: {full} (nothing was changed; mkqcow2 -n shows how much");
    fails(&dir, fault, "--no-sync disk.raw old.qcow2", "", (1, &kept));
    fails(&dir, fault, "disk.raw old.qcow2", "", (1, &kept));
    let kept = format!("mkqcow2: old.qcow2: {full} (nothing was changed; mkqcow2 restore -n shows how much");
    fails(
        &dir,
        fault,
        "restore --overwrite --no-sync image.qcow2 old.qcow2",
        "",
        (1, &kept),
    );
    let part = format!("{full} (mkqcow2 restore -n shows how much space is needed)\nmkqcow2: /dev/");
    // What was written to is closed once by a duplicate, and then for good.
    let closed = closes(&dir, &to_device);
    let of_device = closed.iter().filter(|line| line.contains(&path)).count();
    // How many files the kernel shows in front of it depends on what else runs.
    let while_written = format!("close:error=ENOSPC:when={}+ -P {path}", of_device - 1);
    fails(&dir, &while_written, &to_device, "", (1, &part));
    let part = "standard output: is incomplete";
    fails(&dir, fault, "--no-sync disk.raw -", ">stream", (1, part));
    fails(
        &dir,
        fault,
        "restore --no-sync image.qcow2 -",
        ">stream",
        (1, part),
    );
    let words = "cannot write to standard output: No space left on device";
    fails(&dir, fault, "map --json image.qcow2", ">map", (1, words));
    // It closes no more than the loader, but for what its words go to.
    let fault = "close:error=ENOSPC -P check";
    fails(&dir, fault, "check --json image.qcow2", ">check", (1, words));
    assert_eq!(fs::read(dir.join("old.qcow2")).unwrap(), OLD);
    let names = dir.names();
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn a_directory_that_cannot_be_listed_is_told_and_one_that_cannot_be_closed_is_no_panic_as_root() {
    let dir = imaged("endings-directory");
    let device = Loop::over(&dir.join("disk.raw"));
    let source = device.path().display();
    let fault = &format!("close:error=EIO:when={}+", closes(&dir, "--version").len() + 1);
    let says = "mkqcow2: new.qcow2: cannot close: Input/output error (nothing was changed)\n";
    fails(&dir, fault, &format!("{source} new.qcow2"), "", (1, says));
    let says = "mkqcow2: cannot write to standard output: Input/output error";
    fails(&dir, fault, &format!("-n {source} new.qcow2"), "", (1, says));
    fails(&dir, fault, &format!("map {source}"), "", (1, says));
    fails(&dir, fault, "check image.qcow2", "", (1, says));
    let says = "mkqcow2: new.qcow2: cannot list its directory: Input/output error\n";
    // Those of the kernel in front of it would count as use of the source.
    let fault = &format!("getdents64:error=EIO -P {}", dir.path().display());
    fails(&dir, fault, "disk.raw new.qcow2", "", (1, says));
    assert!(!dir.join("new.qcow2").exists());
}

/// A directory that keeps every name, seen through a filesystem that does not say so, with an old image.
fn keeping(job: &Job) -> (PathBuf, AppendOnly, Fuse) {
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("image.qcow2"), OLD).unwrap();
    let guard = AppendOnly::new(real.clone());
    let view = Fuse::passthrough(&real, job.dir.join("view"));
    (real, guard, view)
}

/// The temporary files in a directory, newest last as far as their names tell.
fn left_in(directory: &Path) -> Vec<String> {
    let mut names = names_in(directory);
    names.retain(|name| name.starts_with(".mkqcow2-"));
    names
}

#[test]
fn a_temporary_file_that_stays_is_told_and_nothing_else_is_claimed_as_root() {
    let job = Job::new("endings-stays", 4 * MIB);
    let _slow = job.slow();
    let (real, _guard, _view) = keeping(&job);
    let view = job.dir.join("view").display().to_string();
    let mut known = Vec::new();
    let mut is_told = |said: &str| {
        let left = left_in(&real);
        let new: Vec<_> = left.iter().filter(|name| !known.contains(*name)).collect();
        assert_eq!(new.len(), 1, "{said}");
        let line = format!(
            "mkqcow2: {view}/{}: is left over, because it could not be removed: Operation not permitted\n",
            new[0]
        );
        assert!(said.contains(&line), "expected {line}{said}");
        assert!(!said.contains("nothing was changed"), "{said}");
        let path = format!("{view}/{}", new[0]);
        known = left;
        path
    };

    let run = job.dir.run("--json disk.raw view/image.qcow2").exits(1);
    let path = is_told(&run.stderr());
    assert_eq!(run.json()["remains"], path);
    job.dir.run("-q disk.raw good.qcow2").exits(0);
    let run = job
        .dir
        .run("restore --overwrite good.qcow2 view/image.qcow2")
        .exits(1);
    is_told(&run.stderr());
    let run = Running::start(&job.dir, "slow.raw view/image.qcow2").until_it_writes();
    let run = run.send(Signal::TERM).ends().dies_of(Signal::TERM);
    is_told(&run.stderr());
    assert!(run.stderr().contains("stopped by SIGTERM, not written\n"));
    assert_eq!(fs::read(real.join("image.qcow2")).unwrap(), OLD);
}

#[test]
fn a_second_name_of_the_image_that_stays_is_a_warning_as_root() {
    let job = Job::new("endings-second", MIB);
    let (real, _guard, _view) = keeping(&job);
    let run = job
        .dir
        .run("--json --no-clobber disk.raw view/new.qcow2")
        .exits(0);
    let left = left_in(&real);
    assert_eq!(left.len(), 1, "{left:?}");
    let warning = format!(
        "{}/{} is left over, because it could not be removed: Operation not permitted",
        job.dir.join("view").display(),
        left[0]
    );
    assert_eq!(run.json()["warnings"], serde_json::json!([warning]));
    assert!(
        run.stderr()
            .contains(&format!("view/new.qcow2: warning: {warning}\n")),
        "{}",
        run.stderr()
    );
    assert_equals(&job.disk, &real.join("new.qcow2"));
}

#[test]
fn every_signal_that_kills_is_told_and_leaves_nothing_as_root() {
    let job = Job::new("endings-signals", 4 * MIB);
    let _slow = job.slow();
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("image.qcow2"), OLD).unwrap();
    let _view = Fuse::passthrough(&real, job.dir.join("view"));
    for (signal, name) in [
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let run = Running::start(&job.dir, "slow.raw view/image.qcow2").until_it_writes();
        assert_eq!(left_in(&real).len(), 1, "{name}");
        run.send(signal).ends().dies_of(signal).says(&format!(
            "mkqcow2: view/image.qcow2: stopped by {name}, not written\n"
        ));
        assert_eq!(left_in(&real), Vec::<String>::new(), "{name}");
        assert_eq!(fs::read(real.join("image.qcow2")).unwrap(), OLD);
    }
}
