//! What becomes of the partition table of a disk where it is put.

use super::report::Warning;
use crate::error::Invalid;
use crate::output::{DeviceTarget, Target};
use crate::volumes::{Flaw, Tables};

/// What is known of the partition table of a disk, and of the place it is put to.
#[derive(Debug, Default)]
pub(super) struct Partitioning {
    flaws: Vec<Flaw>,
    /// The size of the disk in bytes, if the target goes on behind it.
    ends_inside: Option<u64>,
    /// The sizes of sectors of the target and of the table, in bytes, if they are not the same.
    mismatch: Option<(u64, u64)>,
}

/// The size of the sectors that the partitions of a disk count in, in bytes, if it has any and that can be told: by the
/// table itself, or else by what the image records of its source.
fn expected_sector_size(tables: &Tables, recorded: Option<u32>) -> Option<u64> {
    let told = tables.sector_size.or(recorded.map(u64::from));
    told.filter(|_| tables.is_partitioned)
}

impl Partitioning {
    /// Of a disk of `size` bytes, whose image records this size of a sector of its source.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if no partitions would be found on the target, unless that is to be done all the same.
    pub(super) fn on(
        target: &Target<DeviceTarget>,
        size: u64,
        tables: Tables,
        recorded: Option<u32>,
        force: bool,
    ) -> Result<Self, Invalid> {
        let pair = target.sector_size().zip(expected_sector_size(&tables, recorded));
        let mismatch = pair.filter(|(found, expected)| found != expected);
        if let (Some((found, expected)), false) = (mismatch, force) {
            return Err(Invalid::TargetSectorSize { found, expected });
        }
        let device = match target {
            Target::Device(device) => Some(device.size()),
            Target::File(_) | Target::Stdout => None,
        };
        Ok(Self {
            flaws: tables.flaws,
            ends_inside: device.filter(|room| *room > size).map(|_| size),
            mismatch,
        })
    }

    /// What there is to say about it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Warning> {
        let mismatch = self
            .mismatch
            .map(|(found, expected)| Warning::SectorSize { found, expected });
        let flaws = self.flaws.iter().map(|flaw| {
            let there = self
                .ends_inside
                .map(|size| flaw.clone().on_a_larger_disk(size))
                .filter(|there| there != flaw);
            there.map_or_else(|| Warning::Table(flaw.clone()), Warning::TableOutOfReach)
        });
        mismatch.into_iter().chain(flaws)
    }
}
