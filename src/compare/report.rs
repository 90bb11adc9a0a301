//! What came of a comparison.

use std::ops::{ControlFlow, Range};
use std::time::Duration;

use super::difference::Compared;
use super::warning::Warning;
use crate::units::{Exact, length};
use crate::volumes::Volume;

/// What came of a comparison.
#[derive(Clone, Debug)]
pub struct Report {
    /// The sizes of the two disks, or of what was asked for of them, in bytes.
    pub sizes: [u64; 2],
    /// Which volumes of the two were asked for.
    pub volumes: [Option<Volume>; 2],
    /// Whether the sizes differ, and that counts. If only the first difference was wanted, nothing was read then.
    pub sizes_differ: bool,
    /// The first byte that differs, in bytes of what is compared.
    pub first_difference: Option<u64>,
    /// In how many ranges of whole sectors they differ; 0 if only the first difference was wanted.
    pub ranges: u64,
    /// How long those are together, in bytes.
    pub differing: u64,
    /// How many bytes were compared. The others are holes in both, or lie behind the first difference.
    pub compared: u64,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// Whether the disks are equal; `None` if one of them changed meanwhile, or is not all on the disk, so
    /// that nobody can tell.
    pub fn is_equal(&self) -> Option<bool> {
        let is_changed =
            |warning: &Warning| matches!(warning, Warning::Changed { .. } | Warning::Unwritten { .. });
        if self.warnings.iter().any(is_changed) {
            return None;
        }
        Some(self.first_difference.is_none() && !self.sizes_differ)
    }

    pub(super) fn count(&mut self, compared: &Compared) {
        self.compared.increase(compared.bytes);
        self.first_difference = self.first_difference.or(compared.first);
    }

    /// Counts a range that is complete, and hands it on.
    pub(super) fn hand(
        &mut self,
        range: Range<u64>,
        found: &mut impl FnMut(Range<u64>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.ranges.increase(1);
        self.differing.increase(length(&range));
        found(range)
    }
}
