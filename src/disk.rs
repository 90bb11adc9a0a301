//! Where the bytes of the virtual disk come from.

mod file;
mod pieces;
pub mod rescue;
mod settle;
mod state;
mod unstamped;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use rustix::fs::{Advice, SeekFrom};

use crate::devices::usage::Users;
use crate::devices::{Kernel, Subject, Unwritten, claim, flush};
use crate::error::{Action, Error, InUse, Invalid, Result};
use crate::units::SECTOR;
pub use file::FileDisk;
use file::Guard;
pub use pieces::{Piece, pieces};
pub(crate) use settle::{Watch, settle};
pub use state::{Change, FileState, State};

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, perhaps with holes.
    RegularFile,
    /// A block device.
    BlockDevice,
    /// A disk image.
    Image,
}

/// A virtual disk that can be read, from several threads at once.
#[expect(
    clippy::len_without_is_empty,
    reason = "an empty source is refused when it is opened"
)]
pub trait Disk: Debug + Sync {
    /// What it is.
    fn kind(&self) -> Kind;

    /// Its length in bytes, not rounded.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `at` on, all of them in front of the end.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read; the action tells the offset in the underlying file or device.
    /// - [`Error::Corrupt`] if it ends before its own length.
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()>;

    /// As [`read_at`](Self::read_at), but past the cache of the system where that can be done, so that bytes
    /// share no fate with their neighbours. `buf` is at most [`sector_size`](Self::sector_size) long.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()>;

    /// Where byte `at` lies in the underlying file or device, which is what messages are about.
    fn position(&self, at: u64) -> u64;

    /// The smallest unit that fails as a whole, in bytes.
    fn sector_size(&self) -> u64;

    /// Who might write to it while it is read.
    fn writer(&self) -> Option<&InUse>;

    /// Whether it still exists, so that it is worth while to read on behind an error.
    fn is_present(&self) -> bool;

    /// The first range from `from` on that is not known to be a hole.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>>;
}

/// Which part of a file or device is the virtual disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, a multiple of 512.
    pub offset: u64,
    /// How long it is, a multiple of 512; all the rest if not given.
    pub length: Option<u64>,
}

impl Part {
    /// Offset and length of the part in a source of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it lies outside, or is not aligned to sectors.
    pub(crate) fn within(self, size: u64) -> Result<(u64, u64), Invalid> {
        let Self { offset, length } = self;
        for (what, found) in [("offset", Some(offset)), ("length", length)] {
            if let Some(found) = found.filter(|found| !found.is_multiple_of(SECTOR)) {
                return Err(Invalid::Unaligned { what, found });
            }
        }
        // The first test holds for an empty source too, but says less.
        let rest = size.checked_sub(offset).filter(|rest| *rest > 0);
        let rest = rest.ok_or(Invalid::OffsetPastEnd { offset, size })?;
        match length {
            None => Ok((offset, rest)),
            Some(0) => Err(Invalid::LengthZero),
            Some(length) if length > rest.next_multiple_of(SECTOR) => Err(Invalid::LengthPastEnd {
                offset,
                length,
                size: size.next_multiple_of(SECTOR),
            }),
            Some(length) => Ok((offset, length.min(rest))),
        }
    }
}

/// How to open a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Which part of it is wanted.
    pub part: Part,
    /// Open it even if it is in use.
    pub force: bool,
    /// It is only looked at, and nothing is made of it: nobody's writes are brought to the disk first, unless they
    /// wait in the cache of a device.
    pub is_for_a_look: bool,
}

/// Opens a regular file or a block device for reading.
///
/// # Errors
///
/// - [`Error::Invalid`] if it is something else, empty, in use (unless forced), or the part lies outside.
/// - [`Error::Io`] if it cannot be opened or examined.
pub fn open(path: &Path, options: Open) -> Result<FileDisk> {
    let examine = |error: io::Error| Error::source_io(Action::Examine, error);
    let failed = |error: io::Error| Error::source_io(Action::Open, error);
    // Before it is opened: opening a FIFO would wait for a writer, opening a tape would wind it.
    let metadata = path.metadata().map_err(failed)?;
    let subject = Subject::of(&metadata).ok_or(Invalid::SourceKind(metadata.file_type().into()))?;
    let kernel = Kernel::running();
    let users = kernel.users(subject);
    let in_use = |writer: Option<InUse>| writer.filter(|_| !options.force).map(Invalid::SourceInUse);
    if let Some(refusal) = in_use(users.writer()) {
        return Err(refusal.into());
    }
    let claim = claim::claim_for_reading(&kernel, &users, path);
    let writer = match (users.writer(), claim.refused) {
        // It may well be a filesystem that is mounted from the volume elsewhere: that matters more.
        (Some(InUse::Held { .. }), Some(refused)) => Some(refused),
        (writer, refused) => writer.or(refused),
    };
    if let Some(refusal) = in_use(writer.clone()) {
        return Err(refusal.into());
    }
    let file = File::open(path).map_err(failed)?;
    if Subject::of(&file.metadata().map_err(examine)?) != Some(subject) {
        return Err(Invalid::SourceReplaced.into());
    }
    let quiet = quieten(&kernel, &users, path, &file, options).map_err(examine)?;
    let size = match &quiet.before {
        State::File(state) => state.size,
        State::Device { .. } => {
            rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| examine(error.into()))?
        }
    };
    if size == 0 {
        return Err(Invalid::SourceEmpty.into());
    }
    let (offset, length) = options.part.within(size)?;
    let part = offset..offset.saturating_add(length);
    let watch = if options.is_for_a_look {
        Watch::loose(quiet.before)
    } else {
        Watch::tight(quiet.before, &file, subject)
    };
    let guard = Guard {
        writer,
        held: claim.held,
        unwritten: quiet.unwritten,
    };
    Ok(FileDisk::new(file, subject, part, watch, guard))
}

/// A source in whose caches nothing waits that was written earlier.
struct Quiet {
    /// Its state then.
    before: State,
    /// What waits in spite of all.
    unwritten: Option<Unwritten>,
}

/// Sees to it that what was written earlier is read, and is no change.
fn quieten(kernel: &Kernel, users: &Users, path: &Path, file: &File, options: Open) -> io::Result<Quiet> {
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

/// Brings to the disk what others wrote, from the top to the bottom: to filesystems, to devices, to the file itself.
pub(crate) fn flush_all(kernel: &Kernel, users: &Users, path: &Path, file: &File) -> Result<(), Unwritten> {
    let filesystems = flush::flush_filesystems(users);
    let devices = flush::flush(kernel, users, path);
    let own = flush::sync_file(file).map_err(|error| Unwritten::new(path, error));
    filesystems.and(devices).and(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(offset: u64, length: Option<u64>) -> Result<(u64, u64), String> {
        Part { offset, length }
            .within(2000)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_may_end_with_the_padded_last_sector() {
        assert_eq!(within(0, None), Ok((0, 2000)));
        assert_eq!(within(512, Some(512)), Ok((512, 512)));
        assert_eq!(within(512, Some(1536)), Ok((512, 1488)));
    }

    #[test]
    fn a_part_outside_or_between_sectors_is_refused() {
        for (offset, length, says) in [
            (100, None, "offset is 100, expected a multiple of 512"),
            (0, Some(100), "length is 100, expected a multiple of 512"),
            (2048, None, "offset is 2048, expected less than the size, 2000"),
            (0, Some(0), "length is 0, there is nothing to image"),
            (
                512,
                Some(2048),
                "offset 512 and length 2048 reach past the end of the source, at 2048",
            ),
            (
                512,
                Some(u64::MAX - 511),
                "offset 512 and length 18446744073709551104 reach past the end of the source, at 2048",
            ),
        ] {
            assert_eq!(within(offset, length), Err(says.to_owned()));
        }
    }
}
