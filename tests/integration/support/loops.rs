//! What a test borrows from the kernel, and gives back when it ends, whether it passes or not: loop devices,
//! mounts, swap, servers of filesystems, and runs of the program that are in the middle of something.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};

use super::{Dir, Run, root, to_install, tool};

/// How long something may take that takes no time: longer on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a device that was detached may keep its file, if a mount or a program has it on purpose.
const LET_GO: Duration = Duration::from_secs(2);

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Runs a tool of which nothing is expected any more.
fn try_tool(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> bool {
    let quiet = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// A file as a block device.
#[derive(Debug)]
pub struct Loop {
    path: PathBuf,
    /// The file that it shows, as the kernel names it.
    shown: Option<String>,
    is_partitioned: bool,
    /// Nodes that had to be made because nobody else made them.
    nodes: Vec<PathBuf>,
}

impl Loop {
    pub fn over(file: &Path) -> Self {
        Self::with(&[], file)
    }

    pub fn read_only(file: &Path) -> Self {
        Self::with(&["--read-only"], file)
    }

    /// Reads the file past the cache of the filesystem it lies on.
    pub fn direct(file: &Path) -> Self {
        Self::with(&["--direct-io=on"], file)
    }

    /// Shows `length` bytes of a file or device, from `offset` on.
    pub fn part(below: &Path, offset: u64, length: u64) -> Self {
        let options = [format!("--offset={offset}"), format!("--sizelimit={length}")];
        Self::with(&options.each_ref().map(String::as_str), below)
    }

    /// With sectors of so many bytes.
    pub fn with_sectors(file: &Path, bytes: u64) -> Self {
        Self::with(&[&format!("--sector-size={bytes}")], file)
    }

    /// With two partitions of 2 MiB, from 1 MiB and 3 MiB on.
    pub fn partitioned(file: &Path) -> Self {
        let script = file.with_extension("sfdisk");
        fs::write(
            &script,
            "label: dos\nstart=2048, size=4096\nstart=6144, size=4096\n",
        )
        .unwrap();
        let mut sfdisk = Command::new("sfdisk");
        sfdisk
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(file);
        let status = sfdisk.stdin(File::open(&script).unwrap()).status();
        let status = status.unwrap_or_else(|error| panic!("sfdisk: {error}: {}", to_install("sfdisk")));
        assert!(status.success(), "sfdisk: {status}");
        fs::remove_file(script).unwrap();
        let mut disk = Self::with(&["--partscan"], file);
        // Not every kernel reads partition tables by itself.
        tool("partx", [OsStr::new("--update"), disk.path.as_os_str()]);
        disk.is_partitioned = true;
        for number in [1, 2] {
            disk.make_node(number);
        }
        disk
    }

    #[track_caller]
    fn with(options: &[&str], file: &Path) -> Self {
        root::needed();
        let options = options.iter().map(OsStr::new);
        let arguments = [OsStr::new("--find"), OsStr::new("--show"), file.as_os_str()];
        let path = tool("losetup", options.chain(arguments));
        let mut device = Self {
            path: path.trim_end().into(),
            shown: None,
            is_partitioned: false,
            nodes: Vec::new(),
        };
        device.shown = device.shows();
        device
    }

    /// The file that it shows now.
    fn shows(&self) -> Option<String> {
        fs::read_to_string(self.sys().join("loop/backing_file")).ok()
    }

    /// Where no udev is, the kernel's devtmpfs makes the nodes; in a container nobody does.
    fn make_node(&mut self, number: u32) {
        let node = self.partition(number);
        if node.exists() {
            return;
        }
        let numbers = fs::read_to_string(self.sys().join(node.file_name().unwrap()).join("dev")).unwrap();
        let (major, minor) = numbers.trim_end().split_once(':').unwrap();
        tool("mknod", [node.to_str().unwrap(), "b", major, minor]);
        self.nodes.push(node);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.path.display()))
    }

    fn sys(&self) -> PathBuf {
        Path::new("/sys/block").join(self.name())
    }

    /// Sectors that were ever written to it.
    pub fn sectors_written(&self) -> u64 {
        let stat = fs::read_to_string(self.sys().join("stat")).unwrap();
        stat.split_ascii_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = fs::remove_file(node);
        }
        if self.is_partitioned {
            try_tool("partx", [OsStr::new("--delete"), self.path.as_os_str()]);
        }
        try_tool("losetup", [OsStr::new("--detach"), self.path.as_os_str()]);
        // A device that something still has open keeps its file, and what its cache holds, until that ends. Another test
        // may have it by then.
        let begun = Instant::now();
        while self.shown.is_some() && self.shows() == self.shown && begun.elapsed() < LET_GO {
            sleep(Duration::from_millis(2));
        }
    }
}

/// A mounted filesystem.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Mounts a device or file on a directory that is made for it.
    #[track_caller]
    pub fn new(options: &str, source: &Path, point: PathBuf) -> Self {
        root::needed();
        fs::create_dir_all(&point).unwrap();
        let (options, source) = (["-o", options].map(OsStr::new), source.as_os_str());
        tool("mount", options.into_iter().chain([source, point.as_os_str()]));
        // From now on nothing is written to it that was not asked for.
        tool("sync", [OsStr::new("-f"), point.as_os_str()]);
        Self { point }
    }

    /// Mounts a device by the program that serves this type, whatever the kernel knows.
    #[track_caller]
    pub fn of_type(kind: &str, source: &Path, point: PathBuf) -> Self {
        root::needed();
        fs::create_dir_all(&point).unwrap();
        let kind = ["-t", kind].map(OsStr::new);
        let places = [source.as_os_str(), point.as_os_str()];
        tool("mount", kind.into_iter().chain(places));
        Self { point }
    }

    /// What was mounted by other means.
    pub fn of(point: PathBuf) -> Self {
        Self { point }
    }

    /// A file seen in the place of another.
    pub fn on_file(source: &Path, point: PathBuf) -> Self {
        root::needed();
        tool(
            "mount",
            [OsStr::new("--bind"), source.as_os_str(), point.as_os_str()],
        );
        Self { point }
    }

    /// A filesystem in memory that holds so many bytes, and nothing else.
    pub fn tmpfs(bytes: u64, point: PathBuf) -> Self {
        root::needed();
        fs::create_dir_all(&point).unwrap();
        let options = format!("size={bytes}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"].map(OsStr::new);
        tool("mount", arguments.into_iter().chain([point.as_os_str()]));
        Self { point }
    }

    /// A directory, seen through a mount that cannot be written to.
    pub fn read_only_view(directory: &Path, point: PathBuf) -> Self {
        let view = Self::new("bind", directory, point);
        let arguments = ["-o", "remount,bind,ro"].map(OsStr::new);
        tool("mount", arguments.into_iter().chain([view.point.as_os_str()]));
        view
    }

    pub fn point(&self) -> &Path {
        &self.point
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let point = self.point.as_os_str();
        if !try_tool("umount", [point]) {
            try_tool("umount", [OsStr::new("--lazy"), point]);
        }
    }
}

/// An ext4 in a file, of which nothing is written later than it must be.
pub fn make_ext4(file: &Path) {
    let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"].map(OsStr::new);
    tool("mkfs.ext4", options.into_iter().chain([file.as_os_str()]));
}

/// A file or device that is swapped to.
#[derive(Debug)]
pub struct Swap {
    path: PathBuf,
}

impl Swap {
    pub fn on(path: &Path) -> Self {
        root::needed();
        tool("mkswap", [OsStr::new("--quiet"), path.as_os_str()]);
        tool("swapon", [path]);
        Self { path: path.into() }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        try_tool("swapoff", [&self.path]);
    }
}

/// A filesystem that a program serves.
#[derive(Debug)]
pub struct Fuse {
    point: PathBuf,
    server: Child,
}

impl Fuse {
    /// A file of `point`'s name that is what nbdkit makes of it: `plugin` is its command line.
    pub fn disk(point: PathBuf, plugin: &[&str]) -> Self {
        Self::nbd(&["--readonly"], point, plugin)
    }

    /// The same, and it can be written to.
    pub fn writable_disk(point: PathBuf, plugin: &[&str]) -> Self {
        Self::nbd(&[], point, plugin)
    }

    fn nbd(options: &[&str], point: PathBuf, plugin: &[&str]) -> Self {
        File::create(&point).unwrap();
        // A missing nbdkit would else be a riddle.
        tool("nbdkit", ["--version"]);
        let mut command = Command::new("nbdfuse");
        command.args(options).arg(&point);
        command
            .args(["[", "nbdkit", "--exit-with-parent"])
            .args(plugin)
            .arg("]");
        Self::serve(command, "nbdfuse", point)
    }

    /// A directory seen through a filesystem that has neither unnamed files nor exchanges names.
    pub fn passthrough(directory: &Path, point: PathBuf) -> Self {
        Self::bindfs(&[], directory, point)
    }

    /// The same with one owner and one mode for all files, which nobody can change: as FAT is.
    pub fn without_modes(directory: &Path, point: PathBuf) -> Self {
        Self::of_one_owner("root", directory, point)
    }

    /// The same of another user.
    pub fn of_one_owner(owner: &str, directory: &Path, point: PathBuf) -> Self {
        let owner = format!("--force-user={owner}");
        let options = "--force-group=root --perms=0777 --chmod-deny --chown-deny";
        let options: Vec<_> = options.split(' ').chain([owner.as_str()]).collect();
        Self::bindfs(&options, directory, point)
    }

    /// The same, and extended attributes can be read, but not set.
    pub fn without_attributes(directory: &Path, point: PathBuf) -> Self {
        Self::bindfs(&["--xattr-ro"], directory, point)
    }

    fn bindfs(options: &[&str], directory: &Path, point: PathBuf) -> Self {
        fs::create_dir_all(&point).unwrap();
        let mut command = Command::new("bindfs");
        command.arg("-f").args(options).arg(directory).arg(&point);
        Self::serve(command, "bindfs", point)
    }

    #[track_caller]
    fn serve(mut command: Command, name: &str, point: PathBuf) -> Self {
        root::needed();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = command.spawn().unwrap_or_else(|error| {
            let package = if name == "bindfs" {
                "apt-get install bindfs"
            } else {
                to_install(name)
            };
            panic!("{name}: {error}: {package}")
        });
        let fuse = Self { point, server };
        until(
            "a FUSE filesystem that is mounted (apt-get install fuse3)",
            || {
                let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
                mounts.contains(&format!(" {} ", fuse.point.display()))
            },
        );
        fuse
    }

    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        try_tool("umount", [OsStr::new("--lazy"), self.point.as_os_str()]);
        // It ends by itself, with its own children, unless it waits for something.
        for _ in 0..100 {
            if matches!(self.server.try_wait(), Ok(Some(_))) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A run that has begun.
#[derive(Debug)]
pub struct Running {
    /// None once it has been waited for.
    child: Option<Child>,
}

impl Running {
    pub fn start(dir: &Dir, arguments: &str) -> Self {
        Self::of(dir.command(arguments.split_whitespace()))
    }

    pub fn of(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self {
            child: Some(child.unwrap()),
        }
    }

    /// One that was started elsewhere.
    pub fn from(child: Child) -> Self {
        Self { child: Some(child) }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap()
    }

    /// Whether one of its threads waits in that function of the kernel.
    fn is_stuck_in(&self, function: &str) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread may end meanwhile.
        let where_it_waits = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("wchan"));
        threads
            .flatten()
            .any(|thread| where_it_waits(thread).is_ok_and(|name| name.contains(function)))
    }

    /// Waits until some of the image is written.
    #[track_caller]
    pub fn until_it_writes(self) -> Self {
        until("a run that writes", || !self.proc("io").contains("\nwchar: 0\n"));
        self
    }

    pub fn send(self, signal: Signal) -> Self {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        self
    }

    pub fn ends(mut self) -> Run {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        Run { output }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A run that has looked at everything, and begins to read only when it is let go: it cannot say what it plans,
/// for its standard error is a pipe that is full.
#[derive(Debug)]
pub struct Held {
    run: Running,
    stderr: PipeReader,
}

impl Held {
    #[track_caller]
    pub fn start(dir: &Dir, arguments: &str) -> Self {
        let (stderr, mut full) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
        while full.write(b"\n").is_ok() {}
        rustix::fs::fcntl_setfl(&full, OFlags::empty()).unwrap();
        let mut command = dir.command(arguments.split_whitespace());
        let child = command
            .arg("--verbose")
            .stdout(Stdio::piped())
            .stderr(full)
            .spawn();
        let run = Running {
            child: Some(child.unwrap()),
        };
        until("a run that is stuck", || run.is_stuck_in("pipe_write"));
        Self { run, stderr }
    }

    /// Sends it a signal, and another, until it dies. What it says is lost.
    #[track_caller]
    pub fn dies_stuck_of(mut self, signal: Signal) {
        // Killed when the test fails.
        let child = self.run.child.as_mut().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let mut status = None;
        until("a run that dies", || {
            let _ = rustix::process::kill_process(pid, signal);
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().signal(), Some(signal.as_raw()));
    }

    pub fn let_go(self) -> Run {
        let Self { run, mut stderr } = self;
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).unwrap();
            said
        });
        let mut run = run.ends();
        run.output.stderr = said.join().unwrap();
        run
    }
}

impl Run {
    /// Holds it to death by a signal.
    #[track_caller]
    pub fn dies_of(self, signal: Signal) -> Self {
        assert_eq!(self.signal(), Some(signal.as_raw()), "{}", self.everything());
        self
    }

    /// The signal it died of.
    pub fn signal(&self) -> Option<i32> {
        self.output.status.signal()
    }
}
