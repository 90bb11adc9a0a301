//! Which byte ranges of a source are data, zeros or free, and why.
//!
//! A range is free only if something proves it; everything else is in use. A hole proves nothing: what is in use there
//! is zeros.
//!
//! ```text
//! source -> holes  -> what is no hole          \
//!        -> survey -> a table -> its partitions -> in use and no hole: data; in use and a hole: zeros; free
//!                     each: schemes -> a filesystem -> its map
//! ```

#![warn(clippy::arithmetic_side_effects)]

mod answer;
mod builder;
mod containers;
mod crc32c;
mod doubt;
mod edges;
mod fields;
mod filesystems;
mod glance;
mod holes;
mod identifiers;
mod limited;
mod map;
mod opaque;
mod patched;
mod pieces;
mod places;
mod ranges;
mod recognised;
mod region;
mod registry;
mod renewal;
mod scheme;
mod survey;
mod view;
mod wanted;

use crate::disk::Disk;
pub use crate::disk::Segments;
use crate::error::{Invalid, Result};
pub use builder::MapBuilder;
pub use containers::partitions::{Fitted, Flaw, Tables, Which};
pub use doubt::Doubt;
pub use glance::Glance;
pub use identifiers::{Identifiers, Kept, NewId, Outcome};
pub use map::{AllocationMap, Extent, Reason, State};
pub use pieces::Piece;
pub use places::{Place, Places};
pub use region::{Detail, Missing, Part, Region, Treatment};
use survey::Survey;
use view::View;
pub use wanted::{Selection, Volume, Wanted, name_of};

/// How to find out what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// The maps of filesystems as far as they can be trusted, and holes of sparse files.
    #[default]
    Auto,
    /// Holes of sparse files only.
    Sparse,
}

/// What of a source is in use, and how that was found out.
#[derive(Debug)]
pub struct Allocation {
    /// What is in use, data or zeros; all else is free.
    pub map: AllocationMap,
    /// All of the source first, then what it holds, in the order of the disk. None if it was not looked into: then
    /// nothing is free.
    pub regions: Vec<Region>,
    /// The size of a sector of the disk, in bytes: of a device its own, of a file that which partition tables count in;
    /// none if it cannot be told.
    pub sector_size: Option<u64>,
    /// What is wrong with partition tables.
    pub flaws: Vec<Flaw>,
}

impl Allocation {
    /// All of the source, ascending, in pieces that lie in one region each.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        pieces::pieces(&self.map, &self.regions, std::iter::once(0..self.map.size()))
    }

    /// The same of some segments, in their order.
    pub fn pieces_of(&self, segments: &Segments) -> impl Iterator<Item = Piece> {
        pieces::pieces(&self.map, &self.regions, segments.ranges().cloned())
    }

    /// How many bytes are in a state.
    pub fn bytes(&self, state: State) -> u64 {
        self.map.bytes(state)
    }

    /// Whether it was looked into, holds something, and that is nothing with a name.
    pub(crate) fn is_unrecognised(&self) -> bool {
        let whole = self.regions.first();
        self.map.to_read() > 0 && whole.is_some_and(|whole| whole.name.is_none() && whole.doubt().is_none())
    }

    /// What is copied whole because what tells of it cannot be trusted, and why.
    pub fn doubts(&self) -> impl Iterator<Item = (&Region, &Doubt)> {
        self.regions
            .iter()
            .filter_map(|region| region.doubt().map(|doubt| (region, doubt)))
    }
}

/// Finds out what of a source is in use.
///
/// A source that somebody may write to meanwhile is not looked into: what its maps call free may be in use when it
/// is read.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) if the source cannot be asked for holes. A map that cannot be read is a
/// [`Doubt`].
pub fn scan(source: &dyn Disk, scan: Scan) -> Result<Allocation> {
    scan_held(source, scan, None)
}

/// The same of a volume of a disk, of which it may be [known](Selection::held) why no map can be trusted.
///
/// # Errors
///
/// As [`scan`].
pub fn scan_held(source: &dyn Disk, scan: Scan, held: Option<&'static str>) -> Result<Allocation> {
    let data = holes::scan(source)?;
    let Tables {
        sector_size, flaws, ..
    } = tables(source);
    let (used, mut regions) = if scan == Scan::Sparse || source.writer().is_some() {
        (holes::whole(source), Vec::new())
    } else {
        let Survey { map, regions, .. } = Survey::held(View::of(source), held);
        (map, regions)
    };
    let map = used.with_holes(&data);
    for region in &mut regions {
        let copied = region.segments.ranges();
        region.copied = copied.map(|range| map.to_read_in(range)).sum();
        let metadata = region.segments.ranges();
        region.metadata = metadata.map(|range| map.bytes_in(State::Metadata, range)).sum();
    }
    Ok(Allocation {
        map,
        regions,
        sector_size,
        flaws,
    })
}

/// What the partition tables of a disk say of themselves. Takes a few reads, however large the disk is.
pub fn tables(source: &dyn Disk) -> Tables {
    containers::partitions::tables(View::of(source), registry::is_anything)
}

/// What makes the GPT of a disk fit one of `size` bytes, with sectors of `sector_size` bytes.
///
/// # Errors
///
/// [`Invalid::TableUnfit`] if there is no good primary GPT, or a partition ends where the new backup has to be.
pub fn fitted(source: &dyn Disk, size: u64, sector_size: u64) -> Result<Fitted, Invalid> {
    let fitted = containers::partitions::fitted(View::of(source), size, sector_size);
    fitted.map_err(|doubt| Invalid::TableUnfit {
        why: doubt.to_string(),
    })
}
