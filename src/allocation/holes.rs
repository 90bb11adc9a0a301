//! Holes of sparse files: lseek(2), `SEEK_DATA` and `SEEK_HOLE`.

use super::map::{AllocationMap, Reason};
use crate::error::Result;
use crate::source::{Kind, Source};

/// Marks as used what is no hole; all of a source that has none.
pub(super) fn scan(source: &dyn Source) -> Result<AllocationMap> {
    let mut map = AllocationMap::new(source.len());
    let reason = match source.kind() {
        Kind::RegularFile | Kind::Image => Reason::Data,
        Kind::BlockDevice => Reason::Unknown,
    };
    let mut at = 0;
    while let Some(range) = source.next_data(at)? {
        at = range.end;
        map.push(range, reason);
    }
    Ok(map)
}
