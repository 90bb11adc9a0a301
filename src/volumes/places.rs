//! What lies where on a disk, for those who found something wrong there: found out with few reads, and never a failure.

use std::ops::Range;

use super::limited::Limited;
use super::region::{Region, Treatment};
use super::survey::Survey;
use super::view::View;
use crate::disk::Disk;

/// What lies where on a disk.
#[derive(Debug)]
pub struct Places {
    regions: Vec<Region>,
}

/// What a range of a disk lies in.
#[derive(Debug)]
pub enum Place<'a> {
    /// A volume, or something that was recognised.
    Region(&'a Region),
    /// Outside of all partitions of a disk that has some.
    Between,
}

impl Places {
    /// Of a disk that may be damaged. What it would take too many reads to find out is left open.
    pub fn of(disk: &dyn Disk) -> Self {
        let limited = Limited::of(disk);
        let regions = Survey::of(View::of(&limited)).regions;
        Self { regions }
    }

    /// The innermost that holds all of a range, in bytes of the disk; none if nothing was recognised there.
    pub fn of_range(&self, range: &Range<u64>) -> Option<Place<'_>> {
        let holds = |region: &&Region| {
            let mut own = region.segments.ranges();
            own.any(|own| own.start <= range.start && range.end <= own.end)
        };
        let innermost = self
            .regions
            .iter()
            .filter(holds)
            .max_by_key(|region| region.depth)?;
        match (&innermost.treatment, &innermost.part, innermost.name) {
            (Treatment::Partitioned, ..) => Some(Place::Between),
            (_, None, None) => None,
            _ => Some(Place::Region(innermost)),
        }
    }
}
