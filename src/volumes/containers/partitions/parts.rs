//! The partitions that tables tell of.

use std::ops::Range;

use super::partition::Partition;
use crate::volumes::doubt::Doubt;

/// What one or more tables say.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) parts: Vec<Partition>,
    /// What they lie in themselves.
    pub(super) own: Vec<Range<u64>>,
}

impl Table {
    pub(super) fn join(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.own.extend(other.own);
    }

    /// The partitions, each range once; of two that have the same, the first is kept.
    ///
    /// No table may be in a partition: what the partition calls free would be missing in the image.
    pub(super) fn into_parts(mut self) -> Result<Vec<Partition>, Doubt> {
        let is_within = |part: &Partition| {
            let overlaps = |own: &Range<u64>| own.start < part.range.end && part.range.start < own.end;
            self.own.iter().any(overlaps)
        };
        if self.parts.iter().any(is_within) {
            return Err(Doubt::State("a partition overlaps a partition table"));
        }
        self.parts.sort_by_key(|part| (part.range.start, part.range.end));
        self.parts.dedup_by(|next, kept| next.range == kept.range);
        Ok(self.parts)
    }
}
