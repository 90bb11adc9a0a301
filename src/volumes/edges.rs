//! The beginning and the end of a stretch, read once: a hundred signatures are looked for in them.

use std::borrow::Cow;
use std::ops::Range;

use super::answer::Answer;
use super::doubt::Doubt;
use super::view::{SIGNATURE, View};
use crate::units::{Exact, to_u64, to_usize};

/// How much of the beginning is kept: the last superblocks at 64 KiB are in it.
const HEAD: u64 = 68 << 10;

/// How much of the end is kept: the 257 sectors of DDF, and the 128 KiB that Linux RAID may be away from the end.
const TAIL: u64 = 132 << 10;

/// A stretch of which both ends are in memory.
#[derive(Debug)]
pub(super) struct Edges<'a> {
    view: View<'a>,
    /// Empty if it cannot be read at once.
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: u64,
    excused: Range<u64>,
}

impl<'a> Edges<'a> {
    pub(super) fn of(view: View<'a>) -> Self {
        // Of a short stretch it is all.
        let tail_at = view.len().saturating_sub(TAIL);
        let read = |at, length| view.bytes(SIGNATURE, at, length).unwrap_or_default();
        Self {
            view,
            head: read(0, view.len().min(HEAD)),
            tail: read(tail_at, view.len().minus(tail_at)),
            tail_at,
            excused: 0..0,
        }
    }

    /// The length of the stretch.
    pub(super) fn len(&self) -> u64 {
        self.view.len()
    }

    /// The size of a sector, if that is known.
    pub(super) fn sector_size(&self) -> Option<u64> {
        self.view.sector_size()
    }

    /// The same, where the bytes of a range are known to be no signature even if they cannot be read.
    pub(super) fn but(self, excused: Range<u64>) -> Self {
        Self { excused, ..self }
    }

    /// The `length` bytes from `at` on, if they are there.
    pub(super) fn bytes(&self, at: u64, length: u64) -> Result<Option<Cow<'_, [u8]>>, Doubt> {
        let within = |bytes: &'_ [u8], from: u64| {
            let start = to_usize(at.checked_sub(from)?);
            let end = start.checked_add(to_usize(length))?;
            (end <= bytes.len()).then_some(start..end)
        };
        let head = within(&self.head, 0).and_then(|range| self.head.get(range));
        let tail = || within(&self.tail, self.tail_at).and_then(|range| self.tail.get(range));
        if let Some(bytes) = head.or_else(tail) {
            return Ok(Some(Cow::Borrowed(bytes)));
        }
        if !self.view.is_there(at, length) {
            return Ok(None);
        }
        let is_excused = self.excused.start <= at && at.plus(length) <= self.excused.end;
        match self.view.bytes(SIGNATURE, at, length) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(_) if is_excused => Ok(None),
            Err(doubt) => Err(doubt),
        }
    }

    /// Whether `bytes` are what stands at `at`.
    pub(super) fn has(&self, at: u64, bytes: &[u8]) -> Answer {
        let found = self.bytes(at, to_u64(bytes.len()))?;
        Ok(found.is_some_and(|found| found.as_ref() == bytes))
    }

    /// The same of a place that may not be there.
    pub(super) fn has_at(&self, at: Option<u64>, bytes: &[u8]) -> Answer {
        at.map_or(Ok(false), |at| self.has(at, bytes))
    }

    /// The place `back` bytes before the end, which is that of the last whole `unit`.
    pub(super) fn before_end(&self, back: u64, unit: u64) -> Option<u64> {
        let rest = self.len().checked_rem(unit)?;
        self.len().checked_sub(rest)?.checked_sub(back)
    }
}
