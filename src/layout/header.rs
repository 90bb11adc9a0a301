//! The header, with its extensions.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::{FromBytes, IntoBytes};

use super::Design;
use crate::formats::qcow2::structures::extension::{self, Named, OursAt};
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::header::{
    self, AUTOCLEAR_CHECKSUMS, Compat, Compression, RawHeader, RawHeaderV3,
};
use crate::formats::qcow2::structures::refcount;
use crate::units::to_u64;

/// The header of an image of this design, whose checksum table and record, if there are any, are at `at`, and which
/// stands on the image of this name, if it does.
pub(super) fn bytes(design: &Design, at: Option<OursAt>, base: Option<&OsStr>) -> Vec<u8> {
    let Design {
        geometry,
        compat,
        room,
        compression,
        ..
    } = *design;
    // Both are below QEMU's limits, which Geometry and Room uphold: 2^22 entries, 2^14 clusters.
    let in_32_bits = |count: u64| u32::try_from(count).expect("QEMU's limits are upheld");
    let raw = RawHeader {
        magic: header::MAGIC,
        version: match compat {
            Compat::V0_10 => 2,
            Compat::V1_1 => 3,
        }
        .into(),
        backing_file_offset: 0.into(),
        backing_file_size: 0.into(),
        cluster_bits: geometry.cluster().bits().into(),
        size: geometry.size().into(),
        crypt_method: 0.into(),
        l1_size: in_32_bits(geometry.l1_entries()).into(),
        l1_table_offset: design.l1_at().0.into(),
        refcount_table_offset: design.refcount_table_at().0.into(),
        refcount_table_clusters: in_32_bits(room.refcount_table).into(),
        nb_snapshots: 0.into(),
        snapshots_offset: 0.into(),
    };
    let mut bytes = raw.as_bytes().to_vec();
    if compat == Compat::V1_1 {
        let is_zstd = compression == Some(Compression::Zstd);
        let header_length = if is_zstd {
            header::LENGTH_WITH_COMPRESSION
        } else {
            compat.header_length()
        };
        let v3 = RawHeaderV3 {
            incompatible_features: u64::from(is_zstd).wrapping_shl(features::COMPRESSION).into(),
            compatible_features: 0.into(),
            autoclear_features: at.map_or(0, |_| 1 << AUTOCLEAR_CHECKSUMS).into(),
            refcount_order: refcount::ORDER.into(),
            header_length: in_32_bits(to_u64(header_length)).into(),
        };
        bytes.extend(v3.as_bytes());
        if is_zstd {
            bytes.push(header::ZSTD);
            bytes.resize(header_length, 0);
        }
        // The bits that are set, and no others: with the smallest clusters there is no room for all that QEMU names.
        let compression = is_zstd.then_some(Named::CompressionType);
        let named: Vec<_> = compression
            .into_iter()
            .chain(at.map(|_| Named::Checksums))
            .collect();
        extension::append_feature_names(&mut bytes, &named);
    }
    if let Some(at) = at {
        extension::append_ours(&mut bytes, at);
    }
    if base.is_some() {
        extension::append_backing_format(&mut bytes);
    }
    extension::append_end(&mut bytes);
    if let Some(name) = base {
        append_backing_name(&mut bytes, name);
    }
    bytes
}

/// Appends the name, and tells in the header where it is.
fn append_backing_name(bytes: &mut Vec<u8>, name: &OsStr) {
    let (offset, length) = (to_u64(bytes.len()), u32::try_from(name.len()));
    let length = length.expect("QEMU's limit is upheld");
    bytes.extend(name.as_bytes());
    if let Ok((raw, _)) = RawHeader::mut_from_prefix(bytes) {
        raw.backing_file_offset = offset.into();
        raw.backing_file_size = length.into();
    }
}
