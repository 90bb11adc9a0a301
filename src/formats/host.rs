//! A file that an image is made of: never read past its end, never in one piece that is large.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::SeekFrom;

use crate::devices::{FileId, Subject};
use crate::disk::{Found, Underlying};
use crate::error::{Action, Corrupt, Error, Result};
use crate::units::{Exact, HostOffset, SECTOR, claimed_end, claimed_size, to_u64};

/// A regular file or a block device that holds an image, or the clusters of one.
#[derive(Debug)]
pub struct HostFile {
    underlying: Underlying,
    /// In bytes.
    length: u64,
}

impl HostFile {
    /// Opens it for reading.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is neither a regular file nor a block device.
    /// - [`Error::Io`] if it cannot be opened or examined.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::of(Found::at(path)?)
    }

    /// The same of one that may have been looked at.
    pub(super) fn of(found: Found) -> Result<Self> {
        let underlying = found.open()?;
        let length = underlying.length()?;
        Ok(Self { underlying, length })
    }

    /// The file or device it is.
    pub fn underlying(&self) -> &Underlying {
        &self.underlying
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        self.underlying.path()
    }

    /// The file or device it is.
    pub fn subject(&self) -> Subject {
        self.underlying.subject()
    }

    /// What makes two names the same file.
    pub fn id(&self) -> FileId {
        self.underlying.id()
    }

    /// Its length in bytes, as it was when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes of the disk it takes; its length, if it is a device.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        match self.subject() {
            Subject::Device(_) => Ok(self.length),
            Subject::File(_) => {
                let metadata = self.underlying.file().metadata();
                let metadata = metadata.map_err(|error| Error::source_io(Action::Examine, error))?;
                // What a filesystem claims, which may be another program.
                Ok(claimed_size(metadata.blocks(), SECTOR))
            }
        }
    }

    /// Where the first byte from `from` on lies that is in no hole of the file, and where the next hole begins;
    /// none if there is no such byte, or nobody can tell.
    pub(crate) fn next_data(&self, from: HostOffset) -> Option<Range<u64>> {
        let start = rustix::fs::seek(self.underlying.file(), SeekFrom::Data(from.0)).ok()?;
        let end = rustix::fs::seek(self.underlying.file(), SeekFrom::Hole(start)).ok()?;
        // The file may change between the two calls: what was neither is then data.
        let start = start.max(from.0);
        Some(start..end.max(start.plus(1)))
    }

    /// Whether all of a range lies within it.
    pub(crate) fn holds(&self, at: HostOffset, bytes: u64) -> bool {
        is_within(self.length, at, bytes)
    }

    /// Whether a range is known to be zeros without reading it.
    pub(crate) fn is_hole(&self, at: HostOffset, bytes: u64) -> bool {
        match rustix::fs::seek(self.underlying.file(), SeekFrom::Data(at.0)) {
            Ok(next) => next >= claimed_end(at.0, bytes),
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => true,
            // Devices do not tell.
            Err(_) => false,
        }
    }

    /// Fills `buf` with the bytes from `at` on.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read.
    /// - [`Error::Corrupt`] if it ends before that.
    pub(crate) fn read_exact(&self, buf: &mut [u8], at: HostOffset) -> Result<()> {
        match self.read(buf, at)? {
            read if read == buf.len() => Ok(()),
            read => {
                // The system refuses to read from 2^63 on.
                let [end, expected] = [read, buf.len()].map(|length| at.0.plus(to_u64(length)));
                Err(Corrupt::Shrank { end, expected }.into())
            }
        }
    }

    /// The same from the first byte on: what was read to tell what the file is is not read again.
    ///
    /// # Errors
    ///
    /// As [`read_exact`](Self::read_exact).
    pub(crate) fn read_beginning(&self, buf: &mut [u8]) -> Result<()> {
        let known = self.underlying.beginning()?;
        let (known, _) = known.split_at(known.len().min(buf.len()));
        let (begin, rest) = buf.split_at_mut(known.len());
        begin.copy_from_slice(known);
        self.read_exact(rest, HostOffset(to_u64(known.len())))
    }

    /// Reads as much as there is from `at` on, and returns how much that was.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub(crate) fn read(&self, buf: &mut [u8], at: HostOffset) -> Result<usize> {
        self.underlying.read(buf, at.0)
    }
}

/// Whether all of a range lies within a file of that length.
pub(super) fn is_within(length: u64, at: HostOffset, bytes: u64) -> bool {
    at.0.checked_add(bytes).is_some_and(|end| end <= length)
}

/// A structure that the file ends before.
pub(crate) fn truncated(structure: &'static str, at: HostOffset, found: u64, expected: u64) -> Error {
    Corrupt::Truncated {
        structure,
        at,
        found,
        expected,
    }
    .into()
}
