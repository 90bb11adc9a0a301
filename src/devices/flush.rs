//! What others wrote is brought to the disk: each device, and each filesystem on it, has a cache of its own, and what
//! only one of them holds is not read through another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::claim::{is_out_of_reach, node};
use super::mounts::Mount;
use super::usage::Users;
use super::{Kernel, Subject};

/// What others wrote earlier is not on the disk, and cannot be brought there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sync {}: {why}", path.display())]
pub struct Unwritten {
    /// The device, file or mount point where it waits.
    pub path: PathBuf,
    /// What the system said.
    pub why: String,
}

impl Unwritten {
    pub(crate) fn new(path: &Path, error: impl Into<io::Error>) -> Self {
        Self {
            path: path.to_owned(),
            why: error.into().to_string(),
        }
    }
}

/// Flushes the devices that show bytes of the subject, which is at `path`, those that it stands on, and the file
/// behind a loop device. What cannot be opened here is passed over.
///
/// # Errors
///
/// Where that failed first, after all were tried: what cannot be written now is on no disk.
pub(crate) fn flush(kernel: &Kernel, users: &Users, path: &Path) -> Result<(), Unwritten> {
    let mut result = Ok(());
    let mut note = |flushed: Result<(), Unwritten>| {
        if result.is_ok() {
            result = flushed;
        }
    };
    let unknown = |error: io::Error| Unwritten::new(path, error);
    let mut numbers: Vec<_> = users.layers().all.iter().map(|layer| layer.number).collect();
    // A partition is no cache of its disk either.
    if let Subject::Device(number) = users.subject() {
        match kernel.devices_below(number) {
            Ok(below) => numbers.extend(below),
            Err(error) => note(Err(unknown(error))),
        }
    }
    for number in numbers {
        match node(kernel, users, path, number) {
            Ok(Some(node)) => note(flush_at(&node, OFlags::empty())),
            Ok(None) => {}
            Err(error) => note(Err(unknown(error))),
        }
    }
    // The kernel lets a program write to it past the device.
    if let Subject::Device(number) = users.subject() {
        match kernel.file_behind(number) {
            // Should the name be that of a FIFO by now, nothing waits for a writer.
            Ok(Some(file)) => note(flush_at(&file, OFlags::NONBLOCK)),
            Ok(None) => {}
            Err(error) => note(Err(unknown(error))),
        }
    }
    result
}

/// Flushes the filesystems that are mounted read-write from the layers, as far as their mount points can be reached.
///
/// # Errors
///
/// As [`flush`].
pub(crate) fn flush_filesystems(users: &Users) -> Result<(), Unwritten> {
    let mut result = Ok(());
    let mut done = Vec::new();
    for mount in users.writable_mounts() {
        if done.contains(&mount.device) {
            continue;
        }
        let flushed = sync_mount(mount).map_err(|error| Unwritten::new(&mount.point, error));
        if flushed == Ok(true) {
            done.push(mount.device);
        }
        result = result.and(flushed.map(drop));
    }
    result
}

/// Whether the mount could be reached: something else may be mounted on top of it.
fn sync_mount(mount: &Mount) -> Result<bool, Errno> {
    // A file may be mounted, too. Devices and FIFOs are not for us to open.
    let metadata = mount.point.metadata();
    if !metadata.is_ok_and(|metadata| metadata.is_dir() || metadata.is_file()) {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let point = match rustix::fs::open(&mount.point, flags, Mode::empty()) {
        Ok(point) => point,
        Err(error) if is_out_of_reach(error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let stat = rustix::fs::statx(&point, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if stat.stx_mnt_id != mount.id {
        return Ok(false);
    }
    rustix::fs::syncfs(&point)?;
    Ok(true)
}

fn flush_at(path: &Path, more: OFlags) -> Result<(), Unwritten> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => sync_file(&file.into()),
        Err(error) if is_out_of_reach(error) => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| Unwritten::new(path, error))
}

/// Brings to the disk what anybody wrote to a file or device that is open, be it for reading.
///
/// # Errors
///
/// If that was tried and failed.
pub(crate) fn sync_file(file: &File) -> Result<(), Errno> {
    match rustix::fs::fsync(file) {
        // Nothing can be written there, or nothing waits.
        Err(Errno::ROFS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => result,
    }
}
