//! Header extensions one by one, and how ours are written. Spec: qcow2.txt, "Header extensions".

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::features::{self, FeatureKind};
use super::header::AUTOCLEAR_CHECKSUMS;
use crate::units::HostOffset;

/// Ends the list.
pub const END: u32 = 0;

/// The name of the format of the backing file.
pub const BACKING_FORMAT: u32 = 0xe279_2aca;

/// The feature name table.
pub const FEATURE_NAMES: u32 = 0x6803_f857;

/// Where the bitmaps are.
pub const BITMAPS: u32 = 0x2385_2875;

/// Where the header of the encryption is.
pub const ENCRYPTION: u32 = 0x0537_be77;

/// The name of the external data file.
pub const DATA_FILE: u32 = 0x4441_5441;

/// Ours, "mkqc": points to the checksum table and the record.
pub const CHECKSUMS: u32 = 0x6d6b_7163;

/// The two words in front of the data of every extension, which is padded to a multiple of 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawExtension {
    /// 0: which one it is.
    pub kind: U32,
    /// 4: length of the data in bytes, without these words and without the padding.
    pub length: U32,
}
const _: () = assert!(size_of::<RawExtension>() == 8);

/// One entry of the feature name table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFeatureName {
    /// 0: 0 incompatible, 1 compatible, 2 autoclear.
    pub kind: u8,
    /// 1: number of the bit.
    pub bit: u8,
    /// 2: its name, padded with zeros.
    pub name: [u8; 46],
}
const _: () = assert!(size_of::<RawFeatureName>() == 48);

/// The data of our extension.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawChecksums {
    /// 0: host offset of the checksum table in bytes, aligned to a cluster.
    pub offset: U64,
    /// 8: length of the checksum table in bytes.
    pub length: U64,
    /// 16: host offset of the [record](super::record) in bytes.
    pub record: U64,
}
const _: () = assert!(size_of::<RawChecksums>() == 24);

/// The length in bytes of its data before there was a record.
pub const CHECKSUMS_ONLY: usize = 16;

/// The data of the extension for bitmaps. Spec: "Bitmaps extension".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawBitmaps {
    /// 0: number of bitmaps.
    pub nb_bitmaps: U32,
    /// 4: reserved.
    pub reserved: U32,
    /// 8: length of the bitmap directory in bytes.
    pub bitmap_directory_size: U64,
    /// 16: host offset of the bitmap directory in bytes, aligned to a cluster.
    pub bitmap_directory_offset: U64,
}
const _: () = assert!(size_of::<RawBitmaps>() == 24);

/// The data of the extension for encryption. Spec: "Full disk encryption header pointer".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawEncryption {
    /// 0: host offset of the header of the encryption in bytes, aligned to a cluster.
    pub offset: U64,
    /// 8: its length in bytes.
    pub length: U64,
}
const _: () = assert!(size_of::<RawEncryption>() == 16);

/// Where the checksum table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumsAt {
    /// Its first byte, aligned to a cluster.
    pub offset: HostOffset,
    /// Its length in bytes.
    pub length: u64,
}

/// Where the tables are that no other program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OursAt {
    /// The checksum table.
    pub checksums: ChecksumsAt,
    /// The first byte of the record; none in images made before there was one.
    pub record: Option<HostOffset>,
}

/// Appends an extension to a header.
fn append(header: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("what this module writes is a few entries or a structure");
    header.extend(
        RawExtension {
            kind: kind.into(),
            length: length.into(),
        }
        .as_bytes(),
    );
    header.extend(data);
    header.resize(header.len().next_multiple_of(8), 0);
}

/// Appends that the backing file is qcow2.
pub fn append_backing_format(header: &mut Vec<u8>) {
    append(header, BACKING_FORMAT, b"qcow2");
}

/// A feature bit that our images may have, for programs that meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Incompatible: the image has a compression type. Old programs cannot read it, and can say why.
    CompressionType,
    /// Autoclear: the image has checksums that are up to date.
    Checksums,
}

impl Named {
    fn entry(self) -> RawFeatureName {
        // The name of the first is QEMU's.
        let (kind, bit, text) = match self {
            Self::CompressionType => (
                FeatureKind::Incompatible,
                features::COMPRESSION,
                "compression type",
            ),
            Self::Checksums => (FeatureKind::Autoclear, AUTOCLEAR_CHECKSUMS, "mkqcow2 checksums"),
        };
        let mut name = [0; 46];
        for (to, from) in name.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        RawFeatureName {
            kind: kind.number(),
            bit: u8::try_from(bit).expect("a bit of 64"),
            name,
        }
    }
}

/// Appends a table of the names of these bits, if there are any.
pub fn append_feature_names(header: &mut Vec<u8>, named: &[Named]) {
    let entries: Vec<_> = named.iter().map(|named| named.entry()).collect();
    if !entries.is_empty() {
        append(header, FEATURE_NAMES, entries.as_slice().as_bytes());
    }
}

/// Appends our extension.
pub fn append_ours(header: &mut Vec<u8>, at: OursAt) {
    let raw = RawChecksums {
        offset: at.checksums.offset.0.into(),
        length: at.checksums.length.into(),
        record: at.record.map_or(0, |record| record.0).into(),
    };
    let (checksums_only, _) = raw.as_bytes().split_at(CHECKSUMS_ONLY);
    append(
        header,
        CHECKSUMS,
        at.record.map_or(checksums_only, |_| raw.as_bytes()),
    );
}

/// Appends the end of the list.
pub fn append_end(header: &mut Vec<u8>) {
    append(header, END, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::extensions::Extensions;
    use crate::formats::qcow2::structures::features::FeatureKind;

    #[test]
    fn what_was_appended_is_found_again() {
        let checksums = ChecksumsAt {
            offset: HostOffset(0x50000),
            length: 77,
        };
        let parsed = |record| {
            let mut bytes = vec![0; 104];
            append_feature_names(&mut bytes, &[Named::CompressionType, Named::Checksums]);
            append_ours(&mut bytes, OursAt { checksums, record });
            append_end(&mut bytes);
            bytes.resize(512, 0);
            Extensions::parse(&bytes, HostOffset(104), 512).unwrap()
        };
        for record in [None, Some(HostOffset(0x5004d))] {
            assert_eq!(parsed(record).ours, Some(OursAt { checksums, record }));
        }
        let found = parsed(None);
        let name = found.feature_name(FeatureKind::Autoclear, AUTOCLEAR_CHECKSUMS);
        assert_eq!(name.as_deref(), Some("mkqcow2 checksums"));
        let name = found.feature_name(FeatureKind::Incompatible, features::COMPRESSION);
        assert_eq!(name.as_deref(), Some("compression type"));
        let mut nothing = Vec::new();
        append_feature_names(&mut nothing, &[]);
        assert!(nothing.is_empty());
    }
}
