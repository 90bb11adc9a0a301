//! XFS of which some bits are others than they were.

use std::fs;

use mkqcow2::volumes::State;

use crate::corpus::in_parallel;
use crate::filesystems::patched::Patched;
use crate::filesystems::proof::xfs::{Xfs, number};
use crate::filesystems::proof::{Given, MIB, Proof};
use crate::support::Dice;

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
