//! A Btrfs of which some bytes are others than they were: nothing that was in use becomes free.

use std::fs;

use mkqcow2::volumes::State;

use super::super::patched::{Bases, Patched};
use super::super::proof::btrfs::Btrfs;
use super::super::proof::{MIB, Proof, mounted};
use super::{btrfs, with_snapshots};
use crate::corpus::in_parallel;
use crate::support::{Dice, noise, tool};

/// Damages what is read of a disk: a byte here and there, or a number in a structure, which becomes another one of the
/// same disk. Behind checksums that are right, too. So many copies.
#[track_caller]
fn assert_nothing_is_lost(disk: &[u8], copies: u64) {
    let whole = Patched::new(disk);
    let allocation = whole.scan();
    assert!(allocation.bytes(State::Free) > 0, "{:?}", allocation.regions);
    let used = allocation.map.extents().to_vec();
    let reads: Vec<_> = whole
        .reads()
        .into_iter()
        .filter(|range| range.start >= 64 << 10)
        .collect();
    let seeds: Vec<u64> = (0..copies).collect();
    let is_free = in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut damaged = Patched::new(disk);
        let mut place = || {
            let range = &reads[dice.below(reads.len() as u64) as usize];
            // Structures are at the beginning and at the end of a block.
            let length = (range.end - range.start).min(16 << 10);
            let near = 1 << dice.below(15);
            let within = dice.below(length.min(near));
            let start = range.start + dice.below((range.end - range.start) / length) * length;
            let within = if dice.below(2) == 0 {
                within
            } else {
                length - 1 - within
            };
            (start + within, dice.roll())
        };
        for _ in 0..=seed % 3 {
            let ((at, bits), (from, _)) = (place(), place());
            if bits % 3 == 0 {
                damaged.put(at / 8 * 8, &damaged.get::<8>(from / 8 * 8));
            } else {
                damaged.put(at, &[damaged.byte(at) ^ (1 << (bits % 8))]);
            }
        }
        if seed % 4 != 0 {
            damaged.sum_up();
        }
        let found = damaged.scan();
        for extent in &used {
            let lost = found.map.bytes_in(State::Free, &extent.range);
            assert_eq!(lost, 0, "seed {seed}: {:?}: {:?}", extent.range, found.regions);
        }
        found.bytes(State::Free) > 0
    });
    assert!(is_free.iter().any(|is_free| *is_free), "no damage is harmless");
    let bases = Bases::new([disk.to_vec()]);
    in_parallel(&seeds, |seed| {
        let length = Dice::new(*seed).below(80) as usize;
        bases.scan_changed(&noise(*seed, length));
    });
}

#[test]
fn no_damage_makes_anything_free_that_was_not_as_root() {
    let name = "btrfs-damaged";
    for (number, options) in ["-n 4096", "--mixed -R ^free-space-tree", "-m single"]
        .into_iter()
        .enumerate()
    {
        let given = Proof::of(&format!("{name}-{number}"), 120 * MIB, Btrfs::new(options))
            .aged(200)
            .changed_by(|at| {
                mounted("nodiscard", at, at.parent().unwrap(), &mut |root| {
                    with_snapshots(root.to_str().unwrap());
                });
            })
            .made();
        assert_nothing_is_lost(&fs::read(&given.disk).unwrap(), 700);
    }
}

/// The same where there is a log, of which few bytes are all that tells of an extent.
#[test]
fn no_damage_to_a_log_makes_anything_free_that_was_not_as_root() {
    let given = Proof::of("btrfs-damaged-log", 120 * MIB, Btrfs::new("-n 4096")).made();
    let mut copy = Vec::new();
    mounted(
        "nodiscard,commit=300",
        &given.disk,
        given.place.dir.path(),
        &mut |root| {
            let root = root.to_str().unwrap();
            btrfs(["-q", "subvolume", "create", &format!("{root}/volume")]);
            tool("sync", ["-f", root]);
            for number in 0..60_u64 {
                let path = format!(
                    "{root}/{}logged-{number}",
                    if number % 2 == 0 { "volume/" } else { "" }
                );
                fs::write(&path, noise(number, 9000)).unwrap();
                fs::File::open(path).unwrap().sync_all().unwrap();
            }
            copy = fs::read(&given.disk).unwrap();
        },
    );
    assert_ne!(copy[0x1_0060..0x1_0068], [0; 8], "it has no log");
    assert_nothing_is_lost(&copy, 3000);
}
