//! Holes of sparse files: lseek(2), `SEEK_DATA` and `SEEK_HOLE`.

use super::builder::MapBuilder;
use super::map::{AllocationMap, Reason};
use crate::disk::{Disk, Kind};
use crate::error::Result;

/// Marks as used what is no hole; all of a source that has none.
pub(super) fn scan(source: &dyn Disk) -> Result<AllocationMap> {
    let mut map = MapBuilder::all_free(source.len());
    let mut at = 0;
    while let Some(range) = source.next_data(at)? {
        at = range.end;
        map.used(range, reason(source));
    }
    Ok(map.build())
}

/// Marks all of a source as used: nothing was asked that could tell what is free.
pub(super) fn whole(source: &dyn Disk) -> AllocationMap {
    let mut map = MapBuilder::new(source.len());
    map.used(0..source.len(), reason(source));
    map.build()
}

fn reason(source: &dyn Disk) -> Reason {
    match source.kind() {
        Kind::RegularFile | Kind::Image => Reason::Data,
        Kind::BlockDevice => Reason::Unknown,
    }
}
