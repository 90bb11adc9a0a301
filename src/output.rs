//! Where an image goes, or a disk.

mod cleanup;
mod close;
mod conflict;
mod destination;
mod device;
mod file;
mod ground;
mod links;
mod outlet;
mod rights;
mod room;
mod stdout;
mod target;
mod temporary;
mod two_pass;
mod writeback;

use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;

pub use cleanup::{Cleanup, Left, Remains};
pub use close::close_once;
pub use destination::{Demand, Destination, Place};
pub use device::{DeviceSink, DeviceTarget};
pub use file::{FileSink, Published};
pub use ground::Memory;
pub use outlet::{Outlet, Resolved, Rules};
pub use rights::Kept;
pub(crate) use stdout::name_scratch;
pub use stdout::{StdoutSink, was_closed};
pub use target::Target;
pub use two_pass::{FirstPass, SecondPass};

use crate::error::Result;
use crate::units::{GuestOffset, HostOffset};

/// An image being written.
pub trait Sink {
    /// Writes all of `bytes` from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()>;

    /// Reads what was written before.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()>;

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

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        (**self).write_at(bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        (**self).read_at(bytes, at)
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        (**self).set_len(length)
    }

    fn scratch(&self) -> Result<File> {
        (**self).scratch()
    }
}

/// What was written, and is not yet what the name of the target names.
pub trait Unpublished: Debug {
    /// What it has of the one that it replaces.
    fn kept(&self) -> Kept;

    /// Makes it what the name of the target names.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if there is a file by that name by now which must be left alone.
    /// - [`Error::Io`](crate::Error::Io) if the name cannot be given.
    fn publish(self: Box<Self>) -> Result<Published>;
}

/// An image being written, until it is complete.
pub trait ImageSink: Sink + Unpublished {
    /// Makes an end of writing, and brings the image to stable storage if that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails: then nothing that was written can be relied on.
    fn sync(&mut self) -> Result<()>;
}

/// A disk being written: every byte of it is dealt with once, in ascending order.
pub trait DiskSink: Unpublished {
    /// The shortest stretch of zeros, in bytes, that is worth a call of [`zero`](Self::zero) between two of
    /// [`write`](Self::write).
    fn smallest_hole(&self) -> u64;

    /// Writes all of `bytes` from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn write(&mut self, bytes: &[u8], at: GuestOffset) -> Result<()>;

    /// Sees to it that the range reads as zeros once the sink is [settled](Self::settle).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    fn zero(&mut self, range: Range<u64>) -> Result<()>;

    /// Passes over a range whose content is of no interest: where there was something before, it stays.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if zeros have to be written instead, and that fails.
    fn leave(&mut self, range: Range<u64>) -> Result<()>;

    /// Completes a disk of `size` bytes, and brings it to stable storage if that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails: then nothing that was written can be relied on.
    fn settle(&mut self, size: u64) -> Result<()>;

    /// What was written, for reading it back; none of a stream.
    fn written(&self) -> Option<&File>;
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

    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        let at = crate::units::to_usize(at.0);
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.bytes.resize(crate::units::to_usize(length), 0);
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        let directory = File::open(std::env::temp_dir()).unwrap();
        temporary::scratch(&directory, "memory".as_ref(), &Cleanup::default())
    }
}
