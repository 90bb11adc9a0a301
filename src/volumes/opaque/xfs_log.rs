//! The log of an XFS on a device of its own. Source: Linux, `xfs_log_format.h`; libblkid.

use crate::volumes::fields::u32_be;
use crate::volumes::view::View;

/// The shortest log, in bytes: libblkid knows none of less.
const MIN_LOG: u64 = 10 << 20;

/// One of its first sectors begins a record, for no record is longer than this.
const MAX_RECORD: u64 = 256 << 10;

const SECTOR: usize = 512;

/// Whether a stretch is a log: it has a record, and is no XFS itself. `mkfs.xfs` writes zeros over all that was there.
pub(super) fn is(view: View<'_>) -> bool {
    let beginning = 0..MAX_RECORD;
    if view.len() < MIN_LOG || view.is_hole(&beginning) {
        return false;
    }
    let bytes = view
        .bytes("XFS log", beginning.start, beginning.end)
        .unwrap_or_default();
    let sectors = bytes.chunks_exact(SECTOR);
    let mut known = sectors.filter(|sector| sector.starts_with(b"XFSB") || is_record(sector));
    known.next().is_some_and(is_record)
}

/// Whether a sector is the header of a record, in a version and of a machine that there are.
fn is_record(sector: &[u8]) -> bool {
    let (version, length, format) = (u32_be(sector, 8), u32_be(sector, 12), u32_be(sector, 300));
    sector.starts_with(b"\xfe\xed\xba\xbe")
        && (1..=3).contains(&version)
        && (1..=0x7fff_ffff).contains(&length)
        && (1..=3).contains(&format)
}
