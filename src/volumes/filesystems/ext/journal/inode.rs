//! Where the log lies: the inode of the journal, and the extents or the indirect blocks that hang on it.

use zerocopy::FromBytes;

use super::log::{Log, LogRun};
use super::place::JournalAt;
use crate::error::Expected;
use crate::units::{Exact, claimed_size, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::extents::{self, MAX_DEPTH, MAX_LENGTH, RawEntry, node_has_checksum};
use crate::volumes::filesystems::ext::faults::Structure;
use crate::volumes::filesystems::ext::inode::{DIRECT, RawInode, flags, has_checksum, numbers, seed_of};

/// How many blocks of a journal are looked at: 64 GiB of 4 KiB.
const MAX_BLOCKS: u64 = 1 << 24;

/// How many pieces a journal may be in.
const MAX_RUNS: usize = 1 << 18;

/// How many blocks the tree that names its blocks may have.
const MAX_NODES: u64 = 1 << 18;

/// Finds the log.
pub(super) fn log<'a>(place: &JournalAt<'a>) -> Result<Log<'a>, Doubt> {
    let bytes = place
        .view
        .bytes("journal inode", place.inode_at, place.inode_size)?;
    let structure = Structure {
        name: "journal inode",
        at: place.view.position(place.inode_at),
    };
    let Ok((raw, rest)) = RawInode::read_from_prefix(&bytes) else {
        return Err(Doubt::State("its inodes are too small"));
    };
    let seed = place.seed.map(|seed| seed_of(seed, place.inode, &raw));
    if let Some(seed) = seed {
        has_checksum(structure, seed, raw, rest)?;
    }
    let blocks = blocks(place, structure, &raw)?;
    let mut tree = Tree {
        place,
        seed,
        blocks,
        next: 0,
        runs: Vec::new(),
        nodes: Vec::new(),
    };
    if raw.i_flags.get() & flags::EXTENTS == 0 {
        tree.indirect(&raw.i_block)?;
    } else {
        tree.node(structure, &raw.i_block, None)?;
    }
    let expected = Expected::AtMost(tree.next);
    structure.require(tree.next >= blocks, "blocks", blocks, expected)?;
    let Tree { runs, nodes, .. } = tree;
    let lengths = (place.blocks, blocks);
    Log::new(place.view, place.block_size, lengths, runs, &nodes)
}

/// How many blocks the file has, which must be one that can be a journal.
fn blocks(place: &JournalAt<'_>, structure: Structure, raw: &RawInode) -> Result<u64, Doubt> {
    let mode = u64::from(raw.i_mode.get());
    let expected = Expected::That("that of a regular file");
    structure.require(mode & 0xf000 == 0x8000, "i_mode", mode, expected)?;
    structure.at_least_one("i_links_count", raw.i_links_count.get().into())?;
    let odd = flags::ENCRYPT | flags::INLINE_DATA;
    let expected = Expected::Clear(odd.into());
    let found = raw.i_flags.get();
    structure.require(found & odd == 0, "i_flags", found.into(), expected)?;
    let size = u64::from(raw.i_size_high.get()) << 32 | u64::from(raw.i_size_lo.get());
    let blocks = size.checked_div(place.block_size).unwrap_or(0);
    structure.at_least_one("i_size", blocks)?;
    if blocks > MAX_BLOCKS {
        let (what, limit) = ("blocks in its journal", MAX_BLOCKS);
        return Err(Doubt::TooMany { what, limit });
    }
    Ok(blocks)
}

/// The tree that names the blocks of a file, as far as it was walked.
struct Tree<'p, 'a> {
    place: &'p JournalAt<'a>,
    /// What the checksums of nodes begin with.
    seed: Option<u32>,
    /// How many blocks are wanted.
    blocks: u64,
    /// The block of the file that comes next.
    next: u64,
    runs: Vec<LogRun>,
    /// The blocks that the tree itself fills.
    nodes: Vec<u64>,
}

impl Tree<'_, '_> {
    /// Reads a block of the tree.
    fn read(&mut self, block: u64) -> Result<(Structure, Vec<u8>), Doubt> {
        let place = self.place;
        let at = claimed_size(block, place.block_size);
        let structure = Structure {
            name: "tree of the journal's blocks",
            at: place.view.position(at),
        };
        self.inside(block, 1)?;
        self.nodes.push(block);
        // No tree needs more: every node names a block of the file that none before it named.
        let limit = self.blocks.times(MAX_DEPTH.into()).min(MAX_NODES);
        if to_u64(self.nodes.len()) > limit {
            let what = "nodes in the tree of the journal's blocks";
            return Err(Doubt::TooMany { what, limit });
        }
        let bytes = place.view.bytes(structure.name, at, place.block_size)?;
        Ok((structure, bytes))
    }

    /// Makes sure that blocks are those of the filesystem, and not the first one.
    fn inside(&self, block: u64, blocks: u64) -> Result<(), Doubt> {
        let end = block.checked_add(blocks);
        if block > 0 && end.is_some_and(|end| end <= self.place.blocks) {
            return Ok(());
        }
        Err(Doubt::State("its journal lies outside the filesystem"))
    }

    /// Adds blocks behind those that were found so far.
    fn push(&mut self, physical: u64, blocks: u64) -> Result<(), Doubt> {
        self.inside(physical, blocks)?;
        let logical = self.next;
        self.next = logical.plus(blocks);
        if let Some(last) = self.runs.last_mut()
            && last.physical.plus(last.blocks) == physical
        {
            last.blocks.increase(blocks);
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            let (what, limit) = ("pieces of its journal", to_u64(MAX_RUNS));
            return Err(Doubt::TooMany { what, limit });
        }
        self.runs.push(LogRun {
            logical,
            physical,
            blocks,
        });
        Ok(())
    }

    /// Follows the numbers of blocks in an inode without extents.
    fn indirect(&mut self, i_block: &[u8]) -> Result<(), Doubt> {
        for (index, block) in numbers(i_block).enumerate() {
            // None for those that are named directly.
            let levels = index.plus(1).saturating_sub(DIRECT);
            self.level(block, levels)?;
        }
        Ok(())
    }

    /// Adds a block of the file, or those that are some levels below one.
    fn level(&mut self, block: u32, levels: usize) -> Result<(), Doubt> {
        if self.next >= self.blocks {
            return Ok(());
        }
        let Some(below) = levels.checked_sub(1) else {
            return self.push(block.into(), 1);
        };
        let (_, bytes) = self.read(block.into())?;
        for block in numbers(&bytes) {
            self.level(block, below)?;
        }
        Ok(())
    }

    /// Follows a node of the tree of extents. `depth` is what the one above makes it have.
    fn node(&mut self, structure: Structure, bytes: &[u8], depth: Option<u16>) -> Result<(), Doubt> {
        let (header, entries) = extents::node(structure, bytes, depth)?;
        structure.at_least_one("eh_entries", header.entries.get().into())?;
        if let Some(seed) = self.seed.filter(|_| depth.is_some()) {
            node_has_checksum(structure, seed, bytes, header)?;
        }
        for entry in entries {
            self.entry(structure, entry, header.depth.get())?;
        }
        Ok(())
    }

    /// Follows an entry of a node that has `depth` levels below.
    fn entry(&mut self, structure: Structure, entry: &RawEntry, depth: u16) -> Result<(), Doubt> {
        // Neither a hole nor anything twice.
        structure.exactly("block", entry.block.get().into(), self.next)?;
        let Some(below) = depth.checked_sub(1) else {
            // Longer ones were never written.
            let length = entry.raw_length();
            structure.at_least_one("ee_len", length.into())?;
            structure.at_most("ee_len", length.into(), MAX_LENGTH.into())?;
            return self.push(entry.start(), length.into());
        };
        let (structure, bytes) = self.read(entry.node())?;
        self.node(structure, &bytes, Some(below))
    }
}
