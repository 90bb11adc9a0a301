//! What files have although the map calls it free.
//!
//! A map may be consistent, and wrong all the same. The kernel reads files by their inodes and asks no bitmap, so that
//! what they have is in use.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::superblock::Superblock;
use crate::units::{Exact, length, to_u64, within};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::{AllocationMap, Reason};
use crate::volumes::ranges::{Ranges, Rounding};
use crate::volumes::region::Missing;

/// How many pieces are noted at most: 24 MiB of them.
const MAX_PIECES: usize = 1 << 20;

/// Blocks of an inode that the map calls free.
#[derive(Clone, Debug)]
struct Piece {
    /// In bytes.
    range: Range<u64>,
    inode: u32,
}

/// Collects them; from several threads at once.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    superblock: &'a Superblock,
    map: &'a AllocationMap,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    /// Of inodes as they are after the journal is replayed.
    after: Vec<Piece>,
    /// Of those that it replaces.
    before: Vec<Piece>,
    /// What of all that inodes have is metadata, in bytes.
    metadata: Ranges,
    /// What is wrong with the first inode that cannot be followed.
    fault: Option<(u32, Doubt)>,
}

impl<'a> Claims<'a> {
    /// None so far, where `map` is what the bitmaps call in use.
    pub(super) fn against(superblock: &'a Superblock, map: &'a AllocationMap) -> Self {
        Self {
            superblock,
            map,
            noted: Mutex::new(Noted {
                after: Vec::new(),
                before: Vec::new(),
                metadata: Ranges::new(Rounding::Up, MAX_PIECES),
                fault: None,
            }),
        }
    }

    /// Takes note of blocks that an inode has, or, with `is_old`, had before the journal is replayed. All of them lie
    /// in the filesystem.
    pub(super) fn add(&self, inode: u32, blocks: &Range<u64>, is_old: bool) {
        let range = self.bytes(blocks);
        let mut at = range.start;
        for (used, _) in self.map.within(range.clone()) {
            if at < used.start {
                self.note(inode, at..used.start, is_old);
            }
            at = used.end;
        }
        if at < range.end {
            self.note(inode, at..range.end, is_old);
        }
    }

    /// Takes note that blocks are metadata which an inode has.
    pub(super) fn add_metadata(&self, blocks: &Range<u64>) {
        let range = self.bytes(blocks);
        self.lock().metadata.add(range);
    }

    /// Takes note that an inode cannot be followed to all of its blocks.
    pub(super) fn fault(&self, inode: u32, fault: Doubt) {
        let mut noted = self.lock();
        if noted.fault.as_ref().is_none_or(|(first, _)| inode < *first) {
            noted.fault = Some((inode, fault));
        }
    }

    /// The map with all that was noted, and what of it the map called free, unless the journal explains it.
    ///
    /// # Errors
    ///
    /// A [`Doubt`] if an inode cannot be followed, or if there is too much.
    pub(super) fn finish(self) -> Result<(AllocationMap, Option<Missing>), Doubt> {
        let noted = self.noted.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((inode, fault)) = noted.fault {
            let fault = Box::new(fault);
            return Err(Doubt::Inode { inode, fault });
        }
        if noted.after.len().max(noted.before.len()) >= MAX_PIECES {
            let (what, limit) = ("pieces of files that its bitmaps call free", to_u64(MAX_PIECES));
            return Err(Doubt::TooMany { what, limit });
        }
        let after = apart(noted.after);
        let missing = after.first().map(|first| Missing {
            bytes: after.iter().map(|piece| length(&piece.range)).sum(),
            at: first.range.start,
            inode: first.inode,
        });
        let all = apart(after.into_iter().chain(noted.before).collect());
        Ok((joined(self.map, &all, noted.metadata), missing))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, inode: u32, range: Range<u64>, is_old: bool) {
        let mut noted = self.lock();
        let noted = if is_old {
            &mut noted.before
        } else {
            &mut noted.after
        };
        if noted.len() < MAX_PIECES {
            noted.push(Piece { range, inode });
        }
    }

    /// Blocks in bytes, those of a cluster all together.
    fn bytes(&self, blocks: &Range<u64>) -> Range<u64> {
        let superblock = self.superblock;
        let (first, unit) = (superblock.first_data_block, superblock.cluster_blocks.max(1));
        let before = |block: u64| within(block.minus(first), unit);
        let start = blocks.start.minus(before(blocks.start));
        let last = blocks.end.minus(1);
        let end = last.minus(before(last)).plus(unit);
        let byte = |block: u64| block.times(superblock.block_size);
        byte(start)..byte(end.min(superblock.blocks_count))
    }
}

/// Pieces in ascending order, none of which touches another.
fn apart(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_unstable_by_key(|piece| (piece.range.start, piece.inode));
    pieces.dedup_by(|next, kept| {
        let joins = next.range.start <= kept.range.end;
        if joins {
            kept.range.end = kept.range.end.max(next.range.end);
        }
        joins
    });
    pieces
}

/// A map with some of what it calls free in use, and some of what is in use metadata.
fn joined(map: &AllocationMap, free: &[Piece], metadata: Ranges) -> AllocationMap {
    let mut joined = MapBuilder::all_free(map.size());
    for extent in map.extents() {
        joined.used(extent.range.clone(), extent.reason);
    }
    for piece in free {
        joined.used(piece.range.clone(), Reason::Mapped);
    }
    for range in metadata.into_settled() {
        joined.metadata(range);
    }
    joined.build()
}
