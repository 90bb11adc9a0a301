//! XFS: what is free is what its trees list, as they are after recovery from its log.

mod recovery;
mod written;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Allocation, Scan, State};

use super::partitions::disk::sfdisk;
use super::patched::Patched;
use super::proof::xfs::{Xfs, number};
use super::proof::{Filesystem, Given, Listing, MIB, Marker, Place, Proof, mounted};
use crate::corpus::in_parallel;
use crate::support::{Dice, tool};

fn proof(name: &str, options: &'static str) -> Proof {
    Proof::of(name, 64 * MIB, Xfs::new(options)).aged(400)
}

#[test]
fn xfs_of_version_5_comes_back_as_root() {
    proof("xfs-5", "").holds();
}

#[test]
fn xfs_with_trees_of_owners_and_of_shared_blocks_comes_back_as_root() {
    proof(
        "xfs-rmap",
        "-m rmapbt=1,reflink=1,finobt=1 -b size=1024 -d agcount=4",
    )
    .holds();
}

#[test]
fn xfs_of_large_sectors_and_one_group_comes_back_as_root() {
    proof("xfs-4k", "-s size=4096 -d agcount=1 -l size=16m,su=64k")
        .made()
        .on_a_device()
        .holds();
}

#[test]
fn xfs_in_a_partition_comes_back_as_root() {
    Proof::disk("xfs-partition", 80 * MIB)
        .laid_out_by(|disk| sfdisk(disk, "label: gpt\nstart=1M,size=64M\n"))
        .volume(MIB..65 * MIB, Xfs::new("-L label"))
        .made()
        .holds();
}

fn scan(disk: &Path) -> Allocation {
    let source = disk::open(disk, Open::default()).unwrap();
    volumes::scan(&source, Scan::Auto).unwrap()
}

/// What `xfs_db` lists, without blocks that are kept for trees.
fn free_by_xfs_db(disk: &Path) -> Vec<Range<u64>> {
    let told = |commands: &[&str]| {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        tool(
            "xfs_db",
            ["-f", "-r"]
                .into_iter()
                .chain(commands)
                .chain([disk.to_str().unwrap()]),
        )
    };
    let (size, group) = (
        number(disk, "sb 0", "blocksize"),
        number(disk, "sb 0", "agblocks"),
    );
    let count = number(disk, "sb 0", "agcount");
    let mut blocks = BTreeSet::new();
    for line in told(&["freesp -d"]).lines() {
        let words: Vec<_> = line.split_whitespace().map(str::parse::<u64>).collect();
        if let [Ok(number), Ok(start), Ok(count)] = *words {
            blocks.extend((start..start + count).map(|block| number * group + block));
        }
    }
    for number in 0..count {
        let agfl = told(&[
            &format!("agf {number}"),
            "p flfirst fllast flcount",
            &format!("agfl {number}"),
            "p",
        ]);
        let field = |name: &str| -> u64 {
            let line = agfl.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_start_matches(" = ").parse().unwrap()
        };
        let (first, last, count) = (field("flfirst"), field("fllast"), field("flcount"));
        let list = agfl.lines().find_map(|line| line.strip_prefix("bno[")).unwrap();
        let (_, list) = list.split_once(" = ").unwrap();
        // Such as `0:6 1:7 2:null`.
        let entries: Vec<_> = list
            .split_whitespace()
            .map(|entry| entry.split_once(':').unwrap().1)
            .collect();
        let mut place = first;
        for _ in 0..count {
            let block: u64 = entries[place as usize].parse().unwrap();
            assert!(blocks.remove(&(number * group + block)));
            if place == last {
                break;
            }
            place = (place + 1) % entries.len() as u64;
        }
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(range) if range.end == block * size => range.end += size,
            _ => ranges.push(block * size..(block + 1) * size),
        }
    }
    ranges
}

fn free(allocation: &Allocation) -> Vec<Range<u64>> {
    let parts = allocation.map.parts();
    let free = parts.filter(|(_, state, _)| *state == State::Free);
    free.map(|(range, ..)| range).collect()
}

#[test]
fn what_is_free_is_what_xfs_db_says_as_root() {
    for (number, options) in [
        "",
        "-d agcount=3",
        "-m reflink=0",
        "-m rmapbt=1 -b size=1024",
        "-i nrext64=1 -m bigtime=1,inobtcount=1",
        "-i sparse=0 -m finobt=0,inobtcount=0",
        "-s size=4096 -b size=4096",
        "-d su=64k,sw=2",
    ]
    .into_iter()
    .enumerate()
    {
        let given = Proof::of(&format!("xfs-db-{number}"), 64 * MIB, Xfs::new(options))
            .aged(300)
            .made();
        let allocation = scan(&given.disk);
        let expected = free_by_xfs_db(&given.disk);
        assert!(expected.len() > 1, "{options}: {expected:?}");
        assert_eq!(free(&allocation), expected, "{options}: {:?}", allocation.regions);
        assert_eq!(allocation.regions[0].name, Some("XFS"));
        let told = tool("xfs_db", ["-f", "-r", "-c", "uuid", given.disk.to_str().unwrap()]);
        let uuid = &allocation.regions[0].details[0].value;
        assert!(told.contains(uuid.as_str()), "{told}: {uuid}");
    }
}

/// A copy of a filesystem at some moment while it is mounted.
fn copied_while_mounted(name: &str, moment: impl Fn(&Path, &Path)) -> (Place, Vec<u8>) {
    let place = Place::new(name, 64 * MIB);
    let disk = place.dir.join("disk.raw");
    fs::write(&disk, Marker::A.times(64 * MIB)).unwrap();
    Xfs::new("").make(&disk);
    let mut copy = Vec::new();
    mounted("rw", &disk, place.dir.path(), &mut |root| {
        fs::write(root.join("file"), vec![1; 1 << 20]).unwrap();
        moment(root, &disk);
        copy = fs::read(&disk).unwrap();
        let _ = std::process::Command::new("xfs_freeze")
            .arg("-u")
            .arg(root)
            .output();
    });
    (place, copy)
}

/// It is mapped, and mounts with all files if what is free was overwritten.
#[track_caller]
fn assert_replayed(name: &str, place: &Place, copy: &[u8]) {
    let allocation = Patched::new(copy).scan();
    assert!(
        allocation.bytes(State::Free) > 0,
        "{name}: {:?}",
        allocation.regions
    );
    let mut poisoned = copy.to_vec();
    for range in free(&allocation) {
        poisoned[range.start as usize..range.end as usize].fill(0xa5);
    }
    let listings = [("plain", copy), ("poisoned", &poisoned)].map(|(kind, bytes)| {
        let disk = place.dir.join(kind);
        fs::write(&disk, bytes).unwrap();
        let mut listing = None;
        mounted("rw", &disk, place.dir.path(), &mut |root| {
            listing = Some(Listing::of(root, true));
        });
        Xfs::new("").check(&disk);
        listing.unwrap()
    });
    assert_eq!(listings[0], listings[1], "{name}");
}

#[test]
fn a_copy_of_a_mounted_filesystem_is_replayed_as_root() {
    type Moment = fn(&Path, &Path);
    let moments: [(&str, Moment); 4] = [
        ("xfs-synced", |root, disk| {
            tool("sync", ["-f", root.to_str().unwrap()]);
            tool("sync", [disk.to_str().unwrap()]);
        }),
        ("xfs-frozen", |root, _| {
            tool("xfs_freeze", ["-f", root.to_str().unwrap()]);
        }),
        ("xfs-shut-down", |root, _| {
            tool("sync", ["-f", root.to_str().unwrap()]);
            tool("xfs_io", ["-x", "-c", "shutdown", root.to_str().unwrap()]);
        }),
        ("xfs-shut-down-flushed", |root, _| {
            tool("xfs_io", ["-x", "-c", "shutdown -f", root.to_str().unwrap()]);
        }),
    ];
    for (name, moment) in moments {
        let (place, copy) = copied_while_mounted(name, moment);
        assert_replayed(name, &place, &copy);
    }
}

#[test]
fn a_log_that_was_full_many_times_is_empty_after_an_unmount_as_root() {
    let place = Place::new("xfs-wrapped", 64 * MIB);
    let disk = place.dir.join("disk.raw");
    fs::write(&disk, Marker::A.times(64 * MIB)).unwrap();
    let xfs = Xfs::new("-l size=6m");
    xfs.make(&disk);
    for round in 0..6 {
        xfs.write(&disk, place.dir.path(), &mut |root| {
            let names: Vec<_> = (0..100 + 7 * round)
                .map(|number| root.join(format!("file-{number}")))
                .collect();
            for turn in 0..30 {
                for name in &names {
                    let mut file = fs::File::create(name).unwrap();
                    file.write_all(&vec![1; 100 * turn]).unwrap();
                    file.sync_all().unwrap();
                }
            }
            names
                .iter()
                .step_by(3)
                .for_each(|name| fs::remove_file(name).unwrap());
        });
        let allocation = scan(&disk);
        assert_eq!(
            free(&allocation),
            free_by_xfs_db(&disk),
            "round {round}: {:?}",
            allocation.regions
        );
    }
    let (start, groups) = (
        number(&disk, "sb 0", "logstart"),
        number(&disk, "sb 0", "agblocks"),
    );
    let (group, block) = (
        start >> number(&disk, "sb 0", "agblklog"),
        start % (1 << number(&disk, "sb 0", "agblklog")),
    );
    let at = (group * groups + block) * number(&disk, "sb 0", "blocksize");
    let bytes = fs::read(&disk).unwrap();
    let word = |at: u64| u32::from_be_bytes(bytes[at as usize..][..4].try_into().unwrap());
    let cycle = if word(at) == 0xfeed_babe {
        word(at + 4)
    } else {
        word(at)
    };
    assert!(cycle > 2, "the log was written {cycle} times");
}

#[test]
fn a_filesystem_that_was_cut_off_is_replayed_as_root() {
    for seed in 0..20 {
        let moment = |root: &Path, _: &Path| {
            let mut dice = Dice::new(seed);
            for number in 0..dice.below(300) {
                let file = root.join(format!("file-{number}"));
                fs::write(&file, vec![7; dice.below(60_000) as usize]).unwrap();
                match dice.below(6) {
                    0 => fs::File::open(&file).unwrap().sync_all().unwrap(),
                    1 => fs::remove_file(&file).unwrap(),
                    _ => {}
                }
            }
            fs::write(root.join("last"), "synced").unwrap();
            fs::File::open(root.join("last")).unwrap().sync_all().unwrap();
            let command = if seed % 2 == 0 { "shutdown" } else { "shutdown -f" };
            tool("xfs_io", ["-x", "-c", command, root.to_str().unwrap()]);
        };
        let (place, copy) = copied_while_mounted(&format!("xfs-cut-{seed}"), moment);
        assert_replayed(&format!("seed {seed}"), &place, &copy);
    }
}

fn damaged(name: &str, options: &'static str, seeds: u64) {
    let given: Given = Proof::of(name, 64 * MIB, Xfs::new(options)).aged(200).made();
    let disk = fs::read(&given.disk).unwrap();
    let whole = Patched::new(&disk);
    let allocation = whole.scan();
    assert!(allocation.bytes(State::Free) > 0, "{:?}", allocation.regions);
    let used: Vec<_> = allocation.map.extents().to_vec();
    let log = number(&given.disk, "sb 0", "blocksize") * 64;
    let reads: Vec<_> = whole
        .reads()
        .into_iter()
        .filter(|range| range.end - range.start <= log)
        .collect();
    assert!(!reads.is_empty());
    let seeds: Vec<u64> = (0..seeds).collect();
    in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut damaged = Patched::new(&disk);
        for _ in 0..=dice.below(2) {
            let range = &reads[dice.below(reads.len() as u64) as usize];
            let at = range.start + dice.below(range.end - range.start);
            damaged.put(at, &[damaged.byte(at) ^ (1 << dice.below(8))]);
        }
        let found = damaged.scan();
        for extent in &used {
            let lost = found.map.bytes_in(State::Free, &extent.range);
            assert_eq!(lost, 0, "seed {seed}: {:?}", found.regions);
        }
    });
}

#[test]
fn no_damage_to_xfs_makes_anything_free_that_was_not_as_root() {
    damaged("xfs-damaged", "-d agcount=4", 1500);
}

/// Kernels need not mount these any more: they are held against `xfs_db` as mkfs.xfs made them.
#[test]
fn what_is_free_in_version_4_is_what_xfs_db_says_as_root() {
    for (number, options) in [
        "-m crc=0,finobt=0",
        "-m crc=0,finobt=0 -b size=512 -d agcount=2",
        "-m crc=0,finobt=0 -b size=2048 -i attr=1,projid32bit=0",
        "-m crc=0,finobt=0 -l version=1 -n ftype=0",
        "-m crc=0,finobt=0 -s size=4096 -l lazy-count=0",
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::new(&format!("xfs-4-{number}"), 64 * MIB);
        let disk = place.dir.join("disk.raw");
        fs::write(&disk, Marker::A.times(64 * MIB)).unwrap();
        Xfs::new(options).make(&disk);
        let allocation = scan(&disk);
        let expected = free_by_xfs_db(&disk);
        assert!(!expected.is_empty());
        assert_eq!(free(&allocation), expected, "{options}: {:?}", allocation.regions);
    }
}
