//! QED. Spec: QEMU, `docs/interop/qed_spec.txt` (it was `docs/specs/qed_spec.txt` once).

mod header;

use std::sync::Arc;

use header::Header;
pub(super) use header::MAGIC;

use super::format::Format;
use super::legacy::two_level::{Entries, Tables};
use super::legacy::{LegacyHeader, LegacyImage, Parts};
use super::opening::{Member, Opened};
use super::{HostFile, Remark};
use crate::error::{Expected, Result};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::HostOffset;

/// Opens an image as one of the files of a disk.
pub(super) fn open(file: HostFile, member: &Member<'_>) -> Result<Opened> {
    member.access.refuse_of_legacy()?;
    let tables = Tables {
        number: member.number,
        windows: Arc::clone(&member.windows),
    };
    let image = read(file, tables)?;
    if image.remark() == Some(Remark::NeedsCheck) {
        image.refuse_damaged()?;
    }
    Ok(image.opened(None))
}

/// Opens an image by itself, whether it was closed properly or not.
pub(super) fn read(file: HostFile, tables: Tables) -> Result<LegacyImage> {
    let header = Header::read(&file)?;
    let format = header.is_backing_raw.then_some(Format::Raw);
    LegacyImage::new(Parts {
        file,
        tables,
        shape: header.shape,
        entries: Box::new(QedEntries {
            cluster_size: header.shape.cluster_size,
        }),
        backing: header.backing.map(|place| (place, format)),
        header: LegacyHeader::Qed {
            table_size: header.table_size,
            features: header.features,
        },
        remark: header.needs_check.then_some(Remark::NeedsCheck),
    })
}

/// Offsets are bytes of the file, multiples of the cluster size.
#[derive(Debug)]
struct QedEntries {
    /// A power of two.
    cluster_size: u64,
}

impl QedEntries {
    fn aligned(&self, entry: u64) -> Result<HostOffset, Expected> {
        if entry.is_multiple_of(self.cluster_size) {
            Ok(HostOffset(entry))
        } else {
            Err(Expected::MultipleOf(self.cluster_size))
        }
    }
}

impl Entries for QedEntries {
    fn number(&self, bytes: [u8; 8]) -> u64 {
        u64::from_le_bytes(bytes)
    }

    fn table(&self, entry: u64) -> Result<Option<HostOffset>, Expected> {
        match entry {
            0 => Ok(None),
            entry => self.aligned(entry).map(Some),
        }
    }

    fn cluster(&self, entry: u64) -> Result<Mapping, Expected> {
        match entry {
            0 => Ok(Mapping::Unallocated),
            1 => Ok(Mapping::Zero),
            entry => self.aligned(entry).map(Mapping::Data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_offsets_zeros_or_nothing() {
        let entries = QedEntries { cluster_size: 4096 };
        assert_eq!(entries.cluster(0), Ok(Mapping::Unallocated));
        assert_eq!(entries.cluster(1), Ok(Mapping::Zero));
        assert_eq!(entries.cluster(8192), Ok(Mapping::Data(HostOffset(8192))));
        assert_eq!(entries.cluster(2), Err(Expected::MultipleOf(4096)));
        assert_eq!(entries.table(0), Ok(None));
        assert_eq!(entries.table(1), Err(Expected::MultipleOf(4096)));
        assert_eq!(entries.number([1, 2, 0, 0, 0, 0, 0, 0]), 0x201);
    }
}
