//! The two passes over what is wanted of a disk: it is copied, and what was written is read back.

use rayon::ThreadPool;

use super::fill::{Filled, Filler, Piece, note, slice};
use super::options::Options;
use super::piped::Piped;
use super::proof::Proof;
use super::readback::{self, Ledger, written};
use super::reference::Reference;
use super::report::Bad;
use super::walk::{Rules, Walk};
use crate::error::{Corrupt, Result};
use crate::formats::Chain;
use crate::output::{DiskWriter, Settled};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress, Retries};
use crate::units::{Exact, GuestCluster, GuestOffset, length, to_usize};
use crate::volumes::Segments;

/// How much is read and not yet written, in bytes at most.
const IN_FLIGHT: u64 = 16 << 20;

/// How many bad ranges are listed before the image is given up.
const MAX_BAD: usize = 1 << 16;

/// What the two passes over a disk have in common.
#[derive(Clone, Copy)]
pub(super) struct Passes<'a> {
    pub(super) disk: &'a Chain,
    pub(super) segments: &'a Segments,
    pub(super) options: &'a Options,
    pub(super) reference: Option<&'a Reference<'a>>,
    pub(super) rules: Rules,
    /// What the image comes through, if it is a pipe.
    pub(super) piped: Option<&'a Piped>,
    pub(super) pool: &'a ThreadPool,
    pub(super) progress: &'a dyn Progress,
}

/// What came of copying.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) data: u64,
    pub(super) written: u64,
    pub(super) zeros: u64,
    pub(super) left: u64,
    pub(super) bad: Vec<Bad>,
    pub(super) ledger: Ledger,
}

impl<'a> Passes<'a> {
    /// Copies it. What proves it in the end is told what was read.
    pub(super) fn copy(self, writer: &mut DiskWriter, proof: &mut Option<Proof>) -> Result<Copied> {
        self.progress.begin(Phase::Copying, self.segments.size());
        let (buffers, retries) = (Buffers::default(), Retries::new(self.progress));
        let filler = Filler {
            disk: self.disk,
            guards: self.reference.and_then(Reference::guards),
            buffers: &buffers,
            keep_going: self.options.keep_going,
            retries: &retries,
            smallest_hole: writer.smallest_hole(),
            will_verify: self.options.verify,
            with_sums: proof.is_some(),
        };
        let mut copied = Copied::default();
        let put = |filled: Filled| {
            copied.put(&filled, writer)?;
            if self.options.verify && !filled.bytes.is_empty() {
                let bytes = written(&filled.pieces);
                copied.ledger.add(filled.wanted.target(), filled.crc, bytes);
            }
            self.options.cleanup.reached(filled.wanted.target().end);
            if let Some(proof) = proof {
                let cluster = self.disk.own_cluster_size();
                let first = filled.range.start.checked_div(cluster).unwrap_or(0);
                proof.add(GuestCluster(first), &filled.sums)?;
            }
            if let (Some(piped), Some(last)) = (self.piped, filled.last) {
                piped.release(last);
            }
            self.progress.advance(length(&filled.wanted.range));
            if !filled.bytes.is_empty() {
                buffers.give(filled.bytes);
            }
            Ok(())
        };
        let fill = |job: Result<_>| filler.fill(job?);
        // On one thread, and in the order of the disk.
        let jobs = self.walk().map(|job| {
            if let (Some(piped), Ok(job)) = (self.piped, &job) {
                piped.load(job)?;
            }
            job
        });
        pipeline::in_order(self.pool, self.in_flight(), jobs, fill, put)?;
        Ok(copied)
    }

    /// Compares what is there with what was written, if that was asked for.
    pub(super) fn verify(self, settled: &Settled, ledger: &Ledger) -> Result<()> {
        let Some(file) = settled.written().filter(|_| self.options.verify) else {
            return Ok(());
        };
        self.progress.begin(Phase::Verifying, self.segments.size());
        readback::compare(
            file,
            ledger,
            self.walk(),
            self.pool,
            self.in_flight(),
            self.progress,
        )
    }

    fn walk(self) -> Walk<'a> {
        Walk::new(self.disk, self.segments, self.rules, self.reference)
    }

    fn in_flight(self) -> usize {
        let workers = self.pool.current_num_threads();
        let windows = to_usize(IN_FLIGHT / self.rules.window);
        windows.min(workers.times(4)).max(2)
    }
}

impl Copied {
    fn put(&mut self, filled: &Filled, writer: &mut DiskWriter) -> Result<()> {
        for (range, piece) in &filled.pieces {
            let target = filled.wanted.clipped(range).target();
            let sum = match piece {
                Piece::Write => {
                    let bytes = slice(&filled.range, range, &filled.bytes);
                    writer.write(bytes, GuestOffset(target.start))?;
                    &mut self.written
                }
                Piece::Zero => {
                    writer.zero(target)?;
                    &mut self.zeros
                }
                Piece::Leave => {
                    writer.leave(target)?;
                    &mut self.left
                }
            };
            sum.increase(length(range));
        }
        self.data.increase(filled.data);
        for bad in &filled.bad {
            note(&mut self.bad, bad.range.clone(), bad.why);
            if self.bad.len() > MAX_BAD {
                let (limit, at) = (MAX_BAD, bad.range.start);
                return Err(Corrupt::TooManyUnreadable { limit, at }.into());
            }
        }
        Ok(())
    }
}
