//! What the kernel says of block devices: what stands on them, what they stand on, what is mounted.
//!
//! Everything is read from `/proc` and `/sys`; nothing is opened for writing. What cannot be read there is an error:
//! what is not known is not nothing.

pub(crate) mod claim;
pub(crate) mod flush;
mod kernel_files;
mod listing;
mod locks;
pub mod mounts;
mod processes;
mod sysfs;
pub mod usage;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

pub use flush::Unwritten;
pub(crate) use listing::names;
use mounts::Mount;
pub use sysfs::{Layer, Layers};

/// The number that names a block device to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver's part.
    pub major: u32,
    /// The device's part.
    pub minor: u32,
}

impl DeviceNumber {
    /// From `st_dev` or `st_rdev`.
    pub fn from_raw(raw: u64) -> Self {
        Self {
            major: rustix::fs::major(raw),
            minor: rustix::fs::minor(raw),
        }
    }

    /// Of the block device that `path` names, if it names one.
    pub fn of_device(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        metadata
            .file_type()
            .is_block_device()
            .then(|| Self::from_raw(metadata.rdev()))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What makes two names the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// From what stat(2) says.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The file or device that somebody asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A block device.
    Device(DeviceNumber),
    /// A regular file, which may be behind a loop device or be swapped to.
    File(FileId),
}

impl Subject {
    /// A regular file or a block device; nothing else can be asked about.
    pub fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        if metadata.is_file() {
            Some(Self::File(FileId::of(metadata)))
        } else if metadata.file_type().is_block_device() {
            Some(Self::Device(DeviceNumber::from_raw(metadata.rdev())))
        } else {
            None
        }
    }
}

/// The path by which the system finds an open file, whatever its name is by now.
pub(crate) fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// All that a filesystem stands on, down to the disks.
#[derive(Clone, Debug, Default)]
pub struct Foundation {
    devices: BTreeSet<DeviceNumber>,
    files: BTreeSet<FileId>,
}

impl Foundation {
    /// Whether the file is part of it.
    pub fn contains(&self, file: FileId) -> bool {
        self.files.contains(&file)
    }

    /// Whether the device is part of it.
    pub fn includes(&self, device: DeviceNumber) -> bool {
        self.devices.contains(&device)
    }

    /// Whether one of the devices is part of it.
    pub fn stands_on(&self, layers: &Layers) -> bool {
        layers
            .all
            .iter()
            .any(|layer| self.devices.contains(&layer.number))
    }
}

/// The kernel, as its two filesystems show it.
#[derive(Clone, Debug)]
pub struct Kernel {
    proc: PathBuf,
    sys: PathBuf,
}

impl Kernel {
    /// The kernel that runs this program.
    pub fn running() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }

    /// What is mounted in this process's namespace.
    ///
    /// # Errors
    ///
    /// If `/proc/self/mountinfo` cannot be read, or is not as proc(5) says.
    pub fn mounts(&self) -> io::Result<Vec<Mount>> {
        let path = self.proc.join("self/mountinfo");
        // Mount points are bytes, not text.
        let text = kernel_files::read_expected(&path)?;
        mounts::parse_mounts(&text).ok_or_else(|| kernel_files::malformed(&path))
    }

    /// The files and devices that are swapped to.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn swaps(&self) -> io::Result<Vec<PathBuf>> {
        Ok(mounts::parse_swaps(&self.read_optional("swaps")?))
    }

    /// The files, device nodes included, that a virtual machine may write to.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn guests(&self) -> io::Result<Vec<FileId>> {
        let text = self.read_optional("locks")?;
        Ok(locks::parse_locks(&String::from_utf8_lossy(&text)))
    }

    /// A file of `/proc` that kernels have if they are built so: no content if it is not there, but all others are.
    fn read_optional(&self, name: &str) -> io::Result<Vec<u8>> {
        let text = kernel_files::read(&self.proc.join(name))?;
        if text.is_none() {
            // Of a `/proc` with processes only (`subset=pid`), or of none at all, nothing can be told.
            kernel_files::expect(&self.proc.join("version"))?;
        }
        Ok(text.unwrap_or_default())
    }

    /// What the filesystem that holds `path` stands on: its device, the disk of that partition, the devices
    /// that a volume is made of, the file behind a loop device and what that stands on.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked or `path` cannot be examined.
    pub fn foundation_of_filesystem(&self, path: &Path) -> io::Result<Foundation> {
        let mounts = self.mounts()?;
        let mut foundation = Foundation::default();
        self.add_filesystem(path, &mounts, &mut foundation)?;
        Ok(foundation)
    }

    /// What a block device stands on, itself included.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn foundation_of_device(&self, number: DeviceNumber) -> io::Result<Foundation> {
        let mounts = self.mounts()?;
        let mut foundation = Foundation::default();
        self.add_device(number, &mounts, &mut foundation)?;
        Ok(foundation)
    }

    fn add_filesystem(&self, path: &Path, mounts: &[Mount], to: &mut Foundation) -> io::Result<()> {
        let stat = rustix::fs::statx(
            CWD,
            path,
            AtFlags::empty(),
            StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
        )?;
        let device = DeviceNumber {
            major: stat.stx_dev_major,
            minor: stat.stx_dev_minor,
        };
        // The mount tells more than the device number: btrfs gives every subvolume a number of its own.
        let knows_mount = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
        let is_its_mount = |mount: &&Mount| {
            if knows_mount {
                mount.id == stat.stx_mnt_id
            } else {
                mount.device == device
            }
        };
        self.add_device(device, mounts, to)?;
        for number in mounts.iter().filter(is_its_mount).flat_map(Mount::devices) {
            self.add_device(number, mounts, to)?;
        }
        Ok(())
    }

    fn add_device(&self, number: DeviceNumber, mounts: &[Mount], to: &mut Foundation) -> io::Result<()> {
        if !to.devices.insert(number) {
            return Ok(());
        }
        // It tells of all devices; those without a name of their own (btrfs, NFS) are not there.
        kernel_files::expect(&self.sys.join("dev/block"))?;
        let peers = self.btrfs_peers(number)?;
        for lower in self.devices_below(number)?.into_iter().chain(peers) {
            self.add_device(lower, mounts, to)?;
        }
        match self.behind(number)? {
            Some(Subject::Device(lower)) => self.add_device(lower, mounts, to)?,
            Some(Subject::File(file)) => {
                if to.files.insert(file)
                    && let Some(path) = self.backing_file(number)?
                {
                    self.add_filesystem(&path, mounts, to)?;
                }
            }
            None => {}
        }
        Ok(())
    }
}
