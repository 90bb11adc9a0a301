//! Disks with a sector that cannot be read: it counts as the worst that may be in it.

use std::fs;
use std::ops::Range;

use mkqcow2::volumes::{Allocation, Doubt, State, Treatment};

use super::opaque::{SIGNATURES, SIZE};
use super::patched::Patched;
use super::proof::exfat::Exfat;
use super::proof::ext::Ext;
use super::proof::fat::Fat;
use super::proof::{Filesystem, MIB};
use super::swap::Swap;
use crate::corpus::in_parallel;
use crate::support::Dir;

const SECTOR: u64 = 512;

/// The bytes of a disk that a filesystem was made on.
fn made(dir: &Dir, size: u64, filesystem: &dyn Filesystem) -> Vec<u8> {
    let path = dir.sparse("disk.raw", size, &[]);
    filesystem.make(&path);
    fs::read(path).unwrap()
}

#[track_caller]
fn assert_unreadable(found: &Allocation, size: u64, what: &str) {
    let whole = &found.regions[0];
    let is_why = matches!(whole.doubt(), Some(Doubt::Unreadable { .. }));
    assert!(is_why, "{what}: {whole:?}");
    assert_eq!(found.map.used(), size, "{what}");
}

#[test]
fn a_signature_that_cannot_be_read_is_not_taken_for_an_absent_one() {
    let dir = Dir::new("unclear-signatures");
    let filesystems: [(&str, &dyn Filesystem); 4] = [
        ("swap", &Swap::new()),
        ("ext4", &Ext::new("-t ext4 -b 1024")),
        ("FAT16", &Fat::new("-F 16 -s 2")),
        ("exFAT", &Exfat::new("-c 4K")),
    ];
    for (name, filesystem) in filesystems {
        let disk = made(&dir, SIZE, filesystem);
        let free = Patched::new(&disk).scan().bytes(State::Free);
        assert!(free > SIZE / 4, "{name}: {free} bytes are free");
        for (format, at, bytes) in SIGNATURES {
            let mut damaged = Patched::new(&disk);
            damaged.put(*at, bytes);
            damaged.fail(*at..at + bytes.len() as u64);
            assert_unreadable(&damaged.scan(), SIZE, &format!("{format} at {at:#x} of {name}"));
        }
    }
}

/// What may be in a sector instead of what is there: what makes other things of a disk.
fn worst(at: u64) -> Vec<(u64, Vec<u8>)> {
    let within = |place: &u64| (at..at + SECTOR).contains(place);
    let formats = SIGNATURES.iter().map(|(_, at, bytes)| (*at, bytes.to_vec()));
    let sleeping = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10]
        .map(|page| (page - 10, b"S1SUSPEND\0".to_vec()))
        .into_iter()
        .chain([(0, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c".to_vec())]);
    let mut others: Vec<_> = formats
        .chain(sleeping)
        .filter(|(place, _)| within(place))
        .collect();
    others.push((at, b"verity\0\0".to_vec()));
    others.push((at + SECTOR - 64, b"AVBf".to_vec()));
    others.push((at, vec![0; SECTOR as usize]));
    others
}

/// Of any sector that is looked at, unreadable: as much is copied as of any of those that may be there.
#[track_caller]
fn assert_the_worst_counts(disk: &[u8]) {
    let whole = Patched::new(disk);
    let size = disk.len() as u64;
    assert!(whole.scan().bytes(State::Free) > 0);
    let sectors: Vec<u64> = whole
        .reads()
        .into_iter()
        .flat_map(|Range { start, end }| (start / SECTOR * SECTOR..end).step_by(SECTOR as usize))
        .collect();
    in_parallel(&sectors, |at| {
        let mut damaged = Patched::new(disk);
        damaged.fail(*at..at + 1);
        let found = damaged.scan();
        for (place, bytes) in worst(*at) {
            let mut other = Patched::new(disk);
            other.put(place, &bytes);
            let other = other.scan();
            // What something else calls free is not compared, only what is not believed at all.
            let is_doubted = other.regions[0].doubt().is_some();
            assert!(
                !is_doubted || found.map.used() == size,
                "{at:#x} may be {bytes:x?}: {:?}\nbut {:?}",
                other.regions,
                found.regions
            );
        }
    });
}

#[test]
fn a_sector_that_cannot_be_read_counts_as_the_worst_that_may_be_in_it() {
    let dir = Dir::new("unclear-worst");
    assert_the_worst_counts(&made(&dir, SIZE, &Swap::new()));
    assert_the_worst_counts(&made(&dir, SIZE, &Ext::new("-t ext4 -b 1024")));
    assert_the_worst_counts(&made(&dir, SIZE, &Fat::new("-F 16 -s 2")));
    assert_the_worst_counts(&made(&dir, SIZE, &Exfat::new("-c 4K")));
}

/// Two swap areas in the partitions that sfdisk makes by a script.
fn two_areas(dir: &Dir, script: &str) -> Vec<u8> {
    let path = dir.sparse("disk.raw", 8 * MIB, &[]);
    super::partitions::disk::sfdisk(&path, script);
    let mut disk = fs::read(&path).unwrap();
    let area = made(dir, 2 * MIB, &Swap::new());
    for start in [MIB, 4 * MIB] {
        disk[start as usize..][..area.len()].copy_from_slice(&area);
    }
    disk
}

const TWO_OF_A_GPT: &str = "label: gpt\nstart=1M,size=2M\nstart=4M,size=2M\n";

#[test]
fn a_partition_that_may_be_something_else_is_copied_whole_and_its_neighbours_are_not() {
    let dir = Dir::new("unclear-partition");
    for script in [TWO_OF_A_GPT, "label: dos\nstart=1M,size=2M\nstart=4M,size=2M\n"] {
        let disk = two_areas(&dir, script);
        // Where bcache would be told, and no page ends.
        let mut damaged = Patched::new(&disk);
        damaged.fail(4 * MIB + 4096..4 * MIB + 4608);
        let found = damaged.scan();
        let used: Vec<_> = found.regions[1..].iter().map(|region| region.used).collect();
        assert_eq!(used, [4096, 2 * MIB], "{:?}", found.regions);
        let why = found.regions[2].why_whole().unwrap();
        let expected = "signature at 0x401018 cannot be read: Input/output error";
        assert_eq!(why, expected);
    }
}

#[test]
fn a_neighbour_that_may_be_asleep_makes_all_of_the_disk_doubtful() {
    let dir = Dir::new("unclear-asleep");
    let disk = two_areas(&dir, TWO_OF_A_GPT);
    // The end of the first page, and of one of 64K.
    for at in [4 * MIB + 4096 - 512, 4 * MIB + 65536 - 512] {
        let mut damaged = Patched::new(&disk);
        damaged.fail(at..at + 512);
        let found = damaged.scan();
        let why = found.regions[1].why_whole().unwrap();
        let expected = "a partition of this disk cannot be read where the signature of a hibernated system";
        assert!(why.starts_with(expected), "{at:#x}: {why}");
        assert_eq!(found.map.used(), 8 * MIB);
    }
}

#[test]
fn what_follows_a_filesystem_and_cannot_be_read_may_be_a_hash_tree() {
    let dir = Dir::new("unclear-verity");
    // Nothing else is told there.
    let end = MIB + (64 << 10);
    let mut disk = made(&dir, end, &Swap::new());
    disk.resize(3 << 20, 0);
    assert!(Patched::new(&disk).scan().bytes(State::Free) > 0);
    let mut damaged = Patched::new(&disk);
    damaged.fail(end..end + 512);
    assert_unreadable(&damaged.scan(), 3 * MIB, "a hash tree");
}

#[test]
fn a_gpt_whose_first_header_cannot_be_read_is_taken_from_the_other_if_the_entries_prove_it() {
    let dir = Dir::new("unclear-gpt");
    let disk = two_areas(&dir, TWO_OF_A_GPT);
    let header = |disk: &[u8]| {
        let mut damaged = Patched::new(disk);
        damaged.fail(512..1024);
        damaged.scan()
    };
    let found = header(&disk);
    let used: Vec<_> = found.regions[1..].iter().map(|region| region.used).collect();
    assert_eq!(used, [4096, 4096], "{:?}", found.regions);
    let [flaw] = &*found.flaws else {
        panic!("{:?}", found.flaws);
    };
    assert_eq!(
        flaw.to_string(),
        "the primary GPT at 0x200 is damaged (signature at 0x200 cannot be read: Input/output error), \
         the other one at 0x7ffe00 is good: sgdisk -e repairs that"
    );

    // Where something else was put over the old GPT, its entries are not what they were.
    let mut over = disk.clone();
    over[1024 + 3] ^= 1;
    assert_unreadable(&header(&over), 8 * MIB, "other entries");

    // The header of a second table, for sectors of 2048 bytes, may be among the entries of the backup.
    let mut damaged = Patched::new(&disk);
    damaged.fail(8 * MIB - 2048..8 * MIB - 1536);
    assert_unreadable(&damaged.scan(), 8 * MIB, "a second table");

    // An entry that cannot be read, where nothing else is told; and where the superblock of bcache may be.
    for (at, is_whole) in [(5 * 512, false), (4096, true)] {
        let mut damaged = Patched::new(&disk);
        damaged.fail(at..at + 512);
        let found = damaged.scan();
        assert_eq!(found.map.used() == 8 * MIB, is_whole, "{:?}", found.regions);
        let is_named =
            |flaw: &mkqcow2::volumes::Flaw| flaw.to_string().contains("(GPT entries at 0x400 cannot be read");
        assert!(found.flaws.iter().any(is_named), "{:?}", found.flaws);
    }
}

#[test]
fn a_beginning_that_cannot_be_read_is_a_doubt_whatever_follows() {
    let dir = Dir::new("unclear-beginning");
    for disk in [
        vec![0x5a; 2 << 20],
        two_areas(&dir, TWO_OF_A_GPT),
        made(&dir, SIZE, &Ext::new("-t ext4 -b 1024")),
    ] {
        let mut damaged = Patched::new(&disk);
        damaged.fail(0..512);
        assert_unreadable(&damaged.scan(), disk.len() as u64, "the beginning");
    }
}

#[test]
fn what_is_known_for_something_else_is_not_doubted_for_other_sectors() {
    let mut disk = vec![0; 8 << 20];
    disk[..6].copy_from_slice(b"LUKS\xba\xbe");
    let mut damaged = Patched::new(&disk);
    damaged.fail(64 << 10..72 << 10);
    let found = damaged.scan();
    let whole = &found.regions[0];
    let is_known = matches!(whole.treatment, Treatment::Whole(_)) && whole.name == Some("LUKS");
    assert!(is_known, "{whole:?}");
}
