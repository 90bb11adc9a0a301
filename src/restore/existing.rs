//! What is on a block device before it is overwritten.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;

use indicatif::BinaryBytes;

use crate::devices::Identity;
use crate::disk::{Disk, Kind, Underlying};
use crate::error::{Invalid, Occupied, Result};
use crate::output::DeviceTarget;
use crate::units::SECTOR;
use crate::volumes::Glance;

/// A block device as it was before anything was written to it.
#[derive(Debug)]
pub struct Existing {
    /// Which disk it is, or is a partition of.
    pub identity: Identity,
    /// Its size in bytes.
    pub size: u64,
    /// What it holds.
    pub holds: Glance,
}

impl Existing {
    /// Looks at a device.
    ///
    /// # Errors
    ///
    /// [`Invalid::TargetOccupied`] if it holds anything that is recognised, unless that may be overwritten. What cannot be
    /// read is no error.
    pub(super) fn on(device: &DeviceTarget, overwrite: bool) -> Result<Self, Invalid> {
        let existing = Self {
            identity: device.identity(),
            size: device.size(),
            holds: Glance::of(&Held(device)),
        };
        if overwrite || !existing.holds.is_anything() {
            return Ok(existing);
        }
        Err(Invalid::TargetOccupied(Occupied {
            device: existing.device(),
            holds: existing.holds.to_string(),
        }))
    }

    /// Which one it is: `Samsung SSD 870 (serial S5Y1NX0T), 465.76 GiB`.
    fn device(&self) -> String {
        let size = BinaryBytes(self.size);
        match &self.identity {
            Identity {
                model: Some(model),
                serial: Some(serial),
            } => format!("{model} (serial {serial}), {size}"),
            Identity {
                model: Some(model),
                serial: None,
            } => format!("{model}, {size}"),
            Identity {
                model: None,
                serial: Some(serial),
            } => format!("serial {serial}, {size}"),
            Identity {
                model: None,
                serial: None,
            } => size.to_string(),
        }
    }
}

/// `Samsung SSD 870 (serial S5Y1NX0T), 465.76 GiB; holds GPT: 1 (FAT32 "EFI"), 2 (ext4 "root")`.
impl Display for Existing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}; ", self.device())?;
        match self.holds.unclear() {
            Some(doubt) => write!(f, "what it holds could not be read: {doubt}"),
            None => write!(f, "holds {}", self.holds),
        }
    }
}

/// A device that is held, as a disk that can be looked at.
#[derive(Debug)]
struct Held<'a>(&'a DeviceTarget);

impl Disk for Held<'_> {
    fn kind(&self) -> Kind {
        Kind::BlockDevice
    }

    fn len(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.0.read_at(buf, at)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.0.read_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        self.0.sector_size().unwrap_or(SECTOR)
    }

    fn is_present(&self) -> bool {
        true
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        Vec::new()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let range = range.start..range.end.min(self.len());
        Ok((!range.is_empty()).then_some(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn existing(model: Option<&str>, serial: Option<&str>, disk: &MemoryDisk) -> String {
        let existing = Existing {
            identity: Identity {
                model: model.map(str::to_owned),
                serial: serial.map(str::to_owned),
            },
            size: disk.len(),
            holds: Glance::of(disk),
        };
        existing.to_string()
    }

    #[test]
    fn a_device_is_told_by_what_the_kernel_knows_of_it_and_by_what_it_holds() {
        let mut disk = MemoryDisk::new(8 << 20);
        let nothing = "8.00 MiB; holds nothing that is recognised";
        assert_eq!(existing(None, None, &disk), nothing);
        disk.put(0, b"LUKS\xba\xbe\x00\x01");
        for (model, serial, words) in [
            (None, None, ""),
            (Some("Foo 2000"), None, "Foo 2000, "),
            (None, Some("S1"), "serial S1, "),
            (Some("Foo 2000"), Some("S1"), "Foo 2000 (serial S1), "),
        ] {
            let words = format!("{words}8.00 MiB; holds LUKS1");
            assert_eq!(existing(model, serial, &disk), words);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_is_not_nothing() {
        let mut disk = MemoryDisk::new(8 << 20);
        disk.bad = 0..4096;
        let words = existing(None, None, &disk);
        assert!(
            words.starts_with("8.00 MiB; what it holds could not be read: signature at 0x0"),
            "{words}"
        );
    }
}
