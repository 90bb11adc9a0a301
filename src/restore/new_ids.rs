//! New identifiers for the copy: found out before anything is written, and written last of all.

use std::ops::Range;

use super::options::Options;
use super::report::Bad;
use crate::formats::Chain;
use crate::output::{DeviceTarget, Target};
use crate::volumes::{Fitted, Identifiers, Outcome, Segments};

/// What of the disk can get new identifiers, and where it goes.
#[derive(Debug)]
pub(super) struct NewIds {
    identifiers: Identifiers,
    /// Which bytes of the disk the target has.
    target: Segments,
}

impl NewIds {
    /// Those of what is wanted of a disk, if they are; of which the target may have no more than `there`.
    pub(super) fn find(
        options: &Options,
        disk: &Chain,
        (wanted, there): (&Segments, &Segments),
        fitted: Option<&Fitted>,
        target: &Target<DeviceTarget>,
    ) -> Option<Self> {
        let size = match target {
            Target::Device(device) => Some(device.size()),
            Target::File(_) | Target::Stdout => None,
        };
        let fitted = fitted.zip(size);
        options.new_ids.then(|| Self {
            identifiers: Identifiers::of(disk, wanted, fitted),
            target: fitted.map_or_else(|| there.clone(), |(_, size)| Segments::one(0..size)),
        })
    }

    /// What becomes of them, where these ranges of the disk are damaged or could not be read.
    pub(super) fn outcome(&self, bad: &[Bad], unreadable: &[Range<u64>]) -> Outcome {
        let bad = bad.iter().map(|bad| &bad.range).chain(unreadable);
        let bad: Vec<_> = bad.cloned().collect();
        self.identifiers.settle(&self.target, &bad)
    }
}
