//! A partition, as a table tells of it.

use std::ops::Range;

use crate::disk::Segments;
use crate::volumes::region::Part;
use crate::volumes::scheme::{Content, Volume};

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Its bytes, as offsets in the disk that the table is about. It may reach past the end of that.
    pub(super) range: Range<u64>,
    /// The number that the kernel gives it.
    pub(super) number: u32,
    /// The name that its owner gave it.
    pub(super) label: Option<String>,
}

impl From<Partition> for Volume {
    fn from(partition: Partition) -> Self {
        Self {
            segments: Segments::one(partition.range),
            is_complete: true,
            part: Part::Partition {
                number: partition.number,
                label: partition.label,
            },
            details: Vec::new(),
            content: Content::Unknown,
        }
    }
}
