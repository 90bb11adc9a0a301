//! A walk through the file, in the order of what takes room in it.

use super::TwoLevel;
use super::examiner::{Examiner, Extent, Found};
use super::reference::Reference;
use crate::devices::Subject;
use crate::error::Result;
use crate::units::{Exact, HostOffset, within};

/// Goes through the file in the order of its references.
pub(super) struct Sweep<'a> {
    image: &'a TwoLevel,
    /// The one of them that ends last.
    last: Option<Reference>,
    /// Where all that was seen ends.
    end: u64,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(image: &'a TwoLevel) -> Self {
        Self {
            image,
            last: None,
            end: image.shape.header,
        }
    }

    pub(super) fn go_to(&mut self, next: Reference, examiner: &mut dyn Examiner) -> Result<()> {
        self.skip_to(next.start, examiner)?;
        self.end = self.end.max(self.aligned(next.end()));
        let Some(last) = self.last else {
            self.last = Some(next);
            return Ok(());
        };
        if next.start < last.end() {
            let overlap = |one, other| self.image.overlap(one, other);
            match (next.kind.is_table(), last.kind.is_table()) {
                // Told when tables were looked at by themselves.
                (true, true) => {}
                (false, true) => examiner.found(Found::ClusterInTable(overlap(next, last)))?,
                (true, false) => examiner.found(Found::ClusterInTable(overlap(last, next)))?,
                (false, false) => examiner.found(Found::ClusterInCluster(overlap(next, last)))?,
            }
        }
        if next.end() > last.end() {
            self.last = Some(next);
        }
        Ok(())
    }

    /// Tells what nothing uses in front of `start`.
    fn skip_to(&self, start: u64, examiner: &mut dyn Examiner) -> Result<()> {
        if self.image.shape.is_aligned && self.end < start {
            examiner.found(Found::Unused(self.end..start))?;
        }
        Ok(())
    }

    pub(super) fn finish(self, examiner: &mut dyn Examiner) -> Result<Extent> {
        let length = self.image.file.length();
        // A device is as long as it is. QEMU ignores a last cluster that is not whole.
        if matches!(self.image.file.subject(), Subject::File(_)) {
            let whole = length.minus(within(length, self.image.shape.cluster_size));
            self.skip_to(whole, examiner)?;
        }
        Ok(self.extent())
    }

    pub(super) fn extent(&self) -> Extent {
        let end = self.end.max(self.image.shape.l1_bytes().end);
        Extent { end: HostOffset(end) }
    }

    /// The last cluster may not be there as a whole.
    fn aligned(&self, end: u64) -> u64 {
        if self.image.shape.is_aligned {
            end.checked_next_multiple_of(self.image.shape.cluster_size)
                .unwrap_or(end)
        } else {
            end
        }
    }
}
