//! What the log changes of superblocks, AGFs and trees, once mounting replays it. Source: Linux,
//! `fs/xfs/xfs_log_recover.c`, `fs/xfs/xfs_buf_item_recover.c`.
//!
//! ```text
//! transactions -> buffers that were freed, bytes that are named
//!              -> buffers that count, older on the disk -> bytes in their place
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::age;
use super::items::{self, Buffer, CHUNK};
use super::log::{Item, Log};
use super::superblock::Superblock;
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::Reason;
use crate::volumes::view::View;

/// The length of a piece of a buffer, in bytes.
const EACH: u64 = to_u64(CHUNK);

/// How many of them are kept: 32 MiB.
const MAX_PIECES: usize = (32 << 20) / CHUNK;

/// How many buffers that were freed are remembered, and of how many it is known when they were written.
const MAX_BUFFERS: usize = 1 << 20;

const TOO_MANY_BUFFERS: Doubt = Doubt::TooMany {
    what: "buffers in its log",
    limit: to_u64(MAX_BUFFERS),
};
const TOO_MANY_PIECES: Doubt = Doubt::TooMany {
    what: "changes of 128 bytes in its log",
    limit: to_u64(MAX_PIECES),
};

/// What stands on the disk instead, once the log was replayed.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// By its place, counted in pieces.
    pieces: BTreeMap<u64, [u8; CHUNK]>,
    /// By its first byte: when a buffer on the disk was written.
    written: BTreeMap<u64, Option<u64>>,
}

/// Buffers that were freed, and how often that will still be told.
#[derive(Debug, Default)]
struct Cancelled(BTreeMap<(u64, u64), u64>);

impl Replay {
    /// Replays the log in memory. What it names is in use.
    pub(super) fn of(
        view: View<'_>,
        superblock: &Superblock,
        log: &Log<'_>,
        map: &mut MapBuilder,
    ) -> Result<Self, Doubt> {
        let mut cancelled = Cancelled::default();
        log.transactions(
            superblock,
            |_| false,
            |_, items| {
                for item in &items {
                    for range in items::named(item, superblock)? {
                        map.used(range, Reason::Mapped);
                    }
                    if let Some(buffer) = items::buffer(item, superblock)?
                        && buffer.is_cancel
                    {
                        cancelled.add(&buffer)?;
                    }
                }
                Ok(())
            },
        )?;
        let mut replay = Self::default();
        log.transactions(superblock, items::is_kept, |lsn, items| {
            replay.transaction(view, superblock, lsn, &items, &mut cancelled)
        })?;
        Ok(replay)
    }

    /// Whether it changes anything there.
    pub(super) fn changes(&self, range: &Range<u64>) -> bool {
        self.pieces.range(pieces(range)).next().is_some()
    }

    /// Puts what it changes into bytes that stand at a place.
    pub(super) fn apply(&self, at: u64, bytes: &mut [u8]) {
        let range = at..at.plus(to_u64(bytes.len()));
        for (number, piece) in self.pieces.range(pieces(&range)) {
            let into = to_usize(number.times(EACH).minus(at));
            let bytes = bytes.get_mut(into..).unwrap_or_default();
            for (byte, new) in bytes.iter_mut().zip(piece) {
                *byte = *new;
            }
        }
    }

    /// Replays a transaction: what it freed comes last.
    fn transaction(
        &mut self,
        view: View<'_>,
        superblock: &Superblock,
        lsn: u64,
        items: &[Item],
        cancelled: &mut Cancelled,
    ) -> Result<(), Doubt> {
        let mut freed = Vec::new();
        for item in items {
            match items::buffer(item, superblock)? {
                Some(buffer) if buffer.is_cancel => freed.push(buffer),
                Some(buffer) if !buffer.is_kept || cancelled.has(&buffer) => {}
                Some(buffer) if self.is_newer(view, superblock, &buffer, lsn)? => {}
                Some(buffer) => self.put(&buffer)?,
                None => {}
            }
        }
        for buffer in freed {
            cancelled.remove(&buffer);
        }
        Ok(())
    }

    /// Whether a buffer on the disk has what a transaction did, and maybe more.
    fn is_newer(
        &mut self,
        view: View<'_>,
        superblock: &Superblock,
        buffer: &Buffer<'_>,
        lsn: u64,
    ) -> Result<bool, Doubt> {
        if !superblock.has_crcs {
            return Ok(false);
        }
        let at = buffer.range.start;
        let known = self.written.get(&at).copied();
        let written = if let Some(written) = known {
            written
        } else {
            if self.written.len() >= MAX_BUFFERS {
                return Err(TOO_MANY_BUFFERS);
            }
            let length = buffer.range.end.minus(at).min(512);
            let bytes = view.bytes("buffer of the log", at, length)?;
            let written = age::written(&bytes, superblock);
            self.written.insert(at, written);
            written
        };
        Ok(written.is_some_and(|written| written != 0 && written >= lsn))
    }

    fn put(&mut self, buffer: &Buffer<'_>) -> Result<(), Doubt> {
        for (at, piece) in buffer.pieces()? {
            self.pieces.insert(at.div_ceil(EACH), *piece);
        }
        if self.pieces.len() > MAX_PIECES {
            return Err(TOO_MANY_PIECES);
        }
        Ok(())
    }
}

impl Cancelled {
    fn key(buffer: &Buffer<'_>) -> (u64, u64) {
        (buffer.range.start, buffer.range.end)
    }

    fn has(&self, buffer: &Buffer<'_>) -> bool {
        self.0.contains_key(&Self::key(buffer))
    }

    fn add(&mut self, buffer: &Buffer<'_>) -> Result<(), Doubt> {
        if self.0.len() >= MAX_BUFFERS {
            return Err(TOO_MANY_BUFFERS);
        }
        let count = self.0.entry(Self::key(buffer)).or_default();
        count.increase(1);
        Ok(())
    }

    fn remove(&mut self, buffer: &Buffer<'_>) {
        let key = Self::key(buffer);
        if let Some(count) = self.0.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }
}

/// The pieces that begin in a range. Buffers and structures begin and end with one.
fn pieces(range: &Range<u64>) -> Range<u64> {
    range.start.div_ceil(EACH)..range.end.div_ceil(EACH)
}
