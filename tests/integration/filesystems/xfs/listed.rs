//! What is free is what `xfs_db` lists, but for blocks that are kept for trees.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use super::{free, scan};
use crate::filesystems::patched::Patched;
use crate::filesystems::proof::xfs::{Xfs, log_cycle, number};
use crate::filesystems::proof::{Filesystem as _, MIB, Marker, Place, Proof, mounted};
use crate::support::{Dir, tool};

/// What `xfs_db` lists, without blocks that are kept for trees.
pub fn free_blocks(disk: &Path) -> BTreeSet<u64> {
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
    let group = number(disk, "sb 0", "agblocks");
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
    blocks
}

pub fn free_by_xfs_db(disk: &Path) -> Vec<Range<u64>> {
    in_bytes(free_blocks(disk), number(disk, "sb 0", "blocksize"))
}

/// Where blocks of a size are, in bytes.
pub fn in_bytes(blocks: impl IntoIterator<Item = u64>, size: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(range) if range.end == block * size => range.end += size,
            _ => ranges.push(block * size..(block + 1) * size),
        }
    }
    ranges
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
    let cycle = log_cycle(&disk);
    assert!(cycle > 2, "the log was written {cycle} times");
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

/// Too large to prove them all: as mkfs.xfs made them.
#[test]
fn what_is_free_of_many_groups_and_large_blocks_is_what_xfs_db_says_as_root() {
    for (number, (options, mib)) in [
        ("-d agcount=64 -l size=16m", 1040),
        ("-b size=65536 -d agcount=1", 1024),
        ("-b size=1024 -d agcount=18 -m rmapbt=1", 300),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = Dir::new(&format!("xfs-many-{number}"));
        let disk = dir.sparse("disk.raw", mib * MIB, &[]);
        Xfs::new(options).make(&disk);
        mounted("rw", &disk, dir.path(), &mut |root| {
            for number in 0..80_u64 {
                fs::create_dir(root.join(number.to_string())).unwrap();
                fs::write(root.join(format!("{number}/file")), [1; 3000]).unwrap();
            }
        });
        let bytes = fs::read(&disk).unwrap();
        let allocation = Patched::new(&bytes).scan();
        assert_eq!(
            free(&allocation),
            free_by_xfs_db(&disk),
            "{options}: {:?}",
            allocation.regions
        );
    }
}
