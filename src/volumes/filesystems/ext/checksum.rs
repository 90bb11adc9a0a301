//! The two checksums of ext4, neither of which inverts its result: so that one can be continued by the next.

use crc::{Algorithm, CRC_16_MODBUS, CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&Algorithm {
    xorout: 0,
    ..CRC_32_ISCSI
});

static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_MODBUS);

/// CRC-32C of `bytes` after what has the checksum `seed`; `u32::MAX` before anything.
pub(in crate::volumes) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The library takes the register in the order of the polynomial, whatever that of the bits of a byte.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC-16 of `pieces`, one after the other.
pub(super) fn crc16(pieces: &[&[u8]]) -> u16 {
    let mut digest = CRC16.digest();
    for piece in pieces {
        digest.update(piece);
    }
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

    #[test]
    fn crc16_is_over_all_pieces() {
        assert_eq!(
            crc16(&[b"1234", b"56789"]),
            0x4b37,
            "the check value of CRC-16/MODBUS"
        );
    }
}
