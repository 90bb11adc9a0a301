//! The superblock of a pool's metadata.

use super::block::{self, Kind};
use crate::error::Expected;
use crate::units::claimed_size;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_le, u64_le};
use crate::volumes::view::View;

/// What a volume group says of a thin pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volumes::containers::lvm) struct Pool {
    /// The length of a block of data, in sectors.
    pub(in crate::volumes::containers::lvm) chunk_size: u64,
    /// The number of the last change, which the metadata of the pool has as well.
    pub(in crate::volumes::containers::lvm) transaction_id: u64,
}

const MAGIC: u64 = 27_022_010;

// Where fields of `struct thin_disk_superblock` are, in bytes. `data_space_map_root` is `struct disk_sm_root`.
const FLAGS: usize = 4;
const MAGIC_AT: usize = 32;
const VERSION: usize = 40;
const TRANS_ID: usize = 48;
const DATA_BLOCKS: usize = 64;
const DATA_ALLOCATED: usize = 72;
const DATA_BITMAPS: usize = 80;
const DATA_BLOCK_SIZE: usize = 336;
const METADATA_BLOCK_SIZE: usize = 340;
const INCOMPAT_FLAGS: usize = 360;

/// What is needed of it.
#[derive(Debug)]
pub(super) struct Superblock {
    /// The number of the last change.
    pub(super) transaction_id: u64,
    /// How many blocks of data the pool has.
    pub(super) blocks: u64,
    /// How many of them are in use.
    pub(super) allocated: u64,
    /// The root of the tree that leads to the bitmaps.
    pub(super) bitmaps: u64,
    /// The length of a block of data, in bytes.
    pub(super) block_size: u64,
}

impl Superblock {
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let block = block::read(view, 0, Kind::Superblock)?;
        let field = |field, found, expected| {
            Err(Doubt::Field {
                structure: "superblock of the thin pool",
                at: view.position(0),
                field,
                found,
                expected,
            })
        };
        let magic = u64_le(&block, MAGIC_AT);
        if magic != MAGIC {
            return field("magic", magic, Expected::Exactly(MAGIC));
        }
        let version = u32_le(&block, VERSION).into();
        if !(1..=2).contains(&version) {
            return field("version", version, Expected::Between(1, 2));
        }
        if u32_le(&block, FLAGS) != 0 {
            return Err(Doubt::State(
                "the metadata of the thin pool needs a check (thin_check, lvconvert --repair)",
            ));
        }
        let incompatible = u32_le(&block, INCOMPAT_FLAGS).into();
        if incompatible != 0 {
            return field("incompat_flags", incompatible, Expected::Exactly(0));
        }
        let metadata_block_size = u32_le(&block, METADATA_BLOCK_SIZE).into();
        if metadata_block_size != 8 {
            return field("metadata_block_size", metadata_block_size, Expected::Exactly(8));
        }
        Ok(Self {
            transaction_id: u64_le(&block, TRANS_ID),
            blocks: u64_le(&block, DATA_BLOCKS),
            allocated: u64_le(&block, DATA_ALLOCATED),
            bitmaps: u64_le(&block, DATA_BITMAPS),
            block_size: claimed_size(u32_le(&block, DATA_BLOCK_SIZE).into(), 512),
        })
    }

    /// Makes sure that it is about the pool that the volume group tells of.
    pub(super) fn agrees(&self, view: View<'_>, pool: Pool) -> Result<(), Doubt> {
        let field = |field, found, expected| {
            Err(Doubt::Field {
                structure: "superblock of the thin pool",
                at: view.position(0),
                field,
                found,
                expected: Expected::Exactly(expected),
            })
        };
        let block_size = claimed_size(pool.chunk_size, 512);
        if self.block_size != block_size || block_size == 0 {
            return field("data_block_size", self.block_size, block_size);
        }
        if self.transaction_id != pool.transaction_id {
            return field("trans_id", self.transaction_id, pool.transaction_id);
        }
        Ok(())
    }
}
