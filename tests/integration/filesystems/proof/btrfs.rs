//! Btrfs, as btrfs-progs and the kernel know it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::{Filesystem, mounted};
use crate::support::loops::Loop;
use crate::support::{MKQCOW2, noise, tool};

/// What no chunk has, and the copies of the superblock.
const KEPT: [Range<u64>; 3] = [
    0..1 << 20,
    64 << 20..(64 << 20) + (64 << 10),
    256 << 30..(256 << 30) + (64 << 10),
];

/// A Btrfs.
#[derive(Clone, Copy, Debug)]
pub struct Btrfs {
    /// Options of mkfs.btrfs, separated by spaces.
    options: &'static str,
    /// Options of the mount. Nothing is discarded: what is free is to be stale.
    mount: &'static str,
    origin: Origin,
}

/// What makes a filesystem.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Mkfs,
    /// It is an ext4 with files at first.
    Ext4,
    /// An image that is here because not every mkfs.btrfs makes such a one.
    Image(&'static str),
}

impl Btrfs {
    pub fn new(options: &'static str) -> Self {
        Self {
            options,
            mount: "nodiscard",
            origin: Origin::Mkfs,
        }
    }

    /// Mounted with these options, which include `nodiscard`.
    pub fn mounted_with(self, mount: &'static str) -> Self {
        Self { mount, ..self }
    }

    /// That of an image in `testdata`.
    pub fn of_image(name: &'static str) -> Self {
        Self {
            origin: Origin::Image(name),
            ..Self::new("")
        }
    }

    /// Made of an ext4.
    pub fn converted() -> Self {
        Self {
            origin: Origin::Ext4,
            ..Self::new("")
        }
    }
}

impl Filesystem for Btrfs {
    fn make(&self, at: &Path) {
        let path = at.to_str().unwrap();
        match self.origin {
            Origin::Mkfs => {
                let options = ["-q", "-f", "-K"].into_iter();
                let options = options.chain(self.options.split_whitespace());
                tool("mkfs.btrfs", options.chain([path]));
            }
            Origin::Ext4 => {
                let options = ["-q", "-F", "-t", "ext4", "-b", "4096", "-E", "nodiscard"];
                tool("mke2fs", options.into_iter().chain([path]));
                mounted("rw", at, at.parent().unwrap(), &mut fill_ext4);
                tool("btrfs-convert", ["--no-progress", path]);
            }
            Origin::Image(name) => {
                let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
                // A device keeps what the image does not have.
                let device = at.is_file().then(|| Loop::over(at));
                let target = device.as_ref().map_or(at, Loop::path);
                let options = ["restore", "-q", "--no-sync", "--used-only"].map(OsStr::new);
                let places = [image.as_os_str(), target.as_os_str()];
                tool(MKQCOW2, options.into_iter().chain(places));
            }
        }
    }

    fn check(&self, at: &Path) {
        tool("btrfs", ["check", "--readonly", at.to_str().unwrap()]);
    }

    fn used(&self, at: &Path) -> Option<u64> {
        let size = File::open(at).unwrap().seek(SeekFrom::End(0)).unwrap();
        let free = free_by_dump_tree(at).into_iter();
        Some(size - free.map(|range| range.end - range.start).sum::<u64>())
    }

    /// What a file holds that has checksums cannot be read without it.
    fn tells_metadata(&self) -> bool {
        self.mount.contains("nodatasum")
    }

    fn write(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted(self.mount, at, scratch, work);
    }

    /// All that is in use is read once more, and held to its checksums.
    fn read(&self, at: &Path, scratch: &Path, work: &mut dyn FnMut(&Path)) {
        mounted(self.mount, at, scratch, &mut |root| {
            work(root);
            scrub(root);
        });
    }
}

/// Files, some of them deleted again.
fn fill_ext4(root: &Path) {
    let path = |number| root.join(format!("converted-{number}"));
    for number in 0..200 {
        fs::write(path(number), noise(number, 331 * number as usize)).unwrap();
    }
    for number in (0..200).step_by(3) {
        fs::remove_file(path(number)).unwrap();
    }
}

/// Reads everything, and holds it to its checksums.
#[track_caller]
pub fn scrub(root: &Path) {
    tool("btrfs", ["scrub", "start", "-B", root.to_str().unwrap()]);
}

/// A tree, as btrfs-progs print it.
#[track_caller]
fn dumped(at: &Path, tree: &str) -> String {
    tool(
        "btrfs",
        ["inspect-internal", "dump-tree", "-t", tree, at.to_str().unwrap()],
    )
}

/// The numbers and words of a key, such as `(1048576 METADATA_ITEM 0)`.
fn key(line: &str) -> Option<[&str; 3]> {
    let (_, key) = line.trim().strip_prefix("item ")?.split_once(" key (")?;
    let (key, _) = key.split_once(')')?;
    let words: Vec<_> = key.split(' ').collect();
    words.try_into().ok()
}

/// The number that follows a word in a line.
fn behind(line: &str, word: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip_while(|found| *found != word);
    words.nth(1)?.parse().ok()
}

/// What of a filesystem on one device is free, as the chunk tree and the extent tree tell it that btrfs-progs print.
#[track_caller]
pub fn free_by_dump_tree(at: &Path) -> Vec<Range<u64>> {
    let (chunks, extents) = (dumped(at, "chunk"), dumped(at, "extent"));
    let super_block = tool("btrfs", ["inspect-internal", "dump-super", at.to_str().unwrap()]);
    let field = |name: &str| super_block.lines().find_map(|line| behind(line, name)).unwrap();
    let (sector, node) = (field("sectorsize"), field("nodesize"));
    let size = chunks
        .lines()
        .find_map(|line| behind(line, "total_bytes"))
        .unwrap()
        / sector
        * sector;
    // By logical address: the length, and the places.
    let mut all: BTreeMap<u64, (u64, Vec<u64>)> = BTreeMap::new();
    let mut chunk = 0;
    for line in chunks.lines() {
        match key(line) {
            Some([_, "CHUNK_ITEM", start]) => chunk = start.parse().unwrap(),
            Some(_) => {}
            None if line.contains("stripe_len") => {
                all.insert(chunk, (behind(line, "length").unwrap(), Vec::new()));
            }
            None => {
                if let Some(place) = behind(line, "offset") {
                    all.get_mut(&chunk).unwrap().1.push(place);
                }
            }
        }
    }
    // By sector of the device: whether it is in use.
    let mut used = vec![false; (size / sector) as usize];
    let mut mark = |range: Range<u64>| {
        for number in range.start / sector..range.end.min(size).div_ceil(sector) {
            used[number as usize] = true;
        }
    };
    for line in extents.lines() {
        let (start, length) = match key(line) {
            Some([start, "EXTENT_ITEM", length]) => (start, length.parse().unwrap()),
            Some([start, "METADATA_ITEM", _]) => (start, node),
            _ => continue,
        };
        let start: u64 = start.parse().unwrap();
        let (base, (_, places)) = all.range(..=start).next_back().unwrap();
        for place in places {
            mark(place + start - base..place + start - base + length);
        }
    }
    KEPT.into_iter().filter(|kept| kept.start < size).for_each(mark);
    let mut free: Vec<Range<u64>> = Vec::new();
    for (number, _) in (0..).zip(&used).filter(|(_, is_used)| !**is_used) {
        let at = number * sector;
        match free.last_mut() {
            Some(last) if last.end == at => last.end += sector,
            _ => free.push(at..at + sector),
        }
    }
    free
}
