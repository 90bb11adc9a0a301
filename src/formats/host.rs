//! A file that an image is made of: never read past its end, never in one piece that is large.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::SeekFrom;

use crate::devices::{FileId, Kernel, Subject, Unwritten};
use crate::disk::{self, Change, State, Watch};
use crate::error::{Action, Corrupt, Error, Invalid, Result};
use crate::units::{HostOffset, SECTOR, to_u64};

/// A regular file or a block device that holds an image, or the clusters of one.
#[derive(Debug)]
pub struct HostFile {
    path: PathBuf,
    file: File,
    subject: Subject,
    id: FileId,
    /// In bytes.
    length: u64,
    /// Of writes since it was opened.
    watch: Watch,
    /// Of writes since every one of them was going to show.
    settled: OnceLock<Watch>,
}

impl HostFile {
    /// Opens it for reading.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is neither a regular file nor a block device.
    /// - [`Error::Io`] if it cannot be opened or examined.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let examine = |error: io::Error| Error::source_io(Action::Examine, error);
        let failed = |error: io::Error| Error::source_io(Action::Open, error);
        // Before it is opened: opening a FIFO would wait for a writer.
        let metadata = path.metadata().map_err(failed)?;
        let subject = Subject::of(&metadata).ok_or(Invalid::SourceKind(metadata.file_type().into()))?;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(examine)?;
        if Subject::of(&metadata) != Some(subject) {
            return Err(Invalid::SourceReplaced.into());
        }
        let before = State::of(&file, subject).map_err(examine)?;
        let length = match subject {
            Subject::File(_) => metadata.len(),
            Subject::Device(_) => {
                rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| examine(error.into()))?
            }
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            subject,
            id: FileId::of(&metadata),
            length,
            watch: Watch::loose(before),
            settled: OnceLock::new(),
        })
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file or device it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// What makes two names the same file.
    pub fn id(&self) -> FileId {
        self.id
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
        match self.subject {
            Subject::Device(_) => Ok(self.length),
            Subject::File(_) => {
                let metadata = self.file.metadata();
                let metadata = metadata.map_err(|error| Error::source_io(Action::Examine, error))?;
                Ok(metadata.blocks().saturating_mul(SECTOR))
            }
        }
    }

    /// Where the first byte from `from` on lies that is in no hole of the file, and where the next hole begins;
    /// none if there is no such byte, or nobody can tell.
    pub(crate) fn next_data(&self, from: HostOffset) -> Option<Range<u64>> {
        let start = rustix::fs::seek(&self.file, SeekFrom::Data(from.0)).ok()?;
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).ok()?;
        Some(start..end)
    }

    /// Sees to it that every write from now on shows as a change: what others wrote earlier is brought to the disk.
    /// What could not be.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    pub(crate) fn settle(&self) -> Result<Option<Unwritten>> {
        let kernel = Kernel::running();
        let users = kernel.users(self.subject);
        let (before, mut unwritten) = (*self.watch.before(), None);
        let look = || State::of(&self.file, self.subject);
        let settled = disk::settle(before, look, || {
            let flushed = disk::flush_all(&kernel, &users, &self.path, &self.file);
            unwritten = unwritten.take().or(flushed.err());
        });
        let mut settled = settled.map_err(|error| Error::source_io(Action::Examine, error))?;
        // Something of it has been read already.
        if settled.file() != before.file() {
            settled = before;
        }
        let watch = || Watch::tight(settled, &self.file, self.subject);
        self.settled.get_or_init(watch);
        Ok(unwritten)
    }

    /// How it was seen to change since it was opened, or settled.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    pub fn change(&self) -> Result<Option<Change>> {
        let watch = self.settled.get().unwrap_or(&self.watch);
        let change = watch.change(&self.file, self.subject);
        change.map_err(|error| Error::source_io(Action::Examine, error))
    }

    /// Whether all of a range lies within it.
    pub(crate) fn holds(&self, at: HostOffset, bytes: u64) -> bool {
        is_within(self.length, at, bytes)
    }

    /// Whether a range is known to be zeros without reading it.
    pub(crate) fn is_hole(&self, at: HostOffset, bytes: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(at.0)) {
            Ok(next) => next >= at.0.saturating_add(bytes),
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
        let expected = at.0.saturating_add(to_u64(buf.len()));
        match self.read(buf, at)? {
            read if read == buf.len() => Ok(()),
            read => Err(Corrupt::Shrank {
                end: at.0.saturating_add(to_u64(read)),
                expected,
            }
            .into()),
        }
    }

    /// Reads as much as there is from `at` on, and returns how much that was.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub(crate) fn read(&self, buf: &mut [u8], at: HostOffset) -> Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let here = at.0.saturating_add(to_u64(done));
            match self.file.read_at(rest, here) {
                Ok(0) => break,
                Ok(read) => done = done.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::source_io(Action::Read(here), error)),
            }
        }
        Ok(done)
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
