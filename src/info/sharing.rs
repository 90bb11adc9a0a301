//! What it saves that equal clusters share one compressed stream.

use super::Allocation;
use crate::error::Result;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::mapping::Stream;
use crate::smallest::Smallest;
use crate::units::{Exact, HostOffset, SECTOR, to_usize};

/// How many streams are kept in memory at most: 64 MiB of them.
const ROOM: usize = 8 << 20;

/// The compressed clusters that have no stream of their own: another one has the same.
///
/// Of clusters that share a stream, all but one are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// How many there are.
    pub clusters: u64,
    /// How many bytes of the image they would take, each up to the end of its last sector: where in that sector a
    /// stream ends is not recorded.
    pub bytes: u64,
}

impl Sharing {
    /// Counts the streams of the active state that are shared, of which the allocation has been counted.
    ///
    /// The tables are read not at all if nothing is compressed, and once for every 6 to 8 million streams.
    ///
    /// # Errors
    ///
    /// Those of [`Image::run_at`].
    pub fn of(image: &Image, allocation: Allocation) -> Result<Self> {
        if allocation.compressed == 0 {
            return Ok(Self::default());
        }
        let room = ROOM.min(to_usize(allocation.compressed).plus(1));
        Self::among(|| image.streams(image.active()), Packing::of(image), room)
    }

    /// Every walk gives the same streams. `room` is 4 at least, or for all.
    fn among<I>(walk: impl Fn() -> I, packing: Packing, room: usize) -> Result<Self>
    where
        I: Iterator<Item = Result<Stream>>,
    {
        let (mut all, mut distinct) = (Self::default(), Self::default());
        let mut smallest = Smallest::new(room);
        for stream in walk() {
            let stream = stream?;
            all.add(stream);
            smallest.put(packing.pack(stream));
        }
        loop {
            for number in smallest.sorted() {
                distinct.add(packing.unpack(*number));
            }
            if !smallest.go_on() {
                break;
            }
            for stream in walk() {
                smallest.put(packing.pack(stream?));
            }
        }
        // None if another program has changed the tables between two walks, so that the second met more than the first.
        Ok(Self {
            clusters: all.clusters.saturating_sub(distinct.clusters),
            bytes: all.bytes.saturating_sub(distinct.bytes),
        })
    }

    fn add(&mut self, stream: Stream) {
        self.clusters.increase(1);
        self.bytes.increase(stream.length);
    }
}

/// Streams as numbers, as an L2 entry has them: 62 bits are enough for offset and sectors, whatever the cluster
/// size.
#[derive(Clone, Copy, Debug)]
struct Packing {
    /// What the number of further sectors takes.
    bits: u32,
    /// Where the file ends, and with it the last stream at the latest.
    end: u64,
}

impl Packing {
    fn of(image: &Image) -> Self {
        Self {
            // At least 1: a cluster has 9 to 21.
            bits: image.header().geometry().cluster().bits().minus(8),
            end: image.file().length(),
        }
    }

    fn pack(self, stream: Stream) -> u64 {
        // No stream is empty.
        let last = stream.at + stream.length.minus(1);
        let further = (last.0 / SECTOR).minus(stream.at.0 / SECTOR);
        stream.at.0 << self.bits | further
    }

    fn unpack(self, number: u64) -> Stream {
        let at = number >> self.bits;
        let further = number & !(u64::MAX << self.bits);
        let sectors = (at / SECTOR).plus(further).plus(1);
        let end = sectors.times(SECTOR).min(self.end);
        Stream {
            at: HostOffset(at),
            length: end.minus(at),
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a sum that overflows fails the test"
)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Corrupt;

    const PACKING: Packing = Packing {
        bits: 8,
        end: 1 << 40,
    };

    /// From `at` on, over so many sectors.
    fn stream(at: u64, sectors: u64) -> Stream {
        Stream {
            at: HostOffset(at),
            length: sectors * SECTOR - at % SECTOR,
        }
    }

    /// What is shared, and how many walks it took.
    fn shared(streams: &[Stream], room: usize) -> (Sharing, usize) {
        let walks = Cell::new(0);
        let walk = || {
            walks.set(walks.get() + 1);
            streams.iter().copied().map(Ok)
        };
        (Sharing::among(walk, PACKING, room).unwrap(), walks.get())
    }

    fn in_a_map(streams: &[Stream]) -> Sharing {
        let mut count = BTreeMap::new();
        for stream in streams {
            *count.entry((stream.at.0, stream.length)).or_insert(0) += 1;
        }
        let more = count
            .iter()
            .map(|((_, length), count)| (count - 1, length * (count - 1)));
        let (clusters, bytes) = more.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        Sharing { clusters, bytes }
    }

    #[test]
    fn only_the_same_offset_and_length_are_the_same_stream() {
        let streams = [
            stream(70_000, 3),
            stream(70_000, 2),
            stream(70_001, 3),
            stream(70_000, 3),
            stream(70_000, 3),
        ];
        let bytes = 2 * (3 * 512 - 70_000 % 512);
        assert_eq!(shared(&streams, 100).0, Sharing { clusters: 2, bytes });
    }

    #[test]
    fn several_walks_count_what_one_does() {
        let streams: Vec<_> = (0..1000)
            .map(|number| stream(65536 + number * 7919 % 300 * 600, 2))
            .collect();
        let (one, walks) = shared(&streams, 1000);
        assert_eq!((one.clusters, walks), (700, 1));
        for (room, expected) in [(401, 1), (300, 2), (100, 4), (4, 100)] {
            assert_eq!(shared(&streams, room), (one, expected), "room for {room}");
        }
    }

    #[test]
    fn a_walk_that_fails_is_the_last() {
        let lost = || Err(Corrupt::Shrank { end: 0, expected: 1 }.into());
        let walk = || [Ok(stream(65536, 1)), lost()].into_iter();
        assert!(Sharing::among(walk, PACKING, 4).is_err());
    }

    #[test]
    fn every_stream_is_its_number() {
        for bits in 1..=13 {
            let end = 1 << (62 - bits);
            let packing = Packing { bits, end };
            for at in [512, 513, 1023, end - 512, end - 1] {
                for further in [0, 1, (1 << bits) - 1] {
                    let mut stream = stream(at, further + 1);
                    stream.length = stream.length.min(end - at);
                    assert_eq!(packing.unpack(packing.pack(stream)), stream);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_shared_is_what_a_map_says(
            streams in proptest::collection::vec((0_u64..60, 1_u64..4), 0..200),
            room in 4_usize..250,
        ) {
            let streams: Vec<_> = streams.into_iter().map(|(at, sectors)| stream(65536 + 100 * at, sectors)).collect();
            prop_assert_eq!(shared(&streams, room).0, in_a_map(&streams));
        }
    }
}
