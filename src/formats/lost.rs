//! Clusters that have a checksum in an image, but of which the tables of that image tell that they hold no data.

use std::ops::Range;

use super::guard::{Found, Guards};
use super::held::{Held, Wrong};
use super::{Chain, ChainRun};
use crate::disk::Disk;
use crate::disk::rescue::append;
use crate::error::{Corrupt, Error, Result};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::{Exact, GuestCluster, GuestOffset};

impl Chain {
    /// Calls `lost` for each cluster that has a checksum in one of the images and lies in a range at least in part, but of
    /// which the tables of that image tell that it is zeros, or not there: for what of it no image in front of that one
    /// hides. Ascending for each image. There is none if checksums are not compared. An error that it returns is the last
    /// one.
    ///
    /// # Errors
    ///
    /// - Those of `lost`, and of [`place_at`](Self::place_at).
    /// - [`Error::Io`] if the table of the checksums cannot be read.
    pub(crate) fn each_lost(
        &self,
        range: &Range<u64>,
        mut lost: impl FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        let Some(guards) = &self.guards else {
            return Ok(());
        };
        let range = range.start..range.end.min(self.len());
        for depth in 0..guards.depth() {
            if let Some(held) = Held::at(self, guards, depth) {
                self.each_lost_in(held, depth, &range, &mut lost)?;
            }
        }
        Ok(())
    }

    /// The same of one image.
    fn each_lost_in(
        &self,
        held: Held<'_>,
        depth: usize,
        range: &Range<u64>,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        // Where it is known that there is something.
        let mut known = 0..0_u64;
        let mut result = Ok(());
        let table = held.sums.table(held.image);
        let read = table.for_each(|cluster, _| {
            let guest = held.guest(cluster);
            let is_asked = guest.start < range.end && range.start < guest.end;
            let is_known = known.contains(&guest.start) && guest.end <= known.end;
            if result.is_err() || !is_asked || is_known {
                return;
            }
            result = match held.layer.run_at(GuestOffset(guest.start), u64::MAX) {
                Ok(run) if is_data(run.mapping) && guest.end <= guest.start.plus(run.length) => {
                    known = guest.start..guest.start.plus(run.length);
                    Ok(())
                }
                Ok(_) => self.lost_of(held, depth, cluster, lost),
                Err(error) => Err(held.named(error)),
            };
        });
        read.map_err(|error| held.named(error))?;
        result
    }

    /// Calls `lost` for what an image has lost of a cluster, which it does not hold as a whole.
    fn lost_of(
        &self,
        held: Held<'_>,
        depth: usize,
        cluster: GuestCluster,
        lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        let guest = held.guest(cluster);
        let (mut at, mut shown) = (guest.start, Vec::new());
        while at < guest.end {
            let run = self.place_at(GuestOffset(at), guest.end.minus(at))?;
            if run.length == 0 {
                break;
            }
            let end = at.plus(run.length);
            if run.depth >= depth {
                append(&mut shown, at..end);
            }
            at = end;
        }
        if shown.is_empty() {
            return Ok(());
        }
        match held.cluster(cluster)? {
            Found::Wrong(Corrupt::Checksum { found, expected, .. }) => {
                shown.into_iter().try_for_each(|range| {
                    let lost_there = Corrupt::Checksum {
                        found,
                        expected,
                        lost: range.into(),
                    };
                    lost(held.named(lost_there.into()))
                })
            }
            Found::Wrong(corrupt) => lost(held.named(corrupt.into())),
            Found::Right(_) | Found::Unreadable => Ok(()),
        }
    }

    /// Tells of what of a range, all of which lies in one run, was lost by an image that has a checksum for it: the run
    /// tells that it is zeros, or what lies behind that image.
    ///
    /// # Errors
    ///
    /// - Those of `wrong`.
    /// - [`Error::Io`] if the table of the checksums cannot be read.
    pub(super) fn each_missed(
        &self,
        guards: &Guards,
        run: ChainRun,
        range: &Range<u64>,
        wrong: &mut Wrong<'_>,
    ) -> Result<()> {
        for held in self.without_data(guards, run) {
            let mut next = held.cluster_of(range.start);
            while let Some((cluster, guest)) = next_listed(held, next, range.end)? {
                if let Found::Wrong(corrupt) = held.cluster(cluster)? {
                    let lost = guest.start.max(range.start)..guest.end.min(range.end);
                    wrong(lost, held.named(corrupt.into()))?;
                }
                next = GuestCluster(cluster.0.plus(1));
            }
        }
        Ok(())
    }

    /// Where a range, all of which lies in one run, begins to have a checksum in an image that has no data there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the table of the checksums cannot be read.
    pub(crate) fn first_missed(
        &self,
        guards: &Guards,
        run: ChainRun,
        range: &Range<u64>,
    ) -> Result<Option<u64>> {
        let mut first: Option<u64> = None;
        for held in self.without_data(guards, run) {
            let end = first.unwrap_or(range.end);
            if let Some((_, guest)) = next_listed(held, held.cluster_of(range.start), end)? {
                first = Some(guest.start.max(range.start));
            }
        }
        Ok(first)
    }

    /// The images that have no data where a run is, from the first one to the one that the run is in.
    fn without_data<'a>(&'a self, guards: &'a Guards, run: ChainRun) -> impl Iterator<Item = Held<'a>> {
        let end = run.depth.plus(usize::from(run.is_zero()));
        (0..end).filter_map(move |depth| Held::at(self, guards, depth))
    }
}

/// The first cluster that is listed, from `from` on and in front of `end`, and its bytes.
fn next_listed(held: Held<'_>, from: GuestCluster, end: u64) -> Result<Option<(GuestCluster, Range<u64>)>> {
    let next = held.sums.next_listed(held.image, from);
    let next = next.map_err(|error| held.named(error))?;
    let next = next.map(|cluster| (cluster, held.guest(cluster)));
    Ok(next.filter(|(_, guest)| guest.start < end))
}

fn is_data(mapping: Mapping) -> bool {
    match mapping {
        Mapping::Data(_) | Mapping::Compressed(_) => true,
        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => false,
    }
}
