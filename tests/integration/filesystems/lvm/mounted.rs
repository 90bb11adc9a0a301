//! Logical volumes as files of a mount.

use std::fs;

use super::made::{EXTENT, Made, START, hidden, linear, special, text, volume};
use crate::mount::served::Served;
use crate::support::loops::Mount;
use crate::support::{Dir, names_in, tool};

#[test]
fn a_volume_is_shown_in_its_order_if_all_of_it_is_here_as_root() {
    let root = [
        linear("pv0", 100, 20),
        linear("pv0", 10, 30),
        linear("pv0", 60, 14),
    ];
    let snapshot = special(
        8,
        "snapshot",
        "origin = \"origin\"\ncow_store = \"cow\"\nchunk_size = 8",
    );
    let made = Made::new(&text(&[
        volume("root-fs", &root),
        volume("elsewhere", &[linear("pv0", 130, 5), linear("pv1", 0, 5)]),
        volume("origin", &[linear("pv0", 140, 8)]),
        volume("cow", &[linear("pv0", 150, 8)]),
        hidden("snapshot0", &[snapshot]),
        hidden("hidden", &[linear("pv0", 160, 5)]),
    ]))
    .filesystem((100..120).chain(10..40).chain(60..74));
    let dir = Dir::new("mount-lvm");
    fs::write(dir.join("disk.raw"), &made.bytes).unwrap();
    dir.image("-c zstd");

    let served = Served::new(&dir, "", "disk.qcow2");
    // A volume of which a part lies elsewhere is not shown, nor is a snapshot.
    let names = [
        "disk.raw",
        "vg-cow.raw",
        "vg-hidden.raw",
        "vg-origin.raw",
        "vg-root--fs.raw",
    ];
    assert_eq!(names_in(served.point()), names);
    let shown = fs::read(served.join("vg-root--fs.raw")).unwrap();
    assert_eq!(shown.len() as u64, 64 * EXTENT);
    // What is free in the filesystem is zeros in the image.
    let disk = fs::read(served.join("disk.raw")).unwrap();
    let extents = (100..120).chain(10..40).chain(60..74);
    for (number, extent) in extents.enumerate() {
        let here = number * EXTENT as usize;
        let there = (START + extent * EXTENT) as usize;
        assert!(
            shown[here..][..EXTENT as usize] == disk[there..][..EXTENT as usize],
            "{extent}"
        );
    }
    tool(
        "e2fsck",
        ["-fn", served.join("vg-root--fs.raw").to_str().unwrap()],
    );
    let mount = Mount::new("ro,loop", &served.join("vg-root--fs.raw"), dir.join("inside"));
    assert!(!names_in(mount.point()).is_empty());
    drop(mount);
    served.unmount();
}
