//! Block devices in `/sys`: partitions, holders, slaves, loop devices.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{DeviceNumber, FileId, Kernel};

/// A device, and what stands on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its number.
    pub number: DeviceNumber,
    /// What people call it: `sda1`, `dm-0 (vg-root)`.
    pub name: String,
    /// The name of the device it is made of, for a volume; none for the device asked about and partitions.
    pub made_of: Option<String>,
    /// Whether nothing stands on it but, perhaps, a filesystem.
    pub is_top: bool,
    /// Whether the kernel lets nobody write to it.
    pub is_read_only: bool,
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

    /// A device and all that is made of it: its partitions and their holders, at any depth.
    pub fn layers_above(&self, number: DeviceNumber) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.add_layers(number, None, &mut layers);
        layers
    }

    fn add_layers(&self, number: DeviceNumber, made_of: Option<String>, layers: &mut Vec<Layer>) {
        if layers.iter().any(|layer| layer.number == number) {
            return;
        }
        let directory = self.directory(number);
        let name = name_of(&directory).unwrap_or_else(|| number.to_string());
        let partitions = partitions(&directory);
        let holders = linked(&directory.join("holders"));
        let is_top = partitions.is_empty() && holders.is_empty();
        let is_read_only = read_line(&directory.join("ro")).is_some_and(|ro| ro == b"1");
        layers.push(Layer {
            number,
            name: name.clone(),
            made_of,
            is_top,
            is_read_only,
        });
        for partition in partitions {
            self.add_layers(partition, None, layers);
        }
        for holder in holders {
            self.add_layers(holder, Some(name.clone()), layers);
        }
    }

    /// What a device is made of, one level down: the disk of a partition, the devices under a volume.
    pub(super) fn devices_below(&self, number: DeviceNumber) -> Vec<DeviceNumber> {
        let directory = self.directory(number);
        let mut below = linked(&directory.join("slaves"));
        if directory.join("partition").exists()
            && let Ok(real) = directory.canonicalize()
        {
            below.extend(real.parent().and_then(number_in));
        }
        below
    }

    /// The file behind a loop device.
    pub(super) fn backing_file(&self, number: DeviceNumber) -> Option<PathBuf> {
        backing_file_in(&self.directory(number))
    }

    /// The name of a device and the path by which it can be opened.
    pub fn node(&self, number: DeviceNumber) -> Option<(String, PathBuf)> {
        let directory = self.directory(number).canonicalize().ok()?;
        let name = directory.file_name()?.to_string_lossy().into_owned();
        // A slash in a name is an exclamation mark there.
        let node = Path::new("/dev").join(name.replace('!', "/"));
        Some((name, node))
    }

    /// The loop devices whose data lie in a file.
    pub fn loops_over(&self, file: FileId) -> Vec<DeviceNumber> {
        let is_over = |directory: &PathBuf| {
            let metadata = backing_file_in(directory).and_then(|path| path.metadata().ok());
            metadata.is_some_and(|metadata| FileId::of(&metadata) == file)
        };
        let loops = entries(&self.sys.join("block")).into_iter().filter(is_over);
        loops.filter_map(|directory| number_in(&directory)).collect()
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
