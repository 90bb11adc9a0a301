//! Streams, packed without a gap: they begin at any byte, and cross from one cluster into the next.

use super::allocator::Allocator;
use super::refcounts::{MAX_REFERENCES, Refcounts};
use crate::error::Result;
use crate::output::WriteAt;
use crate::units::{Exact, HostOffset, within};

/// The place where streams go. It only moves ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packer {
    cluster_size: u64,
    /// The first byte that no stream has.
    next: u64,
    /// The end of the last cluster that a stream has, perhaps in part.
    end: u64,
}

impl Packer {
    /// `cluster_size` in bytes.
    pub(super) fn new(cluster_size: u64) -> Self {
        Self {
            cluster_size,
            next: 0,
            end: 0,
        }
    }

    /// Whether a cluster is begun that has room for another stream.
    pub(super) fn is_open(&self) -> bool {
        self.next < self.end
    }

    /// Leaves the rest of the last cluster empty.
    pub(super) fn close(&mut self) {
        self.next = self.end;
    }

    /// Finds room for a stream of `length` bytes, which is less than a cluster, and counts it in all clusters that
    /// it touches. Takes one cluster at most.
    ///
    /// # Errors
    ///
    /// Those of [`Refcounts`].
    pub(super) fn place(
        &mut self,
        length: u64,
        allocator: &mut Allocator,
        refcounts: &mut Refcounts,
        writer: &impl WriteAt,
    ) -> Result<HostOffset> {
        if !self.has_room(length, *allocator, refcounts, writer)? {
            self.next = allocator.end().0;
            self.end = self.next;
        } else if within(self.next, self.cluster_size) != 0 {
            refcounts.add(HostOffset(self.next), writer)?;
        }
        let at = self.next;
        self.next = at.plus(length);
        if self.next > self.end {
            let taken = allocator.take(1);
            assert_eq!(taken.0, self.end, "a stream does not jump");
            self.end.increase(self.cluster_size);
        }
        Ok(HostOffset(at))
    }

    /// Whether a stream can go where the last one ended.
    fn has_room(
        &self,
        length: u64,
        allocator: Allocator,
        refcounts: &mut Refcounts,
        writer: &impl WriteAt,
    ) -> Result<bool> {
        let fits = length <= self.end.minus(self.next) || self.end == allocator.end().0;
        // There is always one reference more than those beyond the first.
        Ok(self.is_open() && fits && refcounts.of(HostOffset(self.next), writer)? < MAX_REFERENCES)
    }
}
