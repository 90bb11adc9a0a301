//! What a scheme may read: a stretch of the source, and nothing outside of it.

use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::answer::Answer;
use super::doubt::Doubt;
use crate::disk::{Disk, Kind, Part, Segments};
use crate::error::Error;
use crate::units::{Exact, claimed_end, length, to_u64, to_usize};

/// How much is read into memory in one go at most, in bytes: whatever a structure claims.
const MAX_READ: u64 = 16 << 20;

/// What messages call bytes that tell what something is.
pub(super) const SIGNATURE: &str = "signature";

/// A stretch of a source that is looked into: all of it, or a partition. Offsets count from its beginning, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    source: &'a dyn Disk,
    start: u64,
    length: u64,
}

impl<'a> View<'a> {
    /// All of a source.
    pub(super) fn of(source: &'a dyn Disk) -> Self {
        Self {
            source,
            start: 0,
            length: source.len(),
        }
    }

    /// A part of it, all of which must be there.
    pub(super) fn part(self, structure: &'static str, range: &Range<u64>) -> Result<Self, Doubt> {
        let length = length(range);
        self.holds(structure, range.start, length)?;
        Ok(Self {
            source: self.source,
            start: self.start.plus(range.start),
            length,
        })
    }

    /// Looks into a volume of it.
    ///
    /// # Errors
    ///
    /// A [`Doubt`] if not all of it lies inside.
    pub(super) fn with_volume<T>(
        self,
        segments: &Segments,
        look: impl FnOnce(View<'_>) -> T,
    ) -> Result<T, Doubt> {
        let mut ranges = segments.ranges();
        if let (Some(range), None) = (ranges.next(), ranges.next()) {
            return Ok(look(self.part("partition", range)?));
        }
        for range in segments.ranges() {
            self.holds("volume", range.start, length(range))?;
        }
        let segments = Segments::one(self.range()).within(segments);
        Ok(look(View::of(&Part::new(self.source, segments))))
    }

    /// Its length.
    pub(super) fn len(self) -> u64 {
        self.length
    }

    /// Its bytes as those of the disk.
    fn range(self) -> Range<u64> {
        self.start..self.start.plus(self.length)
    }

    /// The size of a sector, if the source is a device: a file does not tell that of the disk it was copied from.
    pub(super) fn sector_size(self) -> Option<u64> {
        (self.source.kind() == Kind::BlockDevice).then(|| self.source.sector_size())
    }

    /// Where byte `at` lies in the underlying file or device, which is what messages are about. It may be a claim.
    pub(super) fn position(self, at: u64) -> u64 {
        self.source.position(claimed_end(self.start, at))
    }

    /// Makes sure that all of a structure lies inside.
    pub(super) fn holds(self, structure: &'static str, at: u64, length: u64) -> Result<(), Doubt> {
        let end = claimed_end(at, length);
        if end <= self.length {
            return Ok(());
        }
        Err(Doubt::PastEnd {
            structure,
            at: self.position(at),
            end: self.position(end),
            limit: self.position(self.length),
        })
    }

    /// Fills `buf` with the bytes from `at` on.
    pub(super) fn read(self, structure: &'static str, buf: &mut [u8], at: u64) -> Result<(), Doubt> {
        self.holds(structure, at, to_u64(buf.len()))?;
        let start = self.start.plus(at);
        self.source
            .read_at(buf, start)
            .or_else(|_| self.read_by_sector(buf, start))
            .map_err(|error| Doubt::Unreadable {
                structure,
                at: self.position(at),
                error: Box::new(error),
            })
    }

    /// Fills `buf` with the bytes of the source from `at` on, whatever the state of the bytes around them: through the
    /// cache, a bad sector fails with all of its page.
    fn read_by_sector(self, buf: &mut [u8], at: u64) -> Result<(), Error> {
        let sector_size = self.source.sector_size();
        let mut sector = vec![0; to_usize(sector_size)];
        let (mut rest, mut at) = (buf, at);
        while !rest.is_empty() {
            // Whole ones only: the system refuses others.
            let into = self
                .source
                .position(at)
                .checked_rem(sector_size)
                .unwrap_or(0)
                .min(at);
            let start = at.minus(into);
            let length = sector_size.min(self.source.len().minus(start));
            let sector = sector.get_mut(..to_usize(length)).unwrap_or_default();
            self.source.read_sector_at(sector, start)?;
            let wanted = sector.iter().skip(to_usize(into));
            let length = wanted.len().clamp(1, rest.len());
            let (here, behind) = rest.split_at_mut(length);
            for (byte, wanted) in here.iter_mut().zip(wanted) {
                *byte = *wanted;
            }
            (rest, at) = (behind, at.plus(to_u64(length)));
        }
        Ok(())
    }

    /// The `length` bytes from `at` on, of which there may be no more than 16 MiB.
    pub(super) fn bytes(self, structure: &'static str, at: u64, length: u64) -> Result<Vec<u8>, Doubt> {
        self.holds(structure, at, length)?;
        if length > MAX_READ {
            return Err(Doubt::TooMany {
                what: "bytes in one structure",
                limit: MAX_READ,
            });
        }
        let mut bytes = vec![0; to_usize(length)];
        self.read(structure, &mut bytes, at)?;
        Ok(bytes)
    }

    /// Whether a range inside is known to be a hole, all of it, so that it need not be read.
    pub(super) fn is_hole(self, range: &Range<u64>) -> bool {
        if range.end > self.length {
            return false;
        }
        let (start, end) = (self.start.plus(range.start), self.start.plus(range.end));
        match self.source.next_data(start) {
            Ok(data) => data.is_none_or(|data| data.start >= end),
            Err(_) => false,
        }
    }

    /// A structure that begins at `at`.
    pub(super) fn structure<T: FromBytes + IntoBytes>(
        self,
        structure: &'static str,
        at: u64,
    ) -> Result<T, Doubt> {
        let mut value = T::new_zeroed();
        self.read(structure, value.as_mut_bytes(), at)?;
        Ok(value)
    }

    /// Whether `bytes` are what stands at `at`. Behind the end stands nothing.
    pub(super) fn has(self, at: u64, bytes: &[u8]) -> Answer {
        let mut found = vec![0; bytes.len()];
        Ok(self.is_there(at, to_u64(bytes.len())) && {
            self.read(SIGNATURE, &mut found, at)?;
            found == bytes
        })
    }

    /// Whether a structure that begins at `at`, where a signature would be, is such as is looked for.
    pub(super) fn looks<T: FromBytes + IntoBytes>(self, at: u64, like: impl FnOnce(&T) -> bool) -> Answer {
        Ok(self.is_there(at, to_u64(size_of::<T>())) && like(&self.structure(SIGNATURE, at)?))
    }

    /// Whether so many bytes from `at` on lie in front of the end.
    pub(super) fn is_there(self, at: u64, length: u64) -> bool {
        claimed_end(at, length) <= self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn a_claim_past_64_bits_lies_outside_wherever_the_stretch_begins() {
        let disk = MemoryDisk::new(64 << 10);
        let view = View::of(&disk).part("partition", &(4096..8192)).unwrap();
        for at in [u64::MAX, u64::MAX - 511, u64::MAX - 4096] {
            assert!(!view.is_there(at, 512));
            let Err(Doubt::PastEnd {
                at: told, end, limit, ..
            }) = view.bytes("structure", at, 512)
            else {
                panic!("{at:#x} is read");
            };
            assert_eq!((told, end, limit), (u64::MAX, u64::MAX, 8192));
        }
        assert!(!view.is_hole(&(0..u64::MAX)));
    }
}
