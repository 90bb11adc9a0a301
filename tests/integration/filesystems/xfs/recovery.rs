//! What of a log counts: logs are written here, and the kernel recovers some of them, too.

use std::fs;
use std::ops::Range;

use mkqcow2::volumes::State;

use super::super::patched::{Patched, crc32c};
use super::super::proof::xfs::Xfs;
use super::super::proof::{Filesystem, MIB, Marker, Place, mounted};
use super::written::{
    AGF, CONTINUE, Item, Log, Operation, SUPERBLOCK, TREE, WAS_CONTINUED, be32, buffer, cancel, item,
    operations, put,
};
use super::{free, free_by_xfs_db, scan};

const BLOCK: u64 = 4096;

/// A filesystem with two groups that was never mounted, with a log of its own.
fn given(name: &str, cycle: u32, block: u64) -> (Place, Log) {
    let place = Place::new(name, 64 * MIB);
    let disk = place.dir.join("disk.raw");
    fs::write(&disk, Marker::A.times(64 * MIB)).unwrap();
    Xfs::new("-d agcount=2").make(&disk);
    let log = Log::empty(&disk, cycle, block);
    (place, log)
}

/// The AGF and the roots of both trees of the first group: where they are, and the type of their buffers.
fn trees(disk: &[u8]) -> [(u64, usize, u16); 3] {
    let root = |at: usize| u64::from(be32(disk, 512 + at)) * BLOCK;
    [(512, 512, AGF), (root(16), 4096, TREE), (root(20), 4096, TREE)]
}

/// The buffers of a transaction that takes `blocks` blocks of the longest free range of the first group from its
/// beginning, and where they are, in bytes.
fn taken(disk: &[u8], blocks: u32) -> (Vec<Item>, Range<u64>) {
    let structures = trees(disk).map(|(at, length, kind)| (at, disk[at as usize..][..length].to_vec(), kind));
    let [(agf_at, mut agf, _), by_place, by_length] = structures;
    let longest = be32(&agf, 56);
    let mut taken = 0..0;
    let mut items = Vec::new();
    for (at, mut bytes, kind) in [by_place, by_length] {
        let count = be32(&bytes, 4) & 0xffff;
        let record = (0..count as usize)
            .map(|number| 56 + number * 8)
            .find(|at| be32(&bytes, at + 4) == longest)
            .unwrap();
        let start = be32(&bytes, record);
        taken = u64::from(start) * BLOCK..u64::from(start + blocks) * BLOCK;
        put(&mut bytes, record, &(start + blocks).to_be_bytes());
        put(&mut bytes, record + 4, &(longest - blocks).to_be_bytes());
        items.push(buffer(kind, at, &bytes));
    }
    let free = be32(&agf, 52);
    put(&mut agf, 52, &(free - blocks).to_be_bytes());
    put(&mut agf, 56, &(longest - blocks).to_be_bytes());
    items.push(buffer(AGF, agf_at, &agf));
    (items, taken)
}

fn is_free(log: &Log, range: &Range<u64>) -> bool {
    let allocation = Patched::new(&log.disk).scan();
    assert!(allocation.bytes(State::Free) > MIB, "{:?}", allocation.regions);
    let free = allocation.map.bytes_in(State::Free, range);
    assert!(free == 0 || free == range.end - range.start);
    free != 0
}

#[track_caller]
fn assert_whole(name: &str, log: &Log, why: &str) {
    let allocation = Patched::new(&log.disk).scan();
    let told = allocation.regions[0].why_whole().unwrap_or_default();
    assert!(told.contains(why), "{name}: {told:?}, expected {why:?}");
    assert_eq!(allocation.bytes(State::Free), 0);
}

/// What the kernel calls free once it has recovered.
fn recovered(place: &Place, log: &Log) -> Vec<Range<u64>> {
    let disk = place.dir.join("recovered.raw");
    fs::write(&disk, &log.disk).unwrap();
    mounted("rw", &disk, place.dir.path(), &mut |_| {});
    assert!(free(&scan(&disk)) == free_by_xfs_db(&disk));
    free_by_xfs_db(&disk)
}

#[track_caller]
fn assert_as_recovered(place: &Place, log: &Log) {
    let allocation = Patched::new(&log.disk).scan();
    assert_eq!(free(&allocation), recovered(place, log));
}

#[test]
fn what_only_the_log_takes_is_in_use_as_root() {
    let (place, mut log) = given("xfs-taken", 1, 100);
    let (items, taken) = taken(&log.disk, 8);
    assert!(is_free_before(&log, &taken));
    log.transaction(&items);
    assert!(!is_free(&log, &taken));
    assert_as_recovered(&place, &log);
}

/// Whether a range is free on the disk, as trees say without a log.
fn is_free_before(log: &Log, range: &Range<u64>) -> bool {
    let mut log = log.clone();
    log.idle();
    is_free(&log, range)
}

#[test]
fn a_log_goes_on_at_its_beginning_as_root() {
    let blocks = given("xfs-blocks", 1, 1).1.blocks();
    // The header, or some of the data, is the last of it.
    for behind in [1, 2, 9, 17, 18] {
        let (place, mut log) = given("xfs-round", 5, blocks - behind);
        let (items, taken) = taken(&log.disk, 8);
        log.transaction(&items);
        log.idle();
        assert!(!is_free(&log, &taken), "{behind}");
        assert_as_recovered(&place, &log);
    }
}

#[test]
fn a_transaction_is_put_together_from_records_as_root() {
    let (_place, log) = given("xfs-split", 1, 100);
    let (items, taken) = taken(&log.disk, 8);
    let all = operations(7, &items);
    for split in 1..all.len() - 1 {
        for at in [4, 12, 20, 500] {
            let length = all[split].data.len();
            if at >= length || (split > 1 && at < 20 && length > 20 && at % 4 != 0) {
                continue;
            }
            let mut log = log.clone();
            let (mut first, mut second) = (all[..=split].to_vec(), all[split..].to_vec());
            first[split].data.truncate(at);
            first[split].flags = CONTINUE;
            second[0].data.drain(..at);
            second[0].flags = WAS_CONTINUED;
            log.record(&first);
            // Others in between, and one whose beginning lies in front of the tail.
            log.record(&operations(8, &[log.unchanged()]));
            log.record(&[Operation {
                tid: 9,
                flags: 0,
                data: vec![1; 40],
            }]);
            log.record(&second);
            assert!(!is_free(&log, &taken), "operation {split} at {at}");
        }
    }
}

#[test]
fn records_of_more_than_32_kib_have_more_headers_as_root() {
    let (place, mut log) = given("xfs-headers", 1, 100);
    log.size = 256 << 10;
    let (mut items, taken) = taken(&log.disk, 8);
    // The words of blocks behind the first 64 matter, too.
    for _ in 0..5 {
        items.extend_from_within(..3);
    }
    log.transaction(&items);
    assert!(!is_free(&log, &taken));
    assert_as_recovered(&place, &log);
}

#[test]
fn what_was_not_committed_does_not_count_as_root() {
    let (place, mut log) = given("xfs-open", 1, 100);
    let (items, taken) = taken(&log.disk, 8);
    let mut all = operations(7, &items);
    all.pop();
    log.record(&all);
    assert!(is_free(&log, &taken));
    assert_as_recovered(&place, &log);
}

#[test]
fn buffers_that_were_freed_later_do_not_count_as_root() {
    let (place, mut log) = given("xfs-cancelled", 1, 100);
    let (items, taken) = taken(&log.disk, 8);
    let [_, (by_place, length, _), (by_length, ..)] = trees(&log.disk);
    // In the place of trees, for a while, and freed twice.
    let others = [by_place, by_length].map(|at| buffer(TREE, at, &vec![0x5a; length]));
    let mut kept = log.clone();
    kept.transaction(&others);
    assert_whole("not freed", &kept, "magic");
    for _ in 0..2 {
        log.transaction(&others);
        log.transaction(&[by_place, by_length].map(|at| cancel(TREE, at, length)));
    }
    assert!(is_free(&log, &taken));
    assert_as_recovered(&place, &log);
    log.transaction(&items);
    assert!(!is_free(&log, &taken));
    assert_as_recovered(&place, &log);
}

/// Writes what a transaction of [`taken`] does to the disk, as changes with a log sequence number.
fn written(log: &mut Log, items: &[Item], lsn: u64) {
    for ((at, length, kind), item) in trees(&log.disk)
        .into_iter()
        .zip([&items[2], &items[0], &items[1]])
    {
        let mut bytes = item[1].clone();
        let (lsn_at, sum_at) = if kind == AGF { (208, 216) } else { (24, 52) };
        put(&mut bytes, lsn_at, &lsn.to_be_bytes());
        put(&mut bytes, sum_at, &[0; 4]);
        let sum = !crc32c(u32::MAX, &bytes);
        put(&mut bytes, sum_at, &sum.to_le_bytes());
        put(&mut log.disk, at as usize, &bytes[..length]);
    }
}

#[test]
fn what_only_the_log_frees_is_in_use_as_root() {
    let (place, mut log) = given("xfs-freed", 3, 100);
    let old = log.disk.clone();
    let (items, taken) = taken(&log.disk, 8);
    written(&mut log, &items, 1);
    let before = trees(&old).map(|(at, length, kind)| buffer(kind, at, &old[at as usize..][..length]));
    log.transaction(&before);
    assert!(!is_free(&log, &taken));
    let recovered = recovered(&place, &log);
    assert!(
        recovered
            .iter()
            .any(|range| range.start <= taken.start && taken.end <= range.end)
    );
}

#[test]
fn buffers_that_are_newer_on_the_disk_do_not_count_as_root() {
    let (place, mut log) = given("xfs-newer", 3, 100);
    let old = log.disk.clone();
    let (items, taken) = taken(&log.disk, 8);
    // What the next transaction does is on the disk already.
    let next = 120;
    written(&mut log, &items, (3 << 32) + next);
    // Of one tree only: the other one would tell.
    let [_, (at, length, kind), _] = trees(&old);
    log.transaction(&[buffer(kind, at, &old[at as usize..][..length])]);
    assert!(log.head.1 < 200);
    while log.head.1 <= next {
        log.idle();
    }
    assert!(!is_free(&log, &taken));
    assert_as_recovered(&place, &log);
    // Nothing on the disk is newer than the log.
    let mut short = Log::empty(&place.dir.join("disk.raw"), 3, 100);
    short.disk[512..1024].copy_from_slice(&log.disk[512..1024]);
    short.idle();
    assert_whole("newer", &short, "lsn");
}

#[test]
fn what_items_name_is_in_use_as_root() {
    let (_place, log) = given("xfs-named", 1, 100);
    let (_, taken) = taken(&log.disk, 64);
    let (block, sector) = (taken.start / BLOCK, taken.start / 512);
    let extent = |at: usize, length: usize| vec![(4, 1, 4), (at, block, 8), (length, 8, 4)];
    let created = {
        let mut created = item(0x123f, 28, &[]);
        put(&mut created[0], 8, &(block as u32).to_be_bytes());
        put(&mut created[0], 20, &8_u32.to_be_bytes());
        created
    };
    let named: Vec<(&str, Item)> = vec![
        ("EFI", item(0x1236, 32, &extent(16, 24))),
        ("EFI of i386", item(0x1236, 28, &extent(16, 24))),
        ("EFD", item(0x1237, 32, &extent(16, 24))),
        ("inode", item(0x123b, 56, &[(40, sector, 8), (48, 64, 4)])),
        ("inode of i386", item(0x123b, 52, &[(36, sector, 8), (44, 64, 4)])),
        ("dquot", item(0x123d, 24, &[(8, sector, 8), (16, 64, 4)])),
        ("icreate", created),
        ("RUI", item(0x1240, 48, &extent(24, 40))),
        ("CUI", item(0x1242, 32, &extent(16, 24))),
        ("BUI", item(0x1244, 48, &extent(24, 40))),
        ("buffer", buffer(8, taken.start, &[1; 16384])),
        ("freed buffer", cancel(8, taken.start, 32768)),
    ];
    for (name, item) in named {
        let mut log = log.clone();
        log.transaction(&[item]);
        let length = if name == "buffer" { 16384 } else { 32768 };
        let used = taken.start..taken.start + length;
        assert!(!is_free(&log, &used), "{name}");
        assert!(is_free(&log, &(used.end..taken.end)), "{name}");
    }
    for kind in [0x123e, 0x1241, 0x1243, 0x1245, 0x1246, 0x1247, 0x1248, 0x1249] {
        let mut log = log.clone();
        log.transaction(&[item(kind, 40, &[])]);
        assert!(is_free(&log, &taken), "{kind:x}");
    }
}

#[test]
fn a_log_that_is_not_understood_is_a_doubt_as_root() {
    let (_place, log) = given("xfs-odd", 2, 100);
    let far = log.disk.len() as u64;
    let odd: Vec<(&str, Vec<Item>, &str)> = vec![
        ("unknown", vec![item(0x1250, 40, &[])], "not known"),
        ("realtime", vec![item(0x124a, 40, &[])], "not known"),
        ("buffer type", vec![buffer(25, 512, &[0; 512])], "not known"),
        ("outside", vec![cancel(TREE, far, 4096)], "damaged"),
        ("EFI", vec![item(0x1236, 32, &[(4, 2, 4)])], "damaged"),
        (
            "no group",
            vec![item(0x1242, 32, &[(4, 1, 4), (16, 1 << 40, 8)])],
            "damaged",
        ),
        (
            "too long",
            vec![item(0x1242, 32, &[(4, 1, 4), (24, u64::from(u32::MAX), 4)])],
            "damaged",
        ),
        ("no regions", vec![item(0x1246, 40, &[(2, 0, 2)])], "damaged"),
        ("regions missing", vec![item(0x1246, 40, &[(2, 3, 2)])], "damaged"),
    ];
    for (name, items, why) in odd {
        let mut log = log.clone();
        log.transaction(&items);
        assert_whole(name, &log, why);
    }
    let mut grown = log.clone();
    let mut superblock = grown.disk[..512].to_vec();
    let blocks = be32(&superblock, 12);
    put(&mut superblock, 12, &(blocks - 1).to_be_bytes());
    grown.transaction(&[buffer(SUPERBLOCK, 0, &superblock)]);
    assert_whole("grown", &grown, "its log changes where");
    let mut replaced = log.clone();
    replaced.transaction(&[buffer(SUPERBLOCK, 0, &log.disk[..512])]);
    assert!(Patched::new(&replaced.disk).scan().bytes(State::Free) > 0);
}

#[test]
fn each_record_that_is_to_be_replayed_must_be_right_as_root() {
    let (_place, mut log) = given("xfs-records", 2, 100);
    let (items, taken) = taken(&log.disk, 8);
    let first = log.transaction(&items);
    let second = log.idle();
    log.idle();
    assert!(!is_free(&log, &taken));
    for (name, block, byte) in [
        ("data of the first", first + 3, 100),
        ("header of the first", first, 45),
        ("data of the second", second + 1, 8),
        ("length of the second", second, 14),
        ("place of the second", second, 23),
        ("owner of the second", second, 310),
        ("tail of the last", second + 2, 31),
    ] {
        let mut log = log.clone();
        log.block(block)[byte] ^= 1;
        assert_whole(name, &log, "log");
    }
    for (name, block, cycle) in [("a hole", second + 1, 1_u32), ("the future", second + 40, 3)] {
        let mut log = log.clone();
        put(log.block(block), 0, &cycle.to_be_bytes());
        assert_whole(name, &log, "where it ends");
    }
}

/// What a loss of power leaves: the kernel drops a record that is not complete.
#[test]
fn a_last_record_that_was_not_written_to_its_end_does_not_count_as_root() {
    let (place, mut log) = given("xfs-partial", 2, 100);
    let (items, taken) = taken(&log.disk, 8);
    log.idle();
    let before = log.clone();
    let first = log.transaction(&items);
    for blocks in [1, 5, 17] {
        let mut partial = before.clone();
        for number in first..first + blocks {
            let bytes = log.block(number).to_vec();
            partial.block(number).copy_from_slice(&bytes);
        }
        assert!(is_free(&partial, &taken), "{blocks}");
        assert_as_recovered(&place, &partial);
    }
    assert!(!is_free(&log, &taken));
}
