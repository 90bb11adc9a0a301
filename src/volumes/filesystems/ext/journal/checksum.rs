//! The checksums of a journal.

use crc::{CRC_32_MPEG_2, Crc, Table};

use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::faults::Structure;

static CRC_32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_MPEG_2);

/// What of a journal has checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    /// Nothing.
    None,
    /// Version 1: transactions, each as a whole.
    Transactions,
    /// Version 2: every block, those of the filesystem with half a sum. The sums begin with this one.
    Halves(u32),
    /// Version 3: every block. The sums begin with this one.
    Blocks(u32),
}

impl Checksums {
    /// What the sums of blocks begin with.
    pub(super) fn seed(self) -> Option<u32> {
        match self {
            Self::None | Self::Transactions => None,
            Self::Halves(seed) | Self::Blocks(seed) => Some(seed),
        }
    }

    /// How many bytes at the end of descriptors and revocations are their checksum.
    pub(super) fn tail(self) -> usize {
        self.seed().map_or(0, |_| 4)
    }
}

/// Makes sure that the sum of all of `bytes` is that which they hold from `field` on, which counts as zeros.
pub(super) fn holds_sum(structure: Structure, seed: u32, bytes: &[u8], field: usize) -> Result<(), Doubt> {
    let parts = bytes.split_at_checked(field);
    let Some((before, [a, b, c, d, after @ ..])) = parts else {
        return Err(Doubt::State("its journal has no room for checksums"));
    };
    let sum = crc32c(crc32c(crc32c(seed, before), &[0; 4]), after);
    structure.has_checksum(u32::from_be_bytes([*a, *b, *c, *d]), sum)
}

/// The sum of a transaction, of version 1: descriptors and what they describe.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransactionSum(u32);

impl TransactionSum {
    /// That of nothing.
    pub(super) fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn add(&mut self, block: &[u8]) {
        // Nothing is reflected or inverted, so that one sum can go on where another ended.
        let mut digest = CRC_32.digest_with_initial(self.0);
        digest.update(block);
        self.0 = digest.finalize();
    }

    pub(super) fn end(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_transactions_can_be_continued() {
        let mut sum = TransactionSum::new();
        sum.add(b"12345");
        sum.add(b"6789");
        assert_eq!(sum.end(), 0x0376_e6e7, "the check value of CRC-32/MPEG-2");
    }
}
