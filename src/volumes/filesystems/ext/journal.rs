//! The journal of an ext3 or ext4 filesystem, replayed in memory: what the metadata will be once somebody mounts it.
//! Source: Documentation/filesystems/ext4/journal.rst, include/linux/jbd2.h; what is committed and what is not, as
//! fs/jbd2/recovery.c decides it.
//!
//! ```text
//! inode -> log -> superblock -> recovery: transactions -> where the last copy of each block lies
//! ```
//!
//! Where the kernel would refuse to mount, or would go on without a block, there is a [`Doubt`].

mod checksum;
mod fast_commit;
mod inode;
mod log;
mod recovery;
mod superblock;
#[cfg(test)]
mod tests;
mod transaction;

use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U32, Unaligned};

use super::blocks::Blocks;
use super::features::{incompat, ro_compat};
use super::groups::tables_of;
use super::superblock::{JournalPlace, Superblock};
use crate::units::{Exact, within};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;
use log::Log;
use superblock::Superblock as JournalSuperblock;
use transaction::Copy;

/// What every block of the log begins with that is no copy of a block of the filesystem.
const MAGIC: u32 = 0xc03b_3998;

/// The head of such a block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0: [`MAGIC`].
    magic: U32<BE>,
    /// 4: 1 descriptor, 2 commit, 3 and 4 superblock of version 1 and 2, 5 revocation.
    blocktype: U32<BE>,
    /// 8: the number of the transaction that it belongs to.
    sequence: U32<BE>,
}

const _: () = assert!(size_of::<RawHeader>() == 12);

/// What the journal of a filesystem changes, of which `blocks` are those on the disk; none if it has no journal, or
/// has nothing in it.
///
/// # Errors
///
/// A [`Doubt`] if somebody may find more in the journal than is found here.
pub(super) fn replay<'a>(superblock: &Superblock, blocks: &Blocks<'a>) -> Result<Option<Replay<'a>>, Doubt> {
    let needs_recovery = superblock.features.incompat(incompat::RECOVER);
    let inode = match &superblock.journal {
        Some(JournalPlace::Inode { inode, .. }) => *inode,
        Some(JournalPlace::Device) if needs_recovery => {
            return Err(Doubt::State("its journal, on another device, needs recovery"));
        }
        Some(JournalPlace::Device) | None => return Ok(None),
    };
    let journal = Journal::open(&Place::of(superblock, blocks, inode)?)?;
    if needs_recovery {
        return journal.replay().map(Some);
    }
    // The kernel does not replay it then, and e2fsck(8) does if it is told to.
    if journal.is_empty()? {
        return Ok(None);
    }
    Err(Doubt::State(
        "its journal holds changes, but says that it needs no recovery",
    ))
}

/// The superblock as a journal leaves it, and the blocks, which are those behind the replay.
///
/// # Errors
///
/// A [`Doubt`] if the filesystem is another one then: the kernel has settled what it is before it replays.
pub(super) fn apply<'a>(on_disk: &Superblock, blocks: Blocks<'a>) -> Result<(Superblock, Blocks<'a>), Doubt> {
    let replayed = Superblock::read(&blocks)?;
    let settled = Superblock {
        features: replayed.features,
        free_blocks_count: replayed.free_blocks_count,
        label: replayed.label.clone(),
        may_have_orphans: replayed.may_have_orphans,
        ..on_disk.clone()
    };
    if settled != replayed || on_disk.features.lay_out() != replayed.features.lay_out() {
        return Err(Doubt::State("its journal changes its size or its layout"));
    }
    let may_have_orphans = on_disk.may_have_orphans || replayed.may_have_orphans;
    let superblock = Superblock {
        may_have_orphans,
        ..replayed
    };
    Ok((superblock, blocks))
}

/// Where the inode of a journal is, and what it takes to follow it.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    /// The filesystem.
    view: View<'a>,
    /// The size of its blocks, in bytes; a power of two from 1024 on.
    block_size: u64,
    /// How many of them it has.
    blocks: u64,
    /// The number of the journal's inode.
    inode: u32,
    /// Where that begins, in bytes.
    inode_at: u64,
    /// Its size, in bytes; a power of two from 128 on.
    inode_size: u64,
    /// What checksums of metadata begin with, if there are any.
    seed: Option<u32>,
}

impl<'a> Place<'a> {
    /// That of an inode, as the disk has it: the kernel has read it before it replays anything.
    fn of(superblock: &Superblock, blocks: &Blocks<'a>, inode: u32) -> Result<Self, Doubt> {
        let index = u64::from(inode).minus(1);
        let per_group = superblock.inodes_per_group;
        let group = index.checked_div(per_group).unwrap_or(0);
        let table = tables_of(superblock, blocks, group)?.inode_table.start;
        let inode_size = superblock.inode_size;
        let within = within(index, per_group).times(inode_size);
        let has_checksums = superblock.features.ro_compat(ro_compat::METADATA_CSUM);
        Ok(Self {
            view: blocks.view(),
            block_size: superblock.block_size,
            blocks: superblock.blocks_count,
            inode,
            inode_at: table.times(superblock.block_size).plus(within),
            inode_size,
            seed: has_checksums.then_some(superblock.checksum_seed),
        })
    }
}

/// A journal.
#[derive(Debug)]
struct Journal<'a> {
    log: Log<'a>,
    superblock: JournalSuperblock,
}

impl<'a> Journal<'a> {
    /// Finds the journal and reads its superblock.
    fn open(place: &Place<'a>) -> Result<Self, Doubt> {
        let mut log = inode::log(place)?;
        let superblock = JournalSuperblock::read(&log)?;
        log.shorten(superblock.blocks);
        Ok(Self { log, superblock })
    }

    /// Whether it holds nothing that is not in its place yet.
    fn is_empty(&self) -> Result<bool, Doubt> {
        Ok(self.superblock.start.is_none()
            && !fast_commit::any(&self.log, &self.superblock, self.superblock.sequence)?)
    }

    /// Replays what is committed.
    fn replay(self) -> Result<Replay<'a>, Doubt> {
        let Self { log, superblock } = self;
        let recovered = recovery::recover(&log, &superblock)?;
        if fast_commit::any(&log, &superblock, recovered.end)? {
            return Err(Doubt::State("its journal needs recovery and holds fast commits"));
        }
        let copies = recovered.copies;
        Ok(Replay { log, copies })
    }
}

/// The blocks of a filesystem that a replay changes.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    log: Log<'a>,
    /// One a block at most, ascending.
    copies: Vec<Copy>,
}

impl super::blocks::Replay for Replay<'_> {
    fn block(&self, home: u64) -> Result<Option<Vec<u8>>, Doubt> {
        let Ok(index) = self.copies.binary_search_by_key(&home, |copy| copy.home) else {
            return Ok(None);
        };
        let copy = self.copies.get(index).copied();
        copy.map(|Copy { at, escaped, .. }| {
            let mut block = self.log.block(at)?;
            if escaped && let Some(magic) = block.first_chunk_mut() {
                *magic = MAGIC.to_be_bytes();
            }
            Ok(block)
        })
        .transpose()
    }
}
