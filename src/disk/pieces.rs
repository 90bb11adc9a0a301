//! A disk cut into what is to be read and what is known to be zeros.

use std::ops::Range;

use super::Disk;
use crate::error::Result;
use crate::units::{claimed_end, rest_of};

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// It reads as zeros; nobody needs to look.
    pub is_hole: bool,
}

/// All of a disk in ascending order: holes of any length, and data in pieces of at most `unit` bytes that end at
/// multiples of it, or where a hole begins. After an error there are no more.
///
/// # Errors
///
/// Of a piece: those of [`Disk::next_data`].
pub fn pieces(source: &dyn Disk, unit: u64) -> impl Iterator<Item = Result<Piece>> + '_ {
    let (mut at, mut data) = (0, 0..0);
    std::iter::from_fn(move || {
        if at >= source.len() {
            return None;
        }
        if data.end <= at {
            match source.next_data(at) {
                // What is behind the last data is a hole.
                Ok(next) => data = next.unwrap_or(source.len()..source.len()),
                Err(error) => {
                    at = source.len();
                    return Some(Err(error));
                }
            }
        }
        let is_hole = at < data.start;
        let end = if is_hole {
            data.start
        } else {
            data.end.min(claimed_end(at, rest_of(at, unit)))
        };
        let range = at..end.min(source.len());
        at = end;
        Some(Ok(Piece { range, is_hole }))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Kind, Underlying};
    use crate::error::Corrupt;

    /// A disk of which only the holes are known.
    #[derive(Debug)]
    struct Sparse {
        length: u64,
        /// Ascending; they do not touch.
        data: Vec<Range<u64>>,
        /// How much is told at a time.
        told: u64,
        /// Nobody can tell what is behind that.
        fails_at: u64,
    }

    impl Sparse {
        fn new(length: u64, data: &[Range<u64>]) -> Self {
            Self {
                length,
                data: data.to_vec(),
                told: u64::MAX,
                fails_at: u64::MAX,
            }
        }

        fn is_data(&self, at: u64) -> bool {
            self.data.iter().any(|range| range.contains(&at))
        }
    }

    impl Disk for Sparse {
        fn kind(&self) -> Kind {
            Kind::RegularFile
        }

        fn len(&self) -> u64 {
            self.length
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> Result<()> {
            unreachable!("nothing is read")
        }

        fn read_sector_at(&self, _: &mut [u8], _: u64) -> Result<()> {
            unreachable!("nothing is read")
        }

        fn position(&self, at: u64) -> u64 {
            at
        }

        fn sector_size(&self) -> u64 {
            512
        }

        fn stands_on(&self) -> Vec<&Underlying> {
            Vec::new()
        }

        fn is_present(&self) -> bool {
            true
        }

        fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
            if range.start >= self.fails_at {
                return Err(Corrupt::Disappeared { at: range.start }.into());
            }
            let next = self.data.iter().find(|data| data.end > range.start);
            Ok(next.map(|data| {
                let start = data.start.max(range.start);
                start..data.end.min(claimed_end(start, self.told))
            }))
        }
    }

    fn cut(source: &Sparse, unit: u64) -> Vec<(Range<u64>, bool)> {
        let all = pieces(source, unit).map(|piece| piece.map(|piece| (piece.range, piece.is_hole)));
        all.collect::<Result<_>>().unwrap()
    }

    #[test]
    fn holes_are_whole_and_data_is_cut_at_multiples_of_the_unit() {
        let (hole, data) = (true, false);
        assert_eq!(
            cut(&Sparse::new(1000, &[30..250, 900..1000]), 100),
            [
                (0..30, hole),
                (30..100, data),
                (100..200, data),
                (200..250, data),
                (250..900, hole),
                (900..1000, data)
            ]
        );
        assert_eq!(
            cut(&Sparse::new(50, &[0..10, 20..30]), 100),
            [(0..10, data), (10..20, hole), (20..30, data), (30..50, hole)]
        );
        assert_eq!(cut(&Sparse::new(70, &[]), 64), [(0..70, hole)]);
        assert_eq!(cut(&Sparse::new(0, &[]), 64), []);
    }

    #[test]
    fn an_error_ends_them_behind_what_is_known() {
        let source = Sparse {
            fails_at: 60,
            told: 20,
            ..Sparse::new(100, &[40..90, 95..96])
        };
        let mut pieces = pieces(&source, 64);
        assert_eq!(pieces.next().unwrap().unwrap().range, 0..40);
        assert_eq!(pieces.next().unwrap().unwrap().range, 40..60);
        assert!(pieces.next().unwrap().is_err());
        assert!(pieces.next().is_none());
    }

    fn sparse() -> impl Strategy<Value = Sparse> {
        let lengths = prop::collection::vec((1_u64..40, 1_u64..40), 0..12);
        (lengths, 0_u64..30, 1_u64..60).prop_map(|(lengths, first, told)| {
            let (mut at, mut data) = (first, Vec::new());
            for (length, gap) in lengths {
                data.push(at..at + length);
                at += length + gap;
            }
            Sparse {
                told,
                ..Sparse::new(at, &data)
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pieces_are_the_disk_cut(source in sparse(), unit in 1_u64..50) {
            let mut at = 0;
            let mut was_hole = false;
            for (range, is_hole) in cut(&source, unit) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                prop_assert!(range.clone().all(|at| source.is_data(at) != is_hole), "{:?}", range);
                prop_assert!(!(was_hole && is_hole), "two holes side by side at {}", at);
                if !is_hole {
                    prop_assert_eq!(range.start / unit, (range.end - 1) / unit);
                }
                (at, was_hole) = (range.end, is_hole);
            }
            prop_assert_eq!(at, source.len());
        }
    }
}
