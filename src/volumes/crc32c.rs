//! CRC-32C, which most structures on disks have.

use crc::{Algorithm, CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&Algorithm {
    xorout: 0,
    ..CRC_32_ISCSI
});

/// CRC-32C of `bytes` after data with the checksum `seed`; `u32::MAX` before any. The result is not inverted, so that
/// it can be continued.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The library takes the register in the order of the polynomial, whatever that of the bits of a byte.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_can_be_continued() {
        assert_eq!(
            !crc32c(u32::MAX, b"123456789"),
            0xe306_9283,
            "the check value of CRC-32C"
        );
        let half = crc32c(u32::MAX, b"1234");
        assert_eq!(crc32c(half, b"56789"), crc32c(u32::MAX, b"123456789"));
    }
}
