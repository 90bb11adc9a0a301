//! What nothing tells the free parts of is copied whole.

use std::path::Path;

use super::proof::{Filesystem, MIB, Proof};
use crate::support::tool;

/// A filesystem that is not looked into.
struct Btrfs;

impl Filesystem for Btrfs {
    fn make(&self, at: &Path) {
        tool("mkfs.btrfs", ["-q", "-f", "-K", at.to_str().unwrap()]);
    }

    fn check(&self, at: &Path) {
        tool("btrfs", ["check", "--readonly", at.to_str().unwrap()]);
    }
}

#[test]
fn a_filesystem_that_is_not_looked_into_is_copied_whole_as_root() {
    Proof::of("btrfs", 112 * MIB, Btrfs)
        .made()
        .copied_whole_because("")
        .holds();
}
