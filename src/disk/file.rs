//! A regular file or a block device.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{Change, Disk, Kind, Watch};
use crate::devices::{Kernel, Subject, Unwritten, own_path};
use crate::error::{Action, Corrupt, Error, InUse, Result};
use crate::units::{SECTOR, to_u64, to_usize};

/// What reads past the cache must be aligned to in memory: no device asks for more.
const DIRECT_ALIGNMENT: usize = 4096;

/// A regular file or a block device, or a part of one.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    subject: Subject,
    /// Where the part begins, in bytes.
    offset: u64,
    /// How long it is, in bytes.
    length: u64,
    sector_size: u64,
    watch: Watch,
    guard: Guard,
    /// The same file opened with `O_DIRECT`, if that works, once it is needed.
    direct: OnceLock<Option<File>>,
}

/// What is known about who else might use a source.
#[derive(Debug)]
pub(super) struct Guard {
    /// Who might write to it while it is read, if it was opened in spite of that.
    pub(super) writer: Option<InUse>,
    /// What keeps others from mounting it meanwhile.
    pub(super) held: Vec<File>,
    /// What was written earlier, and is not on the disk.
    pub(super) unwritten: Option<Unwritten>,
}

impl FileDisk {
    /// A part that is known to lie within the file.
    pub(super) fn new(file: File, subject: Subject, part: Range<u64>, watch: Watch, guard: Guard) -> Self {
        // Only devices have a sector size; a file's neighbour bytes fail with it by the page at worst.
        let sector_size = match subject {
            Subject::Device(_) => rustix::fs::ioctl_blksszget(&file)
                .map_or(SECTOR, u64::from)
                .max(SECTOR),
            Subject::File(_) => SECTOR,
        };
        let (offset, length) = (part.start, part.end.saturating_sub(part.start));
        Self {
            file,
            subject,
            offset,
            length,
            sector_size,
            watch,
            guard,
            direct: OnceLock::new(),
        }
    }

    /// Whether others are kept from mounting it, or what shows its bytes, until it is closed.
    pub fn is_claimed(&self) -> bool {
        !self.guard.held.is_empty()
    }

    /// Keeps nobody from mounting it any more.
    pub fn release(&mut self) {
        self.guard.held.clear();
    }

    /// The file or device it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// What others wrote earlier, and could not be brought to the disk: what is read there may be older.
    pub fn unwritten(&self) -> Option<&Unwritten> {
        self.guard.unwritten.as_ref()
    }

    /// How it was seen to change since it was opened.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it is smaller: what was behind the end may have been taken for a hole.
    /// - [`Error::Io`] if the system cannot tell.
    pub fn change(&self) -> Result<Option<Change>> {
        let change = self.watch.change(&self.file, self.subject);
        match change.map_err(|error| Error::source_io(Action::Examine, error))? {
            Some(Change::Size { before, after }) if after < before => Err(Corrupt::Shrank {
                end: after,
                expected: before,
            }
            .into()),
            change => Ok(change),
        }
    }

    fn direct(&self) -> Option<&File> {
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        // Not by its name, which may be that of another file by now.
        let open = || {
            rustix::fs::open(own_path(&self.file), flags, Mode::empty())
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
        match file.read_at(window, self.position(at)) {
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
        match self.subject {
            Subject::File(_) => Kind::RegularFile,
            Subject::Device(_) => Kind::BlockDevice,
        }
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut buf: &mut [u8], at: u64) -> Result<()> {
        let mut at = self.position(at);
        while !buf.is_empty() {
            match self.file.read_at(buf, at) {
                Ok(0) => {
                    let expected = self.position(self.length);
                    return Err(Corrupt::Shrank { end: at, expected }.into());
                }
                Ok(read) => {
                    at = at.saturating_add(to_u64(read));
                    buf = buf.get_mut(read..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::source_io(Action::Read(at), error)),
            }
        }
        Ok(())
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        match self.read_direct(buf, at) {
            Some(result) => result.map_err(|error| Error::source_io(Action::Read(self.position(at)), error)),
            None => self.read_at(buf, at),
        }
    }

    fn position(&self, at: u64) -> u64 {
        self.offset.saturating_add(at)
    }

    fn sector_size(&self) -> u64 {
        self.sector_size
    }

    fn writer(&self) -> Option<&InUse> {
        self.guard.writer.as_ref()
    }

    fn is_present(&self) -> bool {
        match self.subject {
            Subject::Device(number) => Kernel::running().is_present(number),
            Subject::File(_) => true,
        }
    }

    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        if from >= self.length {
            return Ok(None);
        }
        let everything = Ok(Some(from..self.length));
        if self.kind() == Kind::BlockDevice {
            return everything;
        }
        let seek = |to| match rustix::fs::seek(&self.file, to) {
            Ok(found) => Ok(Some(found)),
            // No data from there on.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error),
        };
        let failed = |error: Errno| Error::source_io(Action::Seek(self.position(from)), error);
        let start = match seek(SeekFrom::Data(self.position(from))) {
            Ok(Some(start)) => start,
            Ok(None) => return Ok(None),
            // A filesystem that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return everything,
            Err(error) => return Err(failed(error)),
        };
        let end = seek(SeekFrom::Hole(start)).map_err(failed)?.unwrap_or(u64::MAX);
        let relative = |at: u64| at.saturating_sub(self.offset).min(self.length);
        // The file may change between the two calls: what was neither is then read.
        let range = relative(start).max(from)..relative(end.max(start.saturating_add(1)));
        Ok((!range.is_empty()).then_some(range))
    }
}
