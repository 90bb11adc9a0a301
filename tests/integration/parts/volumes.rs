//! A disk with volumes of every kind, full of noise where nothing is.

use std::fs;
use std::iter;
use std::ops::Range;
use std::path::Path;

use crate::filesystems::partitions::disk::sfdisk;
use crate::filesystems::proof::Filesystem;
use crate::filesystems::proof::xfs::Xfs;
use crate::support::loops::Loop;
use crate::support::{Dir, noise, poke, tool};

pub const MIB: u64 = 1 << 20;
pub const SIZE: u64 = 68 * MIB;

/// Where LVM has its partition, and its extents.
const GROUP: Range<u64> = 24 * MIB..66 * MIB;
const fn extents(first: u64, end: u64) -> Range<u64> {
    GROUP.start + (1 + first) * MIB..GROUP.start + (1 + end) * MIB
}

const SCRIPT: &str = "label: gpt\nfirst-lba: 34\nstart=2047,size=20001,name=boot\nstart=24576,size=16384,name=data\n\
     start=49152,size=86016\nstart=135168,size=2048,name=pages\n";

/// A volume of the disk.
pub struct Volume {
    /// What `--part` takes.
    pub name: String,
    /// Where it lies, in its own order.
    pub ranges: Vec<Range<u64>>,
    /// What finds nothing wrong with what it holds.
    pub checker: &'static [&'static str],
}

impl Volume {
    pub fn size(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Its bytes in those of a disk.
    pub fn bytes(&self, disk: &[u8]) -> Vec<u8> {
        let ranges = self.ranges.iter();
        ranges
            .flat_map(|range| &disk[range.start as usize..range.end as usize])
            .copied()
            .collect()
    }

    /// Where a byte of it lies on the disk.
    pub fn place(&self, at: u64) -> u64 {
        let mut rest = at;
        for range in &self.ranges {
            let length = range.end - range.start;
            if rest < length {
                return range.start + rest;
            }
            rest -= length;
        }
        panic!("{at} is behind the end of {}", self.name)
    }

    #[track_caller]
    pub fn check(&self, path: &str) {
        if let [checker, options @ ..] = self.checker {
            tool(checker, options.iter().chain([&path]));
        }
    }
}

/// Makes `disk.raw`: a GPT with a FAT, an ext4, a volume group, a swap area. In the volume group are an ext4 in three
/// segments out of order, and an XFS.
pub fn disk(dir: &Dir) -> Vec<Volume> {
    let group = format!("mkqcow2-{}", dir.path().file_name().unwrap().to_str().unwrap());
    let path = dir.join("disk.raw");
    fs::write(&path, noise(1, SIZE as usize)).unwrap();
    for at in [0, SIZE - 33 * 512] {
        poke(&path, at, &vec![0; 33 * 512]);
    }
    sfdisk(&path, SCRIPT);
    lay_out(&Loop::part(&path, GROUP.start, GROUP.end - GROUP.start), &group);
    let volume = |name: &str, ranges: Vec<Range<u64>>, checker| Volume {
        name: name.to_owned(),
        ranges,
        checker,
    };
    let one = |range| iter::once(range).collect();
    let root = vec![extents(30, 33), extents(0, 4), extents(20, 25)];
    let xfs: &[&str] = &["xfs_repair", "-n", "-o", "force_geometry", "-f"];
    let volumes = vec![
        volume("1", one(2047 * 512..22048 * 512), &["fsck.fat", "-n"]),
        volume("2", one(12 * MIB..20 * MIB), &["e2fsck", "-fn"]),
        volume(&format!("{group}/root"), root, &["e2fsck", "-fn"]),
        volume(&format!("{group}/data"), one(extents(4, 20)), xfs),
        volume("4", one(66 * MIB..67 * MIB), &[]),
    ];
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("some"), noise(3, 2 << 20)).unwrap();
    fs::write(files.join("zeros"), vec![0; 1 << 20]).unwrap();
    let ext4 = format!("mke2fs -q -F -E nodiscard -t ext4 -d {}", files.display());
    for (volume, command) in volumes.iter().zip(["mkfs.vfat", &ext4, &ext4, "", "mkswap -q"]) {
        fill(dir, &path, volume, command);
    }
    volumes
}

/// Puts on a volume what a command makes of noise; an XFS if there is none.
fn fill(dir: &Dir, disk: &Path, volume: &Volume, command: &str) {
    let made = dir.join("made.raw");
    fs::write(&made, noise(2, volume.size() as usize)).unwrap();
    let mut words = command.split_whitespace();
    match words.next() {
        Some(name) => drop(tool(name, words.chain([made.to_str().unwrap()]))),
        None => Xfs::new("").make(&made),
    }
    let bytes = fs::read(&made).unwrap();
    let mut rest = bytes.as_slice();
    for range in &volume.ranges {
        let (here, behind) = rest.split_at((range.end - range.start) as usize);
        poke(disk, range.start, here);
        rest = behind;
    }
    fs::remove_file(made).unwrap();
}

/// Makes the volume group, with extents of 1 MiB from 1 MiB on.
fn lay_out(device: &Loop, group: &str) {
    let path = device.path().to_str().unwrap();
    let lvm = |line: &str| {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        tool(command, ["--devices", path].into_iter().chain(words));
    };
    let make = "lvcreate --quiet --yes --driverloaded n --activate n --zero n --wipesignatures n";
    let extend = "lvextend --quiet --driverloaded n";
    lvm(&format!("pvcreate --yes --quiet {path}"));
    lvm(&format!(
        "vgcreate --quiet --physicalextentsize 1M {group} {path}"
    ));
    lvm(&format!("{make} --extents 3 --name root {group} {path}:30-32"));
    lvm(&format!("{make} --extents 16 --name data {group} {path}:4-19"));
    lvm(&format!("{extend} --extents 7 {group}/root {path}:0-3"));
    lvm(&format!("{extend} --extents 12 {group}/root {path}:20-24"));
}
