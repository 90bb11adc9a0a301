//! What is read, and what it says of itself: before the disk is restored, or, if it comes through a pipe, behind it.

use std::ops::Range;

use super::new_ids::NewIds;
use super::options::Options;
use super::partitions::Partitioning;
use super::piped::Piped;
use super::proof::Proof;
use super::reference::Reference;
use super::report::Warning;
use super::smaller::LeftOut;
use super::walk::Rules;
use crate::disk::Disk;
use crate::error::{InUse, Result};
use crate::formats::{Chain, Sums};
use crate::output::scratch_of_stream;
use crate::units::length;
use crate::volumes::{self, Scan, Selection};

/// How much a worker does in one go, in bytes, unless a cluster is larger.
const WINDOW: u64 = 1 << 20;

/// What is read, and how.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) options: Options,
    pub(super) disk: Chain,
    /// What the image comes through, if it is a pipe.
    pub(super) piped: Option<Piped>,
    pub(super) selection: Selection,
    pub(super) partitioning: Partitioning,
    /// What there is to say of a target that is smaller, if it is.
    pub(super) smaller: Option<LeftOut>,
    /// What is written in the end, so that the GPT fits the target: where, in bytes, and what.
    pub(super) patches: Vec<(u64, Vec<u8>)>,
    /// What gets new identifiers, if they are wanted.
    pub(super) new_ids: Option<NewIds>,
    /// Why the target may be in use, where that could not be found out.
    pub(super) perhaps_used: Option<InUse>,
}

impl Origin {
    /// What the images say about themselves, and what does not need a look at all of them.
    pub(super) fn remarks(&self, disk: &Chain) -> Result<Vec<Warning>> {
        let remarks = disk.named_remarks();
        let can_look = disk.is_encrypted() && self.piped.is_none();
        let is_noise = can_look && volumes::scan(disk, Scan::Auto)?.is_unrecognised();
        let mut warnings: Vec<_> = is_noise
            .then_some(Warning::PerhapsNoise)
            .into_iter()
            .chain(disk.writer().cloned().map(Warning::ImagePerhapsInUse))
            .chain(self.perhaps_used.clone().map(Warning::TargetPerhapsInUse))
            .chain(remarks.map(|(path, remark)| Warning::Image { path, remark }))
            .chain(self.partitioning.warnings().filter(|_| self.patches.is_empty()))
            .chain(self.smaller.iter().map(LeftOut::warning))
            .collect();
        let unreadable = self.unreadable(disk, &mut warnings);
        if !unreadable.is_empty() {
            let bytes = unreadable.iter().map(length).sum();
            warnings.push(Warning::Unreadable { bytes });
        }
        Ok(warnings)
    }

    /// What could not be read when the image was made, in bytes of the disk. A record that cannot be read is no reason to
    /// stop: nothing but this is lost with it, unless what is free matters.
    pub(super) fn unreadable(&self, disk: &Chain, warnings: &mut Vec<Warning>) -> Vec<Range<u64>> {
        match disk.unreadable_then() {
            Ok(unreadable) => self.selection.segments.common(&unreadable),
            Err(error) => {
                warnings.push(Warning::NoRecord(error));
                Vec::new()
            }
        }
    }

    /// What the clusters of the disk can be compared with, if there is anything.
    pub(super) fn reference<'a>(
        &self,
        disk: &'a Chain,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Reference<'a>>> {
        if !disk.is_alone() {
            return self.guards(disk, warnings);
        }
        match disk.sums() {
            Ok(Sums::None) => Ok(None),
            Ok(Sums::Changed) => {
                warnings.push(Warning::Changed);
                Ok(None)
            }
            Ok(Sums::Count(checksums)) => Ok(Some(Reference::Table(checksums))),
            Err(error) if self.options.keep_going => {
                warnings.push(Warning::NoChecksums(error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same of images that lie one behind the other.
    fn guards(&self, disk: &Chain, warnings: &mut Vec<Warning>) -> Result<Option<Reference<'static>>> {
        let recorded = disk.recorded_sums();
        if recorded.is_outdated {
            warnings.push(Warning::Changed);
        }
        for fault in recorded.faults {
            if !self.options.keep_going {
                return Err(fault);
            }
            warnings.push(Warning::NoChecksums(fault));
        }
        Ok(recorded.guards.map(Reference::Guards))
    }

    /// What keeps the checksums of what comes through a pipe.
    pub(super) fn proof(&self) -> Result<Option<Proof>> {
        if self.piped.is_none() || !promises_checksums(&self.disk) {
            return Ok(None);
        }
        let file = scratch_of_stream("standard input", &self.options.cleanup)?;
        Ok(Some(Proof::new(file, &self.disk)))
    }

    /// The disk with all that its image tells at its end, if that came through a pipe: all that was read is proven then.
    pub(super) fn ended(&self, proof: Option<Proof>, warnings: &mut Vec<Warning>) -> Result<Option<Chain>> {
        let Some(piped) = &self.piped else {
            return Ok(None);
        };
        let disk = piped.finish(&self.disk)?;
        warnings.extend(self.remarks(&disk)?);
        // A stream is restored in one piece.
        let range = self.selection.segments.ranges().next();
        let reference = self.reference(&disk, warnings)?;
        if let (Some(Reference::Table(checksums)), Some(proof), Some(range)) = (reference, proof, range) {
            proof
                .compare(&checksums, range)
                .map_err(|error| disk.doubting(error))?;
        }
        Ok(Some(disk))
    }

    /// What was written to since it was opened.
    pub(super) fn changes(&self) -> Result<Vec<Warning>> {
        let mut changes = Vec::new();
        for file in self.disk.stands_on() {
            let change = file.change().map_err(|error| error.elsewhere(file.path()))?;
            if change.is_some() {
                let path = file.path().to_owned();
                changes.push(Warning::ChangedMeanwhile { path });
            }
        }
        Ok(changes)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            window: WINDOW.max(self.disk.grain()),
            keep_going: self.options.keep_going,
        }
    }
}

/// Whether an image says that its end holds checksums which count.
pub(super) fn promises_checksums(disk: &Chain) -> bool {
    let image = disk.image().filter(|image| !image.is_outdated());
    image.is_some_and(|image| image.extensions().ours.is_some())
}
