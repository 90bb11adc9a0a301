//! The FATs of exFAT, which tell less than the bitmap: the chains of those files that do not lie in one piece, and
//! anything of all other clusters.

use super::boot::Volume;
use crate::error::Expected;
use crate::units::{Exact, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::heap::{FIRST, Heap, PIECE, pieces, unless_zero};
use crate::volumes::view::View;

/// What [`Doubt`] calls it.
const FAT: &str = "exFAT FAT";

/// The entry of the last cluster of a chain.
const LAST: u32 = 0xffff_ffff;

/// One of the FATs of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    view: View<'a>,
    start: u64,
    heap: Heap,
}

impl<'a> Table<'a> {
    pub(super) fn new(view: View<'a>, volume: &Volume, number: u64) -> Self {
        let before = volume.fat_size.times(number);
        Self {
            view,
            start: volume.fats_start.plus(before),
            heap: volume.heap,
        }
    }

    fn offset(self, number: u64) -> u64 {
        self.start.plus(number.times(4))
    }

    fn entry(self, number: u64) -> Result<u32, Doubt> {
        let mut bytes = [0; 4];
        self.view.read(FAT, &mut bytes, self.offset(number))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Makes sure that it begins as all do.
    pub(super) fn check_media(self) -> Result<(), Doubt> {
        match self.entry(0)? {
            0xffff_fff8 => Ok(()),
            found => Err(self.wrong(0, found, Expected::Exactly(0xffff_fff8))),
        }
    }

    /// The cluster behind another one in its chain.
    pub(super) fn next(self, cluster: u64) -> Result<Option<u64>, Doubt> {
        match self.entry(cluster)? {
            LAST => Ok(None),
            next if self.heap.has(next.into()) => Ok(Some(next.into())),
            found => {
                let expected = Expected::That("the last one or the number of a cluster");
                Err(self.wrong(cluster, found, expected))
            }
        }
    }

    /// A chain that has to be `count` clusters long.
    pub(super) fn chain(self, first: u64, count: u64) -> Result<Vec<u64>, Doubt> {
        let mut chain = Vec::new();
        let mut next = Some(first);
        for _ in 0..count {
            let Some(cluster) = next else { break };
            if !self.heap.has(cluster) {
                let expected = Expected::That("the number of a cluster");
                return Err(Doubt::Field {
                    structure: "exFAT directory entry",
                    at: self.view.position(self.heap.start),
                    field: "FirstCluster",
                    found: cluster,
                    expected,
                });
            }
            chain.push(cluster);
            next = self.next(cluster)?;
        }
        // One that goes on may go in circles.
        if next.is_some() || to_u64(chain.len()) != count {
            return Err(Doubt::State("a system file is not as long as its cluster chain"));
        }
        Ok(chain)
    }

    /// Hands out all entries that are not 0, with the numbers of their clusters.
    pub(super) fn read(self, mut take: impl FnMut(u64, u64)) -> Result<(), Doubt> {
        let first = self.offset(FIRST);
        for piece in pieces(self.heap.count.times(4), PIECE) {
            let Some(bytes) = unless_zero(self.view, FAT, first, &piece)? else {
                continue;
            };
            let (entries, _) = bytes.as_chunks::<4>();
            let numbers = (piece.start / 4).plus(FIRST)..;
            for (number, entry) in numbers.zip(entries).filter(|(_, entry)| **entry != [0; 4]) {
                take(number, u32::from_le_bytes(*entry).into());
            }
        }
        Ok(())
    }

    fn wrong(self, number: u64, found: u32, expected: Expected) -> Doubt {
        Doubt::Field {
            structure: FAT,
            at: self.view.position(self.offset(number)),
            field: "entry",
            found: found.into(),
            expected,
        }
    }
}
