//! Version 1 of QCOW. Source: QEMU, `block/qcow.c`; the header is told in issue trackers only, there is no other
//! specification.

mod header;

use std::sync::Arc;

use header::Header;
pub(super) use header::MAGIC;

use super::HostFile;
use super::cipher::Cipher;
use super::legacy::two_level::{Entries, Tables};
use super::legacy::{LegacyHeader, LegacyImage, Parts};
use super::opening::{Member, Opened};
use crate::error::{Expected, Result};
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::units::{HostOffset, SECTOR};

/// Bit 63 of an entry of the second level: the cluster is compressed.
const COMPRESSED: u64 = 1 << 63;

/// Opens an image as one of the files of a disk.
pub(super) fn open(file: HostFile, member: &Member<'_>) -> Result<Opened> {
    member.access.refuse_of_legacy()?;
    let tables = Tables {
        number: member.number,
        windows: Arc::clone(&member.windows),
    };
    let image = read(file, tables)?;
    let cipher = match image.header() {
        LegacyHeader::Qcow {
            is_encrypted: true, ..
        } => Some(Cipher::of(member.access.password.as_ref())?),
        LegacyHeader::Qcow { .. } | LegacyHeader::Qed { .. } => None,
    };
    Ok(image.opened(cipher))
}

/// Opens an image by itself: what is encrypted stays so.
pub(super) fn read(file: HostFile, tables: Tables) -> Result<LegacyImage> {
    let header = Header::read(&file)?;
    LegacyImage::new(Parts {
        file,
        tables,
        shape: header.shape,
        entries: Box::new(QcowEntries {
            cluster_bits: header.cluster_bits,
        }),
        backing: header.backing.map(|place| (place, None)),
        header: LegacyHeader::Qcow {
            is_encrypted: header.is_encrypted,
            mtime: header.mtime,
        },
        remark: None,
    })
}

/// Offsets are bytes of the file; only those of clusters that are stored as they are have an alignment.
#[derive(Debug)]
struct QcowEntries {
    /// 9 to 16.
    cluster_bits: u32,
}

impl Entries for QcowEntries {
    fn number(&self, bytes: [u8; 8]) -> u64 {
        u64::from_be_bytes(bytes)
    }

    fn table(&self, entry: u64) -> Result<Option<HostOffset>, Expected> {
        Ok((entry != 0).then_some(HostOffset(entry)))
    }

    fn cluster(&self, entry: u64) -> Result<Mapping, Expected> {
        if entry == 0 {
            return Ok(Mapping::Unallocated);
        }
        if entry & COMPRESSED == 0 {
            // QEMU reads no other, and the header is shorter than a sector.
            return if entry.is_multiple_of(SECTOR) {
                Ok(Mapping::Data(HostOffset(entry)))
            } else {
                Err(Expected::MultipleOf(SECTOR))
            };
        }
        let offset_bits = 63_u32.saturating_sub(self.cluster_bits);
        let length = (entry & !COMPRESSED).checked_shr(offset_bits).unwrap_or(0);
        if length == 0 {
            return Err(Expected::That(
                "the length of a compressed cluster in its upper bits",
            ));
        }
        let at = entry & 1_u64.checked_shl(offset_bits).unwrap_or(0).saturating_sub(1);
        Ok(Mapping::Compressed(Stream {
            at: HostOffset(at),
            length,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_tell_where_and_how_long() {
        let entries = QcowEntries { cluster_bits: 12 };
        assert_eq!(entries.cluster(0), Ok(Mapping::Unallocated));
        assert_eq!(entries.cluster(0x1200), Ok(Mapping::Data(HostOffset(0x1200))));
        for inside in [1, 47, 511, 0x1234] {
            assert_eq!(entries.cluster(inside), Err(Expected::MultipleOf(512)));
        }
        let stream = Stream {
            at: HostOffset(0x1235),
            length: 4095,
        };
        assert_eq!(
            entries.cluster(1 << 63 | 4095 << 51 | 0x1235),
            Ok(Mapping::Compressed(stream))
        );
        assert!(entries.cluster(1 << 63 | 0x1235).is_err());
        assert_eq!(entries.table(0x201), Ok(Some(HostOffset(0x201))));
        assert_eq!(entries.number([0, 0, 0, 0, 0, 0, 2, 1]), 0x201);
    }
}
