//! A volume that lies in several stretches, as a disk of its own.

use std::ops::Range;

use super::doubt::Doubt;
use super::segments::Segments;
use super::view::View;
use crate::disk::{Disk, Kind, Underlying};
use crate::error::Result;
use crate::units::{Exact, length, to_u64, to_usize};

/// The bytes of some stretches of a disk, one behind the other.
#[derive(Debug)]
pub(super) struct Scattered<'a> {
    disk: &'a dyn Disk,
    segments: Segments,
}

impl<'a> Scattered<'a> {
    /// A volume whose segments lie inside of the disk.
    pub(super) fn new(disk: &'a dyn Disk, segments: Segments) -> Self {
        Self { disk, segments }
    }

    /// Hands out the parts of a buffer for the bytes from `at` on, each with the place in the disk.
    fn each(
        &self,
        buf: &mut [u8],
        at: u64,
        mut read: impl FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let mut rest = buf;
        let wanted = at..at.plus(to_u64(rest.len()));
        for range in self.segments.resolve(&wanted) {
            // No longer than what is wanted.
            let (here, behind) = rest.split_at_mut(to_usize(length(&range)));
            read(here, range.start)?;
            rest = behind;
        }
        Ok(())
    }
}

impl Disk for Scattered<'_> {
    fn kind(&self) -> Kind {
        self.disk.kind()
    }

    fn len(&self) -> u64 {
        self.segments.size()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.each(buf, at, |here, place| self.disk.read_at(here, place))
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.each(buf, at, |here, place| self.disk.read_sector_at(here, place))
    }

    fn position(&self, at: u64) -> u64 {
        self.disk.position(self.segments.place(at))
    }

    fn sector_size(&self) -> u64 {
        self.disk.sector_size()
    }

    fn grain(&self) -> u64 {
        self.disk.grain()
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        self.disk.stands_on()
    }

    fn is_present(&self) -> bool {
        self.disk.is_present()
    }

    fn data_in(&self, wanted: Range<u64>) -> Result<Option<Range<u64>>> {
        let mut at = wanted.start;
        for range in self.segments.resolve(&wanted) {
            if let Some(data) = self.disk.data_in(range.clone())? {
                let offset = |place: u64| at.plus(place.minus(range.start));
                return Ok(Some(offset(data.start)..offset(data.end)));
            }
            at.increase(length(&range));
        }
        Ok(None)
    }
}

/// Looks into a volume of a stretch.
///
/// # Errors
///
/// A [`Doubt`] if not all of it lies inside.
pub(super) fn with_volume<T>(
    view: View<'_>,
    segments: &Segments,
    look: impl FnOnce(View<'_>) -> T,
) -> Result<T, Doubt> {
    let mut ranges = segments.ranges();
    if let (Some(range), None) = (ranges.next(), ranges.next()) {
        return Ok(look(view.part("partition", range)?));
    }
    for range in segments.ranges() {
        view.holds("volume", range.start, length(range))?;
    }
    let segments = Segments::one(view.range()).within(segments);
    Ok(look(View::of(&Scattered::new(view.disk(), segments))))
}
