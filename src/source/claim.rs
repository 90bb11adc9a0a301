//! Exclusive use of devices: while it is held, nobody mounts them, in whatever namespace.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::devices::{Kernel, Subject};
use crate::error::InUse;

/// What came of asking for exclusive use of what a source is, or is behind.
#[derive(Debug)]
pub(super) struct Claim {
    /// What is held until the source is closed: the device itself, or the loop devices over the file.
    pub(super) held: Vec<File>,
    /// Somebody else holds it.
    pub(super) refused: Option<InUse>,
}

/// Asks for the device, or for every loop device over the file.
///
/// # Errors
///
/// If the device cannot be opened. A loop device that cannot be opened is one that we cannot claim, no more.
pub(super) fn claim(kernel: &Kernel, path: &Path, subject: Subject) -> Result<Claim, Errno> {
    let mut claim = Claim {
        held: Vec::new(),
        refused: None,
    };
    match subject {
        Subject::Device(_) => match open_exclusively(path)? {
            Some(file) => claim.held.push(file),
            None => claim.refused = Some(InUse::Busy { device: None }),
        },
        Subject::File(file) => {
            for (name, node) in kernel
                .loops_over(file)
                .into_iter()
                .filter_map(|number| kernel.node(number))
            {
                match open_exclusively(&node) {
                    Ok(Some(file)) => claim.held.push(file),
                    Ok(None) => claim.refused = Some(InUse::Busy { device: Some(name) }),
                    Err(_) => {}
                }
            }
        }
    }
    Ok(claim)
}

/// Opens a device for reading; `None` if somebody else has done so exclusively.
fn open_exclusively(path: &Path) -> Result<Option<File>, Errno> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::BUSY) => Ok(None),
        Err(error) => Err(error),
    }
}
