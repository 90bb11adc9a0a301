//! A file that has its name only once it is complete: written without one, synced, then named.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::durable::{is_fuse, sync_directory, sync_parents};
use super::room::Room;
use super::target::{FileTarget, Now};
use super::temporary::{
    move_to_free_name, named, remove_stale, scratch, unnamed, with_name_to_keep, with_temporary_name,
};
use super::writeback::Writeback;
use super::{Cleanup, Kept, Published, close_once, ground, rights};
use crate::devices::{FileId, own_path};
use crate::error::{Action, Error, Invalid, Result};
use crate::units::{Exact, to_u64};

/// A file being written. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    target: FileTarget,
    directory: File,
    /// The name it has while it is written; none where the filesystem can do without.
    temporary: Option<OsString>,
    cleanup: Cleanup,
    sync: bool,
    kept: Kept,
    room: Room,
    writeback: Writeback,
}

impl AtomicFile {
    /// Begins a file. Unless `sync`, nothing is brought to stable storage.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if the file it is to replace belongs to another user, who should not decide who may read it.
    /// - [`Error::Io`] if no file can be created in the directory of the target.
    pub(super) fn create(target: FileTarget, cleanup: Cleanup, sync: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::target_io(Action::Create, error);
        let directory = target.held().try_clone().map_err(failed)?;
        match remove_stale(&directory, target.name()) {
            // Some FUSE filesystems list nothing, and take a file all the same.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                return Err(Error::target_io(Action::ListDirectory, error));
            }
            Ok(()) | Err(_) => {}
        }
        let (file, temporary) = match unnamed(&directory).map_err(failed)? {
            Some(file) => (file, None),
            None => named(&directory, target.name(), &cleanup)
                .map(|(name, file)| (file, Some(name)))
                .map_err(|error| failed(error.into()))?,
        };
        let room = Room::of(&file);
        let created = Self {
            file,
            target,
            directory,
            temporary,
            cleanup,
            sync,
            kept: Kept::ALL,
            room,
            writeback: Writeback::new(sync),
        };
        created.target.refuse_stranger(|| created.file.metadata().ok())?;
        Ok(created)
    }

    /// Whatever is left out stays a hole, and takes no room.
    #[must_use]
    pub(super) fn sparse(mut self) -> Self {
        self.room.keep_holes();
        self
    }

    /// Writes all of `bytes` from `at` on.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.room.take(&self.file, at, to_u64(bytes.len()));
        self.file
            .write_all_at(bytes, at)
            .map_err(|error| Error::target_io(Action::Write(at), error))?;
        self.writeback.wrote(&self.file, at, to_u64(bytes.len()));
        Ok(())
    }

    /// Fills `bytes` with what was written from `at` on.
    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.file
            .read_exact_at(bytes, at)
            .map_err(|error| Error::target_io(Action::Read(at), error))
    }

    /// Ends the file behind so many bytes; what was not written up to there is zeros.
    pub(super) fn end_at(&mut self, length: u64) -> Result<()> {
        self.room.give_back(&self.file, length);
        self.file
            .set_len(length)
            .map_err(|error| Error::target_io(Action::Write(length), error))
    }

    /// An empty file without a name in the same directory, for reading and writing, which goes away when it is closed.
    pub(super) fn scratch(&self) -> Result<File> {
        scratch(&self.directory, self.target.name(), &self.cleanup)
    }

    /// What was written, for reading it back.
    pub(super) fn written(&self) -> &File {
        &self.file
    }

    /// Gives the file the rights of the one it is to replace, as they are by now.
    fn keep_rights(&mut self) -> Result<()> {
        // What has the name meanwhile decides nothing.
        if let Some(old) = self.target.existing()
            && self.target.now() != Now::Other
        {
            let kept = rights::keep(old, &self.file);
            self.kept = kept.map_err(|error| Error::target_io(Action::KeepMode, error))?;
        }
        Ok(())
    }

    /// What it has of the file that it replaces.
    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// Gives the file the rights of the one it is to replace, and brings what was written to stable storage, if that was
    /// asked for. Closes it once, in any case.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that fails: then nothing that was written can be relied on.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.keep_rights()?;
        if self.sync {
            self.file
                .sync_data()
                .map_err(|error| Error::target_io(Action::Sync, error))?;
        }
        close_once(&self.file).map_err(|error| Error::target_io(Action::Close, error))
    }

    /// Writes bytes once more, each in its place, brings them to stable storage if that was asked for, and reads them
    /// back.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if that fails.
    /// - [`Error::ReadBack`] if anything else is there.
    pub(super) fn patch(&mut self, patches: &[(u64, Vec<u8>)]) -> Result<()> {
        for (at, bytes) in patches {
            self.file
                .write_all_at(bytes, *at)
                .map_err(|error| Error::target_io(Action::Write(*at), error))?;
        }
        self.settle()?;
        // Advice. What is synced can be dropped.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        for (at, bytes) in patches {
            let mut found = vec![0; bytes.len()];
            self.read(&mut found, *at)?;
            if found != *bytes {
                return Err(Error::ReadBack(*at..at.plus(to_u64(bytes.len()))));
            }
        }
        Ok(())
    }

    /// Gives the file its name, in one step: whoever opens that name gets the old file or all of the new one.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if the name is by now that of something else: then the new file has another one.
    /// - [`Error::Io`] if the name cannot be given. In both cases the old file is as it was.
    pub(super) fn publish(mut self) -> Result<Published> {
        let failed = |error: Errno| Error::target_io(Action::Publish, error);
        let is_linked = self.must_be_linked();
        let (temporary, result) = if is_linked {
            (OsString::new(), self.link_as(self.target.name()))
        } else {
            let temporary = self.temporary().map_err(failed)?;
            // A file without a name is nothing on the disk, whatever was synced: with a name it is something, and only
            // then the name may go there.
            self.sync()?;
            let result = self.rename(&temporary);
            (temporary, result)
        };
        match result {
            Ok(()) => {}
            Err(Errno::EXIST) if self.target.no_clobber() => return Err(Invalid::TargetExists.into()),
            Err(Errno::EXIST) if !is_linked => return Err(self.keep(&temporary)),
            Err(error) => return Err(failed(error)),
        }
        let id = |metadata: Metadata| FileId::of(&metadata);
        if self.target.directory().metadata().ok().map(id) != self.directory.metadata().ok().map(id) {
            return Ok(Published::Elsewhere);
        }
        // What was linked has a name only now, which must go to the disk with it.
        let synced = if is_linked && self.sync {
            self.file.sync_all().and_then(|()| self.sync_names())
        } else {
            self.sync_names()
        };
        Ok(match synced {
            Ok(()) => Published::AsAsked,
            Err(error) => Published::Perhaps(error),
        })
    }

    /// Brings the file itself to stable storage, if that was asked for: not only its bytes, but owner, mode and the
    /// number of its names.
    fn sync(&self) -> Result<()> {
        if self.sync {
            self.file
                .sync_all()
                .map_err(|error| Error::target_io(Action::Sync, error))?;
        }
        Ok(())
    }

    /// The same of its name, of the directory that holds it, and of those above, which may be as new.
    fn sync_names(&self) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        sync_directory(&self.directory)?;
        // Where a name cannot be removed again, one that is left over is enough.
        if is_fuse(&self.directory) && self.cleanup.remains().is_none() {
            self.sync_by_another_name()?;
        }
        sync_parents(&self.directory);
        Ok(())
    }

    /// Most FUSE servers do not sync directories, and the kernel says that all is well. But a file that was given a
    /// new name takes its directory along when it is synced, on all common filesystems: so it gets one more, for that
    /// moment.
    fn sync_by_another_name(&self) -> io::Result<()> {
        // Where there are no hard links, this filesystem has no more to offer.
        let _ = self.link();
        let result = self.file.sync_all();
        self.cleanup.remove();
        result
    }

    /// Its temporary name, which an unnamed file gets only now.
    fn temporary(&mut self) -> rustix::io::Result<OsString> {
        if let Some(name) = &self.temporary {
            return Ok(name.clone());
        }
        let temporary = self.link()?;
        self.temporary = Some(temporary.clone());
        Ok(temporary)
    }

    /// Whether it can get no other name but that of the target: a temporary one could never be removed.
    fn must_be_linked(&self) -> bool {
        self.temporary.is_none() && ground::takes_names_for_ever(&self.directory)
    }

    /// Gives an unnamed file its first name.
    fn link_as(&self, name: &OsStr) -> rustix::io::Result<()> {
        let own = own_path(&self.file);
        self.cleanup
            .publish(|| rustix::fs::linkat(CWD, &own, &self.directory, name, AtFlags::SYMLINK_FOLLOW))
    }

    /// Gives it one more name, a temporary one.
    fn link(&self) -> rustix::io::Result<OsString> {
        let own = own_path(&self.file);
        let link =
            |name: &OsStr| rustix::fs::linkat(CWD, &own, &self.directory, name, AtFlags::SYMLINK_FOLLOW);
        let (temporary, ()) = with_temporary_name(self.target.name(), |name| {
            self.cleanup.create(&self.directory, name, || link(name))
        })?;
        Ok(temporary)
    }

    /// Gives it the name of the target, if that is free or still that of the old image; else `EXIST`. Whoever may
    /// change names in the directory can do so at the last moment: then what they put there is replaced, and
    /// decides nothing about the new image.
    fn rename(&mut self, temporary: &OsStr) -> rustix::io::Result<()> {
        let (directory, name) = (&self.directory, self.target.name());
        let replace = || rustix::fs::renameat(directory, temporary, directory, name);
        let no_replace =
            || rustix::fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE);
        let link = || rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty());
        match self.target.now() {
            Now::Same => self.cleanup.publish(replace)?,
            Now::Other => return Err(Errno::EXIST),
            Now::Free => match self.cleanup.publish(no_replace) {
                // The filesystem knows no such flag. A link never replaces anything either.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    match self.cleanup.publish_link(link) {
                        // It cannot make sure of it at all.
                        Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
                            if !self.target.no_clobber() =>
                        {
                            self.cleanup.publish(replace)?;
                        }
                        result => result?,
                    }
                }
                result => result?,
            },
        }
        self.temporary = None;
        Ok(())
    }

    /// Hours of work are not thrown away because something else has the name by now.
    fn keep(mut self, temporary: &OsStr) -> Error {
        let rename = |name: &OsStr| move_to_free_name(&self.directory, temporary, name);
        let kept = self
            .cleanup
            .keep(|| with_name_to_keep(self.target.name(), rename));
        // Where that fails it has a name all the same.
        let name = kept.map_or(temporary.to_owned(), |(name, ())| name);
        self.temporary = None;
        Invalid::TargetTaken {
            kept: self.target.directory().join(name),
            is_synced: self.sync_names().is_ok(),
        }
        .into()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            self.cleanup.remove();
        }
    }
}
