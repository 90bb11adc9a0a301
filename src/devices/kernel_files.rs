//! Files of `/proc` and `/sys`: what is not there is told from what cannot be read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::names;

/// The content of a file; `None` if there is no such file, or its device vanished.
///
/// # Errors
///
/// If it is there and cannot be read. The error names it.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The content of a file that is always there where its filesystem is mounted.
///
/// # Errors
///
/// As [`read`], and if it is not there.
pub(super) fn read_expected(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// A file of one line, without the end of that.
///
/// # Errors
///
/// As [`read`].
pub(super) fn line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = read(path)?;
    if let Some(text) = &mut text
        && text.last() == Some(&b'\n')
    {
        text.pop();
    }
    Ok(text)
}

/// Whether there is such a file.
///
/// # Errors
///
/// As [`read`].
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Makes sure that something is there that always is where its filesystem is mounted.
///
/// # Errors
///
/// If it is not, or that cannot be told.
pub(super) fn expect(path: &Path) -> io::Result<()> {
    path.metadata().map_err(|error| unreadable(path, &error))?;
    Ok(())
}

/// What is in a directory, sorted; nothing if that is not there.
///
/// # Errors
///
/// As [`read`].
pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match entries_expected(directory) {
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        result => result,
    }
}

/// What is in a directory that is always there where its filesystem is mounted, sorted.
///
/// # Errors
///
/// As [`read`], and if it is not there.
pub(super) fn entries_expected(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let open = File::open(directory).and_then(|directory| names(&directory));
    let paths = open.and_then(|names| names.map(|name| Ok(directory.join(name?))).collect());
    let mut paths: Vec<_> = paths.map_err(|error| unreadable(directory, &error))?;
    paths.sort();
    Ok(paths)
}

/// Where a link in the end leads; `None` if nowhere.
///
/// # Errors
///
/// As [`read`].
pub(super) fn resolved(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.canonicalize() {
        Ok(resolved) => Ok(Some(resolved)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Something is there, and is not what it must be.
pub(super) fn malformed(path: &Path) -> io::Error {
    let error = io::Error::from(io::ErrorKind::InvalidData);
    unreadable(path, &error)
}

/// An error that names the file.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

/// Whether an error says that there is no such file, or no such device any more.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || matches!(Errno::from_io_error(error), Some(Errno::NODEV | Errno::NXIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_from_what_cannot_be_read() {
        let nowhere = Path::new("/proc/self/no such file");
        assert!(read(nowhere).unwrap().is_none());
        assert!(entries(nowhere).unwrap().is_empty());
        assert!(!exists(nowhere).unwrap());
        assert!(resolved(nowhere).unwrap().is_none());
        // A directory is there, and is no file.
        let says = read(Path::new("/proc/self")).unwrap_err().to_string();
        assert!(says.starts_with("cannot read /proc/self: "), "{says}");
        let says = entries_expected(nowhere).unwrap_err().to_string();
        assert!(
            says.starts_with("cannot read /proc/self/no such file: "),
            "{says}"
        );
        assert!(read_expected(nowhere).is_err());
        assert!(expect(nowhere).is_err());
        // A link to itself.
        let directory = std::env::temp_dir().join(format!("mkqcow2-loop-{}", std::process::id()));
        std::os::unix::fs::symlink(&directory, &directory).unwrap();
        let results = [
            entries(&directory).err(),
            exists(&directory).err(),
            resolved(&directory).err(),
        ];
        std::fs::remove_file(&directory).unwrap();
        assert!(results.iter().all(Option::is_some), "{results:?}");
    }

    #[test]
    fn entries_are_sorted_and_complete() {
        let names = entries_expected(Path::new("/proc/self")).unwrap();
        assert!(names.contains(&"/proc/self/mountinfo".into()));
        assert!(names.is_sorted());
        assert!(
            !names
                .iter()
                .any(|name| name.ends_with("..") || name.ends_with("."))
        );
    }
}
