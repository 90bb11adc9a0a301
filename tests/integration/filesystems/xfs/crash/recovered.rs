//! What the kernel makes of a filesystem that was cut off.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::moment::Cut;
use crate::filesystems::proof::xfs::number;
use crate::filesystems::proof::{Listing, mounted};
use crate::support::noise;

/// A copy after recovery.
pub struct Recovered {
    pub disk: PathBuf,
    pub block_size: u64,
    listing: Listing,
    lost: Vec<PathBuf>,
    findings: Vec<String>,
}

impl Recovered {
    /// A copy of which these ranges were overwritten before.
    #[track_caller]
    pub fn of(cut: &Cut, name: &str, poisoned: &[Range<u64>]) -> Self {
        let disk = cut.place.dir.join(name);
        fs::copy(&cut.disk, &disk).unwrap();
        let file = File::options().write(true).open(&disk).unwrap();
        for range in poisoned {
            let length = (range.end - range.start) as usize;
            file.write_all_at(&vec![0xa5; length], range.start).unwrap();
        }
        drop(file);
        Self::mounting(disk, cut)
    }

    /// Mounts a copy, and checks what came of it.
    #[track_caller]
    pub fn mounting(disk: PathBuf, cut: &Cut) -> Self {
        let (mut listing, mut lost) = (Listing::default(), Vec::new());
        mounted("rw", &disk, cut.place.dir.path(), &mut |root| {
            listing = Listing::of(root, true);
            let files = cut.synced.iter();
            let files = files.filter(|file| {
                let found = fs::read(root.join(&file.name)).unwrap_or_default();
                found != noise(file.seed, file.length)
            });
            lost = files.map(|file| file.name.clone()).collect();
        });
        let findings = findings(&disk);
        assert!(findings.is_empty() || cut.has_findings, "{findings:#?}");
        Self {
            block_size: number(&disk, "sb 0", "blocksize"),
            disk,
            listing,
            lost,
            findings,
        }
    }

    #[track_caller]
    pub fn assert_has_synced(&self, cut: &Cut) {
        assert!(
            self.lost.is_empty(),
            "{} of {} files that were synced are lost: {:?}",
            self.lost.len(),
            cut.synced.len(),
            self.lost
        );
    }

    #[track_caller]
    pub fn assert_equals(&self, other: &Self) {
        other.listing.assert_in(&self.listing);
        assert_eq!(self.findings, other.findings);
    }

    pub fn forget(self) {
        fs::remove_file(self.disk).unwrap();
    }
}

/// What `xfs_repair` would repair; nothing if there is nothing.
fn findings(disk: &Path) -> Vec<String> {
    let mut command = Command::new("xfs_repair");
    command
        .args(["-n", "-o", "force_geometry", "-f"])
        .arg(disk)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    if output.status.success() {
        return Vec::new();
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // Indented lines tell of progress, in any order. Some lines have an address of its own memory.
    let lines = said.lines().filter(|line| !line.starts_with(' '));
    let without_address = |line: &str| match line.split_once(" detected at 0x") {
        Some((what, rest)) => format!("{what}{}", rest.split_once(", ").map_or("", |(_, rest)| rest)),
        None => line.to_owned(),
    };
    lines.map(without_address).collect()
}
