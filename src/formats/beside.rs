//! The files that an image names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Invalid, Result, Role, Unsupported};

/// That an image needs a file which may not be opened.
pub(super) fn needs(role: Role, name: &OsStr) -> Error {
    let name = name.to_string_lossy().into_owned();
    Invalid::NeedsFile { role, name }.into()
}

/// Where a file is: its name is relative to the directory of the image that has it.
pub(super) fn resolved(image: &Path, name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    let has_protocol = bytes.starts_with(b"json:") || bytes.windows(3).any(|three| three == b"://");
    if has_protocol {
        return Err(Unsupported::Protocol(name.to_string_lossy().into_owned()).into());
    }
    let name: OsString = match bytes.strip_prefix(b"file:") {
        Some(name) => OsStr::from_bytes(name).to_owned(),
        None => name.to_owned(),
    };
    let directory = image.parent().unwrap_or(Path::new(""));
    Ok(directory.join(name))
}
