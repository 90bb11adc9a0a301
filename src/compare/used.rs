//! A disk of which only what is in use is read: the rest is zeros, as in its image.

use std::ops::Range;

use crate::disk::{Disk, Kind, Underlying};
use crate::error::Result;
use crate::formats::AnyDisk;
use crate::units::{Exact, length, to_u64, to_usize};
use crate::volumes::{self, AllocationMap, Scan};

/// A disk, all of it or only what is in use.
#[derive(Debug)]
pub(super) struct Used {
    disk: AnyDisk,
    /// What of it is read, if not all is: the rest counts as zeros.
    map: Option<AllocationMap>,
}

impl Used {
    /// All of a disk.
    pub(super) fn all(disk: AnyDisk) -> Self {
        Self { disk, map: None }
    }

    /// What is in use of a raw disk, and all of an image, in which the rest is zeros already.
    ///
    /// # Errors
    ///
    /// Those of [`volumes::scan`].
    pub(super) fn of(disk: AnyDisk) -> Result<Self> {
        let map = match &disk {
            AnyDisk::Raw(_) => Some(volumes::scan(&disk, Scan::Auto)?.map),
            AnyDisk::Image(_) => None,
        };
        Ok(Self { disk, map })
    }

    /// The disk itself.
    pub(super) fn disk(&self) -> &AnyDisk {
        &self.disk
    }
}

impl Disk for Used {
    fn kind(&self) -> Kind {
        self.disk.kind()
    }

    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let Some(map) = &self.map else {
            return self.disk.read_at(buf, at);
        };
        let end = at.plus(to_u64(buf.len()));
        let (mut rest, mut at) = (buf, at);
        for used in map.data_within(at..end) {
            let (gap, behind) = rest.split_at_mut(to_usize(used.start.minus(at)));
            gap.fill(0);
            let (part, behind) = behind.split_at_mut(to_usize(length(&used)));
            self.disk.read_at(part, used.start)?;
            (rest, at) = (behind, used.end);
        }
        rest.fill(0);
        Ok(())
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.disk.read_sector_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        self.disk.position(at)
    }

    fn sector_size(&self) -> u64 {
        self.disk.sector_size()
    }

    fn grain(&self) -> u64 {
        self.disk.grain()
    }

    fn is_present(&self) -> bool {
        self.disk.is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.disk.stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        match &self.map {
            Some(map) => Ok(map.data_within(range).next()),
            None => self.disk.data_in(range),
        }
    }
}
