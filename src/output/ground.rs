//! What a new file would lie on: not every directory keeps a file until it is needed, or lets it be replaced.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags};

use super::temporary;
use crate::devices::{DeviceNumber, Kernel};
use crate::error::{Action, Error, Invalid, Result};

/// The type that statfs(2) tells of a tmpfs, and of a devtmpfs, which is one.
const TMPFS: i64 = 0x0102_1994;

/// The type that it tells of a ramfs.
const RAMFS: i64 = 0x8584_58f6;

/// A filesystem in memory: what is on it is gone at the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Memory {
    /// Its pages may be swapped out. It has a limit.
    #[error("tmpfs")]
    Tmpfs,
    /// It has neither.
    #[error("ramfs")]
    Ramfs,
}

/// Refuses a place among the devices, where a file is most likely the name of a device that was mistyped. Tells
/// whether any other place is in memory, unless it is made for temporary files. `path` is a file or a directory.
pub(super) fn examine(path: &Path) -> Result<Option<Memory>> {
    let failed = |error: io::Error| Error::target_io(Action::Examine, error);
    if is_among_devices(path).map_err(failed)? {
        return Err(Invalid::FileAmongDevices.into());
    }
    in_memory(path).map_err(failed)
}

/// Refuses to replace a file in a directory that takes new names and lets none go.
pub(super) fn refuse_append_only(directory: &Path) -> Result<()> {
    let stat = rustix::fs::statx(CWD, directory, AtFlags::empty(), StatxFlags::TYPE);
    if is_append_only(&stat) {
        return Err(Invalid::DirectoryAppendOnly.into());
    }
    Ok(())
}

/// Whether a directory that is open takes new names and lets none go.
pub(super) fn takes_names_for_ever(directory: &File) -> bool {
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE);
    is_append_only(&stat)
}

/// A filesystem that does not know the attribute has no such directories.
fn is_append_only(stat: &rustix::io::Result<Statx>) -> bool {
    stat.as_ref()
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::APPEND))
}

/// Whether a file there would lie where the system keeps its device nodes.
fn is_among_devices(path: &Path) -> io::Result<bool> {
    let device = path.metadata()?.dev();
    // Where the mounts cannot be read, /dev is known all the same.
    let mounts = Kernel::running().mounts().unwrap_or_default();
    let mut there = mounts
        .iter()
        .filter(|mount| mount.device == DeviceNumber::from_raw(device));
    if there.any(|mount| mount.kind == OsStr::new("devtmpfs")) {
        return Ok(true);
    }
    // In a container it is a tmpfs. What is mounted below, such as /dev/shm, is made for files.
    let devices = Path::new("/dev");
    let is_below = path.canonicalize().is_ok_and(|path| path.starts_with(devices));
    Ok(is_below && device == devices.metadata()?.dev())
}

fn in_memory(path: &Path) -> io::Result<Option<Memory>> {
    let memory = match rustix::fs::statfs(path)?.f_type {
        TMPFS => Memory::Tmpfs,
        RAMFS => Memory::Ramfs,
        _ => return Ok(None),
    };
    let directories = [temporary::directory(), PathBuf::from(temporary::DEFAULT)];
    let is_meant = directories
        .iter()
        .any(|temporary| is_in(path, temporary).unwrap_or(false));
    Ok((!is_meant).then_some(memory))
}

/// Whether a path is in a directory, at whatever depth, and on the same filesystem.
fn is_in(path: &Path, directory: &Path) -> io::Result<bool> {
    let is_same_filesystem = path.metadata()?.dev() == directory.metadata()?.dev();
    Ok(is_same_filesystem && path.canonicalize()?.starts_with(directory.canonicalize()?))
}
