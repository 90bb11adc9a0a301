//! What the user can do about an error.

use std::io::ErrorKind;

use mkqcow2::Error;
use mkqcow2::error::{Action, InUse, Invalid, Side};

/// Something to try, if there is something.
pub(super) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action: Action::Read(_),
            ..
        } => Some("pass --on-read-error=zero to go on, with zeros for what cannot be read"),
        Error::Io {
            side: Side::Source,
            action: Action::Open,
            source,
        } if source.kind() == ErrorKind::PermissionDenied => Some("devices can be read by root only"),
        Error::Io {
            action: Action::Write(_) | Action::Scratch | Action::Sync,
            source,
            ..
        } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
                "the old image, if there was one, is untouched; mkqcow2 -n tells how much room is needed",
            ),
            ErrorKind::FileTooLarge => Some("the filesystem or ulimit -f allows no larger file"),
            _ => None,
        },
        Error::Invalid(Invalid::SourceInUse(in_use)) => Some(match in_use {
            InUse::Mounted { .. } => "unmount it, image a snapshot, or pass --force",
            InUse::Swap { .. } => "swapoff it, or pass --force",
            InUse::Held { .. } => "deactivate that, image a snapshot, or pass --force",
            InUse::Busy => "lsblk may tell by whom; or pass --force",
        }),
        Error::Invalid(Invalid::ImageExists) => Some("--no-clobber"),
        Error::Invalid(Invalid::ImageOnSource) => Some("write it to another filesystem"),
        _ => None,
    }
}
