//! The inode tables: which inodes are in use as the kernel sees it, whatever the inode bitmaps say.
//!
//! ```text
//! tables -> inodes in use -> their blocks -> those that the map calls free -> the map with these
//! ```
//!
//! If the journal needs recovery, blocks that it changes count as they are and as they will be.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use zerocopy::FromBytes;

use super::blocks::Blocks;
use super::claims::Claims;
use super::faults::Structure;
use super::features::ro_compat;
use super::file::{Age, File, Files};
use super::groups::{Group, Inodes};
use super::inode::{RawInode, has_checksum, has_strong_checksum, seed_of};
use super::superblock::Superblock;
use crate::error::Expected;
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::map::AllocationMap;
use crate::volumes::region::Missing;
use crate::zero::is_zero;

/// How much of a table is read in one go, in bytes.
const AT_ONCE: u64 = 1 << 20;

/// How much is read behind what was used by its descriptor, and again as long as there are inodes in use, in bytes.
const BEHIND: u64 = 16 << 10;

/// Adds to the map what files have and it calls free, and tells what is metadata. Returns the map, and what it called
/// free unless the journal explains it.
///
/// # Errors
///
/// A [`Doubt`] if a file cannot be followed to all of its blocks.
pub(super) fn join(
    superblock: &Superblock,
    blocks: &Blocks<'_>,
    groups: &[Group],
    map: &AllocationMap,
) -> Result<(AllocationMap, Option<Missing>), Doubt> {
    let files = Files::new(superblock, *blocks, Claims::against(superblock, map));
    let numbered = groups.par_iter().enumerate();
    let table = |read: &mut Vec<u8>, (number, group): (usize, &Group)| {
        Table::new(&files, to_u64(number), group.inodes).read(read);
    };
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(|| numbered.for_each_init(Vec::new, table)),
        // Whoever needs threads more will tell.
        Err(_) => groups
            .iter()
            .enumerate()
            .for_each(|group| table(&mut Vec::new(), group)),
    }
    files.claims.finish()
}

/// The inode table of a group.
struct Table<'f, 'a> {
    files: &'f Files<'a>,
    inodes: Inodes,
    /// The number of its first inode.
    first: u64,
}

impl<'f, 'a> Table<'f, 'a> {
    fn new(files: &'f Files<'a>, group: u64, inodes: Inodes) -> Self {
        let before = group.times(files.superblock.inodes_per_group);
        let first = before.plus(1);
        Self { files, inodes, first }
    }

    /// Takes note of what all files in it have.
    fn read(&self, read: &mut Vec<u8>) {
        let superblock = self.files.superblock;
        let block_size = superblock.block_size;
        let in_blocks = |bytes: u64| bytes.div_ceil(block_size.max(1)).max(1);
        let used = u64::from(self.inodes.used).times(superblock.inode_size);
        let used = used
            .div_ceil(block_size.max(1))
            .min(superblock.inode_table_blocks);
        let end = if self.inodes.is_rest_told {
            superblock.inode_table_blocks
        } else {
            used
        };
        let mut at = 0;
        while at < end {
            // A descriptor of old is as consistent as a new one, and inodes are given out from the first on.
            let is_behind = at >= used;
            let (most, limit) = if is_behind { (BEHIND, end) } else { (AT_ONCE, used) };
            let next = at.plus(in_blocks(most)).min(limit);
            read.resize(to_usize(next.minus(at).times(block_size)), 0);
            match self.piece(at, read) {
                Ok(is_in_use) if is_behind && !is_in_use => return,
                Ok(_) => {}
                Err(doubt) => {
                    let number = self.number(at.times(self.per_block()));
                    self.files.claims.fault(number, doubt);
                }
            }
            at = next;
        }
    }

    fn per_block(&self) -> u64 {
        let superblock = self.files.superblock;
        superblock
            .block_size
            .checked_div(superblock.inode_size)
            .unwrap_or(1)
    }

    /// The number of an inode: there are no more of them than 32 bits can tell.
    fn number(&self, index: u64) -> u32 {
        u32::try_from(self.first.plus(index)).unwrap_or(u32::MAX)
    }

    /// Fills `read` with the blocks of the table from `at` on, and looks at the inodes there. Returns whether any is in
    /// use.
    fn piece(&self, at: u64, read: &mut [u8]) -> Result<bool, Doubt> {
        let blocks = &self.files.blocks;
        let block_size = self.files.superblock.block_size;
        let first = self.inodes.table.plus(at);
        let bytes = first.times(block_size);
        let range = bytes..bytes.plus(to_u64(read.len()));
        if !blocks.are_replayed() && blocks.view().is_hole(&range) {
            return Ok(false);
        }
        blocks.without_replay().read("inode table", first, read)?;
        let mut is_in_use = false;
        for (index, bytes) in (0..).zip(read.chunks(to_usize(block_size))) {
            let block = first.plus(index);
            let index = at.plus(index).times(self.per_block());
            let mut replayed = None;
            blocks.replayed(block, |bytes| replayed = Some(bytes.to_vec()))?;
            let age = if let Some(replayed) = replayed {
                is_in_use |= self.block(block, index, &replayed, Age::New);
                Age::Old
            } else {
                Age::Both
            };
            is_in_use |= self.block(block, index, bytes, age);
        }
        Ok(is_in_use)
    }

    /// Looks at the inodes of a block, of which the first is number `index` of the table. Returns whether any is in
    /// use.
    fn block(&self, block: u64, index: u64, bytes: &[u8], age: Age) -> bool {
        if is_zero(bytes) {
            return false;
        }
        let superblock = self.files.superblock;
        let at = self.files.blocks.position(block);
        let inodes = bytes.chunks(to_usize(superblock.inode_size));
        let mut is_in_use = false;
        for (inode, bytes) in (0..).zip(inodes) {
            let index = index.plus(inode);
            if index >= superblock.inodes_per_group {
                break;
            }
            let offset = inode.times(superblock.inode_size);
            let structure = Structure {
                name: "inode table",
                at: at.plus(offset),
            };
            is_in_use |= self.inode(index, structure, bytes, age);
        }
        is_in_use
    }

    /// Follows an inode if it is in use. Returns whether it is.
    fn inode(&self, index: u64, structure: Structure, bytes: &[u8], age: Age) -> bool {
        let Ok((raw, rest)) = RawInode::ref_from_prefix(bytes) else {
            return false;
        };
        let is_file = raw.i_links_count.get() != 0;
        if !is_file && !self.may_be_orphan(raw) {
            return false;
        }
        let superblock = self.files.superblock;
        let number = self.number(index);
        let has_checksums = superblock.features.ro_compat(ro_compat::METADATA_CSUM);
        let seed = has_checksums.then(|| seed_of(superblock.checksum_seed, number, raw));
        let sum = seed.map_or(Ok(()), |seed| has_checksum(structure, seed, *raw, rest));
        // What a table held before has 16 bits right by chance, in a large filesystem somewhere.
        if has_checksums && sum.is_ok() && !has_strong_checksum(raw, rest) && !self.is_in_bitmap(index) {
            return false;
        }
        let is_proven = has_checksums && sum.is_ok();
        let sound = sum.and_then(|()| {
            let expected = Expected::That("a type of file");
            structure.require(raw.has_type(), "i_mode", raw.i_mode.get().into(), expected)
        });
        let is_sound = sound.is_ok();
        let fault = match sound {
            Ok(()) => File::new(self.files, number, seed).follow(structure, raw, rest, age),
            Err(doubt) => Some(doubt),
        };
        // Of files only: mounting gives up what was deleted. Tables may hold what was on the disk before, which no
        // bitmap calls in use.
        if let Some(fault) = fault
            && is_file
            && age != Age::Old
            && (is_proven || self.is_in_bitmap(index))
        {
            self.files.claims.fault(number, fault);
        }
        is_sound
    }

    /// Whether an inode without links may be one that mounting deletes: it has the next one instead of a time.
    fn may_be_orphan(&self, raw: &RawInode) -> bool {
        let superblock = self.files.superblock;
        let count = superblock.inodes_per_group.times(superblock.groups_count);
        superblock.may_have_orphans && raw.i_mode.get() != 0 && u64::from(raw.i_dtime.get()) <= count
    }

    /// Whether the inode bitmap calls an inode in use, or cannot be read.
    fn is_in_bitmap(&self, index: u64) -> bool {
        let Some(block) = self.inodes.bitmap else {
            return false;
        };
        let mut bits = vec![0; to_usize(self.files.superblock.block_size)];
        let read = self.files.blocks.read("inode bitmap", block, &mut bits);
        let byte = bits.get(to_usize(index / 8)).copied().unwrap_or(u8::MAX);
        read.is_err() || byte >> (index % 8) & 1 == 1
    }
}
