//! What a filesystem or a device stands on.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::mounts::Mount;
use super::{DeviceNumber, FileId, Kernel, Layers, Subject, kernel_files};

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

impl Kernel {
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
