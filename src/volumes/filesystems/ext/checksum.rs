//! The checksum of ext4 before it had CRC-32C.

use crc::{CRC_16_MODBUS, Crc, Table};

static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_MODBUS);

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
    fn crc16_is_over_all_pieces() {
        assert_eq!(
            crc16(&[b"1234", b"56789"]),
            0x4b37,
            "the check value of CRC-16/MODBUS"
        );
    }
}
