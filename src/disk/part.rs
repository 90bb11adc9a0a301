//! A part of a disk, which is a disk again.

use std::ops::Range;

use super::{Content, Disk, Kind, Run, Segments, Underlying};
use crate::error::Result;
use crate::units::{Exact, claimed_end, length, to_u64, to_usize};

/// A part of a disk: the bytes of some segments of it, one behind the other.
#[derive(Debug)]
pub struct Part<D> {
    whole: D,
    segments: Segments,
}

impl<D: Disk> Part<D> {
    /// A part of a disk, whose segments lie inside of that.
    pub fn new(whole: D, segments: Segments) -> Self {
        Self { whole, segments }
    }

    /// All of the disk.
    pub fn whole(&self) -> &D {
        &self.whole
    }

    /// Where its bytes lie in the whole.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Hands out the pieces of a buffer for the bytes from `at` on, each with its place in the whole.
    fn each(
        &self,
        buf: &mut [u8],
        at: u64,
        mut read: impl FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let mut rest = buf;
        let wanted = at..at.plus(to_u64(rest.len()));
        for range in self.segments.resolve(&wanted) {
            // No longer than what is wanted.
            let (here, behind) = rest.split_at_mut(to_usize(length(&range)));
            read(here, range.start)?;
            rest = behind;
        }
        Ok(())
    }
}

impl<D: Disk> Disk for Part<D> {
    fn kind(&self) -> Kind {
        self.whole.kind()
    }

    fn len(&self) -> u64 {
        self.segments.size()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.each(buf, at, |here, place| self.whole.read_at(here, place))
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.each(buf, at, |here, place| self.whole.read_sector_at(here, place))
    }

    fn position(&self, at: u64) -> u64 {
        let behind = at.saturating_sub(self.len());
        self.whole.position(claimed_end(self.segments.place(at), behind))
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

    fn data_in(&self, wanted: Range<u64>) -> Result<Option<Range<u64>>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut at = wanted.start;
        for range in self.segments.resolve(&wanted) {
            if let Some(data) = self.whole.data_in(range.clone())? {
                let offset = |place: u64| at.plus(place.minus(range.start));
                return Ok(Some(offset(data.start)..offset(data.end)));
            }
            at.increase(length(&range));
        }
        Ok(None)
    }

    fn run_at(&self, at: u64, limit: u64) -> Result<Run> {
        let wanted = at..claimed_end(at, limit);
        let place = self.segments.resolve(&wanted).next();
        let Some(place) = place.filter(|place| !place.is_empty()) else {
            // Behind the end is nothing.
            let (length, content) = (0, Content::Hole);
            return Ok(Run { length, content });
        };
        self.whole.run_at(place.start, length(&place))
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
        Part::new(whole, Segments::one(start..end))
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
    fn a_part_of_segments_is_read_in_their_order() {
        let whole = disk("of-segments", &[64 * KIB..128 * KIB, 512 * KIB..640 * KIB]);
        let segments = [600 * KIB..700 * KIB, 0..32 * KIB, 100 * KIB..164 * KIB];
        let part = Part::new(whole, Segments::new(segments).unwrap());
        let run = |at, limit, content, length| {
            assert_eq!(part.run_at(at, limit).unwrap(), Run { length, content });
        };

        assert_eq!(part.len(), 196 * KIB);
        run(0, u64::MAX, Content::Data, 40 * KIB);
        run(40 * KIB, u64::MAX, Content::Hole, 60 * KIB);
        run(100 * KIB, u64::MAX, Content::Hole, 32 * KIB);
        run(132 * KIB, 5, Content::Data, 5);
        run(132 * KIB, u64::MAX, Content::Data, 28 * KIB);
        run(196 * KIB, u64::MAX, Content::Hole, 0);
        assert_eq!(part.next_data(40 * KIB).unwrap(), Some(132 * KIB..160 * KIB));
        assert_eq!(part.next_data(160 * KIB).unwrap(), None);
        assert_eq!(
            (part.position(0), part.position(131 * KIB)),
            (600 * KIB, 31 * KIB)
        );
        assert_eq!(part.position(200 * KIB), 168 * KIB);

        let mut bytes = vec![0; to_usize(part.len())];
        part.read_at(&mut bytes, 0).unwrap();
        let (behind, data) = (|at: u64| byte(600 * KIB + at), |at: u64| byte(100 * KIB + at));
        let expected = (0..40 * KIB).map(behind).chain((0..92 * KIB).map(|_| 0));
        let expected = expected.chain((0..28 * KIB).map(data));
        assert!(
            bytes
                .iter()
                .copied()
                .zip(expected)
                .all(|(found, expected)| found == expected)
        );
    }
}
