//! A regular file or a block device.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{Disk, Kind, Underlying};
use crate::devices::{Kernel, Subject, own_path};
use crate::error::{Action, Corrupt, Error, Result};
use crate::units::{Exact, SECTOR, to_u64, to_usize};

/// What reads past the cache must be aligned to in memory: no device asks for more.
const DIRECT_ALIGNMENT: usize = 4096;

/// A regular file or a block device, byte by byte.
#[derive(Debug)]
pub struct FileDisk {
    underlying: Underlying,
    /// In bytes.
    length: u64,
    sector_size: u64,
    /// The same file opened with `O_DIRECT`, if that works, once it is needed.
    direct: OnceLock<Option<File>>,
}

impl FileDisk {
    pub(super) fn new(underlying: Underlying, length: u64) -> Self {
        // Only devices have a sector size; a file's neighbour bytes fail with it by the page at worst.
        let sector_size = match underlying.subject() {
            Subject::Device(_) => rustix::fs::ioctl_blksszget(underlying.file())
                .map_or(SECTOR, u64::from)
                .max(SECTOR),
            Subject::File(_) => SECTOR,
        };
        Self {
            underlying,
            length,
            sector_size,
            direct: OnceLock::new(),
        }
    }

    /// The file or device it is.
    pub fn underlying(&self) -> &Underlying {
        &self.underlying
    }

    fn direct(&self) -> Option<&File> {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        // Not by its name, which may be that of another file by now.
        let open = || {
            rustix::fs::open(own_path(self.underlying.file()), flags, Mode::empty())
                .ok()
                .map(File::from)
        };
        self.direct.get_or_init(open).as_ref()
    }

    /// Reads one sector past the cache; `None` if that cannot be done with this file, sector or size.
    fn read_direct(&self, buf: &mut [u8], at: u64) -> Option<io::Result<()>> {
        let file = self.direct()?;
        let mut memory = vec![0; to_usize(self.sector_size).checked_add(DIRECT_ALIGNMENT)?];
        let aligned = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let window = memory.get_mut(aligned..)?.get_mut(..to_usize(self.sector_size))?;
        match file.read_at(window, at) {
            Ok(read) if read >= buf.len() => {
                buf.copy_from_slice(window.get(..buf.len())?);
                Some(Ok(()))
            }
            Ok(_) => None,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl Disk for FileDisk {
    fn kind(&self) -> Kind {
        match self.underlying.subject() {
            Subject::File(_) => Kind::RegularFile,
            Subject::Device(_) => Kind::BlockDevice,
        }
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        match self.underlying.read(buf, at)? {
            read if read == buf.len() => Ok(()),
            read => {
                let (end, expected) = (at.plus(to_u64(read)), self.length);
                Err(Corrupt::Shrank { end, expected }.into())
            }
        }
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        match self.read_direct(buf, at) {
            Some(result) => result.map_err(|error| Error::source_io(Action::Read(at), error)),
            None => self.read_at(buf, at),
        }
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        self.sector_size
    }

    fn is_present(&self) -> bool {
        match self.underlying.subject() {
            Subject::Device(number) => Kernel::running().is_present(number),
            Subject::File(_) => true,
        }
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        vec![&self.underlying]
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let range = range.start..range.end.min(self.length);
        if range.is_empty() {
            return Ok(None);
        }
        if self.kind() == Kind::BlockDevice {
            return Ok(Some(range));
        }
        let seek = |to| match rustix::fs::seek(self.underlying.file(), to) {
            Ok(found) => Ok(Some(found)),
            // No data from there on.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error),
        };
        let failed = |error: Errno| Error::source_io(Action::Seek(range.start), error);
        let start = match seek(SeekFrom::Data(range.start)) {
            Ok(Some(start)) => start,
            Ok(None) => return Ok(None),
            // A filesystem that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(range)),
            Err(error) => return Err(failed(error)),
        };
        if start >= range.end {
            return Ok(None);
        }
        let end = seek(SeekFrom::Hole(start)).map_err(failed)?.unwrap_or(u64::MAX);
        // The file may change between the two calls: what was neither is then read.
        let data = start.max(range.start)..end.max(start.plus(1)).min(range.end);
        Ok((!data.is_empty()).then_some(data))
    }
}
