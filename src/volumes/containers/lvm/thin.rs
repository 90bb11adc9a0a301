//! What thin pools have free in their data: the space map in their metadata. Sources: Linux,
//! `Documentation/admin-guide/device-mapper/thin-provisioning.rst`, `drivers/md/dm-thin-metadata.c`,
//! `drivers/md/persistent-data/`.
//!
//! The metadata on the disk is that of the last commit, whenever the machine stopped: the pool writes to no block that
//! is in use by it, and puts the superblock in place last. A block of data whose reference count is 0 there belongs to
//! no thin volume and no snapshot.

mod block;
mod btree;
mod superblock;

use std::ops::Range;

use crate::units::{self, Exact, claimed_size, to_usize};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::map::{AllocationMap, Reason};
use crate::volumes::view::View;
use block::{BLOCK, Kind};
pub(super) use superblock::Pool;
use superblock::Superblock;

/// Entries of a bitmap: two bits each, behind a header of 16 bytes.
const HEADER: u64 = 16;
const PER_BITMAP: u64 = (BLOCK - HEADER) * 4;

/// The most blocks of data that a space map is read of: 4 GiB of address space at 64 KiB each take two million.
const MAX_BLOCKS: u64 = 1 << 30;

/// What of the data of a pool is in use, by its metadata. The data has `size` bytes.
pub(super) fn map(metadata: View<'_>, pool: Pool, size: u64) -> Result<AllocationMap, Doubt> {
    let superblock = Superblock::read(metadata)?;
    superblock.agrees(metadata, pool)?;
    let (blocks, length) = (superblock.blocks, superblock.block_size);
    if blocks > MAX_BLOCKS {
        let what = "blocks in a thin pool";
        return Err(Doubt::TooMany {
            what,
            limit: MAX_BLOCKS,
        });
    }
    if claimed_size(blocks, length) > size {
        return Err(Doubt::State(
            "the metadata of the thin pool counts more blocks than its data has",
        ));
    }
    let mut map = MapBuilder::new(size);
    let (mut next, mut allocated) = (0, 0_u64);
    btree::walk(metadata, superblock.bitmaps, |key, entry| {
        if key != next / PER_BITMAP || next >= blocks {
            return Err(Doubt::State(
                "the bitmaps of the thin pool do not follow each other",
            ));
        }
        let count = PER_BITMAP.min(blocks.minus(next));
        let bitmap = block::read(metadata, entry.block, Kind::Bitmap)?;
        let bits = bitmap.get(to_usize(HEADER)..).unwrap_or_default();
        let mut free = 0_u64;
        for (range, is_free) in runs(bits, count) {
            let place = |block: u64| next.plus(block).times(length);
            let bytes = place(range.start)..place(range.end);
            if is_free {
                free.increase(units::length(&range));
                map.free(bytes);
            } else {
                map.used(bytes, Reason::Mapped);
            }
        }
        // The kernel counts what lies behind the last block as free.
        let recorded = u64::from(entry.free);
        if recorded != free && recorded != free.plus(PER_BITMAP.minus(count)) {
            return Err(Doubt::Count {
                what: "free blocks of a thin pool",
                recorded,
                counted: free,
            });
        }
        allocated.increase(count.minus(free));
        next.increase(count);
        Ok(())
    })?;
    if next != blocks || allocated != superblock.allocated {
        return Err(Doubt::Count {
            what: "blocks of a thin pool in use",
            recorded: superblock.allocated,
            counted: allocated,
        });
    }
    map.used(blocks.times(length)..size, Reason::Behind);
    Ok(map.build())
}

/// The ranges of the first `count` entries of a bitmap that are all 0, or all not.
fn runs(bits: &[u8], count: u64) -> Vec<(Range<u64>, bool)> {
    let entries = bits
        .iter()
        .flat_map(|byte| [0, 2, 4, 6].map(|shift| (byte >> shift) & 3));
    let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
    for (number, entry) in (0..count).zip(entries) {
        let end = number.plus(1);
        match runs.last_mut() {
            Some((range, is_free)) if *is_free == (entry == 0) => range.end = end,
            Some(_) | None => runs.push((number..end, entry == 0)),
        }
    }
    runs
}
