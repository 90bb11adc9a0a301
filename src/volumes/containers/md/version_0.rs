//! Superblocks of version 0.90: 1024 words in the byte order of the machine that made the array.

use std::ops::Range;

use super::superblock::{INACTIVE, MAGIC, MIRROR, Seen, Superblock, UNCLEAN, folded, uuid};
use crate::units::claimed_size;
use crate::volumes::doubt::Doubt;
use crate::volumes::edges::Edges;
use crate::volumes::view::View;

const STRUCTURE: &str = "RAID superblock";

/// Its length in bytes.
const SIZE: u64 = 4096;

// Words of `mdp_super_t`.
const MINOR_VERSION: usize = 2;
const SET_UUID: [usize; 4] = [5, 13, 14, 15];
const LEVEL: usize = 7;
/// In KiB.
const USED_SIZE: usize = 8;
const STATE: usize = 33;
const CHECKSUM: usize = 38;
/// Of the member that it lies on: its number, device, role, state.
const THIS_DISK_STATE: usize = 996;

/// The version that is read; that of an array which is being reshaped is one more.
const MINOR: u32 = 90;

/// Bits of the state of the array: it was stopped cleanly; it has a bitmap of writes.
const CLEAN: u32 = 1 << 0;
const HAS_BITMAP: u32 = 1 << 8;

/// Bits of the state of a member: failed, active, in sync, removed, read only when there is no other.
const FAULTY: u32 = 1 << 0;
const ACTIVE: u32 = 1 << 1;
const SYNC: u32 = 1 << 2;
const REMOVED: u32 = 1 << 3;

/// The words of a superblock, or of the beginning of one.
#[derive(Debug)]
struct Words(Vec<u32>);

impl Words {
    /// None if they do not begin as a superblock does.
    fn of(bytes: &[u8]) -> Option<Self> {
        let words = |from: fn([u8; 4]) -> u32| {
            let words = bytes.chunks_exact(4);
            let words: Vec<_> = words
                .map(|word| <[u8; 4]>::try_from(word).map_or(0, from))
                .collect();
            (words.first() == Some(&MAGIC) && words.get(1) == Some(&0)).then_some(Self(words))
        };
        words(u32::from_le_bytes).or_else(|| words(u32::from_be_bytes))
    }

    /// One of them; 0 if there are not that many.
    fn at(&self, number: usize) -> u32 {
        self.0.get(number).copied().unwrap_or(0)
    }

    fn level(&self) -> i32 {
        self.at(LEVEL).cast_signed()
    }
}

/// What is at a place, if it is a superblock.
pub(super) fn look(edges: &Edges<'_>, at: u64) -> Result<Option<Seen>, Doubt> {
    let bytes = edges.bytes(at, 64)?;
    let words = bytes.and_then(|bytes| Words::of(&bytes));
    Ok(words.map(|words| Seen {
        is_mirror: words.level() == MIRROR,
        is_around: true,
    }))
}

/// The superblock at a place where there is one.
pub(super) fn read(view: View<'_>, at: u64) -> Result<Superblock, Doubt> {
    let bytes = view.bytes(STRUCTURE, at, SIZE)?;
    let words = Words::of(&bytes).ok_or(Doubt::State("its RAID superblock is gone"))?;
    let summed = words.0.iter().enumerate();
    let summed = summed.filter(|(number, _)| *number != CHECKSUM);
    // 1023 words of 32 bits.
    let expected = folded(summed.map(|(_, word)| u64::from(*word)).sum());
    let found = words.at(CHECKSUM);
    if found != expected {
        return Err(Doubt::Checksum {
            structure: STRUCTURE,
            at: view.position(at),
            found,
            expected,
        });
    }
    Ok(Superblock {
        version: "0.90",
        level: words.level(),
        uuid: uuid(SET_UUID.map(|number| words.at(number))),
        label: None,
        content: content(view, &words, at),
    })
}

/// Where the content lies of a mirror that is clean.
fn content(view: View<'_>, words: &Words, at: u64) -> Result<Range<u64>, Doubt> {
    if words.at(MINOR_VERSION) != MINOR {
        return Err(Doubt::State("its array is being reshaped"));
    }
    if words.at(STATE) & !HAS_BITMAP != CLEAN {
        return Err(UNCLEAN);
    }
    let state = words.at(THIS_DISK_STATE);
    if state & (FAULTY | ACTIVE | SYNC | REMOVED) != ACTIVE | SYNC {
        return Err(INACTIVE);
    }
    let size = claimed_size(words.at(USED_SIZE).into(), 1024);
    view.holds("array", 0, size)?;
    if size == 0 || size > at {
        return Err(Doubt::State("its superblock lies in its content"));
    }
    Ok(0..size)
}
