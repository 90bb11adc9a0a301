//! A disk as it is once some bytes of it are changed.

use std::ops::Range;

use crate::disk::{Disk, Kind, Underlying};
use crate::error::Result;
use crate::units::{Exact, to_u64, to_usize};

/// A disk, perhaps of another size, with other bytes in some places.
#[derive(Debug)]
pub(super) struct Patched<'a> {
    pub(super) disk: &'a dyn Disk,
    /// Where, in bytes of the disk, and what. All lie in front of its end.
    pub(super) patches: &'a [(u64, Vec<u8>)],
    /// In bytes. What is behind the end of the disk itself is zeros.
    pub(super) size: u64,
}

impl Patched<'_> {
    /// Fills `buf` by `read`, as far as the disk has that, and puts the patches over it.
    fn fill(&self, buf: &mut [u8], at: u64, read: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        let there = self.disk.len().saturating_sub(at).min(to_u64(buf.len()));
        let (own, behind) = buf.split_at_mut(to_usize(there));
        behind.fill(0);
        if !own.is_empty() {
            read(own)?;
        }
        let end = at.plus(to_u64(buf.len()));
        for (start, bytes) in self.patches {
            let patch = *start..start.plus(to_u64(bytes.len()));
            let common = patch.start.clamp(at, end)..patch.end.clamp(at, end);
            if common.is_empty() {
                continue;
            }
            let within = |from: u64| to_usize(common.start.minus(from))..to_usize(common.end.minus(from));
            if let (Some(to), Some(from)) = (buf.get_mut(within(at)), bytes.get(within(*start))) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

impl Disk for Patched<'_> {
    fn kind(&self) -> Kind {
        self.disk.kind()
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.fill(buf, at, |own| self.disk.read_at(own, at))
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.fill(buf, at, |own| self.disk.read_sector_at(own, at))
    }

    fn position(&self, at: u64) -> u64 {
        self.disk.position(at)
    }

    fn sector_size(&self) -> u64 {
        self.disk.sector_size()
    }

    fn is_present(&self) -> bool {
        self.disk.is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.disk.stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        Ok((!range.is_empty()).then_some(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn patches_lie_over_the_disk_and_behind_its_end() {
        let mut disk = MemoryDisk::new(16);
        disk.put(0, &[1; 16]);
        let patched = Patched {
            disk: &disk,
            patches: &[(2, vec![7, 8]), (14, vec![9; 4])],
            size: 24,
        };
        let mut read = [5; 20];
        patched.read_at(&mut read, 3).unwrap();
        assert_eq!(read[..2], [8, 1]);
        assert_eq!(read[10..17], [1, 9, 9, 9, 9, 0, 0]);
    }
}
