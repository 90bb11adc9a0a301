//! Reading around bad sectors.

use std::io;
use std::ops::Range;

use rustix::io::Errno;

use super::Disk;
use crate::error::{Corrupt, Error, Result};
use crate::progress::{Progress, Retries};
use crate::units::{Exact, rest_of, to_u64, to_usize};

/// What to do where the source cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReadError {
    /// Stop.
    #[default]
    Stop,
    /// Read sector by sector, and fill with zeros what cannot be read even so.
    Zero,
}

/// Reads around bad sectors, if that is asked for, and tells how far that is. All workers share it.
#[derive(Debug)]
pub struct Rescue<'a> {
    on_error: OnReadError,
    retries: Retries<'a>,
}

impl<'a> Rescue<'a> {
    /// Of a phase that is about to begin.
    pub fn new(on_error: OnReadError, progress: &'a dyn Progress) -> Self {
        let retries = Retries::new(progress);
        Self { on_error, retries }
    }

    /// Fills `buf` with the bytes from `at` on. Returns the ranges that could not be read and are zeros instead,
    /// in bytes of the source, ascending, and none but with [`OnReadError::Zero`].
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if the source cannot be read, unless zeros were asked for and it is the medium that failed, or a cluster
    ///   of an image that is damaged.
    /// - [`Error::Corrupt`] if the source shrank or disappeared.
    pub fn read(&self, source: &dyn Disk, buf: &mut [u8], at: u64) -> Result<Vec<Range<u64>>> {
        match source.read_at(buf, at) {
            Ok(()) => Ok(Vec::new()),
            Err(error) if self.on_error == OnReadError::Zero && is_of_the_medium(&error) => {
                self.by_sector(source, buf, at)
            }
            Err(error) => Err(error),
        }
    }

    fn by_sector(&self, source: &dyn Disk, buf: &mut [u8], at: u64) -> Result<Vec<Range<u64>>> {
        let mut unreadable: Vec<Range<u64>> = Vec::new();
        let mut retry = self.retries.begin(source.position(at));
        let (mut rest, mut at) = (buf, at);
        while !rest.is_empty() {
            // Up to the next sector, so that the second read is aligned.
            let to_boundary = rest_of(source.position(at), source.sector_size());
            let length = to_usize(to_boundary).min(rest.len());
            let (sector, behind) = rest.split_at_mut(length);
            let next = at.plus(to_u64(length));
            let lost = match source.read_sector_at(sector, at) {
                Ok(()) => 0,
                Err(error) if is_of_the_medium(&error) => {
                    if !source.is_present() {
                        return Err(Corrupt::Disappeared {
                            at: source.position(at),
                        }
                        .into());
                    }
                    sector.fill(0);
                    append(&mut unreadable, at..next);
                    to_u64(length)
                }
                Err(error) => return Err(error),
            };
            retry.go_on(source.position(next), lost);
            (rest, at) = (behind, next);
        }
        Ok(unreadable)
    }
}

/// Adds a range that begins at or behind the end of the last one.
pub fn append(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => ranges.push(range),
    }
}

/// Whether a failure to read speaks of these bytes only, so that others may be readable: then it takes
/// [`OnReadError::Zero`] to go on.
pub fn is_of_medium(error: &io::Error) -> bool {
    const OF_MEDIUM: [Errno; 7] = [
        Errno::IO,
        // What block devices report past the cache: a medium error, a failed check, a target or link error.
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::REMOTEIO,
        Errno::TIMEDOUT,
        // What filesystems report for a checksum that does not match.
        Errno::BADMSG,
        Errno::UCLEAN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| OF_MEDIUM.contains(&errno))
}

/// The same of any error, which may be of a file that an image needs.
fn is_of_the_medium(error: &Error) -> bool {
    match error.innermost().0 {
        Error::Io { source, .. } => is_of_medium(source),
        // One cluster of an image is damaged.
        Error::Corrupt(Corrupt::Checksum { .. } | Corrupt::Stream { .. }) => true,
        Error::Corrupt(_)
        | Error::Unsupported(_)
        | Error::Invalid(_)
        | Error::ReadBack(_)
        | Error::Elsewhere { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_medium_fails_with_is_told_from_what_the_way_to_it_does() {
        let is_medium = |error: Errno| is_of_medium(&error.into());
        for error in [
            Errno::IO,
            Errno::NODATA,
            Errno::ILSEQ,
            Errno::REMOTEIO,
            Errno::TIMEDOUT,
        ] {
            assert!(is_medium(error), "{error}");
        }
        for error in [
            Errno::NOTCONN,
            Errno::NOLINK,
            Errno::NOMEM,
            Errno::NXIO,
            Errno::STALE,
        ] {
            assert!(!is_medium(error), "{error}");
        }
    }
}
