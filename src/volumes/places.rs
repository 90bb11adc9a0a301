//! What lies where on a disk, for those who found something wrong there: found out with few reads, and never a failure.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::region::{Region, Treatment};
use super::survey::Survey;
use super::view::View;
use crate::disk::{Disk, Kind, Underlying};
use crate::error::{Action, Error, Result};
use crate::units::to_u64;

/// How much of a disk is read at most to find out what lies where, in bytes.
const MAX_READ: u64 = 64 << 20;

/// What lies where on a disk.
#[derive(Debug)]
pub struct Places {
    regions: Vec<Region>,
}

/// What a range of a disk lies in.
#[derive(Debug)]
pub enum Place<'a> {
    /// A volume, or something that was recognised.
    Region(&'a Region),
    /// Outside of all partitions of a disk that has some.
    Between,
}

impl Places {
    /// Of a disk that may be damaged. What it would take too many reads to find out is left open.
    pub fn of(disk: &dyn Disk) -> Self {
        let limited = Limited {
            disk,
            left: AtomicU64::new(MAX_READ),
        };
        let regions = Survey::of(View::of(&limited)).regions;
        Self { regions }
    }

    /// The innermost that holds all of a range, in bytes of the disk; none if nothing was recognised there.
    pub fn of_range(&self, range: &Range<u64>) -> Option<Place<'_>> {
        let holds = |region: &&Region| {
            let mut own = region.segments.ranges();
            own.any(|own| own.start <= range.start && range.end <= own.end)
        };
        let innermost = self
            .regions
            .iter()
            .filter(holds)
            .max_by_key(|region| region.depth)?;
        match (&innermost.treatment, &innermost.part, innermost.name) {
            (Treatment::Partitioned, ..) => Some(Place::Between),
            (_, None, None) => None,
            _ => Some(Place::Region(innermost)),
        }
    }
}

/// A disk of which only so much is read.
#[derive(Debug)]
struct Limited<'a> {
    disk: &'a dyn Disk,
    /// In bytes.
    left: AtomicU64,
}

impl Limited<'_> {
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
