//! The blocks of the log, which begins again where it ends.
//!
//! Each block of 512 bytes begins with the number of the round in which it was written, its cycle. All of the log is
//! looked at: the head is where the cycle falls by one.

use super::super::superblock::Superblock;
use crate::units::{Exact, length, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u32_be;
use crate::volumes::view::View;

/// What the log counts in, in bytes.
pub(super) const BLOCK: u64 = 512;

/// What a record begins with, in the place of the cycle, which follows it.
pub(super) const MAGIC: u32 = 0xfeed_babe;

/// How much of the log is read at once, in bytes.
const CHUNK: u64 = 1 << 20;

/// A place in the log, and the round in which it was or will be written. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) cycle: u32,
    /// Counted from the beginning of the log.
    pub(super) block: u64,
}

impl Position {
    /// That of a log sequence number.
    pub(super) fn of(lsn: u64) -> Self {
        Self {
            cycle: u32::try_from(lsn >> 32).unwrap_or(u32::MAX),
            block: lsn & 0xffff_ffff,
        }
    }

    /// Its log sequence number.
    pub(super) fn lsn(self) -> u64 {
        u64::from(self.cycle) << 32 | self.block
    }
}

/// The log of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring<'a> {
    log: View<'a>,
    /// How many blocks it has: at least one.
    pub(super) blocks: u64,
}

impl<'a> Ring<'a> {
    pub(super) fn of(view: View<'a>, superblock: &Superblock) -> Result<Self, Doubt> {
        let (start, length) = superblock.log;
        let log = view.part("log", &(start..start.plus(length)))?;
        let blocks = length / BLOCK;
        if blocks == 0 || u32::try_from(blocks).is_err() {
            return Err(Doubt::State("its log has no length that it can have"));
        }
        Ok(Self { log, blocks })
    }

    /// Where a block lies in the underlying file or device.
    pub(super) fn position(self, block: u64) -> u64 {
        self.log.position(block.times(BLOCK))
    }

    /// So many blocks behind a position. There are more blocks than that.
    pub(super) fn after(self, from: Position, blocks: u64) -> Position {
        let block = from.block.plus(blocks);
        if block < self.blocks {
            return Position { block, ..from };
        }
        Position {
            cycle: from.cycle.saturating_add(1),
            block: block.minus(self.blocks).min(self.blocks.minus(1)),
        }
    }

    /// So many blocks in front of a position; none in front of the first round.
    pub(super) fn before(self, from: Position, blocks: u64) -> Option<Position> {
        if let Some(block) = from.block.checked_sub(blocks) {
            return Some(Position { block, ..from });
        }
        Some(Position {
            cycle: from.cycle.checked_sub(1).filter(|cycle| *cycle > 0)?,
            block: from.block.plus(self.blocks).checked_sub(blocks)?,
        })
    }

    /// The bytes of `count` blocks from `first` on.
    pub(super) fn bytes(self, structure: &'static str, first: u64, count: u64) -> Result<Vec<u8>, Doubt> {
        let here = count.min(self.blocks.saturating_sub(first));
        let mut bytes = self.log.bytes(structure, first.times(BLOCK), here.times(BLOCK))?;
        if here < count {
            let rest = count.minus(here).times(BLOCK);
            bytes.extend(self.log.bytes(structure, 0, rest)?);
        }
        Ok(bytes)
    }

    /// Where the next block would be written, if the blocks in front of it are of one round and all others of the one
    /// before.
    pub(super) fn head(self) -> Result<Position, Doubt> {
        let mut fall = None;
        let (mut first, mut at) = (None, 0);
        while at < self.log.len() {
            let chunk = at..at.plus(CHUNK).min(self.log.len());
            let bytes = if self.log.is_hole(&chunk) {
                vec![0; to_usize(length(&chunk))]
            } else {
                self.log.bytes("log", chunk.start, length(&chunk))?
            };
            for (number, block) in (chunk.start / BLOCK..).zip(bytes.chunks_exact(to_usize(BLOCK))) {
                let word = u32_be(block, 0);
                let cycle = if word == MAGIC { u32_be(block, 4) } else { word };
                let round = *first.get_or_insert(cycle);
                let expected = if fall.is_some() {
                    round.wrapping_sub(1)
                } else {
                    round
                };
                if fall.is_none() && cycle != round {
                    fall = Some(number);
                    if cycle != round.wrapping_sub(1) {
                        return Err(MIXED);
                    }
                } else if cycle != expected {
                    return Err(MIXED);
                }
            }
            at = chunk.end;
        }
        match first {
            Some(round) if round != 0 => Ok(match fall {
                Some(block) => Position { cycle: round, block },
                None => Position {
                    cycle: round.saturating_add(1),
                    block: 0,
                },
            }),
            _ => Err(MIXED),
        }
    }
}

/// Why the head is not known.
const MIXED: Doubt = Doubt::State(
    "its log is damaged, or was being written: it does not tell where it ends (mount and unmount it for a smaller image)",
);
