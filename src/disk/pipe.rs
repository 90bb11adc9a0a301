//! A file that comes through a pipe: read once, from its first byte to its last. What is needed more than once is kept in
//! a file without a name; the rest is in memory from when it is loaded until it is released.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Action, Corrupt, Error, Result};
use crate::units::{Exact, to_u64, to_usize};

/// How much is read in one go, in bytes, of what is kept or passed over.
const PIECE: u64 = 256 << 10;

/// How much room is made at once, in bytes.
const LARGEST: u64 = 4 << 20;

/// How many bytes at the end are always kept.
const TAIL: usize = 64;

/// The length of a file that has not ended yet, in bytes: no file is longer.
const UNKNOWN: u64 = i64::MAX.unsigned_abs();

/// A file that comes through a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    source: Mutex<Source>,
    /// What is kept, at the offsets that it has in the stream.
    kept: File,
    there: Mutex<There>,
    /// All of it in bytes, once it ended.
    length: OnceLock<u64>,
}

#[derive(Debug)]
struct Source {
    file: File,
    /// How many bytes were read.
    position: u64,
    /// The last of them.
    tail: Vec<u8>,
}

/// What can be read again.
#[derive(Debug, Default)]
struct There {
    /// In the file: ascending and apart.
    kept: Vec<Range<u64>>,
    /// In memory, ascending. The beginning of one may be the end of the last one.
    loaded: VecDeque<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    start: u64,
    bytes: Arc<Vec<u8>>,
}

impl Loaded {
    fn end(&self) -> u64 {
        self.start.plus(to_u64(self.bytes.len()))
    }
}

impl Pipe {
    /// Of a stream of which nothing was read, and an empty file.
    pub(crate) fn new(stream: File, kept: File) -> Self {
        Self {
            source: Mutex::new(Source {
                file: stream,
                position: 0,
                tail: Vec::new(),
            }),
            kept,
            there: Mutex::default(),
            length: OnceLock::new(),
        }
    }

    /// The file of what is kept.
    pub(super) fn kept(&self) -> io::Result<File> {
        self.kept.try_clone()
    }

    /// Its length in bytes; more than any file has until it ended.
    pub(super) fn length(&self) -> u64 {
        self.length.get().copied().unwrap_or(UNKNOWN)
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> u64 {
        self.source().position
    }

    /// Reads on up to `end`, and keeps all of that.
    ///
    /// # Errors
    ///
    /// - [`Corrupt::Ended`] if it ends before that.
    /// - [`Error::Io`] if it cannot be read or kept.
    pub(crate) fn keep_to(&self, end: u64) -> Result<()> {
        let mut source = self.source();
        match self.keep(&mut source, end)? {
            reached if reached < end => Err(ended(reached, end)),
            _ => Ok(()),
        }
    }

    /// Reads on up to the end, keeps `most` bytes of that at most, but the very last in any case, and tells how long all of
    /// it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read or kept.
    pub(crate) fn keep_rest(&self, most: u64) -> Result<u64> {
        let mut source = self.source();
        let limit = source.position.saturating_add(most).min(UNKNOWN);
        self.keep(&mut source, limit)?;
        let end = source.pass(UNKNOWN)?;
        let start = end.minus(to_u64(source.tail.len()));
        self.keep_at(start, &source.tail)?;
        Ok(*self.length.get_or_init(|| end))
    }

    /// Reads on up to `end`, and keeps nothing of that.
    ///
    /// # Errors
    ///
    /// As [`keep_to`](Self::keep_to).
    pub(crate) fn pass_to(&self, end: u64) -> Result<()> {
        match self.source().pass(end)? {
            reached if reached < end => Err(ended(reached, end)),
            _ => Ok(()),
        }
    }

    /// Reads on up to the end of a range, which is in memory from then on. Its beginning may have been read, if it is kept
    /// or lies in the range that was loaded last.
    ///
    /// # Errors
    ///
    /// - [`Corrupt::Ended`] if it ends before that.
    /// - [`Error::Io`] if it cannot be read.
    pub(crate) fn load(&self, range: &Range<u64>) -> Result<()> {
        let mut source = self.source();
        let reached = source.pass(range.start)?;
        if reached < range.start {
            return Err(ended(reached, range.end));
        }
        let mut bytes = vec![0; to_usize(source.position.min(range.end).minus(range.start))];
        if self.read(&mut bytes, range.start)? < bytes.len() {
            return Err(gone(range.start));
        }
        source.append(&mut bytes, range.end)?;
        let end = range.start.plus(to_u64(bytes.len()));
        if end < range.end {
            return Err(ended(end, range.end));
        }
        let loaded = Loaded {
            start: range.start,
            bytes: Arc::new(bytes),
        };
        self.there().loaded.push_back(loaded);
        Ok(())
    }

    /// Forgets what was loaded in front of `end`, but for the last range: the next one may begin in that.
    pub(crate) fn release(&self, end: u64) {
        let mut there = self.there();
        while there.loaded.len() > 1 && there.loaded.front().is_some_and(|first| first.end() <= end) {
            there.loaded.pop_front();
        }
    }

    /// Reads as much as is there from `at` on without reading further, and returns how much that was.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if what is kept cannot be read.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let there = self.there();
        // First what is loaded: all of a range is in the one that was loaded for it, but perhaps only its beginning kept.
        let behind = there.loaded.partition_point(|loaded| loaded.start <= at);
        let last = behind.checked_sub(1).and_then(|last| there.loaded.get(last));
        if let Some(last) = last.filter(|last| at < last.end()) {
            let (start, bytes) = (last.start, Arc::clone(&last.bytes));
            drop(there);
            let bytes = bytes.get(to_usize(at.minus(start))..).unwrap_or_default();
            let length = bytes.len().min(buf.len());
            let ((buf, _), (bytes, _)) = (buf.split_at_mut(length), bytes.split_at(length));
            buf.copy_from_slice(bytes);
            return Ok(length);
        }
        let kept = there.kept.iter().find(|kept| kept.contains(&at)).cloned();
        drop(there);
        let Some(kept) = kept else {
            return Ok(0);
        };
        let length = to_usize(kept.end.minus(at)).min(buf.len());
        let (buf, _) = buf.split_at_mut(length);
        let read = self.kept.read_exact_at(buf, at);
        read.map_err(|error| Error::source_io(Action::Read(at), error))?;
        Ok(length)
    }

    /// Reads on up to `end` or the end of the stream, and returns where that was.
    fn keep(&self, source: &mut Source, end: u64) -> Result<u64> {
        let mut piece = Vec::new();
        while source.position < end {
            piece.clear();
            let start = source.position;
            source.append(&mut piece, end.min(start.plus(PIECE)))?;
            if piece.is_empty() {
                break;
            }
            self.keep_at(start, &piece)?;
        }
        Ok(source.position)
    }

    /// Keeps bytes that end behind all that were kept before.
    fn keep_at(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let kept = self.kept.write_all_at(bytes, start);
        kept.map_err(|error| Error::target_io(Action::Scratch, error))?;
        let end = start.plus(to_u64(bytes.len()));
        let mut there = self.there();
        match there.kept.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => there.kept.push(start..end),
        }
        Ok(())
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Reads on up to `end`, or the end of the stream.
    fn append(&mut self, bytes: &mut Vec<u8>, end: u64) -> Result<()> {
        let at = self.position;
        let wanted = end.saturating_sub(at);
        let before = bytes.len();
        // A window, or a cluster and a half: not more than asked for, and not piece by piece.
        bytes.reserve(to_usize(wanted.min(LARGEST)));
        let read = (&self.file).take(wanted).read_to_end(bytes);
        let read = read.map_err(|error| Error::source_io(Action::Read(at), error))?;
        self.position.increase(to_u64(read));
        let (_, new) = bytes.split_at(before);
        self.tail.extend(new.iter().skip(read.saturating_sub(TAIL)));
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(())
    }

    /// Reads on up to `end`, or the end of the stream, and returns where that was.
    fn pass(&mut self, end: u64) -> Result<u64> {
        let mut piece = Vec::new();
        while self.position < end {
            piece.clear();
            self.append(&mut piece, end.min(self.position.plus(PIECE)))?;
            if piece.is_empty() {
                break;
            }
        }
        Ok(self.position)
    }
}

fn ended(end: u64, expected: u64) -> Error {
    Corrupt::Ended { end, expected }.into()
}

/// What was read and not kept. Whoever loads ranges in ascending order never meets it.
fn gone(at: u64) -> Error {
    let error = io::Error::new(io::ErrorKind::NotSeekable, "a pipe cannot be read again");
    Error::source_io(Action::Read(at), error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pipe(bytes: Vec<u8>) -> Pipe {
        let (reader, mut writer) = io::pipe().unwrap();
        std::thread::spawn(move || {
            // Some tests do not read all of it.
            let _ = writer.write_all(&bytes);
        });
        let name = format!(
            "mkqcow2-pipe-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        let kept = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        Pipe::new(File::from(std::os::fd::OwnedFd::from(reader)), kept)
    }

    fn numbers(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn read(pipe: &Pipe, at: u64, length: usize) -> Vec<u8> {
        let mut buf = vec![0xee; length];
        let read = pipe.read(&mut buf, at).unwrap();
        buf.truncate(read);
        buf
    }

    #[test]
    fn what_is_kept_and_what_is_loaded_can_be_read_again_and_nothing_else() {
        let bytes = numbers(3_000_000);
        let pipe = pipe(bytes.clone());
        pipe.keep_to(1000).unwrap();
        assert_eq!(pipe.position(), 1000);
        assert_eq!(read(&pipe, 10, 100), bytes[10..110]);
        // No more than there is.
        assert_eq!(read(&pipe, 990, 100), bytes[990..1000]);
        assert!(pipe.length() > 1 << 60);

        pipe.load(&(5000..700_000)).unwrap();
        assert_eq!(read(&pipe, 3000, 10), b"");
        assert_eq!(read(&pipe, 600_000, 200_000), bytes[600_000..700_000]);
        // It begins in what was loaded last.
        pipe.load(&(699_900..800_000)).unwrap();
        assert_eq!(read(&pipe, 699_950, 1000), bytes[699_950..700_950]);
        pipe.release(800_000);
        assert_eq!(read(&pipe, 5000, 10), b"");
        assert_eq!(read(&pipe, 799_990, 100), bytes[799_990..800_000]);

        assert!(pipe.load(&(5000..6000)).is_err());
        pipe.pass_to(2_000_000).unwrap();
        assert_eq!(pipe.keep_rest(500_000).unwrap(), 3_000_000);
        assert_eq!(pipe.length(), 3_000_000);
        assert_eq!(read(&pipe, 2_499_999, 10), bytes[2_499_999..2_500_000]);
        assert_eq!(read(&pipe, 2_500_000, 10), b"");
        assert_eq!(read(&pipe, 2_999_936, 100), bytes[2_999_936..]);
    }

    #[test]
    fn a_stream_that_ends_early_tells_where() {
        let calls: [fn(&Pipe) -> Result<()>; 3] = [
            |pipe| pipe.keep_to(6000),
            |pipe| pipe.pass_to(6000),
            |pipe| pipe.load(&(5500..6000)),
        ];
        for call in calls {
            let error = call(&pipe(numbers(5000))).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Corrupt(Corrupt::Ended {
                        end: 5000,
                        expected: 6000
                    })
                ),
                "{error:?}"
            );
        }
    }
}
