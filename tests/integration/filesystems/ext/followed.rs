//! Files whose inodes and trees are damaged, under maps that call everything free: what the kernel can read all the
//! same is in use.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mkqcow2::volumes::{AllocationMap, Treatment};

use super::super::patched::Patched;
use super::super::proof::{Given, MIB, mounted};
use super::forged::Forged;
use super::wrong::given;
use super::{debugfs, doubt, free, without_holes};
use crate::corpus::in_parallel;
use crate::support::{Dice, tool};

/// How many damaged disks of each kind are looked into.
const SEEDS: u64 = 250;

/// Every so many seeds the kernel looks, too.
const KERNEL_EVERY: u64 = 10;

/// In bytes.
const BLOCK: u64 = 1024;

/// A file as debugfs knows it.
#[derive(Debug)]
struct Known {
    inode: u32,
    /// Where its inode is, in bytes.
    at: u64,
    blocks: Vec<u64>,
    /// Those that name others.
    nodes: Vec<u64>,
}

/// All files and directories.
fn known(disk: &Path) -> Vec<Known> {
    let bytes = fs::read(disk).unwrap();
    let field = |at: usize, length: usize| {
        let mut number = [0; 8];
        number[..length].copy_from_slice(&bytes[at..at + length]);
        u64::from_le_bytes(number)
    };
    let (per_group, size) = (field(1024 + 0x28, 4), field(1024 + 0x58, 2));
    let descriptor = if field(1024 + 0x60, 4) & 0x80 == 0 { 32 } else { 64 };
    let path = disk.to_str().unwrap();
    let mut known = Vec::new();
    for inode in (2..=field(1024, 4)).filter(|inode| *inode != 7) {
        let (group, index) = ((inode - 1) / per_group, (inode - 1) % per_group);
        let table = field((2048 + group * descriptor + 8) as usize, 4) * BLOCK;
        let at = table + index * size;
        let (mode, links) = (field(at as usize, 2) & 0xf000, field(at as usize + 26, 2));
        if links == 0 || ![0x8000, 0x4000].contains(&mode) {
            continue;
        }
        let told = tool("debugfs", ["-R", &format!("blocks <{inode}>"), path]);
        let blocks = told.split_whitespace().map(|block| block.parse().unwrap());
        let stat = tool("debugfs", ["-R", &format!("stat <{inode}>"), path]);
        let parts = stat
            .split([',', '\n'])
            .filter_map(|part| part.trim().split_once("):"));
        let nodes = parts.filter(|(what, _)| what.contains("IND") || what.contains("ETB"));
        known.push(Known {
            inode: inode as u32,
            at,
            blocks: blocks.collect(),
            nodes: nodes.map(|(_, block)| block.parse().unwrap()).collect(),
        });
    }
    known
}

fn has(map: &AllocationMap, range: Range<u64>) -> bool {
    let mut at = range.start;
    for used in map.data_within(range.clone()) {
        if used.start > at {
            break;
        }
        at = used.end;
    }
    at >= range.end
}

/// Changes a few bytes of one inode, or of one block that names others. Returns whose.
fn damage<'k>(disk: &mut Patched<'_>, known: &'k [Known], dice: &mut Dice) -> &'k Known {
    let with_nodes: Vec<&Known> = known.iter().filter(|known| !known.nodes.is_empty()).collect();
    let whose;
    let places = if dice.below(2) == 0 {
        whose = &known[dice.below(known.len() as u64) as usize];
        // What tells where its blocks are, more often than the rest.
        if dice.below(2) == 0 {
            whose.at + 40..whose.at + 100
        } else {
            whose.at..whose.at + 132
        }
    } else {
        whose = with_nodes[dice.below(with_nodes.len() as u64) as usize];
        let node = whose.nodes[dice.below(whose.nodes.len() as u64) as usize] * BLOCK;
        let length = [12, 48, BLOCK][dice.below(3) as usize];
        node..node + length
    };
    let start = places.start + dice.below(places.end - places.start);
    for at in start..places.end.min(start + 1 + dice.below(4)) {
        let byte = match dice.below(4) {
            0 => 0,
            1 => 0xff,
            2 => disk.byte(at) ^ (1 << dice.below(8)),
            _ => dice.below(256) as u8,
        };
        disk.put(at, &[byte]);
    }
    if dice.below(2) == 0 {
        disk.sum_up();
        let generation = disk.get(whose.at + 100);
        for node in &whose.nodes {
            if disk.get(node * BLOCK) == [0x0a, 0xf3] && has_sums(disk) {
                disk.sum_up_extents(node * BLOCK, whose.inode, generation);
            }
        }
    }
    whose
}

fn has_sums(disk: &Patched<'_>) -> bool {
    disk.byte(1024 + 0x65) & 4 != 0
}

/// What can be read of a filesystem that is damaged.
fn readable(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() && depth < 20 && found.len() < 2000 {
                directories.push((path, depth + 1));
            } else if metadata.is_file() && metadata.len() < 80 * MIB {
                let mut bytes = Vec::new();
                let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
                if read.is_ok() {
                    found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
                }
            } else if metadata.is_symlink()
                && let Ok(target) = fs::read_link(&path)
            {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    target.into_os_string().into_encoded_bytes(),
                );
            }
        }
    }
    found
}

/// What the kernel reads of a disk, unless it does not mount it.
fn by_the_kernel(given: &Given, bytes: &[u8]) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let disk = given.place.dir.join("damaged.raw");
    fs::write(&disk, bytes).unwrap();
    let mut found = BTreeMap::new();
    let mount = || {
        mounted("ro", &disk, given.place.dir.path(), &mut |root| {
            found = readable(root);
        });
    };
    catch_unwind(AssertUnwindSafe(mount)).ok().map(|()| found)
}

#[track_caller]
fn nothing_is_lost(name: &str, options: &'static str) {
    let given = given(&format!("followed-{name}"), 12 * MIB, options, "");
    let known = known(&given.disk);
    assert!(known.len() > 30 && known.iter().any(|known| known.nodes.len() > 3));
    let mut forged = Forged::of(&given.disk);
    for group in 0..forged.groups() {
        forged.clear(group);
    }
    forged.write(&given.disk);
    let disk = fs::read(&given.disk).unwrap();
    let seeds: Vec<u64> = (0..SEEDS).collect();
    let whole = in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut damaged = Patched::new(&disk);
        let whose = damage(&mut damaged, &known, &mut dice);
        let begun = Instant::now();
        let found = damaged.scan();
        assert!(begun.elapsed() < Duration::from_secs(20), "seed {seed}");
        for other in known.iter().filter(|other| other.inode != whose.inode) {
            for block in &other.blocks {
                let range = block * BLOCK..(block + 1) * BLOCK;
                assert!(has(&found.map, range), "seed {seed}: {block} of {other:?}");
            }
        }
        matches!(found.regions[0].treatment, Treatment::Doubted(_))
    });
    let whole = whole.into_iter().filter(|whole| *whole).count();
    assert!(whole > 10 && whole < seeds.len() - 10, "{whole} are doubted");

    let mut compared = 0;
    for seed in seeds.iter().step_by(KERNEL_EVERY as usize) {
        let mut damaged = Patched::new(&disk);
        damage(&mut damaged, &known, &mut Dice::new(*seed));
        let map = damaged.scan().map;
        let bytes = damaged.bytes();
        let Some(expected) = by_the_kernel(&given, &bytes) else {
            continue;
        };
        let mut copy = vec![0xff; bytes.len()];
        for used in map.data_within(0..bytes.len() as u64) {
            let used = used.start as usize..used.end as usize;
            copy[used.clone()].copy_from_slice(&bytes[used]);
        }
        let found = by_the_kernel(&given, &copy).unwrap_or_else(|| panic!("seed {seed}: no copy is mounted"));
        for (path, bytes) in expected {
            assert!(
                found.get(&path) == Some(&bytes),
                "seed {seed}: {}",
                path.display()
            );
            compared += 1;
        }
    }
    assert!(compared > 500, "only {compared} files");
}

#[test]
fn nothing_of_damaged_files_of_ext4_is_lost_as_root() {
    nothing_is_lost("4", "-t ext4 -b 1024");
}

#[test]
fn nothing_of_damaged_files_of_ext4_without_checksums_is_lost_as_root() {
    nothing_is_lost("no-sums", "-t ext4 -b 1024 -O ^metadata_csum,^64bit");
}

#[test]
fn nothing_of_damaged_files_of_ext2_is_lost_as_root() {
    nothing_is_lost("2", "-t ext2 -b 1024");
}

#[test]
fn nothing_of_damaged_files_of_ext4_with_clusters_is_lost_as_root() {
    nothing_is_lost("bigalloc", "-t ext4 -b 1024 -O bigalloc -C 4096");
}

/// The inode of a file with deep trees, where that is, and its nodes.
fn deep(given: &Given) -> Known {
    let disk = given.disk.to_str().unwrap();
    let stat = tool("debugfs", ["-R", "stat /deep", disk]);
    let number = stat.trim_start().strip_prefix("Inode: ").unwrap();
    let number: u32 = number.split_whitespace().next().unwrap().parse().unwrap();
    let mut known = known(&given.disk);
    let index = known.iter().position(|known| known.inode == number);
    known.swap_remove(index.unwrap())
}

/// What is done to a disk.
type Change<'a> = &'a dyn Fn(&mut Patched<'_>);

#[test]
fn a_file_that_cannot_be_followed_makes_a_doubt_as_root() {
    let given = given("doubted", 12 * MIB, "-t ext4 -b 1024", "");
    let file = deep(&given);
    let good = fs::read(&given.disk).unwrap();
    let node = file.nodes[0] * BLOCK;
    let generation = Patched::new(&good).get(file.at + 100);
    let changes: [(Change<'_>, &str); 8] = [
        (&|disk| disk.put(node + 8, &[1]), "extent block at"),
        (&|disk| disk.put(node, &[0]), "eh_magic is"),
        (&|disk| disk.put(node + 6, &[7]), "eh_depth is"),
        (&|disk| disk.put(node + 2, &[85]), "eh_entries is"),
        (&|disk| disk.put(file.at + 4, &[0xaa]), "inode table at"),
        (
            &|disk| {
                disk.put(file.at + 40 + 12 + 8, &[0xff]);
                disk.sum_up();
            },
            "ei_leaf is",
        ),
        (
            &|disk| {
                disk.put(file.at + 1, &[0xf1]);
                disk.sum_up();
            },
            "i_mode is",
        ),
        (
            &|disk| {
                disk.put(file.at + 106, &[0xff]);
                disk.sum_up();
            },
            "i_file_acl is",
        ),
    ];
    for (change, words) in changes {
        let mut disk = Patched::new(&good);
        change(&mut disk);
        fs::write(&given.disk, disk.bytes()).unwrap();
        let doubt = doubt(&given.disk);
        assert!(doubt.starts_with(&format!("inode {}: ", file.inode)), "{doubt}");
        assert!(doubt.contains(words), "{words}: {doubt}");
    }
    // The same in a file that is deleted matters to nobody.
    for links in [1, 0] {
        let mut disk = Patched::new(&good);
        disk.put(node, &[0]);
        disk.put(file.at + 26, &[links, 0]);
        disk.put(file.at + 20, &[0, 0, 0, 0x60]);
        disk.sum_up();
        disk.sum_up_extents(node, file.inode, generation);
        fs::write(&given.disk, disk.bytes()).unwrap();
        assert_eq!(free(&given.disk).is_empty(), links == 1);
    }
}

#[test]
fn a_tree_that_names_itself_is_not_followed_for_ever_as_root() {
    let given = given("cycle", 12 * MIB, "-t ext2 -b 1024", "");
    let file = deep(&given);
    let mut bytes = fs::read(&given.disk).unwrap();
    let node = file.nodes[0];
    // Triple: it names itself, and what that names is itself again.
    let number = u32::try_from(node).unwrap().to_le_bytes();
    bytes[file.at as usize + 40 + 14 * 4..][..4].copy_from_slice(&number);
    bytes[(node * BLOCK) as usize..][..BLOCK as usize].copy_from_slice(&number.repeat(256));
    fs::write(&given.disk, bytes).unwrap();
    without_holes(&given.disk);

    let begun = Instant::now();
    let doubt = doubt(&given.disk);

    assert!(doubt.contains("blocks in files"), "{doubt}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_was_deleted_while_in_use_is_in_use_until_it_is_mounted_as_root() {
    let given = given("orphan", 12 * MIB, "-t ext4 -b 1024 -O ^metadata_csum,^64bit", "");
    let file = deep(&given);
    let before = free(&given.disk);
    let mut forged = Forged::of(&given.disk);
    for group in 0..forged.groups() {
        forged.clear(group);
    }
    let at = file.at as usize;
    forged.bytes()[at + 26..at + 28].copy_from_slice(&[0, 0]);
    forged.bytes()[at + 20..at + 24].copy_from_slice(&[0; 4]);
    forged.write(&given.disk);
    assert_ne!(free(&given.disk), before, "nobody has it");

    debugfs(
        &given.disk,
        &format!("set_super_value last_orphan {}\n", file.inode),
    );
    without_holes(&given.disk);
    assert_eq!(free(&given.disk), before);
}
