//! Where the log lies: the inode of the journal, and the extents or the indirect blocks that hang on it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, Unaligned};

use super::super::super::doubt::Doubt;
use super::super::checksum::crc32c;
use super::super::faults::Structure;
use super::Place;
use super::log::{Log, Run};
use crate::error::Expected;
use crate::units::{to_u64, to_usize};

/// How many blocks of a journal are looked at: 64 GiB of 4 KiB.
const MAX_BLOCKS: u64 = 1 << 24;

/// How many pieces a journal may be in.
const MAX_RUNS: usize = 1 << 18;

/// How many blocks the tree that names its blocks may have.
const MAX_NODES: u64 = 1 << 18;

/// The deepest tree of extents that Linux makes.
const MAX_DEPTH: u16 = 5;

/// The blocks that an inode names itself, if it does not have extents.
const DIRECT: usize = 12;

mod flags {
    pub(super) const ENCRYPT: u32 = 0x800;
    pub(super) const EXTENTS: u32 = 0x8_0000;
    pub(super) const INLINE_DATA: u32 = 0x1000_0000;
}

/// The 128 bytes that every inode has.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawInode {
    /// 0: type and permissions.
    i_mode: U16<LE>,
    /// 2.
    i_uid: U16<LE>,
    /// 4.
    i_size_lo: U32<LE>,
    /// 8: access, change, modification and deletion.
    times: [u8; 16],
    /// 24.
    i_gid: U16<LE>,
    /// 26.
    i_links_count: U16<LE>,
    /// 28.
    i_blocks_lo: U32<LE>,
    /// 32: [`flags`].
    i_flags: U32<LE>,
    /// 36.
    i_version: U32<LE>,
    /// 40: the root of the tree.
    i_block: [u8; 60],
    /// 100.
    i_generation: U32<LE>,
    /// 104.
    i_file_acl_lo: U32<LE>,
    /// 108.
    i_size_high: U32<LE>,
    /// 112: of no use, then upper halves.
    osd2: [u8; 12],
    /// 124: the lower half of the checksum.
    i_checksum_lo: U16<LE>,
    /// 126.
    i_reserved: U16<LE>,
}

const _: () = assert!(size_of::<RawInode>() == 128);

/// What follows in inodes that are larger.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtra {
    /// 128: how many bytes from here on are fields.
    i_extra_isize: U16<LE>,
    /// 130: the upper half of the checksum.
    i_checksum_hi: U16<LE>,
}

const _: () = assert!(size_of::<RawExtra>() == 4);

/// The head of a node of the tree of extents.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtentHeader {
    /// 0: 0xf30a.
    magic: U16<LE>,
    /// 2: how many entries follow.
    entries: U16<LE>,
    /// 4: for how many there is room.
    max: U16<LE>,
    /// 6: how many levels lie below.
    depth: U16<LE>,
    /// 8.
    generation: U32<LE>,
}

/// An entry of a node: an extent on the lowest level, another node above.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// 0: the first block of the file that it is about.
    block: U32<LE>,
    /// 4: extents: `ee_len` and `ee_start_hi`; nodes: `ei_leaf_lo`.
    middle: [U16<LE>; 2],
    /// 8: extents: `ee_start_lo`; nodes: `ei_leaf_hi` and nothing.
    end: [U16<LE>; 2],
}

const _: () = assert!(size_of::<RawExtentHeader>() == 12 && size_of::<RawEntry>() == 12);

/// 16 bits each, the lowest first, as one number.
fn number(parts: [U16<LE>; 3]) -> u64 {
    parts
        .into_iter()
        .rev()
        .fold(0, |number, part| number << 16 | u64::from(part.get()))
}

/// Finds the log.
pub(super) fn log<'a>(place: &Place<'a>) -> Result<Log<'a>, Doubt> {
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
    let seed = place.seed.map(|seed| {
        let seed = crc32c(seed, &place.inode.to_le_bytes());
        crc32c(seed, &raw.i_generation.get().to_le_bytes())
    });
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

/// Makes sure that the inode is what its checksum says.
fn has_checksum(structure: Structure, seed: u32, mut raw: RawInode, rest: &[u8]) -> Result<(), Doubt> {
    let mut found = u32::from(raw.i_checksum_lo.get());
    let mut mask = u32::from(u16::MAX);
    raw.i_checksum_lo = U16::ZERO;
    let mut sum = crc32c(seed, raw.as_bytes());
    if let Ok((mut extra, rest)) = RawExtra::read_from_prefix(rest) {
        if extra.i_extra_isize.get() >= 4 {
            found |= u32::from(extra.i_checksum_hi.get()) << 16;
            mask = u32::MAX;
            extra.i_checksum_hi = U16::ZERO;
        }
        sum = crc32c(crc32c(sum, extra.as_bytes()), rest);
    }
    structure.has_checksum(found, sum & mask)
}

/// How many blocks the file has, which must be one that can be a journal.
fn blocks(place: &Place<'_>, structure: Structure, raw: &RawInode) -> Result<u64, Doubt> {
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
    place: &'p Place<'a>,
    /// What the checksums of nodes begin with.
    seed: Option<u32>,
    /// How many blocks are wanted.
    blocks: u64,
    /// The block of the file that comes next.
    next: u64,
    runs: Vec<Run>,
    /// The blocks that the tree itself fills.
    nodes: Vec<u64>,
}

impl Tree<'_, '_> {
    /// Reads a block of the tree.
    fn read(&mut self, block: u64) -> Result<(Structure, Vec<u8>), Doubt> {
        let place = self.place;
        let at = block.saturating_mul(place.block_size);
        let structure = Structure {
            name: "tree of the journal's blocks",
            at: place.view.position(at),
        };
        self.inside(block, 1)?;
        self.nodes.push(block);
        // No tree needs more: every node names a block of the file that none before it named.
        let limit = self.blocks.saturating_mul(MAX_DEPTH.into()).min(MAX_NODES);
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
        Err(Doubt::State("its journal lies outside of it"))
    }

    /// Adds blocks behind those that were found so far.
    fn push(&mut self, physical: u64, blocks: u64) -> Result<(), Doubt> {
        self.inside(physical, blocks)?;
        let logical = self.next;
        self.next = logical.saturating_add(blocks);
        if let Some(last) = self.runs.last_mut()
            && last.physical.saturating_add(last.blocks) == physical
        {
            last.blocks = last.blocks.saturating_add(blocks);
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            let (what, limit) = ("pieces of its journal", to_u64(MAX_RUNS));
            return Err(Doubt::TooMany { what, limit });
        }
        self.runs.push(Run {
            logical,
            physical,
            blocks,
        });
        Ok(())
    }

    /// Follows the numbers of blocks in an inode without extents.
    fn indirect(&mut self, i_block: &[u8]) -> Result<(), Doubt> {
        for (index, block) in numbers(i_block).enumerate() {
            let levels = index.saturating_add(1).saturating_sub(DIRECT);
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
        let Ok((header, entries)) = RawExtentHeader::read_from_prefix(bytes) else {
            return Err(Doubt::State("its journal's tree has nodes that are too small"));
        };
        structure.exactly("eh_magic", header.magic.get().into(), 0xf30a)?;
        match depth {
            Some(depth) => structure.exactly("eh_depth", header.depth.get().into(), depth.into())?,
            None => structure.at_most("eh_depth", header.depth.get().into(), MAX_DEPTH.into())?,
        }
        let (entries, _) = entries.as_chunks::<{ size_of::<RawEntry>() }>();
        let room = to_u64(entries.len());
        structure.at_most("eh_max", header.max.get().into(), room)?;
        let count = u64::from(header.entries.get());
        structure.at_least_one("eh_entries", count)?;
        structure.at_most("eh_entries", count, header.max.get().into())?;
        if let Some(seed) = self.seed.filter(|_| depth.is_some()) {
            node_has_checksum(structure, seed, bytes, header)?;
        }
        for entry in entries.iter().take(to_usize(count)) {
            let entry = zerocopy::transmute!(*entry);
            self.entry(structure, &entry, header.depth.get())?;
        }
        Ok(())
    }

    /// Follows an entry of a node that has `depth` levels below.
    fn entry(&mut self, structure: Structure, entry: &RawEntry, depth: u16) -> Result<(), Doubt> {
        // Neither a hole nor anything twice.
        structure.exactly("block", entry.block.get().into(), self.next)?;
        let ([first, second], [third, fourth]) = (entry.middle, entry.end);
        let Some(below) = depth.checked_sub(1) else {
            // More than that stands for blocks that were never written.
            structure.at_least_one("ee_len", first.get().into())?;
            structure.at_most("ee_len", first.get().into(), 0x8000)?;
            return self.push(number([third, fourth, second]), first.get().into());
        };
        let (structure, bytes) = self.read(number([first, second, third]))?;
        self.node(structure, &bytes, Some(below))
    }
}

/// The numbers of blocks in a block.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|number| u32::from_le_bytes(*number))
}

/// Makes sure that a node is what the checksum behind its entries says.
fn node_has_checksum(
    structure: Structure,
    seed: u32,
    bytes: &[u8],
    header: RawExtentHeader,
) -> Result<(), Doubt> {
    let entries = usize::from(header.max.get()).saturating_mul(size_of::<RawEntry>());
    let end = size_of::<RawExtentHeader>().saturating_add(entries);
    let parts = bytes.split_at_checked(end);
    let Some((covered, [a, b, c, d, ..])) = parts else {
        return Err(Doubt::State("its journal's tree has no room for checksums"));
    };
    structure.has_checksum(u32::from_le_bytes([*a, *b, *c, *d]), crc32c(seed, covered))
}
