//! A block device, held before anything is written to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, Advice, AtFlags, CWD, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::conflict::forced;
use crate::devices::usage::Users;
use crate::devices::{DeviceNumber, Identity, Kernel, Subject, claim, flush};
use crate::error::{Action, Error, InUse, Invalid, Result};

/// How often it is tried to hold a device, and how long to wait in between: the kernel itself holds one for a
/// moment while it looks for partitions.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

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
    pub(super) fn resolve(
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
        let own = open_exclusively(path, OFlags::RDONLY, number, &users)?;
        let others = claim::claim_others_for_writing(&kernel, &users, path);
        refuse(others.refused)?;
        // What the cache still holds of an earlier reading may be older than what a partition wrote past it.
        let _ = rustix::fs::fadvise(&own, 0, None, Advice::DontNeed);
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

    /// Its model and serial number, or those of the disk that it is a partition of, as far as the kernel tells them.
    pub(crate) fn identity(&self) -> Identity {
        Kernel::running().identity(self.number)
    }

    /// Fills `buf` with what it holds at `at`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that cannot be read.
    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let read = self.own.read_exact_at(buf, at);
        read.map_err(|error| Error::target_io(Action::Read(at), error))
    }

    /// Opens it for writing, and exclusively, as it was all along. Tells the device, and what else is held.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if somebody uses it by now.
    /// - [`Error::Io`] if it cannot be opened, or what others wrote earlier cannot be brought to the disk.
    pub(in crate::output) fn open(self) -> Result<(File, Vec<File>)> {
        // The kernel lets a device be held once: whoever comes between the two calls makes the second one fail.
        drop(self.own);
        let file = open_exclusively(&self.path, OFlags::RDWR, self.number, &self.users)?;
        // Or what others wrote earlier, through devices that show the same bytes, would come on top.
        flush::flush(&Kernel::running(), &self.users, &self.path)
            .map_err(|unwritten| Error::target_io(Action::Settle, io::Error::other(unwritten)))?;
        Ok((file, self.others))
    }
}

fn open_exclusively(path: &Path, access: OFlags, number: DeviceNumber, users: &Users) -> Result<File> {
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
        Err(Errno::BUSY) => {
            let busy = claim::busy(&Kernel::running(), users, None);
            return Err(Invalid::TargetInUse(busy).into());
        }
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
