//! The files that an image names.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Action, Error, Invalid, Result, Role, Unsupported};

/// That an image needs a file which may not be opened.
pub(super) fn needs(role: Role, name: &OsStr) -> Error {
    let name = name.to_string_lossy().into_owned();
    Invalid::NeedsFile { role, name }.into()
}

/// Where a file is: its name is relative to the directory of the image that has it.
pub(super) fn resolved(image: &Path, name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    let name: OsString = match bytes.strip_prefix(b"file:") {
        Some(name) => OsStr::from_bytes(name).to_owned(),
        None if has_protocol(bytes) => {
            return Err(Unsupported::Protocol(name.to_string_lossy().into_owned()).into());
        }
        None => name.to_owned(),
    };
    let directory = image.parent().unwrap_or(Path::new(""));
    Ok(directory.join(name))
}

/// Whether a name is that of a file in the same directory.
pub(super) fn is_beside(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    !bytes.is_empty() && !bytes.contains(&b'/') && !has_protocol(name.as_bytes())
}

/// Whether QEMU takes it for something else than the name of a file: there is a colon in front of the first slash.
/// Source: QEMU, `path_has_protocol` in `block.c`.
fn has_protocol(name: &[u8]) -> bool {
    name.iter().find(|byte| b":/".contains(byte)) == Some(&b':')
}

/// An error of opening a file that an image names; that there is no such file tells which image.
pub(super) fn missing(error: Error, role: Role, of: &Path, is_first: bool) -> Error {
    let is_missing = matches!(
        &error,
        Error::Io { action: Action::Open, source, .. } if source.kind() == ErrorKind::NotFound
    );
    if !is_missing {
        return error;
    }
    let of = of.to_owned();
    Invalid::NoNeededFile { role, of, is_first }.into()
}
