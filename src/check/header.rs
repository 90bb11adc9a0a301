//! Fields of the header that a reader has no use for. Spec: qcow2.txt, "Header".

use zerocopy::{FromZeros, IntoBytes};

use super::catalogue::Code;
use super::findings::{Finding, Log};
use crate::error::{Corrupt, Expected, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::header::RawHeader;
use crate::units::HostOffset;

/// QEMU counts offsets with a sign.
const MAX_OFFSET: u64 = u64::MAX >> 1;

/// Looks at the fields that mean nothing in this image, but must hold something sensible all the same.
pub(super) fn read(image: &Image, log: &mut Log<'_>) -> Result<()> {
    let (header, cluster_size) = (image.header(), image.header().geometry().cluster_size());
    let mut raw = RawHeader::new_zeroed();
    image.file().read_exact(raw.as_mut_bytes(), HostOffset(0))?;
    let mut wrong = |field, found, expected| {
        let (structure, at) = ("header", HostOffset(0));
        let fault = Corrupt::Field {
            structure,
            at,
            field,
            found,
            expected,
        };
        log.add(Finding::new(Code::Header, fault));
    };
    let (backing, snapshots) = (raw.backing_file_offset.get(), raw.snapshots_offset.get());
    if backing > cluster_size {
        wrong("backing_file_offset", backing, Expected::AtMost(cluster_size));
    }
    let is_told = image.unneeded().snapshot_table.is_some();
    if !snapshots.is_multiple_of(cluster_size) && !is_told {
        wrong("snapshots_offset", snapshots, Expected::MultipleOf(cluster_size));
    }
    if snapshots > MAX_OFFSET {
        wrong("snapshots_offset", snapshots, Expected::AtMost(MAX_OFFSET));
    }
    if header.has_autoclear(features::RAW_DATA_FILE) && !header.needs(features::DATA_FILE) {
        let raw_data_file = 1 << features::RAW_DATA_FILE;
        let found = header.features().autoclear;
        wrong("autoclear_features", found, Expected::Clear(raw_data_file));
    }
    Ok(())
}
