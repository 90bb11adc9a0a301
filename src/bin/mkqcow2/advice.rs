//! What the user can do about an error.

use std::io::{self, ErrorKind};

use mkqcow2::Error;
use mkqcow2::error::{Action, Corrupt, Expected, Invalid, Role, Side, Unsupported};

/// Something to try, if there is something, whatever the command.
pub(crate) fn general(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io {
            side: Side::Source,
            action: Action::Open,
            source,
        } if source.kind() == ErrorKind::PermissionDenied => Some("root can read it"),
        Error::Io {
            action: Action::StartWorkers,
            ..
        } => Some("use fewer with -j, or raise ulimit -u or -v"),
        Error::Invalid(invalid) => of_usage(invalid),
        Error::Corrupt(Corrupt::Field {
            field: "magic",
            structure: "header",
            expected,
            ..
        }) => Some(if *expected == Expected::Exactly(0x5146_49fb) {
            "it does not begin like a qcow2 image"
        } else {
            "it does not begin like an image of that format"
        }),
        Error::Unsupported(Unsupported::Header {
            field: "version",
            found: 1,
        }) => Some("it is of QCOW version 1: pass --format=qcow, or for SOURCE --source-format=qcow"),
        Error::Corrupt(Corrupt::NotClosed(_)) => {
            Some("mkqcow2 check lists all of it; qemu-img check -r all repairs a copy")
        }
        Error::Corrupt(Corrupt::PerhapsChanged(_)) => {
            Some("mkqcow2 restore --keep-going restores it as it is")
        }
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | _ => None,
    }
}

fn of_usage(invalid: &Invalid) -> Option<&'static str> {
    if *invalid == Invalid::StdoutIsTerminal {
        Some("redirect it, or name a file")
    } else if matches!(invalid, Invalid::StdoutInMiddle { .. }) {
        Some("redirect it to a file of its own, with > and not >>")
    } else if *invalid == Invalid::TargetExists {
        Some("because of --no-clobber")
    } else if let Invalid::TargetLink { .. } = invalid {
        Some("name the file that it points to")
    } else if let Invalid::TargetOfOther { .. } = invalid {
        Some("remove it, chown it, or write to a directory that only you may write to")
    } else if let Invalid::TargetTaken { .. } = invalid {
        Some("compare both, and rename the new one")
    } else if *invalid == Invalid::TargetOnSource {
        Some("write it to another filesystem")
    } else if *invalid == Invalid::DirectoryAppendOnly {
        Some("choose a new name, or remove the attribute with chattr -a")
    } else if let Invalid::NeedsFile { role, .. } = invalid {
        Some(match role {
            Role::Backing => "pass --follow if you trust the image, or --backing PATH",
            Role::Data => "pass --follow if you trust the image, or --data-file PATH",
        })
    } else if let Invalid::NoNeededFile {
        role, is_first: true, ..
    } = invalid
    {
        Some(match role {
            Role::Backing => "pass --backing PATH",
            Role::Data => "pass --data-file PATH",
        })
    } else if let Invalid::Guessed { .. } = invalid {
        Some("pass --backing-format with its format")
    } else if *invalid == Invalid::NeedsPassword {
        Some("pass --password-file FILE")
    } else if let Invalid::NamelessFile(role) = invalid {
        Some(match role {
            Role::Backing => "pass --backing PATH",
            Role::Data => "pass --data-file PATH",
        })
    } else {
        None
    }
}

/// The same, of a file that gets its name when it is complete; `how_much` tells how to find out how much room is needed.
pub(crate) fn of_new_file(
    action: Action,
    source: &io::Error,
    how_much: &'static str,
) -> Option<&'static str> {
    if action == Action::Create && source.kind() == ErrorKind::StorageFull {
        Some("df -i shows whether any inodes are left")
    } else {
        of_room(source, how_much)
    }
}

/// The same, of whatever is written.
pub(crate) fn of_room(source: &io::Error, how_much: &'static str) -> Option<&'static str> {
    let kind = source.kind();
    if kind == ErrorKind::StorageFull || kind == ErrorKind::QuotaExceeded {
        Some(how_much)
    } else if kind == ErrorKind::FileTooLarge {
        Some("the filesystem or ulimit -f allows no larger file")
    } else {
        None
    }
}

/// Whether the target failed when it was being written, so that it must be known what became of it.
pub(crate) fn is_halfway(error: &Error) -> bool {
    match error {
        Error::ReadBack(_) => true,
        Error::Io {
            side: Side::Target,
            action,
            ..
        } => matches!(
            action,
            Action::Read(_)
                | Action::Write(_)
                | Action::Zero(_)
                | Action::Scratch
                | Action::KeepMode
                | Action::Sync
                | Action::Close
                | Action::Publish
        ),
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | Error::Invalid(_) | _ => false,
    }
}
