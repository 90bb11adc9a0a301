//! What is read in one go: ranges in use, and short gaps between them.

use std::ops::Range;

use crate::disk::Disk;
use crate::disk::rescue::{self, Rescue};
use crate::error::Result;
use crate::units::{Exact, length, to_usize};

/// How much is read in one go at most, in bytes: it should still be in the processor's cache when it is hashed.
const LONGEST: u64 = 256 << 10;

/// The longest gap that is read, too, in bytes: dearer than that is only a read of its own.
const LONGEST_GAP: u64 = 16 << 10;

/// Ranges in use that are read in one go: ascending, with short gaps between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stroke {
    parts: Vec<Range<u64>>,
}

/// Cuts ranges, which are ascending and apart, into what is read in one go.
pub(super) fn strokes(used: &[Range<u64>]) -> impl Iterator<Item = Stroke> + '_ {
    let mut pieces = used.iter().flat_map(pieces).peekable();
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        let (start, mut end) = (first.start, first.end);
        let mut parts = vec![first];
        let goes_on = |next: &Range<u64>, end: u64| {
            next.start.minus(end) <= LONGEST_GAP && next.end.minus(start) <= LONGEST
        };
        while let Some(next) = pieces.next_if(|next| goes_on(next, end)) {
            end = next.end;
            parts.push(next);
        }
        Some(Stroke { parts })
    })
}

fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut rest = range.clone();
    std::iter::from_fn(move || {
        let piece = rest.start..rest.end.min(rest.start.plus(LONGEST));
        rest.start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

impl Stroke {
    /// From the first byte in use to the last one.
    pub(super) fn range(&self) -> Range<u64> {
        let start = self.parts.first().map_or(0, |part| part.start);
        start..self.parts.last().map_or(start, |part| part.end)
    }

    /// How many bytes are in use.
    pub(super) fn used(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.plus(length(part)))
    }

    /// Fills `bytes`, which are as many as the range: the gaps with zeros. Returns what could not be read.
    ///
    /// # Errors
    ///
    /// Those of [`Rescue::read`].
    pub(super) fn read(
        &self,
        source: &dyn Disk,
        bytes: &mut [u8],
        rescue: &Rescue<'_>,
    ) -> Result<Vec<Range<u64>>> {
        // Whatever is wrong may be wrong with a gap, which nobody needs.
        let is_read = self.parts.len() > 1 && source.read_at(bytes, self.range().start).is_ok();
        let mut unreadable = Vec::new();
        let (mut rest, mut at) = (bytes, self.range().start);
        for part in &self.parts {
            let (gap, behind) = rest.split_at_mut(to_usize(part.start.minus(at)));
            gap.fill(0);
            let (used, behind) = behind.split_at_mut(to_usize(length(part)));
            if !is_read {
                for bad in rescue.read(source, used, part.start)? {
                    rescue::append(&mut unreadable, bad);
                }
            }
            (rest, at) = (behind, part.end);
        }
        Ok(unreadable)
    }
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::disk::rescue::OnReadError;
    use crate::progress::Silent;

    fn parts(used: &[Range<u64>]) -> Vec<Vec<Range<u64>>> {
        strokes(used).map(|stroke| stroke.parts).collect()
    }

    #[test]
    fn a_long_range_is_cut() {
        let end = LONGEST * 2 + 101;
        assert_eq!(
            parts(&[100..end]),
            [
                vec![100..LONGEST + 100],
                vec![LONGEST + 100..LONGEST * 2 + 100],
                vec![LONGEST * 2 + 100..end]
            ]
        );
    }

    #[test]
    fn short_gaps_are_read_and_long_ones_are_not() {
        let short = 10 + LONGEST_GAP;
        let long = short + 6 + LONGEST_GAP;
        assert_eq!(
            parts(&[0..10, short..short + 5, long..long + 1]),
            [vec![0..10, short..short + 5], vec![long..long + 1]]
        );
        // Not if it would be too much in one go.
        assert_eq!(
            parts(&[0..LONGEST - 1, LONGEST..LONGEST + 1]),
            [vec![0..LONGEST - 1], vec![LONGEST..LONGEST + 1]]
        );
    }

    /// Bytes that are their own offset but for the last bit, and a range that cannot be read.
    fn damaged(bad: Range<u64>) -> MemoryDisk {
        let bytes = (0..4096_u64).map(|at| at.to_le_bytes()[0] | 1).collect();
        MemoryDisk { bytes, bad }
    }

    fn read(bad: Range<u64>, on_error: OnReadError) -> Result<(Vec<u8>, Vec<Range<u64>>)> {
        let stroke = strokes(&[512..1024, 2048..3072]).next().unwrap();
        let mut bytes = vec![0xff; to_usize(length(&stroke.range()))];
        let rescue = Rescue::new(on_error, &Silent);
        let unreadable = stroke.read(&damaged(bad), &mut bytes, &rescue)?;
        Ok((bytes, unreadable))
    }

    #[test]
    fn gaps_are_zeros_and_need_not_be_readable() {
        for bad in [0..0, 1024..1025, 2047..2048] {
            let (bytes, unreadable) = read(bad, OnReadError::Stop).unwrap();
            assert!(unreadable.is_empty());
            for (byte, at) in bytes.into_iter().zip(512_u64..) {
                let is_gap = (1024..2048).contains(&at);
                assert_eq!(byte == 0, is_gap, "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_in_use_must_be_readable_or_is_listed() {
        assert!(read(2048..2049, OnReadError::Stop).is_err());
        let (bytes, unreadable) = read(2048..2049, OnReadError::Zero).unwrap();
        assert_eq!(unreadable, std::slice::from_ref(&(2048..2560)));
        assert_eq!((bytes[0], bytes[1535], bytes[1536 + 512]), (1, 0, 1));
    }
}
