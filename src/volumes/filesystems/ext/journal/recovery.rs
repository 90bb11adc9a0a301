//! The way through the log: which transactions are committed, and where they leave the last copy of each block.

use std::collections::HashMap;
use std::mem::take;

use zerocopy::FromBytes;

use super::checksum::{Checksums, TransactionSum, holds_sum};
use super::fast_commit::is_before;
use super::header::{MAGIC, RawHeader};
use super::log::Log;
use super::superblock::Superblock;
use super::transaction::{COMMIT_CHECKSUM, Copy, RawCommit, Tag, revocations, tags};
use crate::units::{Exact, to_u64};
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::faults::Structure;

/// How many copies, and how many revocations, are kept in mind: as many as a journal of 4 GiB has at blocks of
/// 4 KiB.
const MAX_COPIES: usize = 1 << 20;

/// What a replay leads to.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The last copy of each block that counts, ascending by their homes.
    pub(super) copies: Vec<Copy>,
    /// The first transaction that is not committed.
    pub(super) end: u32,
}

/// Follows the log to its end.
pub(super) fn recover(log: &Log<'_>, superblock: &Superblock) -> Result<Recovered, Doubt> {
    let mut walk = Walk {
        log,
        superblock,
        at: superblock.start.unwrap_or(superblock.first),
        left: superblock.last.minus(superblock.first).plus(1),
        wraps: false,
        sequence: superblock.sequence,
        open: Transaction::new(),
        interrupted: None,
        copies: Vec::new(),
        revoked: HashMap::new(),
    };
    if superblock.start.is_some() {
        while walk.step()? {}
    }
    let end = walk
        .interrupted
        .as_ref()
        .map_or(walk.sequence, |(sequence, _)| *sequence);
    let copies = walk.copies();
    Ok(Recovered { copies, end })
}

/// A transaction whose commit was not found yet.
#[derive(Debug)]
struct Transaction {
    copies: Vec<Copy>,
    revoked: Vec<u64>,
    sum: TransactionSum,
    /// What is wrong with it, should it be committed.
    doubt: Option<Doubt>,
}

impl Transaction {
    fn new() -> Self {
        Self {
            copies: Vec::new(),
            revoked: Vec::new(),
            sum: TransactionSum::new(),
            doubt: None,
        }
    }

    /// Keeps in mind what is wrong first.
    fn doubt(&mut self, outcome: Result<(), Doubt>) {
        if let Err(doubt) = outcome {
            self.doubt.get_or_insert(doubt);
        }
    }
}

/// A way through the log.
struct Walk<'l, 'a> {
    log: &'l Log<'a>,
    superblock: &'l Superblock,
    /// The block that comes next.
    at: u64,
    /// How many may follow: a log is no longer than it is.
    left: u64,
    /// Whether that is the first one again.
    wraps: bool,
    /// The transaction that is expected.
    sequence: u32,
    open: Transaction,
    /// A transaction whose commit reached the disk before the rest of it did, and what shows that.
    interrupted: Option<(u32, Doubt)>,
    copies: Vec<Copy>,
    /// The last transaction that revoked a block.
    revoked: HashMap<u64, u32>,
}

impl Walk<'_, '_> {
    /// Goes on to the next block that is none of the filesystem's. Returns whether it is of the log.
    fn step(&mut self) -> Result<bool, Doubt> {
        let (number, block) = self.next()?;
        let Ok((header, _)) = RawHeader::read_from_prefix(&block) else {
            return Ok(false);
        };
        if header.magic.get() != MAGIC || header.sequence.get() != self.sequence {
            return Ok(false);
        }
        match header.blocktype.get() {
            1 => self.descriptor(number, &block)?,
            2 => self.commit(number, &block)?,
            5 => self.revocation(number, &block)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The next block and its number; behind the last one the log goes on with the first.
    fn next(&mut self) -> Result<(u64, Vec<u8>), Doubt> {
        let left = self.left.checked_sub(1);
        self.left = left.ok_or(Doubt::State("its journal does not end"))?;
        if self.wraps && self.superblock.fast_commit {
            // Linux goes on at the beginning; e2fsck up to 1.47 and older kernels go on in the room for fast commits,
            // and so end sooner, with another map.
            return Err(Doubt::State(
                "its journal has space for fast commits, and wraps around to its beginning",
            ));
        }
        let number = self.at;
        let next = number.plus(1);
        self.wraps = next >= self.superblock.last;
        self.at = if self.wraps { self.superblock.first } else { next };
        Ok((number, self.log.block(number)?))
    }

    fn structure(&self, name: &'static str, number: u64) -> Structure {
        let at = self.log.position(number);
        Structure { name, at }
    }

    fn has_tail(&self, structure: Structure, block: &[u8]) -> Result<(), Doubt> {
        self.superblock.checksums.seed().map_or(Ok(()), |seed| {
            holds_sum(structure, seed, block, block.len().minus(4))
        })
    }

    fn descriptor(&mut self, number: u64, block: &[u8]) -> Result<(), Doubt> {
        let outcome = self.has_tail(self.structure("journal descriptor", number), block);
        self.open.doubt(outcome);
        self.open.sum.add(block);
        for tag in tags(self.superblock, block) {
            let (at, copied) = self.next()?;
            self.open.sum.add(&copied);
            let outcome = self.is_right(&tag, at, &copied);
            self.open.doubt(outcome);
            self.open.copies.push(Copy {
                home: tag.home,
                at,
                sequence: self.sequence,
                escaped: tag.escaped,
            });
            enough(self.open.copies.len())?;
        }
        Ok(())
    }

    /// Makes sure that a copy is what its tag says, and is of a block that the log may change.
    fn is_right(&self, tag: &Tag, at: u64, copied: &[u8]) -> Result<(), Doubt> {
        if !self.log.can_hold(tag.home) {
            return Err(Doubt::State(
                "its journal changes blocks that no journal may change",
            ));
        }
        let Some(seed) = self.superblock.checksums.seed() else {
            return Ok(());
        };
        let sum = crc32c(crc32c(seed, &self.sequence.to_be_bytes()), copied);
        self.structure("block in the journal", at)
            .has_checksum(tag.checksum, sum & tag.mask)
    }

    fn revocation(&mut self, number: u64, block: &[u8]) -> Result<(), Doubt> {
        let outcome = self.has_tail(self.structure("journal revocation", number), block);
        self.open.doubt(outcome);
        match revocations(self.superblock, block) {
            Ok(blocks) => self.open.revoked.extend(blocks),
            Err(doubt) => self.open.doubt(Err(doubt)),
        }
        enough(self.open.revoked.len())
    }

    /// Ends a transaction.
    fn commit(&mut self, number: u64, block: &[u8]) -> Result<(), Doubt> {
        let Transaction {
            copies,
            revoked,
            sum,
            doubt,
        } = std::mem::replace(&mut self.open, Transaction::new());
        // What is behind a transaction that was interrupted was not: that one is damaged.
        if let Some((_, damage)) = self.interrupted.take() {
            return Err(damage);
        }
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        match self.is_whole(number, block, sum) {
            Ok(()) => {
                for block in revoked {
                    self.revoked.insert(block, self.sequence);
                }
                self.copies.extend(copies);
                enough(self.revoked.len().max(self.copies.len()))?;
            }
            Err(doubt) if self.superblock.async_commit => self.interrupted = Some((self.sequence, doubt)),
            Err(doubt) => return Err(doubt),
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Makes sure that a commit, and with version 1 the whole transaction, has its checksum.
    fn is_whole(&self, number: u64, block: &[u8], sum: TransactionSum) -> Result<(), Doubt> {
        let structure = self.structure("journal commit", number);
        match self.superblock.checksums {
            Checksums::None => Ok(()),
            Checksums::Halves(seed) | Checksums::Blocks(seed) => {
                holds_sum(structure, seed, block, COMMIT_CHECKSUM)
            }
            Checksums::Transactions => {
                let Ok((raw, _)) = RawCommit::read_from_prefix(block) else {
                    return Err(Doubt::State("its journal has a commit that is too small"));
                };
                match (raw.chksum_type, raw.chksum_size, raw.chksum.get()) {
                    (0, 0, 0) => Ok(()),
                    (1, 4, found) => structure.has_checksum(found, sum.end()),
                    (found, _, _) => structure.exactly("h_chksum_type", found.into(), 1),
                }
            }
        }
    }

    /// The last copies that no later transaction, and not their own, revoked.
    fn copies(&mut self) -> Vec<Copy> {
        let mut copies = take(&mut self.copies);
        copies.retain(|copy| {
            let revoked = self.revoked.get(&copy.home);
            revoked.is_none_or(|revoked| is_before(*revoked, copy.sequence))
        });
        // In the order of the log where homes are the same.
        copies.sort_by_key(|copy| copy.home);
        copies.dedup_by(|next, kept| {
            let same = next.home == kept.home;
            if same {
                *kept = *next;
            }
            same
        });
        copies
    }
}

/// Makes sure that memory is bounded.
fn enough(count: usize) -> Result<(), Doubt> {
    if count <= MAX_COPIES {
        return Ok(());
    }
    let (what, limit) = ("blocks in its journal", to_u64(MAX_COPIES));
    Err(Doubt::TooMany { what, limit })
}
