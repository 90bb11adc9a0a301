//! The free space tree: what of each block group is free, as ranges or as bitmaps. Source: Linux,
//! `fs/btrfs/free-space-tree.c`; `include/uapi/linux/btrfs_tree.h`, `struct btrfs_free_space_info`.
//!
//! It may tell of chunks that are gone, which is skipped.

use std::ops::Range;

use super::chunks::Chunk;
use super::item::{FREE_SPACE_BITMAP, FREE_SPACE_EXTENT, FREE_SPACE_INFO, Root};
use super::tree::{Cursor, Trees};
use crate::units::{Exact, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u32_le;
use crate::volumes::filesystems::bits;

// Where fields of a `FREE_SPACE_INFO` are, in bytes, and its length.
const EXTENT_COUNT: usize = 0;
const FLAGS: usize = 4;
const SIZE: usize = 8;

/// The flag of a group that has bitmaps.
const USING_BITMAPS: u32 = 1;

/// What messages call a group that is not described as it should be.
const WRONG: Doubt = Doubt::State("its free space tree does not describe its block groups");

/// What the tree says of one group after the other.
#[derive(Debug)]
pub(super) struct FreeSpace<'a> {
    cursor: Cursor<'a>,
    /// In bytes.
    sector_size: u64,
    /// Where the group ends.
    end: u64,
    has_bitmaps: bool,
    /// How many ranges are recorded, and how many were found.
    recorded: u64,
    counted: u64,
    /// Ranges of a bitmap that were not looked at yet, counted in sectors from an address.
    runs: (u64, std::vec::IntoIter<Range<u64>>),
    /// A range that was found behind the last one.
    next: Option<Range<u64>>,
}

impl<'a> FreeSpace<'a> {
    /// In front of the first group.
    pub(super) fn new(trees: Trees<'a>, root: Root) -> Result<Self, Doubt> {
        Ok(Self {
            cursor: Cursor::new(trees, root)?,
            sector_size: trees.superblock.sector_size,
            end: 0,
            has_bitmaps: false,
            recorded: 0,
            counted: 0,
            runs: (0, Vec::new().into_iter()),
            next: None,
        })
    }

    /// Goes to a group, which lies behind the last one.
    pub(super) fn begin(&mut self, chunk: &Chunk) -> Result<(), Doubt> {
        while self.cursor.key().is_some_and(|key| key.objectid < chunk.start) {
            self.cursor.advance()?;
        }
        let item = self.cursor.item();
        let is_info = self.cursor.key().is_some_and(|key| {
            (key.objectid, key.kind, key.offset) == (chunk.start, FREE_SPACE_INFO, chunk.length)
        });
        let flags = u32_le(item, FLAGS);
        if !is_info || item.len() != SIZE || flags & !USING_BITMAPS != 0 {
            return Err(WRONG);
        }
        self.end = chunk.end();
        self.has_bitmaps = flags & USING_BITMAPS != 0;
        self.recorded = u32_le(item, EXTENT_COUNT).into();
        self.counted = 0;
        self.cursor.advance()
    }

    /// Makes sure that the next range which is free in the group is this one.
    pub(super) fn expect(&mut self, range: &Range<u64>) -> Result<(), Doubt> {
        match self.range()? {
            Some(found) if found == *range => Ok(()),
            _ => Err(DIFFER),
        }
    }

    /// Makes sure that there is no further range in the group, and that as many were found as are recorded.
    pub(super) fn finish(&mut self) -> Result<(), Doubt> {
        if self.range()?.is_some() {
            return Err(DIFFER);
        }
        if self.recorded != self.counted {
            return Err(Doubt::Count {
                what: "free ranges of a block group",
                recorded: self.recorded,
                counted: self.counted,
            });
        }
        Ok(())
    }

    /// Logical addresses of the blocks that were read.
    pub(super) fn into_read(self) -> Vec<u64> {
        self.cursor.into_read()
    }

    /// The next range of the group that touches no other.
    fn range(&mut self) -> Result<Option<Range<u64>>, Doubt> {
        let mut found = self.next.take();
        while let Some(piece) = self.piece()? {
            match &mut found {
                Some(found) if found.end == piece.start => found.end = piece.end,
                Some(_) => {
                    self.next = Some(piece);
                    break;
                }
                None => found = Some(piece),
            }
        }
        // Bitmaps of one group are one to those who count.
        if self.has_bitmaps && found.is_some() {
            self.counted.increase(1);
        }
        Ok(found)
    }

    /// The next range of the group as it stands in an item.
    fn piece(&mut self) -> Result<Option<Range<u64>>, Doubt> {
        loop {
            let (base, runs) = &mut self.runs;
            if let Some(run) = runs.next() {
                let place = |sector: u64| base.plus(sector.times(self.sector_size));
                return Ok(Some(place(run.start)..place(run.end)));
            }
            let Some(key) = self.cursor.key().filter(|key| key.objectid < self.end) else {
                return Ok(None);
            };
            let expected = if self.has_bitmaps {
                FREE_SPACE_BITMAP
            } else {
                FREE_SPACE_EXTENT
            };
            let end = key.objectid.checked_add(key.offset);
            let Some(end) = end.filter(|end| key.kind == expected && *end <= self.end) else {
                return Err(WRONG);
            };
            if self.has_bitmaps {
                let bits = key.offset.checked_div(self.sector_size).unwrap_or(0);
                let item = self.cursor.item();
                if item.len() != to_usize(bits.div_ceil(8)) {
                    return Err(WRONG);
                }
                let runs: Vec<_> = bits::runs(item, bits).collect();
                self.runs = (key.objectid, runs.into_iter());
                self.cursor.advance()?;
            } else {
                self.counted.increase(1);
                self.cursor.advance()?;
                return Ok(Some(key.objectid..end));
            }
        }
    }
}

const DIFFER: Doubt = Doubt::State("its free space tree and its extent tree do not agree");
