//! The name of the image, validated before anything is opened for writing.

use std::ffi::OsString;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use crate::devices::FileId;
use crate::error::{Action, Error, FileKind, Invalid, Result};

/// As many symbolic links as the kernel follows. Source: `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// A place where an image can be put: a directory that can be written to, and a name in it that is free or
/// that of a regular file.
#[derive(Debug)]
pub struct Target {
    directory: PathBuf,
    name: OsString,
    existing: Option<Metadata>,
    no_clobber: bool,
}

impl Target {
    /// Follows symbolic links, so that what they point to is replaced and not the links. Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is a directory, device, FIFO or socket, or exists and `no_clobber` is set.
    /// - [`Error::Io`] if it exists and must not be written to, or the directory is missing or must not be.
    pub fn resolve(path: &Path, no_clobber: bool) -> Result<Self> {
        let failed = |error: io::Error| Error::target_io(Action::Open, error);
        let path = follow(path).map_err(failed)?;
        let existing = match path.metadata() {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(metadata) = &existing {
            let kind = FileKind::from(metadata.file_type());
            if kind != FileKind::Regular {
                return Err(Invalid::TargetKind(kind).into());
            }
            if no_clobber {
                return Err(Invalid::TargetExists.into());
            }
            // A file that its owner protected against writing should not be replaced either.
            match OpenOptions::new().write(true).open(&path) {
                // Another run replaces it at this moment; FUSE filesystems show that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => drop(result.map_err(failed)?),
            }
        }
        // `file_name` would take `name/` and `name/.` for `name`.
        let ends_in_name = ![&b"/"[..], b"/."]
            .iter()
            .any(|end| path.as_os_str().as_bytes().ends_with(end));
        let name = path
            .file_name()
            .filter(|_| ends_in_name)
            .ok_or(Invalid::TargetName)?
            .to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new(".")).to_owned();
        rustix::fs::accessat(
            CWD,
            &directory,
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .and_then(|()| {
            if directory.is_dir() {
                Ok(())
            } else {
                Err(Errno::NOTDIR)
            }
        })
        .map_err(|error| Error::target_io(Action::UseDirectory, error))?;
        if existing.is_some() && is_mount_point(&path, &directory) {
            return Err(Invalid::TargetMounted.into());
        }
        Ok(Self {
            directory,
            name,
            existing,
            no_clobber,
        })
    }

    /// The directory that holds it, or will.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its name in the directory.
    pub(super) fn name(&self) -> &OsString {
        &self.name
    }

    /// What it will replace.
    pub(super) fn existing(&self) -> Option<&Metadata> {
        self.existing.as_ref()
    }

    /// Whether a file that has the name by then must be left alone.
    pub(super) fn no_clobber(&self) -> bool {
        self.no_clobber
    }

    /// The file it will replace.
    pub fn file_id(&self) -> Option<FileId> {
        self.existing.as_ref().map(FileId::of)
    }

    /// Bytes that an unprivileged user can still write to its filesystem, if that can be told.
    pub fn free_space(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.directory).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
}

/// Whether something is mounted on a name, which therefore cannot be given to another file.
fn is_mount_point(path: &Path, directory: &Path) -> bool {
    let mount_of = |path: &Path| {
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        StatxFlags::from_bits_retain(stat.stx_mask)
            .contains(StatxFlags::MNT_ID)
            .then_some(stat.stx_mnt_id)
    };
    mount_of(path) != mount_of(directory)
}

/// The name at the end of a chain of symbolic links, whether or not there is a file by that name.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                let to = path.read_link()?;
                path = path.parent().unwrap_or(Path::new("")).join(to);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP.into())
}
