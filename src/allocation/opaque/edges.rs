//! The beginning and the end of a stretch, read once: a hundred signatures are looked for in them.

use std::borrow::Cow;

use crate::allocation::view::View;
use crate::units::{to_u64, to_usize};

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
}

impl<'a> Edges<'a> {
    pub(super) fn of(view: View<'a>) -> Self {
        let tail_at = view.len().saturating_sub(TAIL);
        let read = |at, length| view.bytes("signatures", at, length).unwrap_or_default();
        Self {
            view,
            head: read(0, view.len().min(HEAD)),
            tail: read(tail_at, view.len().saturating_sub(tail_at)),
            tail_at,
        }
    }

    /// The length of the stretch.
    pub(super) fn len(&self) -> u64 {
        self.view.len()
    }

    /// The `length` bytes from `at` on, if they are there.
    pub(super) fn bytes(&self, at: u64, length: u64) -> Option<Cow<'_, [u8]>> {
        let within = |bytes: &'_ [u8], from: u64| {
            let start = to_usize(at.checked_sub(from)?);
            let end = start.checked_add(to_usize(length))?;
            (end <= bytes.len()).then_some(start..end)
        };
        let head = within(&self.head, 0).and_then(|range| self.head.get(range));
        let tail = || within(&self.tail, self.tail_at).and_then(|range| self.tail.get(range));
        match head.or_else(tail) {
            Some(bytes) => Some(Cow::Borrowed(bytes)),
            None => self.view.bytes("signatures", at, length).ok().map(Cow::Owned),
        }
    }

    /// Whether `bytes` are what stands at `at`.
    pub(super) fn has(&self, at: u64, bytes: &[u8]) -> bool {
        let found = self.bytes(at, to_u64(bytes.len()));
        found.is_some_and(|found| found.as_ref() == bytes)
    }

    /// The place `back` bytes before the end, which is that of the last whole `unit`.
    pub(super) fn before_end(&self, back: u64, unit: u64) -> Option<u64> {
        let rest = self.len().checked_rem(unit)?;
        self.len().checked_sub(rest)?.checked_sub(back)
    }
}
