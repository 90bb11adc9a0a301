//! Exclusive use of devices: while it is held, nobody mounts them, in whatever namespace.

use std::fs::File;
use std::io;
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
/// hold them as well. One that we may not open, or that has no node here, is one that we cannot claim, no more.
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
        let Some(layer) = users.layers().get(*root) else {
            continue;
        };
        match hold(kernel, users, path, *root) {
            Hold::Held(file) => claim.held.push(file),
            Hold::Refused => {
                let device = users.other_than_subject(layer);
                claim.refused.get_or_insert_with(|| busy(kernel, users, device));
            }
            Hold::Unknown(unknown) => {
                claim.refused.get_or_insert(unknown);
            }
            Hold::Unreachable => {}
        }
    }
    claim
}

impl Claim {
    /// Asks for a device; if it is refused, for each of its partitions and volumes instead. Whether it was
    /// refused, which accounts for the refusal of the disk that it is a partition of.
    fn add(&mut self, kernel: &Kernel, users: &Users, path: &Path, number: DeviceNumber) -> bool {
        let Some(layer) = users.layers().get(number) else {
            return false;
        };
        match hold(kernel, users, path, number) {
            Hold::Held(file) => {
                self.held.push(file);
                false
            }
            // What is mounted read-write was refused before this, or is forced. Nobody writes to what is
            // read-only, in whatever namespace.
            Hold::Refused if users.is_mounted(number) || layer.is_read_only => true,
            Hold::Refused => {
                let mut is_explained = false;
                for child in &layer.children {
                    // A volume holds what it is made of, whoever uses the volume.
                    let is_volume = (users.layers().get(*child)).is_some_and(|child| child.made_of.is_some());
                    is_explained |= self.add(kernel, users, path, *child) || is_volume;
                }
                if !is_explained {
                    let device = users.other_than_subject(layer);
                    self.refused.get_or_insert_with(|| busy(kernel, users, device));
                }
                true
            }
            Hold::Unknown(unknown) => {
                self.refused.get_or_insert(unknown);
                true
            }
            Hold::Unreachable => false,
        }
    }
}

/// Who has a device exclusively, of which the kernel says no more than that.
pub(crate) fn busy(kernel: &Kernel, users: &Users, device: Option<String>) -> InUse {
    match kernel.other_run(users.layers()) {
        Some(process) => InUse::OtherRun { process, device },
        None => InUse::Busy { device },
    }
}

/// The path by which a device can be opened; `None` if it has none here.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub(super) fn node(
    kernel: &Kernel,
    users: &Users,
    path: &Path,
    number: DeviceNumber,
) -> io::Result<Option<PathBuf>> {
    // In a container, a device may have no other name than the one that was given.
    let is_subject = users.subject() == Subject::Device(number);
    let node = if is_subject {
        Some(path.to_owned())
    } else {
        kernel.node(number)?
    };
    // There, its usual name may be that of anything.
    Ok(node.filter(|node| DeviceNumber::of_device(node) == Some(number)))
}

/// Whether an error says that a device cannot be had here, rather than that something went wrong.
pub(super) fn is_out_of_reach(error: Errno) -> bool {
    const OUT_OF_REACH: [Errno; 6] = [
        Errno::NOENT,
        Errno::NXIO,
        Errno::NODEV,
        Errno::NOMEDIUM,
        Errno::ACCESS,
        Errno::PERM,
    ];
    OUT_OF_REACH.contains(&error)
}

/// What came of asking for one device.
enum Hold {
    /// It is ours.
    Held(File),
    /// Another has it exclusively.
    Refused,
    /// It has no node here, or we may not open it.
    Unreachable,
    /// It cannot be told.
    Unknown(InUse),
}

fn hold(kernel: &Kernel, users: &Users, path: &Path, number: DeviceNumber) -> Hold {
    let unknown = |why: String| Hold::Unknown(InUse::Unknown { why });
    let node = match node(kernel, users, path, number) {
        Ok(Some(node)) => node,
        Ok(None) => return Hold::Unreachable,
        Err(error) => return unknown(error.to_string()),
    };
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(&node, flags, Mode::empty()) {
        Ok(file) => Hold::Held(file.into()),
        Err(Errno::BUSY) => Hold::Refused,
        Err(error) if is_out_of_reach(error) => Hold::Unreachable,
        Err(error) => {
            let error = io::Error::from(error);
            unknown(format!("cannot open {} exclusively: {error}", node.display()))
        }
    }
}
