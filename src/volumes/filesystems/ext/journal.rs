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
mod header;
mod inode;
mod log;
mod place;
mod recovery;
mod superblock;
#[cfg(test)]
mod tests;
mod transaction;

use super::blocks::Blocks;
use super::features::incompat;
use super::superblock::{JournalPlace, Superblock};
use crate::volumes::doubt::Doubt;
use header::MAGIC;
use log::Log;
use place::JournalAt;
use superblock::Superblock as JournalSuperblock;
use transaction::Copy;

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
    let journal = Journal::open(&JournalAt::of(superblock, blocks, inode)?)?;
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
        own_inodes: replayed.own_inodes,
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

/// A journal.
#[derive(Debug)]
struct Journal<'a> {
    log: Log<'a>,
    superblock: JournalSuperblock,
}

impl<'a> Journal<'a> {
    /// Finds the journal and reads its superblock.
    fn open(place: &JournalAt<'a>) -> Result<Self, Doubt> {
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
