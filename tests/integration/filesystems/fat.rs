//! FAT12, FAT16 and FAT32.

mod boundaries;
mod directories;
mod doubted;
mod labels;
mod naive;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan, Treatment};
use naive::Fat32;

use super::proof::fat::{Fat, Told, fill_up, mtool, scatter};
use super::proof::{Filesystem, Given, MIB, Proof};
use crate::support::{Dir, noise, tool};

const FAT32: &str = "-F 32 -s 1 -n NAMED";

fn proven(name: &str, size: u64, options: &'static str) {
    Proof::of(name, size, Fat::new(options))
        .changed_by(scatter)
        .holds();
}

#[test]
fn fat12_as_root() {
    proven("fat12", 8 * MIB, "-F 12 -s 4");
}

#[test]
fn fat12_with_odd_sizes_as_root() {
    proven("fat12-odd", 3 * MIB + 512 * 333, "-F 12 -s 2 -r 112 -R 7");
}

#[test]
fn fat16_as_root() {
    proven("fat16", 32 * MIB, "-F 16 -s 2");
}

#[test]
fn fat32_as_root() {
    proven("fat32", 36 * MIB, FAT32);
}

/// mtools take it for FAT16, fsck.fat, Linux and Windows do not.
#[test]
fn fat32_with_so_few_clusters_that_it_should_be_fat16() {
    let dir = Dir::new("fat32-small");
    let file = bare(&dir, "disk.raw", 8 * MIB, "-F 32 -s 2");
    let region = region(&file);
    assert_eq!(region.name, Some("FAT32"));
    assert_eq!(Some(region.used), Fat::new("").used(&file));
}

#[test]
fn large_sectors_as_root() {
    proven("fat12-4096", 12 * MIB, "-F 12 -S 4096 -s 1");
    proven("fat16-4096", 32 * MIB, "-F 16 -S 4096 -s 1");
}

/// Too large for proofs with markers: what is in use goes into a file of holes.
#[test]
fn large_sectors_of_fat32() {
    let dir = Dir::new("fat32-4096");
    let file = bare(&dir, "disk.raw", 270 * MIB, "-F 32 -S 4096 -s 1 -n NAMED");
    let content = dir.join("content");
    fs::write(&content, noise(5, 300_001)).unwrap();
    mtool("mmd", &file, &["::/one", "::/one/two"]);
    for name in ["::/first", "::/one/second", "::/one/two/third"] {
        mtool("mcopy", &file, &[content.to_str().unwrap(), name]);
    }
    mtool("mdel", &file, &["::/one/second"]);
    let region = region(&file);
    assert_eq!(region.name, Some("FAT32"));
    assert_eq!(Some(region.used), Fat::new("").used(&file));

    let source = disk::open(&file, Open::default()).unwrap();
    let map = volumes::scan(&source, Scan::Auto).unwrap().map;
    let copy = dir.sparse("copy.raw", 270 * MIB, &[]);
    for extent in map.extents() {
        let mut bytes = vec![0; (extent.range.end - extent.range.start) as usize];
        File::open(&file)
            .unwrap()
            .read_exact_at(&mut bytes, extent.range.start)
            .unwrap();
        put(&copy, extent.range.start, &bytes);
    }
    Fat::new("").check(&copy);
    for name in ["::/first", "::/one/two/third"] {
        let out = dir.join("out");
        mtool("mcopy", &copy, &["-n", name, out.to_str().unwrap()]);
        assert!(fs::read(out).unwrap() == noise(5, 300_001));
    }
}

/// The media byte of floppy disks is too low to be a mark of the end of a chain.
#[test]
fn floppy_disks_as_root() {
    proven("fat12-floppy", 1440 << 10, "-F 12 -M 0xf0");
    proven("fat16-removable", 16 * MIB, "-F 16 -s 1 -M 0xf0");
    proven("fat32-removable", 36 * MIB, "-F 32 -s 1 -M 0xf0");
}

#[test]
fn one_fat_as_root() {
    proven("fat16-one", 16 * MIB, "-F 16 -s 1 -f 1");
    proven("fat32-one", 36 * MIB, "-F 32 -s 1 -f 1");
}

#[test]
fn hardly_anything_free_as_root() {
    for (name, size, options) in [
        ("fat12-full", 8 * MIB, "-F 12 -s 4"),
        ("fat32-full", 36 * MIB, FAT32),
    ] {
        Proof::of(name, size, Fat::new(options))
            .changed_by(|at| fill_up(at, 160))
            .holds();
    }
}

#[test]
fn a_volume_in_a_whole_disk_that_looks_like_a_partition_table_as_root() {
    proven("fat32-mbr", 36 * MIB, "-F 32 -s 1 --mbr=y");
}

/// All regions that are recognised in a file.
fn regions(file: &Path) -> Vec<Region> {
    let source = disk::open(file, Open::default()).unwrap();
    volumes::scan(&source, Scan::Auto).unwrap().regions
}

fn region(file: &Path) -> Region {
    let mut regions = regions(file);
    assert_eq!(regions.len(), 1, "{regions:?}");
    regions.remove(0)
}

#[track_caller]
fn assert_doubted(file: &Path, words: &str) {
    let region = region(file);
    let Treatment::Doubted(doubt) = &region.treatment else {
        panic!("{region:?}")
    };
    assert!(doubt.to_string().contains(words), "{doubt}");
}

/// A volume without files, on a file without data: what is used is told by the regions.
fn bare(dir: &Dir, name: &str, size: u64, options: &'static str) -> std::path::PathBuf {
    let path = dir.sparse(name, size, &[]);
    Fat::new(options).make(&path);
    path
}

fn put(file: &Path, at: u64, bytes: &[u8]) {
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

fn get<const N: usize>(file: &Path, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    File::open(file).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

#[test]
fn sectors_that_are_no_cluster_at_the_end_are_in_use() {
    let dir = Dir::new("fat-rest");
    for more in 0..9 {
        let file = bare(&dir, "disk.raw", 8 * MIB + more * 512, "-a -F 12 -s 4");
        assert_eq!(Some(region(&file).used), Fat::new("").used(&file));
    }
}

/// FAT32 whose second FAT is the active one, and that is read by it.
struct SecondFat;

impl Filesystem for SecondFat {
    fn make(&self, at: &Path) {
        Fat::new(FAT32).make(at);
    }

    /// What its own checker says once the other FAT is as the active one is.
    fn check(&self, at: &Path) {
        let mut bytes = fs::read(at).unwrap();
        let volume = Fat32::of(&bytes);
        assert_eq!(volume.active, 1, "the flags are those that were set");
        let (first, second) = (volume.fat(0), volume.fat(1));
        bytes.copy_within(second, first.start);
        bytes[40..42].fill(0);
        let other = at.with_extension("mirrored");
        fs::write(&other, bytes).unwrap();
        Fat::new(FAT32).check(&other);
        fs::remove_file(other).unwrap();
    }

    fn is_posix(&self) -> bool {
        false
    }

    fn write(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        Fat::new(FAT32).write(at, scratch, work);
    }

    fn read(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        let bytes = fs::read(at).unwrap();
        let root = scratch.join("naively");
        Fat32::of(&bytes).copy_out(&root);
        work(&root);
        fs::remove_dir_all(root).unwrap();
    }
}

fn second_fat(name: &str) -> Given {
    let given = Proof::of(name, 36 * MIB, SecondFat).changed_by(scatter).made();
    put(&given.disk, 40, &[0x81, 0]);
    given
}

#[test]
fn the_second_fat_may_be_the_only_one_that_is_right_as_root() {
    let given = second_fat("fat32-second");
    let first = Fat32::of(&fs::read(&given.disk).unwrap()).fat(0);
    put(&given.disk, first.start as u64, &vec![0; first.len()]);
    given.holds();
}

#[test]
fn a_fat_that_is_not_active_adds_to_what_is_in_use_as_root() {
    let given = second_fat("fat32-second-more");
    let before = region(&given.disk).used;
    let first = Fat32::of(&fs::read(&given.disk).unwrap()).fat(0);
    // Clusters at the end, free in the other FAT; and entries that lead nowhere.
    put(&given.disk, (first.end - 5 * 512) as u64, &[0x55; 400]);
    assert_eq!(region(&given.disk).used, before + 100 * 512);
    given.holds();
}

#[test]
fn fats_that_disagree_are_joined() {
    let dir = Dir::new("fat-disagree");
    let file = bare(&dir, "disk.raw", 8 * MIB, "-F 12 -s 4 -f 2");
    let told = Told::of(&file);
    let before = region(&file).used;
    // Entries 1000 and 1001 in three bytes, one in each FAT.
    put(&file, 2048 + 1500, &[0xff, 0x0f, 0]);
    put(&file, 2048 + 6144 + 1500, &[0, 0xf0, 0xff]);
    assert_eq!(region(&file).used, before + 2 * told.cluster_size);

    let file = bare(&dir, "disk.raw", 8 * MIB, "-F 12 -s 4 -f 4");
    let before = region(&file).used;
    put(&file, 2048 + 3 * 6144 + 1500, &[0xff, 0xff, 0xff]);
    assert_eq!(region(&file).used, before + 2 * told.cluster_size);
}

#[test]
fn bad_clusters_are_copied() {
    let dir = Dir::new("fat-bad");
    for (options, bits) in [("-F 12 -s 4", 12), ("-F 16 -s 1", 16), ("-F 32 -s 1", 32)] {
        let file = bare(&dir, "disk.raw", 8 * MIB, options);
        let (told, before) = (Told::of(&file), region(&file).used);
        assert_eq!(told.bits, bits);
        // Cluster 400 is bad in the only FAT that knows of it.
        let start = u64::from(u16::from_le_bytes(get(&file, 14))) * 512;
        match bits {
            12 => put(&file, start + 600, &[0xf7, 0x0f]),
            16 => put(&file, start + 800, &[0xf7, 0xff]),
            _ => put(&file, start + 1600, &[0xf7, 0xff, 0xff, 0x0f]),
        }
        assert_eq!(region(&file).used, before + told.cluster_size);
    }
}

#[test]
fn an_entry_between_holes_of_a_fat_is_found() {
    let dir = Dir::new("fat-holes");
    let file = bare(&dir, "disk.raw", 2048 * MIB, "-F 32 -s 8 -f 1");
    let (told, before) = (Told::of(&file), region(&file).used);
    // Far from where the FAT begins, and from where anything that is read in one go does.
    put(&file, 32 * 512 + 4 * 500_000, &[0xff, 0xff, 0xff, 0x0f]);
    tool("fallocate", ["--dig-holes", file.to_str().unwrap()]);
    assert_eq!(region(&file).used, before + told.cluster_size);
}

#[test]
fn the_upper_bits_of_fat32_do_not_make_a_cluster_used() {
    let dir = Dir::new("fat-upper");
    let file = bare(&dir, "disk.raw", 36 * MIB, FAT32);
    let before = region(&file).used;
    put(&file, 32 * 512 + 4000, &[0, 0, 0, 0xf0]);
    let region = region(&file);
    assert_eq!(region.used, before);
    assert_eq!(region.label.as_deref(), Some("NAMED"));
}

#[test]
fn what_only_begins_like_it_is_not_taken_for_it() {
    let dir = Dir::new("fat-others");
    let clean = bare(&dir, "disk.raw", 36 * MIB, FAT32);
    let damages: &[(u64, &[u8])] = &[
        (3, b"NTFS    "),
        (3, b"EXFAT   "),
        (3, b"-FVE-FS-"),
        (54, b"HPFS    "),
        (
            424,
            b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
        ),
        (0, &[0x33, 0xc0]),
        (11, &[0, 0]),
        (11, &[0, 3]),
        (13, &[3]),
        (13, &[0]),
        (14, &[0, 0]),
        (16, &[0]),
        (21, &[0xf1]),
    ];
    for (at, bytes) in damages {
        let bad = dir.join("bad.raw");
        fs::copy(&clean, &bad).unwrap();
        put(&bad, *at, bytes);
        let region = region(&bad);
        assert!(
            matches!(region.treatment, Treatment::Unknown | Treatment::Whole(_)),
            "{bytes:x?} at {at}: {region:?}"
        );
    }
}

#[test]
fn a_backup_of_the_boot_sector_may_be_missing_and_need_not_be_the_same_to_the_byte() {
    let dir = Dir::new("fat-backup");
    for damages in [
        // The state, heads, sectors before the volume, the active FAT.
        &[
            (6 * 512 + 65, &[1][..]),
            (6 * 512 + 26, &[7]),
            (6 * 512 + 28, &[1]),
            (6 * 512 + 40, &[0x80]),
        ][..],
        // None that is told of, in two ways; one that is none.
        &[(50, &[0, 0]), (6 * 512 + 13, &[9])],
        &[(50, &[0xff, 0xff]), (6 * 512 + 13, &[9])],
        &[(6 * 512 + 510, &[0]), (6 * 512 + 13, &[9])],
    ] {
        let file = bare(&dir, "disk.raw", 36 * MIB, FAT32);
        for (at, bytes) in damages {
            put(&file, *at, bytes);
        }
        let region = region(&file);
        assert!(matches!(region.treatment, Treatment::Mapped), "{region:?}");
    }
}

/// The 55AA at the end is the mark of PCs.
#[test]
fn no_signature_is_asked_for() {
    let dir = Dir::new("fat-unsigned");
    let file = bare(&dir, "disk.raw", 8 * MIB, "-F 12 -s 4");
    put(&file, 510, &[0, 0]);
    assert_eq!(region(&file).name, Some("FAT12"));
}

#[test]
fn what_lies_behind_the_volume_is_copied() {
    let dir = Dir::new("fat-behind");
    let file = bare(&dir, "disk.raw", 8 * MIB, "-F 12 -s 4");
    let before = region(&file).used;
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(9 * MIB)
        .unwrap();
    put(&file, 8 * MIB + 512, &noise(1, 512));
    assert_eq!(region(&file).used, before + MIB);
}
