//! Exclusive use of devices: while it is held, nobody mounts them, in whatever namespace.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::usage::Users;
use super::{DeviceNumber, Kernel, Subject};
use crate::error::InUse;

/// What came of asking for exclusive use of all devices that show the bytes of a file or device.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// What is held for as long as the claim is needed.
    pub(crate) held: Vec<File>,
    /// Somebody else holds one of them in a way that matters.
    pub(crate) refused: Option<InUse>,
}

/// Asks for every device that shows bytes of the source at `path`; filesystems that are mounted read-only may
/// hold them as well. One that cannot be opened is one that we cannot claim, no more.
pub(crate) fn claim_for_reading(kernel: &Kernel, users: &Users, path: &Path) -> Claim {
    let mut claim = Claim::default();
    for root in &users.layers().roots {
        claim.add(kernel, users, path, *root);
    }
    claim
}

/// Asks for every device that shows bytes of the target at `path`, but for that itself, which is claimed with the
/// same call that opens it for writing. Nobody else may hold any of them.
pub(crate) fn claim_others_for_writing(kernel: &Kernel, users: &Users, path: &Path) -> Claim {
    let mut claim = Claim::default();
    let roots = users.layers().roots.iter();
    for root in roots.filter(|root| users.subject() != Subject::Device(**root)) {
        let (Some(layer), Some(node)) = (users.layers().get(*root), node(kernel, users, path, *root)) else {
            continue;
        };
        match open_exclusively(&node) {
            Ok(Some(file)) => claim.held.push(file),
            Ok(None) => {
                let device = users.other_than_subject(layer);
                claim.refused.get_or_insert(InUse::Busy { device });
            }
            Err(_) => {}
        }
    }
    claim
}

/// Brings to the disk what others wrote through devices that show bytes of the source at `path`: each device has a
/// cache of its own, and what only one of them holds is not read through another.
pub(crate) fn settle(kernel: &Kernel, users: &Users, path: &Path) {
    let mut numbers: Vec<_> = users.layers().all.iter().map(|layer| layer.number).collect();
    // A partition is no cache of its disk either.
    if let Subject::Device(number) = users.subject() {
        numbers.extend(kernel.devices_below(number));
    }
    for number in numbers {
        if let Some(node) = node(kernel, users, path, number)
            && let Ok(device) = rustix::fs::open(&node, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        {
            // What cannot be written now is on no disk: it is imaged without it, like any write that comes later.
            let _ = rustix::fs::fsync(device);
        }
    }
}

impl Claim {
    /// Asks for a device; if it is refused, for each of its partitions and volumes instead. Whether it was
    /// refused, which accounts for the refusal of the disk that it is a partition of.
    fn add(&mut self, kernel: &Kernel, users: &Users, path: &Path, number: DeviceNumber) -> bool {
        let (Some(layer), Some(node)) = (users.layers().get(number), node(kernel, users, path, number))
        else {
            return false;
        };
        match open_exclusively(&node) {
            Ok(Some(file)) => {
                self.held.push(file);
                false
            }
            // What is mounted read-write was refused before this, or is forced. Nobody writes to what is
            // read-only, in whatever namespace.
            Ok(None) if users.is_mounted(number) || layer.is_read_only => true,
            Ok(None) => {
                let mut is_explained = false;
                for child in &layer.children {
                    // A volume holds what it is made of, whoever uses the volume.
                    let is_volume = (users.layers().get(*child)).is_some_and(|child| child.made_of.is_some());
                    is_explained |= self.add(kernel, users, path, *child) || is_volume;
                }
                if !is_explained {
                    let device = users.other_than_subject(layer);
                    self.refused.get_or_insert(InUse::Busy { device });
                }
                true
            }
            Err(_) => false,
        }
    }
}

/// The path by which a device can be opened.
fn node(kernel: &Kernel, users: &Users, path: &Path, number: DeviceNumber) -> Option<PathBuf> {
    // In a container, a device may have no other name than the one that was given.
    let is_subject = users.subject() == Subject::Device(number);
    let node = if is_subject {
        path.to_owned()
    } else {
        kernel.node(number)?
    };
    // There, its usual name may be that of anything.
    (DeviceNumber::of_device(&node) == Some(number)).then_some(node)
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
