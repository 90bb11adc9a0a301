//! Counts the retries of several workers together.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::{Progress, Retrying};

/// The retries of a phase.
pub(crate) struct Retries<'a> {
    progress: &'a dyn Progress,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    /// Where each of the workers is.
    places: Vec<u64>,
    unreadable: u64,
}

impl Tally {
    fn leave(&mut self, place: u64) {
        if let Some(number) = self.places.iter().position(|other| *other == place) {
            self.places.swap_remove(number);
        }
    }
}

impl<'a> Retries<'a> {
    pub(crate) fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            tally: Mutex::default(),
        }
    }

    /// A worker begins to read sector by sector, from `at` on. It ends when the returned value is dropped.
    pub(crate) fn begin(&self, at: u64) -> Retry<'_> {
        self.change(|tally| tally.places.push(at));
        Retry { retries: self, at }
    }

    /// Tells the new state before the next change, so that states are told in their order.
    fn change(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut tally);
        let unreadable = tally.unreadable;
        let first = tally.places.iter().min();
        self.progress
            .retrying(first.map(|&at| Retrying { at, unreadable }));
    }
}

impl fmt::Debug for Retries<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Retries")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

/// What one worker retries.
#[derive(Debug)]
pub(crate) struct Retry<'a> {
    retries: &'a Retries<'a>,
    at: u64,
}

impl Retry<'_> {
    /// Goes on to the sector at `at`, behind `lost` bytes that cannot be read.
    pub(crate) fn go_on(&mut self, at: u64, lost: u64) {
        self.retries.change(|tally| {
            tally.leave(self.at);
            tally.places.push(at);
            tally.unreadable = tally.unreadable.saturating_add(lost);
        });
        self.at = at;
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        self.retries.change(|tally| tally.leave(self.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Phase;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<Option<(u64, u64)>>>);

    impl Progress for Told {
        fn begin(&self, _: Phase, _: u64) {}

        fn advance(&self, _: u64) {}

        fn retrying(&self, retrying: Option<Retrying>) {
            let told = retrying.map(|retrying| (retrying.at, retrying.unreadable));
            self.0.lock().unwrap().push(told);
        }
    }

    #[test]
    fn a_worker_that_ends_where_another_begins_does_not_hide_it() {
        let told = Told::default();
        let retries = Retries::new(&told);
        let mut ends = retries.begin(0);
        let begins = retries.begin(512);
        ends.go_on(512, 512);
        drop(ends);
        assert_eq!(told.0.lock().unwrap().last(), Some(&Some((512, 512))));
        drop(begins);
        assert_eq!(told.0.lock().unwrap().last(), Some(&None));
    }

    #[test]
    fn the_first_of_several_places_is_told_until_the_last_retry_ends() {
        let told = Told::default();
        let retries = Retries::new(&told);
        let mut ahead = retries.begin(1 << 20);
        let mut behind = retries.begin(0);
        behind.go_on(512, 512);
        ahead.go_on((1 << 20) + 512, 0);
        drop(behind);
        ahead.go_on((1 << 20) + 1024, 512);
        drop(ahead);
        assert_eq!(
            told.0.into_inner().unwrap(),
            [
                Some((1 << 20, 0)),
                Some((0, 0)),
                Some((512, 512)),
                Some((512, 512)),
                Some(((1 << 20) + 512, 512)),
                Some(((1 << 20) + 1024, 1024)),
                None
            ]
        );
    }
}
