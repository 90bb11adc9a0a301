//! Where an image goes.

mod cleanup;
mod file;
mod target;
mod temporary;

use std::fs::File;

pub use cleanup::{Cleanup, Left};
pub use file::{FileSink, Kept, Published};
pub use target::Target;

use crate::error::Result;
use crate::units::HostOffset;

/// An image file being written.
pub trait Sink {
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

/// An image in memory.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) bytes: Vec<u8>,
}

#[cfg(test)]
impl Sink for MemorySink {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        let at = crate::units::to_usize(at.0);
        self.bytes.resize(self.bytes.len().max(at + bytes.len()), 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.bytes.resize(crate::units::to_usize(length), 0);
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        let directory = File::open(std::env::temp_dir()).unwrap();
        temporary::scratch(&directory, "memory".as_ref())
    }
}
