//! What is told of the images that an image stands on, by every command that goes through them.

use std::path::Path;

use serde_json::Value;

use super::{with_causes, with_path};
use crate::console::say_of;
use crate::status::FAILURE;
use mkqcow2::Error;
use mkqcow2::error::Invalid;

/// Why there are no more of them, although there should be.
pub(super) fn say(image: &Path, fault: Option<&Error>) {
    if let Some(fault) = fault {
        let (error, path) = fault.innermost();
        say_of(path.unwrap_or(image), &with_causes(error));
    }
}

/// The status of that, if a damaged image has `damaged`: a base that is not there may be elsewhere, one that is another
/// cannot be read.
pub(super) fn status(fault: &Error, damaged: u8) -> u8 {
    match fault.innermost().0 {
        Error::Corrupt(_) | Error::Invalid(Invalid::Unfit(_)) => damaged,
        Error::Io { .. } | Error::Unsupported(_) | Error::Invalid(_) | _ => FAILURE,
    }
}

/// The object of the first image, in which there are those of the others, and the status of all.
pub(super) fn object(mut objects: impl Iterator<Item = Value>, fault: Option<&Error>, status: u8) -> Value {
    let mut first = objects.next().unwrap_or_default();
    if let Some(fields) = first.as_object_mut() {
        fields.insert("status".to_owned(), status.into());
        fields.insert("bases".to_owned(), objects.collect());
        fields.insert("base-error".to_owned(), fault.map(with_path).into());
    }
    first
}
