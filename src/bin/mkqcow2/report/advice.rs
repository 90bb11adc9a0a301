//! What the user can do about an error.

use std::io::{self, ErrorKind};

use mkqcow2::Error;
use mkqcow2::error::{Action, InUse, Invalid, Side};

/// Something to try, if there is something.
pub(super) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action,
            source,
        } => source_advice(*action, source),
        Error::Io {
            side: Side::Target,
            action,
            source,
        } => image_advice(*action, source),
        Error::Invalid(Invalid::SourceInUse(in_use)) => Some(match in_use {
            InUse::Mounted { .. } => "unmount it, image a snapshot, or pass --force",
            InUse::Swap { .. } => "swapoff it, or pass --force",
            InUse::Held { .. } => "deactivate that, image a snapshot, or pass --force",
            InUse::Busy { .. } => "lsblk may tell by whom; or pass --force",
        }),
        Error::Invalid(Invalid::TargetExists) => Some("because of --no-clobber"),
        Error::Invalid(Invalid::TargetOnSource) => Some("write it to another filesystem"),
        Error::Invalid(_) | Error::Corrupt(_) | Error::Unsupported(_) | _ => None,
    }
}

fn source_advice(action: Action, source: &io::Error) -> Option<&'static str> {
    if matches!(action, Action::Read(_)) {
        Some("pass --on-read-error=zero to go on, with zeros for what cannot be read")
    } else if action == Action::Open && source.kind() == ErrorKind::PermissionDenied {
        Some("root can read it")
    } else {
        None
    }
}

fn image_advice(action: Action, source: &io::Error) -> Option<&'static str> {
    let kind = source.kind();
    if action == Action::StartWorkers {
        Some("use fewer with -j, or raise ulimit -u or -v")
    } else if action == Action::Create && kind == ErrorKind::StorageFull {
        Some("df -i tells whether there are inodes left")
    } else if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
        Some("nothing was changed; mkqcow2 -n tells how much room is needed")
    } else if kind == ErrorKind::FileTooLarge {
        Some("nothing was changed; the filesystem or ulimit -f allows no larger file")
    } else if action == Action::Publish {
        Some("nothing was changed")
    } else {
        None
    }
}
