//! What is known not to be in the upper files of a disk: each file behind them would ask for it again.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::units::{Exact, length};

/// Of each file of a disk a range that is not there.
#[derive(Debug)]
pub(super) struct Gaps {
    known: Mutex<Vec<Range<u64>>>,
}

impl Gaps {
    /// For so many files.
    pub(super) fn new(files: usize) -> Self {
        Self {
            known: Mutex::new(vec![0..0; files]),
        }
    }

    /// How many bytes from `at` on are known not to be in that file.
    pub(super) fn from(&self, file: usize, at: u64) -> Option<u64> {
        let known = self.lock();
        let gap = known.get(file).filter(|gap| gap.contains(&at))?;
        Some(gap.end.minus(at))
    }

    /// Keeps a range that is not in that file. A longer one in front of it is better, for it may be asked for by
    /// whoever walks ahead of those that read.
    pub(super) fn note(&self, file: usize, range: Range<u64>) {
        if let Some(gap) = self.lock().get_mut(file)
            && (length(gap) <= length(&range) || gap.end <= range.start)
        {
            *gap = range;
        }
    }

    /// Files do not change: what is kept is right even after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_that_is_still_ahead_is_kept() {
        let gaps = Gaps::new(2);
        assert_eq!(gaps.from(0, 0), None);
        gaps.note(0, 100..1000);
        gaps.note(0, 50..60);
        assert_eq!(gaps.from(0, 100), Some(900));
        assert_eq!(gaps.from(0, 999), Some(1));
        assert_eq!(gaps.from(0, 1000), None);
        assert_eq!(gaps.from(1, 100), None);
        gaps.note(0, 1000..1001);
        assert_eq!(gaps.from(0, 1000), Some(1));
        gaps.note(7, 0..1);
    }
}
