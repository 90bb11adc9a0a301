//! Files that have no name yet, or a temporary one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Cleanup;
use crate::devices::{names, own_path};
use crate::error::{Action, Error, Result};

/// A new image is its owner's business: it holds the files of everybody.
const NEW_IMAGE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The directory for temporary files where nothing else is said.
pub(super) const DEFAULT: &str = "/tmp";

/// How many temporary names are tried.
const MAX_ATTEMPTS: u32 = 100;

/// The directory for temporary files.
pub(crate) fn directory() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|name| !name.is_empty());
    named.map_or_else(|| DEFAULT.into(), PathBuf::from)
}

/// A file without a name in the directory, locked; `None` where the filesystem or the system cannot do that.
pub(super) fn unnamed(directory: &File) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags, NEW_IMAGE) {
        Ok(file) => {
            let file = File::from(file);
            lock(&file)?;
            // The name is given by way of /proc: without it there is no way that needs no privilege.
            Ok(own_path(&file).exists().then_some(file))
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file with a temporary name, locked.
pub(super) fn named(
    directory: &File,
    image: &OsStr,
    cleanup: &Cleanup,
) -> rustix::io::Result<(OsString, File)> {
    with_temporary_name(image, |name| {
        cleanup.create(directory, name, || create(directory, name))
    })
}

fn create(directory: &File, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, NEW_IMAGE)?);
    lock(&file)?;
    // Until it was locked, another run may have taken it for stale.
    if rustix::fs::fstat(&file)?.st_nlink == 0 {
        Err(Errno::EXIST)
    } else {
        Ok(file)
    }
}

/// Locked for as long as somebody writes to it, so that nobody takes it for stale.
///
/// # Errors
///
/// `EXIST` if another run has locked it in order to remove it: then the name is not ours.
fn lock(file: &File) -> rustix::io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Errno::EXIST),
        // Where there are no locks, [`remove_stale`] finds none to be free, and removes nothing.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Creates something by a temporary name, which is short, so that it fits whatever the name of the image is.
/// A number is added where the name is taken: process numbers are not unique among containers.
pub(super) fn with_temporary_name<T>(
    image: &OsStr,
    create: impl Fn(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(OsString, T)> {
    let names = |attempt| format!("{}{}-{attempt}.tmp", prefix(image), std::process::id()).into();
    with_free_name(names, create)
}

/// The same by a name that stays, of an image that cannot have its own.
pub(super) fn with_name_to_keep<T>(
    image: &OsStr,
    create: impl Fn(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(OsString, T)> {
    let suffix = |attempt: u32| format!(".kept-{}-{attempt}", std::process::id());
    let long = |attempt| {
        let mut name = image.to_owned();
        name.push(suffix(attempt));
        name
    };
    match with_free_name(long, &create) {
        Err(Errno::NAMETOOLONG) => {
            with_free_name(|attempt| format!("mkqcow2{}", suffix(attempt)).into(), create)
        }
        result => result,
    }
}

fn with_free_name<T>(
    names: impl Fn(u32) -> OsString,
    create: impl Fn(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(OsString, T)> {
    let mut attempt = 0;
    loop {
        let name = names(attempt);
        match create(&name) {
            Ok(created) => return Ok((name, created)),
            Err(Errno::EXIST) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Renames a file, unless the name is that of another.
pub(super) fn move_to_free_name(directory: &File, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // The filesystem knows no such flag. A link never replaces anything either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
            // The image is in place. A second name of it that stays is stale for the next run.
            let _ = rustix::fs::unlinkat(directory, from, AtFlags::empty());
            Ok(())
        }
        result => result,
    }
}

fn prefix(image: &OsStr) -> String {
    format!(".mkqcow2-{:08x}-", crc32fast::hash(image.as_bytes()))
}

/// Removes what earlier runs into the same image left behind when they were killed: temporary files that
/// nobody has locked. One that cannot be removed stays where it is.
///
/// # Errors
///
/// If the names in the directory cannot be read.
pub(super) fn remove_stale(directory: &File, image: &OsStr) -> io::Result<()> {
    let prefix = prefix(image);
    for name in names(directory)? {
        let name = &name?;
        let is_ours = name.as_bytes().starts_with(prefix.as_bytes()) && name.as_bytes().ends_with(b".tmp");
        if !is_ours {
            continue;
        }
        // For writing, or NFS would not lock it.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty())
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
    Ok(())
}

/// An empty file without a name, in the same directory as the image of that name.
/// One that has a name for a moment is told to `cleanup` if it keeps it.
pub(super) fn scratch(directory: &File, image: &OsStr, cleanup: &Cleanup) -> Result<File> {
    let failed = |error: io::Error| Error::target_io(Action::Scratch, error);
    if let Some(file) = unnamed(directory).map_err(failed)? {
        return Ok(file);
    }
    let unnamed_at_once = |name: &OsStr| {
        let file = create(directory, name)?;
        cleanup.discard(directory, name)?;
        Ok(file)
    };
    let (_, file) = with_temporary_name(image, unnamed_at_once).map_err(|error| failed(error.into()))?;
    Ok(file)
}
