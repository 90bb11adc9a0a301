//! Block devices in `/sys`: partitions, holders, slaves, loop devices.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{DeviceNumber, Kernel, Subject};
use crate::units::SECTOR;

/// A device among those that show the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its number.
    pub number: DeviceNumber,
    /// What people call it: `sda1`, `dm-0 (vg-root)`.
    pub name: String,
    /// The name of the device it is made of, for a volume; none for others.
    pub made_of: Option<String>,
    /// Its partitions, and the volumes made of it.
    pub children: Vec<DeviceNumber>,
    /// The other devices of the filesystem on it, where that has several and is mounted.
    pub peers: Vec<DeviceNumber>,
    /// Whether the kernel lets nobody write to it.
    pub is_read_only: bool,
}

/// All devices that show bytes of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Each device once.
    pub all: Vec<Layer>,
    /// Those that are no child of another: the source itself, loop devices over it or beside it.
    pub roots: Vec<DeviceNumber>,
}

impl Layers {
    /// The layer of a device.
    pub fn get(&self, number: DeviceNumber) -> Option<&Layer> {
        self.all.iter().find(|layer| layer.number == number)
    }
}

impl Kernel {
    fn directory(&self, number: DeviceNumber) -> PathBuf {
        self.sys.join("dev/block").join(number.to_string())
    }

    /// Whether the kernel still knows the device.
    pub fn is_present(&self, number: DeviceNumber) -> bool {
        // Where there is no sysfs, nothing is known to be gone.
        !self.sys.join("dev/block").exists() || self.directory(number).exists()
    }

    /// The sectors written to a device since the system started, of 512 bytes; none where the kernel does not
    /// say. Source: Documentation/block/stat.rst of Linux, field 7.
    pub fn sectors_written(&self, number: DeviceNumber) -> Option<u64> {
        let stat = std::fs::read_to_string(self.directory(number).join("stat")).ok()?;
        stat.split_ascii_whitespace().nth(6)?.parse().ok()
    }

    /// All devices that show bytes of the subject: itself, its partitions, the volumes made of them, the loop
    /// devices over any of these, and those beside it that show the same bytes of its disk or of the file
    /// behind it.
    pub fn layers(&self, subject: Subject) -> Layers {
        let mut layers = Layers::default();
        self.add_subject(subject, &mut layers, &mut Vec::new());
        layers
    }

    fn add_subject(&self, subject: Subject, layers: &mut Layers, seen: &mut Vec<Subject>) {
        if seen.contains(&subject) {
            return;
        }
        seen.push(subject);
        if let Subject::Device(number) = subject {
            self.add_root(number, layers, seen);
            self.add_twins(number, layers, seen);
        }
        for number in self.loops_over(subject) {
            self.add_root(number, layers, seen);
        }
    }

    /// Adds what shows bytes of the device from further down: other loop devices over its disk or over the file
    /// behind it, where they overlap with it, and all of a device that it is a loop device over.
    fn add_twins(&self, number: DeviceNumber, layers: &mut Layers, seen: &mut Vec<Subject>) {
        let mut range = 0..self.size(number);
        let mut passed = vec![number];
        let mut at = number;
        while let Some((lower, start)) = self.place(at) {
            range = range.start.saturating_add(start)..range.end.saturating_add(start);
            for other in self.loops_over(lower) {
                let begin = self.place(other).map_or(0, |(_, begin)| begin);
                let end = begin.saturating_add(self.size(other));
                if other != at && begin < range.end && range.start < end {
                    self.add_root(other, layers, seen);
                }
            }
            let Subject::Device(disk) = lower else { return };
            // The name of a file from another namespace can mean anything here, even the device itself.
            if passed.contains(&disk) {
                return;
            }
            passed.push(disk);
            if self.behind(at).is_some() {
                self.add_subject(lower, layers, seen);
            }
            at = disk;
        }
    }

    fn add_root(&self, number: DeviceNumber, layers: &mut Layers, seen: &mut Vec<Subject>) {
        if layers.get(number).is_none() {
            layers.roots.push(number);
            self.add_layer(number, None, layers, seen);
        }
    }

    fn add_layer(
        &self,
        number: DeviceNumber,
        made_of: Option<String>,
        layers: &mut Layers,
        seen: &mut Vec<Subject>,
    ) {
        if layers.get(number).is_some() {
            return;
        }
        let directory = self.directory(number);
        let name = name_of(&directory).unwrap_or_else(|| number.to_string());
        let partitions = partitions(&directory);
        let holders = linked(&directory.join("holders"));
        let children = [partitions.as_slice(), &holders].concat();
        let is_read_only = read_line(&directory.join("ro")).is_some_and(|ro| ro == b"1");
        layers.all.push(Layer {
            number,
            name: name.clone(),
            made_of,
            children,
            peers: self.btrfs_peers(number),
            is_read_only,
        });
        for partition in partitions {
            self.add_layer(partition, None, layers, seen);
        }
        for holder in holders {
            self.add_layer(holder, Some(name.clone()), layers, seen);
        }
        for number in self.loops_over(Subject::Device(number)) {
            self.add_root(number, layers, seen);
        }
    }

    /// What a device is made of, one level down: the disk of a partition, the devices under a volume.
    pub(crate) fn devices_below(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let directory = self.directory(number);
        let mut below = linked(&directory.join("slaves"));
        below.extend(disk_of(&directory));
        below
    }

    /// What is below a partition or a loop device, and the byte of it where that begins.
    fn place(&self, number: DeviceNumber) -> Option<(Subject, u64)> {
        let directory = self.directory(number);
        if let Some(behind) = self.behind(number) {
            return Some((behind, count_in(&directory.join("loop/offset")).unwrap_or(0)));
        }
        let sectors = count_in(&directory.join("start"))?;
        Some((
            Subject::Device(disk_of(&directory)?),
            sectors.saturating_mul(SECTOR),
        ))
    }

    /// The size of a device in bytes; where the kernel does not say, it may reach anywhere.
    fn size(&self, number: DeviceNumber) -> u64 {
        count_in(&self.directory(number).join("size"))
            .map_or(u64::MAX, |sectors| sectors.saturating_mul(SECTOR))
    }

    /// The file or device behind a loop device. One that was deleted, or lies in another namespace, cannot be
    /// found by its name.
    pub fn behind(&self, number: DeviceNumber) -> Option<Subject> {
        Subject::of(&self.backing_file(number)?.metadata().ok()?)
    }

    /// The name of the file or device behind a loop device.
    pub fn backing_file(&self, number: DeviceNumber) -> Option<PathBuf> {
        backing_file_in(&self.directory(number))
    }

    /// The path by which a device can be opened.
    pub fn node(&self, number: DeviceNumber) -> Option<PathBuf> {
        let directory = self.directory(number).canonicalize().ok()?;
        // A slash in a name is an exclamation mark there.
        let name = directory.file_name()?.to_string_lossy().replace('!', "/");
        Some(Path::new("/dev").join(name))
    }

    /// The loop devices over a file or a device.
    pub fn loops_over(&self, subject: Subject) -> Vec<DeviceNumber> {
        let is_over = |directory: &PathBuf| {
            let metadata = backing_file_in(directory).and_then(|path| path.metadata().ok());
            metadata.and_then(|metadata| Subject::of(&metadata)) == Some(subject)
        };
        let loops = entries(&self.sys.join("block")).into_iter().filter(is_over);
        loops.filter_map(|directory| number_in(&directory)).collect()
    }

    /// The other devices of a btrfs that has its data on several.
    pub(super) fn btrfs_peers(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let filesystems = entries(&self.sys.join("fs/btrfs"));
        let devices = filesystems
            .iter()
            .map(|filesystem| linked(&filesystem.join("devices")));
        devices
            .filter(|devices| devices.contains(&number))
            .flatten()
            .collect()
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn partitions(directory: &Path) -> Vec<DeviceNumber> {
    let partitions = entries(directory)
        .into_iter()
        .filter(|path| path.join("partition").exists());
    partitions.filter_map(|path| number_in(&path)).collect()
}

/// The devices that a directory has links to.
fn linked(directory: &Path) -> Vec<DeviceNumber> {
    entries(directory)
        .iter()
        .filter_map(|path| number_in(path))
        .collect()
}

/// The disk that a partition is part of.
fn disk_of(directory: &Path) -> Option<DeviceNumber> {
    if !directory.join("partition").exists() {
        return None;
    }
    number_in(directory.canonicalize().ok()?.parent()?)
}

fn count_in(path: &Path) -> Option<u64> {
    String::from_utf8(read_line(path)?).ok()?.parse().ok()
}

fn number_in(directory: &Path) -> Option<DeviceNumber> {
    let line = String::from_utf8(read_line(&directory.join("dev"))?).ok()?;
    let (major, minor) = line.split_once(':')?;
    Some(DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

fn name_of(directory: &Path) -> Option<String> {
    let name = directory
        .canonicalize()
        .ok()?
        .file_name()?
        .to_string_lossy()
        .into_owned();
    Some(match read_line(&directory.join("dm/name")) {
        Some(volume) => format!("{name} ({})", String::from_utf8_lossy(&volume)),
        None => name,
    })
}

fn backing_file_in(directory: &Path) -> Option<PathBuf> {
    let line = read_line(&directory.join("loop/backing_file"))?;
    Some(OsString::from_vec(line).into())
}

fn read_line(path: &Path) -> Option<Vec<u8>> {
    let mut text = std::fs::read(path).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Some(text)
}
