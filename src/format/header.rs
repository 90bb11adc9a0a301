//! The header of an image. Spec: qcow2.txt, "Header".

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Corrupt, Error, Expected, Result, Unsupported};
use crate::format::geometry::{ClusterSize, Geometry};
use crate::units::{HostOffset, to_u64};

/// The first four bytes of every image.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

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
    /// How many bytes of the header come before the first extension.
    pub fn header_length(self) -> usize {
        match self {
            Self::V0_10 => size_of::<RawHeader>(),
            Self::V1_1 => size_of::<RawHeader>().saturating_add(size_of::<RawHeaderV3>()),
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

/// What of a header a reader of checksums relies on, validated.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    geometry: Geometry,
    compat: Compat,
    autoclear_features: u64,
    extensions_at: HostOffset,
}

impl Header {
    /// Validates the beginning of an image, of which `bytes` should hold 104 bytes or the whole file.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it is too short, is no image, or a field is outside the specification's limits.
    /// - [`Error::Unsupported`] for a version other than 2 and 3, or a disk beyond QEMU's limits.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (raw, rest) = RawHeader::read_from_prefix(bytes).map_err(|_| too_short(bytes, 72))?;
        if raw.magic != MAGIC {
            let (found, expected) = (u32::from_be_bytes(raw.magic), u32::from_be_bytes(MAGIC));
            return Err(wrong("magic", found, Expected::Exactly(expected.into())));
        }
        let bits = raw.cluster_bits.get();
        let cluster = ClusterSize::from_bits(bits).ok_or_else(|| {
            let limit = if bits < ClusterSize::MIN.bits() {
                Expected::AtLeast(ClusterSize::MIN.bits().into())
            } else {
                Expected::AtMost(ClusterSize::MAX.bits().into())
            };
            wrong("cluster_bits", bits, limit)
        })?;
        let geometry = Geometry::new(cluster, raw.size.get())
            .map_err(|_| wrong("size", raw.size.get(), Expected::AtMost(cluster.largest_disk())))?;
        match raw.version.get() {
            2 => Ok(Self {
                geometry,
                compat: Compat::V0_10,
                autoclear_features: 0,
                extensions_at: HostOffset(to_u64(Compat::V0_10.header_length())),
            }),
            3 => {
                let (v3, _) = RawHeaderV3::read_from_prefix(rest).map_err(|_| too_short(bytes, 104))?;
                let length = v3.header_length.get();
                if length < 104 {
                    return Err(wrong("header_length", length, Expected::AtLeast(104)));
                }
                if !length.is_multiple_of(8) {
                    return Err(wrong("header_length", length, Expected::MultipleOf(8)));
                }
                Ok(Self {
                    geometry,
                    compat: Compat::V1_1,
                    autoclear_features: v3.autoclear_features.get(),
                    extensions_at: HostOffset(length.into()),
                })
            }
            version => Err(Unsupported::Header {
                field: "version",
                found: version.into(),
            }
            .into()),
        }
    }

    /// Size and clusters of the virtual disk.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The version of the format.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// Whether an autoclear bit is set; none are in version 2.
    pub fn has_autoclear(&self, bit: u32) -> bool {
        1_u64
            .checked_shl(bit)
            .is_some_and(|mask| self.autoclear_features & mask != 0)
    }

    /// Where the header extensions begin.
    pub fn extensions_at(&self) -> HostOffset {
        self.extensions_at
    }
}

fn too_short(bytes: &[u8], expected: u64) -> Error {
    let found = to_u64(bytes.len());
    Corrupt::Truncated {
        structure: "header",
        at: HostOffset(0),
        found,
        expected,
    }
    .into()
}

fn wrong(field: &'static str, found: impl Into<u64>, expected: Expected) -> Error {
    Corrupt::Field {
        structure: "header",
        at: HostOffset(0),
        field,
        found: found.into(),
        expected,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        bytes[23] = 16;
        bytes[27] = 1;
        bytes[103] = 104;
        bytes
    }

    #[test]
    fn a_header_says_what_it_was_given() {
        let mut bytes = raw();
        bytes[88] = 0x80;
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.geometry().size(), 1 << 32);
        assert_eq!(header.compat(), Compat::V1_1);
        assert!(header.has_autoclear(63) && !header.has_autoclear(62));
        assert_eq!(header.extensions_at(), HostOffset(104));
    }

    #[test]
    fn a_damaged_field_is_named() {
        for (at, value, says) in [
            (0, b'q', "header at 0x0: magic is 0x714649fb, expected 0x514649fb"),
            (7, 4, "version is 4, which is not supported"),
            (23, 8, "header at 0x0: cluster_bits is 0x8, expected at least 0x9"),
            (
                23,
                22,
                "header at 0x0: cluster_bits is 0x16, expected at most 0x15",
            ),
            (
                103,
                72,
                "header at 0x0: header_length is 0x48, expected at least 0x68",
            ),
            (
                103,
                108,
                "header at 0x0: header_length is 0x6c, expected a multiple of 0x8",
            ),
        ] {
            let mut bytes = raw();
            bytes[at] = value;
            assert_eq!(Header::parse(&bytes).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn no_prefix_of_a_header_is_taken_for_one() {
        for length in 0..104 {
            assert!(Header::parse(&raw()[..length]).is_err(), "{length} bytes");
        }
    }
}
