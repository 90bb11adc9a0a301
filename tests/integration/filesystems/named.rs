//! Formats that are named and copied whole: by their names, also where they lie over an old filesystem. Where blkid
//! knows them, it tells the same.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Glance, Region, Scan};

use super::proof::MIB;
use crate::support::{Dir, noise, tool};

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

/// What blkid says of a file: what `key` is, if it knows it.
fn blkid(file: &Path, key: &str) -> Option<String> {
    let file = file.to_str().unwrap();
    let told = Command::new("blkid")
        .args(["-p", "-o", "value", "-s", key, file])
        .output();
    let told = String::from_utf8(told.unwrap().stdout).unwrap();
    let told = told.trim_end();
    (!told.is_empty()).then(|| told.to_owned())
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

/// The CRC-32C of bytes, as the checksums of mpool and `ScoutFS` have it: without what is done at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 {
                crc >> 1
            } else {
                crc >> 1 ^ 0x82f6_3b78
            }
        })
    })
}

/// The descriptor of an mpool.
fn mpool() -> Vec<u8> {
    let mut descriptor = b"mpoolDev".to_vec();
    descriptor.extend(b"pool".iter().chain(&[0; 28]));
    descriptor.extend([7; 16]);
    descriptor.extend([1, 0, 1, 0, 0, 0]);
    let sum = !crc32c(&descriptor);
    descriptor.extend(sum.to_le_bytes());
    descriptor
}

/// The superblock of a `ScoutFS`.
fn scoutfs() -> Vec<u8> {
    let mut block = vec![0; 4096];
    block[4..8].copy_from_slice(b"\x8b\x42\x3c\x10");
    block[8..16].copy_from_slice(&[3; 8]);
    block[56..72].copy_from_slice(&[5; 16]);
    let sum = crc32c(&block[4..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
    block
}

/// The root sector of an Atari's disk: its partitions, each with flags, an ID, a start and a size in sectors.
fn atari(sectors: u32, partitions: &[(u8, &[u8; 3], u32, u32)]) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[0x1c2..0x1c6].copy_from_slice(&sectors.to_be_bytes());
    for (number, (flags, id, start, size)) in partitions.iter().enumerate() {
        let entry = &mut sector[0x1c6 + number * 12..][..12];
        entry[0] = *flags;
        entry[1..4].copy_from_slice(*id);
        entry[4..8].copy_from_slice(&start.to_be_bytes());
        entry[8..].copy_from_slice(&size.to_be_bytes());
    }
    sector
}

/// One that is as it should be.
fn sound_atari() -> [u8; 512] {
    atari(16384, &[(1, b"GEM", 2, 8000), (1, b"BGM", 8002, 8000)])
}

#[test]
fn what_its_own_tool_makes_has_its_name() {
    let dir = Dir::new("named-made");
    for (command, name, of_blkid) in [
        (&["mkfs.bfs"][..], "SCO BFS", "bfs"),
        (&["mkfs.minix", "-1", "-n", "14"], "minix", "minix"),
        (&["mkfs.minix", "-1"], "minix", "minix"),
        (&["mkfs.minix", "-2", "-n", "14"], "minix", "minix"),
        (&["mkfs.minix", "-2"], "minix", "minix"),
        (&["mkfs.minix", "-3"], "minix", "minix"),
    ] {
        let path = dir.sparse("disk.raw", SIZE, &[]);
        tool(
            command[0],
            command[1..].iter().copied().chain([path.to_str().unwrap()]),
        );
        assert_eq!(blkid(&path, "TYPE").as_deref(), Some(of_blkid), "{command:?}");
        assert_named(&dir, &path, name);
    }
}

/// Turns the numbers of 16 and 32 bits of a superblock around.
fn turn(bytes: &mut [u8], fields: &[(usize, usize)]) {
    for (at, length) in fields {
        bytes[1024 + at..][..*length].reverse();
    }
}

#[test]
fn minix_of_a_big_endian_machine_is_minix() {
    let dir = Dir::new("named-minix");
    let words = [0, 2, 4, 6, 8, 10, 16, 18].map(|at| (at, 2));
    let old: Vec<_> = words.into_iter().chain([(12, 4), (20, 4)]).collect();
    let third = [
        (0, 4),
        (6, 2),
        (8, 2),
        (10, 2),
        (12, 2),
        (16, 4),
        (20, 4),
        (24, 2),
        (28, 2),
    ];
    for (version, fields) in [("-1", &*old), ("-2", &*old), ("-3", &third)] {
        let path = dir.sparse("disk.raw", SIZE, &[]);
        tool("mkfs.minix", [version, path.to_str().unwrap()]);
        let mut bytes = fs::read(&path).unwrap();
        turn(&mut bytes, fields);
        fs::write(&path, &bytes).unwrap();
        // libblkid looks for version 3 of the other byte order with a magic that it does not turn around.
        if version != "-3" {
            assert_eq!(blkid(&path, "TYPE").as_deref(), Some("minix"), "{version}");
        }
        assert_named(&dir, &path, "minix");
    }
}

/// The UUID of a swap area, or of a partition, has two bytes where minix has its magic.
#[test]
fn a_number_that_is_the_magic_of_minix_by_chance_is_none() {
    let dir = Dir::new("named-minix-chance");
    for magic in [
        b"\x7f\x13",
        b"\x8f\x13",
        b"\x68\x24",
        b"\x13\x7f",
        b"\x24\x78",
        b"\x4d\x5a",
    ] {
        for at in [1040, 1048] {
            let path = dir.sparse("disk.raw", SIZE, &[]);
            let uuid = "deadbeef-dead-4eef-beef-123456789abc";
            tool("mkswap", ["-U", uuid, path.to_str().unwrap()]);
            put(&path, at, magic);
            assert_eq!(region(&path).name, Some("swap"), "{magic:x?} at {at}");
            assert_eq!(region(&path).used, 4096);
        }
    }
}

#[test]
fn what_blkid_knows_has_its_name_here_too() {
    let dir = Dir::new("named-known");
    for (name, of_blkid, at, bytes) in [
        ("mpool", Some("mpool"), 0, &mpool()[..]),
        ("NetWare NSS", Some("nss"), 4096, b"SPB5\x05\0\0\0\x17\0\x05\0"),
        // Known to libblkid of version 2.41 and later.
        ("ScoutFS", None, 64 << 10, &scoutfs()),
        // Of this blkid wants the checksum, too.
        ("UBIFS", None, 0, b"\x31\x18\x10\x06"),
        ("DASD disk label", None, 8192 + 4, b"\xe5\xd6\xd3\xf1"),
        ("DASD disk label", None, 1024, b"\xd3\xd5\xe7\xf1"),
        ("DASD disk label", None, 8192, b"\xc3\xd4\xe2\xf1"),
    ] {
        let path = made(&dir, &[(at, bytes)]);
        if of_blkid.is_some() {
            assert_eq!(blkid(&path, "TYPE").as_deref(), of_blkid, "{name}");
        }
        assert_named(&dir, &path, name);
        // Nowhere else is that a signature.
        let path = made(&dir, &[(at + 512, bytes)]);
        assert_eq!(region(&path).name, None, "{name}");
    }
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

#[test]
fn the_log_of_an_xfs_on_a_device_of_its_own_has_a_name() {
    let dir = Dir::new("named-log");
    let disk = dir.sparse("disk.raw", 300 * MIB, &[]);
    let log = dir.sparse("log.raw", 64 * MIB, &[]);
    let option = format!("logdev={},size=64m", log.display());
    tool("mkfs.xfs", ["-q", "-f", "-l", &option, disk.to_str().unwrap()]);
    assert_eq!(blkid(&log, "TYPE").as_deref(), Some("xfs_external_log"));
    assert_named(&dir, &log, "XFS external log");
    assert_eq!(region(&disk).name, Some("XFS"));

    // A record further behind, where the head is.
    let record: [u8; 512] = fs::read(&log).unwrap()[..512].try_into().unwrap();
    put(&log, 0, &[0; 512]);
    put(&log, 99 * 512, &record);
    assert_eq!(blkid(&log, "TYPE").as_deref(), Some("xfs_external_log"));
    assert_named(&dir, &log, "XFS external log");
    // Behind the beginning of an XFS, in which it may be the log.
    put(&log, 63 * 512, b"XFSB");
    assert_eq!(blkid(&log, "TYPE"), None);
    assert_eq!(region(&log).name, None);
}

/// `mkfs.xfs` writes zeros over all that is in the log: a filesystem there is a newer one.
#[test]
fn a_stale_record_of_an_xfs_log_makes_no_filesystem_unbelievable() {
    let dir = Dir::new("named-log-stale");
    let path = ext4(&dir, 16 * MIB);
    let mut record = [0; 512];
    record[..16].copy_from_slice(b"\xfe\xed\xba\xbe\0\0\0\x01\0\0\0\x02\0\0\x02\0");
    record[303] = 1;
    put(&path, 0, &record);
    let region = region(&path);
    assert_eq!((region.name, region.why_whole()), (Some("ext4"), None));
    // Alone it is one.
    let alone = dir.sparse("alone.raw", 16 * MIB, &[(0, &record)]);
    assert_named(&dir, &alone, "XFS external log");
}

#[test]
fn drbd_is_told_by_its_last_block_wherever_the_disk_ends() {
    let dir = Dir::new("named-drbd");
    for magic in [0x6b, 0x6c, 0x6d] {
        for more in [0, 512, 3584] {
            let path = dir.sparse("disk.raw", SIZE + more, &[]);
            let mut block = [0; 4096];
            block[60..64].copy_from_slice(&[0x83, 0x74, 2, magic]);
            // The bytes that one bit of the bitmap stands for.
            block[82] = 16;
            let sizes: [u8; 4] = 4096_u32.to_be_bytes();
            block[80..84].copy_from_slice(&sizes);
            put(&path, SIZE - 4096, &block);
            if more == 0 {
                assert_eq!(blkid(&path, "TYPE").as_deref(), Some("drbd"), "{magic:x}");
            }
            assert_named(&dir, &path, "DRBD");
        }
    }
}

#[test]
fn md_of_version_0_90_is_told_by_its_superblock_near_the_end() {
    let dir = Dir::new("named-md");
    let words = [
        0xa92b_4efc_u32,
        0,
        90,
        3,
        0,
        0x1234,
        0,
        5,
        64,
        3,
        3,
        0,
        0,
        1,
        2,
        3,
    ];
    for more in [0, 512, 60 << 10] {
        for from in [u32::to_le_bytes, u32::to_be_bytes] {
            let bytes: Vec<_> = words.iter().flat_map(|word| from(*word)).collect();
            let path = dir.sparse("disk.raw", SIZE + more, &[(SIZE - (64 << 10), &bytes)]);
            assert_eq!(blkid(&path, "TYPE").as_deref(), Some("linux_raid_member"));
            let found = region(&path);
            assert_eq!(found.name, Some("Linux RAID"));
            assert_eq!(found.used, SIZE + more);
        }
    }
}

#[test]
fn the_table_of_an_atari_is_told_by_what_it_says_of_the_disk() {
    let dir = Dir::new("named-atari");
    let sector = sound_atari();
    let path = made(&dir, &[(0, &sector)]);
    assert_eq!(blkid(&path, "PTTYPE").as_deref(), Some("atari"));
    assert_named(&dir, &path, "Atari partition table");

    let mut bad_sectors = sector;
    bad_sectors[0x1f6..0x1fe].copy_from_slice(&[0, 0, 0x3e, 0x90, 0, 0, 0, 9]);
    for sector in [
        atari(2000, &[(0, b"GEM", 0, 0), (0x81, b"XGM", 1000, 1000)]),
        bad_sectors,
    ] {
        let path = made(&dir, &[(0, &sector)]);
        assert_eq!(blkid(&path, "PTTYPE").as_deref(), Some("atari"));
        assert_named(&dir, &path, "Atari partition table");
    }

    let mut no_list = bad_sectors;
    no_list[0x1fd] = 0;
    for sector in [
        // Larger than the disk; of one sector; partitions that are not active, not named, empty, or not in it.
        atari(16385, &[(1, b"GEM", 2, 8000)]),
        atari(1, &[(1, b"GEM", 2, 8000)]),
        atari(16384, &[(2, b"GEM", 2, 8000)]),
        atari(16384, &[(1, b"G-M", 2, 8000)]),
        atari(16384, &[(1, b"GEM", 0, 8000)]),
        atari(16384, &[(1, b"GEM", 2, 0)]),
        atari(16384, &[(1, b"GEM", 2, 16383)]),
        atari(16384, &[(1, b"GEM", u32::MAX, 2)]),
        no_list,
    ] {
        let path = made(&dir, &[(0, &sector)]);
        assert_eq!(blkid(&path, "PTTYPE"), None);
        assert_eq!(region(&path).name, None, "{:x?}", &sector[0x1c2..]);
    }
    // A boot sector of a PC, whose text happens to look like it.
    let mut boot = sector;
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    assert_ne!(
        region(&made(&dir, &[(0, &boot)])).name,
        Some("Atari partition table")
    );
}

/// An ext4 with a file in it.
fn ext4(dir: &Dir, size: u64) -> std::path::PathBuf {
    let files = dir.join("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("file"), noise(1, 1 << 20)).unwrap();
    let path = dir.sparse("disk.raw", size, &[]);
    let files = files.to_str().unwrap();
    tool(
        "mke2fs",
        ["-q", "-F", "-t", "ext4", "-d", files, path.to_str().unwrap()],
    );
    path
}

#[test]
fn a_stale_ext4_below_a_newer_format_is_copied_whole() {
    let dir = Dir::new("named-stale");
    for (name, at, bytes) in [
        ("mpool", 0, &mpool()[..]),
        ("ScoutFS", 64 << 10, &scoutfs()),
        ("Atari partition table", 0, &sound_atari()),
        ("NetWare NSS", 4096, b"SPB5"),
        ("SCO BFS", 0, b"\xce\xfa\xad\x1b"),
        ("UBIFS", 0, b"\x31\x18\x10\x06"),
        ("DASD disk label", 8196, b"\xe5\xd6\xd3\xf1"),
        ("DRBD", SIZE - 4096 + 60, b"\x83\x74\x02\x6d"),
    ] {
        let path = ext4(&dir, SIZE);
        let before = region(&path);
        assert_eq!((before.name, before.why_whole()), (Some("ext4"), None));
        assert!(before.used < SIZE / 2, "{before:?}");

        put(&path, at, bytes);

        let after = region(&path);
        let why = format!("it looks like {name} and like ext2/3/4");
        assert_eq!(after.why_whole().as_deref(), Some(&*why));
        assert_eq!(after.used, SIZE);
        let run = dir.run("map --regions disk.raw").exits(0);
        assert!(run.stdout().contains(&why), "{}", run.stdout());
        let run = dir.run("-n disk.raw image.qcow2").exits(0);
        assert!(run.stderr().contains(&why) || run.stdout().contains(&why));
    }
}

#[test]
fn what_is_as_its_own_tool_made_it_is_not_taken_for_anything_else() {
    let dir = Dir::new("named-sound");
    for (command, name) in [
        ("mkfs.ext4 -q -F", "ext4"),
        ("mkfs.ext4 -q -F -b 4096", "ext4"),
        ("mkfs.ext4 -q -F -t ext2 -b 1024", "ext2"),
        ("mkfs.xfs -q -f", "XFS"),
        ("mkfs.xfs -q -f -m crc=0 -s size=4096", "XFS"),
        ("mkfs.fat -F 16", "FAT16"),
        ("mkfs.fat -F 32", "FAT32"),
        ("mkfs.ntfs -q -F -f", "NTFS"),
    ] {
        let path = dir.sparse("disk.raw", 320 * MIB, &[]);
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        tool(program, words.chain([path.to_str().unwrap()]));
        let found = region(&path);
        assert_eq!(found.name, Some(name), "{command}");
        if name != "NTFS" {
            assert_eq!(found.why_whole(), None, "{command}");
        }
    }
}
