//! The bytes of a header. Spec: qcow2.txt, "Header".

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::formats::qcow2::structures::refcount;
use crate::units::Exact;

/// The first four bytes of every image.
pub const MAGIC: [u8; 4] = crate::signatures::QCOW2;

/// The autoclear bit that says the checksum table describes the disk as it is: QEMU clears bits it does not
/// know as soon as it opens an image for writing. 63, far from those that QEMU assigns from 0 on.
pub const AUTOCLEAR_CHECKSUMS: u32 = 63;

/// The version of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Version 2, which QEMU calls compat=0.10.
    V0_10,
    /// Version 3, which QEMU calls compat=1.1.
    #[default]
    V1_1,
}

impl Compat {
    /// Its number, as the header has it.
    pub fn version(self) -> u32 {
        match self {
            Self::V0_10 => 2,
            Self::V1_1 => 3,
        }
    }

    /// How many bytes of the header come before the first extension.
    pub fn header_length(self) -> usize {
        match self {
            Self::V0_10 => size_of::<RawHeader>(),
            Self::V1_1 => size_of::<RawHeader>().plus(size_of::<RawHeaderV3>()),
        }
    }
}

/// The first 72 bytes of an image.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    /// 0: [`MAGIC`].
    pub magic: [u8; 4],
    /// 4: 2 or 3.
    pub version: U32,
    /// 8: host offset of the backing file name, in bytes; 0 for none.
    pub backing_file_offset: U64,
    /// 16: length of the backing file name, in bytes.
    pub backing_file_size: U32,
    /// 20: log2 of the cluster size; 9 to 21 (21 is QEMU's limit, not the spec's).
    pub cluster_bits: U32,
    /// 24: size of the virtual disk, in bytes.
    pub size: U64,
    /// 32: 0 none, 1 AES, 2 LUKS.
    pub crypt_method: U32,
    /// 36: number of entries in the active L1 table.
    pub l1_size: U32,
    /// 40: host offset of the active L1 table, aligned to a cluster.
    pub l1_table_offset: U64,
    /// 48: host offset of the refcount table, aligned to a cluster.
    pub refcount_table_offset: U64,
    /// 56: clusters that the refcount table takes.
    pub refcount_table_clusters: U32,
    /// 60: number of internal snapshots.
    pub nb_snapshots: U32,
    /// 64: host offset of the snapshot table, aligned to a cluster.
    pub snapshots_offset: U64,
}
const _: () = assert!(size_of::<RawHeader>() == 72);

/// What version 3 adds, from byte 72 on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawHeaderV3 {
    /// 72: features without which the image must not be read.
    pub incompatible_features: U64,
    /// 80: features that can be ignored.
    pub compatible_features: U64,
    /// 88: features that a program which does not know them clears when it writes.
    pub autoclear_features: U64,
    /// 96: log2 of the width of a refcount, in bits.
    pub refcount_order: U32,
    /// 100: where the extensions begin, in bytes; a multiple of 8.
    pub header_length: U32,
}
const _: () = assert!(size_of::<RawHeaderV3>() == 32);

impl RawHeaderV3 {
    /// What the fields would be if version 2 had them. Spec: "Header".
    pub(super) fn version_2() -> Self {
        Self {
            incompatible_features: 0.into(),
            compatible_features: 0.into(),
            autoclear_features: 0.into(),
            refcount_order: refcount::ORDER.into(),
            header_length: 72.into(),
        }
    }
}
