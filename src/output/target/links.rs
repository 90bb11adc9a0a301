//! The symbolic links that lead to a target: followed once, before anything is written, and only if nobody else can
//! have planted them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Action, Error, FileKind, Invalid, Result};

/// As many symbolic links as the kernel follows. Source: `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Opened to be asked about, whatever may be done with it.
const ASK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Where a chain of symbolic links ends. What is open here stays what it is, whatever becomes of the names.
#[derive(Debug)]
pub(super) struct Spot {
    /// A name of the directory.
    pub(super) path: PathBuf,
    /// The directory, which cannot be read by this.
    pub(super) directory: File,
    /// A name in it.
    pub(super) name: OsString,
    /// What has that name, which is no link.
    pub(super) found: Option<File>,
}

/// Follows the links at the end of a path, one after the other. Those before that are the kernel's.
///
/// # Errors
///
/// - [`Error::Invalid`] if a link is not to be trusted, or the path ends in no name.
/// - [`Error::Io`] if the directory is missing, or the system refuses to tell.
pub(super) fn follow(path: &Path) -> Result<Spot> {
    let failed = |error: Errno| Error::target_io(Action::Open, error);
    // A link is relative to the directory that holds it.
    let (mut path, mut from, mut base) = (path.to_owned(), path.to_owned(), None::<File>);
    for _ in 0..MAX_LINKS {
        let name = name(&path)?.to_owned();
        let at = base.as_ref().map_or(CWD, AsFd::as_fd);
        let directory = rustix::fs::openat(at, parent(&from), ASK | OFlags::DIRECTORY, Mode::empty());
        let directory = File::from(directory.map_err(|error| match (error, &base) {
            (Errno::NOENT, Some(_)) => Invalid::TargetDangles { to: from.clone() }.into(),
            (Errno::NOENT, None) => Error::target_io(Action::UseDirectory, error),
            (other, _) => failed(other),
        })?);
        let found = rustix::fs::openat(&directory, &name, ASK | OFlags::NOFOLLOW, Mode::empty());
        // FUSE filesystems may show a name that another run takes away at this moment.
        let found = match found.and_then(|found| rustix::fs::fstat(&found).map(|_| found)) {
            Ok(found) => Some(File::from(found)),
            Err(Errno::NOENT | Errno::STALE) => None,
            Err(error) => return Err(failed(error)),
        };
        let Some(link) = found.as_ref().filter(|found| is_link(found)) else {
            return Ok(Spot {
                path: parent(&path).to_owned(),
                directory,
                name,
                found,
            });
        };
        refuse_planted(&directory, link, &path)?;
        let to = rustix::fs::readlinkat(link, "", Vec::new()).map_err(failed)?;
        from = PathBuf::from(OsString::from_vec(to.into_bytes()));
        path = path.parent().unwrap_or(Path::new("")).join(&from);
        base = Some(directory);
    }
    Err(failed(Errno::LOOP))
}

/// Refuses a path of which [`follow`] would not trust a link. All else that may be wrong with it is left to others.
pub(super) fn refuse_untrusted(path: &Path) -> Result<()> {
    match follow(path) {
        Err(error @ Error::Invalid(Invalid::TargetLink { .. })) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_link(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_symlink())
}

/// The kernel does not follow links that others made in a directory like /tmp (`fs.protected_symlinks`), but it is
/// not asked to here; and it may be told to follow them.
fn refuse_planted(directory: &File, link: &File, path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::target_io(Action::Open, error);
    let (directory, link) = (
        directory.metadata().map_err(failed)?,
        link.metadata().map_err(failed)?,
    );
    let own = rustix::process::geteuid().as_raw();
    let (uid, is_shared) = (link.uid(), directory.mode() & 0o022 != 0);
    if is_shared && ![0, own, directory.uid()].contains(&uid) {
        let link = path.to_owned();
        return Err(Invalid::TargetLink { link, uid }.into());
    }
    Ok(())
}

/// The name that a path ends in.
fn name(path: &Path) -> Result<&OsStr> {
    // `file_name` would take `name/` and `name/.` for `name`.
    let ends_in_name = ![&b"/"[..], b"/."]
        .iter()
        .any(|end| path.as_os_str().as_bytes().ends_with(end));
    if let Some(name) = path.file_name().filter(|_| ends_in_name) {
        return Ok(name);
    }
    match path.metadata() {
        Ok(metadata) => Err(Invalid::TargetKind(FileKind::from(metadata.file_type())).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Invalid::TargetName.into()),
        Err(error) => Err(Error::target_io(Action::Open, error)),
    }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
