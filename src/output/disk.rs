//! A disk while it is written: every byte of it is dealt with once, in ascending order.

use std::io;
use std::ops::Range;

use super::{AtomicFile, Cleanup, Device, DeviceTarget, Settled, Stdout, Target, device};
use crate::error::Result;
use crate::units::GuestOffset;

/// A shorter hole in a file costs more than the zeros it stands for: an extent of its own, and a write cut in two.
const SMALLEST_HOLE: u64 = 32 << 10;

/// A disk being written, until it is complete.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum DiskWriter {
    /// To a file: what is not written is a hole.
    File(AtomicFile),
    /// To a device: what is not dealt with stays.
    Device(Device),
    /// To standard output: all of it.
    Stdout(Stdout),
}

impl DiskWriter {
    /// Begins to write. A device or a stream is incomplete from the first write on until it is published, and `cleanup`
    /// knows.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if a device is in use by now, or standard output is a terminal or
    ///   closed.
    /// - [`Error::Io`](crate::Error::Io) if the target cannot be opened or created.
    pub fn open(target: Target<DeviceTarget>, cleanup: Cleanup, sync: bool) -> Result<Self> {
        Ok(match target {
            Target::File(target) => Self::File(AtomicFile::create(target, cleanup, sync)?.sparse()),
            Target::Device(target) => Self::Device(Device::open(target, cleanup, sync)?),
            Target::Stdout => Self::Stdout(Stdout::new(io::stdout(), cleanup, sync)?),
        })
    }

    /// The shortest stretch of zeros, in bytes, that is worth a call of [`zero`](Self::zero) between two of
    /// [`write`](Self::write).
    pub fn smallest_hole(&self) -> u64 {
        match self {
            Self::File(_) => SMALLEST_HOLE,
            Self::Device(_) => device::SMALLEST_REQUEST,
            // They are written like anything else: here, or as part of what was read.
            Self::Stdout(_) => u64::MAX,
        }
    }

    /// Writes all of `bytes` from `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    ///
    /// # Panics
    ///
    /// If it is behind `at` by now, and a stream.
    pub fn write(&mut self, bytes: &[u8], at: GuestOffset) -> Result<()> {
        match self {
            Self::File(file) => file.write(bytes, at.0),
            Self::Device(device) => device.write(bytes, at.0),
            Self::Stdout(stream) => stream.write(bytes, at.0),
        }
    }

    /// Sees to it that the range reads as zeros once the disk is [settled](Self::settle).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails.
    ///
    /// # Panics
    ///
    /// If it is behind the beginning of the range by now, and a stream.
    pub fn zero(&mut self, range: Range<u64>) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Device(device) => device.zero(range),
            Self::Stdout(stream) => stream.zero(range),
        }
    }

    /// Passes over a range whose content is of no interest: where there was something before, it stays.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if zeros have to be written instead, and that fails.
    ///
    /// # Panics
    ///
    /// If it is behind the beginning of the range by now, and a stream.
    pub fn leave(&mut self, range: Range<u64>) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Device(device) => device.leave(),
            Self::Stdout(stream) => stream.zero(range),
        }
    }

    /// Completes a disk of `size` bytes, and brings it to stable storage if that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if that fails: then nothing that was written can be relied on.
    pub fn settle(self, size: u64) -> Result<Settled> {
        match self {
            Self::File(mut file) => {
                file.end_at(size)?;
                Settled::file(file)
            }
            Self::Device(device) => Settled::device(device),
            Self::Stdout(mut stream) => {
                stream.end_at(size)?;
                Settled::stdout(stream)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::output::Left;

    #[test]
    fn a_stream_has_zeros_where_nothing_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let cleanup = Cleanup::default();
        let mut disk = DiskWriter::Stdout(Stdout::new(&writer, cleanup.clone(), true).unwrap());
        drop(writer);
        let read = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });

        disk.write(b"one", GuestOffset(5)).unwrap();
        disk.zero(8..700_000).unwrap();
        disk.leave(700_000..700_001).unwrap();
        disk.write(b"two", GuestOffset(700_003)).unwrap();
        let settled = disk.settle(700_010).unwrap();
        assert_eq!(cleanup.left(), Left::Part);
        settled.publish().unwrap();

        assert_eq!(cleanup.left(), Left::New);
        let mut expected = vec![0; 700_010];
        expected[5..8].copy_from_slice(b"one");
        expected[700_003..700_006].copy_from_slice(b"two");
        assert!(read.join().unwrap().unwrap() == expected);
    }
}
