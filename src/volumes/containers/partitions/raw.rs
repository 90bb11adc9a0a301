//! The bytes of a header of a GPT that was found good, and how they are changed.

use crate::units::{Exact, to_usize};
use crate::volumes::fields::u32_le;

/// Where fields of a header are.
const HEADER_SIZE: usize = 12;
const HEADER_CRC32: usize = 16;
pub(super) const PARTITION_ENTRY_LBA: usize = 72;

/// Gives a header the checksum that it should have.
pub(super) fn sign(header: &mut [u8]) {
    put(header, HEADER_CRC32, &[0; 4]);
    let size = to_usize(u32_le(header, HEADER_SIZE).into());
    let crc = crc32fast::hash(header.get(..size).unwrap_or_default());
    put(header, HEADER_CRC32, &crc.to_le_bytes());
}

/// Writes a field of what is at least as long.
pub(super) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(there) = bytes.get_mut(at..at.plus(field.len())) {
        there.copy_from_slice(field);
    }
}
