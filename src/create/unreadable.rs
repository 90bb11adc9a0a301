//! What could not be read: in the order of the disk, and bounded.

use std::ops::Range;

use crate::disk::{Segments, rescue};
use crate::error::Corrupt;
use crate::formats::qcow2::structures::record::MAX_UNREADABLE;
use crate::progress::Progress;

/// What could not be read of a disk that is read from its beginning to its end.
pub(super) struct Unreadable<'a> {
    ranges: Vec<Range<u64>>,
    /// Where the disk lies in the file or device.
    segments: &'a Segments,
    progress: &'a dyn Progress,
    /// How many of them were told.
    told: usize,
}

impl<'a> Unreadable<'a> {
    /// Nothing so far of a disk that lies in these segments. `progress` is told of each range, where it lies there.
    pub(super) fn new(segments: &'a Segments, progress: &'a dyn Progress) -> Self {
        Self {
            ranges: Vec::new(),
            segments,
            progress,
            told: 0,
        }
    }

    /// Adds what could not be read of a batch that ends at `end`.
    ///
    /// # Errors
    ///
    /// As [`add`].
    pub(super) fn add(&mut self, bad: Vec<Range<u64>>, end: u64) -> Result<(), Corrupt> {
        for bad in bad {
            add(&mut self.ranges, bad)?;
        }
        // The last one may go on in the next batch.
        let goes_on = self.ranges.last().is_some_and(|last| last.end >= end);
        self.tell(self.ranges.len().saturating_sub(usize::from(goes_on)));
        Ok(())
    }

    fn tell(&mut self, count: usize) {
        for range in self.ranges.get(self.told..count).unwrap_or_default() {
            tell(range, self.segments, self.progress);
        }
        self.told = self.told.max(count);
    }

    /// All of it. There is nothing more that could not be read.
    pub(super) fn finish(mut self) -> Vec<Range<u64>> {
        self.tell(self.ranges.len());
        self.ranges
    }
}

/// Tells of a range of a disk, where that lies in these segments.
pub(super) fn tell(range: &Range<u64>, segments: &Segments, progress: &dyn Progress) {
    for place in segments.resolve(range) {
        progress.unreadable(&place);
    }
}

/// Adds a range that begins at or behind the end of the last one.
///
/// # Errors
///
/// [`Corrupt::TooManyUnreadable`] if there are more than an image records: the source is given up.
pub(super) fn add(unreadable: &mut Vec<Range<u64>>, bad: Range<u64>) -> Result<(), Corrupt> {
    let at = bad.start;
    rescue::append(unreadable, bad);
    if unreadable.len() > MAX_UNREADABLE {
        return Err(Corrupt::TooManyUnreadable {
            limit: MAX_UNREADABLE,
            at,
        });
    }
    Ok(())
}

/// What is in either of two lists, each ascending and apart; so is what comes out.
///
/// # Errors
///
/// As [`add`].
pub(super) fn union(a: &[Range<u64>], b: &[Range<u64>]) -> Result<Vec<Range<u64>>, Corrupt> {
    let mut all: Vec<_> = a.iter().chain(b).cloned().collect();
    all.sort_by_key(|range| range.start);
    let mut union: Vec<Range<u64>> = Vec::new();
    for range in all {
        match union.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => add(&mut union, range)?,
        }
    }
    Ok(union)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::progress::Phase;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<Range<u64>>>);

    impl Progress for Told {
        fn begin(&self, _: Phase, _: u64) {}

        fn advance(&self, _: u64) {}

        fn unreadable(&self, range: &Range<u64>) {
            self.0.lock().unwrap().push(range.clone());
        }
    }

    #[test]
    fn a_range_is_told_once_and_as_soon_as_it_is_known_where_it_ends() {
        let told = Told::default();
        let segments = Segments::one(0..300);
        let mut unreadable = Unreadable::new(&segments, &told);
        let all = [10..20, 90..130, 150..160, 240..250, 290..300];
        for (bad, end, count) in [
            (vec![10..20, 90..100], 100, 1),
            (vec![100..130, 150..160], 200, 3),
            (vec![], 240, 3),
            (vec![240..250, 290..300], 300, 4),
        ] {
            unreadable.add(bad, end).unwrap();
            assert_eq!(*told.0.lock().unwrap(), all[..count], "up to {end}");
        }
        assert_eq!(unreadable.finish(), all);
        assert_eq!(told.0.into_inner().unwrap(), all);
    }

    #[test]
    fn a_range_is_told_where_it_lies_in_the_whole() {
        let told = Told::default();
        let segments = Segments::new([1000..1100, 500..600]).unwrap();
        let mut unreadable = Unreadable::new(&segments, &told);
        unreadable.add(vec![90..120, 130..140], 200).unwrap();
        assert_eq!(unreadable.finish(), [90..120, 130..140]);
        assert_eq!(told.0.into_inner().unwrap(), [1090..1100, 500..520, 530..540]);
    }

    #[test]
    fn unreadable_ranges_are_joined_and_bounded() {
        let mut ranges = Vec::new();
        add(&mut ranges, 0..512).unwrap();
        add(&mut ranges, 512..1024).unwrap();
        assert_eq!(ranges.as_slice(), std::slice::from_ref(&(0..1024)));
        let mut ranges = vec![0..1; MAX_UNREADABLE];
        assert!(add(&mut ranges, 5..6).is_err());
    }

    #[test]
    fn what_is_in_two_lists_is_told_once() {
        let union = union(&[0..10, 20..30, 50..60], &[5..12, 30..40, 52..55]).unwrap();
        assert_eq!(union, [0..12, 20..40, 50..60]);
    }
}
