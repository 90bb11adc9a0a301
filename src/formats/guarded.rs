//! What is read of a disk is held to the checksums that its image records.

use std::ops::Range;
use std::sync::Arc;

use super::Chain;
use super::guard::{Found, Guard, mismatch};
use super::qcow2::{Checksums, Freshness, Lookup};
use crate::disk::Disk;
use crate::error::{Corrupt, Error, Result};
use crate::units::{Exact, GuestCluster, GuestOffset, to_u64, to_usize, within};

/// The checksums of a disk.
#[derive(Debug)]
pub(crate) enum Sums<'a> {
    /// There are none, or none of this state of the disk.
    None,
    /// The image was changed since: they are out of date.
    Changed,
    /// They count.
    Count(Checksums<'a>),
}

impl Chain {
    /// The checksums of the disk, if there are any that count.
    ///
    /// # Errors
    ///
    /// Those of [`Image::checksums`](super::qcow2::Image::checksums).
    pub(crate) fn sums(&self) -> Result<Sums<'_>> {
        // They are of the active state.
        let Some(image) = self.image().filter(|_| self.is_active()) else {
            return Ok(Sums::None);
        };
        if image.extensions().ours.is_some() && image.freshness() == Freshness::Changed {
            return Ok(Sums::Changed);
        }
        Ok(image.checksums()?.map_or(Sums::None, Sums::Count))
    }

    /// From now on, every cluster is held to its checksum when it is read, if those count: one that is damaged is an
    /// error. Returns whether they are out of date.
    ///
    /// # Errors
    ///
    /// Those of [`sums`](Self::sums).
    pub(crate) fn hold_to_checksums(&mut self) -> Result<bool> {
        let sums = match self.sums()? {
            Sums::None => return Ok(false),
            Sums::Changed => return Ok(true),
            Sums::Count(table) => Lookup::new(&table)?,
        };
        self.guard = Some(Guard::new(sums));
        Ok(false)
    }

    /// Calls `lost` for each cluster that has a checksum and lies in a range at least in part, but of which the tables
    /// tell that it is zeros; ascending. There is none if checksums are not compared. An error that it returns is the
    /// last one.
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
        let (Some(guard), Some(image)) = (&self.guard, self.image()) else {
            return Ok(());
        };
        let cluster_size = self.own_cluster_size();
        let table = guard.sums.table(image);
        // Where it is known that there is something.
        let mut known = 0..0_u64;
        let mut result = Ok(());
        table.for_each(|cluster, _| {
            let start = cluster.0.times(cluster_size);
            let is_asked = start < range.end && range.start < start.plus(cluster_size);
            if result.is_err() || !is_asked || known.contains(&start) {
                return;
            }
            let end = start.plus(cluster_size).min(self.len());
            result = match self.place_at(GuestOffset(start), u64::MAX) {
                Ok(run) if run.is_zero() => match self.part(guard, cluster, end.minus(start)) {
                    Ok(Found::Wrong(corrupt)) => lost(corrupt.into()),
                    Ok(Found::Right(_) | Found::Unreadable) => Ok(()),
                    Err(error) => Err(error),
                },
                Ok(run) => {
                    known = start..start.plus(run.length);
                    Ok(())
                }
                Err(error) => Err(error),
            };
        })?;
        result
    }

    /// As [`read_at`](Disk::read_at), but a cluster that is not what it was is an error.
    pub(super) fn read_guarded(&self, guard: &Guard, buf: &mut [u8], at: u64) -> Result<()> {
        let cluster_size = self.own_cluster_size();
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let (into, length) = (within(at, cluster_size), to_u64(rest.len()));
            let to_end = at.plus(length) == self.len();
            let whole = if to_end {
                length
            } else {
                length.minus(within(length, cluster_size))
            };
            let is_whole = into == 0 && whole > 0;
            let now = if is_whole {
                whole
            } else {
                cluster_size.minus(into).min(length)
            };
            let (part, behind) = rest.split_at_mut(to_usize(now));
            if is_whole {
                self.read_plain(part, at)?;
                self.compare(guard, part, at)?;
            } else {
                self.read_part(guard, part, at)?;
            }
            at.increase(now);
            rest = behind;
        }
        Ok(())
    }

    /// Holds whole clusters, the last of which may end with the disk, to their checksums.
    fn compare(&self, guard: &Guard, bytes: &[u8], at: u64) -> Result<()> {
        let (cluster_size, mut at) = (self.own_cluster_size(), at);
        for cluster in bytes.chunks(to_usize(cluster_size)) {
            if let Some(corrupt) = self.fault(guard, cluster, at)? {
                return Err(corrupt.into());
            }
            at.increase(cluster_size);
        }
        Ok(())
    }

    fn fault(&self, guard: &Guard, cluster: &[u8], at: u64) -> Result<Option<Corrupt>> {
        let (Some(image), cluster_size) = (self.image(), self.own_cluster_size()) else {
            return Ok(None);
        };
        let number = GuestCluster(at.checked_div(cluster_size).unwrap_or(0));
        let expected = guard.sums.one(image, number)?;
        let lost = at..at.plus(to_u64(cluster.len()));
        let mismatch = mismatch(cluster, cluster_size, expected, self.is_alone());
        Ok(mismatch.map(|(found, expected)| Corrupt::Checksum {
            found,
            expected,
            lost: lost.into(),
        }))
    }

    /// Fills `buf` with a part of one cluster.
    fn read_part(&self, guard: &Guard, buf: &mut [u8], at: u64) -> Result<()> {
        let cluster_size = self.own_cluster_size();
        let into = within(at, cluster_size);
        let start = at.minus(into);
        let cluster = GuestCluster(start.checked_div(cluster_size).unwrap_or(0));
        let length = cluster_size.min(self.len().saturating_sub(start));
        match self.part(guard, cluster, length)? {
            Found::Right(bytes) => {
                let into = to_usize(into);
                match bytes.get(into..into.plus(buf.len())) {
                    Some(bytes) => buf.copy_from_slice(bytes),
                    // Behind the end of the disk, which the plain way tells.
                    None => self.read_plain(buf, at)?,
                }
                Ok(())
            }
            Found::Wrong(corrupt) => Err(corrupt.into()),
            Found::Unreadable => self.read_plain(buf, at),
        }
    }

    /// A cluster with so many bytes in front of the end of the disk.
    fn part(&self, guard: &Guard, cluster: GuestCluster, length: u64) -> Result<Found> {
        if let Some(found) = guard.find(cluster) {
            return Ok(found);
        }
        let start = cluster.0.times(self.own_cluster_size());
        let mut bytes = vec![0; to_usize(length)];
        let found = match self.read_plain(&mut bytes, start) {
            Ok(()) => match self.fault(guard, &bytes, start)? {
                Some(corrupt) => Found::Wrong(corrupt),
                None => Found::Right(Arc::new(bytes)),
            },
            Err(Error::Corrupt(corrupt)) => Found::Wrong(corrupt),
            // A part of it may be readable.
            Err(Error::Io { .. } | Error::Elsewhere { .. }) => Found::Unreadable,
            Err(error) => return Err(error),
        };
        guard.keep(cluster, found.clone());
        Ok(found)
    }
}
