//! A disk on a block device, which is written in place.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use super::writeback::Writeback;
use super::{Cleanup, DeviceTarget, close_once};
use crate::error::{Action, Error, Result};
use crate::units::{Exact, length, rest_of, to_u64, to_usize, within};

/// A request to the device for fewer zeros than this, in bytes, costs more than writing them.
pub(super) const SMALLEST_REQUEST: u64 = 1 << 20;

/// A request for more zeros than this, in bytes, is made in parts: some devices take long, and nobody can stop
/// a request.
const LARGEST_REQUEST: u64 = 256 << 20;

/// The unit of the cache that is written through, in bytes.
const PAGE: u64 = 4096;

/// As much as is written in one go.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A block device that is being written. Dropped before it is published, it is left as far as it was written.
#[derive(Debug)]
pub struct Device {
    file: File,
    /// Requests are made in multiples of so many bytes: pages, or the blocks of the device if they are larger.
    block_size: u64,
    how: How,
    is_touched: bool,
    /// What must become zeros, in one go once its end is known.
    pending: Range<u64>,
    writeback: Writeback,
    sync: bool,
    cleanup: Cleanup,
    _others: Vec<File>,
}

/// How a device is made to read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It forgets the range. The kernel asks for this only where zeros are what is read from then on.
    Deallocate,
    /// It writes zeros by itself, or the kernel does.
    Request,
    /// We write zeros.
    Write,
}

impl Device {
    /// Opens a device for writing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if somebody uses it by now.
    /// - [`Error::Io`] if it cannot be opened, or what others wrote earlier cannot be brought to the disk.
    pub(super) fn open(target: DeviceTarget, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let (file, others) = target.open()?;
        let block_size = rustix::fs::ioctl_blksszget(&file)
            .map_or(PAGE, u64::from)
            .max(PAGE);
        Ok(Self {
            file,
            block_size,
            how: How::Deallocate,
            is_touched: false,
            pending: 0..0,
            writeback: Writeback::new(sync),
            sync,
            cleanup,
            _others: others,
        })
    }

    /// From now on the device is neither what it was nor what it will be.
    fn touch(&mut self) {
        if !self.is_touched {
            self.cleanup.begin_in_place();
            self.is_touched = true;
        }
    }

    /// Writes all of `bytes` from `at` on, behind everything so far.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.flush()?;
        self.put(bytes, at)
    }

    /// Sees to it that the range reads as zeros once the device is settled.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<()> {
        if self.pending.end != range.start {
            self.flush()?;
            self.pending.start = range.start;
        }
        self.pending.end = range.end;
        if length(&self.pending) >= LARGEST_REQUEST {
            self.flush()?;
        }
        Ok(())
    }

    /// Passes over what comes next: it stays.
    pub(super) fn leave(&mut self) -> Result<()> {
        self.flush()
    }

    /// Makes an end of writing, and brings the disk to stable storage if that was asked for.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.flush()?;
        if self.sync {
            self.file
                .sync_data()
                .map_err(|error| Error::target_io(Action::Sync, error))?;
        }
        close_once(&self.file).map_err(|error| Error::target_io(Action::Close, error))
    }

    /// Writes bytes once more, each in its place, brings them to stable storage if that was asked for, and reads them
    /// back.
    pub(super) fn patch(&mut self, patches: &[(u64, Vec<u8>)]) -> Result<()> {
        for (at, bytes) in patches {
            self.put(bytes, *at)?;
        }
        self.settle()?;
        // Advice. What is synced can be dropped.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        for (at, bytes) in patches {
            let mut found = vec![0; bytes.len()];
            self.file
                .read_exact_at(&mut found, *at)
                .map_err(|error| Error::target_io(Action::Read(*at), error))?;
            if found != *bytes {
                return Err(Error::ReadBack(*at..at.plus(to_u64(bytes.len()))));
            }
        }
        Ok(())
    }

    /// What was written, for reading it back.
    pub(super) fn written(&self) -> &File {
        &self.file
    }

    /// The disk is complete.
    pub(super) fn publish(self) -> Result<()> {
        self.cleanup.publish(|| Ok(()))
    }

    fn put(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.touch();
        self.file
            .write_all_at(bytes, at)
            .map_err(|error| Error::target_io(Action::Write(at), error))?;
        self.writeback.wrote(&self.file, at, to_u64(bytes.len()));
        Ok(())
    }

    fn put_zeros(&mut self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            // Pieces end where the device's own would.
            let boundary = at.plus(rest_of(at, to_u64(ZEROS.len())));
            let end = boundary.min(range.end);
            let (zeros, _) = ZEROS.split_at(to_usize(end.minus(at)));
            self.put(zeros, at)?;
            at = end;
        }
        Ok(())
    }

    /// Deals with what is pending.
    fn flush(&mut self) -> Result<()> {
        let range = std::mem::replace(&mut self.pending, 0..0);
        let aligned = range.start.next_multiple_of(self.block_size)
            ..range.end.minus(within(range.end, self.block_size));
        if aligned.is_empty() || length(&aligned) < SMALLEST_REQUEST {
            return self.put_zeros(range);
        }
        self.put_zeros(range.start..aligned.start)?;
        let mut at = aligned.start;
        while at < aligned.end {
            let end = aligned.end.min(at.plus(LARGEST_REQUEST));
            self.request(at..end)?;
            at = end;
        }
        self.put_zeros(aligned.end..range.end)
    }

    /// Makes an aligned range read as zeros, in the best way that the device has turned out to know.
    fn request(&mut self, range: Range<u64>) -> Result<()> {
        self.touch();
        loop {
            let mode = match self.how {
                How::Deallocate => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                How::Request => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                How::Write => return self.put_zeros(range),
            };
            match rustix::fs::fallocate(&self.file, mode, range.start, length(&range)) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::NODEV) => {
                    self.how = match self.how {
                        How::Deallocate => How::Request,
                        How::Request | How::Write => How::Write,
                    };
                }
                Err(error) => return Err(Error::target_io(Action::Zero(range.start), error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::output::Left;

    const MIB: u64 = 1 << 20;

    impl Device {
        /// A file in the place of a device.
        fn over(file: File, how: How) -> Self {
            Self {
                file,
                block_size: PAGE,
                how,
                is_touched: false,
                pending: 0..0,
                writeback: Writeback::new(true),
                sync: true,
                cleanup: Cleanup::default(),
                _others: Vec::new(),
            }
        }
    }

    /// A file that is full of old data.
    fn full_of_ff(name: &str, size: u64) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("mkqcow2-{name}-{}", std::process::id()));
        std::fs::write(&path, vec![0xff; to_usize(size)]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        (path, file)
    }

    #[test]
    fn what_is_zeroed_is_zeros_what_is_left_stays_and_nothing_else_is_touched() {
        let zeroed = [
            100..612,
            MIB + 1..MIB + 4095,
            2 * MIB + 7..2 * MIB + 1000,
            // These two are one.
            2 * MIB + 1000..4 * MIB + 5,
            6 * MIB..7 * MIB,
            // The end of the disk, not of the device.
            9 * MIB - 512..9 * MIB,
        ];
        for how in [How::Deallocate, How::Request, How::Write] {
            let (path, file) = full_of_ff(&format!("device-{how:?}"), 10 * MIB);
            let mut device = Device::over(file, how);
            let mut expected = vec![0xff; to_usize(10 * MIB)];
            device.write(b"data", 96).unwrap();
            expected[96..100].copy_from_slice(b"data");
            for range in zeroed.clone() {
                if range.start == 6 * MIB {
                    // What is between the two stays.
                    device.leave().unwrap();
                }
                device.zero(range.clone()).unwrap();
                expected[to_usize(range.start)..to_usize(range.end)].fill(0);
            }
            device.settle().unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "{how:?}");
            assert_eq!(device.how, how);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn where_no_request_is_known_zeros_are_written() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut device = Device::over(null, How::Deallocate);
        device.zero(0..3 * MIB).unwrap();
        device.flush().unwrap();
        assert_eq!(device.how, How::Write);
    }

    #[test]
    fn a_device_is_incomplete_from_the_first_write_to_the_last() {
        let (path, file) = full_of_ff("device-left", 1);
        let mut device = Device::over(file, How::Write);
        let cleanup = device.cleanup.clone();
        assert_eq!(cleanup.left(), Left::Old);
        device.write(b"x", 0).unwrap();
        assert_eq!(cleanup.left(), Left::Part);
        device.publish().unwrap();
        assert_eq!(cleanup.left(), Left::New);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_error_of_the_device_is_one_wherever_it_comes_up() {
        let full = || Device::over(File::options().write(true).open("/dev/full").unwrap(), How::Write);
        let error = full().write(b"x", 512).unwrap_err();
        assert_eq!(error.to_string(), "cannot write at 0x200");
        let mut device = full();
        device.zero(4096..8192).unwrap();
        let error = device.settle().unwrap_err();
        assert_eq!(error.to_string(), "cannot write at 0x1000");
        let mut device = full();
        device.zero(4096..8192).unwrap();
        assert!(device.write(b"x", 8192).is_err());
    }
}
