//! A disk of which only so much is read, so that a look at it takes no long time whatever it holds.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, Kind, Underlying};
use crate::error::{Action, Error, Result};
use crate::units::to_u64;

/// How much is read at most, in bytes.
const MAX_READ: u64 = 64 << 20;

/// A disk of which only so much is read.
#[derive(Debug)]
pub(super) struct Limited<'a> {
    disk: &'a dyn Disk,
    /// In bytes.
    left: AtomicU64,
}

impl<'a> Limited<'a> {
    pub(super) fn of(disk: &'a dyn Disk) -> Self {
        let left = AtomicU64::new(MAX_READ);
        Self { disk, left }
    }

    fn take(&self, length: usize, at: u64) -> Result<()> {
        let less = |left: u64| left.checked_sub(to_u64(length));
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::source_io(
                Action::Read(at),
                io::Error::from(io::ErrorKind::QuotaExceeded),
            )),
        }
    }
}

impl Disk for Limited<'_> {
    fn kind(&self) -> Kind {
        self.disk.kind()
    }

    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.take(buf.len(), at)?;
        self.disk.read_at(buf, at)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.take(buf.len(), at)?;
        self.disk.read_sector_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        self.disk.position(at)
    }

    fn sector_size(&self) -> u64 {
        self.disk.sector_size()
    }

    fn is_present(&self) -> bool {
        self.disk.is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.disk.stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        self.disk.data_in(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn no_more_is_read_than_is_worth_it() {
        let disk = MemoryDisk::new(4096);
        let limited = Limited {
            disk: &disk,
            left: AtomicU64::new(1000),
        };
        assert!(limited.read_at(&mut [0; 600], 0).is_ok());
        assert!(limited.read_at(&mut [0; 600], 0).is_err());
        assert!(limited.read_at(&mut [0; 400], 0).is_ok());
    }
}
