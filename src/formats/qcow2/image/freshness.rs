//! Whether an image is still what it was when it was made, as far as that can be told without reading all of it.

use super::record::{content, read_head};
use crate::devices::Subject;
use crate::formats::Trace;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::checksum;
use crate::formats::qcow2::structures::extension::OursAt;
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::{AUTOCLEAR_CHECKSUMS, Compat};
use crate::formats::qcow2::structures::record::{MAGIC, TRAILER, file_end};
use crate::units::{Exact, HostOffset, to_u64, to_usize};
use crate::zero::is_zero;

/// Whether a checksum table still describes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No program has opened the image for writing since it was made.
    Unchanged,
    /// Another program has, so that clusters may differ without being damaged.
    Changed,
    /// Version 2 has no autoclear bits to tell.
    Unknown,
    /// The image does not say that it was changed, but is not laid out as it was made: a program changed it and did
    /// not clear the bit, or had none to clear; or it is damaged. So clusters that differ are either.
    Doubtful,
}

impl Image {
    /// Whether the checksum table still describes the disk.
    pub fn freshness(&self) -> Freshness {
        match self.header.compat() {
            Compat::V1_1 if !self.claims_unchanged() => Freshness::Changed,
            Compat::V0_10 | Compat::V1_1 if self.trace.is_some() => Freshness::Doubtful,
            Compat::V0_10 => Freshness::Unknown,
            Compat::V1_1 => Freshness::Unchanged,
        }
    }

    /// Whether the image says that no program has written to it since it was made. Some programs leave it saying so.
    pub(crate) fn claims_unchanged(&self) -> bool {
        self.header.has_autoclear(AUTOCLEAR_CHECKSUMS)
    }

    /// Whether it says that a program has written to it: its checksums prove nothing any more.
    pub(crate) fn is_outdated(&self) -> bool {
        self.freshness() == Freshness::Changed
    }

    /// Whether what our tables say of the disk still holds, as far as the image tells.
    pub(crate) fn is_as_written(&self) -> bool {
        match self.freshness() {
            Freshness::Unchanged | Freshness::Unknown => true,
            Freshness::Changed | Freshness::Doubtful => false,
        }
    }

    /// What shows that it was changed, although it does not say so. What cannot be read shows nothing: whoever needs it
    /// says why.
    pub(super) fn find_trace(&self) -> Option<Trace> {
        let ours = self.extensions.ours?;
        if self.freshness() == Freshness::Changed {
            return None;
        }
        let (l1, refcounts) = (self.header.l1(), self.header.refcount_table());
        let cluster_size = self.header.geometry().cluster_size();
        let l1_end = l1.at.0.plus(l1.entries.times(ENTRY));
        let are_tables_there =
            l1.at.0 == cluster_size && l1_end.checked_next_multiple_of(cluster_size) == Some(refcounts.at.0);
        [
            (self.header.snapshots().entries > 0, Trace::Snapshots),
            (self.extensions.bitmaps.is_some(), Trace::Bitmaps),
            (!are_tables_there, Trace::Tables),
            (self.is_overwritten(ours), Trace::Checksums),
            (self.has_grown(ours), Trace::Grown),
        ]
        .into_iter()
        .find_map(|(is_so, trace)| is_so.then_some(trace))
    }

    /// Whether the checksum table does not begin as it should: it lies where the next cluster is allocated.
    fn is_overwritten(&self, ours: OursAt) -> bool {
        let (at, mut magic) = (ours.checksums.offset, checksum::MAGIC);
        let is_there = self.file.holds(at, to_u64(magic.len()));
        is_there && self.file.read_exact(&mut magic, at).is_ok() && magic != checksum::MAGIC
    }

    /// Whether there is something behind the end that the file had. It may be padded with zeros, and a device may be
    /// larger and hold anything there.
    fn has_grown(&self, ours: OursAt) -> bool {
        let cluster_size = self.header.geometry().cluster_size();
        let Some(end) = self.made_end(ours).filter(|_| self.is_regular()) else {
            return false;
        };
        let more = self.file.length().saturating_sub(end).min(cluster_size);
        // At most 2 MiB.
        let mut behind = vec![0; to_usize(more)];
        self.file.read_exact(&mut behind, HostOffset(end)).is_ok() && !is_zero(&behind)
    }

    fn is_regular(&self) -> bool {
        match self.file.subject() {
            Subject::File(_) => true,
            Subject::Device(_) => false,
        }
    }

    /// Where the file ended when it was made, in bytes, if the record says so.
    fn made_end(&self, ours: OursAt) -> Option<u64> {
        let at = ours.record?;
        let head = read_head(&self.file, at)
            .ok()
            .filter(|head| head.magic == MAGIC)?;
        let content = content(&self.file, at, &head).ok()?;
        let cluster_size = self.header.geometry().cluster_size();
        Some(file_end(content.end.0.plus(TRAILER), cluster_size))
    }
}
