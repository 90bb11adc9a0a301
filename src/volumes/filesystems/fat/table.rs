//! A FAT: an entry for every cluster, that says which one follows in the same file.

use super::boot::{Volume, Width};
use crate::error::Expected;
use crate::units::{Exact, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::heap::{FIRST, Heap, PIECE, pieces, unless_zero};
use crate::volumes::view::View;

/// What [`Doubt`] calls it.
const FAT: &str = "FAT";

/// The entry of a bad cluster. Those above it end a chain.
const BAD: u32 = 0x0fff_fff7;

/// One of the FATs of a volume. Entries are told as those of FAT32, of which the upper four bits mean nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    view: View<'a>,
    kind: Width,
    start: u64,
    heap: Heap,
}

impl<'a> Table<'a> {
    pub(super) fn new(view: View<'a>, volume: &Volume, number: u64) -> Self {
        let before = volume.fat_size.times(number);
        Self {
            view,
            kind: volume.kind,
            start: volume.fats_start.plus(before),
            heap: volume.heap,
        }
    }

    /// The number of entries, those of no cluster among them.
    fn len(self) -> u64 {
        self.heap.count.plus(FIRST)
    }

    /// Hands out all entries in pieces of 1 MiB at most, with the number of the first; but those pieces in which all
    /// are 0, and call their clusters free.
    pub(super) fn read(self, mut take: impl FnMut(u64, &[u32]) -> Result<(), Doubt>) -> Result<(), Doubt> {
        let size = self.len().times(self.kind.bits()).div_ceil(8);
        let mut entries = Vec::new();
        // No piece begins within an entry, nor within the three bytes that two entries of FAT12 share.
        for piece in pieces(size, PIECE / 24 * 24) {
            let Some(bytes) = unless_zero(self.view, FAT, self.start, &piece)? else {
                continue;
            };
            decode(self.kind, &bytes, &mut entries);
            let bits = piece.start.times(8);
            let first = bits.checked_div(self.kind.bits()).unwrap_or(0);
            entries.truncate(to_usize(self.len().minus(first)));
            take(first, &entries)?;
        }
        Ok(())
    }

    /// One entry.
    pub(super) fn entry(self, number: u64) -> Result<u32, Doubt> {
        // Two entries of FAT12 at a time.
        let pair = number.minus(number % 2);
        let at = self.start.plus(pair.times(self.kind.bits()) / 8);
        let bytes = self.view.bytes(FAT, at, self.kind.bits() / 4)?;
        let mut entries = Vec::new();
        decode(self.kind, &bytes, &mut entries);
        let index = usize::from(number % 2 == 1);
        Ok(entries.get(index).copied().unwrap_or(BAD))
    }

    /// The cluster behind another one in its chain, if it leads on. One that leads nowhere is no reason for doubt
    /// here: a chain that was not written in full.
    pub(super) fn next(self, cluster: u64) -> Result<Option<u64>, Doubt> {
        let next = u64::from(self.entry(cluster)?);
        Ok(self.heap.has(next).then_some(next))
    }

    /// Makes sure that entries say what they can: that a cluster is free or bad, the last one or which one follows.
    pub(super) fn check(self, first: u64, entries: &[u32]) -> Result<(), Doubt> {
        let is_sound = |entry: &u32| *entry == 0 || *entry >= BAD || self.heap.has(u64::from(*entry));
        // Of those in front of cluster 2 the first is checked by itself, and the second has flags.
        let skipped = if first == 0 { 2 } else { 0 };
        let mut numbered = (first..).zip(entries).skip(skipped);
        match numbered.find(|(_, entry)| !is_sound(entry)) {
            None => Ok(()),
            Some((number, entry)) => {
                Err(self.wrong(number, *entry, "free, bad, last or the number of a cluster"))
            }
        }
    }

    /// Makes sure that the first entry is the media byte, with ones above it, as all that make FATs write it.
    pub(super) fn check_media(self, media: u8) -> Result<(), Doubt> {
        let found = self.entry(0)?;
        // What is too small to be a mark is told by its own bits, as 0xff0 in FAT12.
        let width = match self.kind {
            Width::Fat12 => 0xfff,
            Width::Fat16 => 0xffff,
            Width::Fat32 => 0x0fff_ffff,
        };
        if found & width != (0x0fff_ff00 | u32::from(media)) & width {
            return Err(self.wrong(0, found, "the media byte of the boot sector, with ones above it"));
        }
        Ok(())
    }

    /// Whether it says that the volume was not unmounted, or that it has errors. FAT12 has no room for it.
    pub(super) fn is_dirty(self) -> Result<bool, Doubt> {
        let flags = match self.kind {
            Width::Fat12 => return Ok(false),
            Width::Fat16 => 0xc000,
            Width::Fat32 => 0x0c00_0000,
        };
        Ok(self.entry(1)? & flags != flags)
    }

    fn wrong(self, number: u64, found: u32, expected: &'static str) -> Doubt {
        let before = number.times(self.kind.bits()) / 8;
        Doubt::Field {
            structure: FAT,
            at: self.view.position(self.start.plus(before)),
            field: "entry",
            found: found.into(),
            expected: Expected::That(expected),
        }
    }
}

/// Turns bytes into entries: the numbers of clusters as they are, what is no number as FAT32 has it.
fn decode(kind: Width, bytes: &[u8], entries: &mut Vec<u32>) {
    entries.clear();
    match kind {
        Width::Fat12 => {
            let pairs = bytes.chunks(3).flat_map(|three| {
                let [a, b, c] = std::array::from_fn(|i| u32::from(three.get(i).copied().unwrap_or(0)));
                [a | (b & 0xf) << 8, b >> 4 | c << 4]
            });
            entries.extend(pairs.map(|entry| {
                if entry >= 0xff7 {
                    entry | 0x0fff_f000
                } else {
                    entry
                }
            }));
        }
        Width::Fat16 => {
            let (words, _) = bytes.as_chunks::<2>();
            let words = words.iter().map(|word| u32::from(u16::from_le_bytes(*word)));
            entries.extend(words.map(|entry| {
                if entry >= 0xfff7 {
                    entry | 0x0fff_0000
                } else {
                    entry
                }
            }));
        }
        Width::Fat32 => {
            let (words, _) = bytes.as_chunks::<4>();
            entries.extend(words.iter().map(|word| u32::from_le_bytes(*word) & 0x0fff_ffff));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(kind: Width, bytes: &[u8]) -> Vec<u32> {
        let mut entries = vec![1];
        decode(kind, bytes, &mut entries);
        entries
    }

    #[test]
    fn two_entries_of_fat12_share_three_bytes() {
        let entries = decoded(
            Width::Fat12,
            &[0xf8, 0xff, 0xff, 0x23, 0x61, 0x45, 0xf7, 0x5f, 0xff],
        );
        assert_eq!(
            entries,
            [0x0fff_fff8, 0x0fff_ffff, 0x123, 0x456, 0x0fff_fff7, 0xff5]
        );
    }

    #[test]
    fn the_highest_numbers_of_clusters_are_no_marks() {
        let entries = decoded(Width::Fat16, &[0xf5, 0xff, 0xf7, 0xff, 0xff, 0xff, 0, 0]);
        assert_eq!(entries, [0xfff5, 0x0fff_fff7, 0x0fff_ffff, 0]);
    }

    #[test]
    fn the_upper_four_bits_of_fat32_mean_nothing() {
        let entries = decoded(
            Width::Fat32,
            &[0, 0, 0, 0xf0, 0xf7, 0xff, 0xff, 0xff, 2, 0, 0, 0x70],
        );
        assert_eq!(entries, [0, 0x0fff_fff7, 2]);
    }
}
