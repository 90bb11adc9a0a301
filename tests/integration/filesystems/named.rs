//! Formats that are named and copied whole: by their names, also where they lie over an old filesystem.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Glance, Region, Scan};

use super::proof::MIB;
use crate::support::{Dir, noise};

const SIZE: u64 = 8 * MIB;

/// What a disk is recognised as: with a map and at a glance the same.
#[track_caller]
fn region(file: &Path) -> Region {
    let source = disk::open(file, Open::default()).unwrap();
    let region = volumes::scan(&source, Scan::Auto).unwrap().regions.remove(0);
    let glance = Glance::of(&source);
    assert_eq!(glance.regions[0].name, region.name);
    assert_eq!(
        glance.is_anything(),
        region.name.is_some()
            || region
                .why_whole()
                .is_some_and(|why| why.starts_with("it looks like"))
    );
    region
}

fn put(file: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Makes sure that a disk is named, and copied whole.
#[track_caller]
fn assert_named(dir: &Dir, file: &Path, name: &str) {
    let found = region(file);
    assert_eq!(found.name, Some(name));
    assert_eq!(found.why_whole().as_deref(), Some("free space not known"));
    assert_eq!(found.used, file.metadata().unwrap().len());
    let run = dir.run(&format!("map --regions {}", file.display())).exits(0);
    assert!(run.stdout().contains(name), "{}", run.stdout());
}

/// A disk of noise, but for its first 128 KiB, with some bytes in some places.
fn made(dir: &Dir, pieces: &[(u64, &[u8])]) -> std::path::PathBuf {
    let path = dir.sparse("disk.raw", SIZE, &[(MIB, &noise(9, 1 << 20))]);
    for (at, bytes) in pieces {
        put(&path, *at, bytes);
    }
    path
}

/// The superblock of the filesystem of `BeOS`: its three magics, the byte order and the size of blocks. blkid wants a
/// root directory, too.
#[test]
fn two_filesystems_are_called_bfs() {
    let dir = Dir::new("named-bfs");
    let mut block = [0; 512];
    let mut word = |at: usize, value: u32| block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for (at, value) in [
        (32, 0x4246_5331),
        (36, 0x4249_4745),
        (40, 2048),
        (44, 11),
        (68, 0xdd12_1031),
        (112, 0x15b6_830e),
    ] {
        word(at, value);
    }
    let path = made(&dir, &[(512, &block)]);
    assert_named(&dir, &path, "BeOS BFS");
}

const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";

#[test]
fn an_old_bcachefs_is_no_bcache_although_it_has_its_magic() {
    let dir = Dir::new("named-bcachefs");
    let mut bcache = [0; 256];
    bcache[8] = 8;
    bcache[16] = 1;
    bcache[24..40].copy_from_slice(BCACHE);
    // The flags of a cache that drops what it drops at random.
    bcache[104] = 8;
    assert_named(&dir, &made(&dir, &[(4096, &bcache)]), "bcache");

    let mut bcachefs = [0; 256];
    bcachefs[16] = 13;
    bcachefs[24..40].copy_from_slice(BCACHE);
    bcachefs[104] = 8;
    (bcachefs[120], bcachefs[122], bcachefs[123]) = (8, 1, 2);
    assert_named(&dir, &made(&dir, &[(4096, &bcachefs)]), "bcachefs");
    // Of no device.
    bcachefs[123] = 1;
    assert_named(&dir, &made(&dir, &[(4096, &bcachefs)]), "bcache");
}

#[test]
fn a_disc_with_iso_9660_and_udf_is_told_to_have_both() {
    let dir = Dir::new("named-bridge");
    let disc = |names: &[&[u8; 5]]| {
        let sectors = (16_u64..).zip(names);
        let bytes: Vec<_> = sectors
            .map(|(sector, name)| (sector * 2048 + 1, &name[..]))
            .collect();
        made(&dir, &bytes)
    };
    let iso = [b"CD001", b"CD001", b"CD001"];
    for version in [b"NSR02", b"NSR03"] {
        let both: Vec<_> = iso.into_iter().chain([b"BEA01", version, b"TEA01"]).collect();
        assert_named(&dir, &disc(&both), "ISO 9660 and UDF");
    }
    assert_named(&dir, &disc(&iso), "ISO 9660");
    assert_named(
        &dir,
        &disc(&[b"CD001", b"CD001", b"\0\0\0\0\0", b"BEA01", b"NSR02"]),
        "ISO 9660",
    );
    assert_named(&dir, &disc(&[b"BEA01", b"NSR02", b"TEA01"]), "UDF");
}
