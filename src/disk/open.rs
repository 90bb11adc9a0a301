//! How a raw file or a block device is opened: refused if it is in use, and only once what others wrote is there.

use std::io;
use std::path::Path;

use rustix::fs::Advice;

use super::underlying::{Found, Guard, Underlying, examine, flush_all};
use super::{FileDisk, State, settle};
use crate::devices::usage::Users;
use crate::devices::{Kernel, Subject, Unwritten, claim, flush};
use crate::error::{InUse, Invalid, Result};

/// How a source is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Whether to open it if it is in use.
    pub force: Force,
    /// It is only looked at, and nothing is made of it: nobody's writes are brought to the disk first, unless they
    /// wait in the cache of a device.
    pub is_for_a_look: bool,
    /// Whether it may be empty.
    pub empty: Empty,
}

/// Whether to open what may be written to meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Force {
    /// Not.
    #[default]
    No,
    /// Only if it could not be found out whether it is in use.
    IfUnknown,
    /// In any case.
    Yes,
}

impl Force {
    /// What was asked for with a switch.
    pub fn if_asked(is_asked: bool) -> Self {
        if is_asked { Self::Yes } else { Self::No }
    }

    /// Refuses what is in use, unless that is forced.
    pub(crate) fn refuse(self, writer: Option<&InUse>) -> Result<(), Invalid> {
        match (self, writer) {
            (Self::Yes, _) | (_, None) | (Self::IfUnknown, Some(InUse::Unknown { .. })) => Ok(()),
            (Self::No | Self::IfUnknown, Some(writer)) => Err(Invalid::SourceInUse(writer.clone())),
        }
    }
}

/// Whether a file or device without a byte is a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// It is not: there is nothing to read.
    #[default]
    Refused,
    /// A file is; a device of no size is one that has no medium.
    OnlyFiles,
    /// Both are: nothing may well be something to stand on.
    Allowed,
}

impl Empty {
    fn allows(self, subject: Subject) -> bool {
        match self {
            Self::Refused => false,
            Self::OnlyFiles => matches!(subject, Subject::File(_)),
            Self::Allowed => true,
        }
    }
}

/// Opens a regular file or a block device for reading.
///
/// # Errors
///
/// - [`Error::Invalid`](crate::Error::Invalid) if it is something else, empty or in use, unless that is allowed.
/// - [`Error::Io`](crate::Error::Io) if it cannot be opened or examined.
pub fn open(path: &Path, options: Open) -> Result<FileDisk> {
    open_found(Found::at(path)?, options)
}

/// The same of one that may have been looked at.
pub(crate) fn open_found(found: Found, options: Open) -> Result<FileDisk> {
    let (kernel, subject) = (Kernel::running(), found.subject());
    let users = kernel.users(subject);
    options.force.refuse(users.writer().as_ref())?;
    let claim = claim::claim_for_reading(&kernel, &users, found.path());
    let writer = match (users.writer(), claim.refused) {
        // It may well be a filesystem that is mounted from the volume elsewhere: that matters more.
        (Some(InUse::Held { .. }), Some(refused)) => Some(refused),
        (writer, refused) => writer.or(refused),
    };
    options.force.refuse(writer.as_ref())?;
    let underlying = found.open()?;
    let quiet = quieten(&kernel, &users, &underlying, options).map_err(examine)?;
    let underlying = underlying.raw(Guard {
        writer,
        held: claim.held,
        unwritten: quiet.unwritten,
        before: quiet.before,
        is_settled: !options.is_for_a_look,
    });
    let size = underlying.length()?;
    if size == 0 && !options.empty.allows(subject) {
        return Err(Invalid::SourceEmpty.into());
    }
    Ok(FileDisk::new(underlying, size))
}

/// A source in whose caches nothing waits that was written earlier.
struct Quiet {
    /// Its state then.
    before: State,
    /// What waits in spite of all.
    unwritten: Option<Unwritten>,
}

/// Sees to it that what was written earlier is read, and is no change.
fn quieten(kernel: &Kernel, users: &Users, underlying: &Underlying, options: Open) -> io::Result<Quiet> {
    let (path, file) = (underlying.path(), underlying.file());
    let look = || State::of(file, users.subject());
    let mut unwritten = None;
    let before = if options.is_for_a_look {
        unwritten = flush::flush(kernel, users, path).err();
        look()?
    } else {
        settle(look()?, look, || {
            let flushed = flush_all(kernel, users, path, file);
            unwritten = unwritten.take().or(flushed.err());
        })?
    };
    if matches!(users.subject(), Subject::Device(_)) {
        // A filesystem, or a partition of this disk, writes past the cache of the device that is read here. What
        // that still holds of an earlier reading may be stale. Advice: what cannot be dropped is in use, and so
        // is up to date.
        let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    }
    Ok(Quiet { before, unwritten })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_be_in_use_takes_more_force_than_what_is_not_known() {
        let swap = InUse::Swap { device: None };
        let why = "cannot read /proc".to_owned();
        let unknown = InUse::Unknown { why };
        for (force, opens) in [
            (Force::No, [true, false, false]),
            (Force::IfUnknown, [true, true, false]),
            (Force::Yes, [true, true, true]),
        ] {
            let writers = [None, Some(&unknown), Some(&swap)];
            assert_eq!(
                writers.map(|writer| force.refuse(writer).is_ok()),
                opens,
                "{force:?}"
            );
        }
    }
}
