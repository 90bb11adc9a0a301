//! What `mkqcow2 mount` tells.

use std::path::Path;

use serde_json::{Value, json};

use super::{regions, with_causes};
use crate::advice;
use crate::args::mount::Mount as Args;
use crate::console::say_of;
use mkqcow2::Error;
use mkqcow2::error::{Action, Invalid, Side, Unmountable};
use mkqcow2::mount::{Mounting, Shown, Unmounted, Warning};
use mkqcow2::volumes::name_of;

/// For scripts: what is mounted.
pub(crate) fn ready(args: &Args, mounting: &Mounting) -> Value {
    let regions = mounting.regions();
    let file = |file: &Shown| {
        let region = file.region.and_then(|region| regions.get(region));
        json!({
            "file": file.name,
            "size": file.size(),
            "part": region.and_then(|region| name_of(regions, region)),
            "region": region.map(regions::name),
        })
    };
    let warnings = mounting.warnings().iter();
    json!({
        "status": 0,
        "image": args.image.to_string_lossy(),
        "directory": args.directory.to_string_lossy(),
        "files": mounting.files().iter().map(file).collect::<Vec<_>>(),
        "warnings": warnings.map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What there is to know before the files are read.
pub(crate) fn warn(args: &Args, warnings: &[Warning]) {
    for warning in warnings {
        say_of(&args.image, &format!("warning: {warning}"));
    }
}

/// Of a read or a write that failed, whose program sees only that it did.
pub(crate) fn failed(image: &Path, error: &Error) {
    let (error, elsewhere) = error.innermost();
    let place = match error.lost() {
        Some(lost) => format!("damaged, guest {:#x} to {:#x}: ", lost.start, lost.end),
        None => String::new(),
    };
    say_of(
        elsewhere.unwrap_or(image),
        &format!("{place}{}", with_causes(error)),
    );
}

/// Of a mount that a signal has ended.
pub(crate) fn stopped(directory: &Path, signal: &str, unmounted: &mkqcow2::Result<Unmounted>) {
    let outcome = match unmounted {
        Ok(Unmounted::Gone) => "unmounted".to_owned(),
        Ok(Unmounted::Detached) => {
            "unmounted, but files are still open: ends when they are closed, or by another signal".to_owned()
        }
        Err(error) => with_causes(error.innermost().0),
    };
    say_of(directory, &format!("stopped by {signal}, {outcome}"));
}

/// What can be done about an error.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Invalid(Invalid::Unmountable(why)) => match why {
            Unmountable::Dead => Some("umount it first"),
            Unmountable::NoFuse => Some("modprobe fuse may bring it"),
            Unmountable::NoHelper => Some("install the package fuse3"),
            Unmountable::NoDirectory | Unmountable::NotEmpty => None,
        },
        Error::Invalid(Invalid::NoImage) => Some("the kernel shows a raw disk: losetup --partscan"),
        Error::Io {
            side: Side::Target,
            action: Action::CreateOverlay,
            ..
        } => Some("set TMPDIR to a directory on another filesystem"),
        Error::Io { .. } | Error::Corrupt(_) | Error::Unsupported(_) | Error::Invalid(_) | _ => {
            advice::general(error)
        }
    }
}
