//! XFS of which some bytes are others than they were: nothing is called free that was in use, unless it is only the log
//! that had it in use, and its checksums were made right.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use mkqcow2::volumes::{Allocation, State, Treatment};

use super::listed::{free_blocks, in_bytes};
use super::written::Log;
use crate::corpus::assert_all;
use crate::filesystems::patched::{Patched, Structure};
use crate::filesystems::proof::xfs::{Xfs, log_cycle, number};
use crate::filesystems::proof::{Given, MIB, Proof, mounted};
use crate::support::{Dice, noise, tool};

/// How long it may take to look into one disk, however busy the machine is with other tests.
const LIMIT: Duration = Duration::from_secs(30);

/// How many changes of each kind are tried.
const SEEDS: u64 = 300;

const LAYOUTS: [&str; 2] = ["-d agcount=4", "-m rmapbt=1 -b size=1024 -d agcount=3"];

/// A disk, and what of it is in use.
struct Base {
    disk: Vec<u8>,
    /// By its map.
    used: Vec<Range<u64>>,
    /// Of that, what no change of the log can make free: it is in use by the trees on the disk.
    on_disk: Vec<Range<u64>>,
    /// Of that, what the kernel needs: it is in use after recovery.
    recovered: Vec<Range<u64>>,
}

impl Base {
    fn made(name: &str, options: &'static str) -> Given {
        let name = format!("xfs-damage-{name}-{}", options.len());
        Proof::of(&name, 64 * MIB, Xfs::new(options)).aged(200).made()
    }

    /// A filesystem that was unmounted.
    fn clean(name: &str, options: &'static str) -> Self {
        let disk = fs::read(&Self::made(name, options).disk).unwrap();
        let used = used(&Patched::new(&disk).scan());
        Self {
            disk,
            on_disk: used.clone(),
            recovered: used.clone(),
            used,
        }
    }

    /// A filesystem that was unmounted, and then cut off: what was done in between is in its log.
    fn dirty(name: &str, options: &'static str) -> Self {
        let given = Self::made(name, options);
        let (path, scratch) = (&given.disk, given.place.dir.path());
        mounted("rw", path, scratch, &mut |root| {
            change(root);
            tool("xfs_io", ["-x", "-c", "shutdown -f", root.to_str().unwrap()]);
        });
        let disk = fs::read(path).unwrap();
        let whole = Patched::new(&disk);
        let used_now = used(&whole.scan());
        let records = whole.xfs_records_to_replay();
        assert!(records.len() > 20, "{records:?}");
        for record in records {
            let sum = whole.xfs_record_sum(&record).to_le_bytes();
            assert_eq!(whole.get(whole.xfs_blocks_of(&record)[0] + 32), sum);
        }
        // The same trees, with a log that changes nothing.
        let mut idle = Log::empty(path, log_cycle(path) + 1, 10);
        idle.idle();
        let on_disk = both(&used_now, &used(&Patched::new(&idle.disk).scan()));
        mounted("rw", path, scratch, &mut |_| {});
        let recovered = both(&used_now, &used_blocks(path));
        for part in [&on_disk, &recovered] {
            assert_ne!(*part, used_now, "the log changes nothing");
        }
        Self {
            disk,
            used: used_now,
            on_disk,
            recovered,
        }
    }

    /// Makes changes, and looks into what comes of it. `change` returns what it did.
    fn holds(
        &self,
        what: &str,
        must_be: &[Range<u64>],
        change: impl Fn(&mut Patched<'_>, &mut Dice) -> String + Sync,
    ) {
        let seeds: Vec<u64> = (0..SEEDS).collect();
        assert_all(&seeds, |seed| {
            let mut damaged = Patched::new(&self.disk);
            let done = change(&mut damaged, &mut Dice::new(*seed));
            let begun = Instant::now();
            let found = damaged.scan();
            let took = begun.elapsed();
            let lost: u64 = must_be
                .iter()
                .map(|range| found.map.bytes_in(State::Free, range))
                .sum();
            let is_right = lost == 0 && took < LIMIT;
            let finding = || format!("{what}, seed {seed}: {done}: {lost} bytes are lost; {took:?}");
            (!is_right).then(finding).into_iter().collect()
        });
    }
}

/// What leaves all kinds of items in a log.
fn change(root: &Path) {
    for directory in 0..8 {
        let entries = fs::read_dir(root.join(format!("aged-{directory}"))).unwrap();
        for entry in entries.step_by(2) {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    fs::remove_file(root.join("medium")).unwrap();
    let large = File::options().write(true).open(root.join("large")).unwrap();
    large.set_len(MIB).unwrap();
    for number in 0..60 {
        let path = root.join(format!("new-{number}"));
        fs::write(&path, noise(number, 300 * number as usize)).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        if number % 3 == 0 {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[track_caller]
fn used(allocation: &Allocation) -> Vec<Range<u64>> {
    let regions = &allocation.regions;
    assert!(matches!(regions[0].treatment, Treatment::Mapped), "{regions:?}");
    let parts = allocation.map.parts();
    let used = parts.filter(|(_, state, _)| *state != State::Free);
    used.map(|(range, ..)| range).collect()
}

/// What the trees on a disk do not list.
fn used_blocks(disk: &Path) -> Vec<Range<u64>> {
    let free = free_blocks(disk);
    let all = 0..number(disk, "sb 0", "dblocks");
    in_bytes(
        all.filter(|block| !free.contains(block)),
        number(disk, "sb 0", "blocksize"),
    )
}

/// What is in both.
fn both(ranges: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let pairs = ranges
        .iter()
        .flat_map(|range| others.iter().map(move |other| (range, other)));
    let common = pairs.map(|(range, other)| range.start.max(other.start)..range.end.min(other.end));
    common.filter(|range| !range.is_empty()).collect()
}

/// Changes a word or a byte in a range, which begins and ends with a word; near its beginning as often as anywhere.
fn changed(disk: &mut Patched<'_>, dice: &mut Dice, range: &Range<u64>) -> String {
    let length = range.end - range.start;
    let near = length.min(128 << (dice.below(2) * 20));
    let mut place = || range.start + dice.below(near) / 4 * 4;
    let (at, other) = (place(), place());
    let word = u32::from_be_bytes(disk.get(at));
    let new = match dice.below(6) {
        0 => word ^ 1 << dice.below(32),
        1 => word.wrapping_add(1),
        2 => word.wrapping_sub(1),
        3 => 0,
        4 => u32::from_be_bytes(disk.get(other)),
        _ => word ^ (dice.below(256) as u32) << (8 * dice.below(4)),
    };
    disk.put(at, &new.to_be_bytes());
    format!("{at:#x}: {word:#x} is {new:#x}")
}

/// Changes a structure.
fn changed_structure(disk: &mut Patched<'_>, dice: &mut Dice) -> String {
    let structures = disk.xfs_structures();
    let structure = &structures[dice.below(structures.len() as u64) as usize];
    changed(disk, dice, &structure.range)
}

/// Changes a structure, but for its magic and its UUID: without them it is one that was never written, as far as the
/// kernel can tell, and takes all of it from the log.
fn changed_in_place(disk: &mut Patched<'_>, dice: &mut Dice) -> String {
    let structures = disk.xfs_structures();
    let Structure { range, sum } = &structures[dice.below(structures.len() as u64) as usize];
    let uuid = range.start + if *sum == 216 { 64 } else { 32 };
    let parts = [range.start + 4..uuid, uuid + 16..range.end];
    let part = &parts[dice.below(2) as usize];
    changed(disk, dice, part)
}

/// Changes a record that must be replayed.
fn changed_record(disk: &mut Patched<'_>, dice: &mut Dice) -> String {
    let records = disk.xfs_records_to_replay();
    let record = &records[dice.below(records.len() as u64) as usize];
    let blocks = disk.xfs_blocks_of(record);
    let at = blocks[dice.below(blocks.len() as u64) as usize];
    changed(disk, dice, &(at..at + 512))
}

#[test]
fn nothing_of_a_damaged_xfs_is_lost_as_root() {
    for options in LAYOUTS {
        let base = Base::clean("clean", options);
        let whole = Patched::new(&base.disk);
        whole.scan();
        let log = number_of_log_bytes(&whole);
        let reads = whole.reads().into_iter();
        let reads: Vec<_> = reads.filter(|range| range.end - range.start < log).collect();
        base.holds("plain", &base.used, |disk, dice| {
            let changes = (0..=dice.below(2)).map(|_| {
                let range = &reads[dice.below(reads.len() as u64) as usize];
                changed(disk, dice, range)
            });
            changes.collect::<Vec<_>>().join("; ")
        });
        base.holds("right checksums", &base.used, |disk, dice| {
            let done = changed_structure(disk, dice);
            disk.sum_up();
            done
        });
    }
}

/// How many bytes the log has.
fn number_of_log_bytes(disk: &Patched<'_>) -> u64 {
    let log = disk.xfs_log();
    log.end - log.start
}

#[test]
fn nothing_of_a_damaged_xfs_that_was_cut_off_is_lost_as_root() {
    for options in LAYOUTS {
        let base = Base::dirty("dirty", options);
        base.holds("plain", &base.used, changed_in_place);
        base.holds("plain, anywhere", &base.recovered, changed_structure);
        base.holds("plain, in the log", &base.used, changed_record);
        base.holds("right checksums", &base.recovered, |disk, dice| {
            let done = changed_structure(disk, dice);
            disk.sum_up();
            done
        });
        base.holds("right checksums, in the log", &base.on_disk, |disk, dice| {
            let done = changed_record(disk, dice);
            disk.sum_up();
            done
        });
    }
}
