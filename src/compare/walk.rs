//! Two disks side by side, cut into batches, without what is a hole in both.

use std::ops::Range;

use super::side::Side;
use crate::error::Result;
use crate::units::{Exact, rest_of, within};

/// Which of the two disks may hold anything but zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Only the first.
    A,
    /// Only the second.
    B,
    /// Both.
    Both,
}

/// What a worker does in one go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// All that is passed with it: the holes around its segments too.
    pub(super) passed: Range<u64>,
    /// What is to be compared, in ascending order.
    pub(super) segments: Vec<(Range<u64>, Holds)>,
}

/// The batches of two disks, in ascending order, up to the end of the larger one; one that is of holes only comes
/// last if at all. After an error there are no more.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    a: Cursor<'a>,
    b: Cursor<'a>,
    at: u64,
    end: u64,
    unit: u64,
}

impl<'a> Walk<'a> {
    /// Segments begin at multiples of `granule`, batches never reach over a multiple of `unit` but for holes. Both
    /// are powers of two, `unit` not the smaller one.
    pub(super) fn new(a: &'a Side, b: &'a Side, granule: u64, unit: u64) -> Self {
        Self {
            a: Cursor::new(a, granule),
            b: Cursor::new(b, granule),
            at: 0,
            end: a.size().max(b.size()),
            unit,
        }
    }

    /// The size of the larger one.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Who holds anything where the walk is, and up to where that is so.
    fn look(&mut self) -> Result<(Option<Holds>, u64)> {
        let (in_a, a_until) = self.a.look(self.at)?;
        let (in_b, b_until) = self.b.look(self.at)?;
        let holds = match (in_a, in_b) {
            (true, true) => Some(Holds::Both),
            (true, false) => Some(Holds::A),
            (false, true) => Some(Holds::B),
            (false, false) => None,
        };
        Ok((holds, a_until.min(b_until).min(self.end)))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let mut segments = Vec::new();
        let mut limit = self.end;
        while self.at < limit {
            let (holds, until) = match self.look() {
                Ok(found) => found,
                // What lies in front of it can be compared; then it comes up again.
                Err(_) if !segments.is_empty() => break,
                Err(error) => {
                    self.at = self.end;
                    return Some(Err(error));
                }
            };
            let Some(holds) = holds else {
                self.at = until;
                continue;
            };
            if segments.is_empty() {
                limit = self.end.min(self.at.plus(rest_of(self.at, self.unit)));
            }
            let until = until.min(limit);
            segments.push((self.at..until, holds));
            self.at = until;
        }
        let passed = start..self.at;
        (!passed.is_empty()).then_some(Ok(Batch { passed, segments }))
    }
}

/// A walk along one of them.
#[derive(Debug)]
struct Cursor<'a> {
    side: &'a Side,
    granule: u64,
    /// The next data, in whole granules.
    data: Range<u64>,
}

impl<'a> Cursor<'a> {
    fn new(side: &'a Side, granule: u64) -> Self {
        let data = 0..0;
        Self { side, granule, data }
    }

    /// Whether there may be anything at `at`, which never goes back, and up to where that is so.
    fn look(&mut self, at: u64) -> Result<(bool, u64)> {
        if self.data.end <= at {
            self.data = match self.side.next_data(at)? {
                Some(data) => {
                    let start = data.start.minus(within(data.start, self.granule));
                    let end = data.end.checked_next_multiple_of(self.granule);
                    start.max(at)..end.unwrap_or(u64::MAX)
                }
                None => u64::MAX..u64::MAX,
            };
        }
        let is_data = self.data.start <= at;
        let until = if is_data { self.data.end } else { self.data.start };
        Ok((is_data, until))
    }
}
