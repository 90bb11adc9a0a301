//! What the workers do with a batch: read, compare.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::side::Side;
use super::walk::{Batch, Holds};
use crate::disk::rescue;
use crate::error::{Error, Result};
use crate::pipeline::buffers::Buffers;
use crate::units::{Exact, SECTOR, length, to_u64, to_usize};
use crate::zero::is_zero;

/// A sector of zeros.
const ZEROS: [u8; to_usize(SECTOR)] = [0; to_usize(SECTOR)];

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// As in the batch.
    pub(super) passed: Range<u64>,
    /// How many bytes were compared.
    pub(super) bytes: u64,
    /// The first byte that differs.
    pub(super) first: Option<u64>,
    /// The sectors that differ, joined where they touch; none if only the first difference is wanted.
    pub(super) ranges: Vec<Range<u64>>,
    /// Why what follows could not be compared.
    pub(super) failure: Option<Error>,
}

impl Compared {
    /// Nothing, because of an error.
    pub(super) fn failed(error: Error) -> Self {
        Self {
            failure: Some(error),
            ..Self::default()
        }
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The first difference.
    First,
    /// All of them.
    All,
}

/// Compares batches of two disks.
#[derive(Debug)]
pub(super) struct Comparer<'a> {
    /// The first disk.
    pub(super) a: &'a Side,
    /// The second.
    pub(super) b: &'a Side,
    /// How much of each is read in one go, in bytes: a multiple of 512.
    pub(super) slice: u64,
    /// What is looked for.
    pub(super) mode: Mode,
    /// Where memory comes from.
    pub(super) buffers: Buffers,
    /// Set once nobody wants to know any more.
    pub(super) enough: &'a AtomicBool,
}

impl Comparer<'_> {
    /// Reads what either disk holds, and compares it with the other, or with zeros: up to what cannot be read, or
    /// the first difference if only that is wanted.
    pub(super) fn compare(&self, batch: &Batch) -> Compared {
        let mut compared = Compared {
            passed: batch.passed.clone(),
            ..Compared::default()
        };
        let room = || self.buffers.take(to_usize(self.slice));
        let (mut a, mut b) = (room(), room());
        let slices = batch
            .segments
            .iter()
            .flat_map(|(segment, holds)| slices(segment, self.slice).map(move |slice| (slice, *holds)));
        for (slice, holds) in slices {
            let is_settled = self.mode == Mode::First && compared.first.is_some();
            if is_settled || self.enough.load(Ordering::Relaxed) {
                break;
            }
            match self.read(&slice, holds, &mut a, &mut b) {
                Ok(pair) => self.note(pair, &slice, &mut compared),
                Err(error) => {
                    compared.failure = Some(error);
                    break;
                }
            }
        }
        self.buffers.give(a);
        self.buffers.give(b);
        compared
    }

    fn read<'b>(
        &self,
        slice: &Range<u64>,
        holds: Holds,
        a: &'b mut [u8],
        b: &'b mut [u8],
    ) -> Result<Pair<'b>> {
        Ok(match holds {
            Holds::A => Pair(read(self.a, a, slice)?, None),
            Holds::B => Pair(read(self.b, b, slice)?, None),
            Holds::Both => Pair(read(self.a, a, slice)?, Some(read(self.b, b, slice)?)),
        })
    }

    fn note(&self, pair: Pair<'_>, slice: &Range<u64>, compared: &mut Compared) {
        compared.bytes.increase(length(slice));
        if pair.is_equal() {
            return;
        }
        if compared.first.is_none() {
            compared.first = pair.first().map(|first| slice.start.plus(first));
        }
        if self.mode == Mode::All {
            pair.append(slice.start, &mut compared.ranges);
        }
    }
}

/// Reads a slice of a disk into a buffer that is not shorter.
fn read<'b>(side: &Side, buf: &'b mut [u8], slice: &Range<u64>) -> Result<&'b [u8]> {
    let (bytes, _) = buf.split_at_mut(to_usize(length(slice)));
    side.read(bytes, slice.start)?;
    Ok(bytes)
}

/// Bytes, and as many others: zeros if there are none.
#[derive(Clone, Copy)]
struct Pair<'a>(&'a [u8], Option<&'a [u8]>);

impl<'a> Pair<'a> {
    fn is_equal(self) -> bool {
        match self.1 {
            Some(other) => self.0 == other,
            None => is_zero(self.0),
        }
    }

    /// Sector by sector; the last one may be shorter.
    fn sectors(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let size = to_usize(SECTOR);
        let mut others = self.1.map(|other| other.chunks(size));
        self.0.chunks(size).map(move |sector| {
            let other = others.as_mut().map_or(Some(ZEROS.as_slice()), Iterator::next);
            (
                sector,
                other
                    .and_then(|other| other.get(..sector.len()))
                    .unwrap_or_default(),
            )
        })
    }

    /// The number of the first byte that differs.
    fn first(self) -> Option<u64> {
        let (number, (sector, other)) = self.sectors().enumerate().find(|(_, (a, b))| a != b)?;
        let at = sector.iter().zip(other).position(|(a, b)| a != b)?;
        Some(to_u64(number).times(SECTOR).plus(to_u64(at)))
    }

    /// Adds the sectors that differ to `ranges`; the first one begins at `start`.
    fn append(self, start: u64, ranges: &mut Vec<Range<u64>>) {
        let mut at = start;
        for (sector, other) in self.sectors() {
            let end = at.plus(to_u64(sector.len()));
            if sector != other {
                rescue::append(ranges, at..end);
            }
            at = end;
        }
    }
}

/// Cuts a range at multiples of `size` from its start on.
fn slices(range: &Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut rest = range.clone();
    std::iter::from_fn(move || {
        let slice = rest.start..rest.end.min(rest.start.plus(size));
        rest.start = slice.end;
        (!slice.is_empty()).then_some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_that_differ_are_ranges_and_the_first_byte_is_told() {
        let mut a = vec![7_u8; 5 * 512 + 100];
        let b = a.clone();
        for at in [513, 1024, 1535, 5 * 512 + 99] {
            a[at] = 8;
        }
        for pair in [Pair(&a, Some(&b)), Pair(&b, Some(&a))] {
            assert!(!pair.is_equal());
            assert_eq!(pair.first(), Some(513));
            let mut ranges = Vec::new();
            pair.append(4096, &mut ranges);
            assert_eq!(ranges, [4608..5632, 6656..6756]);
        }
        assert!(Pair(&a, Some(&a)).is_equal());
    }

    #[test]
    fn what_is_nowhere_is_zeros() {
        let mut a = vec![0_u8; 2000];
        assert!(Pair(&a, None).is_equal());
        a[1999] = 1;
        assert!(!Pair(&a, None).is_equal());
        assert_eq!(Pair(&a, None).first(), Some(1999));
        let mut ranges = Vec::new();
        Pair(&a, None).append(0, &mut ranges);
        assert_eq!(ranges.as_slice(), std::slice::from_ref(&(1536..2000)));
    }
}
