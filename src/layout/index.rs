//! Which streams there are in the image, as far as they are remembered.

use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// Entries in a bucket.
const WAYS: usize = 8;

/// An entry: checksum and length of what is there, and where it is; all zeros if there is none.
type Slot = [u64; 2];

/// The size of a bucket in bytes.
const BUCKET: u64 = 128;
const _: () = assert!(size_of::<[Slot; WAYS]>() == 128);

/// Streams by the checksum of their cluster and by their length. Each has its place in one of the buckets: the one
/// in it that was not asked for longest is forgotten when there is another.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<[Slot; WAYS]>,
}

impl Index {
    /// Room for `streams` streams, or as many as go into `memory` bytes, but one bucket at least.
    pub(super) fn new(memory: u64, streams: u64) -> Self {
        // Twice as many as are needed, so that hardly any bucket is full before the others.
        let wanted = (streams / 4).plus(1).checked_next_power_of_two();
        let limit = (memory / BUCKET).max(1);
        // The largest power of two that is not above.
        let limit = (limit / 2).plus(1).next_power_of_two();
        let buckets = wanted.unwrap_or(limit).min(limit);
        Self {
            buckets: vec![[[0; 2]; WAYS]; to_usize(buckets)],
        }
    }

    /// Where a stream is that may be the same.
    pub(super) fn find(&mut self, crc: u32, length: usize) -> Option<HostOffset> {
        let key = key(crc, length);
        let bucket = self.bucket(crc)?;
        let found = bucket
            .iter()
            .position(|[at_key, host]| *at_key == key && *host != 0)?;
        bucket.get_mut(..=found)?.rotate_right(1);
        bucket.first().map(|[_, host]| HostOffset(*host))
    }

    /// Remembers where a stream is, instead of an earlier one for which it could be taken.
    pub(super) fn insert(&mut self, crc: u32, length: usize, host: HostOffset) {
        let key = key(crc, length);
        if let Some(bucket) = self.bucket(crc) {
            let same = bucket.iter().position(|[at_key, _]| *at_key == key);
            if let Some(older) = bucket.get_mut(..=same.unwrap_or(WAYS.minus(1))) {
                older.rotate_right(1);
            }
            if let Some(slot) = bucket.first_mut() {
                *slot = [key, host.0];
            }
        }
    }

    fn bucket(&mut self, crc: u32) -> Option<&mut [Slot; WAYS]> {
        let mask = self.buckets.len().minus(1);
        self.buckets.get_mut(to_usize(crc.into()) & mask)
    }
}

/// A stream is shorter than a cluster: 21 bits.
fn key(crc: u32, length: usize) -> u64 {
    u64::from(crc) << 32 | to_u64(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_by_both_parts_of_its_key() {
        let mut index = Index::new(1 << 20, 1000);
        for i in 0..1000_u32 {
            index.insert(i.wrapping_mul(0x9e37_79b1), 100, HostOffset(u64::from(i) + 1));
        }
        let found = |index: &mut Index, i: u32, length| index.find(i.wrapping_mul(0x9e37_79b1), length);
        for i in 0..1000 {
            assert_eq!(found(&mut index, i, 100), Some(HostOffset(u64::from(i) + 1)));
            assert_eq!(found(&mut index, i, 101), None);
        }
        index.insert(0x9e37_79b1, 100, HostOffset(77));
        assert_eq!(found(&mut index, 1, 100), Some(HostOffset(77)), "the later one");
    }

    #[test]
    fn past_its_memory_it_forgets_what_was_not_asked_for_longest() {
        let mut index = Index::new(0, 1 << 40);
        for i in 1..=9_u32 {
            index.insert(i, 5, HostOffset(u64::from(i)));
            assert_eq!(index.find(1, 5), Some(HostOffset(1)));
        }
        assert_eq!(index.find(2, 5), None);
        assert!((3..=9).all(|i| index.find(i, 5) == Some(HostOffset(i.into()))));
    }

    #[test]
    fn memory_is_a_limit() {
        for (memory, streams, buckets) in [
            (0, 9, 1),
            (127, 99, 1),
            (128, 99, 1),
            (255, 99, 1),
            (256, 99, 2),
            (1000, 99, 4),
            (1024, 99, 8),
            (256 << 20, 3, 1),
            (256 << 20, 4, 2),
            (256 << 20, u64::MAX, 1 << 21),
        ] {
            assert_eq!(
                Index::new(memory, streams).buckets.len(),
                buckets,
                "{memory} {streams}"
            );
        }
    }
}
