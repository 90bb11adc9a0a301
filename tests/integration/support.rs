//! Given, when, then: a directory of its own for every test, runs of the program, other people's tools.

pub mod loops;
pub mod qemu;
pub mod root;
pub mod screen;
pub mod terminal;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub const MKQCOW2: &str = env!("CARGO_BIN_EXE_mkqcow2");

/// Set for every run, so that the same disk gives the same bytes at any time, wherever it lies.
pub const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1700000000");

/// A new directory, removed at the end of the test, whether it passes or not.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    /// `name` tells whose it is; no two tests have the same.
    pub fn new(name: &str) -> Self {
        // Not /tmp: that may be a filesystem without O_TMPFILE or holes.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = base.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a sparse file of `size` bytes that holds `pieces` of data at their offsets.
    pub fn sparse(&self, name: &str, size: u64, pieces: &[(u64, &[u8])]) -> PathBuf {
        let path = self.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        path
    }

    /// Runs mkqcow2 in the directory; `arguments` are separated by white space.
    pub fn run(&self, arguments: &str) -> Run {
        self.run_with(arguments.split_whitespace())
    }

    /// The same for arguments that hold white space.
    pub fn run_with(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::of(&mut self.command(arguments))
    }

    /// The same, not started yet.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(MKQCOW2);
        command
            .args(arguments)
            .current_dir(&self.path)
            .env(EPOCH.0, EPOCH.1)
            .stdin(Stdio::null());
        command
    }

    /// Runs it with a terminal for its outputs, which both become standard output of the run.
    pub fn run_on_terminal(&self, arguments: &str) -> Run {
        let line = format!("'{MKQCOW2}' {arguments}");
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(&self.path)
            .env(EPOCH.0, EPOCH.1)
            .stdin(Stdio::null());
        let output = script.output().unwrap();
        Run { output }
    }

    /// Images `disk.raw` to `disk.qcow2`, with more options.
    #[track_caller]
    pub fn image(&self, options: impl fmt::Display) -> PathBuf {
        self.run(&format!("-q --no-sync {options} disk.raw disk.qcow2"))
            .exits(0)
            .in_silence();
        self.join("disk.qcow2")
    }

    /// The names in the directory, hidden ones too, sorted.
    pub fn names(&self) -> Vec<String> {
        names_in(&self.path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The names in a directory, hidden ones too, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Overwrites bytes of a file.
pub fn poke(file: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Puts bytes where a file has a hole, which stays where blocks of them are zeros.
pub fn fill(file: &Path, at: u64, bytes: &[u8]) {
    const BLOCK: usize = 4096;
    let file = File::options().write(true).open(file).unwrap();
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at + (number * BLOCK) as u64).unwrap();
        }
    }
}

/// The bytes of a range of a file.
pub fn peek(file: &Path, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let file = File::open(file).unwrap();
    file.read_exact_at(&mut bytes, range.start).unwrap();
    bytes
}

/// Whether a range is the same in two files or devices, without all of it in memory.
pub fn is_same(one: &Path, other: &Path, range: Range<u64>) -> bool {
    const PIECE: usize = 1 << 20;
    let files = [one, other].map(|path| File::open(path).unwrap());
    let mut pieces = [vec![0; PIECE], vec![0; PIECE]];
    range.clone().step_by(PIECE).all(|at| {
        let length = (PIECE as u64).min(range.end - at) as usize;
        for (file, piece) in files.iter().zip(&mut pieces) {
            file.read_exact_at(&mut piece[..length], at).unwrap();
        }
        pieces[0][..length] == pieces[1][..length]
    })
}

/// Whether two files or devices hold the same bytes.
pub fn are_same(one: &Path, other: &Path) -> bool {
    let length = |path| File::open(path).unwrap().seek(SeekFrom::End(0)).unwrap();
    let [ours, theirs] = [one, other].map(length);
    ours == theirs && is_same(one, other, 0..ours)
}

/// Flips bits of a byte of a file.
pub fn flip(file: &Path, at: u64, bits: u8) {
    let mut byte = [0];
    File::open(file).unwrap().read_exact_at(&mut byte, at).unwrap();
    poke(file, at, &[byte[0] ^ bits]);
}

/// What a run of mkqcow2 came to.
#[derive(Debug)]
pub struct Run {
    output: Output,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self { output }
    }
}

impl Run {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self { output }
    }

    /// Holds it to an exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(status), "{}", self.everything());
        self
    }

    /// Holds it to words on standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr().contains(words),
            "expected {words:?}\n{}",
            self.everything()
        );
        self
    }

    /// Holds it to words on standard output.
    #[track_caller]
    pub fn prints(self, words: &str) -> Self {
        assert!(
            self.stdout().contains(words),
            "expected {words:?}\n{}",
            self.everything()
        );
        self
    }

    /// Holds it to silence on both.
    #[track_caller]
    pub fn in_silence(self) -> Self {
        assert!(
            self.output.stdout.is_empty() && self.output.stderr.is_empty(),
            "{}",
            self.everything()
        );
        self
    }

    /// Its one JSON object.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.everything()))
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Its exit status, or -1 after a signal.
    pub fn status(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    /// What it wrote to standard output, as it is.
    pub fn bytes(&self) -> &[u8] {
        &self.output.stdout
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn everything(&self) -> String {
        format!(
            "{}\n--- stdout\n{}--- stderr\n{}",
            self.output.status,
            self.stdout(),
            self.stderr()
        )
    }
}

/// The commands that `--help` lists.
pub fn commands() -> Vec<String> {
    let output = Command::new(MKQCOW2).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands"))
        .skip(1);
    let listed = lines.take_while(|line| !line.is_empty());
    listed
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// Runs another program to its end and holds it to success. Returns its standard output.
#[track_caller]
pub fn tool(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}: {}", to_install(name)));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// What to install so that the program is there.
fn to_install(program: &str) -> &'static str {
    match program {
        "qemu-img" | "qemu-io" | "qemu-nbd" => "apt-get install qemu-utils",
        "losetup" | "mount" | "umount" | "swapon" | "swapoff" | "mkswap" | "swaplabel" | "blkid" => {
            "apt-get install mount util-linux"
        }
        "mkfs.ext4" | "mke2fs" | "e2fsck" | "dumpe2fs" | "debugfs" => "apt-get install e2fsprogs",
        "setfacl" | "getfacl" => "apt-get install acl",
        "mkfs.ntfs" => "apt-get install ntfs-3g",
        "mkfs.xfs" => "apt-get install xfsprogs",
        "mkfs.btrfs" | "btrfs" | "btrfs-convert" | "btrfs-map-logical" | "btrfstune" => {
            "apt-get install btrfs-progs"
        }
        "sfdisk" => "apt-get install fdisk",
        "sgdisk" => "apt-get install gdisk",
        "strace" => "apt-get install strace",
        "unshare" | "prlimit" => "apt-get install util-linux",
        "mandoc" => "apt-get install mandoc",
        "nbdkit" => "apt-get install nbdkit",
        "nbdfuse" => "apt-get install libnbd-bin",
        "fusermount3" => "apt-get install fuse3",
        _ => "install it",
    }
}

/// Holds an image to `qemu-img check` without errors or leaks, and to the content of `raw`.
#[track_caller]
pub fn assert_equals(raw: &Path, image: &Path) {
    qemu::assert_clean(image);
    let (raw, image) = (raw.as_os_str(), image.as_os_str());
    let arguments = ["compare", "-q", "-f", "raw", "-F", "qcow2"].map(OsStr::new);
    tool("qemu-img", arguments.into_iter().chain([raw, image]));
}

/// Bytes that no compression makes smaller and no two seeds share.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8))
        .flat_map(|_| dice.roll().to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

/// Numbers at random, the same for the same seed: splitmix64.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }
}
