//! A disk cut into what is to be read and what is known to be zeros.

use std::ops::Range;

use super::Source;
use crate::error::Result;
use crate::units::within;

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// It reads as zeros; nobody needs to look.
    pub is_hole: bool,
}

/// All of a disk in ascending order: holes of any length, and data in pieces of at most `unit` bytes that end at
/// multiples of it, or where a hole begins. After an error there are no more.
///
/// # Errors
///
/// Of a piece: those of [`Source::next_data`].
pub fn pieces(source: &dyn Source, unit: u64) -> impl Iterator<Item = Result<Piece>> + '_ {
    let (mut at, mut data) = (0, 0..0);
    std::iter::from_fn(move || {
        if at >= source.len() {
            return None;
        }
        if data.end <= at {
            match source.next_data(at) {
                // What is behind the last data is a hole.
                Ok(next) => data = next.unwrap_or(source.len()..source.len()),
                Err(error) => {
                    at = source.len();
                    return Some(Err(error));
                }
            }
        }
        let is_hole = at < data.start;
        let end = if is_hole {
            data.start
        } else {
            let unit_end = at.saturating_add(unit.saturating_sub(within(at, unit)));
            data.end.min(unit_end)
        };
        let range = at..end.min(source.len());
        at = end;
        Some(Ok(Piece { range, is_hole }))
    })
}
