//! A range of the disk that is in one place of one file.

use super::qcow2::structures::mapping::Mapping;
use crate::error::Result;
use crate::units::{Exact, GuestOffset, HostOffset};

/// A range of the virtual disk that is in one place of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRun {
    /// Its length in bytes, from where it was asked for.
    pub length: u64,
    /// Where it is: the host offset is that of its first byte. A compressed cluster is there as a whole.
    pub mapping: Mapping,
    /// Of what is unallocated: the room that is kept for it, because other subclusters of its cluster are there.
    pub room: Option<HostOffset>,
}

impl HostRun {
    pub(crate) fn new(length: u64, mapping: Mapping) -> Self {
        let room = None;
        Self {
            length,
            mapping,
            room,
        }
    }
}

/// The longest run from `at` on, up to `limit` bytes, that is made of pieces of which each tells where its own begin is.
///
/// # Errors
///
/// That of the first piece. A fault behind it is one of the next run.
pub(crate) fn longest(
    at: GuestOffset,
    limit: u64,
    mut piece: impl FnMut(GuestOffset) -> Result<HostRun>,
) -> Result<HostRun> {
    let mut run = piece(at)?;
    while run.length < limit {
        let Ok(next) = piece(at + run.length) else {
            break;
        };
        if !continues(run, next) {
            break;
        }
        run.length.increase(next.length);
    }
    run.length = run.length.min(limit);
    Ok(run)
}

/// Whether `next` goes on where `first` ends.
fn continues(first: HostRun, next: HostRun) -> bool {
    let is_behind = |a: HostOffset, b: HostOffset| a.0.checked_add(first.length) == Some(b.0);
    match (first.mapping, next.mapping) {
        (Mapping::Unallocated, Mapping::Unallocated) => match (first.room, next.room) {
            (Some(a), Some(b)) => is_behind(a, b),
            (a, b) => a == b,
        },
        (Mapping::Zero, Mapping::Zero) => true,
        (Mapping::Data(a), Mapping::Data(b)) | (Mapping::ZeroAllocated(a), Mapping::ZeroAllocated(b)) => {
            is_behind(a, b)
        }
        _ => false,
    }
}
