//! Which byte ranges of a source are in use, and why.
//!
//! A range is free only if something proves it; everything else is in use.
//!
//! ```text
//! source -> holes  -> what is no hole          \
//!        -> survey -> a table -> its partitions -> what is in use and no hole
//!                     each: schemes -> a filesystem -> its map
//! ```

#![warn(clippy::arithmetic_side_effects)]

mod answer;
mod bits;
mod directories;
mod doubt;
mod exfat;
mod ext;
mod fat;
mod heap;
mod holes;
mod map;
mod opaque;
mod partitions;
mod pieces;
mod region;
mod scheme;
mod survey;
mod swap;
mod view;

use crate::error::Result;
use crate::source::Source;
pub use doubt::Doubt;
pub use map::{AllocationMap, Extent, Reason};
pub use partitions::{Flaw, Tables, Which};
pub use pieces::Piece;
pub use region::{Region, Treatment};
use survey::Survey;
use view::View;

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
    /// What is in use.
    pub map: AllocationMap,
    /// All of the source first, then what it holds, in the order of the disk. None if it was not looked into.
    pub regions: Vec<Region>,
    /// How many bytes are free although they are not in holes.
    pub free: u64,
    /// The size of a sector of the disk, in bytes: of a device its own, of a file that which partition tables count in;
    /// none if it cannot be told.
    pub sector_size: Option<u64>,
    /// What is wrong with partition tables.
    pub flaws: Vec<Flaw>,
}

impl Allocation {
    /// All of the source, ascending, in pieces that lie in one region each.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        pieces::pieces(&self.map, &self.regions)
    }

    /// Whether it was looked into, holds something, and that is nothing with a name.
    pub(crate) fn is_unrecognised(&self) -> bool {
        let whole = self.regions.first();
        self.map.used() > 0 && whole.is_some_and(|whole| whole.name.is_none() && whole.doubt().is_none())
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
pub fn scan(source: &dyn Source, scan: Scan) -> Result<Allocation> {
    let data = holes::scan(source)?;
    let Tables {
        sector_size, flaws, ..
    } = tables(source);
    if scan == Scan::Sparse || source.writer().is_some() {
        return Ok(Allocation {
            map: data,
            regions: Vec::new(),
            free: 0,
            sector_size,
            flaws,
        });
    }
    let Survey { map, mut regions, .. } = Survey::of(View::of(source));
    let map = data.intersection(&map);
    for region in &mut regions {
        region.copied = map.used_in(&region.range);
    }
    Ok(Allocation {
        free: data.used().saturating_sub(map.used()),
        map,
        regions,
        sector_size,
        flaws,
    })
}

/// What the partition tables of a disk say of themselves. Takes a few reads, however large the disk is.
pub fn tables(source: &dyn Source) -> Tables {
    partitions::tables(View::of(source))
}
