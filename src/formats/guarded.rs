//! What is read of a disk is held to the checksums that its images record.

use super::guard::Guards;
use super::held::{Held, Wrong};
use super::layer::Layer;
use super::qcow2::structures::checksum::{RUN, TABLE};
use super::qcow2::{Checksums, Freshness, Image, Lookup};
use super::{Chain, ChainRun};
use crate::error::{Corrupt, Error, Result};
use crate::units::{Exact, GuestOffset, to_u64};

/// The checksums of an image.
#[derive(Debug)]
pub(crate) enum Sums<'a> {
    /// There are none, or none of this state of the disk.
    None,
    /// The image was changed since: they are out of date.
    Changed,
    /// They count.
    Count(Checksums<'a>),
}

/// What there is to hold the images of a disk to.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The checksums that count, if any do.
    pub(crate) guards: Option<Guards>,
    /// Whether those of the first image are out of date.
    pub(crate) is_outdated: bool,
    /// What is wrong with tables of checksums, which are not compared.
    pub(crate) faults: Vec<Error>,
}

/// The same error, which says so if the image cannot tell whether it was changed.
fn doubting(image: &Image, error: Error) -> Error {
    let has_ours = image.extensions().ours.is_some();
    match (image.freshness(), error) {
        (
            Freshness::Unknown | Freshness::Doubtful,
            Error::Corrupt(
                fault @ (Corrupt::Field {
                    structure: TABLE | RUN,
                    ..
                }
                | Corrupt::Truncated { structure: TABLE, .. }
                | Corrupt::Checksum { .. }),
            ),
        ) if has_ours => Corrupt::PerhapsChanged(Box::new(fault)).into(),
        (_, error) => error,
    }
}

impl Chain {
    /// The checksums of the first image, if there are any that count.
    ///
    /// # Errors
    ///
    /// Those of [`Image::checksums`](super::qcow2::Image::checksums).
    pub(crate) fn sums(&self) -> Result<Sums<'_>> {
        self.sums_at(0)
    }

    fn sums_at(&self, depth: usize) -> Result<Sums<'_>> {
        // They are of the active state.
        let is_active = self.layer_at(depth).is_some_and(Layer::is_active);
        let Some(image) = self.image_at(depth).filter(|_| is_active) else {
            return Ok(Sums::None);
        };
        if image.extensions().ours.is_some() && image.is_outdated() {
            return Ok(Sums::Changed);
        }
        let checksums = image.checksums().map_err(|error| doubting(image, error))?;
        Ok(checksums.map_or(Sums::None, Sums::Count))
    }

    /// The same error, but if it is about what the first image holds, and that cannot tell whether it was changed, it
    /// says so: what differs may be right.
    pub(crate) fn doubting(&self, error: Error) -> Error {
        match self.image().filter(|_| self.is_active()) {
            Some(image) => doubting(image, error),
            None => error,
        }
    }

    /// The checksums of all images, as far as they count.
    pub(crate) fn recorded_sums(&self) -> Recorded {
        let (mut is_outdated, mut faults) = (false, Vec::new());
        let sums = (0..self.depth()).map(|depth| {
            let lookup = match self.sums_at(depth) {
                Ok(Sums::None) => return None,
                Ok(Sums::Changed) => {
                    is_outdated |= depth == 0;
                    return None;
                }
                Ok(Sums::Count(table)) => Lookup::new(&table),
                Err(error) => Err(error),
            };
            lookup.map_err(|error| faults.push(self.named(error, depth))).ok()
        });
        let sums: Vec<_> = sums.collect();
        let do_some_count = sums.iter().any(Option::is_some);
        Recorded {
            guards: do_some_count.then(|| Guards::new(sums)),
            is_outdated,
            faults,
        }
    }

    /// Whether all that is not zeros is held to a checksum.
    pub(crate) fn is_all_held_to(&self, guards: &Guards) -> bool {
        self.base.is_none() && (0..self.depth()).all(|depth| guards.sums(depth).is_some())
    }

    /// From now on, every cluster of an image is held to its checksum there when it is read, if those count: one that is
    /// damaged is an error. Returns whether those of the first image are out of date.
    ///
    /// # Errors
    ///
    /// Those of [`sums`](Self::sums), for every image: of the first one that has any. The checksums of the others are
    /// compared even so.
    pub(crate) fn hold_to_checksums(&mut self) -> Result<bool> {
        let recorded = self.recorded_sums();
        self.guards = recorded.guards;
        let fault = recorded.faults.into_iter().next();
        fault.map_or(Ok(recorded.is_outdated), Err)
    }

    /// As [`read_at`](crate::disk::Disk::read_at), but a cluster that is not what it was is an error.
    pub(super) fn read_guarded(&self, guards: &Guards, buf: &mut [u8], at: u64) -> Result<()> {
        self.read_by(buf, at, |run, at, buf| {
            self.read_held(guards, run, at, buf, &mut |_, error| Err(error))
        })
    }

    /// As [`read_run`](Self::read_run), but `wrong` is told of what is not what it was in the image that it is in, or is in
    /// the place of what an image has lost. It is there as it is.
    ///
    /// # Errors
    ///
    /// Those of [`read_run`](Self::read_run), and those of `wrong`.
    pub(crate) fn read_held(
        &self,
        guards: &Guards,
        run: ChainRun,
        at: GuestOffset,
        buf: &mut [u8],
        wrong: &mut Wrong<'_>,
    ) -> Result<()> {
        let range = at.0..at.0.plus(to_u64(buf.len()));
        self.each_missed(guards, run, &range, wrong)?;
        match Held::at(self, guards, run.depth) {
            Some(held) if !run.is_zero() => held.read(run, at.0, buf, wrong),
            Some(_) | None => self.read_run(run, at, buf),
        }
    }
}
