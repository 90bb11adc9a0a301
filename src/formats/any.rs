//! Whatever can be opened: a raw disk, or the disk in an image.

use std::ops::Range;
use std::path::Path;

use super::{Chain, Remark};
use crate::disk::{Disk, FileDisk, Kind, Run, Underlying};
use crate::error::Result;

/// A disk that was [opened](super::open()).
#[derive(Debug)]
pub enum AnyDisk {
    /// A file or device, byte by byte.
    Raw(Box<FileDisk>),
    /// The disk in an image.
    Image(Box<Chain>),
}

impl AnyDisk {
    /// The disk in an image, if it is in one.
    pub fn image(&self) -> Option<&Chain> {
        match self {
            Self::Raw(_) => None,
            Self::Image(chain) => Some(chain),
        }
    }

    /// Whether what is read was decrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.image().is_some_and(Chain::is_encrypted)
    }

    /// What images say of themselves that their reader should know, and the names of these.
    pub fn remarks(&self) -> impl Iterator<Item = (&Path, Remark)> {
        self.image().into_iter().flat_map(Chain::remarks)
    }

    fn disk(&self) -> &dyn Disk {
        match self {
            Self::Raw(disk) => disk.as_ref(),
            Self::Image(chain) => chain.as_ref(),
        }
    }
}

impl Disk for AnyDisk {
    fn kind(&self) -> Kind {
        self.disk().kind()
    }

    fn len(&self) -> u64 {
        self.disk().len()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.disk().read_at(buf, at)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.disk().read_sector_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        self.disk().position(at)
    }

    fn sector_size(&self) -> u64 {
        self.disk().sector_size()
    }

    fn grain(&self) -> u64 {
        self.disk().grain()
    }

    fn is_present(&self) -> bool {
        self.disk().is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.disk().stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        self.disk().data_in(range)
    }

    fn run_at(&self, at: u64, limit: u64) -> Result<Run> {
        self.disk().run_at(at, limit)
    }
}
