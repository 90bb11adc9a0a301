//! A disk, or a part of it, as what is copied.

use std::ops::Range;

use super::Disk;
use crate::error::{InUse, Invalid, Result};
use crate::source::{Kind, Part, Source};
use crate::units::{GuestOffset, SECTOR};

/// A part of a disk that is in an image.
#[derive(Debug)]
pub struct DiskPart {
    disk: Disk,
    /// Where it begins, in bytes.
    offset: u64,
    /// How long it is, in bytes.
    length: u64,
    writer: Option<InUse>,
}

impl DiskPart {
    /// A part of a disk, to one of whose files `writer` might write meanwhile.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the part lies outside of the disk, or is not aligned to sectors.
    pub(crate) fn new(disk: Disk, part: Part, writer: Option<InUse>) -> Result<Self, Invalid> {
        if disk.size() == 0 {
            return Err(Invalid::SourceEmpty);
        }
        let (offset, length) = part.within(disk.size())?;
        Ok(Self {
            disk,
            offset,
            length,
            writer,
        })
    }

    /// All of the disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Source for DiskPart {
    fn kind(&self) -> Kind {
        Kind::Image
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.disk.read_at(GuestOffset(self.position(at)), buf)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.disk.read_sector_at(buf, self.position(at))
    }

    fn position(&self, at: u64) -> u64 {
        self.offset.saturating_add(at)
    }

    fn sector_size(&self) -> u64 {
        SECTOR
    }

    fn writer(&self) -> Option<&InUse> {
        self.writer.as_ref()
    }

    fn is_present(&self) -> bool {
        true
    }

    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        let data = self
            .disk
            .data_in(self.position(from)..self.position(self.length))?;
        let within = |at: u64| at.saturating_sub(self.offset).min(self.length);
        let data = data.map(|data| within(data.start)..within(data.end));
        Ok(data.filter(|data| !data.is_empty()))
    }
}
