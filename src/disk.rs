//! Disks, which can be read at any offset: a file or device, the disk in an image, a part of either.

mod file;
#[cfg(test)]
mod memory;
mod open;
mod part;
mod pieces;
mod pipe;
pub mod rescue;
mod section;
mod segments;
mod settle;
mod state;
mod underlying;
mod unstamped;

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use crate::devices::Unwritten;
use crate::error::{InUse, Result};
use crate::units::{Exact, SECTOR, claimed_end};
pub use file::FileDisk;
#[cfg(test)]
pub(crate) use memory::MemoryDisk;
pub(crate) use open::open_found;
pub use open::{Empty, Force, Open, open};
pub use part::Part;
pub use pieces::{Piece, pieces};
pub(crate) use pipe::Pipe;
pub use section::Section;
pub use segments::Segments;
use settle::{Watch, settle};
pub use state::{Change, FileState, State};
pub(crate) use underlying::Found;
pub use underlying::Underlying;

/// The kind of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, perhaps with holes.
    RegularFile,
    /// A block device.
    BlockDevice,
    /// A disk image.
    Image,
}

/// A uniform range of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its length in bytes, from where it was asked for.
    pub length: u64,
    /// What it is.
    pub content: Content,
}

/// The content of a range of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It must be read.
    Data,
    /// It is known to read as zeros.
    Zeros,
    /// It is not stored anywhere, and reads as zeros.
    Hole,
    /// The same, and the program that wrote the disk had proof that the range was free.
    Free,
}

/// A disk that can be read, from several threads at once.
///
/// It is open for as long as it lives. The function that opens it refuses an empty one, unless the caller allows it.
#[expect(
    clippy::len_without_is_empty,
    reason = "an empty disk is refused when it is opened"
)]
pub trait Disk: Debug + Sync {
    /// What it is.
    fn kind(&self) -> Kind;

    /// Its length in bytes, not rounded.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `at` on, all of them in front of the end. Neither need be aligned.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read; the action tells the offset in the underlying file or
    ///   device.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if it ends before its own length, or what tells where the bytes are
    ///   is damaged: never zeros instead.
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()>;

    /// As [`read_at`](Self::read_at), but past the cache of the system where that can be done, so that bytes
    /// share no fate with their neighbours. `buf` is at most [`sector_size`](Self::sector_size) long.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()>;

    /// Where byte `at` lies in the underlying file or device, which is what messages are about. It may be one that a
    /// structure claims, behind the end.
    fn position(&self, at: u64) -> u64;

    /// The smallest unit that a read error affects, in bytes.
    fn sector_size(&self) -> u64;

    /// What reading is best aligned to, in bytes: a power of two. What is compressed is read as a whole or for nothing.
    fn grain(&self) -> u64 {
        SECTOR
    }

    /// Whether the device still exists, so that reading on after an error makes sense.
    fn is_present(&self) -> bool;

    /// All files and devices that it is read from; the one that the caller named comes first.
    fn stands_on(&self) -> Vec<&Underlying>;

    /// The first data that begins in a range, or reaches into it, as far as it lies in that: all in front of it are
    /// zeros. It may go on behind the end of what is told.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if the system cannot tell.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if what should tell is damaged.
    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>>;

    /// The first range from `from` on that is not known to be a hole.
    ///
    /// # Errors
    ///
    /// As [`data_in`](Self::data_in).
    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        self.data_in(from..self.len())
    }

    /// What begins at `at`, and up to where that is so, at most `limit` bytes. It is never empty unless `at` is at or
    /// behind the end of the disk, or `limit` is 0.
    ///
    /// # Errors
    ///
    /// As [`data_in`](Self::data_in).
    fn run_at(&self, at: u64, limit: u64) -> Result<Run> {
        let end = claimed_end(at, limit).min(self.len()).max(at);
        let (content, until) = match self.data_in(at..end)? {
            Some(data) if data.start <= at => (Content::Data, data.end),
            Some(data) => (Content::Hole, data.start),
            None => (Content::Hole, end),
        };
        let length = until.minus(at);
        Ok(Run { length, content })
    }

    /// Which of the files it stands on another program may write to while it is read, and which program.
    fn in_use(&self) -> Option<(&Path, &InUse)> {
        let mut files = self.stands_on().into_iter();
        files.find_map(|file| file.writer().map(|writer| (file.path(), writer)))
    }

    /// Who might write to it while it is read.
    fn writer(&self) -> Option<&InUse> {
        self.in_use().map(|(_, writer)| writer)
    }

    /// What others wrote to it earlier, and could not be brought to the disk: what is read may be older.
    fn unwritten(&self) -> Option<&Unwritten> {
        self.stands_on().into_iter().find_map(Underlying::unwritten)
    }

    /// Sees to it that every write to the files it stands on from now on shows as a change: what others wrote earlier is
    /// brought to the disk. Of those that are open for more than a look and hold a disk byte by byte, that was done.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system cannot tell.
    fn settle(&self) -> Result<()> {
        for file in self.stands_on() {
            file.settle().map_err(|error| error.elsewhere(file.path()))?;
        }
        Ok(())
    }

    /// The first of the files it stands on that was seen to change since it was opened, or settled, and how.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if one of them holds a disk byte by byte, and is smaller.
    /// - [`Error::Io`](crate::Error::Io) if the system cannot tell.
    fn change(&self) -> Result<Option<(&Path, Change)>> {
        for (number, file) in self.stands_on().into_iter().enumerate() {
            let change = file.change().map_err(|error| match number {
                0 => error,
                _ => error.elsewhere(file.path()),
            })?;
            if let Some(change) = change {
                return Ok(Some((file.path(), change)));
            }
        }
        Ok(None)
    }
}

impl<D: Disk + ?Sized> Disk for &D {
    fn kind(&self) -> Kind {
        (**self).kind()
    }

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        (**self).read_at(buf, at)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        (**self).read_sector_at(buf, at)
    }

    fn position(&self, at: u64) -> u64 {
        (**self).position(at)
    }

    fn sector_size(&self) -> u64 {
        (**self).sector_size()
    }

    fn grain(&self) -> u64 {
        (**self).grain()
    }

    fn is_present(&self) -> bool {
        (**self).is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        (**self).stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        (**self).data_in(range)
    }

    fn run_at(&self, at: u64, limit: u64) -> Result<Run> {
        (**self).run_at(at, limit)
    }
}
