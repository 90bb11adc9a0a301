//! Clusters of each of the images, held to what that image records of them.

use std::ops::Range;

use super::origin::of;
use crate::error::{Corrupt, Error, Invalid, Result, Unfit};
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::digest;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::formats::qcow2::{Image, Lookup};
use crate::formats::{Chain, ChainRun, Decoders};
use crate::units::{Exact, GuestCluster, GuestOffset, HostOffset, to_u64, to_usize};

/// All images of a chain.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    chain: &'a Chain,
    /// What each records.
    sums: Vec<Lookup>,
    decoders: Decoders,
}

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the image.
    pub(super) depth: usize,
    /// Its number on the disk, in clusters of that image.
    pub(super) number: GuestCluster,
}

/// A cluster of which a part was read: the next part is read soon.
#[derive(Debug, Default)]
pub(super) struct Kept {
    place: Option<Place>,
    bytes: Vec<u8>,
}

impl<'a> Layers<'a> {
    /// Loads what the images record.
    ///
    /// # Errors
    ///
    /// Those of [`Image::checksums`], with the path of an image behind the first.
    pub(super) fn load(chain: &'a Chain) -> Result<Self> {
        let lookup = |depth| {
            let table = chain.image_at(depth).map_or(Ok(None), Image::checksums)?;
            table.map_or(Err(Invalid::Unfit(Unfit::Foreign).into()), |table| {
                Lookup::new(&table)
            })
        };
        let sums = (0..chain.depth()).map(|depth| lookup(depth).map_err(|error| of(chain, depth, error)));
        Ok(Self {
            chain,
            sums: sums.collect::<Result<_>>()?,
            decoders: Decoders::default(),
        })
    }

    /// The image of that number.
    pub(super) fn image(&self, depth: usize) -> Option<&'a Image> {
        self.chain.image_at(depth)
    }

    /// What an image records of one of its clusters.
    ///
    /// # Errors
    ///
    /// Those of [`Lookup::sum`].
    pub(super) fn recorded(&self, place: Place) -> Result<Option<Sum>> {
        let (image, sums) = self.get(place.depth)?;
        let sum = sums.sum(image, place.number);
        sum.map_err(|error| of(self.chain, place.depth, error))
    }

    /// Calls `each` for every cluster that an image lists.
    ///
    /// # Errors
    ///
    /// Those of [`Checksums::for_each`](crate::formats::qcow2::Checksums::for_each), and of `each`.
    pub(super) fn each_listed(
        &self,
        depth: usize,
        mut each: impl FnMut(GuestCluster) -> Result<()>,
    ) -> Result<()> {
        let (image, sums) = self.get(depth)?;
        let mut result = Ok(());
        let listed = sums.table(image).for_each(|cluster, _| {
            if result.is_ok() {
                result = each(cluster);
            }
        });
        listed.map_err(|error| of(self.chain, depth, error))?;
        result
    }

    /// Reads all of a cluster of one of the images, and holds it to what that records. What lies behind the end of its
    /// disk is zeros.
    ///
    /// # Errors
    ///
    /// With the path of an image behind the first:
    ///
    /// - [`Error::Corrupt`] if it is not what it was.
    /// - [`Error::Io`] if it cannot be read.
    pub(super) fn read(&self, place: Place, mapping: Mapping, cluster: &mut [u8]) -> Result<Sum> {
        let (image, _) = self.get(place.depth)?;
        let guest = guest(image, place.number);
        let read = match mapping {
            Mapping::Data(host) => {
                let there = to_usize(guest.end.minus(guest.start)).min(cluster.len());
                let (there, behind) = cluster.split_at_mut(there);
                behind.fill(0);
                image.read_data(host, there)
            }
            Mapping::Compressed(stream) => self
                .decoders
                .with(|decoder| image.decode(decoder, stream, guest, cluster)),
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => {
                cluster.fill(0);
                Ok(())
            }
        };
        read.map_err(|error| of(self.chain, place.depth, error))?;
        self.hold(place, cluster)
    }

    /// The same of a compressed one, whose stream is appended to `streams` as it is; returns its length in bytes, too.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(super) fn copy(
        &self,
        place: Place,
        stream: Stream,
        cluster: &mut [u8],
        streams: &mut Vec<u8>,
    ) -> Result<(Sum, usize)> {
        let (image, _) = self.get(place.depth)?;
        let guest = guest(image, place.number);
        let length = self
            .decoders
            .with(|decoder| image.copy_stream(decoder, stream, guest, cluster, streams));
        let length = length.map_err(|error| of(self.chain, place.depth, error))?;
        Ok((self.hold(place, cluster)?, length))
    }

    /// Fills `buf` with the bytes of a run that begins at `at` and is as long.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(super) fn read_run(&self, run: ChainRun, at: u64, buf: &mut [u8], kept: &mut Kept) -> Result<()> {
        if run.is_zero() {
            buf.fill(0);
            return Ok(());
        }
        let (image, _) = self.get(run.depth)?;
        let geometry = image.header().geometry();
        let (mut at, mut rest, begin) = (at, buf, at);
        while !rest.is_empty() {
            let number = geometry.cluster_of(GuestOffset(at));
            let start = geometry.start_of(number).0;
            let place = Place {
                depth: run.depth,
                number,
            };
            if kept.place != Some(place) {
                kept.place = None;
                kept.bytes.resize(to_usize(geometry.cluster_size()), 0);
                let mapping = cluster_of_run(run.mapping, begin, start);
                self.read(place, mapping, &mut kept.bytes)?;
                kept.place = Some(place);
            }
            let (_, part) = kept.bytes.split_at(to_usize(at.minus(start)));
            let length = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            let (part, _) = part.split_at(length);
            now.copy_from_slice(part);
            at.increase(to_u64(length));
            rest = later;
        }
        Ok(())
    }

    /// Holds a whole cluster to what its image records: one that is not listed there must be zeros.
    fn hold(&self, place: Place, cluster: &[u8]) -> Result<Sum> {
        let recorded = self.recorded(place)?;
        let (image, _) = self.get(place.depth)?;
        let lost = || guest(image, place.number).into();
        let found = crc32fast::hash(cluster);
        let expected = recorded.map_or_else(|| crc32fast::hash(&vec![0; cluster.len()]), |sum| sum.crc);
        let corrupt = |corrupt: Corrupt| Err(of(self.chain, place.depth, corrupt.into()));
        if found != expected {
            return corrupt(Corrupt::Checksum {
                found,
                expected,
                lost: lost(),
            });
        }
        let recorded = recorded.and_then(|sum| sum.digest);
        let digest = recorded.map(|_| digest::of_cluster(cluster, place.number));
        if digest != recorded {
            return corrupt(Corrupt::Digest { lost: lost() });
        }
        Ok(Sum { crc: found, digest })
    }

    fn get(&self, depth: usize) -> Result<(&'a Image, &Lookup)> {
        let found = self.chain.image_at(depth).zip(self.sums.get(depth));
        // Every file of the chain is such an image.
        found.ok_or_else(|| Error::from(Invalid::Unfit(Unfit::Foreign)))
    }
}

/// The range of the disk that a cluster has, which may end with it.
fn guest(image: &Image, number: GuestCluster) -> Range<u64> {
    let geometry = image.header().geometry();
    let start = geometry.start_of(number).0;
    start..start.plus(geometry.cluster_size()).min(geometry.size())
}

/// Where the cluster is that begins at `start`, of a run that has a place for `at`.
fn cluster_of_run(mapping: Mapping, at: u64, start: u64) -> Mapping {
    match mapping {
        Mapping::Data(host) if start >= at => Mapping::Data(host + start.minus(at)),
        Mapping::Data(host) => Mapping::Data(HostOffset(host.0.minus(at.minus(start)))),
        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) | Mapping::Compressed(_) => mapping,
    }
}
