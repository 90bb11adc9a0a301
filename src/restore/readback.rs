//! What was written, compared with what is read back.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crc32fast::Hasher;
use rayon::ThreadPool;
use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use super::fill::{Piece, hash, slice};
use super::walk::{Job, Task, Whereabouts};
use crate::error::{Action, Error, Result};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::Progress;
use crate::units::{Exact, length, to_usize};
use crate::zero::is_zero;

/// How many entries a ledger has at most: a mebibyte and a half of them.
const MAX_ENTRIES: usize = 1 << 16;

/// How much is read in one go where there should be zeros, in bytes.
const PIECE: u64 = 1 << 20;

/// The checksums of what was written, each of one window or, where there are very many, of several.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// How many windows each entry is for, except perhaps the last.
    per_entry: usize,
    /// How many the last one is for.
    in_last: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// From the first window to the last, in bytes of the target.
    range: Range<u64>,
    /// Of all bytes that were written, one window after the other.
    hasher: Hasher,
}

impl Entry {
    fn append(&mut self, next: &Self) {
        self.range.end = next.range.end;
        self.hasher.combine(&next.hasher);
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            per_entry: 1,
            in_last: 0,
        }
    }
}

impl Ledger {
    /// Adds a window, of which so many bytes with this CRC-32 were written.
    pub(super) fn add(&mut self, range: Range<u64>, crc: u32, bytes: u64) {
        if self.entries.len() >= MAX_ENTRIES && self.in_last >= self.per_entry {
            self.merge();
        }
        let hasher = Hasher::new_with_initial_len(crc, bytes);
        let entry = Entry { range, hasher };
        if let Some(last) = self.entries.last_mut().filter(|_| self.in_last < self.per_entry) {
            last.append(&entry);
            self.in_last.increase(1);
        } else {
            self.entries.push(entry);
            self.in_last = 1;
        }
    }

    /// Makes one entry of two.
    fn merge(&mut self) {
        let merge_two = |two: &[Entry]| {
            let (first, second) = two.split_first()?;
            let mut entry = first.clone();
            for next in second {
                entry.append(next);
            }
            Some(entry)
        };
        self.entries = self.entries.chunks(2).filter_map(merge_two).collect();
        self.per_entry = self.per_entry.times(2);
        // The number of entries is even, and all of them were complete.
        self.in_last = self.per_entry;
    }
}

/// Reads all of a disk back that was written in these jobs, past the cache of the system if it can be helped.
///
/// # Errors
///
/// - [`Error::ReadBack`] if anything else is there than was written.
/// - [`Error::Io`] if it cannot be read.
pub(super) fn compare(
    file: &File,
    ledger: &Ledger,
    jobs: impl Iterator<Item = Result<Job>>,
    pool: &ThreadPool,
    in_flight: usize,
    progress: &dyn Progress,
) -> Result<()> {
    // Advice. What is synced can be dropped.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    let reader = Reader {
        file,
        is_file: file.metadata().is_ok_and(|metadata| metadata.is_file()),
        buffers: Buffers::default(),
    };
    let mut found = Ledger {
        per_entry: ledger.per_entry,
        ..Ledger::default()
    };
    let mut expected = ledger.entries.iter();
    let mut compare_first = |found: &mut Ledger| match (found.entries.pop(), expected.next()) {
        (Some(found), Some(expected)) => {
            let crc = |entry: &Entry| entry.hasher.clone().finalize();
            if found.range == expected.range && crc(&found) == crc(expected) {
                Ok(())
            } else {
                Err(Error::ReadBack(expected.range.clone()))
            }
        }
        // There is as much as there was: the jobs are the same.
        (Some(entry), None) => Err(Error::ReadBack(entry.range)),
        (None, Some(entry)) => Err(Error::ReadBack(entry.range.clone())),
        (None, None) => Ok(()),
    };
    pipeline::in_order(
        pool,
        in_flight,
        jobs,
        |job| reader.read(job?),
        |read| {
            progress.advance(length(&read.range));
            let Some((crc, bytes)) = read.data else {
                return Ok(());
            };
            found.add(read.range, crc, bytes);
            if found.in_last == found.per_entry {
                compare_first(&mut found)?;
            }
            Ok(())
        },
    )?;
    if !found.entries.is_empty() {
        compare_first(&mut found)?;
    }
    match expected.next() {
        Some(entry) => Err(Error::ReadBack(entry.range.clone())),
        None => Ok(()),
    }
}

struct Reader<'a> {
    file: &'a File,
    /// A regular file, which can tell its holes.
    is_file: bool,
    buffers: Buffers,
}

/// A range that was read back.
struct Read {
    /// In bytes of the target.
    range: Range<u64>,
    /// The CRC-32 of what is not left as it was, and its length; none where all was zeros, or left.
    data: Option<(u32, u64)>,
}

impl Reader<'_> {
    fn read(&self, job: Job) -> Result<Read> {
        let Job { wanted, content, .. } = job;
        let range = wanted.target();
        let data = match content {
            Task::Nothing => None,
            Task::Zeros | Task::Lost => {
                self.expect_zeros(&range)?;
                None
            }
            Task::Data(window) => {
                let piece = |place| match place {
                    Whereabouts::Nothing => Piece::Leave,
                    Whereabouts::Run(_) | Whereabouts::Lost => Piece::Write,
                };
                let parts = window.parts.iter();
                let pieces: Vec<_> = parts
                    .map(|part| (wanted.clipped(&part.range).target(), piece(part.place)))
                    .collect();
                let mut bytes = self.buffers.take(to_usize(length(&range)));
                self.read_exact(&mut bytes, range.start)?;
                let crc = hash(&range, &pieces, &bytes);
                self.buffers.give(bytes);
                Some((crc, written(&pieces)))
            }
        };
        Ok(Read { range, data })
    }

    fn expect_zeros(&self, range: &Range<u64>) -> Result<()> {
        let mut bytes = self.buffers.take(to_usize(PIECE.min(length(range))));
        let mut at = range.start;
        while at < range.end {
            at = self.next_data(at).max(at).min(range.end);
            let piece = at..range.end.min(at.plus(PIECE));
            if piece.is_empty() {
                break;
            }
            let (buf, _) = bytes.split_at_mut(to_usize(length(&piece)));
            self.read_exact(buf, at)?;
            if !is_zero(slice(&piece, &piece, buf)) {
                return Err(Error::ReadBack(piece));
            }
            at = piece.end;
        }
        self.buffers.give(bytes);
        Ok(())
    }

    /// The first byte from `at` on that is in no hole, as far as that can be told.
    fn next_data(&self, at: u64) -> u64 {
        if !self.is_file {
            return at;
        }
        match rustix::fs::seek(self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => u64::MAX,
            Err(_) => at,
        }
    }

    fn read_exact(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.file
            .read_exact_at(buf, at)
            .map_err(|error| Error::target_io(Action::Read(at), error))
    }
}

/// How many bytes do not stay as they were.
pub(super) fn written(pieces: &[(Range<u64>, Piece)]) -> u64 {
    let pieces = pieces.iter().filter(|(_, piece)| *piece != Piece::Leave);
    pieces.map(|(range, _)| length(range)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ChainRun;
    use crate::formats::qcow2::structures::mapping::Mapping;
    use crate::progress::Silent;
    use crate::restore::stretch::Stretch;
    use crate::restore::walk::{Span, Window};
    use crate::units::HostOffset;

    /// Half a window of data, a window of which the first half is left, zeros, and what is left.
    fn jobs() -> impl Iterator<Item = Result<Job>> {
        let run = Whereabouts::Run(ChainRun {
            length: 512,
            mapping: Mapping::Data(HostOffset(0)),
            room: None,
            is_free: None,
            depth: 0,
        });
        let part = |range: Range<u64>, place| Span {
            range: range.start + 65536..range.end + 65536,
            place,
        };
        let data = |parts| {
            let expected = Vec::new();
            Task::Data(Window { parts, expected })
        };
        let left = part(1024..1536, Whereabouts::Nothing);
        [
            (
                0..1024,
                data(vec![part(0..512, run), part(512..1024, Whereabouts::Lost)]),
            ),
            (1024..2048, data(vec![left, part(1536..2048, run)])),
            (2048..3072, Task::Zeros),
            (3072..4096, Task::Nothing),
        ]
        .into_iter()
        .map(|(range, content)| {
            // It goes elsewhere than it came from.
            let from = range.start + 65536..range.end + 65536;
            let at = range.start;
            Ok(Job {
                wanted: Stretch {
                    range: from.clone(),
                    at,
                },
                range: from,
                content,
            })
        })
    }

    #[test]
    fn a_bit_that_is_not_as_it_was_written_is_found_wherever_it_is() {
        let path = std::env::temp_dir().join(format!("mkqcow2-readback-{}", std::process::id()));
        let content: Vec<u8> = (0..4096_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut content = content;
        content[512..1024].fill(0);
        content[2048..3072].fill(0);
        let mut ledger = Ledger::default();
        ledger.add(0..1024, crc32fast::hash(&content[..1024]), 1024);
        ledger.add(1024..2048, crc32fast::hash(&content[1536..2048]), 512);
        let pool = pipeline::workers(None).unwrap();
        let found = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            let file = File::open(&path).unwrap();
            compare(&file, &ledger, jobs(), &pool, 4, &Silent).map_err(|error| {
                let Error::ReadBack(range) = error else {
                    panic!("{error}");
                };
                range
            })
        };

        assert_eq!(found(&content), Ok(()));
        for (at, expected) in [
            (0, Err(0..1024)),
            (700, Err(0..1024)),
            (1024, Ok(())),
            (1535, Ok(())),
            (1536, Err(1024..2048)),
            (2047, Err(1024..2048)),
            (2048, Err(2048..3072)),
            (3071, Err(2048..3072)),
            (3072, Ok(())),
        ] {
            let mut other = content.clone();
            other[at] ^= 0x10;
            assert_eq!(found(&other), expected, "{at}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_ledger_does_not_grow_and_keeps_every_window() {
        let mut ledger = Ledger::default();
        let mut all = Hasher::new();
        let windows = 3 * u64::try_from(MAX_ENTRIES).unwrap() + 5;
        for window in 0..windows {
            let bytes = window.to_le_bytes();
            all.update(&bytes);
            ledger.add(window * 10..window * 10 + 10, crc32fast::hash(&bytes), 8);
        }
        assert!(ledger.entries.len() <= MAX_ENTRIES);
        assert_eq!(ledger.per_entry, 4);
        let mut next = 0;
        let mut combined = Hasher::new();
        for entry in &ledger.entries {
            assert_eq!(entry.range.start, next);
            next = entry.range.end;
            combined.combine(&entry.hasher);
        }
        assert_eq!(next, windows * 10);
        assert_eq!(combined.finalize(), all.finalize());
    }
}
