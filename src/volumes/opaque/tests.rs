//! A bad sector in each of the places where something has a signature.

use std::io;
use std::ops::Range;

use super::formats::FORMATS;
use crate::disk::{Disk, Kind, Underlying};
use crate::error::{Action, Error, Result};
use crate::units::{to_u64, to_usize};
use crate::volumes::{Doubt, Scan, scan};

const SIZE: u64 = 8 << 20;

/// A swap area of which some bytes are others, and one sector cannot be read.
#[derive(Debug)]
struct Area {
    bytes: Vec<u8>,
    bad: Option<u64>,
}

impl Area {
    fn with(at: u64, bytes: &[u8], bad: Option<u64>) -> Self {
        let mut area = Self {
            bytes: vec![0; to_usize(SIZE)],
            bad: bad.map(|at| at / 512 * 512),
        };
        area.put(1024, &1_u32.to_le_bytes());
        area.put(1028, &(u32::try_from(SIZE / 4096).unwrap() - 1).to_le_bytes());
        area.put(4086, b"SWAPSPACE2");
        area.put(at, bytes);
        area
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let range = to_usize(at)..to_usize(at) + bytes.len();
        self.bytes[range].copy_from_slice(bytes);
    }
}

impl Disk for Area {
    fn kind(&self) -> Kind {
        Kind::RegularFile
    }

    fn len(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let end = at + to_u64(buf.len());
        if let Some(bad) = self.bad.filter(|bad| *bad < end && at < bad + 512) {
            let error = io::Error::from_raw_os_error(5);
            return Err(Error::source_io(Action::Read(bad), error));
        }
        buf.copy_from_slice(&self.bytes[to_usize(at)..to_usize(end)]);
        Ok(())
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.read_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        512
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        Vec::new()
    }

    fn is_present(&self) -> bool {
        true
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        Ok((range.start < SIZE).then_some(range))
    }
}

#[track_caller]
fn assert_unclear(name: &str, at: u64, bytes: &[u8]) {
    let found = scan(&Area::with(at, bytes, Some(at)), Scan::Auto).unwrap();
    let is_why = matches!(found.regions[0].doubt(), Some(Doubt::Unreadable { .. }));
    assert!(is_why, "{name} at {at:#x}: {:?}", found.regions);
    assert_eq!(found.map.used(), SIZE, "{name} at {at:#x}");
}

#[test]
fn each_signature_of_each_format_that_cannot_be_read_makes_a_doubt() {
    let plain = scan(&Area::with(0, &[], None), Scan::Auto).unwrap();
    assert_eq!(plain.map.used(), 4096, "{:?}", plain.regions);
    let places = FORMATS.iter().flat_map(|format| format.places(SIZE));
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
        let found = scan(&Area::with(0, &[], Some(at)), Scan::Auto).unwrap();
        assert_eq!(found.map.used(), 4096, "{at:#x}: {:?}", found.regions);
    }
}
