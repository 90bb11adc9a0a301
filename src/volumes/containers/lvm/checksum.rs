//! The checksum that LVM takes of its structures. Source: LVM2, `lib/misc/crc.c`.

/// What checksums begin with; they are not inverted at either end as CRC-32 is elsewhere.
const CRC_START: u32 = 0xf597_a6cf;

/// The checksum of some bytes.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!CRC_START);
    hasher.update(bytes);
    !hasher.finalize()
}
