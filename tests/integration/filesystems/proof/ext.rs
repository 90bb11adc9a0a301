//! ext2, ext3 and ext4, as e2fsprogs and the kernel know them.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use super::Filesystem;
use crate::support::tool;

/// An ext2, ext3 or ext4.
#[derive(Clone, Copy, Debug)]
pub struct Ext {
    /// Options of mke2fs, separated by spaces; not `-E`, to which `extended` is added.
    options: &'static str,
    extended: &'static str,
}

impl Ext {
    /// Made with these options of mke2fs, such as `-t ext4 -b 1024`.
    pub fn new(options: &'static str) -> Self {
        let extended = "";
        Self { options, extended }
    }

    /// And these extended ones, such as `num_backup_sb=1`.
    pub fn extended(self, extended: &'static str) -> Self {
        Self { extended, ..self }
    }
}

impl Filesystem for Ext {
    fn make(&self, at: &Path) {
        let extended = format!("nodiscard,{}", self.extended);
        let extended = extended.trim_end_matches(',');
        let options = ["-q", "-F", "-E", extended].into_iter();
        let options = options.chain(self.options.split_whitespace());
        tool("mke2fs", options.chain([at.to_str().unwrap()]));
    }

    fn check(&self, at: &Path) {
        tool("e2fsck", ["-fn", at.to_str().unwrap()]);
    }

    /// What no bitmap speaks of, block 0 in front of the first group or what lies behind the last one, is in use.
    fn used(&self, at: &Path) -> Option<u64> {
        let told = tool("dumpe2fs", ["-h", at.to_str().unwrap()]);
        let number = |key: &str| -> u64 {
            let line = told.lines().find_map(|line| line.strip_prefix(key));
            let line = line.unwrap_or_else(|| panic!("no {key} in\n{told}"));
            line.trim().parse().unwrap()
        };
        // Of a device, too.
        let size = File::open(at).unwrap().seek(SeekFrom::End(0)).unwrap();
        Some(size - number("Free blocks:") * number("Block size:"))
    }
}
