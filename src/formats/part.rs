//! A disk, or a part of it, as what is copied.

use std::ops::Range;

use super::Chain;
use super::qcow2::{Image, Record};
use crate::disk::{Disk, Kind, Part};
use crate::error::{Error, InUse, Invalid, Result};
use crate::units::{GuestOffset, SECTOR};

/// A part of a disk that is in an image.
#[derive(Debug)]
pub struct DiskPart {
    disk: Chain,
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
    pub(crate) fn new(disk: Chain, part: Part, writer: Option<InUse>) -> Result<Self, Invalid> {
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

    /// What the image records of the source it was made of, as far as it is about this part: what could not be read, in
    /// bytes of the part, and the size of a sector in bytes. Nothing if the record is damaged, or of another state.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub(crate) fn recorded(&self) -> Result<(Vec<Range<u64>>, Option<u32>)> {
        let image = self.disk.image().filter(|_| self.disk.is_active());
        let record = match image.map_or(Ok(None), Image::record) {
            Ok(record) => record.unwrap_or_default(),
            Err(Error::Corrupt(_)) => Record::default(),
            Err(error) => return Err(error),
        };
        let within = |at: u64| at.saturating_sub(self.offset).min(self.length);
        let unreadable = record.unreadable.iter();
        let unreadable = unreadable.map(|bad| within(bad.start)..within(bad.end));
        let unreadable = unreadable.filter(|bad| !bad.is_empty()).collect();
        Ok((unreadable, record.sector_size))
    }

    /// All of the disk.
    pub fn disk(&self) -> &Chain {
        &self.disk
    }
}

impl Disk for DiskPart {
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
