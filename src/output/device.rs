//! A disk on a block device, which is written in place.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::conflict::forced;
use super::writeback::Writeback;
use super::{Cleanup, DiskSink, Kept, Published, Unpublished, close_once};
use crate::devices::usage::Users;
use crate::devices::{DeviceNumber, Kernel, Subject, claim, flush};
use crate::error::{Action, Error, InUse, Invalid, Result};
use crate::units::{GuestOffset, length, to_u64, to_usize};

/// A request to the device for fewer zeros than this, in bytes, costs more than writing them.
const SMALLEST_REQUEST: u64 = 1 << 20;

/// A request for more zeros than this, in bytes, is made in parts: some devices take long, and nobody can stop
/// a request.
const LARGEST_REQUEST: u64 = 256 << 20;

/// The unit of the cache that is written through, in bytes.
const PAGE: u64 = 4096;

/// How often it is tried to hold a device, and how long to wait in between: the kernel itself holds one for a
/// moment while it looks for partitions.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// As much as is written in one go.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A block device that nobody uses, held so that nobody begins to.
#[derive(Debug)]
pub struct DeviceTarget {
    path: PathBuf,
    number: DeviceNumber,
    users: Users,
    size: u64,
    /// The device itself, opened for reading and exclusively.
    own: File,
    /// Other devices that show the same bytes.
    others: Vec<File>,
}

impl DeviceTarget {
    /// Looks who uses the device at `path`, and keeps others from it. Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if anybody uses it, even if only for reading, or nobody may write to it; or, unless `force`d, if
    ///   that cannot be found out, which is kept in `unknown` else.
    /// - [`Error::Io`] if it cannot be opened or examined.
    pub fn resolve(
        path: &Path,
        number: DeviceNumber,
        force: bool,
        unknown: &mut Option<InUse>,
    ) -> Result<Self> {
        let mut refuse = |user: Option<InUse>| {
            let refused = user.map_or(Ok(()), |user| Err(Invalid::TargetInUse(user).into()));
            forced(refused, force, unknown)
        };
        let failed = |error: Errno| Error::target_io(Action::Open, error);
        let kernel = Kernel::running();
        let users = kernel.users(Subject::Device(number));
        refuse(users.anybody())?;
        if users.layers().get(number).is_some_and(|layer| layer.is_read_only) {
            return Err(Invalid::TargetReadOnly.into());
        }
        rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(failed)?;
        let own = open_exclusively(path, OFlags::RDONLY, number)?;
        let others = claim::claim_others_for_writing(&kernel, &users, path);
        refuse(others.refused)?;
        let size = rustix::fs::seek(&own, SeekFrom::End(0))
            .map_err(|error| Error::target_io(Action::Examine, error))?;
        Ok(Self {
            path: path.to_owned(),
            number,
            users,
            size,
            own,
            others: others.held,
        })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of its sectors in bytes, if the system tells it.
    pub fn sector_size(&self) -> Option<u64> {
        rustix::fs::ioctl_blksszget(&self.own).ok().map(u64::from)
    }

    /// Opens it for writing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if somebody uses it by now.
    /// - [`Error::Io`] if it cannot be opened, or what others wrote earlier cannot be brought to the disk.
    pub fn open(self, cleanup: Cleanup, sync: bool) -> Result<DeviceSink> {
        // The kernel lets a device be held once: whoever comes between the two calls makes the second one fail.
        drop(self.own);
        let file = open_exclusively(&self.path, OFlags::RDWR, self.number)?;
        // Or what others wrote earlier, through devices that show the same bytes, would come on top.
        flush::flush(&Kernel::running(), &self.users, &self.path)
            .map_err(|unwritten| Error::target_io(Action::Settle, io::Error::other(unwritten)))?;
        let block_size = rustix::fs::ioctl_blksszget(&file)
            .map_or(PAGE, u64::from)
            .max(PAGE);
        Ok(DeviceSink {
            file,
            block_size,
            how: How::Deallocate,
            is_touched: false,
            pending: 0..0,
            writeback: Writeback::new(sync),
            sync,
            cleanup,
            _others: self.others,
        })
    }
}

fn open_exclusively(path: &Path, access: OFlags, number: DeviceNumber) -> Result<File> {
    let flags = access | OFlags::EXCL | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let mut attempts = 1;
    let mut opened = open();
    while opened.as_ref().err() == Some(&Errno::BUSY) && attempts < ATTEMPTS {
        std::thread::sleep(PAUSE);
        attempts += 1;
        opened = open();
    }
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::BUSY) => return Err(Invalid::TargetInUse(InUse::Busy { device: None }).into()),
        Err(Errno::ROFS) => return Err(Invalid::TargetReadOnly.into()),
        Err(error) => return Err(Error::target_io(Action::Open, error)),
    };
    let metadata = file
        .metadata()
        .map_err(|error| Error::target_io(Action::Examine, error))?;
    if Subject::of(&metadata) == Some(Subject::Device(number)) {
        Ok(file)
    } else {
        Err(Invalid::TargetReplaced.into())
    }
}

/// A block device that is being written. Dropped before it is published, it is left as far as it was written.
#[derive(Debug)]
pub struct DeviceSink {
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

impl DeviceSink {
    /// From now on the device is neither what it was nor what it will be.
    fn touch(&mut self) {
        if !self.is_touched {
            self.cleanup.begin_in_place();
            self.is_touched = true;
        }
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
            let boundary = at.saturating_add(1).next_multiple_of(to_u64(ZEROS.len()));
            let end = boundary.min(range.end);
            let (zeros, _) = ZEROS.split_at(to_usize(end.saturating_sub(at)).min(ZEROS.len()));
            self.put(zeros, at)?;
            at = end;
        }
        Ok(())
    }

    /// Deals with what is pending.
    fn flush(&mut self) -> Result<()> {
        let range = std::mem::replace(&mut self.pending, 0..0);
        let aligned = range.start.next_multiple_of(self.block_size)
            ..range.end.saturating_sub(range.end % self.block_size);
        if aligned.is_empty() || length(&aligned) < SMALLEST_REQUEST {
            return self.put_zeros(range);
        }
        self.put_zeros(range.start..aligned.start)?;
        let mut at = aligned.start;
        while at < aligned.end {
            let end = aligned.end.min(at.saturating_add(LARGEST_REQUEST));
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

impl Unpublished for DeviceSink {
    fn kept(&self) -> Kept {
        Kept::ALL
    }

    fn publish(self: Box<Self>) -> Result<Published> {
        self.cleanup.publish(|| Ok::<_, Error>(()))?;
        Ok(Published::AsAsked)
    }
}

impl DiskSink for DeviceSink {
    fn smallest_hole(&self) -> u64 {
        SMALLEST_REQUEST
    }

    fn write(&mut self, bytes: &[u8], at: GuestOffset) -> Result<()> {
        self.flush()?;
        self.put(bytes, at.0)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
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

    fn leave(&mut self, _: Range<u64>) -> Result<()> {
        self.flush()
    }

    fn settle(&mut self, _: u64) -> Result<()> {
        self.flush()?;
        if self.sync {
            self.file
                .sync_data()
                .map_err(|error| Error::target_io(Action::Sync, error))?;
        }
        close_once(&self.file).map_err(|error| Error::target_io(Action::Close, error))
    }

    fn written(&self) -> Option<&File> {
        Some(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Left;

    const MIB: u64 = 1 << 20;

    impl DeviceSink {
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
        let left = 4 * MIB + 5..6 * MIB;
        for how in [How::Deallocate, How::Request, How::Write] {
            let (path, file) = full_of_ff(&format!("device-{how:?}"), 10 * MIB);
            let mut sink = DeviceSink::over(file, how);
            let mut expected = vec![0xff; to_usize(10 * MIB)];
            sink.write(b"data", GuestOffset(96)).unwrap();
            expected[96..100].copy_from_slice(b"data");
            for range in zeroed.clone() {
                if range.start == 6 * MIB {
                    sink.leave(left.clone()).unwrap();
                }
                sink.zero(range.clone()).unwrap();
                expected[to_usize(range.start)..to_usize(range.end)].fill(0);
            }
            sink.settle(9 * MIB).unwrap();
            assert!(std::fs::read(&path).unwrap() == expected, "{how:?}");
            assert_eq!(sink.how, how);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn where_no_request_is_known_zeros_are_written() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut sink = DeviceSink::over(null, How::Deallocate);
        sink.zero(0..3 * MIB).unwrap();
        sink.flush().unwrap();
        assert_eq!(sink.how, How::Write);
    }

    #[test]
    fn a_device_is_incomplete_from_the_first_write_to_the_last() {
        let (path, file) = full_of_ff("device-left", 1);
        let mut sink = Box::new(DeviceSink::over(file, How::Write));
        let cleanup = sink.cleanup.clone();
        assert_eq!(cleanup.left(), Left::Old);
        sink.write(b"x", GuestOffset(0)).unwrap();
        assert_eq!(cleanup.left(), Left::Part);
        sink.publish().unwrap();
        assert_eq!(cleanup.left(), Left::New);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_error_of_the_device_is_one_wherever_it_comes_up() {
        let full = || DeviceSink::over(File::options().write(true).open("/dev/full").unwrap(), How::Write);
        let error = full().write(b"x", GuestOffset(512)).unwrap_err();
        assert_eq!(error.to_string(), "cannot write at 0x200");
        let mut sink = full();
        sink.zero(4096..8192).unwrap();
        let error = sink.settle(8192).unwrap_err();
        assert_eq!(error.to_string(), "cannot write at 0x1000");
        let mut sink = full();
        sink.zero(4096..8192).unwrap();
        assert!(sink.write(b"x", GuestOffset(8192)).is_err());
    }
}
