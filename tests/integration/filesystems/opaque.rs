//! Formats that leave in place what was there before them: that is not believed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan};

use super::proof::{Filesystem, MIB};
use super::swap::Swap;
use crate::support::{Dir, tool};

pub const SIZE: u64 = 8 * MIB;

/// Formats, where on a disk of [`SIZE`] bytes they have a signature, and what it is.
pub const SIGNATURES: &[(&str, u64, &[u8])] = &[
    ("LUKS", 0, b"LUKS\xba\xbe\0\x01"),
    ("LUKS", 0x4000, b"SKUL\xba\xbe\0\x02"),
    ("LUKS", 0x40_0000, b"SKUL\xba\xbe\0\x02"),
    ("LVM2", 512, b"LABELONE"),
    ("BitLocker", 0, b"\xeb\x58\x90-FVE-FS-"),
    (
        "bcache",
        4096,
        b"01234567890123456789abcd\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    ("DRBD", SIZE - 4096 + 60, b"\x83\x74\x02\x6d"),
    ("VDO", 0, b"dmvdo001"),
    ("FreeBSD GEOM", SIZE - 512, b"GEOM::ELI"),
    ("Intel RAID", SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.1.00"),
    ("DDF RAID", SIZE - 512, b"\xde\x11\xde\x11"),
    ("Promise RAID", SIZE - 3087 * 512, b"Promise Technology, Inc."),
    ("Silicon Image RAID", SIZE - 512 + 96, b"\0\0\0\x2f"),
    ("Silicon Image RAID", SIZE - 1537 * 512 + 96, b"\0\0\0\x2f"),
    ("Storage Spaces", 0, b"SPACEDB "),
    ("QNX6", 0x2000, b"\x22\x11\x19\x68"),
    ("NTFS", 3, b"NTFS    "),
    ("XFS", 0, b"XFSB"),
    ("Btrfs", 0x1_0040, b"_BHRfS_M"),
    ("JFS", 0x8000, b"JFS1"),
    ("ReiserFS", 0x1_0034, b"ReIsEr2Fs"),
    ("ISO 9660", 0x8001, b"CD001"),
    ("UDF", 0x8001, b"BEA01"),
    ("UFS", 0x1_0000 + 1372, b"\x19\x01\x54\x19"),
    ("UFS", 0x2000 + 1372, b"\0\x01\x19\x54"),
    ("GFS2", 0x1_0000, b"\x01\x16\x19\x70"),
    ("VMFS", 0x10_0000, b"\x0d\xd0\x01\xc0"),
    ("BSD disk label", 512, b"\x57\x45\x56\x82"),
    ("dynamic disk", 3072, b"PRIVHEAD"),
    ("qcow", 0, b"QFI\xfb"),
];

/// What is recognised if something is written over a swap area.
fn over_swap(dir: &Dir, pieces: &[(u64, &[u8])]) -> Region {
    let path = dir.sparse("area.raw", SIZE, &[]);
    Swap::new().make(&path);
    let file = File::options().write(true).open(&path).unwrap();
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at).unwrap();
    }
    let source = disk::open(&path, Open::default()).unwrap();
    let mut regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    regions.remove(0)
}

#[track_caller]
fn assert_ambiguous(dir: &Dir, name: &str, pieces: &[(u64, &[u8])]) {
    let region = over_swap(dir, pieces);
    let expected = format!("it looks like {name} and like swap");
    assert_eq!(region.why_whole().as_deref(), Some(&*expected), "{pieces:?}");
    assert_eq!(region.used, SIZE);
}

#[test]
fn the_signature_of_another_format_makes_an_old_filesystem_unbelievable() {
    let dir = Dir::new("opaque");
    for (name, at, bytes) in SIGNATURES {
        assert_ambiguous(&dir, name, &[(*at, bytes)]);
    }
    assert_ambiguous(&dir, "Apple partition map", &[(0, b"ER\x02\0"), (512, b"PM\0\0")]);
    let list = b"\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x24\0\0\0\x20\0\0\0\x07version\0";
    for label in [0, 0x4_0000] {
        assert_ambiguous(&dir, "ZFS", &[(label + 0x4000, list)]);
    }
    let via: Vec<_> = [0x55, 0xaa, 2].into_iter().chain([0; 47]).chain([1]).collect();
    assert_ambiguous(&dir, "VIA RAID", &[(SIZE - 512, &via)]);
    let core_storage = [(8, &b"\x01\0\x10\0"[..]), (88, b"CS\x01\0\0\0")];
    assert_ambiguous(&dir, "Apple Core Storage", &core_storage);
}

#[test]
fn the_short_signature_of_jmicron_counts_with_its_checksum_as_it_does_for_others() {
    let dir = Dir::new("opaque-jmicron");
    // The third word makes all of them come to `sum`.
    let sector = |sum: u16| {
        let mut sector = [0; 128];
        sector[..4].copy_from_slice(b"JM\x01\0");
        sector[48] = 1;
        let others = 0x4d4a + 1 + 1;
        sector[4..6].copy_from_slice(&sum.wrapping_sub(others).to_le_bytes());
        sector
    };
    for sum in [0, 1] {
        assert_ambiguous(&dir, "JMicron RAID", &[(SIZE - 512, &sector(sum))]);
        let area = dir.join("area.raw");
        let told = tool("wipefs", [area.to_str().unwrap()]);
        assert!(told.contains("jmicron_raid_member"), "{told}");
    }
    let other = over_swap(&dir, &[(SIZE - 512, &sector(2))]);
    assert_eq!(other.why_whole(), None);
}

#[test]
fn a_signature_that_is_not_where_it_belongs_is_none() {
    let dir = Dir::new("opaque-misplaced");
    for at in [2048, 0x5000, SIZE - 4096] {
        let region = over_swap(&dir, &[(at, b"LABELONE"), (at + 64, b"LUKS\xba\xbe")]);
        assert_eq!(region.why_whole(), None, "{at:#x}");
    }
}

#[test]
fn what_has_a_signature_and_looks_like_nothing_else_is_told_by_name() {
    let dir = Dir::new("opaque-alone");
    let path = dir.sparse("disk.raw", MIB, &[(0x8000, b"JFS1")]);
    let source = disk::open(&path, Open::default()).unwrap();
    let regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    assert_eq!(regions[0].name, Some("JFS"));
    assert_eq!(regions[0].why_whole().unwrap(), "free space not known");
    let run = dir.run("disk.raw image.qcow2").exits(0);
    assert!(!run.stderr().contains("warning"), "{}", run.stderr());
}

#[test]
fn what_a_hash_tree_protects_is_copied_whole() {
    let dir = Dir::new("opaque-verity");
    let pages = (1028, &99_u32.to_le_bytes()[..]);
    for piece in [(100 * 4096, &b"verity\0\0"[..]), (SIZE - 64, b"AVBf")] {
        let region = over_swap(&dir, &[pages, piece]);
        let why = region.why_whole().unwrap();
        assert!(why.starts_with("dm-verity may protect it"), "{why}");
        assert_eq!(region.used, SIZE);
    }
    let plain = over_swap(&dir, &[pages, (101 * 4096, b"verity\0\0")]);
    assert_eq!(plain.why_whole(), None);
}
