//! From the block bitmaps to the map: every bitmap is held against its checksum, its count, and the tables that lie
//! in its group.

use std::ops::Range;

use super::blocks::Blocks;
use super::faults::Structure;
use super::features::ro_compat;
use super::fixed::{Collector, Fixed};
use super::groups::{self, Group};
use super::superblock::Superblock;
use crate::units::{Exact, length, to_u64, to_usize};
use crate::volumes::builder::MapBuilder;
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::bits;
use crate::volumes::map::{AllocationMap, Reason};

/// How much of bitmaps that stand side by side is read in one go, in bytes.
const AT_ONCE: u64 = 1 << 20;

/// What of a filesystem is in use by its bitmaps, and its groups.
///
/// # Errors
///
/// A [`Doubt`] for the first bitmap, descriptor or count that does not fit the others.
pub(super) fn map(
    superblock: &Superblock,
    blocks: &Blocks<'_>,
) -> Result<(AllocationMap, Vec<Group>), Doubt> {
    let mut groups = Vec::with_capacity(to_usize(superblock.groups_count));
    let mut fixed = Collector::default();
    groups::each(superblock, blocks, |group, state, tables| {
        groups.push(state);
        fixed.add(superblock, group, tables)
    })?;
    let mut mapper = Mapper {
        superblock,
        blocks,
        fixed: fixed.finish(superblock.mmp_block)?,
        map: MapBuilder::all_free(superblock.size()),
        free_clusters: 0,
    };
    mapper.push(0..superblock.first_data_block);
    mapper
        .map
        .metadata(bytes(superblock, &(0..superblock.first_data_block)));
    mapper.groups(&groups)?;
    if !blocks.are_replayed() {
        // A journal does not cover the count of the superblock: it is right once all is clean, and only then.
        let counted = mapper.free_clusters.times(superblock.cluster_blocks);
        same("free blocks", superblock.free_blocks_count, counted)?;
    }
    Ok((mapper.map.build(), groups))
}

fn same(what: &'static str, recorded: u64, counted: u64) -> Result<(), Doubt> {
    if recorded == counted {
        return Ok(());
    }
    Err(Doubt::Count {
        what,
        recorded,
        counted,
    })
}

/// Adds one group after the other to the map.
struct Mapper<'a> {
    superblock: &'a Superblock,
    blocks: &'a Blocks<'a>,
    fixed: Fixed,
    map: MapBuilder,
    free_clusters: u64,
}

impl Mapper<'_> {
    fn groups(&mut self, groups: &[Group]) -> Result<(), Doubt> {
        let block_size = self.superblock.block_size;
        let most = to_usize(AT_ONCE.checked_div(block_size).unwrap_or(1));
        let mut number = 0;
        let mut read = Vec::new();
        let together = |one: &Group, next: &Group| {
            one.bitmap.map(|block| block.plus(1)) == next.bitmap || next.bitmap.is_none()
        };
        for run in groups.chunk_by(together).flat_map(|run| run.chunks(most)) {
            let written = run.iter().take_while(|group| group.bitmap.is_some()).count();
            read.resize(to_usize(to_u64(written).times(block_size)), 0);
            if let Some(first) = run.first().and_then(|group| group.bitmap) {
                self.blocks.read("block bitmap", first, &mut read)?;
            }
            let mut bitmaps = read.chunks_mut(to_usize(block_size));
            for group in run {
                match (group.bitmap, bitmaps.next()) {
                    (Some(block), Some(bits)) => self.written(number, group, block, bits)?,
                    (Some(_), None) => return Err(Doubt::State("one of its bitmaps is missing")),
                    (None, _) => self.unwritten(number, group)?,
                }
                number.increase(1);
            }
        }
        Ok(())
    }

    /// Adds a group that has a bitmap.
    fn written(&mut self, number: u64, group: &Group, block: u64, bits: &mut [u8]) -> Result<(), Doubt> {
        let superblock = self.superblock;
        let place = Structure {
            name: "block bitmap",
            at: self.blocks.position(block),
        };
        self.checksum(group, bits, place)?;
        let count = superblock.clusters_of(number);
        let free = count.minus(bits::ones(bits, count));
        same("free clusters of a group", group.free_clusters.into(), free)?;
        let padding = count..superblock.clusters_per_group;
        if !masks(&padding).all(|(byte, mask)| is_set(bits, byte, mask)) {
            return Err(Doubt::State(
                "a bitmap marks blocks past the end of the filesystem as free",
            ));
        }
        for fixed in self.fixed.within(superblock.blocks_of(number)) {
            self.map.metadata(bytes(superblock, &fixed));
            if !masks(&clusters(superblock, &fixed)).all(|(byte, mask)| is_set(bits, byte, mask)) {
                return Err(Doubt::State("a bitmap marks blocks of tables or bitmaps as free"));
            }
        }
        self.join_with_disk(number, block, bits)?;
        self.add(number, bits);
        Ok(())
    }

    /// Adds a group whose bitmap was never written: only what is always in use is in use there.
    fn unwritten(&mut self, number: u64, group: &Group) -> Result<(), Doubt> {
        let superblock = self.superblock;
        let count = superblock.clusters_of(number);
        let mut bits = Vec::new();
        for fixed in self.fixed.within(superblock.blocks_of(number)) {
            self.map.metadata(bytes(superblock, &fixed));
            bits.resize(to_usize(count.div_ceil(8)), 0);
            for (byte, mask) in masks(&clusters(superblock, &fixed)) {
                if let Some(byte) = bits.get_mut(byte) {
                    *byte |= mask;
                }
            }
        }
        let free = count.minus(bits::ones(&bits, count));
        same(
            "free clusters of a group without a bitmap",
            group.free_clusters.into(),
            free,
        )?;
        self.add(number, &bits);
        Ok(())
    }

    fn checksum(&self, group: &Group, bits: &[u8], place: Structure) -> Result<(), Doubt> {
        let superblock = self.superblock;
        if !superblock.features.ro_compat(ro_compat::METADATA_CSUM) {
            return Ok(());
        }
        let covered = bits
            .get(..to_usize(superblock.clusters_per_group / 8))
            .unwrap_or(bits);
        let expected = crc32c(superblock.checksum_seed, covered);
        let half = superblock.descriptor_size < 64;
        let expected = if half { expected & 0xffff } else { expected };
        place.has_checksum(group.bitmap_checksum, expected)
    }

    /// If the journal changes a bitmap: what is in use on the disk as well stays so. A group that has no bitmap there
    /// yet, or another one, is as the journal says.
    fn join_with_disk(&self, number: u64, block: u64, bits: &mut [u8]) -> Result<(), Doubt> {
        if !self.blocks.replayed(block, |_| ())? {
            return Ok(());
        }
        let disk = self.blocks.without_replay();
        let group = groups::state_of(self.superblock, &disk, number);
        if group.is_ok_and(|group| group.bitmap == Some(block)) {
            let mut before = vec![0; bits.len()];
            disk.read("block bitmap", block, &mut before)?;
            for (bits, before) in bits.iter_mut().zip(before) {
                *bits |= before;
            }
        }
        Ok(())
    }

    /// Adds what is in use by the bitmap of a group, zeros behind its end.
    fn add(&mut self, number: u64, bits: &[u8]) {
        let superblock = self.superblock;
        let blocks = superblock.blocks_of(number);
        let count = superblock.clusters_of(number);
        let mut used = 0_u64;
        for run in bits::runs(bits, count) {
            used.increase(length(&run));
            let block = |cluster: u64| {
                let block = cluster.times(superblock.cluster_blocks);
                block.plus(blocks.start).min(blocks.end)
            };
            self.push(block(run.start)..block(run.end));
        }
        let free = count.minus(used);
        self.free_clusters.increase(free);
    }

    fn push(&mut self, blocks: Range<u64>) {
        self.map.used(bytes(self.superblock, &blocks), Reason::Mapped);
    }
}

/// Blocks in bytes.
fn bytes(superblock: &Superblock, blocks: &Range<u64>) -> Range<u64> {
    let byte = |block: u64| block.times(superblock.block_size);
    byte(blocks.start)..byte(blocks.end)
}

/// The clusters of their group that blocks lie in, those in part as well.
fn clusters(superblock: &Superblock, blocks: &Range<u64>) -> Range<u64> {
    let last = superblock.cluster_of(blocks.end.minus(1));
    superblock.cluster_of(blocks.start)..last.plus(1)
}

/// The bytes that hold bits, and which of theirs.
fn masks(bits: &Range<u64>) -> impl Iterator<Item = (usize, u8)> + use<> {
    let (start, end) = (bits.start, bits.end);
    (start / 8..end.div_ceil(8)).map(move |byte| {
        let first = byte.times(8);
        // Those that begin or end in front of the byte have 0 bits less of it.
        let from = start.saturating_sub(first).min(8);
        let to = end.saturating_sub(first).min(8);
        let below = |bit: u64| 0xff_u16.checked_shl(u32::try_from(bit).unwrap_or(8)).unwrap_or(0);
        let [mask, _] = (below(from) & !below(to)).to_le_bytes();
        (to_usize(byte), mask)
    })
}

fn is_set(bits: &[u8], byte: usize, mask: u8) -> bool {
    bits.get(byte).is_some_and(|byte| byte & mask == mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn masks_cover_the_bits_and_no_others(one in 0_u64..200, other in 0_u64..200) {
            let (start, end) = (one.min(other), one.max(other));
            let mut bits = vec![0_u8; 32];
            for (byte, mask) in masks(&(start..end)) {
                bits[byte] |= mask;
            }
            let expected = (start < end).then_some(start..end);
            proptest::prop_assert_eq!(bits::runs(&bits, 256).collect::<Vec<_>>(), Vec::from_iter(expected));
        }
    }
}
