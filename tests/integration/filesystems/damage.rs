//! Disks of which some bits are others than they were: whatever is made of them, nothing that was in use before is
//! called free, unless nobody could tell.

use std::fs;
use std::ops::Range;

use mkqcow2::allocation::{AllocationMap, Treatment};

use super::patched::{Bases, Patched};
use super::proof::ext::Ext;
use super::proof::{Given, MIB, Proof};
use crate::corpus::in_parallel;
use crate::support::{Dice, noise, tool};

/// How many damaged disks of each kind are looked into.
const SEEDS: u64 = 250;

/// What may be changed so that it must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Anything: there are checksums.
    Checksums,
    /// One bit: there is a count or a copy, and two changes may be right again.
    Counts,
}

#[track_caller]
fn assert_nothing_is_lost(given: &Given, guard: Guard) {
    let disk = fs::read(&given.disk).unwrap();
    let whole = Patched::new(&disk);
    let allocation = whole.scan();
    let regions = &allocation.regions;
    let mapped = regions
        .iter()
        .filter(|region| matches!(region.treatment, Treatment::Mapped));
    assert_eq!(mapped.count(), given.volumes.len(), "{regions:?}");
    let (map, reads) = (allocation.map, whole.reads());
    let seeds: Vec<u64> = (0..SEEDS).collect();
    in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut damaged = Patched::new(&disk);
        let changes = match guard {
            Guard::Checksums => 1 + dice.below(4),
            Guard::Counts => 1,
        };
        let mut places = Vec::new();
        for _ in 0..changes {
            let range = place(&reads, &mut dice);
            let (at, new) = match (guard, dice.below(2)) {
                (Guard::Counts, _) => (range.start, damaged.byte(range.start) ^ (1 << dice.below(8))),
                (Guard::Checksums, 0) => (range.start, dice.below(256) as u8),
                (Guard::Checksums, _) => {
                    // As many ones as before, so that no count tells: where there are both ones and zeros.
                    let turned = |at| (at, damaged.byte(at).rotate_left(1));
                    let is_other = |(at, new): &(u64, u8)| damaged.byte(*at) != *new;
                    let start = range.start;
                    range.map(turned).find(is_other).unwrap_or_else(|| turned(start))
                }
            };
            places.push(format!("{at:#x}: {:#x} is {new:#x}", damaged.byte(at)));
            damaged.put(at, &[new]);
        }
        let found = damaged.scan();
        let lost = first_lost(&map, &found.map);
        assert_eq!(lost, None, "seed {seed}: {places:?}\n{:?}", found.regions);
    });
    // What the fuzz targets do: behind checksums that are right, anything may be found, and is survived.
    let bases = Bases::new([disk]);
    in_parallel(&seeds, |seed| {
        let length = Dice::new(*seed).below(80) as usize;
        bases.scan_changed(&noise(*seed, length));
    });
}

/// From a byte that is looked at to the end of what is looked at there: each range is as likely as another, for most
/// bytes are those of bitmaps.
fn place(reads: &[Range<u64>], dice: &mut Dice) -> Range<u64> {
    let range = &reads[dice.below(reads.len() as u64) as usize];
    let length = range.end - range.start;
    // Structures begin where sectors do.
    let length = if dice.below(2) == 0 {
        length
    } else {
        length.min(512)
    };
    range.start + dice.below(length)..range.end
}

/// The first range that is in use in `map`, and not in `found`.
fn first_lost(map: &AllocationMap, found: &AllocationMap) -> Option<Range<u64>> {
    let mut found = found.extents().iter().peekable();
    for extent in map.extents() {
        let mut at = extent.range.start;
        while at < extent.range.end {
            match found.peek() {
                Some(next) if next.range.end <= at => {
                    found.next();
                }
                Some(next) if next.range.start <= at => at = next.range.end,
                _ => return Some(at..extent.range.end),
            }
        }
    }
    None
}

#[track_caller]
fn ext(name: &str, options: &'static str, guard: Guard) {
    let disk = Proof::of(&format!("damage-{name}"), 24 * MIB, Ext::new(options));
    assert_nothing_is_lost(&disk.aged(200).made(), guard);
}

#[test]
fn nothing_of_a_damaged_ext4_is_lost() {
    ext("ext4", "-t ext4 -b 1024", Guard::Checksums);
}

#[test]
fn nothing_of_a_damaged_ext4_with_clusters_is_lost() {
    ext(
        "bigalloc",
        "-t ext4 -b 1024 -O bigalloc -C 4096",
        Guard::Checksums,
    );
}

#[test]
fn nothing_of_a_damaged_ext2_is_lost() {
    ext("ext2", "-t ext2 -b 1024", Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_ext4_with_checksums_of_descriptors_only_is_lost() {
    let options = "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg";
    ext("uninit", options, Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_ext4_without_flex_bg_is_lost() {
    let options = "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg,^metadata_csum";
    ext("meta-bg", options, Guard::Counts);
}

/// A disk of two filesystems and what sfdisk makes of a script.
#[track_caller]
fn partitioned(name: &str, script: &'static str) {
    let disk = Proof::disk(&format!("damage-{name}"), 32 * MIB)
        .laid_out_by(|disk| {
            let sfdisk = "echo \"$1\" | sfdisk --quiet --no-reread --no-tell-kernel \"$2\"";
            tool("sh", ["-c", sfdisk, "sh", script, disk.to_str().unwrap()]);
        })
        .volume(2 * MIB..14 * MIB, Ext::new("-t ext4 -b 1024"))
        .volume(16 * MIB..28 * MIB, Ext::new("-t ext2 -b 1024"));
    assert_nothing_is_lost(&disk.made(), Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_gpt_is_lost() {
    partitioned(
        "gpt",
        "label: gpt\nstart=4096, size=24576\nstart=32768, size=24576",
    );
}

#[test]
fn nothing_of_a_damaged_mbr_is_lost() {
    partitioned(
        "mbr",
        "label: dos\nstart=4096, size=24576\nstart=30720, size=30720, type=5\nstart=32768, size=24576",
    );
}
