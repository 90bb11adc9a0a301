//! Filesystems whose machine lost its power: what was synced is in every copy, although no bitmap on the disk tells
//! of it yet.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Scan, Treatment};

use super::proof::ext::Ext;
use super::proof::{Filesystem, Given, Listing, MIB, Marker, Proof, Volume, mounted};
use crate::support::loops::{Loop, Mount};
use crate::support::{Dice, noise, tool};

const SIZE: u64 = 64 * MIB;

/// How a disk comes to be like that of a machine that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    /// The kernel gives up the filesystem, once what is open in the journal is committed.
    Committed,
    /// The kernel gives up the filesystem, and what is open in the journal.
    Dropped,
    /// A copy of a disk that is in use.
    Copied,
}

const CRASHES: [Crash; 3] = [Crash::Committed, Crash::Dropped, Crash::Copied];

/// Who replays the journal of a copy.
#[derive(Clone, Copy, Debug)]
enum Replayer {
    Kernel,
    /// That of e2fsprogs 1.47.0 stumbles over room for fast commits.
    E2fsck,
}

impl Replayer {
    #[track_caller]
    fn replay(self, disk: &Path) {
        match self {
            Self::Kernel => mounted("rw", disk, disk.parent().unwrap(), &mut |_| ()),
            Self::E2fsck => {
                let options = ["-y", "-E", "journal_only"].map(OsStr::new);
                tool("e2fsck", options.into_iter().chain([disk.as_os_str()]));
            }
        }
    }
}

/// A filesystem whose journal needs recovery: its checker calls it right after that.
struct Crashed(Replayer);

impl Filesystem for Crashed {
    fn make(&self, _: &Path) {
        unreachable!("it was made as another");
    }

    fn check(&self, at: &Path) {
        self.0.replay(at);
        tool("e2fsck", ["-fn", at.to_str().unwrap()]);
    }
}

/// Makes a filesystem with files, changes it while it is mounted with `options`, and pulls the plug.
#[track_caller]
fn crashed(name: &str, mkfs: &'static str, options: &str, (crash, replayer): (Crash, Replayer)) -> Given {
    let given = Proof::of(&format!("{name}-{crash:?}"), SIZE, Ext::new(mkfs)).made();
    let device = Loop::over(&given.disk);
    let options = format!("commit=300,{options}");
    let mount = Mount::new(&options, device.path(), given.place.dir.join("crashing"));
    let listing = work(mount.point(), &mut Dice::new(name.len() as u64 + crash as u64));
    match crash {
        Crash::Committed => shut_down(mount.point(), 1),
        Crash::Dropped => shut_down(mount.point(), 2),
        Crash::Copied => {}
    }
    let mut bytes = fs::read(&given.disk).unwrap();
    drop(mount);
    drop(device);
    let Given { place, disk, .. } = given;
    // What was deleted before may lie in clusters that are not full.
    let (secret, stale) = (Marker::Secret.times(64), Marker::A.times(64));
    let secrets = bytes.chunks_exact_mut(64).filter(|chunk| **chunk == *secret);
    secrets.for_each(|chunk| chunk.copy_from_slice(&stale));
    // Not in the file that the device may still write to.
    fs::remove_file(&disk).unwrap();
    fs::write(&disk, bytes).unwrap();
    let volume = Volume {
        pieces: (0..SIZE).into(),
        filesystem: Box::new(Crashed(replayer)),
        listing: listing.and_perhaps_more(),
    };
    Given::over(place, disk, vec![volume])
}

/// What happens in the last seconds. Returns what must not be lost.
fn work(root: &Path, dice: &mut Dice) -> Listing {
    for directory in ["synced-0", "synced-1", "synced-2", "later"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let sync_at = dice.below(150);
    for i in 0..100 {
        // Blocks that somebody else gets next.
        if dice.below(2) == 0 {
            let _ = fs::remove_file(root.join(format!("many/file-{i:04}")));
        }
        let path = root.join(format!("synced-{}/{i}", i % 3));
        let length = dice.below(40_000) as usize;
        fs::write(&path, noise(i, length)).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        if i == sync_at {
            tool("sync", [Path::new("-f"), root]);
        }
    }
    let listing = Listing::of(root, true);
    for i in 0..dice.below(200) {
        let name = dice.below(50);
        let path = root.join(format!("later/{name}"));
        match dice.below(3) {
            0 => drop(fs::remove_file(path)),
            _ => fs::write(path, noise(i, dice.below(20_000) as usize)).unwrap(),
        }
    }
    listing
}

/// Ends a filesystem as a crash does: `EXT4_IOC_SHUTDOWN`.
#[track_caller]
fn shut_down(root: &Path, flags: u32) {
    let script = "import fcntl, os, struct, sys\n\
        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', int(sys.argv[2])))";
    tool(
        "python3",
        ["-c", script, root.to_str().unwrap(), &flags.to_string()],
    );
}

/// Why a disk is copied whole, or what its map leaves out; nothing if that is used as it is.
fn doubt(disk: &Path) -> Option<String> {
    let source = disk::open(disk, Open::default()).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    match &allocation.regions.first().unwrap().treatment {
        Treatment::Doubted(doubt) => Some(doubt.to_string()),
        Treatment::Corrected(missing) => Some(missing.to_string()),
        Treatment::Partitioned
        | Treatment::Grouped
        | Treatment::Mapped
        | Treatment::Unknown
        | Treatment::Whole(_) => None,
    }
}

/// Holds the map to what others know of before and after the replay, and then the copies. What is free in both
/// holds secrets.
#[track_caller]
fn holds(given: Given, replayer: Replayer) {
    let replayed = given.place.dir.join("replayed.raw");
    fs::copy(&given.disk, &replayed).unwrap();
    replayer.replay(&replayed);
    let mut disk = Bitmaps::of(&given.disk);
    let after = free_blocks(&replayed, disk.per_bit);
    fs::remove_file(replayed).unwrap();
    let used = given.used();
    let mut free = Vec::new();
    for block in 0..SIZE / disk.block_size {
        let is_free = disk.is_free(block) && after.iter().any(|range| range.contains(&block));
        let at = block * disk.block_size;
        let is_used = used.iter().any(|range| range.contains(&at));
        assert_eq!(is_used, !is_free, "block {block}");
        free.extend(is_free.then_some(at as usize));
    }
    for at in free.into_iter().step_by(2) {
        disk.bytes[at..][..disk.block_size as usize].copy_from_slice(&Marker::Secret.times(disk.block_size));
    }
    fs::write(&given.disk, disk.bytes).unwrap();
    given.holds();
}

/// The free blocks as dumpe2fs tells them of a filesystem that is whole.
/// Of clusters it tells the first blocks.
fn free_blocks(disk: &Path, of_cluster: u64) -> Vec<Range<u64>> {
    let told = tool("dumpe2fs", [disk.to_str().unwrap()]);
    let lines = told
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "));
    let ranges = lines
        .flat_map(|line| line.split(", "))
        .filter(|range| !range.is_empty());
    let number = |text: &str| -> u64 { text.trim().parse().unwrap() };
    ranges
        .map(|range| match range.split_once('-') {
            Some((first, last)) => number(first)..number(last) + of_cluster,
            None => number(range)..number(range) + of_cluster,
        })
        .collect()
}

/// The block bitmaps of a disk as they are, whatever their checksums.
struct Bitmaps {
    bytes: Vec<u8>,
    block_size: u64,
    first: u64,
    per_group: u64,
    per_bit: u64,
    descriptor_size: u64,
    has_flags: bool,
}

impl Bitmaps {
    fn of(disk: &Path) -> Self {
        let bytes = fs::read(disk).unwrap();
        let field = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
        let is_64_bit = field(1024 + 0x60) & 0x80 != 0;
        Self {
            block_size: 1024 << field(1024 + 0x18),
            first: field(1024 + 0x14),
            per_group: field(1024 + 0x20),
            per_bit: 1 << (field(1024 + 0x1c) - field(1024 + 0x18)),
            descriptor_size: if is_64_bit { 64 } else { 32 },
            has_flags: field(1024 + 0x64) & 0x410 != 0,
            bytes,
        }
    }

    /// Whether no bitmap says that a block is in use.
    fn is_free(&self, block: u64) -> bool {
        let Some(within) = block.checked_sub(self.first) else {
            return false;
        };
        let (group, bit) = (within / self.per_group, within % self.per_group / self.per_bit);
        let descriptors = (1024 / self.block_size + 1) * self.block_size;
        let at = (descriptors + group * self.descriptor_size) as usize;
        let bitmap = u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap());
        let is_unwritten = self.has_flags && self.bytes[at + 0x12] & 2 != 0;
        let byte = u64::from(bitmap) * self.block_size + bit / 8;
        is_unwritten || self.bytes[byte as usize] >> (bit % 8) & 1 == 0
    }
}

/// Three crashes of one kind of filesystem, none of which loses what was synced.
#[track_caller]
fn survives(name: &str, mkfs: &'static str, options: &str) {
    let replayers = [Replayer::Kernel, Replayer::E2fsck].into_iter().cycle();
    for (crash, replayer) in CRASHES.into_iter().zip(replayers.skip(name.len() % 2)) {
        let given = crashed(name, mkfs, options, (crash, replayer));
        assert_eq!(doubt(&given.disk), None, "{crash:?}");
        holds(given, replayer);
    }
}

#[test]
fn crash_of_ext4_with_data_in_order_as_root() {
    survives("ordered", "-t ext4 -b 4096", "data=ordered");
}

#[test]
fn crash_of_ext4_with_data_in_the_journal_as_root() {
    survives("journal", "-t ext4 -b 1024", "data=journal");
}

#[test]
fn crash_of_ext4_with_data_in_any_order_as_root() {
    survives("writeback", "-t ext4 -b 2048 -O ^64bit", "data=writeback");
}

#[test]
fn crash_of_ext3_as_root() {
    survives("ext3", "-t ext3 -b 1024", "data=ordered");
}

#[test]
fn crash_of_ext4_with_commits_in_any_order_as_root() {
    let options = "data=writeback,journal_checksum,journal_async_commit";
    survives("async", "-t ext4 -b 1024", options);
}

#[test]
fn crash_of_ext4_with_checksums_of_transactions_as_root() {
    let mkfs = "-t ext4 -b 1024 -O ^metadata_csum,^64bit,uninit_bg";
    survives("version-1", mkfs, "journal_checksum");
}

#[test]
fn crash_of_ext4_with_clusters_as_root() {
    survives("bigalloc", "-t ext4 -b 1024 -O bigalloc -C 8192", "data=ordered");
}

/// Fast commits are not replayed: where there are some, all is copied.
#[test]
fn crash_of_ext4_with_fast_commits_as_root() {
    let mkfs = "-t ext4 -b 1024 -O fast_commit";
    for crash in CRASHES {
        let given = crashed("fast-commit", mkfs, "data=ordered", (crash, Replayer::Kernel));
        match (crash, doubt(&given.disk)) {
            (Crash::Committed, None) => holds(given, Replayer::Kernel),
            (Crash::Dropped | Crash::Copied, Some(_)) => {
                given.copied_whole_because("holds fast commits").holds();
            }
            (_, doubt) => panic!("{crash:?}: {doubt:?}"),
        }
    }
}
