//! Checksums of Btrfs.

use std::collections::BTreeSet;

use super::{Patched, crc32c};

/// Where the superblock of Btrfs is.
pub(super) const BTRFS: u64 = 64 << 10;

impl Patched<'_> {
    /// Of the superblock, and of tree blocks that were changed, if they are CRC-32C.
    pub(super) fn sum_up_btrfs(&mut self) {
        if self.u16(BTRFS + 196) != 0 {
            return;
        }
        let node = self.u32(BTRFS + 148).clamp(4096, 65536).next_power_of_two();
        let identity: [u8; 16] = self.get(BTRFS + 32);
        let changed: BTreeSet<u64> = self.sectors.keys().map(|at| at / node * node).collect();
        let is_block = |at: &u64| *at != BTRFS / node * node && self.get(*at + 32) == identity;
        let blocks: Vec<u64> = changed.into_iter().filter(is_block).collect();
        let blocks = blocks.into_iter().map(|at| (at, node));
        for (at, length) in blocks.chain([(BTRFS, 4096)]) {
            let mut bytes = vec![0; length as usize - 32];
            self.copy(&mut bytes, at + 32);
            self.put(at, &(!crc32c(u32::MAX, &bytes)).to_le_bytes());
        }
    }
}
