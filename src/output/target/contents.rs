//! What a file holds that would be replaced: a mistyped or missing word must not cost a backup, or what is none.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::file::FileTarget;
use crate::error::{Action, Error, Holding, Invalid, Result};
use crate::formats::image_format;

/// How much of a file is looked at, in bytes: all magic numbers of images lie within.
const BEGINNING: usize = 512;

/// The only format of images that is written.
const OWN: &str = "qcow2";

/// Refuses to replace a file by an image, unless it is one itself, or empty.
pub(super) fn refuse_foreign(target: &FileTarget) -> Result<()> {
    refuse(target, |found| *found != Holding::Image(OWN))
}

/// Refuses to replace an image by a disk.
pub(super) fn refuse_image(target: &FileTarget) -> Result<()> {
    refuse(target, |found| matches!(found, Holding::Image(_)))
}

fn refuse(target: &FileTarget, is_missed: impl FnOnce(&Holding) -> bool) -> Result<()> {
    match held(target)?.filter(is_missed) {
        Some(holding) => Err(Invalid::TargetHolds(holding).into()),
        None => Ok(()),
    }
}

/// What the file holds that would be replaced; none if there is no such file, or it is empty.
fn held(target: &FileTarget) -> Result<Option<Holding>> {
    if target.existing().is_none() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let failed = |error: std::io::Error| Error::target_io(Action::Examine, error);
    let file = match rustix::fs::openat(target.held(), target.name(), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Another run replaces it at this moment; FUSE filesystems show that.
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let size = file.metadata().map_err(failed)?.len();
    let mut begin = [0; BEGINNING];
    let read = file.read_at(&mut begin, 0).map_err(failed)?;
    let begin = begin.get(..read).unwrap_or_default();
    Ok(match image_format(begin) {
        Some(format) => Some(Holding::Image(format)),
        None if size == 0 => None,
        None if is_text(begin) => Some(Holding::Text { size }),
        None => Some(Holding::Other { size }),
    })
}

/// Whether bytes are lines of text, as far as that can be seen.
fn is_text(begin: &[u8]) -> bool {
    let is_plain = |text: &str| {
        text.chars()
            .all(|character| !character.is_control() || character.is_whitespace())
    };
    match std::str::from_utf8(begin) {
        Ok(text) => is_plain(text),
        // The last character may be cut off.
        Err(error) if error.error_len().is_none() => {
            let valid = begin.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).is_ok_and(is_plain)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_other_bytes() {
        for (bytes, expected) in [
            (&b"bread\nmilk\t1 l\r\n"[..], true),
            ("Käse".as_bytes(), true),
            (&"Käse".as_bytes()[..2], true),
            (b"a\0b", false),
            (b"\xff\xfe", false),
            (b"\x1b[2J", false),
        ] {
            assert_eq!(is_text(bytes), expected, "{bytes:?}");
        }
    }
}
