//! A bad sector in each of the places where something has a signature.

use super::known;
use crate::disk::MemoryDisk;
use crate::signatures::Mark;
use crate::volumes::{Doubt, Scan, scan};

const SIZE: u64 = 8 << 20;

/// A swap area of which some bytes are others, and one sector may be unreadable.
fn swap_with(at: u64, bytes: &[u8], bad: Option<u64>) -> MemoryDisk {
    let mut area = MemoryDisk::new(SIZE);
    let sector = |at: u64| at / 512 * 512;
    area.bad = bad.map_or(0..0, |at| sector(at)..sector(at) + 512);
    area.put(1024, &1_u32.to_le_bytes());
    area.put(1028, &(u32::try_from(SIZE / 4096).unwrap() - 1).to_le_bytes());
    area.put(4086, b"SWAPSPACE2");
    area.put(at, bytes);
    area
}

#[track_caller]
fn assert_unclear(name: &str, at: u64, bytes: &[u8]) {
    let found = scan(&swap_with(at, bytes, Some(at)), Scan::Auto).unwrap();
    let is_why = matches!(found.regions[0].doubt(), Some(Doubt::Unreadable { .. }));
    assert!(is_why, "{name} at {at:#x}: {:?}", found.regions);
    assert_eq!(found.map.used(), SIZE, "{name} at {at:#x}");
}

#[test]
fn each_signature_of_each_format_that_cannot_be_read_makes_a_doubt() {
    let plain = scan(&swap_with(0, &[], None), Scan::Auto).unwrap();
    assert_eq!(plain.map.used(), 4096, "{:?}", plain.regions);
    let marks = known().flat_map(|format| format.marks.iter().map(|mark| (format.name, *mark)));
    let places = marks.map(|(name, mark)| match mark {
        Mark::At(at, bytes) => (name, at, bytes),
        Mark::Back(back, bytes) => (name, SIZE - back, bytes),
    });
    let mut count = 0;
    for (name, at, bytes) in places {
        assert_unclear(name, at, bytes);
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn so_does_each_place_of_those_that_are_computed() {
    let promise = [16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991, 3087];
    let promise = promise.map(|sector| ("Promise RAID", SIZE - sector * 512));
    let others = [
        ("Linux RAID", 0),
        ("Linux RAID", 4 << 10),
        ("Linux RAID", SIZE - (8 << 10)),
        ("Linux RAID", SIZE - (64 << 10)),
        ("VIA, JMicron RAID", SIZE - 512),
        ("ZFS", 16 << 10),
        ("ZFS", 272 << 10),
        ("minix", 1024),
        ("Apple partition map", 512),
    ];
    for (name, at) in promise.into_iter().chain(others) {
        assert_unclear(name, at, &[]);
    }
}

#[test]
fn a_sector_without_any_signature_is_not_asked_for() {
    for at in [5 << 10, 24 << 10, 3 << 20, SIZE - 9 * 512] {
        let found = scan(&swap_with(0, &[], Some(at)), Scan::Auto).unwrap();
        assert_eq!(found.map.used(), 4096, "{at:#x}: {:?}", found.regions);
    }
}
