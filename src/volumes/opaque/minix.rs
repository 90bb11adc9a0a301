//! minix: its superblock is where that of ext4 is, and its signature so short that others look like it by chance: the
//! UUID of a swap area, that of a partition in a GPT. Source: Linux, `minix_fs.h`; fsck.minix(8).

use crate::units::Exact;
use crate::volumes::answer::Answer;
use crate::volumes::edges::Edges;
use crate::volumes::fields::{u16_be, u16_le, u32_be, u32_le};

const SUPERBLOCK: u64 = 1024;

/// The magics of versions 1 and 2, each with short and long names, and of version 3.
const VERSION_1: [u16; 2] = [0x137f, 0x138f];
const VERSION_2: [u16; 2] = [0x2468, 0x2478];
const VERSION_3: u16 = 0x4d5a;

/// Zones of more blocks than two to the power of this were never made.
const MAX_LOG_ZONE_SIZE: u16 = 3;

/// Whether a stretch holds a minix, in either byte order.
pub(super) fn is(edges: &Edges<'_>) -> Answer {
    let Some(bytes) = edges.bytes(SUPERBLOCK, 64)? else {
        return Ok(false);
    };
    let is_ext = u16_le(&bytes, 56) == 0xef53;
    let orders: [Order; 2] = [(u16_le, u32_le), (u16_be, u32_be)];
    let is_sound = |order| Superblock::of(&bytes, order).is_some_and(|superblock| superblock.is_sound());
    Ok(!is_ext && orders.into_iter().any(is_sound))
}

/// What reads numbers of 16 and of 32 bits.
type Order = (fn(&[u8], usize) -> u16, fn(&[u8], usize) -> u32);

/// What a superblock says, whatever its version. Sizes of blocks in bytes.
#[derive(Debug)]
struct Superblock {
    inodes: u64,
    zones: u64,
    inode_map_blocks: u64,
    zone_map_blocks: u64,
    first_zone: u64,
    log_zone_size: u16,
    block_size: u64,
    /// Bits 0 and 1: it was unmounted, it has errors. Others have no meaning.
    state: u16,
}

impl Superblock {
    /// None if they do not have the magic of one.
    fn of(bytes: &[u8], (u16_at, u32_at): Order) -> Option<Self> {
        let word = |at| u64::from(u16_at(bytes, at));
        let long = |at| u64::from(u32_at(bytes, at));
        let magic = u16_at(bytes, 16);
        let is_second = VERSION_2.contains(&magic);
        if is_second || VERSION_1.contains(&magic) {
            return Some(Self {
                inodes: word(0),
                zones: if is_second { long(20) } else { word(2) },
                inode_map_blocks: word(4),
                zone_map_blocks: word(6),
                first_zone: word(8),
                log_zone_size: u16_at(bytes, 10),
                block_size: 1024,
                state: u16_at(bytes, 18),
            });
        }
        (u16_at(bytes, 24) == VERSION_3).then(|| Self {
            inodes: long(0),
            zones: long(20),
            inode_map_blocks: word(6),
            zone_map_blocks: word(8),
            first_zone: word(10),
            log_zone_size: u16_at(bytes, 12),
            block_size: word(28).max(1024),
            state: 0,
        })
    }

    /// Whether its maps have a bit for all that they speak of.
    fn is_sound(&self) -> bool {
        let bits = self.block_size.times(8);
        self.state & !3 == 0
            && self.log_zone_size <= MAX_LOG_ZONE_SIZE
            && self.inodes != 0
            && self.inode_map_blocks.times(bits) > self.inodes
            && self.first_zone <= self.zones
            && self.zone_map_blocks.times(bits) > self.zones.minus(self.first_zone)
    }
}
