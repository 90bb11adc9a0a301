//! What is in an image of QCOW version 1 or QED.

use std::ops::Range;

use super::Allocation;
use crate::error::{Corrupt, Error, Result};
use crate::formats::legacy::{Examiner, Found, LegacyImage};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::Exact;

/// What an image of QCOW version 1 or QED says of itself.
#[derive(Debug)]
pub struct LegacyInfo {
    image: LegacyImage,
    /// How many bytes of the disk it takes.
    pub bytes_on_disk: u64,
    /// How many clusters are what; none if its tables are damaged.
    pub allocation: Option<Allocation>,
    /// What of it is damaged, or cannot be read: the first there is.
    pub fault: Option<Error>,
}

impl LegacyInfo {
    /// Reads all tables of an image.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell how much of the disk it takes.
    pub fn of(image: LegacyImage) -> Result<Self> {
        let bytes_on_disk = image.file().bytes_on_disk()?;
        let (allocation, fault) = match count(&image) {
            Ok(allocation) => (Some(allocation), None),
            Err(error) => (None, Some(error)),
        };
        Ok(Self {
            image,
            bytes_on_disk,
            allocation,
            fault,
        })
    }

    /// The image itself.
    pub fn image(&self) -> &LegacyImage {
        &self.image
    }
}

fn count(image: &LegacyImage) -> Result<Allocation> {
    let mut count = Count::default();
    image.examine(&mut count)?;
    let Count(mut allocation) = count;
    let Allocation {
        data,
        compressed,
        zeros,
        unallocated: _,
        data_bytes: _,
    } = allocation;
    let there = data.plus(compressed).plus(zeros);
    allocation.unallocated = image.clusters().minus(there);
    Ok(allocation)
}

/// Counts what takes room or is zeros, as long as nothing is wrong.
#[derive(Default)]
struct Count(Allocation);

impl Examiner for Count {
    fn found(&mut self, found: Found) -> Result<()> {
        found.fault().map_or(Ok(()), |fault: Corrupt| Err(fault.into()))
    }

    fn cluster(&mut self, mapping: Mapping, guest: Range<u64>) -> Result<()> {
        if guest.is_empty() {
            return Ok(());
        }
        let count = match mapping {
            Mapping::Unallocated => &mut self.0.unallocated,
            Mapping::Zero | Mapping::ZeroAllocated(_) => &mut self.0.zeros,
            Mapping::Data(_) => &mut self.0.data,
            Mapping::Compressed(_) => &mut self.0.compressed,
        };
        count.increase(1);
        Ok(())
    }
}
