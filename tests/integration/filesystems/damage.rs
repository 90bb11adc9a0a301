//! Disks of which some bits are others than they were: whatever is made of them, nothing that was in use before is
//! called free, unless nobody could tell.

use std::fs;
use std::ops::Range;
use std::path::Path;

use mkqcow2::volumes::{AllocationMap, Treatment};

use super::patched::{Bases, Patched};
use super::proof::exfat::Exfat;
use super::proof::ext::Ext;
use super::proof::fat::Fat;
use super::proof::{Given, MIB, Proof, mounted};
use crate::corpus::in_parallel;
use crate::support::{Dice, noise, tool};

/// How many damaged disks of each kind are looked into.
const SEEDS: u64 = 200;

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
    assert_nothing_is_lost_but_where(given, guard, &(0..0));
}

/// The same for a disk of which nothing guards the bytes in `unguarded`.
#[track_caller]
fn assert_nothing_is_lost_but_where(given: &Given, guard: Guard, unguarded: &Range<u64>) {
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
            if unguarded.contains(&range.start) {
                continue;
            }
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
fn nothing_of_a_damaged_ext4_is_lost_as_root() {
    ext("ext4", "-t ext4 -b 1024", Guard::Checksums);
}

#[test]
fn nothing_of_a_damaged_ext4_with_clusters_is_lost_as_root() {
    ext(
        "bigalloc",
        "-t ext4 -b 1024 -O bigalloc -C 4096",
        Guard::Checksums,
    );
}

#[test]
fn nothing_of_a_damaged_ext2_is_lost_as_root() {
    ext("ext2", "-t ext2 -b 1024", Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_ext4_with_checksums_of_descriptors_only_is_lost_as_root() {
    let options = "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg";
    ext("uninit", options, Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_ext4_without_flex_bg_is_lost_as_root() {
    let options = "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg,^metadata_csum";
    ext("meta-bg", options, Guard::Counts);
}

/// A filesystem that was in use when its disk was copied: what was written last is in its journal only.
#[track_caller]
fn with_journal(name: &str, options: &'static str, guard: Guard) {
    let given = Proof::of(&format!("damage-{name}"), 24 * MIB, Ext::new(options)).made();
    let mut disk = Vec::new();
    mounted("commit=300", &given.disk, given.place.dir.path(), &mut |root| {
        for i in 0..60 {
            fs::write(root.join(format!("late-{i}")), noise(i, 5000)).unwrap();
            if i % 20 == 19 {
                tool("sync", [Path::new("-f"), root]);
            }
        }
        disk = fs::read(&given.disk).unwrap();
    });
    fs::write(&given.disk, disk).unwrap();
    assert_nothing_is_lost(&given, guard);
}

#[test]
fn nothing_of_a_damaged_journal_is_lost_as_root() {
    with_journal("journal", "-t ext3 -b 1024", Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_journal_with_checksums_is_lost_as_root() {
    with_journal("journal-sums", "-t ext4 -b 1024", Guard::Checksums);
}

#[track_caller]
fn fat(name: &str, size: u64, options: &'static str) {
    let disk = Proof::of(&format!("damage-{name}"), size, Fat::new(options));
    assert_nothing_is_lost(&disk.made(), Guard::Counts);
}

#[test]
fn nothing_of_a_damaged_fat12_is_lost_as_root() {
    fat("fat12", 4 * MIB, "-F 12 -s 4");
}

#[test]
fn nothing_of_a_damaged_fat16_is_lost_as_root() {
    fat("fat16", 16 * MIB, "-F 16 -s 2");
}

#[test]
fn nothing_of_a_damaged_fat32_is_lost_as_root() {
    fat("fat32", 36 * MIB, "-F 32 -s 1");
}

#[test]
fn nothing_of_a_damaged_exfat_is_lost_as_root() {
    let given = Proof::of("damage-exfat", 16 * MIB, Exfat::new("-c 4K")).made();
    // The bitmap comes first of all clusters, and after an unmount nothing else is asked what is free.
    let boot = fs::read(&given.disk).unwrap();
    let sector = u32::from_le_bytes(boot[88..92].try_into().unwrap());
    let bitmap = u64::from(sector) * 512;
    assert_nothing_is_lost_but_where(&given, Guard::Counts, &(bitmap..bitmap + 4096));
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
fn nothing_of_a_damaged_gpt_is_lost_as_root() {
    partitioned(
        "gpt",
        "label: gpt\nstart=4096, size=24576\nstart=32768, size=24576",
    );
}

#[test]
fn nothing_of_a_damaged_mbr_is_lost_as_root() {
    partitioned(
        "mbr",
        "label: dos\nstart=4096, size=24576\nstart=30720, size=30720, type=5\nstart=32768, size=24576",
    );
}
