//! exFAT.

mod doubted;
mod naive;

use std::fs;
use std::path::{Path, PathBuf};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan, Treatment};
use naive::{Volume, is_set, set};

use super::proof::exfat::Exfat;
use super::proof::{Filesystem, MIB, Place, Proof};
use crate::support::{Dir, noise};

#[test]
fn exfat_as_root() {
    Proof::of("exfat", 32 * MIB, Exfat::new("-c 4K -L NAMED"))
        .aged(600)
        .holds();
}

#[test]
fn small_clusters_and_large_ones_as_root() {
    Proof::of("exfat-512", 24 * MIB + 7 * 512, Exfat::new("-c 512")).holds();
    Proof::of("exfat-64k", 64 * MIB, Exfat::new("-c 64K"))
        .aged(200)
        .holds();
}

#[test]
fn clusters_that_follow_the_fat_at_once_as_root() {
    Proof::of("exfat-packed", 32 * MIB, Exfat::new("-c 4K -b 4K --pack-bitmap")).holds();
}

#[test]
fn in_a_partition_as_root() {
    Proof::disk("exfat-part", 40 * MIB)
        .volume(0..40 * MIB, Exfat::new("-c 32K"))
        .made()
        .on_a_device()
        .imaged_with("--cluster-size 4K")
        .holds();
}

/// A volume of 8 MiB with 512-byte clusters and a few files, of which the bitmap takes 4 KiB.
fn filled(name: &str) -> (Place, PathBuf) {
    let place = Place::new(name, 8 * MIB);
    let path = place.dir.sparse("disk.raw", 20 * MIB, &[]);
    let exfat = Exfat::new("-c 512 -L NAMED");
    exfat.make(&path);
    exfat.write(&path, place.dir.path(), &mut |root| {
        fs::create_dir_all(root.join("one/two")).unwrap();
        for (name, length) in [
            ("first", 30_000),
            ("one/second", 20_000),
            ("one/two/third", 10_000),
        ] {
            fs::write(root.join(name), noise(1, length)).unwrap();
        }
        // More entries than a cluster has.
        for i in 0..40 {
            fs::write(root.join(format!("one/two/many-{i}")), noise(i, 700)).unwrap();
        }
        fs::remove_file(root.join("one/second")).unwrap();
    });
    (place, path)
}

fn region(file: &Path) -> Region {
    let source = disk::open(file, Open::default()).unwrap();
    let mut regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
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

/// Holds the map to bits that are known: what is before the clusters and behind them is in use in any case.
#[track_caller]
fn assert_used(file: &Path, bits: &[u8]) {
    let volume = Volume::of(file);
    // Without holes, which are free whatever the bits are.
    fs::write(file, &volume.bytes).unwrap();
    let source = disk::open(file, Open::default()).unwrap();
    let map = volumes::scan(&source, Scan::Auto).unwrap().map;
    let mut used = vec![false; volume.bytes.len() / 512];
    for extent in map.extents() {
        used[extent.range.start as usize / 512..extent.range.end as usize / 512].fill(true);
    }
    let heap = volume.heap() / 512;
    let end = heap + volume.clusters();
    assert!(used[..heap].iter().chain(&used[end..]).all(|used| *used));
    for cluster in 2..volume.clusters() + 2 {
        assert_eq!(
            used[heap + cluster - 2],
            is_set(bits, cluster),
            "cluster {cluster}"
        );
    }
}

#[test]
fn what_is_in_use_is_what_the_bitmap_says_as_root() {
    let (_place, path) = filled("exfat-bits");
    assert_used(&path, &Volume::of(&path).bits());
    assert_eq!(region(&path).label.as_deref(), Some("NAMED"));
}

#[test]
fn the_bitmap_may_lie_in_pieces_as_root() {
    let (_place, path) = filled("exfat-pieces");
    let mut volume = Volume::of(&path);
    let (old, mut bits) = (volume.bitmap(), volume.bits());
    // Every other of the last clusters that are free, the last one first.
    let new: Vec<_> = volume.free(2 * old.len()).into_iter().step_by(2).collect();
    for (old, new) in old.iter().zip(&new) {
        set(&mut bits, *old, false);
        set(&mut bits, *new, true);
    }
    for old in &old {
        volume.set_entry(0, *old, 0);
        // What says that nothing is in use, if anybody looks.
        let old = volume.cluster(*old);
        volume.bytes[old].fill(0);
    }
    volume.put_bits(&new, &bits);
    volume.link(0, &new);
    let entry = volume.system_entry(0x81);
    volume.bytes[entry + 20..entry + 24].copy_from_slice(&(new[0] as u32).to_le_bytes());
    volume.write();
    assert_used(&path, &bits);

    // A kernel that takes it for one piece writes the bits of its files elsewhere.
    let mut volume = Volume::of(&path);
    let stream = volume.system_entry(0xc0);
    let first = volume.word(stream + 20);
    assert!(is_set(&bits, first));
    let mut less = bits.clone();
    set(&mut less, first, false);
    volume.put_bits(&new, &less);
    volume.write();
    assert_used(&path, &bits);
}

/// Gives a volume a second FAT and a second bitmap. Returns that bitmap's clusters and the bits of both.
fn make_texfat(volume: &mut Volume, active: u8) -> (Vec<usize>, Vec<u8>) {
    volume.set_boot(110, &[2]);
    volume.bytes[106] = active;
    let mut bits = volume.bits();
    let second = volume.free(volume.bitmap().len());
    for cluster in &second {
        set(&mut bits, *cluster, true);
    }
    let first = volume.bitmap();
    volume.put_bits(&first, &bits);
    volume.put_bits(&second, &bits);
    volume.link(0, &second);
    let (from, to) = (volume.fat(0), volume.fat(1));
    assert!(to.end <= volume.heap(), "room for a second FAT");
    volume.bytes.copy_within(from, to.start);

    let entry = volume.system_entry(0x81);
    let mut entry = volume.bytes[entry..entry + 32].to_vec();
    entry[1] = 1;
    entry[20..24].copy_from_slice(&(second[0] as u32).to_le_bytes());
    // In the place of the label.
    let label = volume.system_entry(0x83);
    volume.bytes[label..label + 32].copy_from_slice(&entry);
    (second, bits)
}

#[test]
fn the_second_bitmap_is_joined_as_root() {
    for active in [0, 1] {
        let (_place, path) = filled(&format!("exfat-texfat-{active}"));
        let mut volume = Volume::of(&path);
        let (first, free) = (volume.bitmap(), volume.free(1000));
        let (second, bits) = make_texfat(&mut volume, active);
        // Free clusters that only one of them has, and a file that only the other one has.
        let (one, other) = (free[700], free[900]);
        let (mut of_first, mut of_second, mut all) = (bits.clone(), bits.clone(), bits);
        for (bits, cluster) in [(&mut of_first, one), (&mut of_second, other)] {
            set(bits, cluster, true);
            set(&mut all, cluster, true);
        }
        volume.put_bits(&first, &of_first);
        volume.put_bits(&second, &of_second);
        // Nobody looks at the other FAT.
        let wrecked = volume.fat(1 - usize::from(active));
        volume.bytes[wrecked].fill(0x55);
        volume.write();
        assert_used(&path, &all);
    }
}

#[test]
fn two_fats_that_were_not_unmounted_are_copied_whole_as_root() {
    let (_place, path) = filled("exfat-texfat-dirty");
    let mut volume = Volume::of(&path);
    make_texfat(&mut volume, 2);
    volume.write();
    assert_doubted(&path, "not unmounted, and has two FATs");
}

#[test]
fn a_second_bitmap_must_be_there_as_root() {
    let (_place, path) = filled("exfat-texfat-missing");
    let mut volume = Volume::of(&path);
    make_texfat(&mut volume, 0);
    let entry = volume.system_entry(0x81);
    let other = (entry..)
        .step_by(32)
        .find(|at| volume.bytes[*at] == 0x81 && volume.bytes[at + 1] == 1);
    let other = other.unwrap_or_else(|| volume.cluster(volume.root()).start);
    assert_eq!(volume.bytes[other..other + 2], [0x81, 1]);
    volume.bytes[other] = 0x03;
    volume.write();
    assert_doubted(&path, "allocation bitmaps of one FAT: 1 recorded, 0 found");
}

/// Frees everything but the files of the system. Returns the bits as they were.
fn forget(volume: &mut Volume) -> Vec<u8> {
    let (bits, bitmap) = (volume.bits(), volume.bitmap());
    let mut none = vec![0; bits.len()];
    let upcase = volume.system_entry(0x82);
    let length = volume.word(upcase + 24).div_ceil(512);
    let upcase = (volume.word(upcase + 20)..).take(length);
    for cluster in bitmap.iter().copied().chain(upcase).chain([volume.root()]) {
        set(&mut none, cluster, true);
    }
    assert_ne!(none, bits);
    volume.put_bits(&bitmap, &none);
    bits
}

#[test]
fn directories_are_searched_for_files_that_are_not_in_the_bitmap_yet_as_root() {
    let (_place, path) = filled("exfat-dirty");
    let mut volume = Volume::of(&path);
    let bits = forget(&mut volume);
    volume.write();
    assert_used(&path, &bits);

    let mut volume = Volume::of(&path);
    volume.bytes[106] = 2;
    volume.write();
    assert_used(&path, &bits);
}

#[test]
fn what_was_not_unmounted_has_in_use_what_its_fats_know_too_as_root() {
    let (_place, path) = filled("exfat-dirty-fat");
    let mut volume = Volume::of(&path);
    let mut bits = volume.bits();
    let free = volume.free(12);
    // A chain of a file that has no entry yet, the entry behind its last cluster not written.
    volume.link(0, &free[..6]);
    volume.set_entry(0, free[5], free[8] as u32);
    // A bad cluster.
    volume.set_entry(0, free[10], 0xffff_fff7);
    volume.bytes[106] = 2;
    volume.write();
    for index in [0, 1, 2, 3, 4, 5, 8, 10] {
        set(&mut bits, free[index], true);
    }
    assert_used(&path, &bits);
}

#[test]
fn what_was_not_unmounted_and_holds_nonsense_is_copied_whole_as_root() {
    let (_place, path) = filled("exfat-dirty-nonsense");
    let mut volume = Volume::of(&path);
    volume.bytes[106] = 2;
    // The first file's: its stream, 20 bytes into which is its first cluster.
    let stream = volume.system_entry(0xc0);
    volume.bytes[stream + 20..stream + 24].copy_from_slice(&[0, 0, 0, 9]);
    volume.write();
    assert_doubted(
        &path,
        "FirstCluster is 0x9000000, expected that of a file that ends within the volume",
    );
}

#[test]
fn files_in_one_piece_have_no_more_clusters_than_there_are_as_root() {
    let (_place, path) = filled("exfat-crowded");
    let mut volume = Volume::of(&path);
    volume.bytes[106] = 2;
    // Two files, each of which begins early and ends with the volume.
    let root = volume.cluster(volume.root());
    let streams: Vec<_> = (root.start..)
        .step_by(32)
        .take_while(|at| volume.bytes[*at] != 0)
        .filter(|at| volume.bytes[*at] == 0xc0)
        .take(2)
        .collect();
    assert_eq!(streams.len(), 2);
    for stream in streams {
        let first = volume.word(stream + 20);
        let length = (volume.clusters() + 2 - first) * 512;
        volume.bytes[stream + 1] |= 2;
        volume.bytes[stream + 24..stream + 32].copy_from_slice(&(length as u64).to_le_bytes());
    }
    volume.write();
    assert_doubted(&path, "clusters in files that lie in one piece");
}

/// Where entries of files and directories stand in the first cluster of the root, each followed by its stream.
fn files(volume: &Volume) -> Vec<usize> {
    let root = volume.cluster(volume.root());
    root.step_by(32).filter(|at| volume.bytes[*at] == 0x85).collect()
}

/// Makes a directory of a file, in one piece.
fn make_directory(volume: &mut Volume, file: usize, first: usize, clusters: usize) {
    volume.bytes[file + 4] |= 0x10;
    let stream = file + 32;
    assert_eq!(volume.bytes[stream], 0xc0);
    volume.bytes[stream + 1] = 3;
    volume.bytes[stream + 20..stream + 24].copy_from_slice(&(first as u32).to_le_bytes());
    volume.bytes[stream + 24..stream + 32].copy_from_slice(&(512 * clusters as u64).to_le_bytes());
}

/// Else what lies behind the second one would not be looked into.
#[test]
fn directories_that_share_a_cluster_are_doubted_as_root() {
    let (_place, path) = filled("exfat-crossed");
    let clean = Volume::of(&path).bytes;
    let damages: [fn(&mut Volume, usize); 3] = [
        |volume, free| {
            let files = files(volume);
            make_directory(volume, files[0], free, 3);
            make_directory(volume, files[1], free + 1, 1);
        },
        |volume, _| {
            let (files, root) = (files(volume), volume.root());
            make_directory(volume, files[0], root, 1);
        },
        |volume, _| {
            let root = volume.root();
            volume.set_entry(0, root, root as u32);
        },
    ];
    for damage in damages {
        fs::write(&path, &clean).unwrap();
        let mut volume = Volume::of(&path);
        // The last ones, which were never used.
        let free = volume.clusters() - 8;
        damage(&mut volume, free);
        volume.write();
        assert_doubted(&path, "a cluster is in two directories, or twice in one");
    }
}

/// What changes while a volume is in use is not in its checksum.
#[test]
fn flags_and_percentages_need_no_checksum_as_root() {
    let (_place, path) = filled("exfat-percent");
    let before = region(&path).used;
    let mut volume = Volume::of(&path);
    // Failures of the medium, and a percentage that is anything.
    volume.bytes[106] = 4;
    volume.bytes[112] = 77;
    volume.write_unsealed();
    assert_eq!(region(&path).used, before);
}

#[test]
fn what_only_begins_like_it_is_not_taken_for_it() {
    let dir = Dir::new("exfat-others");
    let clean = dir.sparse("clean", 20 * MIB, &[]);
    Exfat::new("-c 4K").make(&clean);
    for (at, byte) in [(0, 0xe9), (3, b'F'), (20, 1)] {
        let bad = dir.join("bad.raw");
        let mut bytes = fs::read(&clean).unwrap();
        bytes[at] = byte;
        fs::write(&bad, bytes).unwrap();
        assert_eq!(region(&bad).name, None);
    }
}
