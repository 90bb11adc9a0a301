//! What is complete, and is not yet what the name of the target names.

use std::fs::File;

use super::{AtomicFile, Device, Kept, Published, Stdout};
use crate::error::Result;

/// An image or a disk that was written to its end, and brought to stable storage if that was asked for. A file that is
/// dropped before it is published leaves nothing behind.
#[derive(Debug)]
pub struct Settled(What);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
enum What {
    File(AtomicFile),
    Device(Device),
    Stdout(Stdout),
}

impl Settled {
    /// Settles a file.
    pub(super) fn file(mut file: AtomicFile) -> Result<Self> {
        file.settle()?;
        Ok(Self(What::File(file)))
    }

    /// Settles a device.
    pub(super) fn device(mut device: Device) -> Result<Self> {
        device.settle()?;
        Ok(Self(What::Device(device)))
    }

    /// Settles a stream.
    pub(super) fn stdout(stream: Stdout) -> Result<Self> {
        stream.settle()?;
        Ok(Self(What::Stdout(stream)))
    }

    /// What it has of the one that it replaces.
    pub fn kept(&self) -> Kept {
        match &self.0 {
            What::File(file) => file.kept(),
            What::Device(_) | What::Stdout(_) => Kept::ALL,
        }
    }

    /// What was written, for reading it back; none of a stream.
    pub fn written(&self) -> Option<&File> {
        match &self.0 {
            What::File(file) => Some(file.written()),
            What::Device(device) => Some(device.written()),
            What::Stdout(_) => None,
        }
    }

    /// Writes bytes of a file or device once more, each in its place, brings them to stable storage if that was asked for, and
    /// reads them back.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if that fails.
    /// - [`Error::ReadBack`](crate::Error::ReadBack) if anything else is there.
    pub fn patch(&mut self, patches: &[(u64, Vec<u8>)]) -> Result<()> {
        match &mut self.0 {
            What::Device(device) if !patches.is_empty() => device.patch(patches),
            What::File(file) if !patches.is_empty() => file.patch(patches),
            What::Device(_) | What::File(_) | What::Stdout(_) => Ok(()),
        }
    }

    /// Makes it what the name of the target names.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if there is a file by that name by now which must be left alone.
    /// - [`Error::Io`](crate::Error::Io) if the name cannot be given.
    pub fn publish(self) -> Result<Published> {
        match self.0 {
            What::File(file) => return file.publish(),
            What::Device(device) => device.publish()?,
            What::Stdout(stream) => stream.publish()?,
        }
        Ok(Published::AsAsked)
    }
}
