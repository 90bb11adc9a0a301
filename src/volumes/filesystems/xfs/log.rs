//! The log: where it ends, and what of it mounting would do first. Sources: `fs/xfs/libxfs/xfs_log_format.h`,
//! `fs/xfs/xfs_log_recover.c`.
//!
//! ```text
//! cycles of all blocks -> head -> last record -> unmounted, or: its tail -> records -> transactions
//! ```

mod record;
mod ring;
mod transactions;

use super::superblock::Superblock;
use crate::units::{Exact, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u32_be;
use crate::volumes::view::View;
use record::{Header, MAX_BLOCKS, Record};
use ring::{BLOCK, MAGIC, Position, Ring};
use transactions::Open;

pub(super) use transactions::Item;

// Where fields of `struct xlog_op_header` are, in bytes, and what they hold in a record of an unmount.
const CLIENT: usize = 8;
const FLAGS: usize = 9;
const LOG: u8 = 0xaa;
const UNMOUNT: u8 = 0x20;

/// Why the log cannot be replayed.
const UNCLEAR: Doubt = Doubt::State(
    "its log is damaged: its records do not follow each other (mount and unmount it for a smaller image)",
);

/// The log of a filesystem, its end known.
#[derive(Debug)]
pub(super) struct Log<'a> {
    ring: Ring<'a>,
    head: Position,
    /// Where what must be replayed begins; nothing after an unmount.
    tail: Option<Position>,
}

impl<'a> Log<'a> {
    /// Finds where it ends, and where what must be replayed begins.
    ///
    /// The kernel drops a record that is not there as a whole, which is what a loss of power leaves.
    pub(super) fn find(view: View<'a>, superblock: &Superblock) -> Result<Self, Doubt> {
        let ring = Ring::of(view, superblock)?;
        let mut head = ring.head()?;
        let mut last = last_record(ring, superblock, head)?;
        if ring.before(head, last.blocks()).is_none_or(|at| at < last.at) {
            head = last.at;
            last = last_record(ring, superblock, head)?;
        }
        if ring.before(head, last.blocks()) != Some(last.at) {
            return Err(UNCLEAR);
        }
        let is_clean = is_of_unmount(&last, &last.record(ring)?);
        Ok(Self {
            ring,
            head,
            tail: (!is_clean).then_some(last.tail),
        })
    }

    /// Whether there is nothing to replay.
    pub(super) fn is_clean(&self) -> bool {
        self.tail.is_none()
    }

    /// The log sequence number that comes next: nothing on the disk is newer.
    pub(super) fn head(&self) -> u64 {
        self.head.lsn()
    }

    /// Tells the items of each committed transaction, in the order in which they were committed, and the log sequence
    /// number of the record in which it begins. Of items, only the first region is kept, and the others if `is_kept`
    /// says so of the first.
    pub(super) fn transactions(
        &self,
        superblock: &Superblock,
        is_kept: fn(&[u8]) -> bool,
        mut tell: impl FnMut(u64, Vec<Item>) -> Result<(), Doubt>,
    ) -> Result<(), Doubt> {
        let Some(mut at) = self.tail else {
            return Ok(());
        };
        let (mut open, mut headers) = (Open::new(is_kept), None);
        let is_here = |at: Position| {
            let begin = self.ring.before(self.head, self.ring.blocks.minus(1));
            at.block < self.ring.blocks && at < self.head && begin.is_none_or(|begin| begin <= at)
        };
        if !is_here(at) {
            return Err(UNCLEAR);
        }
        while at < self.head {
            let first = self.ring.bytes("log record", at.block, 1)?;
            let header = Header::read(self.ring, superblock, at, first)?;
            let record = header.record(self.ring)?;
            // The kernel takes the number of headers of the first record for that of all.
            if *headers.get_or_insert(header.headers) != header.headers || !record.has_sum {
                return Err(UNCLEAR);
            }
            open.record(&record, &mut tell)?;
            at = self.ring.after(at, header.blocks());
        }
        if at == self.head { Ok(()) } else { Err(UNCLEAR) }
    }
}

/// The last record that begins in front of a position.
fn last_record(ring: Ring<'_>, superblock: &Superblock, head: Position) -> Result<Header, Doubt> {
    let reach = MAX_BLOCKS.min(ring.blocks.minus(1));
    let first = ring.before(head, reach);
    let first = first.unwrap_or(Position { block: 0, ..head });
    let count = if first.cycle == head.cycle {
        head.block.minus(first.block)
    } else {
        reach
    };
    let bytes = ring.bytes("log", first.block, count)?;
    let blocks = (0..count).zip(bytes.chunks_exact(to_usize(BLOCK)));
    let headers = blocks.filter(|(_, block)| u32_be(block, 0) == MAGIC);
    let (number, block) = headers.last().ok_or(UNCLEAR)?;
    Header::read(ring, superblock, ring.after(first, number), block.to_vec())
}

/// Whether a record says that all in front of it was written to its place.
fn is_of_unmount(header: &Header, record: &Record) -> bool {
    let (client, flags) = (record.data.get(CLIENT), record.data.get(FLAGS));
    let is_unmount = client == Some(&LOG) && flags.is_some_and(|flags| flags & UNMOUNT != 0);
    header.operations == 1 && is_unmount
}
