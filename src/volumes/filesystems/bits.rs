//! Runs of ones in a bitmap, the least significant bit of a byte first: as ext4, exFAT and most others have it.

use std::ops::Range;

use crate::units::{Exact, to_u64, to_usize};

/// The longest runs of ones among the first `count` bits, ascending. Bits behind the end of `bits` are zeros.
pub(super) fn runs(bits: &[u8], count: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    let end = count.min(to_u64(bits.len()).times(8));
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = next(bits, at, end, true)?;
        at = next(bits, start, end, false).unwrap_or(end);
        Some(start..at)
    })
}

/// How many of the first `count` bits are ones.
pub(super) fn ones(bits: &[u8], count: u64) -> u64 {
    runs(bits, count).fold(0, |sum, run| sum.plus(run.end.minus(run.start)))
}

/// The first bit from `at` on, before `end`, that is `wanted`.
fn next(bits: &[u8], mut at: u64, end: u64, wanted: bool) -> Option<u64> {
    while at < end {
        // The 64 bits from the byte of `at` on, those behind the end unwanted, and the wanted ones as ones.
        let unwanted = if wanted { 0 } else { u8::MAX };
        let mut word = [unwanted; 8];
        let first = at / 8;
        let rest = bits.get(to_usize(first)..).unwrap_or_default();
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        let word = u64::from_le_bytes(word);
        let word = if wanted { word } else { !word } >> (at % 8);
        if word != 0 {
            let found = at.plus(word.trailing_zeros().into());
            return (found < end).then_some(found);
        }
        at = first.plus(8).times(8);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn runs_are_the_ones(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![proptest::strategy::Just(0_u8), proptest::strategy::Just(0xff), 0_u8..=255],
                0..40,
            ),
            count in 0_u64..330,
        ) {
            let is_one = |bit: u64| {
                let byte = bytes.get(usize::try_from(bit / 8).unwrap()).copied().unwrap_or(0);
                bit < count && byte >> (bit % 8) & 1 == 1
            };
            let expected: Vec<_> = (0..400).filter(|bit| is_one(*bit)).collect();
            let runs: Vec<_> = runs(&bytes, count).collect();
            proptest::prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            proptest::prop_assert_eq!(ones(&bytes, count), to_u64(expected.len()));
            proptest::prop_assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), expected);
        }
    }
}
