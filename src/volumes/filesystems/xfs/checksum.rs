//! Checksums of structures of version 5: CRC-32C, with 0 in the place of the checksum. Source:
//! `fs/xfs/libxfs/xfs_cksum.h`.

use crate::units::to_usize;
use crate::volumes::crc32c::crc32c;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::u32_le;
use crate::volumes::view::View;

/// The checksum that bytes should have, which stands among them at an offset.
fn sum(bytes: &[u8], at: usize) -> u32 {
    let (before, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    let after = rest.get(4..).unwrap_or_default();
    !crc32c(crc32c(crc32c(u32::MAX, before), &[0; 4]), after)
}

/// Makes sure that a structure has its checksum, which stands in it at an offset.
pub(super) fn check(
    view: View<'_>,
    structure: &'static str,
    at: u64,
    bytes: &[u8],
    sum_at: u64,
) -> Result<(), Doubt> {
    let sum_at = to_usize(sum_at);
    let (found, expected) = (u32_le(bytes, sum_at), sum(bytes, sum_at));
    if found == expected {
        return Ok(());
    }
    Err(Doubt::Checksum {
        structure,
        at: view.position(at),
        found,
        expected,
    })
}
