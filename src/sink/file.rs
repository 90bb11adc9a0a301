//! An image in a regular file, which has its name only once it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Cleanup, Sink, Target};
use crate::error::{Action, Error, Invalid, Result};
use crate::units::{HostOffset, to_u64};

/// A new image is its owner's business: it holds the files of everybody.
const NEW_IMAGE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Writing to the disk begins whenever this many bytes are behind, so that it overlaps with copying.
const WRITEBACK: u64 = 8 << 20;

/// An image file being written. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    target: Target,
    directory: File,
    /// The name it has while it is written; none where the filesystem can do without.
    temporary: Option<OsString>,
    cleanup: Cleanup,
    sync: bool,
    kept: Kept,
    /// The range that was written last and may still be in memory only.
    behind: std::ops::Range<u64>,
}

/// Whether the owner of the image that is replaced will own the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There was none, or it is kept.
    All,
    /// The system does not allow it.
    NotTheOwner,
}

/// Whether the new name will survive a power failure.
#[derive(Debug)]
pub enum Published {
    /// As far as was asked for.
    Durably,
    /// The image is in place, but its directory could not be synced.
    Perhaps(io::Error),
}

impl FileSink {
    /// Begins an image. Unless `sync`, nothing is brought to stable storage.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no file can be created in the directory of the target, or it cannot be given the mode
    /// of the file it is to replace.
    pub fn create(target: Target, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::image_io(Action::Create, error);
        let directory = File::open(target.directory()).map_err(failed)?;
        let (file, temporary) = match unnamed(&directory).map_err(failed)? {
            Some(file) => (file, None),
            None => named(&directory, &target, &cleanup)
                .map(|(file, name)| (file, Some(name)))
                .map_err(failed)?,
        };
        let mut sink = Self {
            file,
            target,
            directory,
            temporary,
            cleanup,
            sync,
            kept: Kept::All,
            behind: 0..0,
        };
        sink.keep_mode()?;
        Ok(sink)
    }

    /// Gives the file the owner and the mode of the one it is to replace.
    fn keep_mode(&mut self) -> Result<()> {
        let Some(old) = self.target.existing() else {
            return Ok(());
        };
        let failed = |error| Error::image_io(Action::KeepMode, error);
        let own = self.file.metadata().map_err(failed)?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid())
            && fchown(&self.file, Some(old.uid()), Some(old.gid())).is_err()
        {
            // The group alone, at least; if that fails too, the warning says so.
            let _ = fchown(&self.file, None, Some(old.gid()));
            self.kept = Kept::NotTheOwner;
        }
        self.file
            .set_permissions(Permissions::from_mode(old.mode() & 0o777))
            .map_err(failed)
    }

    /// Whether owner and group are those of the file it replaces.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Brings what was written to stable storage, if that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that fails: then nothing that was written can be relied on.
    pub fn sync(&self) -> Result<()> {
        if self.sync {
            self.file
                .sync_data()
                .map_err(|error| Error::image_io(Action::Sync, error))?;
        }
        Ok(())
    }

    /// Gives the image its name, in one step: whoever opens that name gets the old image or all of the new one.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if there is a file by that name by now which must be left alone.
    /// - [`Error::Io`] if the name cannot be given. In both cases the old image is as it was.
    pub fn publish(mut self) -> Result<Published> {
        let failed = |error: Errno| match error {
            Errno::EXIST => Invalid::ImageExists.into(),
            other => Error::image_io(Action::Publish, other),
        };
        match self.temporary.clone() {
            Some(temporary) => self.rename(&temporary),
            None => self.link(),
        }
        .map_err(failed)?;
        // Not every filesystem can sync a directory; those that cannot have no more to offer.
        match rustix::fs::fsync(&self.directory) {
            _ if !self.sync => Ok(Published::Durably),
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Published::Durably),
            Err(error) => Ok(Published::Perhaps(error.into())),
        }
    }

    /// Gives the unnamed file its name, by way of a temporary one if it replaces another.
    fn link(&mut self) -> rustix::io::Result<()> {
        let own = own_path(&self.file);
        let link =
            |name: &OsStr| rustix::fs::linkat(CWD, &own, &self.directory, name, AtFlags::SYMLINK_FOLLOW);
        if self.target.existing().is_none() {
            match self.cleanup.publish(|| link(self.target.name())) {
                // Somebody else was faster: replace that one, if we may.
                Err(Errno::EXIST) if !self.target.no_clobber() => {}
                result => return result,
            }
        }
        let temporary = temporary_name(self.target.name());
        let path = self.target.directory().join(&temporary);
        self.cleanup.create(&path, || link(&temporary))?;
        self.temporary = Some(temporary.clone());
        self.rename(&temporary)
    }

    fn rename(&mut self, temporary: &OsStr) -> rustix::io::Result<()> {
        let (directory, name) = (&self.directory, self.target.name());
        let replace = || rustix::fs::renameat(directory, temporary, directory, name);
        let no_replace = || {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(directory, temporary, directory, name, flags) {
                // The filesystem knows no such flag. A link never replaces anything either.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty())?;
                    rustix::fs::unlinkat(directory, temporary, AtFlags::empty())
                }
                result => result,
            }
        };
        self.cleanup.publish(|| {
            if self.target.no_clobber() {
                no_replace()
            } else {
                replace()
            }
        })?;
        self.temporary = None;
        Ok(())
    }
}

impl Sink for FileSink {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        self.file
            .write_all_at(bytes, at.0)
            .map_err(|error| Error::image_io(Action::Write(at.0), error))?;
        let end = at.0.saturating_add(to_u64(bytes.len()));
        if self.behind.end != at.0 {
            self.behind.start = at.0;
        }
        self.behind.end = end;
        let length = end.saturating_sub(self.behind.start);
        if self.sync && length >= WRITEBACK {
            // Starts writing, waits for nothing, and drops what is written already. Advice may be refused.
            let length = std::num::NonZeroU64::new(length);
            let _ = rustix::fs::fadvise(&self.file, self.behind.start, length, Advice::DontNeed);
            self.behind.start = end;
        }
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .map_err(|error| Error::image_io(Action::Write(length), error))
    }

    fn scratch(&self) -> Result<File> {
        scratch_in(self.target.directory())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            self.cleanup.remove();
        }
    }
}

/// A file without a name in the directory; `None` where the filesystem or the system cannot do that.
fn unnamed(directory: &File) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags, NEW_IMAGE) {
        Ok(file) => {
            let file = File::from(file);
            // The name is given by way of /proc: without it there is no way that needs no privilege.
            Ok(own_path(&file).exists().then_some(file))
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A file with a temporary name, locked for as long as somebody writes to it.
fn named(directory: &File, target: &Target, cleanup: &Cleanup) -> io::Result<(File, OsString)> {
    remove_stale(directory, target);
    let name = temporary_name(target.name());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let path = target.directory().join(&name);
    let file = cleanup.create(&path, || {
        let file = rustix::fs::openat(directory, &name, flags, NEW_IMAGE)?;
        // Filesystems without locks keep their stale files; nothing else depends on it.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok::<_, Errno>(File::from(file))
    })?;
    Ok((file, name))
}

/// Of fixed length, so that it fits whatever the name of the image is.
fn temporary_name(image: &OsStr) -> OsString {
    format!("{}{}.tmp", temporary_prefix(image), std::process::id()).into()
}

fn temporary_prefix(image: &OsStr) -> String {
    format!(".mkqcow2-{:08x}-", crc32fast::hash(image.as_bytes()))
}

/// Removes what earlier runs into the same image left behind when they were killed: temporary files that
/// nobody has locked. Whatever goes wrong here only leaves them where they are.
fn remove_stale(directory: &File, target: &Target) {
    let prefix = temporary_prefix(target.name());
    let entries = std::fs::read_dir(target.directory())
        .into_iter()
        .flatten()
        .flatten();
    for name in entries.map(|entry| entry.file_name()) {
        let is_ours = name.as_bytes().starts_with(prefix.as_bytes()) && name.as_bytes().ends_with(b".tmp");
        if !is_ours {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(directory, &name, flags, Mode::empty())
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = rustix::fs::unlinkat(directory, &name, AtFlags::empty());
        }
    }
}

/// An empty file without a name.
pub(super) fn scratch_in(directory: &Path) -> Result<File> {
    let failed = |error: io::Error| Error::image_io(Action::Scratch, error);
    let opened = File::open(directory).map_err(failed)?;
    if let Some(file) = unnamed(&opened).map_err(failed)? {
        return Ok(file);
    }
    let name = format!(".mkqcow2-scratch-{}.tmp", std::process::id());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&opened, &name, flags, NEW_IMAGE).map_err(|error| failed(error.into()))?;
    rustix::fs::unlinkat(&opened, &name, AtFlags::empty()).map_err(|error| failed(error.into()))?;
    Ok(file.into())
}
