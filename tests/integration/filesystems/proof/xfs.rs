//! XFS, as xfsprogs and the kernel know it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::Filesystem;
use crate::support::tool;

/// An XFS.
#[derive(Clone, Copy, Debug)]
pub struct Xfs {
    /// Options of mkfs.xfs, separated by spaces.
    options: &'static str,
}

impl Xfs {
    pub fn new(options: &'static str) -> Self {
        Self { options }
    }
}

impl Filesystem for Xfs {
    fn make(&self, at: &Path) {
        let mut command = Command::new("mkfs.xfs");
        // Below 300 MB it makes one only for its own tests.
        for name in ["TEST_DIR", "TEST_DEV", "QA_CHECK_FS"] {
            command.env(name, "1");
        }
        command
            .args(["-q", "-f", "-K"])
            .args(self.options.split_whitespace());
        let output = command.arg(at).output();
        let output = output.unwrap_or_else(|error| panic!("mkfs.xfs: {error}: install xfsprogs"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// One group is no reason not to check it.
    fn check(&self, at: &Path) {
        tool(
            "xfs_repair",
            ["-n", "-o", "force_geometry", "-f", at.to_str().unwrap()],
        );
    }

    /// What no tree of free space lists: blocks that are kept for trees are in use.
    fn used(&self, at: &Path) -> Option<u64> {
        // What lies behind it in a file is in use, too.
        let metadata = at.metadata().unwrap();
        let size = if metadata.is_file() {
            metadata.len()
        } else {
            number(at, "sb 0", "dblocks") * number(at, "sb 0", "blocksize")
        };
        let groups = 0..number(at, "sb 0", "agcount");
        let free: u64 = groups
            .map(|group| number(at, &format!("agf {group}"), "freeblks"))
            .sum();
        Some(size - free * number(at, "sb 0", "blocksize"))
    }

    fn tells_metadata(&self) -> bool {
        false
    }
}

/// A field, as `xfs_db` prints it.
pub fn number(at: &Path, structure: &str, field: &str) -> u64 {
    let print = format!("p {field}");
    let told = tool(
        "xfs_db",
        ["-f", "-r", "-c", structure, "-c", &print, at.to_str().unwrap()],
    );
    let (_, value) = told
        .split_once(" = ")
        .unwrap_or_else(|| panic!("no {field} in\n{told}"));
    value.trim().parse().unwrap()
}

/// Where its log is, in bytes.
pub fn log(at: &Path) -> Range<u64> {
    let mut bytes = [0; 512];
    File::open(at).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    let word = |at: usize| u64::from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
    let start = word(48) << 32 | word(52);
    let (group, block) = (start >> bytes[124], start & ((1 << bytes[124]) - 1));
    let start = (group * word(84) + block) * word(4);
    start..start + word(96) * word(4)
}

/// How many times its log was begun to be written.
pub fn log_cycle(at: &Path) -> u32 {
    let mut bytes = [0; 8];
    let file = File::open(at).unwrap();
    file.read_exact_at(&mut bytes, log(at).start).unwrap();
    let [word, next] = [0, 4].map(|at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
    // A record has it behind its magic.
    if word == 0xfeed_babe { next } else { word }
}
