//! What is in an image: all that its header and tables say, without a look at its data.

#![warn(clippy::arithmetic_side_effects)]

mod allocation;
mod legacy;
mod sharing;

use std::path::Path;

pub use allocation::Allocation;
pub use legacy::LegacyInfo;
pub use sharing::Sharing;

use crate::error::{Error, Result};
use crate::formats::legacy::LegacyHeader;
use crate::formats::qcow2::structures::features::{self, FeatureKind};
use crate::formats::qcow2::structures::provenance::Provenance;
use crate::formats::qcow2::{Image, Record};
use crate::units::Exact;

/// What an image says of itself.
#[derive(Debug)]
pub struct Info {
    image: Image,
    /// How many bytes of the disk it takes.
    pub bytes_on_disk: u64,
    /// Its checksum table.
    pub checksums: ChecksumTable,
    /// Whether that table has digests.
    pub has_digests: bool,
    /// What it records of its source.
    pub record: RecordState,
    /// The clusters of the active state, by kind; none if its tables are damaged.
    pub allocation: Option<Allocation>,
    /// What sharing saves in the active state; none if its tables are damaged.
    pub sharing: Option<Sharing>,
    /// What of it cannot be read.
    pub faults: Vec<Error>,
}

/// What became of the record of an image.
#[derive(Debug)]
pub enum RecordState {
    /// The image has none.
    None,
    /// It is whole, and still holds.
    Holds(Record),
    /// It is whole, but of an earlier state: what is free is not known any more.
    Stale(Record),
    /// It is damaged, because another program has written to the image.
    Lost,
    /// It is damaged, although no program has written to the image: one of the faults.
    Damaged,
}

/// The bytes of a disk, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// In the image.
    pub data: u64,
    /// In use or not known to be free, and not in the image.
    pub zeros: u64,
    /// Free.
    pub free: u64,
}

/// What became of the checksum table of an image.
#[derive(Debug)]
pub enum ChecksumTable {
    /// The image has none.
    None,
    /// It is whole, and lists so many clusters.
    Whole(u64),
    /// It is damaged, because another program has written to the image.
    Lost(Error),
    /// It is damaged, although no program has written to the image: one of the faults.
    Damaged,
}

/// A feature bit that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it means to programs that do not know it.
    pub kind: FeatureKind,
    /// Its number.
    pub bit: u32,
    /// Its name, from the image, or else from the specification.
    pub name: Option<String>,
}

impl Info {
    /// Reads all tables of an image; no other file is opened. What of them is damaged becomes one of the faults.
    ///
    /// # Errors
    ///
    /// Those of [`Image::open`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(Image::open(path)?)
    }

    /// The same of an image that is open.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell how much of the disk it takes.
    pub fn of(image: Image) -> Result<Self> {
        let bytes_on_disk = image.file().bytes_on_disk()?;
        let mut faults = Vec::new();
        let (checksums, has_digests) = checksums(&image, &mut faults);
        let record = record(&image, &mut faults);
        let allocation = or_fault(Allocation::of(&image), &mut faults);
        let sharing = allocation.map(|allocation| Sharing::of(&image, allocation));
        let sharing = sharing.and_then(|sharing| or_fault(sharing, &mut faults));
        // An entry that cannot be read is the last.
        let snapshots = image.snapshots().find_map(Result::err);
        // Of a table that cannot be used there is a remark.
        faults.extend(snapshots.filter(|_| image.unneeded().snapshot_table.is_none()));
        faults.extend(image.bitmaps().find_map(Result::err));
        Ok(Self {
            image,
            bytes_on_disk,
            checksums,
            has_digests,
            record,
            allocation,
            sharing,
            faults,
        })
    }

    /// The image itself.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The bytes of the disk, by state; none unless the image records its free clusters.
    pub fn content(&self) -> Option<DiskUsage> {
        let (RecordState::Holds(record), Some(allocation)) = (&self.record, self.allocation) else {
            return None;
        };
        let (size, data) = (self.image.header().geometry().size(), allocation.data_bytes);
        // Data is data, whatever was recorded.
        let free = record.free_bytes().min(size.minus(data));
        Some(DiskUsage {
            data,
            zeros: size.minus(data).minus(free),
            free,
        })
    }

    /// The record of the source, even if its list of free clusters is out of date.
    pub fn recorded(&self) -> Option<&Record> {
        match &self.record {
            RecordState::Holds(record) | RecordState::Stale(record) => Some(record),
            RecordState::None | RecordState::Lost | RecordState::Damaged => None,
        }
    }

    /// Where the image comes from, if it records that.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.recorded()?.provenance.as_ref()
    }

    /// Whether any cluster of the active state is compressed; none if its tables are damaged.
    pub fn is_compressed(&self) -> Option<bool> {
        Some(self.allocation?.compressed > 0)
    }

    /// The feature bits that are set.
    pub fn features(&self) -> impl Iterator<Item = Feature> {
        let bits = self.image.header().features();
        let kinds = [
            FeatureKind::Incompatible,
            FeatureKind::Compatible,
            FeatureKind::Autoclear,
        ];
        let all = kinds
            .into_iter()
            .flat_map(|kind| (0..u64::BITS).map(move |bit| (kind, bit)));
        all.filter(move |(kind, bit)| bits.has(*kind, *bit))
            .map(|(kind, bit)| {
                let told = self.image.extensions().feature_name(kind, bit);
                let name = told.or_else(|| features::name(kind, bit).map(str::to_owned));
                Feature { kind, bit, name }
            })
    }
}

impl LegacyHeader {
    /// The feature bits that are set, of QED.
    pub fn features(&self) -> impl Iterator<Item = Feature> {
        let bits = match self {
            Self::Qcow { .. } => [0; 3],
            Self::Qed { features, .. } => *features,
        };
        let kinds = [
            FeatureKind::Incompatible,
            FeatureKind::Compatible,
            FeatureKind::Autoclear,
        ];
        kinds.into_iter().zip(bits).flat_map(|(kind, bits)| {
            let set = (0..u64::BITS).filter(move |bit| bits.checked_shr(*bit).unwrap_or(0) & 1 == 1);
            set.map(move |bit| Feature {
                kind,
                bit,
                name: qed_feature(kind, bit).map(str::to_owned),
            })
        })
    }
}

/// Spec: `qed_spec.txt`, "Header".
fn qed_feature(kind: FeatureKind, bit: u32) -> Option<&'static str> {
    match (kind, bit) {
        (FeatureKind::Incompatible, 0) => Some("backing file"),
        (FeatureKind::Incompatible, 1) => Some("need check"),
        (FeatureKind::Incompatible, 2) => Some("backing format no probe"),
        _ => None,
    }
}

fn or_fault<T>(result: Result<T>, faults: &mut Vec<Error>) -> Option<T> {
    result.map_err(|error| faults.push(error)).ok()
}

fn checksums(image: &Image, faults: &mut Vec<Error>) -> (ChecksumTable, bool) {
    let table = match image.checksums() {
        Ok(None) => ChecksumTable::None,
        Ok(Some(table)) => return (ChecksumTable::Whole(table.clusters()), table.has_digests()),
        Err(error @ Error::Corrupt(_)) if !image.claims_unchanged() => ChecksumTable::Lost(error),
        Err(error) => {
            faults.push(error);
            ChecksumTable::Damaged
        }
    };
    (table, false)
}

fn record(image: &Image, faults: &mut Vec<Error>) -> RecordState {
    let is_as_written = image.is_as_written();
    match image.record() {
        Ok(None) => RecordState::None,
        Ok(Some(record)) if is_as_written && (record.base.is_some() || image.backing_name().is_none()) => {
            RecordState::Holds(record)
        }
        Ok(Some(record)) => RecordState::Stale(record),
        Err(Error::Corrupt(_)) if !image.claims_unchanged() => RecordState::Lost,
        Err(error) => {
            // What is wrong with both is told once.
            let told = faults.iter().any(|fault| fault.to_string() == error.to_string());
            if !told {
                faults.push(error);
            }
            RecordState::Damaged
        }
    }
}
