//! What could not be read: in the order of the disk, and bounded.

use std::ops::Range;

use crate::disk::rescue;
use crate::error::Corrupt;
use crate::formats::qcow2::structures::record::MAX_UNREADABLE;

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
    use super::*;

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
