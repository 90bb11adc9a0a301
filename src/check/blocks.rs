//! The refcount table: which blocks there are, and which of them are dealt with at a time.

use std::ops::Range;

use super::catalogue::Code;
use super::entries::Entries;
use super::findings::{Fault, Finding, Log};
use crate::error::{Corrupt, Expected, Lost, Result};
use crate::formats::HostFile;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::formats::qcow2::structures::header::TableAt;
use crate::formats::qcow2::structures::refcount::{self, Width};
use crate::units::{Exact, HostOffset, to_u64, to_usize};

const TABLE: &str = "refcount table";

/// What is known of the refcounts that an entry of the refcount table stands for. Numbers of blocks are smaller.
const MISSING: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// Where the refcount of a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// In the block of that number, as its entry of that number.
    Block(u32, u64),
    /// There is no block: the refcount is 0.
    Missing,
    /// There is a block, but it cannot be read.
    Unknown,
}

/// The refcount blocks that can be read.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) width: Width,
    pub(super) geometry: Geometry,
    /// log2 of the number of refcounts in a block.
    entries_bits: u32,
    /// For each entry of the refcount table the number of its block, [`MISSING`] or [`UNKNOWN`].
    states: Vec<u32>,
    /// The same for what the refcount table has no entries for: without a table nothing is known.
    beyond: u32,
    all: Vec<Block>,
    /// How much memory a window may take, in bytes, unless a single block needs more.
    budget: u64,
}

/// A refcount block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The number of its entry in the refcount table.
    pub(super) entry: u32,
    /// Where it is.
    pub(super) at: HostOffset,
}

impl Blocks {
    /// Reads the refcount table, which has 8 MiB at most.
    pub(super) fn read(image: &Image, budget: u64, log: &mut Log<'_>) -> Result<Self> {
        let (header, geometry) = (image.header(), image.header().geometry());
        let (width, table) = (header.refcounts(), image.refcount_table());
        let mut blocks = Self {
            width,
            geometry,
            entries_bits: width.block_entries(geometry).trailing_zeros(),
            states: vec![MISSING; to_usize(table.map_or(0, |table| table.entries))],
            beyond: if table.is_some() { MISSING } else { UNKNOWN },
            all: Vec::new(),
            budget,
        };
        let Some(table) = table else {
            return Ok(blocks);
        };
        let file = image.file();
        let mut entries = Entries::default();
        entries.each(file, table, 0..table.entries, |index, entry| {
            blocks.add(file, table, index, entry, log);
        })?;
        blocks.drop_shared(table, log);
        blocks.drop_holes(file);
        Ok(blocks)
    }

    fn add(&mut self, file: &HostFile, table: TableAt, index: u64, entry: u64, log: &mut Log<'_>) {
        let state = match refcount::block_at(entry, self.geometry) {
            Ok(None) => MISSING,
            Ok(Some(at)) if file.holds(at, self.geometry.cluster_size()) => {
                // The table has 2^20 entries at most.
                let number = u32::try_from(self.all.len()).unwrap_or(UNKNOWN);
                let entry = u32::try_from(index).unwrap_or(u32::MAX);
                self.all.push(Block { entry, at });
                number
            }
            Ok(Some(at)) if at.0 < file.length() => {
                log.add(cut_off(Code::RefcountBlock, "refcount block", at, file));
                UNKNOWN
            }
            Ok(Some(_)) => {
                let expected = Expected::WithinFile(file.length());
                log.add(wrong(Code::RefcountBlock, table, index, entry, expected));
                UNKNOWN
            }
            Err(expected) => {
                log.add(wrong(Code::RefcountEntry, table, index, entry, expected));
                UNKNOWN
            }
        };
        if let Some(at) = self.states.get_mut(to_usize(index)) {
            *at = state;
        }
    }

    /// A block that is used twice is read for the first range of clusters only.
    fn drop_shared(&mut self, table: TableAt, log: &mut Log<'_>) {
        self.all.sort_by_key(|block| (block.at, block.entry));
        let mut last = None;
        self.all.retain(|block| {
            let is_shared = last.replace(block.at) == Some(block.at);
            if is_shared {
                let expected = Expected::That("a block of its own");
                let index = u64::from(block.entry);
                log.add(wrong(Code::RefcountShared, table, index, block.at.0, expected));
                if let Some(state) = self.states.get_mut(to_usize(index)) {
                    *state = UNKNOWN;
                }
            }
            !is_shared
        });
        self.all.sort_by_key(|block| block.entry);
        self.number();
    }

    /// A block of which nothing was ever written counts nothing. A large file that is all holes may have a million.
    fn drop_holes(&mut self, file: &HostFile) {
        if self.windows().nth(1).is_none() {
            return;
        }
        let cluster_size = self.geometry.cluster_size();
        self.all.retain(|block| {
            let is_hole = file.is_hole(block.at, cluster_size);
            if let Some(state) = self
                .states
                .get_mut(to_usize(block.entry.into()))
                .filter(|_| is_hole)
            {
                *state = MISSING;
            }
            !is_hole
        });
        self.number();
    }

    fn number(&mut self) {
        for (number, block) in (0..).zip(&self.all) {
            if let Some(state) = self.states.get_mut(to_usize(block.entry.into())) {
                *state = number;
            }
        }
    }

    /// All blocks, in the order of the clusters that they count.
    pub(super) fn all(&self) -> &[Block] {
        &self.all
    }

    /// Where the refcount of a cluster of the image is.
    pub(super) fn find(&self, cluster: u64) -> Where {
        let state = self.states.get(to_usize(cluster >> self.entries_bits));
        match state.copied().unwrap_or(self.beyond) {
            MISSING => Where::Missing,
            UNKNOWN => Where::Unknown,
            number => Where::Block(number, cluster & self.entries().minus(1)),
        }
    }

    /// How many refcounts a block has.
    pub(super) fn entries(&self) -> u64 {
        1 << self.entries_bits
    }

    /// The first cluster that a block counts.
    pub(super) fn first_cluster(&self, block: Block) -> u64 {
        u64::from(block.entry) << self.entries_bits
    }

    /// The numbers of the blocks, cut so that the memory it takes to count what they count is bounded. There is at
    /// least one piece.
    pub(super) fn windows(&self) -> impl Iterator<Item = Range<u32>> + use<> {
        // A refcount, a counter and three marks for each cluster.
        let per_entry_bits = u64::from(self.width.bits())
            .plus(8_u64.times(super::counts::size(self.width)))
            .plus(3);
        let per_block = (self.entries().times(per_entry_bits) / 8).max(1);
        let count = self.budget.checked_div(per_block).unwrap_or(1).max(1);
        let total = to_u64(self.all.len());
        (0..total.div_ceil(count).max(1)).map(move |number| {
            let start = number.times(count);
            let end = start.plus(count).min(total);
            let number = |number| u32::try_from(number).unwrap_or(UNKNOWN);
            number(start)..number(end)
        })
    }
}

fn wrong(code: Code, table: TableAt, index: u64, found: u64, expected: Expected) -> Finding {
    let fault = Corrupt::Entry {
        table: TABLE,
        at: table.at,
        index,
        found,
        expected,
        lost: Lost::default(),
    };
    Finding::new(code, fault)
}

/// Something that is not, or not all of it, in the file.
pub(super) fn cut_off(code: Code, what: &'static str, at: HostOffset, file: &HostFile) -> Finding {
    let fault = Corrupt::CutOff {
        what,
        at,
        end: file.length(),
        lost: Lost::default(),
    };
    Finding::new(code, Fault::from(fault))
}
