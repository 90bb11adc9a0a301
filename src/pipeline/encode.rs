//! What the workers do with a batch: read, test for zeros, hash, compress.

use std::ops::Range;

use super::buffers::Buffers;
use super::compress::Compressors;
use super::stroke::strokes;
use crate::clusters::Batch;
use crate::disk::Disk;
use crate::disk::rescue::{self, Rescue};
use crate::error::Result;
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::digest::{self, Digest};
use crate::formats::{Chain, Known};
use crate::units::{Exact, GuestCluster, length, to_u64, to_usize};
use crate::zero::is_zero;

/// A batch that was read.
#[derive(Debug)]
pub struct Encoded {
    /// The first cluster.
    pub first: GuestCluster,
    /// What became of each cluster.
    pub clusters: Vec<Encoding>,
    /// All clusters, whole, one after the other. Empty if clusters are compressed, or left to a base, and none
    /// stays as it is.
    pub bytes: Vec<u8>,
    /// The streams of those that are compressed, one after the other.
    pub streams: Vec<u8>,
    /// How many bytes were in use and so were read.
    pub read: u64,
    /// Ranges that could not be read and are zeros here, in bytes of the disk.
    pub unreadable: Vec<Range<u64>>,
}

impl Encoded {
    /// Where its last cluster ends, in bytes of the disk.
    pub fn end(&self, cluster_size: u64) -> u64 {
        self.first.0.plus(to_u64(self.clusters.len())).times(cluster_size)
    }
}

/// What became of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// All of it is zeros.
    Zeros,
    /// It is as in the image that the new one stands on.
    Same {
        /// Its digest, if it was computed.
        digest: Option<Digest>,
    },
    /// It stays as it is.
    Plain {
        /// What is known of its content.
        sum: Sum,
    },
    /// It is compressed.
    Compressed {
        /// What is known of its content, before that.
        sum: Sum,
        /// The length of its stream in bytes.
        length: usize,
    },
}

/// Turns batches into clusters that are ready to be placed.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// Where the bytes are read.
    pub source: &'a dyn Disk,
    /// What reads around bytes that cannot be read.
    pub rescue: &'a Rescue<'a>,
    /// In bytes.
    pub cluster_size: u64,
    /// Where memory comes from, and goes back to once a batch was placed.
    pub buffers: &'a Buffers,
    /// The same for streams, whose buffers are never cleared.
    pub stream_buffers: &'a Buffers,
    /// What compresses, if anything does.
    pub compressors: Option<&'a Compressors>,
    /// Whether clusters get a digest; they have at least [`digest::SMALLEST_CLUSTER`] bytes then.
    pub digests: bool,
    /// What the new image stands on, if it does.
    pub base: Option<&'a Chain>,
    /// Whether there is no other way to say that a cluster is zeros, which is something else on the base.
    pub zeros_as_data: bool,
}

/// What is known of the clusters of a batch.
#[derive(Debug)]
struct Context {
    first: GuestCluster,
    /// On the base, if there is one.
    known: Vec<Known>,
}

impl Context {
    /// The number of a cluster.
    fn number(&self, place: usize) -> GuestCluster {
        self.first + to_u64(place)
    }
}

impl Encoder<'_> {
    /// Reads what is in use; the rest of its clusters is zeros.
    ///
    /// # Errors
    ///
    /// Those of [`Rescue::read`] and [`Compressors::compress`].
    pub fn encode(&self, batch: &Batch) -> Result<Encoded> {
        let start = batch.first.0.times(self.cluster_size);
        let context = self.context(batch)?;
        if batch.used.is_empty() && !self.zeros_as_data {
            return Ok(zeros(&context));
        }
        let mut bytes = self.buffers.take(to_usize(batch.count.times(self.cluster_size)));
        let mut clusters = Vec::with_capacity(to_usize(batch.count));
        let mut streams = self
            .compressors
            .map_or(Vec::new(), |_| self.stream_buffers.take(0));
        let (mut read, mut unreadable) = (0_u64, Vec::new());
        let mut filled = 0;
        for stroke in strokes(&batch.used) {
            let range = stroke.range();
            let at = to_usize(range.start.minus(start));
            let (before, on) = bytes.split_at_mut(at);
            let (taken, _) = on.split_at_mut(to_usize(length(&range)));
            let (_, gap) = before.split_at_mut(filled);
            gap.fill(0);
            for bad in stroke.read(self.source, taken, self.rescue)? {
                rescue::append(&mut unreadable, bad);
            }
            read.increase(stroke.used());
            filled = at.plus(taken.len());
            let (whole, _) = bytes.split_at(filled);
            self.complete(whole, &context, &mut clusters, &mut streams)?;
        }
        let (_, rest) = bytes.split_at_mut(filled);
        rest.fill(0);
        self.complete(&bytes, &context, &mut clusters, &mut streams)?;
        // A stream without either has all clusters in order, those of zeros as well.
        let may_be_empty = self.compressors.is_some() || self.base.is_some();
        if may_be_empty && !clusters.iter().any(|how| matches!(how, Encoding::Plain { .. })) {
            // Sooner than what is placed, which has to wait for its turn.
            self.buffers.give(std::mem::take(&mut bytes));
        }
        Ok(Encoded {
            first: batch.first,
            clusters,
            bytes,
            streams,
            read,
            unreadable,
        })
    }

    /// Deals with the clusters that are whole by now and were not before.
    fn complete(
        &self,
        bytes: &[u8],
        context: &Context,
        clusters: &mut Vec<Encoding>,
        streams: &mut Vec<u8>,
    ) -> Result<()> {
        let whole = bytes.chunks_exact(to_usize(self.cluster_size));
        for cluster in whole.skip(clusters.len()) {
            // Of this batch only: what comes out must not depend on who did the one before.
            let doubt = matches!(clusters.last(), Some(Encoding::Plain { .. }));
            let place = clusters.len();
            let known = context.known.get(place).copied();
            clusters.push(self.encoding_of(cluster, context.number(place), known, doubt, streams)?);
        }
        Ok(())
    }

    fn encoding_of(
        &self,
        cluster: &[u8],
        number: GuestCluster,
        known: Option<Known>,
        doubt: bool,
        streams: &mut Vec<u8>,
    ) -> Result<Encoding> {
        if is_zero(cluster) {
            if known == Some(Known::Zeros) {
                return Ok(Encoding::Same { digest: None });
            }
            if !self.zeros_as_data {
                return Ok(Encoding::Zeros);
            }
        }
        let digest = self.digests.then(|| digest::of_cluster(cluster, number));
        if let Some(known) = known
            && self.is_same(cluster, digest.as_ref(), number, known)?
        {
            return Ok(Encoding::Same { digest });
        }
        let crc = crc32fast::hash(cluster);
        let sum = Sum { crc, digest };
        let length = match self.compressors {
            Some(compressors) => compressors.compress(cluster, doubt, streams)?,
            None => None,
        };
        Ok(match length {
            Some(length) => Encoding::Compressed { sum, length },
            None => Encoding::Plain { sum },
        })
    }

    /// What is known on the base.
    fn context(&self, batch: &Batch) -> Result<Context> {
        let clusters = batch.first.0..batch.first.0.plus(batch.count);
        let known = match self.base {
            Some(base) => base
                .known(clusters, self.cluster_size)
                .map_err(|error| base.of_base(error))?,
            None => Vec::new(),
        };
        let first = batch.first;
        Ok(Context { first, known })
    }

    /// Whether the base has the same cluster: only equal digests or equal bytes are equal.
    fn is_same(
        &self,
        cluster: &[u8],
        digest: Option<&Digest>,
        number: GuestCluster,
        known: Known,
    ) -> Result<bool> {
        match (known, digest, self.base) {
            (Known::Zeros, ..) | (_, _, None) => Ok(false),
            (Known::Digest(theirs), Some(ours), _) => Ok(theirs == *ours),
            (Known::Digest(_) | Known::Nothing, _, Some(base)) => {
                let at = number.0.times(self.cluster_size);
                let mut theirs = self.buffers.take(cluster.len());
                // Behind its end there is nothing.
                let there = to_usize(base.len().saturating_sub(at)).min(cluster.len());
                let (begin, rest) = theirs.split_at_mut(there);
                base.read_at(begin, at).map_err(|error| base.of_base(error))?;
                rest.fill(0);
                let is_same = theirs == cluster;
                self.buffers.give(theirs);
                Ok(is_same)
            }
        }
    }
}

/// A batch of which nothing is in use.
fn zeros(context: &Context) -> Encoded {
    let encoding = |known: &Known| match known {
        Known::Zeros => Encoding::Same { digest: None },
        Known::Digest(_) | Known::Nothing => Encoding::Zeros,
    };
    Encoded {
        first: context.first,
        clusters: context.known.iter().map(encoding).collect(),
        bytes: Vec::new(),
        streams: Vec::new(),
        read: 0,
        unreadable: Vec::new(),
    }
}
