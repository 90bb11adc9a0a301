//! How often clusters are used, counted by several threads at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::formats::qcow2::structures::refcount::Width;
use crate::units::{Exact, to_u64, to_usize};

/// Counters that stay at their largest value once they are there.
#[derive(Debug)]
pub(super) enum Counts {
    /// For refcounts of up to 16 bits.
    Narrow(Vec<AtomicU16>),
    /// For those of 32 and 64 bits; so often nothing is used.
    Wide(Vec<AtomicU32>),
}

/// The size of a counter in bytes.
pub(super) fn size(width: Width) -> u64 {
    if width.bits() <= 16 { 2 } else { 4 }
}

impl Counts {
    pub(super) fn new(width: Width, length: u64) -> Self {
        if size(width) == 2 {
            Self::Narrow(zeroed(length))
        } else {
            Self::Wide(zeroed(length))
        }
    }

    /// Adds to a counter. Whether it could not hold that.
    pub(super) fn add(&self, index: usize, more: u32) -> bool {
        match self {
            Self::Narrow(counts) => counts.get(index).is_some_and(|count| add_narrow(count, more)),
            Self::Wide(counts) => counts.get(index).is_some_and(|count| add_wide(count, more)),
        }
    }

    /// Adds to all counters in a range, and marks those that could not hold that.
    pub(super) fn add_to_all(&self, range: Range<usize>, more: u32, overflown: &Marks) {
        let range = range.start..range.end.min(self.len());
        match self {
            Self::Narrow(counts) => {
                for (count, index) in counts.get(range.clone()).into_iter().flatten().zip(range) {
                    if add_narrow(count, more) {
                        overflown.set(index);
                    }
                }
            }
            Self::Wide(counts) => {
                for (count, index) in counts.get(range.clone()).into_iter().flatten().zip(range) {
                    if add_wide(count, more) {
                        overflown.set(index);
                    }
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(counts) => counts.len(),
            Self::Wide(counts) => counts.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> u64 {
        match self {
            Self::Narrow(counts) => counts.get(index).map_or(0, |count| count.load(Relaxed).into()),
            Self::Wide(counts) => counts.get(index).map_or(0, |count| count.load(Relaxed).into()),
        }
    }
}

/// A count that is too large for its type stays the largest. Returns whether it was.
fn add_narrow(count: &AtomicU16, more: u32) -> bool {
    let at_most = u16::try_from(more).unwrap_or(u16::MAX);
    let add = |count: u16| Some(count.saturating_add(at_most));
    let before = count.fetch_update(Relaxed, Relaxed, add);
    let before = u64::from(before.unwrap_or_else(|same| same));
    before.plus(more.into()) > u16::MAX.into()
}

/// As [`add_narrow`].
fn add_wide(count: &AtomicU32, more: u32) -> bool {
    let add = |count: u32| Some(count.saturating_add(more));
    let before = count.fetch_update(Relaxed, Relaxed, add);
    before.unwrap_or_else(|same| same).checked_add(more).is_none()
}

/// A bit for each cluster.
#[derive(Debug)]
pub(super) struct Marks {
    words: Vec<AtomicU64>,
}

impl Marks {
    pub(super) fn new(length: u64) -> Self {
        let words = zeroed(length.div_ceil(64));
        Self { words }
    }

    /// Sets a mark, and tells whether it was set before.
    pub(super) fn set(&self, index: usize) -> bool {
        let (word, bit) = place(index);
        self.words
            .get(word)
            .is_some_and(|word| word.fetch_or(bit, Relaxed) & bit != 0)
    }

    /// Whether there is a mark in a range, which is not empty.
    pub(super) fn has_any(&self, range: Range<usize>) -> bool {
        let ((first, bit), (last, end)) = (place(range.start), place(range.end.minus(1)));
        let word = |number: usize| {
            self.words
                .get(number)
                .map_or(0, |word: &AtomicU64| word.load(Relaxed))
        };
        // From the bit on, and up to the bit.
        let (from, up_to) = (bit.wrapping_neg(), end | end.wrapping_sub(1));
        if first == last {
            return word(first) & from & up_to != 0;
        }
        let between = self.words.get(first.plus(1)..last);
        word(first) & from != 0
            || word(last) & up_to != 0
            || between.is_some_and(|words| words.iter().any(|word| word.load(Relaxed) != 0))
    }

    pub(super) fn has(&self, index: usize) -> bool {
        let (word, bit) = place(index);
        self.words
            .get(word)
            .is_some_and(|word| word.load(Relaxed) & bit != 0)
    }
}

fn place(index: usize) -> (usize, u64) {
    let index = to_u64(index);
    (to_usize(index / 64), 1 << (index % 64))
}

fn zeroed<T: Default>(length: u64) -> Vec<T> {
    std::iter::repeat_with(T::default)
        .take(to_usize(length))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stop_at_their_largest_value_and_tell() {
        let counts = Counts::new(Width::from_order(4).unwrap(), 2);
        assert!(!counts.add(1, 65534));
        assert!(!counts.add(1, 1));
        assert_eq!((counts.get(0), counts.get(1)), (0, 65535));
        assert!(counts.add(1, 1));
        assert!(counts.add(0, 65536));
        assert_eq!((counts.get(0), counts.get(1)), (65535, 65535));

        let counts = Counts::new(Width::from_order(5).unwrap(), 1);
        assert!(!counts.add(0, u32::MAX));
        assert!(counts.add(0, 1));
        assert_eq!(counts.get(0), u64::from(u32::MAX));
    }

    #[test]
    fn marks_are_apart() {
        let marks = Marks::new(130);
        assert!(!marks.set(64) && marks.set(64));
        assert!(marks.has(64) && !marks.has(63) && !marks.has(65) && !marks.has(128));
        assert!(!marks.set(129) && marks.has(129));
        assert!(marks.has_any(64..65) && marks.has_any(0..65) && marks.has_any(64..129));
        assert!(!marks.has_any(0..64) && !marks.has_any(65..129) && marks.has_any(65..130));
        assert!(!marks.has_any(10..11) && !marks.has_any(63..64) && marks.has_any(0..130));
    }
}
