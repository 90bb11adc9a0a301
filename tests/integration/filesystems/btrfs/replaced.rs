//! A device of a Btrfs that another one replaces: it is mapped once that is over.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::patched::Patched;
use super::super::proof::btrfs::{Btrfs, free_by_dump_tree};
use super::super::proof::{Filesystem, Marker, Place, mounted};
use super::told::{assert_whole, free};
use super::{SIZE, btrfs};
use crate::support::loops::{Loop, until};
use crate::support::{noise, tool};

/// Where the state of a replacement is in its item, in bytes.
const STATE: u64 = 32;

/// Two disks, of which the first has a Btrfs.
fn two(name: &str) -> (Place, [PathBuf; 2]) {
    let place = Place::new(name, 2 * SIZE);
    let disks = ["disk.raw", "other.raw"].map(|name| place.dir.join(name));
    for disk in &disks {
        fs::write(disk, Marker::A.times(SIZE)).unwrap();
    }
    Btrfs::new("").make(&disks[0]);
    (place, disks)
}

/// Writes a file to the first disk, and has the second one replace it, with these options, while `work` is done.
fn replace(place: &Place, disks: &[PathBuf; 2], options: &[&str], mut work: impl FnMut(&str)) {
    let other = Loop::over(&disks[1]);
    mounted("nodiscard", &disks[0], place.dir.path(), &mut |root| {
        let root = root.to_str().unwrap();
        fs::write(format!("{root}/file"), noise(1, 8 << 20)).unwrap();
        tool("sync", ["-f", root]);
        let is_slow = !options.contains(&"-B");
        if is_slow {
            slow_down(&disks[0]);
        }
        let places = ["-f", "1", other.path().to_str().unwrap(), root];
        let words = ["replace", "start"].iter().chain(options);
        tool("btrfs", words.copied().chain(places));
        if is_slow {
            until("a replacement that goes on", || {
                tool("btrfs", ["replace", "status", "-1", root]).contains("% done")
            });
        }
        tool("sync", ["-f", root]);
        work(root);
    });
}

/// Has a filesystem that is mounted read 256 KiB in a second when it replaces its device.
fn slow_down(disk: &Path) {
    let told = tool(
        "blkid",
        ["-p", "-o", "value", "-s", "UUID", disk.to_str().unwrap()],
    );
    let limit = format!("/sys/fs/btrfs/{}/devinfo/1/scrub_speed_max", told.trim());
    fs::write(limit, "262144").unwrap();
}

#[test]
fn a_device_that_replaced_another_is_mapped_as_root() {
    let (place, disks) = two("btrfs-replaced");
    replace(&place, &disks, &["-B"], |_| {});
    let bytes = fs::read(&disks[1]).unwrap();
    let replaced = Patched::new(&bytes);
    let expected = free_by_dump_tree(&disks[1]);
    assert_eq!(free(&replaced.scan()), expected);
    let at = state_of_replacement(&replaced);
    assert_eq!(replaced.get(at), 2_u64.to_le_bytes());
    for (state, is_over) in [
        (0_u64, true),
        (1, false),
        (3, true),
        (4, false),
        (5, false),
        (u64::MAX, false),
    ] {
        let mut disk = Patched::new(&bytes);
        disk.put(at, &state.to_le_bytes());
        disk.sum_up();
        if is_over {
            assert_eq!(free(&disk.scan()), expected, "state {state}");
        } else {
            assert_whole(&format!("state {state}"), &disk, "its device is being replaced");
        }
    }
}

/// Where the state of a replacement is on a disk that was looked into.
fn state_of_replacement(disk: &Patched<'_>) -> u64 {
    let u32_at = |at: u64| u64::from(u32::from_le_bytes(disk.get(at)));
    let read = disk.reads().into_iter();
    let blocks = read.flat_map(|range| (range.start..range.end).step_by(4096));
    // Leaves of the device tree, and the keys in them.
    let identity: [u8; 16] = disk.get(0x1_0020);
    let leaves =
        blocks.filter(|at| disk.get(at + 32) == identity && disk.get(at + 88) == 4_u64.to_le_bytes());
    let leaves = leaves.filter(|at| disk.byte(at + 100) == 0);
    let items = leaves.flat_map(|at| (0..u32_at(at + 96)).map(move |item| (at, at + 101 + 25 * item)));
    let mut states = items
        .filter(|(_, item)| disk.byte(item + 8) == 250)
        .map(|(leaf, item)| leaf + 101 + u32_at(item + 17) + STATE);
    states.next().unwrap()
}

#[test]
fn a_device_that_is_being_replaced_is_copied_whole_as_root() {
    let (place, disks) = two("btrfs-replacing");
    let copies = ["copy.raw", "half.raw"].map(|name| place.dir.join(name));
    replace(&place, &disks, &[], |root| {
        for (disk, copy) in disks.iter().zip(&copies) {
            fs::copy(disk, copy).unwrap();
        }
        btrfs(["replace", "cancel", root]);
    });
    let copied = copies.each_ref().map(|copy| fs::read(copy).unwrap());
    assert_whole(
        "started",
        &Patched::new(&copied[0]),
        "its device is being replaced",
    );
    assert_whole("target", &Patched::new(&copied[1]), "devid is 0x1, expected 0x0");
}
