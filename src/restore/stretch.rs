//! Bytes of the disk that lie side by side, and where they go in the target.

use std::ops::Range;

use crate::units::{Exact, length};

/// Bytes of the disk that lie side by side, and where they go in the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// In bytes of the disk.
    pub(super) range: Range<u64>,
    /// Where the first of them goes, in bytes of the target.
    pub(super) at: u64,
}

impl Stretch {
    /// What of it lies in a range of the disk, perhaps nothing.
    pub(super) fn clipped(&self, range: &Range<u64>) -> Self {
        let within = |at: u64| at.clamp(self.range.start, self.range.end);
        let range = within(range.start)..within(range.end);
        Self {
            at: self.place(range.start),
            range,
        }
    }

    /// Where a byte of it goes, in bytes of the target.
    pub(super) fn place(&self, at: u64) -> u64 {
        self.at.plus(at.minus(self.range.start))
    }

    /// All of it, in bytes of the target.
    pub(super) fn target(&self) -> Range<u64> {
        self.at..self.at.plus(length(&self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_range_keeps_its_place() {
        let stretch = Stretch {
            range: 100..200,
            at: 1000,
        };
        let clipped = |range| {
            let clipped = stretch.clipped(&range);
            (clipped.range.clone(), clipped.target())
        };
        assert_eq!(clipped(0..300), (100..200, 1000..1100));
        assert_eq!(clipped(150..160), (150..160, 1050..1060));
        assert_eq!(clipped(190..500), (190..200, 1090..1100));
        assert_eq!(clipped(0..100), (100..100, 1000..1000));
    }
}
