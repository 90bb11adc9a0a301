//! Thin pools: a block of data that neither a thin volume nor a snapshot has is free, as the pool's own tools tell it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use mkqcow2::volumes::{Region, State};

use super::made::{EXTENT, Made, START, hidden, linear, special, text, volume};
use super::{assert_free, assert_used, assert_whole, bytes_free, extents, named};
use crate::filesystems::patched::Patched;
use crate::support::{Dice, Dir, tool};

/// The extents of the metadata and of the data, which has 100 blocks of 64 KiB.
const METADATA: std::ops::Range<u64> = 10..42;
const DATA: std::ops::Range<u64> = 100..204;

const BLOCKS: u64 = 100;

const INSIDE: &str = "metadata = \"pool_tmeta\"\npool = \"pool_tdata\"\ntransaction_id = 7\nchunk_size = 128";

/// A volume group with a thin pool; the metadata lies in two segments.
fn pool(inside: &str) -> [String; 5] {
    let thin = special(
        50,
        "thin",
        "thin_pool = \"pool\"\ntransaction_id = 0\ndevice_id = 1",
    );
    [
        hidden("pool_tmeta", &[linear("pv0", 26, 16), linear("pv0", 10, 16)]),
        hidden("pool_tdata", &[linear("pv0", DATA.start, DATA.end - DATA.start)]),
        volume("pool", &[special(104, "thin-pool", inside)]),
        volume("data", &[thin]),
        volume("beside", &[linear("pv0", 0, 5)]),
    ]
}

/// Metadata as `thin_restore` makes it, of some volumes: for each of their blocks the block of data.
fn metadata(dir: &Dir, volumes: &[Vec<u64>], blocks: u64) -> Vec<u8> {
    let mut xml = format!(
        "<superblock uuid=\"\" time=\"1\" transaction=\"7\" data_block_size=\"128\" nr_data_blocks=\"{blocks}\">\n"
    );
    for (number, volume) in volumes.iter().enumerate() {
        let count = volume.len();
        writeln!(
            xml,
            "<device dev_id=\"{number}\" mapped_blocks=\"{count}\" transaction=\"0\" creation_time=\"0\" snap_time=\"1\">"
        )
        .unwrap();
        for (block, data) in volume.iter().enumerate() {
            writeln!(
                xml,
                "<single_mapping origin_block=\"{block}\" data_block=\"{data}\" time=\"0\"/>"
            )
            .unwrap();
        }
        xml += "</device>\n";
    }
    xml += "</superblock>\n";
    let (from, to) = (dir.join("pool.xml"), dir.sparse("tmeta", 32 * EXTENT, &[]));
    fs::write(&from, xml).unwrap();
    tool(
        "thin_restore",
        ["-i", from.to_str().unwrap(), "-o", to.to_str().unwrap()],
    );
    tool("thin_check", ["-q", to.to_str().unwrap()]);
    fs::read(to).unwrap()
}

/// A physical volume with such metadata.
fn made(inside: &str, metadata: &[u8]) -> Made {
    let mut made = Made::new(&text(&pool(inside)));
    let (front, behind) = metadata.split_at(16 * EXTENT as usize);
    made.put(START + 26 * EXTENT, front);
    made.put(START + 10 * EXTENT, behind);
    made
}

/// A volume and a snapshot of it that have some blocks in common.
fn volumes(seed: u64) -> Vec<Vec<u64>> {
    let mut dice = Dice::new(seed);
    let mut blocks: Vec<u64> = (0..BLOCKS).collect();
    for place in (1..blocks.len()).rev() {
        blocks.swap(place, dice.below(place as u64 + 1) as usize);
    }
    let first = blocks[..30].to_vec();
    let second = [&blocks[10..30], &blocks[30..45]].concat();
    vec![first, second]
}

#[test]
fn blocks_that_no_volume_and_no_snapshot_has_are_free() {
    let dir = Dir::new("lvm-thin");
    for seed in 0..5 {
        let volumes = volumes(seed);
        let allocation = made(INSIDE, &metadata(&dir, &volumes, BLOCKS)).scan();
        let region = named(&allocation, "pool_tdata");
        assert_eq!(
            (region.name, region.free()),
            (Some("thin pool"), 55 * EXTENT),
            "{region:?}"
        );
        let used: BTreeSet<u64> = volumes.concat().into_iter().collect();
        for block in 0..BLOCKS {
            let range = DATA.start + block..DATA.start + block + 1;
            if used.contains(&block) {
                assert_used(&allocation, range);
            } else {
                assert_free(&allocation, range);
            }
        }
        // What the pool does not know yet, and its metadata.
        assert_used(&allocation, DATA.start + BLOCKS..DATA.end);
        assert_used(&allocation, METADATA);
        assert_whole(
            &allocation,
            "pool_tmeta",
            "a part of \"pool\", which is of type thin-pool",
        );
    }
}

#[test]
fn a_pool_of_which_the_group_says_something_else_is_copied_whole() {
    let dir = Dir::new("lvm-thin-other");
    let metadata = |blocks| metadata(&dir, &volumes(0), blocks);
    let good = metadata(BLOCKS);
    for (inside, words) in [
        (
            INSIDE.replace("transaction_id = 7", "transaction_id = 8"),
            "trans_id is 0x7, expected 0x8",
        ),
        (
            INSIDE.replace("chunk_size = 128", "chunk_size = 256"),
            "data_block_size is 0x10000, expected 0x20000",
        ),
    ] {
        assert_whole(&made(&inside, &good).scan(), "pool_tdata", words);
    }
    for inside in [
        INSIDE.replace("chunk_size = 128", ""),
        INSIDE.replace("pool_tmeta", "beside"),
        INSIDE.replace("pool_tmeta", "nothing"),
        INSIDE.replace("pool_tmeta", "pool_tdata"),
    ] {
        let allocation = made(&inside, &good).scan();
        assert_eq!(
            bytes_free(&allocation, &extents(DATA)),
            0,
            "{inside}: {:?}",
            allocation.regions
        );
    }
    let larger = made(INSIDE, &metadata(105)).scan();
    assert_whole(&larger, "pool_tdata", "counts more blocks than its data has");
    assert_whole(
        &made(INSIDE, &vec![0; good.len()]).scan(),
        "pool_tdata",
        "checksum",
    );
}

#[test]
fn no_damage_to_the_metadata_of_a_pool_makes_a_block_free_that_was_not() {
    let dir = Dir::new("lvm-thin-damage");
    let made = made(INSIDE, &metadata(&dir, &volumes(0), BLOCKS));
    let whole = Patched::new(&made.bytes);
    let allocation = whole.scan();
    let used: Vec<_> = allocation.map.extents().to_vec();
    let metadata = extents(METADATA);
    let reads: Vec<_> = whole
        .reads()
        .into_iter()
        .filter(|range| range.start < metadata.end && metadata.start < range.end)
        .collect();
    assert!(!reads.is_empty());
    let mut trusted = 0;
    for seed in 0..1000 {
        let mut dice = Dice::new(seed);
        let mut damaged = Patched::new(&made.bytes);
        for _ in 0..=dice.below(2) {
            let range = &reads[dice.below(reads.len() as u64) as usize];
            let at = range.start + dice.below(range.end - range.start);
            damaged.put(at, &[damaged.byte(at) ^ (1 << dice.below(8))]);
        }
        let found = damaged.scan();
        trusted += u64::from(found.map.bytes_in(State::Free, &extents(DATA)) > 0);
        for extent in &used {
            let lost = bytes_free(&found, &extent.range);
            assert_eq!(lost, 0, "seed {seed}: {:?}", found.regions);
        }
        let is_told = |region: &Region| region.name == Some("thin pool");
        assert!(
            found.regions.iter().any(is_told),
            "seed {seed}: {:?}",
            found.regions
        );
    }
    // Some changes hit what is looked at for other reasons.
    assert!(trusted > 0 && trusted < 600, "{trusted}");
}
