//! What is written to files that must not change: pages of a temporary file without a name, which goes away with its
//! last handle.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Action, Error, Result};
use crate::output::temporary_directory;
use crate::units::{Exact, rest_of, to_u64, to_usize, within};

/// What is remembered as written or not, in bytes.
const PAGE: u64 = 4 << 10;

/// What has a place of its own in the temporary file, in bytes: as many pages as an integer has bits.
const CHUNK: u64 = 64 * PAGE;

/// How many chunks may have pages that were written. They take 64 MiB of memory, and hold 256 GiB if all of their pages
/// were written.
const MOST: usize = 1 << 20;

/// How many names are tried where the filesystem has no files without one.
const ATTEMPTS: u32 = 100;

/// What was written to some files.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    chunks: RwLock<HashMap<Place, Chunk>>,
    /// Who writes: pages that are written in part are completed first.
    writing: Mutex<()>,
}

/// A chunk of a file: the number of that, and its own.
type Place = (u64, u64);

/// Where the pages of a chunk are that were written.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Where it begins in the temporary file.
    at: u64,
    /// A bit for each page that was written.
    pages: u64,
}

impl Chunk {
    fn has(self, page: u64) -> bool {
        self.pages
            .checked_shr(u32::try_from(page).unwrap_or(u32::MAX))
            .unwrap_or(0)
            & 1
            == 1
    }

    fn add(&mut self, page: u64) {
        let bit = u32::try_from(page).ok().and_then(|page| 1_u64.checked_shl(page));
        self.pages |= bit.unwrap_or(0);
    }
}

/// A piece of a range that lies in one page.
struct Piece {
    place: Place,
    /// The number of the page in its chunk.
    page: u64,
    /// Where it begins in the chunk.
    into: u64,
    length: u64,
}

impl Piece {
    fn of(file: u64, at: u64, length: u64) -> Self {
        let into = within(at, CHUNK);
        Self {
            place: (file, at.checked_div(CHUNK).unwrap_or(0)),
            page: into.checked_div(PAGE).unwrap_or(0),
            into,
            length: rest_of(at, PAGE).min(length),
        }
    }
}

impl Overlay {
    /// Without anything written yet, in the directory for temporary files.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no file can be created there.
    pub(super) fn new() -> Result<Self> {
        let directory = temporary_directory();
        let file = unnamed(&directory)
            .map_err(|error| Error::target_io(Action::CreateOverlay, error).elsewhere(&directory))?;
        Ok(Self {
            file,
            chunks: RwLock::default(),
            writing: Mutex::default(),
        })
    }

    /// Fills `buf` with the bytes of a file from `at` on; those that were never written come from `below`.
    ///
    /// # Errors
    ///
    /// - Those of `below`.
    /// - [`Error::Io`] if the temporary file cannot be read.
    pub(super) fn read(
        &self,
        file: u64,
        at: u64,
        buf: &mut [u8],
        below: impl Fn(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let (length, here) = self.run(file, at, to_u64(rest.len()));
            let (now, behind) = rest.split_at_mut(to_usize(length));
            match here {
                Some(here) => self
                    .file
                    .read_exact_at(now, here)
                    .map_err(|error| Error::source_io(Action::Read(here), error))?,
                None => below(now, at)?,
            }
            at.increase(length);
            rest = behind;
        }
        Ok(())
    }

    /// How long the bytes from `at` on are all written or all not, up to `limit`; and where they lie if they are.
    fn run(&self, file: u64, at: u64, limit: u64) -> (u64, Option<u64>) {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        let find = |piece: &Piece| {
            let chunk = chunks.get(&piece.place).filter(|chunk| chunk.has(piece.page));
            chunk.map(|chunk| chunk.at.plus(piece.into))
        };
        let first = Piece::of(file, at, limit);
        let here = find(&first);
        let mut length = first.length;
        while length < limit {
            let next = Piece::of(file, at.plus(length), limit.minus(length));
            // What was written goes on where it lies, or it is another run.
            if find(&next) != here.map(|here| here.plus(length)) {
                break;
            }
            length.increase(next.length);
        }
        (length, here)
    }

    /// Writes bytes of a file of `size` bytes, in front of whose end they lie.
    ///
    /// # Errors
    ///
    /// - Those of `below`, from which pages come that are written in part.
    /// - [`Error::Io`] if the temporary file cannot be written, or there is no memory left for it.
    pub(super) fn write(
        &self,
        (file, size): (u64, u64),
        at: u64,
        bytes: &[u8],
        below: impl Fn(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let piece = Piece::of(file, at, to_u64(rest.len()));
            let (now, behind) = rest.split_at(to_usize(piece.length));
            let chunk = self.chunk(piece.place)?;
            let start = at.minus(within(at, PAGE));
            let whole = PAGE.min(size.saturating_sub(start));
            if chunk.has(piece.page) || piece.length == whole {
                self.put(now, chunk.at.plus(piece.into))?;
            } else {
                let mut page = vec![0; to_usize(whole)];
                below(&mut page, start)?;
                let into = to_usize(at.minus(start));
                if let Some(part) = page.get_mut(into..into.plus(now.len())) {
                    part.copy_from_slice(now);
                }
                self.put(&page, chunk.at.plus(piece.into.minus(within(piece.into, PAGE))))?;
            }
            self.mark(&piece);
            at.increase(piece.length);
            rest = behind;
        }
        Ok(())
    }

    /// The chunk at a place, which may be a new one.
    fn chunk(&self, place: Place) -> Result<Chunk> {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        let count = chunks.len();
        if count >= MOST && !chunks.contains_key(&place) {
            return Err(Error::target_io(Action::Write(0), Errno::NOSPC));
        }
        let new = || Chunk {
            at: to_u64(count).times(CHUNK),
            pages: 0,
        };
        Ok(*chunks.entry(place).or_insert_with(new))
    }

    fn put(&self, bytes: &[u8], at: u64) -> Result<()> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|error| Error::target_io(Action::Write(at), error))
    }

    fn mark(&self, piece: &Piece) {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = chunks.get_mut(&piece.place) {
            chunk.add(piece.page);
        }
    }
}

/// A file without a name, or one that has its name for a moment only.
fn unnamed(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        opened => return Ok(opened?.into()),
    }
    let mut names = (0..ATTEMPTS).map(|attempt| {
        let name = format!(".mkqcow2-mount-{}-{attempt}.tmp", std::process::id());
        let path = directory.join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        fs::remove_file(path).map(|()| file)
    });
    let is_taken = |file: &io::Result<File>| {
        let error = file.as_ref().err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
    };
    let file = names.find(|file| !is_taken(file));
    file.unwrap_or_else(|| Err(Errno::EXIST.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;

    #[test]
    fn files_read_as_they_were_but_for_what_was_written() {
        let size = to_usize(3 * CHUNK + 700);
        let original = noise(size);
        let below = |buf: &mut [u8], at: u64| {
            let at = to_usize(at);
            buf.copy_from_slice(&original[at..at + buf.len()]);
            Ok(())
        };
        let overlay = Overlay::new().unwrap();
        let mut expected = [original.clone(), original.clone()];
        let page = to_usize(PAGE);
        for (number, (at, length)) in [
            (0, page),
            (5 * page + 100, 50),
            (5 * page + 120, 2 * page),
            (to_usize(CHUNK) - 10, 20),
            (size - 300, 300),
            (size - 1000, 10),
            (7 * page, to_usize(CHUNK)),
        ]
        .into_iter()
        .enumerate()
        {
            let file = number % 2;
            let bytes: Vec<u8> = noise(length).iter().map(|byte| !byte).collect();
            expected[file][at..at + length].copy_from_slice(&bytes);
            let whose = (to_u64(file), to_u64(size));
            overlay.write(whose, to_u64(at), &bytes, below).unwrap();
        }
        for (file, expected) in (0..).zip(&expected) {
            for start in (0..size).step_by(3571) {
                let length = 60_000.min(size - start);
                let mut found = vec![0; length];
                overlay.read(file, to_u64(start), &mut found, below).unwrap();
                assert!(found == expected[start..start + length], "{file} {start}");
            }
        }
    }

    #[test]
    fn a_page_that_cannot_be_completed_is_not_written() {
        let overlay = Overlay::new().unwrap();
        let fails = |_: &mut [u8], at| Err(Error::source_io(Action::Read(at), Errno::IO));
        assert!(overlay.write((0, 8 * PAGE), 100, b"part", fails).is_err());
        overlay.write((0, 8 * PAGE), PAGE, &[7; 4096], fails).unwrap();

        assert!(overlay.read(0, 0, &mut [0; 10], fails).is_err());
        let mut page = [0; 4096];
        overlay.read(0, PAGE, &mut page, fails).unwrap();
        assert_eq!(page, [7; 4096]);
    }
}
