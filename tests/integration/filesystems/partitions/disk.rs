//! A disk full of markers that other people's tools have partitioned.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Part, Region, Scan};

use super::edits::Edits;
use crate::filesystems::proof::{Filesystem, MIB, Marker, Place};
use crate::filesystems::swap::Swap;
use crate::support::loops::Loop;
use crate::support::{Run, tool};

/// 32 MiB: two primary partitions, four logical ones in between.
pub const MBR_WITH_LOGICAL: &str = "label: dos\nstart=1M,size=4M\nstart=6M,size=19M,type=5\nstart=26M,size=6M\n\
     start=7M,size=8M\nstart=17M,size=2M\nstart=20M,size=1M\nstart=23M,size=1M\n";

/// Partitions a file or device.
pub fn sfdisk(path: &Path, script: &str) {
    let from = path.parent().unwrap().join("script");
    let from = if path.is_file() { from } else { script_file() };
    fs::write(&from, script).unwrap();
    let mut sfdisk = Command::new("sfdisk");
    sfdisk
        .args(["--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never"])
        .arg(path)
        .stdin(File::open(&from).unwrap())
        .stdout(Stdio::null());
    let status = sfdisk.status().expect("sfdisk: apt-get install fdisk");
    assert!(status.success(), "sfdisk: {status}");
    fs::remove_file(from).unwrap();
}

/// A name for the script of a device, whose directory is no place for it.
fn script_file() -> PathBuf {
    let id = std::thread::current().id();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("script-{}-{id:?}", std::process::id()))
}

pub struct Disk {
    place: Place,
    path: PathBuf,
    sector_size: u64,
}

impl Disk {
    /// `script` is one of sfdisk. No two tests have the same `name`.
    pub fn new(name: &str, size: u64, sector_size: u64, script: &str) -> Self {
        let place = Place::new(&format!("partitions-{name}"), size.max(20 * MIB));
        let path = place.dir.join("disk.raw");
        fs::write(&path, Marker::A.times(size)).unwrap();
        // No chain of logical partitions may go on by chance, nor a table be one that was there before.
        let disk = Self {
            place,
            path,
            sector_size,
        };
        disk.edit(|edit| edit.put(0, &[0; 8192]));
        let device = Loop::with_sectors(&disk.path, sector_size);
        sfdisk(device.path(), script);
        drop(device);
        disk
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs mkqcow2 where the disk is: it is called disk.raw.
    pub fn run(&self, arguments: &str) -> Run {
        self.place.dir.run(arguments)
    }

    /// Another file beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.place.dir.join(name)
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Has sgdisk change it, which knows no other sectors than those of 512 bytes in a file.
    pub fn sgdisk(&self, options: &str) {
        tool("sgdisk", options.split(' ').chain([self.path.to_str().unwrap()]));
    }

    pub fn edit(&self, work: impl FnOnce(&mut Edits)) {
        let mut edits = Edits::of(self.bytes());
        work(&mut edits);
        fs::write(&self.path, edits.into_bytes()).unwrap();
    }

    /// Changes single bytes.
    pub fn wreck(&self, places: &[u64]) {
        self.edit(|edit| places.iter().for_each(|at| edit.wreck(*at)));
    }

    pub fn resize(&self, size: u64) {
        let mut bytes = self.bytes();
        bytes.resize(size as usize, 0x5a);
        fs::write(&self.path, bytes).unwrap();
    }

    /// Makes a swap area in a partition, as sfdisk has it.
    pub fn swap_in(&self, number: u32) -> &Self {
        let parts = self.oracle();
        let part = parts.into_iter().find(|part| part.0 == number);
        let (_, range) = part.unwrap_or_else(|| panic!("no partition {number}"));
        self.swap_at(range)
    }

    pub fn swap_at(&self, range: Range<u64>) -> &Self {
        let device = Loop::part(&self.path, range.start, range.end - range.start);
        Swap::new().make(device.path());
        self
    }

    /// What is recognised in the file.
    pub fn regions(&self) -> Vec<Region> {
        regions(&self.path)
    }

    /// The partitions that are found.
    pub fn parts(&self) -> Vec<(u32, Range<u64>)> {
        parts(&self.regions())
    }

    /// The partitions as sfdisk finds them, without extended ones.
    pub fn oracle(&self) -> Vec<(u32, Range<u64>)> {
        let mut parts: Vec<_> = self
            .entries()
            .into_iter()
            .filter(|(.., is_extended)| !is_extended)
            .map(|(number, range, _)| (number, range))
            .collect();
        parts.sort_by_key(|(_, range)| (range.start, range.end));
        parts
    }

    /// Where the tables of logical partitions are, as fdisk tells: the extended partition counts from 1.
    pub fn ebrs(&self) -> Vec<u64> {
        let bytes = self.bytes();
        let is_ebr = |at: &u64| bytes[*at as usize + 510..][..2] == [0x55, 0xaa];
        (512..self.size()).step_by(512).filter(is_ebr).collect()
    }

    fn size(&self) -> u64 {
        self.path.metadata().unwrap().len()
    }

    fn entries(&self) -> Vec<(u32, Range<u64>, bool)> {
        let device = Loop::with_sectors(&self.path, self.sector_size);
        let told = tool("sfdisk", ["--json", device.path().to_str().unwrap()]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let table = &told["partitiontable"];
        let sector = table["sectorsize"].as_u64().unwrap();
        let none = Vec::new();
        let entries = table["partitions"].as_array().unwrap_or(&none).iter();
        let entries = entries.map(|entry| {
            let node = entry["node"].as_str().unwrap();
            let (_, number) = node.rsplit_once('p').unwrap();
            let [start, size] = ["start", "size"].map(|key| entry[key].as_u64().unwrap() * sector);
            let kind = entry["type"].as_str().unwrap();
            (
                number.parse().unwrap(),
                start..start + size,
                ["5", "f", "85"].contains(&kind),
            )
        });
        entries.collect()
    }

    /// The file has the partitions that sfdisk finds.
    #[track_caller]
    pub fn assert_agreed(&self, name: &str) -> Vec<Region> {
        let regions = self.regions();
        self.assert_same(name, &regions);
        regions
    }

    /// The same as a device.
    #[track_caller]
    pub fn assert_device_agreed(&self, name: &str) -> Vec<Region> {
        let device = Loop::with_sectors(&self.path, self.sector_size);
        let regions = regions(device.path());
        self.assert_same(name, &regions);
        regions
    }

    #[track_caller]
    fn assert_same(&self, name: &str, regions: &[Region]) {
        assert_eq!(regions[0].name, Some(name), "{:?}", regions[0]);
        assert_eq!(parts(regions), self.oracle());
    }

    /// As a device with sectors of another size it is copied whole.
    #[track_caller]
    pub fn assert_device_with(&self, sector_size: u64, words: &str) {
        let device = Loop::with_sectors(&self.path, sector_size);
        self.assert_doubted(&regions(device.path()), words);
    }

    #[track_caller]
    pub fn assert_whole(&self, words: &str) {
        self.assert_doubted(&self.regions(), words);
    }

    #[track_caller]
    fn assert_doubted(&self, regions: &[Region], words: &str) {
        assert_eq!(regions.len(), 1, "{regions:?}");
        let why = regions[0].why_whole().unwrap_or_default();
        assert!(why.contains(words), "expected {words:?}: {:?}", regions[0]);
        assert_eq!(regions[0].used, self.size());
    }

    /// An image of it is restored to a disk full of something else: what lies outside of the partitions that sfdisk
    /// finds is the same, and so is each partition but what is free of a swap area.
    #[track_caller]
    pub fn assert_comes_back(&self) {
        let dir = &self.place.dir;
        // No cluster is partly free.
        dir.run("--no-sync --cluster-size 4K disk.raw image.qcow2")
            .exits(0);
        let copy = dir.join("copy.raw");
        fs::write(&copy, Marker::B.times(self.size())).unwrap();
        let device = Loop::with_sectors(&copy, self.sector_size);
        let run = format!(
            "restore --no-sync --used-only image.qcow2 {}",
            device.path().display()
        );
        dir.run(&run).exits(0);
        drop(device);

        let (source, copy) = (self.bytes(), fs::read(&copy).unwrap());
        let mut expected = source.clone();
        for (_, range) in self.oracle() {
            let range = range.start as usize..range.end as usize;
            let is_swap = source[range.clone()][4086..4096] == *b"SWAPSPACE2";
            let is_free = copy[range.end - 512..range.end] == Marker::B.times(512);
            if is_swap && is_free {
                let free = range.start + 4096..range.end;
                let length = free.len() as u64;
                expected[free].copy_from_slice(&Marker::B.times(length));
            }
        }
        let differs = expected.iter().zip(&copy).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the first byte that differs");
        assert_ne!(expected, source, "something is free");
    }
}

#[track_caller]
fn regions(path: &Path) -> Vec<Region> {
    let source = disk::open(path, Open::default()).unwrap();
    volumes::scan(&source, Scan::Auto).unwrap().regions
}

fn parts(regions: &[Region]) -> Vec<(u32, Range<u64>)> {
    let parts = regions.iter().filter(|region| region.depth == 1);
    let parts = parts.map(|region| {
        (
            region.part.as_ref().and_then(Part::number).unwrap(),
            region.segments.ranges().next().unwrap().clone(),
        )
    });
    parts.collect()
}
