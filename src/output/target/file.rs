//! The name of a file, validated before anything is opened for writing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::links::{self, Spot};
use super::stdout;
use crate::devices::{FileId, own_path};
use crate::error::{Action, Error, FileKind, Invalid, Result};
use crate::output::ground;
use crate::output::temporary::unnamed;

/// A place where a file can be put: a directory that can be written to, and a name in it that is free or
/// that of a regular file. The directory, and the file, are held: no other can take their place unseen.
#[derive(Debug)]
pub struct FileTarget {
    path: PathBuf,
    directory: File,
    name: OsString,
    existing: Option<Existing>,
    no_clobber: bool,
}

/// The file that will be replaced.
#[derive(Debug)]
struct Existing {
    /// It cannot be read by this, and its inode is given to no other.
    file: File,
    /// As it was when the run began.
    metadata: Metadata,
}

/// What has the name of a target by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::output) enum Now {
    /// The same file as when the run began.
    Same,
    /// None.
    Free,
    /// Something else.
    Other,
}

impl FileTarget {
    /// Follows symbolic links, so that what they point to is replaced and not the links. Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is a directory, device, FIFO or socket, or exists and `no_clobber` is set; if it
    ///   belongs to another user, or leads through a link of one, who could have planted it.
    /// - [`Error::Io`] if it exists and must not be written to, or the directory is missing or must not be.
    pub(super) fn resolve(path: &Path, no_clobber: bool) -> Result<Self> {
        stdout::refuse_pipe(path)?;
        let Spot {
            path,
            directory,
            name,
            found,
        } = links::follow(path)?;
        let existing = found.map(|file| examine(file, &directory, &name, no_clobber));
        let existing = existing.transpose()?;
        // Who may not write there gets to know all the same that there is no such device.
        let unusable = |error: Errno| match ground::examine(&own_path(&directory)) {
            Err(refused @ Error::Invalid(_)) => refused,
            Ok(_) | Err(_) => Error::target_io(Action::UseDirectory, error),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::openat(&directory, ".", flags, Mode::empty()).map_err(unusable)?;
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&directory, ".", wanted, AtFlags::EACCESS).map_err(unusable)?;
        if existing
            .as_ref()
            .is_some_and(|existing| mount_of(&existing.file) != mount_of(&directory))
        {
            return Err(Invalid::TargetMounted.into());
        }
        let target = Self {
            path,
            directory: held.into(),
            name,
            existing,
            no_clobber,
        };
        target.refuse_stranger(|| unnamed(&target.directory).ok()??.metadata().ok())?;
        Ok(target)
    }

    /// Refuses to replace a file whose owner should not decide who may read the new one. `new` tells whose the new
    /// one is if nothing is done about it, if that can be told already.
    pub(in crate::output) fn refuse_stranger(&self, new: impl FnOnce() -> Option<Metadata>) -> Result<()> {
        let Some(Existing { metadata: old, .. }) = &self.existing else {
            return Ok(());
        };
        let directory = self.directory.metadata();
        let directory = directory.map_err(|error| Error::target_io(Action::Examine, error))?;
        let own = rustix::process::geteuid().as_raw();
        if may_decide(old.uid(), own, (directory.uid(), directory.mode())) {
            return Ok(());
        }
        match new() {
            // Where all files that we make belong to one user, as on FAT or NFS, that user is us.
            Some(new) if new.uid() != old.uid() => Err(Invalid::TargetOfOther { uid: old.uid() }.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// What has the name by now.
    pub(in crate::output) fn now(&self) -> Now {
        let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Now::Free,
            Err(_) => Now::Other,
            Ok(found) => {
                let old = self.existing.as_ref();
                let old = old.and_then(|old| rustix::fs::fstat(&old.file).ok());
                if old.map(id) == Some(id(found)) {
                    Now::Same
                } else {
                    Now::Other
                }
            }
        }
    }

    /// The directory that holds it, or will.
    pub(in crate::output) fn directory(&self) -> &Path {
        &self.path
    }

    /// The same, as it was found when the run began, wherever it is by now.
    pub(in crate::output) fn held(&self) -> &File {
        &self.directory
    }

    /// Its name in the directory.
    pub(in crate::output) fn name(&self) -> &OsString {
        &self.name
    }

    /// What it will replace.
    pub(in crate::output) fn existing(&self) -> Option<&File> {
        self.existing.as_ref().map(|existing| &existing.file)
    }

    /// Whether a file that has the name by then must be left alone.
    pub(in crate::output) fn no_clobber(&self) -> bool {
        self.no_clobber
    }

    /// The file it will replace.
    pub(super) fn file_id(&self) -> Option<FileId> {
        let existing = self.existing.as_ref();
        existing.map(|existing| FileId::of(&existing.metadata))
    }

    /// Bytes that an unprivileged user can still write to its filesystem, if that can be told.
    pub(super) fn free_space(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.directory).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
}

/// Whether the owner of the old image may own the new one, and decide who reads it. `own` is the user that runs this;
/// `directory` is owner and mode of the directory.
fn may_decide(owner: u32, own: u32, directory: (u32, u32)) -> bool {
    // Nobody else can have put the file there.
    let is_private = [0, owner].contains(&directory.0) && directory.1 & 0o022 == 0;
    owner == own || owner == 0 || (own == 0 && is_private)
}

/// Makes sure that a file by that name can be replaced.
fn examine(file: File, directory: &File, name: &OsStr, no_clobber: bool) -> Result<Existing> {
    let failed = |error: io::Error| Error::target_io(Action::Open, error);
    let metadata = file.metadata().map_err(failed)?;
    let kind = FileKind::from(metadata.file_type());
    if kind != FileKind::Regular {
        return Err(Invalid::TargetKind(kind).into());
    }
    if no_clobber {
        return Err(Invalid::TargetExists.into());
    }
    // A file that its owner protected against writing should not be replaced either.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        // Another run replaces it at this moment; FUSE filesystems show that.
        Ok(_) | Err(Errno::NOENT) => Ok(Existing { file, metadata }),
        Err(error) => Err(failed(error.into())),
    }
}

/// Which mount a file or directory is seen through, if that can be told. Something that is mounted on a name keeps it.
fn mount_of(file: &File) -> Option<u64> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(stat.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_decide_about_a_new_image() {
        let (root, me, other) = (0, 1000, 1001);
        for (owner, own, directory, expected) in [
            // One's own, and root's, wherever it is.
            (me, me, (root, 0o1777), true),
            (root, me, (root, 0o1777), true),
            (root, root, (other, 0o777), true),
            // Root replaces that of others where only the two of them can have put it.
            (me, root, (root, 0o755), true),
            (me, root, (me, 0o700), true),
            (me, root, (other, 0o755), false),
            (me, root, (me, 0o775), false),
            (me, root, (root, 0o757), false),
            (me, root, (root, 0o1777), false),
            // All others do not.
            (other, me, (me, 0o700), false),
            (other, me, (root, 0o1777), false),
        ] {
            let found = may_decide(owner, own, directory);
            assert_eq!(found, expected, "{owner} {own} {directory:?}");
        }
    }
}
