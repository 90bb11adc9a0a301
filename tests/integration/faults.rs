//! Whatever goes wrong, and whenever: the image is the old one or the new one, nothing else is left, and the
//! message says what happened.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::loops::{Fuse, Held, Loop, Mount, Running, make_ext4, until};
use crate::support::{Dir, MKQCOW2, assert_equals, names_in, noise, root, tool};

const MIB: u64 = 1 << 20;

/// The backup of yesterday.
pub const OLD: &[u8] = b"QFI\xfb\0\0\0\x03, that of the night before";

/// A directory with a disk that cannot be compressed and, perhaps, an old image.
pub struct Job {
    pub dir: Dir,
    pub disk: PathBuf,
}

impl Job {
    pub fn new(test: &str, size: u64) -> Self {
        let dir = Dir::new(test);
        let disk = dir.sparse("disk.raw", size, &[(0, &noise(1, size.try_into().unwrap()))]);
        Self { dir, disk }
    }

    pub fn image(&self) -> PathBuf {
        self.dir.join("image.qcow2")
    }

    pub fn with_old(self) -> Self {
        fs::write(self.image(), OLD).unwrap();
        self
    }

    /// The disk behind a server so slow that there is time for everything.
    pub fn slow(&self) -> Fuse {
        let rate = ["--filter=rate", "file", self.disk.to_str().unwrap(), "rate=16M"];
        Fuse::disk(self.dir.join("slow.raw"), &rate)
    }

    /// A run under a program that changes the circumstances and becomes mkqcow2.
    pub fn under(&self, circumstances: &[&str], arguments: &str) -> Command {
        let mut command = Command::new(circumstances[0]);
        command.args(&circumstances[1..]).arg(MKQCOW2);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub fn still_has_old(&self) {
        assert!(
            fs::read(self.image()).unwrap() == OLD,
            "the old image was touched"
        );
        self.has_no_debris();
    }

    #[track_caller]
    fn has_no_debris(&self) {
        let names = self.dir.names();
        assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
    }
}

/// Stops runs at moments spread over their whole length; returns how many were stopped in time.
pub fn stopped_at_20_moments(job: &Job, options: &str, old: Option<&[u8]>, signal: Signal) -> usize {
    let arguments = &format!("{options} disk.raw image.qcow2");
    // The shortest of some: a machine that is busy with something else while one is timed would let all others end
    // before they are stopped.
    let timed = (0..4).map(|_| {
        let begun = Instant::now();
        job.dir.run(arguments).exits(0);
        begun.elapsed()
    });
    let longest = timed.min().unwrap().mul_f64(1.1);
    let moments = noise(2, 20);
    let stopped = moments.iter().filter(|moment| {
        match old {
            Some(old) => fs::write(job.image(), old).unwrap(),
            None => fs::remove_file(job.image()).unwrap_or_default(),
        }
        let running = Running::start(&job.dir, arguments);
        sleep(longest.mul_f64(f64::from(**moment) / 256.0));
        let run = running.send(signal).ends();

        assert!(run.signal().is_none_or(|number| number == signal.as_raw()));
        let is_old = fs::read(job.image()).ok().as_deref() == old;
        if !is_old {
            assert_equals(&job.disk, &job.image());
        }
        // What it said is true, if it came to say anything.
        assert!(!run.stderr().contains("not written") || is_old);
        assert!(!run.stderr().contains("complete already") || !is_old);
        assert!(run.signal().is_some() || !is_old);
        // Between the last two steps, and only there, SIGKILL leaves a name: of all of the new image.
        for name in job.dir.names().iter().filter(|name| name.starts_with('.')) {
            assert_eq!(signal, Signal::KILL, "{name}");
            assert_equals(&job.disk, &job.dir.join(name));
        }
        run.signal().is_some()
    });
    let stopped = stopped.count();
    job.dir.run(arguments).exits(0);
    job.has_no_debris();
    stopped
}

#[test]
fn killed_at_any_moment_it_leaves_the_old_image_or_the_new_one() {
    let job = Job::new("killed-old", 16 * MIB).with_old();
    let killed = stopped_at_20_moments(&job, "", Some(OLD), Signal::KILL);
    assert!(killed > 5, "{killed} of 20 were killed in time");
}

#[test]
fn killed_at_any_moment_it_leaves_no_image_or_the_new_one() {
    let job = Job::new("killed-new", 16 * MIB);
    let killed = stopped_at_20_moments(&job, "", None, Signal::KILL);
    assert!(killed > 5, "{killed} of 20 were killed in time");
}

#[test]
fn terminated_at_any_moment_it_says_what_it_left() {
    let job = Job::new("terminated-old", 16 * MIB).with_old();
    stopped_at_20_moments(&job, "", Some(OLD), Signal::TERM);
}

#[test]
fn it_dies_of_the_signal_it_was_sent_and_leaves_the_old_image_as_root() {
    let job = Job::new("signals", 4 * MIB).with_old();
    let _slow = job.slow();
    for (signal, name) in [
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
        (Signal::HUP, "SIGHUP"),
    ] {
        Running::start(&job.dir, "slow.raw image.qcow2")
            .until_it_writes()
            .send(signal)
            .ends()
            .dies_of(signal)
            .says(&format!("mkqcow2: image.qcow2: stopped by {name}, not written\n"));
        job.still_has_old();
    }
}

#[test]
fn it_dies_of_the_next_signal_if_it_cannot_say_that_it_was_stopped() {
    let job = Job::new("signals-stuck", MIB).with_old();

    Held::start(&job.dir, "disk.raw image.qcow2").dies_stuck_of(Signal::TERM);

    job.still_has_old();
}

#[test]
fn stopped_without_an_old_image_it_leaves_nothing_as_root() {
    let job = Job::new("signal-new", 4 * MIB);
    let _slow = job.slow();

    let run = Running::start(&job.dir, "slow.raw image.qcow2").until_it_writes();
    run.send(Signal::INT).ends().dies_of(Signal::INT);

    assert_eq!(job.dir.names(), ["disk.raw", "slow.raw"]);
}

#[test]
fn a_hangup_that_nohup_ignores_stays_ignored_as_root() {
    let job = Job::new("nohup", MIB);
    let _slow = job.slow();

    let run = Running::of(job.under(&["nohup"], "slow.raw image.qcow2")).until_it_writes();
    run.send(Signal::HUP).ends().exits(0);

    assert_equals(&job.disk, &job.image());
}

#[test]
fn a_filesystem_without_unnamed_files_will_do_as_root() {
    let job = Job::new("named", 4 * MIB);
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    let view = Fuse::passthrough(&real, job.dir.join("view"));
    let no_tmpfile = rustix::fs::open(
        view.path(),
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR,
        0o600.into(),
    );
    assert!(
        no_tmpfile.is_err(),
        "a filesystem like any other proves nothing here"
    );

    for options in ["", "--no-clobber --no-sync"] {
        let image = real.join("image.qcow2");
        // Through FUSE, which would else take it to be there for another second.
        let _ = fs::remove_file(view.path().join("image.qcow2"));
        job.dir
            .run(&format!("{options} disk.raw view/image.qcow2"))
            .exits(0);
        assert_equals(&job.disk, &image);
        assert_eq!(names_in(&real), ["image.qcow2"]);
    }
    job.dir.run("disk.raw view/image.qcow2").exits(0);
    assert_equals(&job.disk, &real.join("image.qcow2"));
}

#[test]
fn an_image_is_replaced_where_no_mode_can_be_set_as_root() {
    let job = Job::new("modeless", MIB);
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    let view = Fuse::without_modes(&real, job.dir.join("view"));
    let run = || job.dir.run("disk.raw view/image.qcow2").exits(0);
    run();
    let mode = Permissions::from_mode(0o777);
    assert!(
        fs::set_permissions(view.path().join("image.qcow2"), mode).is_err(),
        "a filesystem like any other proves nothing here"
    );

    run();

    assert_equals(&job.disk, &real.join("image.qcow2"));
}

/// The old image in a directory, and a view of that through a filesystem without unnamed files.
fn named(job: &Job) -> (PathBuf, Fuse) {
    let real = job.dir.join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("image.qcow2"), OLD).unwrap();
    let view = Fuse::passthrough(&real, job.dir.join("view"));
    (real, view)
}

/// What is in a directory once FUSE has forgotten open files, which it does a moment after they are closed.
#[track_caller]
fn names_left_in(directory: &Path) -> Vec<String> {
    let is_hidden = |name: &String| name.starts_with(".fuse_hidden");
    until("a directory without open files", || {
        !names_in(directory).iter().any(is_hidden)
    });
    names_in(directory)
}

/// The one temporary file in a directory with an image.
#[track_caller]
fn temporary_in(directory: &Path) -> String {
    let names = names_in(directory);
    let temporary: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with(".mkqcow2-"))
        .collect();
    assert_eq!((temporary.len(), names.len()), (1, 2), "{names:?}");
    let name = temporary[0].clone();
    assert_eq!(Path::new(&name).extension().unwrap(), "tmp");
    name
}

#[test]
fn a_temporary_name_is_removed_by_whatever_ends_the_run_as_root() {
    let job = Job::new("named-ends", 4 * MIB);
    let (real, _view) = named(&job);
    let _slow = job.slow();

    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let run = Running::start(&job.dir, "slow.raw view/image.qcow2").until_it_writes();
        temporary_in(&real);
        run.send(signal).ends().dies_of(signal);
        assert_eq!(names_left_in(&real), ["image.qcow2"]);
    }
    let run = Held::start(&job.dir, "disk.raw view/image.qcow2");
    File::options()
        .write(true)
        .open(&job.disk)
        .unwrap()
        .set_len(MIB)
        .unwrap();
    run.let_go().exits(1);

    assert_eq!(names_left_in(&real), ["image.qcow2"]);
    assert!(fs::read(real.join("image.qcow2")).unwrap() == OLD);
}

#[test]
fn a_temporary_name_that_was_left_is_removed_by_the_next_run_but_none_of_a_run_that_lives_as_root() {
    let job = Job::new("named-stale", 4 * MIB);
    let (real, _view) = named(&job);
    let _slow = job.slow();
    let begin = || Running::start(&job.dir, "slow.raw view/image.qcow2").until_it_writes();
    begin().send(Signal::KILL).ends().dies_of(Signal::KILL);
    let stale = temporary_in(&real);
    fs::write(real.join(".mkqcow2-00000000-1.tmp"), "of another image").unwrap();

    let alive = begin();
    let names = names_in(&real);
    assert!(!names.contains(&stale), "{names:?}");
    job.dir.run("disk.raw view/image.qcow2").exits(0);

    let names = names_left_in(&real);
    assert_eq!(
        names.len(),
        3,
        "of another image, of the run that lives, and the image: {names:?}"
    );
    assert_equals(&job.disk, &real.join("image.qcow2"));
    alive.send(Signal::TERM).ends().dies_of(Signal::TERM);
    assert_eq!(names_left_in(&real), [".mkqcow2-00000000-1.tmp", "image.qcow2"]);
}

#[test]
fn a_temporary_name_that_was_left_is_removed_on_any_filesystem_as_root() {
    let job = Job::new("stale", 4 * MIB);
    let (real, _view) = named(&job);
    let _slow = job.slow();
    let run = Running::start(&job.dir, "slow.raw view/image.qcow2").until_it_writes();
    run.send(Signal::KILL).ends().dies_of(Signal::KILL);
    temporary_in(&real);

    job.dir.run("disk.raw real/image.qcow2").exits(0);

    assert_eq!(names_in(&real), ["image.qcow2"]);
    assert_equals(&job.disk, &real.join("image.qcow2"));
}

#[test]
fn a_full_filesystem_keeps_the_old_image_as_root() {
    let job = Job::new("full-tmpfs", 4 * MIB);
    let plan = job.dir.run("-n --json disk.raw image.qcow2").json();
    let needed = plan["image-size"].as_u64().unwrap();
    // The last one holds the old image, which takes a page, and all data, but not what tells where they are.
    for size in [32 << 10, 700 << 10, needed / 2, 4 * MIB, 4 * MIB + 4096] {
        let full = Mount::tmpfs(size, job.dir.join("full"));
        let image = full.join("image.qcow2");
        fs::write(&image, OLD).unwrap();
        let free = || rustix::fs::statvfs(full.point()).unwrap().f_bfree;
        let before = free();

        job.dir
            .run("disk.raw full/image.qcow2")
            .exits(1)
            .says("mkqcow2: full/image.qcow2: cannot write at 0x")
            .says("No space left on device")
            .says("(nothing was changed; mkqcow2 -n shows how much space is needed)\n");

        assert_eq!(
            (names_in(full.point()), free()),
            (vec!["image.qcow2".to_owned()], before)
        );
        assert!(fs::read(&image).unwrap() == OLD);
    }
    let just_enough = Mount::tmpfs(needed + 4096, job.dir.join("full"));
    fs::write(just_enough.join("image.qcow2"), OLD).unwrap();
    job.dir.run("disk.raw full/image.qcow2").exits(0);
    assert_equals(&job.disk, &just_enough.join("image.qcow2"));
}

#[test]
fn a_full_ext4_keeps_the_old_image_or_none_as_root() {
    let job = Job::new("full-ext4", 12 * MIB);
    for (size, old) in [(2 * MIB, Some(OLD)), (8 * MIB, Some(OLD)), (8 * MIB, None)] {
        let file = job.dir.sparse("small.ext4", size, &[]);
        make_ext4(&file);
        let small = Loop::over(&file);
        let mount = Mount::new("rw", small.path(), job.dir.join("small"));
        let image = mount.join("image.qcow2");
        if let Some(old) = old {
            fs::write(&image, old).unwrap();
        }
        let before = names_in(mount.point());

        job.dir
            .run("disk.raw small/image.qcow2")
            .exits(1)
            .says("No space left on device");

        assert_eq!(names_in(mount.point()), before);
        assert!(fs::read(&image).ok().as_deref() == old);
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_death() {
    let job = Job::new("fsize", 4 * MIB).with_old();

    Running::of(job.under(&["prlimit", "--fsize=1000000"], "disk.raw image.qcow2"))
        .ends()
        .exits(1)
        .says("mkqcow2: image.qcow2: cannot write at 0x")
        .says("File too large")
        .says("(nothing was changed; the filesystem or ulimit -f allows no larger file)\n");

    job.still_has_old();
}

#[test]
fn a_directory_that_cannot_be_written_to_is_said_as_root() {
    let job = Job::new("unwritable", MIB).with_old();
    fs::create_dir(job.dir.join("real")).unwrap();
    fs::write(job.dir.join("real/old.qcow2"), OLD).unwrap();
    let view = Mount::read_only_view(&job.dir.join("real"), job.dir.join("view"));

    for dry in ["", "-n"] {
        job.dir
            .run(&format!("{dry} disk.raw view/new.qcow2"))
            .exits(1)
            .says("mkqcow2: view/new.qcow2: cannot write to its directory: Read-only file system");
        job.dir
            .run(&format!("{dry} disk.raw view/old.qcow2"))
            .exits(1)
            .says("mkqcow2: view/old.qcow2: cannot open: Read-only file system");
    }

    assert_eq!(names_in(view.point()), ["old.qcow2"]);
}

/// A file that even root cannot change.
struct Immutable(PathBuf);

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_image_is_not_replaced_as_root() {
    root::needed();
    let job = Job::new("immutable", MIB).with_old();
    tool("chattr", ["+i", job.image().to_str().unwrap()]);
    let guard = Immutable(job.image());

    job.dir
        .run("disk.raw image.qcow2")
        .exits(1)
        .says("mkqcow2: image.qcow2: cannot open: Operation not permitted");

    job.still_has_old();
    drop(guard);
}

#[test]
fn an_image_need_not_wait_for_the_disk() {
    let job = Job::new("no-sync", MIB).with_old();

    job.dir.run("--no-sync disk.raw image.qcow2").exits(0);

    assert_equals(&job.disk, &job.image());
}

#[test]
fn nobody_to_report_to_makes_the_image_no_worse() {
    let job = Job::new("stdout", MIB);
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let targets: [(&str, Stdio, i32); 4] = [
        ("", full().into(), 0),
        // The object was asked for, and is lost.
        ("--json", full().into(), 3),
        ("-v", closed.try_clone().unwrap().into(), 0),
        ("--json", closed.into(), 0),
    ];
    for (options, stdout, status) in targets {
        let arguments = format!("{options} disk.raw image.qcow2");
        let mut command = job.dir.command(arguments.split_whitespace());
        let mut child = command.stdout(stdout).stderr(full()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{options}");
        assert_equals(&job.disk, &job.image());
    }
}

#[test]
fn neither_standard_output_nor_error_need_be_open() {
    let job = Job::new("closed", MIB);
    let script = format!("exec '{MKQCOW2}' -v disk.raw image.qcow2 <&- >&- 2>&-");
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", &script]).current_dir(job.dir.path()).status();
    assert!(status.unwrap().success());
    assert_equals(&job.disk, &job.image());
    let mut magic = [0; 4];
    File::open(job.image()).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
}
