//! The targets are those of the ordinary tests, which run them over fixed seeds.

#[path = "../../tests/integration/filesystems/patched.rs"]
pub mod patched;
#[path = "../../tests/integration/mutations/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

pub use targets::{header, image, image_at, qcow, qed, record, tables};

/// Changes a disk of those that `fuzz/run --disks` made for this target, and looks into it.
pub fn disk(target: &str, bytes: &[u8]) {
    static BASES: OnceLock<patched::Bases> = OnceLock::new();
    let bases = BASES.get_or_init(|| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/disks").join(target);
        let entries = fs::read_dir(&directory).expect("fuzz/run --disks makes them");
        let mut disks: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        disks.sort();
        patched::Bases::new(disks.iter().map(|disk| fs::read(disk).expect("a disk")))
    });
    bases.scan_changed(bytes);
}
