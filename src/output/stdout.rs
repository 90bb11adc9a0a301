//! A disk or an image as a stream: every byte of it, in order.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::temporary::{self, scratch};
use super::{Cleanup, close_once};
use crate::devices::DeviceNumber;
use crate::error::{Action, Error, Invalid, Result};
use crate::units::{Exact, length, to_u64, to_usize};

/// As much as is written in one go.
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// The device that keeps nothing. Source: null(4).
const NULL: DeviceNumber = DeviceNumber { major: 1, minor: 3 };

/// A disk or an image that is written to standard output.
#[derive(Debug)]
pub struct Stdout {
    file: File,
    /// How many bytes were written.
    position: u64,
    sync: bool,
    cleanup: Cleanup,
}

/// Whether there is no standard output, or error. Rust's runtime then opens the null device in its place, and for
/// reading too, which no shell does for a `>`: everything would be lost without an error.
///
/// # Errors
///
/// If the system does not tell.
pub fn was_closed(output: &impl AsFd) -> io::Result<bool> {
    let file = File::from(output.as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    let is_null = metadata.file_type().is_char_device() && DeviceNumber::from_raw(metadata.rdev()) == NULL;
    Ok(is_null && rustix::fs::fcntl_getfl(file)?.contains(OFlags::RDWR))
}

/// Names the directory for temporary files in an error that is about the scratch file of a stream.
pub(crate) fn name_scratch(error: Error) -> Error {
    let is_scratch = matches!(
        &error,
        Error::Io {
            action: Action::Scratch,
            ..
        }
    );
    if is_scratch {
        error.elsewhere(&temporary::directory())
    } else {
        error
    }
}

/// An empty file without a name in the directory for temporary files, for reading and writing, which goes away when it is
/// closed. A stream of that name needs it.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be created.
pub(crate) fn scratch_of_stream(name: &str, cleanup: &Cleanup) -> Result<File> {
    File::open(temporary::directory())
        .map_err(|error| Error::target_io(Action::Scratch, error))
        .and_then(|directory| scratch(&directory, name.as_ref(), cleanup))
        .map_err(name_scratch)
}

impl Stdout {
    /// Begins a stream on `stdout`. If `sync`, and it turns out to be a file, that is brought to stable storage.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is somebody's screen, or was closed.
    /// - [`Error::Io`] if there is no standard output.
    pub(super) fn new(stdout: impl AsFd, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let failed = |error| Error::target_io(Action::Open, error);
        let file = File::from(stdout.as_fd().try_clone_to_owned().map_err(failed)?);
        if file.is_terminal() {
            return Err(Invalid::StdoutIsTerminal.into());
        }
        if was_closed(&file).map_err(failed)? {
            return Err(Invalid::StdoutClosed.into());
        }
        Ok(Self {
            file,
            position: 0,
            sync,
            cleanup,
        })
    }

    /// Writes `bytes` where the stream has got to, or behind zeros.
    ///
    /// # Panics
    ///
    /// If the stream is further by now.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.end_at(at)?;
        assert_eq!(self.position, at, "a stream cannot go back");
        self.put(bytes)
    }

    /// Writes zeros in the place of a range.
    ///
    /// # Panics
    ///
    /// If the stream is further by now than where it begins.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<()> {
        assert!(
            length(&range) == 0 || self.position <= range.start,
            "a stream cannot go back"
        );
        self.end_at(range.end)
    }

    /// Writes zeros up to that many bytes from the beginning of the stream.
    pub(super) fn end_at(&mut self, end: u64) -> Result<()> {
        while self.position < end {
            let missing = to_usize(end.minus(self.position));
            let (zeros, _) = ZEROS.split_at(missing.min(ZEROS.len()));
            self.put(zeros)?;
        }
        Ok(())
    }

    /// An empty file without a name, for reading and writing, which goes away when it is closed.
    pub(super) fn scratch(&self) -> Result<File> {
        scratch_of_stream("standard output", &self.cleanup)
    }

    /// Makes an end of writing, and brings a file to stable storage if that was asked for.
    pub(super) fn settle(&self) -> Result<()> {
        if self.sync {
            match rustix::fs::fdatasync(&self.file) {
                // A pipe has nothing to sync.
                Ok(()) | Err(Errno::INVAL | Errno::ROFS) => {}
                Err(error) => return Err(Error::target_io(Action::Sync, error)),
            }
        }
        close_once(&self.file).map_err(|error| Error::target_io(Action::Close, error))
    }

    /// The stream is complete.
    pub(super) fn publish(self) -> Result<()> {
        self.cleanup.publish(|| Ok(()))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.position == 0 {
            self.cleanup.begin_in_place();
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.put_some(rest).map_err(|error| {
                if self.position == 0 {
                    self.cleanup.nothing_written();
                }
                Error::target_io(Action::Write(self.position), error)
            })?;
            (_, rest) = rest.split_at(written);
            self.position.increase(to_u64(written));
        }
        Ok(())
    }

    /// Writes at least a byte. Waits for it where somebody made standard output one that does not wait.
    fn put_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match rustix::event::poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_had_enough_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut stream = Stdout::new(&writer, Cleanup::default(), false).unwrap();
        drop((reader, writer));

        let error = stream.write(b"one", 0).unwrap_err();

        assert_eq!(error.to_string(), "cannot write at 0x0");
        assert!(matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe));
    }
}
