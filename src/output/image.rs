//! An image while it is written: in any order, or in that of its bytes.

use std::fs::File;
use std::io;

use super::{AtomicFile, Cleanup, NoDevice, Settled, Stdout, Target};
use crate::error::Result;
use crate::units::HostOffset;

/// Takes an image.
pub trait WriteAt {
    /// Writes all of `bytes` from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()>;

    /// Sets the length of the image in bytes; what was not written up to there is zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn set_len(&mut self, length: u64) -> Result<()>;

    /// An empty file without a name, for reading and writing, which goes away when it is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if there can be none.
    fn scratch(&self) -> Result<File>;
}

/// Gives back what was written.
pub trait ReadBack {
    /// Fills `bytes` with what was written from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()>;
}

/// An image being written, until it is complete.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum ImageWriter {
    /// To a file: in any order, and what was written can be read back.
    File(AtomicFile),
    /// To standard output: in the order of its bytes.
    Stdout(Stdout),
}

impl ImageWriter {
    /// Begins to write. A stream is incomplete from the first write on until it is published, and `cleanup` knows.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if standard output is a terminal or closed.
    /// - [`Error::Io`](crate::Error::Io) if the target cannot be opened or created.
    pub fn open(target: Target<NoDevice>, cleanup: Cleanup, sync: bool) -> Result<Self> {
        Ok(match target {
            Target::File(target) => Self::File(AtomicFile::create(target, cleanup, sync)?),
            Target::Stdout => Self::Stdout(Stdout::new(io::stdout(), cleanup, sync)?),
        })
    }

    /// Makes an end of writing, and brings the image to stable storage if that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails: then nothing that was written can be relied on.
    pub fn settle(self) -> Result<Settled> {
        match self {
            Self::File(file) => Settled::file(file),
            Self::Stdout(stream) => Settled::stdout(stream),
        }
    }
}

impl WriteAt for AtomicFile {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        self.write(bytes, at.0)
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.end_at(length)
    }

    fn scratch(&self) -> Result<File> {
        AtomicFile::scratch(self)
    }
}

impl ReadBack for AtomicFile {
    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        self.read(bytes, at.0)
    }
}

impl WriteAt for Stdout {
    /// What was left out before is zeros.
    ///
    /// # Panics
    ///
    /// If there is something by now.
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        self.write(bytes, at.0)
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.end_at(length)
    }

    fn scratch(&self) -> Result<File> {
        Stdout::scratch(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a stream cannot go back")]
    fn an_image_that_goes_back_is_no_stream() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut image = Stdout::new(&writer, Cleanup::default(), false).unwrap();
        image.write_at(b"one", HostOffset(512)).unwrap();
        image.set_len(600).unwrap();

        image.write_at(b"two", HostOffset(599)).unwrap();
    }
}
