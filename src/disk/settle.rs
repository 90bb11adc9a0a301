//! The moment from which on every write to a source shows.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::unstamped::Unstamped;
use super::{Change, FileState, State};
use crate::devices::flush::sync_file;
use crate::devices::{Kernel, Subject, own_path};

/// How often it is tried to find a moment without writes.
const ATTEMPTS: u32 = 3;

/// Filesystems tell time in ticks of the kernel, 10 ms at most, and exFAT in steps of that length.
const STEP: Duration = Duration::from_millis(20);

/// Some tell it in seconds, FAT in pairs of them.
const LONG_STEP: Duration = Duration::from_secs(2);

/// The state of a source from which on every write to its file shows as another state.
///
/// A program that has a file mapped writes to a page without a word to the kernel, unless that has brought the page to
/// the disk since the last write: so all pages are brought there first. And two writes within one step of the clock
/// have the same time: so the last one must be older than that. If it is written to all the time, the state is
/// `first`, from which it differs by then.
///
/// # Errors
///
/// Those of `look`.
pub(super) fn settle(
    first: State,
    look: impl Fn() -> io::Result<State>,
    mut flush: impl FnMut(),
) -> io::Result<State> {
    let mut state = first;
    for _ in 0..ATTEMPTS {
        let now = SystemTime::now();
        std::thread::sleep(state.file().map_or(Duration::ZERO, |file| until_told(file, now)));
        flush();
        let after = look()?;
        if after.file() == state.file() {
            return Ok(after);
        }
        state = after;
    }
    Ok(first)
}

/// How long it takes until another write has another time.
fn until_told(file: FileState, now: SystemTime) -> Duration {
    let (seconds, nanoseconds) = file.modified;
    let step = if nanoseconds == 0 { LONG_STEP } else { STEP };
    let modified = u64::try_from(seconds)
        .ok()
        .zip(u32::try_from(nanoseconds).ok())
        .map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
    let age = modified.and_then(|modified| now.duration_since(UNIX_EPOCH.checked_add(modified)?).ok());
    // What was written in the future, or before 1970, was not written just now.
    // Nor what is older than a step.
    age.map_or(Duration::ZERO, |age| step.saturating_sub(age))
}

/// What was found so far of the writes to a file or device since a moment.
#[derive(Debug)]
pub(super) struct Watch {
    before: State,
    /// Whether all that waited in caches then was brought to the disk.
    is_settled: bool,
    /// The system says it once.
    failure: OnceLock<Errno>,
    /// The file that it is, or stands on, if its state does not tell all.
    unstamped: Option<Unstamped>,
}

impl Watch {
    /// Of writes after this state, as far as they show.
    pub(super) fn loose(before: State) -> Self {
        Self {
            before,
            is_settled: false,
            failure: OnceLock::new(),
            unstamped: None,
        }
    }

    /// Of all writes after this state, in which it [settled](settle).
    pub(super) fn tight(before: State, file: &File, subject: Subject) -> Self {
        let path = match subject {
            Subject::File(_) => Some(own_path(file)),
            // If that cannot be told, its state tells as much.
            Subject::Device(number) => Kernel::running().file_behind(number).unwrap_or_default(),
        };
        Self {
            is_settled: true,
            unstamped: path.and_then(|path| Unstamped::at(&path)),
            ..Self::loose(before)
        }
    }

    /// The state from which on it watches.
    pub(super) fn before(&self) -> &State {
        &self.before
    }

    /// How the file or device was seen to change.
    ///
    /// # Errors
    ///
    /// If it cannot be examined.
    pub(super) fn change(&self, file: &File, subject: Subject) -> io::Result<Option<Change>> {
        let look = || State::of(file, subject).map(|after| Change::between(&self.before, &after));
        let change = look()?;
        if change.is_some() || !self.is_settled {
            return Ok(change);
        }
        // What waits in a cache shows, at the latest, when it is written.
        if let Err(error) = sync_file(file) {
            self.failure.get_or_init(|| error);
        }
        let failed = self.failure.get().map(|error| Change::WritesFail {
            errno: error.raw_os_error(),
        });
        let kernel = Kernel::running();
        let unstamped = || self.unstamped.as_ref()?.change(&kernel);
        Ok(look()?.or(failed).or_else(unstamped))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn file(size: u64, seconds: i64) -> State {
        State::File(FileState {
            size,
            modified: (seconds, 1),
        })
    }

    #[test]
    fn a_file_at_rest_is_flushed_once() {
        let flushes = Cell::new(0);
        let flush = || flushes.set(flushes.get() + 1);
        assert_eq!(settle(file(1, 1), || Ok(file(1, 1)), flush).unwrap(), file(1, 1));
        assert_eq!(flushes.get(), 1);
    }

    #[test]
    fn a_write_while_it_is_flushed_makes_it_be_flushed_again() {
        let flushes = Cell::new(0);
        let flush = || flushes.set(flushes.get() + 1);
        let look = || Ok(file(1, 2));
        assert_eq!(settle(file(1, 1), look, flush).unwrap(), file(1, 2));
        assert_eq!(flushes.get(), 2);
    }

    #[test]
    fn what_is_written_to_all_the_time_differs_from_its_first_state() {
        let flushes = Cell::new(1);
        let flush = || flushes.set(flushes.get() + 1);
        let look = || Ok(file(1, flushes.get()));
        assert_eq!(settle(file(1, 1), look, flush).unwrap(), file(1, 1));
        assert_eq!(flushes.get(), 1 + i64::from(ATTEMPTS));
        assert!(settle(file(1, 1), || Err(io::ErrorKind::NotFound.into()), || ()).is_err());
    }

    #[test]
    fn the_last_write_must_be_older_than_a_step_of_the_clock() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let written = |seconds, nanoseconds| FileState {
            size: 0,
            modified: (seconds, nanoseconds),
        };
        let millis = Duration::from_millis;
        assert_eq!(until_told(written(5, 1_000_000), at(5001)), millis(20));
        assert_eq!(until_told(written(5, 1_000_000), at(5015)), millis(6));
        assert_eq!(until_told(written(5, 1_000_000), at(5021)), millis(0));
        assert_eq!(until_told(written(5, 0), at(5015)), millis(1985));
        assert_eq!(until_told(written(4, 0), at(6000)), millis(0));
        assert_eq!(until_told(written(6, 1), at(5000)), millis(0), "in the future");
        assert_eq!(until_told(written(-1, 1), at(0)), millis(0), "before 1970");
    }
}
