//! One image of a disk, whose clusters are held to its checksums: what it has of each, whatever lies in front of it and
//! behind it.

use std::ops::Range;
use std::sync::Arc;

use super::guard::{Found, Guards, mismatch};
use super::layer::Layer;
use super::qcow2::{Image, Lookup};
use super::{Chain, ChainRun};
use crate::disk::Disk;
use crate::error::{Corrupt, Error, Result};
use crate::units::{Exact, GuestCluster, GuestOffset, to_u64, to_usize, within};

/// What is told of a range of the disk that is not what it was, in bytes, and why. An error that it returns is the last
/// one.
pub(crate) type Wrong<'a> = dyn FnMut(Range<u64>, Error) -> Result<()> + 'a;

/// An image whose checksums count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    disk: &'a Chain,
    guards: &'a Guards,
    depth: usize,
    pub(super) layer: &'a dyn Layer,
    pub(super) image: &'a Image,
    pub(super) sums: &'a Lookup,
}

impl<'a> Held<'a> {
    /// The image of that number, if its checksums count.
    pub(super) fn at(disk: &'a Chain, guards: &'a Guards, depth: usize) -> Option<Self> {
        Some(Self {
            disk,
            guards,
            depth,
            layer: disk.layer_at(depth)?,
            image: disk.image_at(depth)?,
            sums: guards.sums(depth)?,
        })
    }

    /// The bytes of a cluster, up to the end of the disk.
    pub(super) fn guest(&self, cluster: GuestCluster) -> Range<u64> {
        let cluster_size = self.layer.cluster_size();
        let start = cluster.0.times(cluster_size);
        start..start.plus(cluster_size).min(self.disk.len()).max(start)
    }

    /// The cluster that holds a byte.
    pub(super) fn cluster_of(&self, at: u64) -> GuestCluster {
        GuestCluster(at.checked_div(self.layer.cluster_size()).unwrap_or(0))
    }

    /// The error, which tells the file if that is not the first one.
    pub(super) fn named(&self, error: Error) -> Error {
        self.disk.named(error, self.depth)
    }

    /// Fills `buf` with the bytes of a run of this image that begins at `at`, and tells of those that are not what they
    /// were. These are there as they are.
    pub(super) fn read(&self, run: ChainRun, at: u64, buf: &mut [u8], wrong: &mut Wrong<'_>) -> Result<()> {
        let (mut run, mut at, mut rest) = (run, at, buf);
        while !rest.is_empty() {
            let length = to_u64(rest.len());
            let whole = self.whole(at, length);
            let now = if whole > 0 {
                whole
            } else {
                let cluster_size = self.layer.cluster_size();
                cluster_size.minus(within(at, cluster_size)).min(length)
            };
            let (part, behind) = rest.split_at_mut(to_usize(now));
            if whole > 0 {
                self.read_whole(run, at, part, wrong)?;
            } else {
                self.read_part(run, at, part, wrong)?;
            }
            run = run.behind(now);
            at.increase(now);
            rest = behind;
        }
        Ok(())
    }

    /// How many bytes of so many from `at` on are whole clusters, the last of which may end with the image.
    fn whole(&self, at: u64, length: u64) -> u64 {
        let cluster_size = self.layer.cluster_size();
        if within(at, cluster_size) > 0 {
            0
        } else if at.plus(length) == self.layer.size() {
            length
        } else {
            length.minus(within(length, cluster_size))
        }
    }

    /// Fills `buf` with whole clusters.
    fn read_whole(&self, run: ChainRun, at: u64, buf: &mut [u8], wrong: &mut Wrong<'_>) -> Result<()> {
        self.disk.read_run(run, GuestOffset(at), buf)?;
        let (mut at, cluster_size) = (at, to_usize(self.layer.cluster_size()));
        for bytes in buf.chunks(cluster_size) {
            let end = at.plus(to_u64(bytes.len()));
            if let Some(corrupt) = self.fault(self.cluster_of(at), bytes)? {
                wrong(at..end, self.named(corrupt.into()))?;
            }
            at = end;
        }
        Ok(())
    }

    /// Fills `buf` with a part of one cluster.
    fn read_part(&self, run: ChainRun, at: u64, buf: &mut [u8], wrong: &mut Wrong<'_>) -> Result<()> {
        let cluster = self.cluster_of(at);
        match self.cluster(cluster)? {
            Found::Right(bytes) => {
                let into = to_usize(at.minus(self.guest(cluster).start));
                if let Some(bytes) = bytes.get(into..into.plus(buf.len())) {
                    buf.copy_from_slice(bytes);
                    return Ok(());
                }
            }
            Found::Wrong(corrupt @ Corrupt::Checksum { .. }) => {
                let range = at..at.plus(to_u64(buf.len()));
                wrong(range, self.named(corrupt.into()))?;
            }
            Found::Wrong(corrupt) => return Err(self.named(corrupt.into())),
            // A part of it may be readable.
            Found::Unreadable => {}
        }
        self.disk.read_run(run, GuestOffset(at), buf)
    }

    /// A cluster as this image alone has it: where it has nothing, there are zeros, as when it was hashed.
    pub(super) fn cluster(&self, cluster: GuestCluster) -> Result<Found> {
        if let Some(found) = self.guards.find(self.depth, cluster) {
            return Ok(found);
        }
        let cluster_size = self.layer.cluster_size();
        let start = cluster.0.times(cluster_size);
        let length = self.layer.size().saturating_sub(start).min(cluster_size);
        let mut bytes = vec![0; to_usize(length)];
        let found = match self.read_alone(&mut bytes, start) {
            Ok(()) => match self.fault(cluster, &bytes)? {
                Some(corrupt) => Found::Wrong(corrupt),
                None => Found::Right(Arc::new(bytes)),
            },
            Err(Error::Corrupt(corrupt)) => Found::Wrong(corrupt),
            Err(Error::Io { .. } | Error::Elsewhere { .. }) => Found::Unreadable,
            Err(error) => return Err(self.named(error)),
        };
        self.guards.keep(self.depth, cluster, found.clone());
        Ok(found)
    }

    /// Fills `buf` with what this image has from `at` on.
    fn read_alone(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let run = self.layer.run_at(GuestOffset(at), to_u64(rest.len()))?;
            if run.length == 0 {
                break;
            }
            let (now, behind) = rest.split_at_mut(to_usize(run.length));
            let run = ChainRun::new(run.length, run.mapping, self.depth);
            self.disk.read_unnamed(run, GuestOffset(at), now)?;
            at.increase(run.length);
            rest = behind;
        }
        Ok(())
    }

    /// What is wrong with a cluster of these bytes, if anything is.
    fn fault(&self, cluster: GuestCluster, bytes: &[u8]) -> Result<Option<Corrupt>> {
        let expected = self.sums.one(self.image, cluster);
        let expected = expected.map_err(|error| self.named(error))?;
        let mismatch = mismatch(bytes, self.layer.cluster_size(), expected);
        Ok(mismatch.map(|(found, expected)| Corrupt::Checksum {
            found,
            expected,
            lost: self.guest(cluster).into(),
        }))
    }
}
