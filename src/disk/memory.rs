//! A disk in memory, for tests.

use std::io;
use std::ops::Range;

use super::{Disk, Kind, Underlying};
use crate::error::{Action, Error, Result};
use crate::units::{to_u64, to_usize};

/// A file without holes, of which a range may be unreadable.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bad: Range<u64>,
}

impl MemoryDisk {
    /// A disk of zeros.
    pub(crate) fn new(size: u64) -> Self {
        Self {
            bytes: vec![0; to_usize(size)],
            bad: 0..0,
        }
    }

    /// Puts bytes where they belong.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let range = to_usize(at)..to_usize(at) + bytes.len();
        self.bytes[range].copy_from_slice(bytes);
    }
}

impl Disk for MemoryDisk {
    fn kind(&self) -> Kind {
        Kind::RegularFile
    }

    fn len(&self) -> u64 {
        to_u64(self.bytes.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let end = at + to_u64(buf.len());
        if at < self.bad.end && self.bad.start < end {
            let error = io::Error::from_raw_os_error(5);
            return Err(Error::source_io(Action::Read(self.bad.start), error));
        }
        buf.copy_from_slice(&self.bytes[to_usize(at)..to_usize(end)]);
        Ok(())
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.read_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        512
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        Vec::new()
    }

    fn is_present(&self) -> bool {
        true
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let range = range.start..range.end.min(self.len());
        Ok((!range.is_empty()).then_some(range))
    }
}
