//! A part of a disk, which is a disk again.

use std::ops::Range;

use super::{Content, Disk, Kind, Run, Underlying};
use crate::error::{Invalid, Result};
use crate::units::{Exact, SECTOR, claimed_end};

/// Which part of a disk is wanted, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Where it begins, a multiple of 512.
    pub offset: u64,
    /// How long it is, a multiple of 512; all the rest if not given.
    pub length: Option<u64>,
}

impl Section {
    /// Offset and length of the part in a disk of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it lies outside, or is not aligned to sectors.
    pub(crate) fn within(self, size: u64) -> Result<(u64, u64), Invalid> {
        let Self { offset, length } = self;
        for (what, found) in [("offset", Some(offset)), ("length", length)] {
            if let Some(found) = found.filter(|found| !found.is_multiple_of(SECTOR)) {
                return Err(Invalid::Unaligned { what, found });
            }
        }
        // The first test holds for an empty source too, but says less.
        let rest = size.checked_sub(offset).filter(|rest| *rest > 0);
        let rest = rest.ok_or(Invalid::OffsetPastEnd { offset, size })?;
        match length {
            None => Ok((offset, rest)),
            Some(0) => Err(Invalid::LengthZero),
            Some(length) if length > rest.next_multiple_of(SECTOR) => Err(Invalid::LengthPastEnd {
                offset,
                length,
                size: size.next_multiple_of(SECTOR),
            }),
            Some(length) => Ok((offset, length.min(rest))),
        }
    }
}

/// A part of a disk: offsets count from where it begins.
#[derive(Debug)]
pub struct Part<D> {
    whole: D,
    /// Where it begins, in bytes of the whole.
    start: u64,
    /// In bytes.
    length: u64,
}

impl<D: Disk> Part<D> {
    /// A part of a disk.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the disk is empty, or the part lies outside of it or is not aligned to sectors.
    pub fn new(whole: D, section: Section) -> Result<Self, Invalid> {
        if whole.len() == 0 {
            return Err(Invalid::SourceEmpty);
        }
        let (start, length) = section.within(whole.len())?;
        Ok(Self { whole, start, length })
    }

    /// All of the disk.
    pub fn whole(&self) -> &D {
        &self.whole
    }

    /// As much of a range of the whole as lies in the part, in bytes of that: empty if nothing does.
    pub(crate) fn of_whole(&self, range: &Range<u64>) -> Range<u64> {
        let within = |at: u64| at.saturating_sub(self.start).min(self.length);
        within(range.start)..within(range.end)
    }

    fn in_whole(&self, at: u64) -> u64 {
        self.start.plus(at)
    }
}

impl<D: Disk> Disk for Part<D> {
    fn kind(&self) -> Kind {
        self.whole.kind()
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.whole.read_at(buf, self.in_whole(at))
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.whole.read_sector_at(buf, self.in_whole(at))
    }

    fn position(&self, at: u64) -> u64 {
        self.whole.position(claimed_end(self.start, at))
    }

    fn sector_size(&self) -> u64 {
        self.whole.sector_size()
    }

    fn grain(&self) -> u64 {
        self.whole.grain()
    }

    fn is_present(&self) -> bool {
        self.whole.is_present()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.whole.stands_on()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let range = range.start..range.end.min(self.length);
        if range.is_empty() {
            return Ok(None);
        }
        let data = self
            .whole
            .data_in(self.in_whole(range.start)..self.in_whole(range.end))?;
        Ok(data.map(|data| self.of_whole(&data)))
    }

    fn run_at(&self, at: u64, limit: u64) -> Result<Run> {
        // Behind the end is nothing.
        let limit = limit.min(self.length.saturating_sub(at));
        if limit == 0 {
            let (length, content) = (0, Content::Hole);
            return Ok(Run { length, content });
        }
        self.whole.run_at(self.in_whole(at), limit)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::disk::{Open, open};
    use crate::units::{to_u64, to_usize};

    const KIB: u64 = 1 << 10;

    /// A disk of a mebibyte that is a hole but for these ranges, which hold their own offsets.
    fn disk(name: &str, data: &[Range<u64>]) -> impl Disk + use<> {
        let path = std::env::temp_dir().join(format!("mkqcow2-part-{}-{name}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        for range in data {
            let bytes: Vec<u8> = range.clone().map(byte).collect();
            file.write_all_at(&bytes, range.start).unwrap();
        }
        let look = Open {
            is_for_a_look: true,
            ..Open::default()
        };
        let disk = open(&path, look).unwrap();
        fs::remove_file(path).unwrap();
        disk
    }

    fn byte(at: u64) -> u8 {
        (at / 7).to_le_bytes()[0] | 1
    }

    fn part<D: Disk>(whole: D, start: u64, end: u64) -> Part<D> {
        let (offset, length) = (start, Some(end - start));
        Part::new(whole, Section { offset, length }).unwrap()
    }

    #[test]
    fn a_part_of_a_part_counts_from_where_it_begins() {
        let whole = disk("of-part", &[64 * KIB..128 * KIB, 512 * KIB..640 * KIB]);
        // From 96 KiB to 576 KiB of the whole, so that data is cut at both ends.
        let part = part(part(whole, 32 * KIB, 768 * KIB), 64 * KIB, 544 * KIB);
        let run =
            |at, content, length| assert_eq!(part.run_at(at, u64::MAX).unwrap(), Run { length, content });

        assert_eq!(part.len(), 480 * KIB);
        assert_eq!((part.position(0), part.position(5)), (96 * KIB, 96 * KIB + 5));
        // What a structure claims.
        assert_eq!(part.position(u64::MAX - 5), u64::MAX);
        run(0, Content::Data, 32 * KIB);
        run(32 * KIB, Content::Hole, 384 * KIB);
        run(416 * KIB, Content::Data, 64 * KIB);
        run(480 * KIB, Content::Hole, 0);
        assert_eq!(part.run_at(0, 5).unwrap().length, 5);
        assert_eq!(part.next_data(32 * KIB).unwrap(), Some(416 * KIB..480 * KIB));
        assert_eq!(part.data_in(32 * KIB..400 * KIB).unwrap(), None);
        assert_eq!(
            part.data_in(32 * KIB..420 * KIB).unwrap(),
            Some(416 * KIB..420 * KIB)
        );
        assert_eq!(part.next_data(480 * KIB).unwrap(), None);

        let mut bytes = vec![0; to_usize(64 * KIB)];
        part.read_at(&mut bytes, 416 * KIB).unwrap();
        let expected = (0..to_u64(bytes.len())).map(|at| byte(512 * KIB + at));
        assert!(bytes.iter().copied().eq(expected));
    }

    #[test]
    fn only_what_lies_in_a_part_is_of_it() {
        let part = part(disk("of-whole", &[]), 512, 1024);
        assert_eq!(part.of_whole(&(600..700)), 88..188);
        assert_eq!(part.of_whole(&(0..4096)), 0..512);
        assert!(part.of_whole(&(0..512)).is_empty());
        assert!(part.of_whole(&(1024..2048)).is_empty());
    }

    fn within(offset: u64, length: Option<u64>) -> Result<(u64, u64), String> {
        Section { offset, length }
            .within(2000)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_may_end_with_the_padded_last_sector() {
        assert_eq!(within(0, None), Ok((0, 2000)));
        assert_eq!(within(512, Some(512)), Ok((512, 512)));
        assert_eq!(within(512, Some(1536)), Ok((512, 1488)));
    }

    #[test]
    fn a_part_outside_or_between_sectors_is_refused() {
        for (offset, length, says) in [
            (100, None, "offset is 100, expected a multiple of 512"),
            (0, Some(100), "length is 100, expected a multiple of 512"),
            (2048, None, "offset is 2048, expected less than the size, 2000"),
            (0, Some(0), "length is 0, there is nothing to image"),
            (
                512,
                Some(2048),
                "offset 512 and length 2048 reach past the end of the source, at 2048",
            ),
            (
                512,
                Some(u64::MAX - 511),
                "offset 512 and length 18446744073709551104 reach past the end of the source, at 2048",
            ),
        ] {
            assert_eq!(within(offset, length), Err(says.to_owned()));
        }
    }
}
