//! The blocks that are in use whatever a bitmap says: superblocks, group descriptors, bitmaps, inode tables.

use std::ops::Range;

use super::groups::Tables;
use super::superblock::Superblock;
use crate::units::Exact;
use crate::volumes::doubt::Doubt;

/// How many stretches of such blocks there may be: 16 MiB of them. Tables that stand side by side are one.
const MAX_STRETCHES: usize = 1 << 20;

/// How many kinds of them there are in a group, each of which may continue that of the group before.
const OPEN: usize = 4;

/// Collects them in the order of the groups.
#[derive(Debug, Default)]
pub(super) struct Collector {
    stretches: Vec<Range<u64>>,
    /// Those that may still grow; the one that grew last comes last.
    open: Vec<Range<u64>>,
}

impl Collector {
    /// Adds what a group has, and what it has for others.
    pub(super) fn add(&mut self, superblock: &Superblock, group: u64, tables: Tables) -> Result<(), Doubt> {
        self.push(superblock.front_matter(group))?;
        self.push(one(tables.block_bitmap))?;
        self.push(one(tables.inode_bitmap))?;
        self.push(tables.inode_table)
    }

    fn push(&mut self, range: Range<u64>) -> Result<(), Doubt> {
        if range.is_empty() {
            return Ok(());
        }
        let continued = self.open.iter().position(|open| open.end == range.start);
        let grown = match continued.map(|index| self.open.remove(index)) {
            Some(open) => open.start..range.end,
            None => range,
        };
        self.open.push(grown);
        if self.open.len() > OPEN {
            self.stretches.push(self.open.remove(0));
        }
        if self.stretches.len() > MAX_STRETCHES {
            let (what, limit) = ("stretches of metadata", crate::units::to_u64(MAX_STRETCHES));
            return Err(Doubt::TooMany { what, limit });
        }
        Ok(())
    }

    /// All of them, and the block of multiple mount protection, if there is one.
    ///
    /// # Errors
    ///
    /// A [`Doubt`] if two of them share a block.
    pub(super) fn finish(mut self, mmp_block: Option<u64>) -> Result<Fixed, Doubt> {
        self.stretches.append(&mut self.open);
        self.stretches.extend(mmp_block.map(one));
        self.stretches.sort_unstable_by_key(|stretch| stretch.start);
        let overlap = |pair: &[Range<u64>]| matches!(pair, [one, next] if next.start < one.end);
        if self.stretches.windows(2).any(overlap) {
            return Err(Doubt::State(
                "two of its tables or bitmaps lie in the same blocks",
            ));
        }
        Ok(Fixed {
            stretches: self.stretches,
            next: 0,
        })
    }
}

fn one(block: u64) -> Range<u64> {
    block..block.plus(1)
}

/// All of them, ascending.
#[derive(Debug)]
pub(super) struct Fixed {
    stretches: Vec<Range<u64>>,
    /// The first one that does not end before what was asked for last.
    next: usize,
}

impl Fixed {
    /// Those in `blocks`, which begin behind what was asked for before.
    pub(super) fn within(&mut self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let rest = self.stretches.get(self.next..).unwrap_or_default();
        let passed = rest
            .iter()
            .take_while(|stretch| stretch.end <= blocks.start)
            .count();
        self.next.increase(passed);
        let (start, end) = (blocks.start, blocks.end);
        self.stretches
            .get(self.next..)
            .unwrap_or_default()
            .iter()
            .take_while(move |stretch| stretch.start < end)
            .map(move |stretch| stretch.start.max(start)..stretch.end.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(fixed: &mut Fixed, blocks: Range<u64>) -> Vec<(u64, u64)> {
        let found = fixed.within(blocks);
        found.map(|stretch| (stretch.start, stretch.end)).collect()
    }

    #[test]
    fn tables_of_a_flexible_group_are_a_few_stretches() {
        let mut collector = Collector::default();
        for flex in (0..10_u64).map(|flex| flex * 10_000) {
            for group in 0..16 {
                collector.push(one(flex + 100 + group)).unwrap();
                collector.push(one(flex + 116 + group)).unwrap();
                collector
                    .push(flex + 132 + group * 64..flex + 132 + group * 64 + 64)
                    .unwrap();
            }
        }
        assert_eq!(collector.stretches.len() + collector.open.len(), 30);
        let mut fixed = collector.finish(Some(7)).unwrap();
        assert_eq!(within(&mut fixed, 0..50), [(7, 8)]);
        assert_eq!(within(&mut fixed, 50..110), [(100, 110)]);
        assert_eq!(within(&mut fixed, 110..140), [(110, 116), (116, 132), (132, 140)]);
        assert_eq!(fixed.within(5_000..6_000).count(), 0);
        assert_eq!(within(&mut fixed, 90_000..90_101), [(90_100, 90_101)]);
    }

    #[test]
    fn tables_do_not_overlap() {
        let mut collector = Collector::default();
        for range in [10..20, 30..40, 19..21] {
            collector.push(range).unwrap();
        }
        assert!(collector.finish(None).is_err());
    }
}
