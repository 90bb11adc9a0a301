//! The blocks of a file: from its inode along its extents, or along blocks that name others.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::Blocks;
use super::claims::Claims;
use super::extents::{self, node_has_checksum};
use super::faults::Structure;
use super::inode::{Body, DIRECT, RawInode, numbers};
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::{Exact, claimed_end, to_u64, to_usize};
use crate::volumes::doubt::Doubt;

/// The inodes that are the filesystem's own, other than that of bad blocks, which hold nothing.
const RESERVED: Range<u32> = 2..11;

/// The inode that names blocks for more group descriptors, whose places the superblock tells as well.
const RESIZE: u32 = 7;

/// When a block holds what was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Before and after the journal is replayed.
    Both,
    /// After it is.
    New,
    /// Until it is.
    Old,
}

/// What files are followed in.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub(super) superblock: &'a Superblock,
    pub(super) blocks: Blocks<'a>,
    pub(super) claims: Claims<'a>,
    /// How much was followed, and how much may be: more than there are blocks, before and after the replay, leads
    /// back to where it was before.
    steps: AtomicU64,
}

impl<'a> Files<'a> {
    pub(super) fn new(superblock: &'a Superblock, blocks: Blocks<'a>, claims: Claims<'a>) -> Self {
        Self {
            superblock,
            blocks,
            claims,
            steps: AtomicU64::new(0),
        }
    }

    /// What a block holds, and when.
    fn contents(&self, structure: Structure, block: u64, age: Age) -> Result<Vec<(Age, Vec<u8>)>, Doubt> {
        let mut on_disk = vec![0; to_usize(self.superblock.block_size)];
        let disk = self.blocks.without_replay();
        disk.read(structure.name, block, &mut on_disk)?;
        let mut replayed = None;
        if age != Age::Old {
            self.blocks
                .replayed(block, |bytes| replayed = Some(bytes.to_vec()))?;
        }
        Ok(match (replayed, age) {
            (None, age) => vec![(age, on_disk)],
            (Some(replayed), Age::Both) => vec![(Age::New, replayed), (Age::Old, on_disk)],
            (Some(replayed), Age::New | Age::Old) => vec![(Age::New, replayed)],
        })
    }

    /// Counts blocks, or nodes, that were found.
    fn count(&self, found: u64) -> Result<(), Doubt> {
        let limit = self.superblock.blocks_count.times(2);
        let before = self.steps.fetch_add(found, Ordering::Relaxed);
        if before.plus(found) <= limit {
            return Ok(());
        }
        // No overflow, however much follows.
        self.steps.store(limit, Ordering::Relaxed);
        let what = "blocks in files";
        Err(Doubt::TooMany { what, limit })
    }
}

/// What a block of a file's tree is.
#[derive(Clone, Copy, Debug)]
enum Node {
    /// It has extents, or names nodes of which each has so many levels below.
    Extents(u16),
    /// It names blocks, or those that name some on so many levels below.
    Indirect(usize),
}

/// Blocks in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    blocks: Range<u64>,
    /// When the file has them.
    age: Age,
    is_metadata: bool,
}

impl Run {
    const EMPTY: Self = Self {
        blocks: 0..0,
        age: Age::Both,
        is_metadata: false,
    };

    /// A block that is metadata, whatever the file.
    fn metadata(block: u64, age: Age) -> Self {
        Self {
            blocks: block..claimed_end(block, 1),
            age,
            is_metadata: true,
        }
    }
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct File<'f, 'a> {
    files: &'f Files<'a>,
    number: u32,
    /// What the checksums of its nodes begin with.
    seed: Option<u32>,
    /// Whether all that it has is the filesystem's own.
    is_metadata: bool,
    /// Blocks in a row.
    run: Run,
    /// What keeps all of it from being followed.
    fault: Option<Doubt>,
}

impl<'f, 'a> File<'f, 'a> {
    pub(super) fn new(files: &'f Files<'a>, number: u32, seed: Option<u32>) -> Self {
        Self {
            files,
            number,
            seed,
            is_metadata: false,
            run: Run::EMPTY,
            fault: None,
        }
    }

    /// Takes note of all blocks that it has. `rest` is what follows in its inode. Returns what is wrong first.
    pub(super) fn follow(
        mut self,
        structure: Structure,
        raw: &RawInode,
        rest: &[u8],
        age: Age,
    ) -> Option<Doubt> {
        let superblock = self.files.superblock;
        self.is_metadata = RESERVED.contains(&self.number)
            || superblock.own_inodes.contains(&self.number)
            || raw.is_metadata();
        if let Some(block) = raw.attributes(superblock.features) {
            self.claim(structure, "i_file_acl", Run::metadata(block, age));
        }
        let cluster = superblock.cluster_blocks.times(superblock.block_size);
        match raw.body(rest, superblock.features, cluster) {
            Body::None => {}
            Body::Extents => self.extents(structure, &raw.i_block, None, age),
            Body::Indirect => {
                for (index, block) in numbers(&raw.i_block).enumerate() {
                    // None for those that are named directly.
                    let levels = index.plus(1).saturating_sub(DIRECT);
                    self.indirect(structure, block, levels, age);
                }
            }
        }
        self.end_run();
        self.fault
    }

    /// Keeps what is wrong first. What the journal replaces may be wrong: it is not written at one moment.
    fn hold(&mut self, outcome: Result<(), Doubt>, age: Age) -> bool {
        let is_right = outcome.is_ok();
        if let Err(doubt) = outcome
            && age != Age::Old
        {
            self.fault.get_or_insert(doubt);
        }
        is_right
    }

    /// Blocks with what the file holds.
    fn content(&self, block: u64, count: u64, age: Age) -> Run {
        Run {
            blocks: block..claimed_end(block, count),
            age,
            is_metadata: self.is_metadata,
        }
    }

    /// Takes note of blocks, those that lie in a row as one. Returns whether the filesystem has them.
    fn claim(&mut self, structure: Structure, field: &'static str, next: Run) -> bool {
        let superblock = self.files.superblock;
        let Range { start, end } = next.blocks;
        let fits = superblock.first_data_block < start && end <= superblock.blocks_count;
        let expected = Expected::That("blocks of the filesystem");
        let outcome = structure.require(fits, field, start, expected);
        if !self.hold(outcome, next.age) {
            return false;
        }
        let run = &mut self.run;
        let is_alike = (run.age, run.is_metadata) == (next.age, next.is_metadata);
        if is_alike && run.blocks.end == start {
            run.blocks.end = end;
        } else {
            self.end_run();
            self.run = next;
        }
        true
    }

    fn end_run(&mut self) {
        let run = std::mem::replace(&mut self.run, Run::EMPTY);
        if run.blocks.is_empty() {
            return;
        }
        let claims = &self.files.claims;
        claims.add(self.number, &run.blocks, run.age == Age::Old);
        if run.is_metadata {
            claims.add_metadata(&run.blocks);
        }
    }

    /// Follows a node of the tree of extents. `depth` is what the one above makes it have.
    fn extents(&mut self, structure: Structure, bytes: &[u8], depth: Option<u16>, age: Age) {
        let found = extents::node(structure, bytes, depth).and_then(|(header, entries)| {
            if let Some(seed) = self.seed.filter(|_| depth.is_some()) {
                node_has_checksum(structure, seed, bytes, header)?;
            }
            self.files.count(to_u64(entries.len()))?;
            Ok((header.depth.get(), entries))
        });
        let (depth, entries) = match found {
            Ok(found) => found,
            Err(doubt) => {
                self.hold(Err(doubt), age);
                return;
            }
        };
        for entry in entries {
            if let Some(below) = depth.checked_sub(1) {
                self.node(structure, "ei_leaf", entry.node(), Node::Extents(below), age);
            } else {
                let run = self.content(entry.start(), entry.length(), age);
                self.claim(structure, "ee_start", run);
            }
        }
    }

    /// Takes note of a block that an inode or another block names, or follows it for some levels; 0 is a hole.
    fn indirect(&mut self, structure: Structure, block: u32, levels: usize, age: Age) {
        let block = u64::from(block);
        match levels.checked_sub(1) {
            _ if block == 0 => {}
            // mke2fs makes it name places that are off by one, which nothing reads, if 1 KiB blocks have clusters.
            None if self.number == RESIZE => {}
            Some(below) => self.node(structure, "block", block, Node::Indirect(below), age),
            None => {
                let run = self.content(block, 1, age);
                self.claim(structure, "block", run);
            }
        }
    }

    /// Follows a block of the tree, which is one of the file's, too.
    fn node(&mut self, above: Structure, field: &'static str, block: u64, node: Node, age: Age) {
        if !self.claim(above, field, Run::metadata(block, age)) {
            return;
        }
        let structure = Structure {
            name: match node {
                Node::Extents(_) => "extent block",
                Node::Indirect(_) => "indirect block",
            },
            at: self.files.blocks.position(block),
        };
        let count = self.files.count(1);
        let contents = count.and_then(|()| self.files.contents(structure, block, age));
        let contents = match contents {
            Ok(contents) => contents,
            Err(doubt) => {
                self.hold(Err(doubt), age);
                return;
            }
        };
        for (age, bytes) in contents {
            match node {
                Node::Extents(depth) => self.extents(structure, &bytes, Some(depth), age),
                Node::Indirect(levels) => {
                    let named = numbers(&bytes).filter(|block| *block != 0).count();
                    let counted = self.files.count(to_u64(named));
                    if self.hold(counted, age) {
                        for block in numbers(&bytes) {
                            self.indirect(structure, block, levels, age);
                        }
                    }
                }
            }
        }
    }
}
