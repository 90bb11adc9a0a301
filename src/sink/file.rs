//! An image in a regular file, which has its name only once it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::room::Room;
use super::temporary::{named, remove_stale, scratch, unnamed, with_temporary_name};
use super::writeback::Writeback;
use super::{Cleanup, DiskSink, ImageSink, Sink, Target, Unpublished, close_once};
use crate::devices::{FileId, own_path};
use crate::error::{Action, Error, Invalid, Result};
use crate::units::{GuestOffset, HostOffset, to_u64};

/// A shorter hole in a file costs more than the zeros it stands for: an extent of its own, and a write cut in two.
const SMALLEST_HOLE: u64 = 32 << 10;

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
    room: Room,
    writeback: Writeback,
}

/// Whether the owner of the image that is replaced will own the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There was none, or it is kept.
    All,
    /// The system does not allow it.
    NotTheOwner,
}

/// What became of the name of the image.
#[derive(Debug)]
pub enum Published {
    /// As surely as was asked for.
    AsAsked,
    /// The image is in place, but its directory could not be synced.
    Perhaps(io::Error),
    /// The directory has another name by now, and with it the image.
    Elsewhere,
}

impl FileSink {
    /// Begins an image. Unless `sync`, nothing is brought to stable storage.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no file can be created in the directory of the target.
    pub fn create(target: Target, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::target_io(Action::Create, error);
        let directory = File::open(target.directory()).map_err(failed)?;
        match remove_stale(&directory, &target) {
            // Some FUSE filesystems list nothing, and take a file all the same.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(Error::target_io(Action::ListDirectory, error));
            }
            Ok(()) | Err(_) => {}
        }
        let (file, temporary) = match unnamed(&directory).map_err(failed)? {
            Some(file) => (file, None),
            None => named(&directory, &target, &cleanup)
                .map(|(name, file)| (file, Some(name)))
                .map_err(|error| failed(error.into()))?,
        };
        let room = Room::of(&file);
        Ok(Self {
            file,
            target,
            directory,
            temporary,
            cleanup,
            sync,
            kept: Kept::All,
            room,
            writeback: Writeback::new(sync),
        })
    }

    /// Whatever is left out stays a hole, and takes no room.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.room.keep_holes();
        self
    }

    /// Gives the file the owner and the mode of the one it is to replace, as they are by now.
    fn keep_mode(&mut self) -> Result<()> {
        let path = self.target.directory().join(self.target.name());
        let now = path.symlink_metadata().ok().filter(Metadata::is_file);
        let Some(old) = now.as_ref().or(self.target.existing()) else {
            return Ok(());
        };
        let failed = |error| Error::target_io(Action::KeepMode, error);
        let own = self.file.metadata().map_err(failed)?;
        let mut mode = old.mode() & 0o777;
        if (own.uid(), own.gid()) != (old.uid(), old.gid())
            && fchown(&self.file, Some(old.uid()), Some(old.gid())).is_err()
        {
            self.kept = Kept::NotTheOwner;
            // The group alone, at least. Another group must not get its rights.
            if fchown(&self.file, None, Some(old.gid())).is_err() {
                mode &= !0o070;
            }
        }
        // A change of the owner may have cleared bits. FAT and its like have one mode for all, and allow nobody
        // else to set it, not even to what it is.
        if self.file.metadata().map_err(failed)?.mode() & 0o7777 == mode {
            return Ok(());
        }
        self.file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(failed)
    }

    /// Whether owner and group are those of the file it replaces.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Gives the file the owner and the mode of the one it is to replace, and brings what was written to stable
    /// storage, if that was asked for. Closes it once, in any case.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that fails: then nothing that was written can be relied on.
    pub fn settle(&mut self) -> Result<()> {
        self.keep_mode()?;
        if self.sync {
            self.file
                .sync_data()
                .map_err(|error| Error::target_io(Action::Sync, error))?;
        }
        close_once(&self.file).map_err(|error| Error::target_io(Action::Close, error))
    }

    /// Gives the image its name, in one step: whoever opens that name gets the old image or all of the new one.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if there is a file by that name by now which must be left alone.
    /// - [`Error::Io`] if the name cannot be given. In both cases the old image is as it was.
    pub fn publish(mut self) -> Result<Published> {
        let no_clobber = self.target.no_clobber();
        let failed = |error: Errno| match error {
            Errno::EXIST if no_clobber => Invalid::TargetExists.into(),
            other => Error::target_io(Action::Publish, other),
        };
        match self.temporary.clone() {
            Some(temporary) => self.rename(&temporary),
            None => self.link(),
        }
        .map_err(failed)?;
        let id = |metadata: Metadata| FileId::of(&metadata);
        if self.target.directory().metadata().ok().map(id) != self.directory.metadata().ok().map(id) {
            return Ok(Published::Elsewhere);
        }
        if !self.sync {
            return Ok(Published::AsAsked);
        }
        // Not every filesystem can sync a directory; those that cannot have no more to offer.
        match rustix::fs::fsync(&self.directory) {
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Published::AsAsked),
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
        let (temporary, ()) = with_temporary_name(self.target.name(), |name| {
            self.cleanup.create(&self.directory, name, || link(name))
        })?;
        self.temporary = Some(temporary.clone());
        self.rename(&temporary)
    }

    fn rename(&mut self, temporary: &OsStr) -> rustix::io::Result<()> {
        let (directory, name) = (&self.directory, self.target.name());
        let replace = || rustix::fs::renameat(directory, temporary, directory, name);
        let no_replace =
            || rustix::fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE);
        let link = || rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty());
        if self.target.no_clobber() {
            match self.cleanup.publish(no_replace) {
                // The filesystem knows no such flag. A link never replaces anything either.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.cleanup.publish_link(link)?,
                result => result?,
            }
        } else {
            self.cleanup.publish(replace)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Sink for FileSink {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        self.room.take(&self.file, at.0, to_u64(bytes.len()));
        self.file
            .write_all_at(bytes, at.0)
            .map_err(|error| Error::target_io(Action::Write(at.0), error))?;
        self.writeback.wrote(&self.file, at.0, to_u64(bytes.len()));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        self.file
            .read_exact_at(bytes, at.0)
            .map_err(|error| Error::target_io(Action::Read(at.0), error))
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .map_err(|error| Error::target_io(Action::Write(length), error))
    }

    fn scratch(&self) -> Result<File> {
        scratch(&self.directory, self.target.name(), &self.cleanup)
    }
}

impl ImageSink for FileSink {
    fn sync(&mut self) -> Result<()> {
        FileSink::settle(self)
    }
}

impl Unpublished for FileSink {
    fn kept(&self) -> Kept {
        self.kept
    }

    fn publish(self: Box<Self>) -> Result<Published> {
        FileSink::publish(*self)
    }
}

/// A disk as a file: what is not written is a hole.
impl DiskSink for FileSink {
    fn smallest_hole(&self) -> u64 {
        SMALLEST_HOLE
    }

    fn write(&mut self, bytes: &[u8], at: GuestOffset) -> Result<()> {
        self.write_at(bytes, HostOffset(at.0))
    }

    fn zero(&mut self, _: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn leave(&mut self, _: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn settle(&mut self, size: u64) -> Result<()> {
        self.room.give_back(&self.file, size);
        self.set_len(size)?;
        FileSink::settle(self)
    }

    fn written(&self) -> Option<&File> {
        Some(&self.file)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            self.cleanup.remove();
        }
    }
}
