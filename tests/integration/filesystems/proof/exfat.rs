//! exFAT, as exfatprogs and exfat-fuse know it.

use std::path::Path;

use super::{Filesystem, until_let_go};
use crate::support::loops::{Loop, Mount};
use crate::support::tool;

/// An exFAT.
#[derive(Clone, Copy, Debug)]
pub struct Exfat {
    /// Options of mkfs.exfat, separated by spaces.
    options: &'static str,
}

impl Exfat {
    /// Made with these options of mkfs.exfat, such as `-c 4K`.
    pub fn new(options: &'static str) -> Self {
        Self { options }
    }
}

impl Filesystem for Exfat {
    fn make(&self, at: &Path) {
        let options = self.options.split_whitespace();
        tool("mkfs.exfat", options.chain([at.to_str().unwrap()]));
    }

    fn check(&self, at: &Path) {
        tool("fsck.exfat", ["-n", at.to_str().unwrap()]);
    }

    fn used(&self, at: &Path) -> Option<u64> {
        let told = tool("dump.exfat", [at.to_str().unwrap()]);
        let number = |key: &str| -> u64 {
            let line = told.lines().find_map(|line| line.strip_prefix(key));
            let line = line.unwrap_or_else(|| panic!("no {key} in\n{told}"));
            line.trim().parse().unwrap()
        };
        let sectors = number("Volume Length(sectors):");
        let size = sectors << number("Sector Size Bits:");
        Some(size - number("Free Clusters:") * number("Cluster size:"))
    }

    fn is_posix(&self) -> bool {
        false
    }

    fn write(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted(at, scratch, work);
    }

    fn read(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted(at, scratch, work);
    }
}

/// Mounts a file or device while `work` is done.
#[track_caller]
fn mounted(at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
    let device = at.is_file().then(|| Loop::over(at));
    let device_path = device.as_ref().map_or(at, Loop::path);
    let mount = Mount::of_type("exfat-fuse", device_path, scratch.join("mounted"));
    work(mount.point());
    drop(mount);
    drop(device);
    until_let_go(at);
}
