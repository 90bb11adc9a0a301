//! What the workers do with a batch: clusters are brought over as they are, if they can be.

use std::ops::Range;

use super::layers::{Kept, Layers, Place};
use super::report::Tally;
use crate::disk::Disk;
use crate::error::Result;
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::digest::{self, Digest};
use crate::formats::qcow2::structures::header::Compat;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::{Chain, ChainRun, Known};
use crate::layout::Design;
use crate::pipeline::buffers::Buffers;
use crate::pipeline::compress::{Compressors, longest};
use crate::pipeline::encode::{Encoded, Encoding};
use crate::units::{Exact, GuestCluster, GuestOffset, to_u64, to_usize};
use crate::zero::is_zero;

/// Brings clusters over from the images of a chain.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    pub(super) chain: &'a Chain,
    pub(super) layers: &'a Layers<'a>,
    /// The image that the new one is to stand on.
    pub(super) base: Option<&'a Chain>,
    /// How many images become one.
    pub(super) merged: usize,
    pub(super) design: Design,
    /// What compresses what was compressed and cannot stay as it is.
    pub(super) compressors: Option<&'a Compressors>,
    pub(super) buffers: &'a Buffers,
    pub(super) stream_buffers: &'a Buffers,
}

/// A range of the disk that is in one place.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where it begins, in bytes of the disk.
    at: u64,
    run: ChainRun,
}

/// What is known of the way to a cluster, and goes on with the next one.
#[derive(Debug, Default)]
struct Walk {
    last: Option<Piece>,
    kept: Kept,
    pieces: Vec<Piece>,
}

/// A cluster that was read.
struct Content {
    sum: Sum,
    /// How it was stored.
    stored: Stored,
}

enum Stored {
    Plain,
    /// As a stream that can stay as it is, of this length in bytes.
    Stream(usize),
    /// At least in part as a stream that cannot.
    OtherStream,
}

impl Encoder<'_> {
    /// Brings over a range of clusters.
    ///
    /// # Errors
    ///
    /// - Those of [`Chain::place_at`] and [`Layers::read`].
    /// - Those of [`Compressors::compress`].
    pub(super) fn encode(&self, batch: &Range<u64>) -> Result<(Encoded, Tally)> {
        let cluster_size = to_usize(self.design.geometry.cluster_size());
        let known = match self.base {
            Some(base) => base
                .known(batch.clone(), self.design.geometry.cluster_size())
                .map_err(|error| base.of_base(error))?,
            None => Vec::new(),
        };
        let count = batch.end.minus(batch.start);
        let mut bytes = self.buffers.take(to_usize(count).times(cluster_size));
        let mut streams = self.stream_buffers.take(0);
        let (mut clusters, mut tally, mut walk) = (Vec::new(), Tally::default(), Walk::default());
        let numbers = (batch.start..batch.end).map(GuestCluster);
        for ((place, number), cluster) in numbers.enumerate().zip(bytes.chunks_exact_mut(cluster_size)) {
            self.find(number, batch.end, &mut walk)?;
            let known = known.get(place).copied();
            clusters.push(self.encoding_of(number, known, &mut walk, cluster, &mut streams, &mut tally)?);
        }
        if !clusters.iter().any(|how| matches!(how, Encoding::Plain { .. })) {
            self.buffers.give(std::mem::take(&mut bytes));
        }
        let encoded = Encoded {
            first: GuestCluster(batch.start),
            clusters,
            bytes,
            streams,
            read: 0,
            unreadable: Vec::new(),
        };
        Ok((encoded, tally))
    }

    /// Finds the pieces of a cluster, none of which lies behind cluster `end`.
    fn find(&self, number: GuestCluster, end: u64, walk: &mut Walk) -> Result<()> {
        let geometry = self.design.geometry;
        let range_end = geometry.start_of(GuestCluster(end)).0.min(self.chain.len());
        let mut at = geometry.start_of(number).0;
        let cluster_end = at.plus(geometry.cluster_size()).min(self.chain.len());
        walk.pieces.clear();
        while at < cluster_end {
            let rest = walk.last.and_then(|last| rest_from(last, at));
            let found = match rest {
                Some(found) => found,
                None => Piece {
                    at,
                    run: self.chain.place_at(GuestOffset(at), range_end.minus(at))?,
                },
            };
            walk.last = Some(found);
            let length = found.run.length.min(cluster_end.minus(at)).max(1);
            let run = ChainRun { length, ..found.run };
            walk.pieces.push(Piece { at, run });
            at.increase(length);
        }
        Ok(())
    }

    fn encoding_of(
        &self,
        number: GuestCluster,
        known: Option<Known>,
        walk: &mut Walk,
        cluster: &mut [u8],
        streams: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<Encoding> {
        let is_zeros = walk.pieces.iter().all(|piece| piece.run.is_zero());
        if self.base.is_some() && walk.pieces.iter().all(|piece| piece.run.depth >= self.merged) {
            let digest = if is_zeros {
                None
            } else {
                self.digest_below(number, walk, cluster)?
            };
            return Ok(Encoding::Same { digest });
        }
        if is_zeros {
            cluster.fill(0);
            return self.zeros(number, known, cluster, streams);
        }
        let before = streams.len();
        let content = self.content(number, walk, cluster, streams)?;
        let is_same = |digest| known == Some(Known::Digest(digest));
        if is_zero(cluster) {
            streams.truncate(before);
            return self.zeros(number, known, cluster, streams);
        }
        let sum = content.sum;
        if sum.digest.is_some_and(is_same) {
            streams.truncate(before);
            return Ok(Encoding::Same { digest: sum.digest });
        }
        match content.stored {
            Stored::Plain => Ok(Encoding::Plain { sum }),
            Stored::Stream(length) => {
                tally.copied.increase(1);
                Ok(Encoding::Compressed { sum, length })
            }
            Stored::OtherStream => {
                let encoding = self.compress(sum, cluster, streams)?;
                tally
                    .recompressed
                    .increase(u64::from(matches!(encoding, Encoding::Compressed { .. })));
                Ok(encoding)
            }
        }
    }

    /// A cluster of zeros, which may be something else in the image that the new one stands on.
    fn zeros(
        &self,
        number: GuestCluster,
        known: Option<Known>,
        cluster: &[u8],
        streams: &mut Vec<u8>,
    ) -> Result<Encoding> {
        if known == Some(Known::Zeros) {
            return Ok(Encoding::Same { digest: None });
        }
        if self.base.is_none() || self.design.compat == Compat::V1_1 {
            return Ok(Encoding::Zeros);
        }
        // There is no other way to say so.
        let sum = self.sum(crc32fast::hash(cluster), None, number, cluster);
        self.compress(sum, cluster, streams)
    }

    fn compress(&self, sum: Sum, cluster: &[u8], streams: &mut Vec<u8>) -> Result<Encoding> {
        let length = match self.compressors {
            Some(compressors) => compressors.compress(cluster, false, streams)?,
            None => None,
        };
        Ok(match length {
            Some(length) => Encoding::Compressed { sum, length },
            None => Encoding::Plain { sum },
        })
    }

    /// What is known of a cluster: its digest only if the new image has digests.
    fn sum(&self, crc: u32, digest: Option<Digest>, number: GuestCluster, cluster: &[u8]) -> Sum {
        let digest = self
            .design
            .digests
            .then(|| digest.unwrap_or_else(|| digest::of_cluster(cluster, number)));
        Sum { crc, digest }
    }

    /// The one place that all of a cluster is in, if it is a cluster there, too.
    fn whole(&self, number: GuestCluster, walk: &Walk) -> Option<(Place, Mapping)> {
        let [piece] = walk.pieces.as_slice() else {
            return None;
        };
        let (ours, theirs) = (
            self.design.geometry,
            self.layers.image(piece.run.depth)?.header().geometry(),
        );
        let end = ours.start_of(number).0.plus(ours.cluster_size());
        // What lies behind the end of the disk must not come over.
        let is_cut = end > ours.size() && theirs.size() != ours.size();
        let place = Place {
            depth: piece.run.depth,
            number,
        };
        (ours.cluster_size() == theirs.cluster_size() && !is_cut).then_some((place, piece.run.mapping))
    }

    /// The digest of a cluster that stays where it is: as recorded, or else computed. None if there are to be none.
    fn digest_below(
        &self,
        number: GuestCluster,
        walk: &mut Walk,
        cluster: &mut [u8],
    ) -> Result<Option<Digest>> {
        if !self.design.digests {
            return Ok(None);
        }
        let recorded = match self.whole(number, walk) {
            Some((place, _)) => self.layers.recorded(place)?.and_then(|sum| sum.digest),
            None => None,
        };
        if recorded.is_some() {
            return Ok(recorded);
        }
        self.read(walk, cluster)?;
        Ok(Some(digest::of_cluster(cluster, number)))
    }

    /// Reads a cluster. If it can stay the stream that it is, that is appended to `streams`.
    fn content(
        &self,
        number: GuestCluster,
        walk: &mut Walk,
        cluster: &mut [u8],
        streams: &mut Vec<u8>,
    ) -> Result<Content> {
        let (found, stored) = match self.whole(number, walk) {
            Some((place, Mapping::Compressed(stream))) if self.takes_streams(place.depth) => {
                let before = streams.len();
                let (sum, length) = self.layers.copy(place, stream, cluster, streams)?;
                if to_u64(length) <= longest(to_u64(cluster.len())) {
                    (Some(sum), Stored::Stream(length))
                } else {
                    streams.truncate(before);
                    (Some(sum), Stored::OtherStream)
                }
            }
            Some((place, mapping)) => {
                let stored = match mapping {
                    Mapping::Compressed(_) => Stored::OtherStream,
                    Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) | Mapping::Data(_) => {
                        Stored::Plain
                    }
                };
                (Some(self.layers.read(place, mapping, cluster)?), stored)
            }
            None => {
                self.read(walk, cluster)?;
                let is_stream = |piece: &Piece| matches!(piece.run.mapping, Mapping::Compressed(_));
                let has_stream = walk.pieces.iter().any(is_stream);
                let stored = if has_stream {
                    Stored::OtherStream
                } else {
                    Stored::Plain
                };
                (None, stored)
            }
        };
        let crc = found.map_or_else(|| crc32fast::hash(cluster), |sum| sum.crc);
        let digest = found.and_then(|sum| sum.digest);
        Ok(Content {
            sum: self.sum(crc, digest, number, cluster),
            stored,
        })
    }

    /// Whether streams of an image can be those of the new one.
    fn takes_streams(&self, depth: usize) -> bool {
        let theirs = self.layers.image(depth).map(|image| image.header().compression());
        theirs.is_some() && theirs == self.design.compression
    }

    /// Reads a cluster from wherever its pieces are; what lies behind the end of the disk is zeros.
    fn read(&self, walk: &mut Walk, cluster: &mut [u8]) -> Result<()> {
        let mut rest = cluster;
        for Piece { at, run } in &walk.pieces {
            let (now, later) = rest.split_at_mut(to_usize(run.length));
            self.layers.read_run(*run, *at, now, &mut walk.kept)?;
            rest = later;
        }
        rest.fill(0);
        Ok(())
    }
}

/// What is left of a run from `at` on, if that is in it.
fn rest_from(last: Piece, at: u64) -> Option<Piece> {
    let passed = at.checked_sub(last.at)?;
    let length = last.run.length.checked_sub(passed).filter(|rest| *rest > 0)?;
    let mapping = match last.run.mapping {
        Mapping::Data(host) => Mapping::Data(host + passed),
        Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) | Mapping::Compressed(_) => {
            last.run.mapping
        }
    };
    let run = ChainRun {
        length,
        mapping,
        ..last.run
    };
    Some(Piece { at, run })
}
