//! Block devices in `/sys`: partitions, holders, slaves, loop devices.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::kernel_files::{self, entries, exists, line, malformed};
use super::{DeviceNumber, Kernel, Subject};
use crate::units::{SECTOR, claimed_end, claimed_size};

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
    pub(super) fn directory(&self, number: DeviceNumber) -> PathBuf {
        self.sys.join("dev/block").join(number.to_string())
    }

    /// Whether the kernel still knows the device.
    pub fn is_present(&self, number: DeviceNumber) -> bool {
        // Where there is no sysfs, nothing is known to be gone.
        !self.sys.join("dev/block").exists() || self.directory(number).exists()
    }

    /// The sectors written to a device since the system started, of 512 bytes; none where the kernel does not
    /// say. Source: Documentation/block/stat.rst of Linux, field 7.
    ///
    /// # Errors
    ///
    /// If the kernel says and cannot be read.
    pub fn sectors_written(&self, number: DeviceNumber) -> io::Result<Option<u64>> {
        let path = self.directory(number).join("stat");
        let Some(stat) = kernel_files::read(&path)? else {
            return Ok(None);
        };
        let stat = String::from_utf8_lossy(&stat);
        let written = stat.split_ascii_whitespace().nth(6);
        let written = written.and_then(|written| written.parse().ok());
        written.map(Some).ok_or_else(|| malformed(&path))
    }

    /// All devices that show bytes of the subject: itself, its partitions, the volumes made of them, the loop
    /// devices over any of these, and those beside it that show the same bytes of its disk or of the file
    /// behind it.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn layers(&self, subject: Subject) -> io::Result<Layers> {
        let mut layers = Layers::default();
        self.add_layers(subject, &mut layers)?;
        Ok(layers)
    }

    /// The same, with those that were found before an error.
    pub(super) fn add_layers(&self, subject: Subject, layers: &mut Layers) -> io::Result<()> {
        self.add_subject(subject, layers, &mut Vec::new())
    }

    fn add_subject(&self, subject: Subject, layers: &mut Layers, seen: &mut Vec<Subject>) -> io::Result<()> {
        if seen.contains(&subject) {
            return Ok(());
        }
        seen.push(subject);
        if let Subject::Device(number) = subject {
            kernel_files::expect(&self.sys.join("dev/block"))?;
            self.add_root(number, layers, seen)?;
            self.add_twins(number, layers, seen)?;
        }
        for number in self.loops_over(subject)? {
            self.add_root(number, layers, seen)?;
        }
        Ok(())
    }

    /// Adds what shows bytes of the device from further down: other loop devices over its disk or over the file
    /// behind it, where they overlap with it, and all of a device that it is a loop device over.
    fn add_twins(
        &self,
        number: DeviceNumber,
        layers: &mut Layers,
        seen: &mut Vec<Subject>,
    ) -> io::Result<()> {
        let mut range = 0..self.size(number)?;
        let mut passed = vec![number];
        let mut at = number;
        while let Some((lower, start)) = self.place(at)? {
            // A loop device may begin behind the end of what it is over: then so does all of it.
            range = claimed_end(range.start, start)..claimed_end(range.end, start);
            for other in self.loops_over(lower)? {
                let begin = self.place(other)?.map_or(0, |(_, begin)| begin);
                let end = claimed_end(begin, self.size(other)?);
                if other != at && begin < range.end && range.start < end {
                    self.add_root(other, layers, seen)?;
                }
            }
            let Subject::Device(disk) = lower else {
                return Ok(());
            };
            // The name of a file from another namespace can mean anything here, even the device itself.
            if passed.contains(&disk) {
                return Ok(());
            }
            passed.push(disk);
            if self.behind(at)?.is_some() {
                self.add_subject(lower, layers, seen)?;
            }
            at = disk;
        }
        Ok(())
    }

    fn add_root(&self, number: DeviceNumber, layers: &mut Layers, seen: &mut Vec<Subject>) -> io::Result<()> {
        if layers.get(number).is_none() {
            layers.roots.push(number);
            self.add_layer(number, None, layers, seen)?;
        }
        Ok(())
    }

    fn add_layer(
        &self,
        number: DeviceNumber,
        made_of: Option<String>,
        layers: &mut Layers,
        seen: &mut Vec<Subject>,
    ) -> io::Result<()> {
        if layers.get(number).is_some() {
            return Ok(());
        }
        let directory = self.directory(number);
        let name = name_of(&directory)?.unwrap_or_else(|| number.to_string());
        let partitions = partitions(&directory)?;
        let holders = linked(&directory.join("holders"))?;
        let children = [partitions.as_slice(), &holders].concat();
        let is_read_only = line(&directory.join("ro"))?.is_some_and(|ro| ro == b"1");
        layers.all.push(Layer {
            number,
            name: name.clone(),
            made_of,
            children,
            peers: self.btrfs_peers(number)?,
            is_read_only,
        });
        for partition in partitions {
            self.add_layer(partition, None, layers, seen)?;
        }
        for holder in holders {
            self.add_layer(holder, Some(name.clone()), layers, seen)?;
        }
        for number in self.loops_over(Subject::Device(number))? {
            self.add_root(number, layers, seen)?;
        }
        Ok(())
    }

    /// What a device is made of, one level down: the disk of a partition, the devices under a volume.
    pub(crate) fn devices_below(&self, number: DeviceNumber) -> io::Result<Vec<DeviceNumber>> {
        let directory = self.directory(number);
        let mut below = linked(&directory.join("slaves"))?;
        below.extend(disk_of(&directory)?);
        Ok(below)
    }

    /// What is below a partition or a loop device, and the byte of it where that begins.
    fn place(&self, number: DeviceNumber) -> io::Result<Option<(Subject, u64)>> {
        let directory = self.directory(number);
        if let Some(behind) = self.behind(number)? {
            let offset = count_in(&directory.join("loop/offset"))?;
            return Ok(Some((behind, offset.unwrap_or(0))));
        }
        let (sectors, disk) = (count_in(&directory.join("start"))?, disk_of(&directory)?);
        let place = sectors.zip(disk);
        Ok(place.map(|(sectors, disk)| (Subject::Device(disk), claimed_size(sectors, SECTOR))))
    }

    /// The size of a device in bytes; where the kernel does not say, it may reach anywhere.
    fn size(&self, number: DeviceNumber) -> io::Result<u64> {
        let sectors = count_in(&self.directory(number).join("size"))?;
        Ok(sectors.map_or(u64::MAX, |sectors| claimed_size(sectors, SECTOR)))
    }

    /// The file or device behind a loop device. One that was deleted, or lies in another namespace, cannot be
    /// found by its name.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn behind(&self, number: DeviceNumber) -> io::Result<Option<Subject>> {
        match self.backing_file(number)? {
            Some(path) => named(&path),
            None => Ok(None),
        }
    }

    /// The name of the file or device behind a loop device.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn backing_file(&self, number: DeviceNumber) -> io::Result<Option<PathBuf>> {
        backing_file_in(&self.directory(number))
    }

    /// The name of the regular file that a loop device stands on, be it over another loop device. None of a partition:
    /// its disk, and so the file behind that, is written to for other reasons.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn file_behind(&self, number: DeviceNumber) -> io::Result<Option<PathBuf>> {
        let (mut seen, mut at) = (Vec::new(), number);
        while let Some(path) = self.backing_file(at)? {
            match named(&path)? {
                Some(Subject::File(_)) => return Ok(Some(path)),
                // The name of a file from another namespace can mean anything here, even the device itself.
                Some(Subject::Device(lower)) if !seen.contains(&lower) => {
                    seen.push(lower);
                    at = lower;
                }
                Some(Subject::Device(_)) | None => break,
            }
        }
        Ok(None)
    }

    /// The path by which a device can be opened.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn node(&self, number: DeviceNumber) -> io::Result<Option<PathBuf>> {
        let directory = kernel_files::resolved(&self.directory(number))?;
        let name = directory.as_deref().and_then(Path::file_name);
        // A slash in a name is an exclamation mark there.
        let name = name.map(|name| name.to_string_lossy().replace('!', "/"));
        Ok(name.map(|name| Path::new("/dev").join(name)))
    }

    /// The loop devices over a file or a device.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked: without `/sys`, too.
    pub fn loops_over(&self, subject: Subject) -> io::Result<Vec<DeviceNumber>> {
        let mut loops = Vec::new();
        for directory in kernel_files::entries_expected(&self.sys.join("block"))? {
            if let Some(path) = backing_file_in(&directory)?
                && named(&path)? == Some(subject)
            {
                loops.extend(number_in(&directory)?);
            }
        }
        Ok(loops)
    }

    /// The other devices of a btrfs that has its data on several.
    pub(super) fn btrfs_peers(&self, number: DeviceNumber) -> io::Result<Vec<DeviceNumber>> {
        let mut peers = Vec::new();
        for filesystem in entries(&self.sys.join("fs/btrfs"))? {
            let devices = linked(&filesystem.join("devices"))?;
            if devices.contains(&number) {
                peers.extend(devices);
            }
        }
        Ok(peers)
    }
}

/// Why a name may mean nothing here.
const OUT_OF_REACH: [io::ErrorKind; 4] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::NotADirectory,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::StaleNetworkFileHandle,
];

/// What a name that the kernel tells means here; `None` if nothing, or nothing that we can get at: it may be from
/// another namespace.
fn named(path: &Path) -> io::Result<Option<Subject>> {
    match path.metadata() {
        Ok(metadata) => Ok(Subject::of(&metadata)),
        Err(error) if OUT_OF_REACH.contains(&error.kind()) => Ok(None),
        Err(error) => Err(kernel_files::unreadable(path, &error)),
    }
}

fn partitions(directory: &Path) -> io::Result<Vec<DeviceNumber>> {
    let mut partitions = Vec::new();
    for path in entries(directory)? {
        if exists(&path.join("partition"))? {
            partitions.extend(number_in(&path)?);
        }
    }
    Ok(partitions)
}

/// The devices that a directory has links to.
fn linked(directory: &Path) -> io::Result<Vec<DeviceNumber>> {
    let numbers = entries(directory)?.into_iter().map(|path| number_in(&path));
    numbers.filter_map(Result::transpose).collect()
}

/// The disk that a partition is part of.
pub(super) fn disk_of(directory: &Path) -> io::Result<Option<DeviceNumber>> {
    if !exists(&directory.join("partition"))? {
        return Ok(None);
    }
    let directory = kernel_files::resolved(directory)?;
    match directory.as_deref().and_then(Path::parent) {
        Some(disk) => number_in(disk),
        None => Ok(None),
    }
}

fn count_in(path: &Path) -> io::Result<Option<u64>> {
    let Some(line) = line(path)? else {
        return Ok(None);
    };
    let count = std::str::from_utf8(&line)
        .ok()
        .and_then(|count| count.parse().ok());
    count.map(Some).ok_or_else(|| malformed(path))
}

fn number_in(directory: &Path) -> io::Result<Option<DeviceNumber>> {
    let path = directory.join("dev");
    let Some(line) = line(&path)? else {
        return Ok(None);
    };
    let number = || {
        let (major, minor) = std::str::from_utf8(&line).ok()?.split_once(':')?;
        Some(DeviceNumber {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    };
    number().map(Some).ok_or_else(|| malformed(&path))
}

fn name_of(directory: &Path) -> io::Result<Option<String>> {
    let resolved = kernel_files::resolved(directory)?;
    let Some(name) = resolved.as_deref().and_then(Path::file_name) else {
        return Ok(None);
    };
    let name = name.to_string_lossy().into_owned();
    Ok(Some(match line(&directory.join("dm/name"))? {
        Some(volume) => format!("{name} ({})", String::from_utf8_lossy(&volume)),
        None => name,
    }))
}

fn backing_file_in(directory: &Path) -> io::Result<Option<PathBuf>> {
    let line = line(&directory.join("loop/backing_file"))?;
    Ok(line.map(|line| OsString::from_vec(line).into()))
}
