//! A disk as a stream: every byte of it, in order.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use rustix::io::Errno;

use super::{Cleanup, DiskSink, Kept, Published};
use crate::devices::FileId;
use crate::error::{Action, Error, Invalid, Result, SameAs};
use crate::units::{GuestOffset, length, to_u64, to_usize};

/// As much as is written in one go.
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// A disk that is written to standard output.
#[derive(Debug)]
pub struct StdoutSink {
    file: File,
    /// How many bytes were written.
    position: u64,
    sync: bool,
    cleanup: Cleanup,
}

/// Refuses what standard output should not be: a screen, a device of which nothing was checked, or one of the
/// files that are read.
pub(super) fn refuse(stdout: &(impl AsFd + IsTerminal), read: &[FileId]) -> Result<()> {
    if stdout.is_terminal() {
        return Err(Invalid::StdoutIsTerminal.into());
    }
    let examine = |error: io::Error| Error::target_io(Action::Examine, error);
    let owned = stdout.as_fd().try_clone_to_owned().map_err(examine)?;
    let metadata = File::from(owned).metadata().map_err(examine)?;
    if metadata.file_type().is_block_device() {
        return Err(Invalid::StdoutIsDevice.into());
    }
    if metadata.is_file() && read.contains(&FileId::of(&metadata)) {
        return Err(Invalid::TargetIsSource(SameAs::File).into());
    }
    Ok(())
}

impl StdoutSink {
    /// Begins a stream on `stdout`. If `sync`, and it turns out to be a file, that is brought to stable storage.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no standard output.
    pub fn new(stdout: impl AsFd, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let owned = stdout.as_fd().try_clone_to_owned();
        let file = File::from(owned.map_err(|error| Error::target_io(Action::Open, error))?);
        Ok(Self {
            file,
            position: 0,
            sync,
            cleanup,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.position == 0 {
            self.cleanup.begin_in_place();
        }
        self.file
            .write_all(bytes)
            .map_err(|error| Error::target_io(Action::Write(self.position), error))?;
        self.position = self.position.saturating_add(to_u64(bytes.len()));
        Ok(())
    }

    /// Writes zeros up to a place in the disk.
    fn fill(&mut self, end: u64) -> Result<()> {
        while self.position < end {
            let missing = to_usize(end.saturating_sub(self.position));
            let (zeros, _) = ZEROS.split_at(missing.min(ZEROS.len()));
            self.put(zeros)?;
        }
        Ok(())
    }
}

impl DiskSink for StdoutSink {
    fn smallest_hole(&self) -> u64 {
        // They are written like anything else: here, or as part of what was read.
        u64::MAX
    }

    fn write(&mut self, bytes: &[u8], at: GuestOffset) -> Result<()> {
        self.fill(at.0)?;
        debug_assert_eq!(self.position, at.0, "a stream cannot go back");
        self.put(bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        debug_assert!(
            length(&range) == 0 || self.position <= range.start,
            "a stream cannot go back"
        );
        self.fill(range.end)
    }

    fn leave(&mut self, range: Range<u64>) -> Result<()> {
        self.zero(range)
    }

    fn settle(&mut self, size: u64) -> Result<()> {
        self.fill(size)?;
        if !self.sync {
            return Ok(());
        }
        match rustix::fs::fdatasync(&self.file) {
            // A pipe has nothing to sync.
            Ok(()) | Err(Errno::INVAL | Errno::ROFS) => Ok(()),
            Err(error) => Err(Error::target_io(Action::Sync, error)),
        }
    }

    fn written(&self) -> Option<&File> {
        None
    }

    fn kept(&self) -> Kept {
        Kept::All
    }

    fn publish(self: Box<Self>) -> Result<Published> {
        self.cleanup.publish(|| Ok::<_, Error>(()))?;
        Ok(Published::AsAsked)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::sink::Left;

    #[test]
    fn a_stream_has_zeros_where_nothing_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let cleanup = Cleanup::default();
        let mut sink = Box::new(StdoutSink::new(&writer, cleanup.clone(), true).unwrap());
        drop(writer);
        let read = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });

        sink.write(b"one", GuestOffset(5)).unwrap();
        sink.zero(8..700_000).unwrap();
        sink.leave(700_000..700_001).unwrap();
        sink.write(b"two", GuestOffset(700_003)).unwrap();
        sink.settle(700_010).unwrap();
        assert_eq!(cleanup.left(), Left::Part);
        sink.publish().unwrap();

        assert_eq!(cleanup.left(), Left::New);
        let mut expected = vec![0; 700_010];
        expected[5..8].copy_from_slice(b"one");
        expected[700_003..700_006].copy_from_slice(b"two");
        assert!(read.join().unwrap().unwrap() == expected);
    }

    #[test]
    fn a_reader_that_has_had_enough_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = StdoutSink::new(&writer, Cleanup::default(), false).unwrap();
        drop((reader, writer));

        let error = sink.write(b"one", GuestOffset(0)).unwrap_err();

        assert_eq!(error.to_string(), "cannot write at 0x0");
        assert!(matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe));
    }
}
