//! The header of an image. Spec: qcow2.txt, "Header".

mod raw;

use std::ops::Range;

use zerocopy::FromBytes;

pub use raw::{AUTOCLEAR_CHECKSUMS, Compat, MAGIC, RawHeader, RawHeaderV3};

use super::features::{self, FeatureBits, FeatureKind};
use super::geometry::{ClusterSize, ENTRY, Geometry, L2Form, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES};
use super::refcount::{self, Width};
use crate::error::{Corrupt, Error, Expected, Result, Unsupported};
use crate::units::{Exact, HostOffset, to_u64};

/// QEMU's limit for the number of internal snapshots.
const MAX_SNAPSHOTS: u32 = 65536;

/// The longest name of a backing file, in bytes. Spec: "Header".
const MAX_BACKING_NAME: u32 = 1023;

/// Where the compression type stands, if the header is that long.
const COMPRESSION_TYPE_AT: usize = 104;

/// The length in bytes of a header with a compression type.
pub const LENGTH_WITH_COMPRESSION: usize = 112;

/// The compression type that stands for Zstandard.
pub const ZSTD: u8 = 1;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate.
    #[default]
    Zlib,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What QEMU calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// How clusters are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With AES-CBC, which QEMU gave up.
    Aes,
    /// As LUKS does.
    Luks,
}

/// A table somewhere in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableAt {
    /// Its first byte, aligned to a cluster.
    pub at: HostOffset,
    /// How many entries it has.
    pub entries: u64,
}

/// What is wrong with structures that reading the active disk does not need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unneeded {
    /// The length of the header is no multiple of 8.
    pub header_length: Option<Corrupt>,
    /// The refcount table cannot be used.
    pub refcount_table: Option<Corrupt>,
    /// The snapshot table cannot be used.
    pub snapshot_table: Option<Corrupt>,
}

/// Whether bytes begin like a header of which nothing but the magic is damaged: version and cluster size fit.
pub(crate) fn fits_but_for_magic(begin: &[u8]) -> bool {
    RawHeader::read_from_prefix(begin).is_ok_and(|(raw, _)| {
        let is_size = ClusterSize::from_bits(raw.cluster_bits.get()).is_some();
        matches!(raw.version.get(), 2 | 3) && is_size
    })
}

/// Whether bytes are the beginning of an image, or of the beginning of one.
pub(crate) fn may_begin(begin: &[u8]) -> bool {
    MAGIC.starts_with(begin) || begin.starts_with(&MAGIC)
}

/// A header that is right in itself, but for what reading does not need; what it points to may still lie behind the
/// end of the file.
#[derive(Clone, Debug)]
pub struct Header {
    geometry: Geometry,
    compat: Compat,
    features: FeatureBits,
    encryption: Option<Encryption>,
    compression: Compression,
    refcounts: Width,
    l1: TableAt,
    refcount_table: TableAt,
    snapshots: TableAt,
    backing_name: Option<Range<u64>>,
    length: u64,
    unneeded: Unneeded,
}

impl Header {
    /// Validates the beginning of an image, of which `bytes` should hold 112 bytes or the whole file.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it is too short, is no image, or a field that reading needs is outside the
    ///   specification's limits or QEMU's. What is wrong with the others, [`unneeded`](Self::unneeded) says.
    /// - [`Error::Unsupported`] for a version other than 2 and 3.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (raw, rest) = RawHeader::read_from_prefix(bytes).map_err(|_| too_short(bytes, 72))?;
        if raw.magic != MAGIC {
            let (found, expected) = (u32::from_be_bytes(raw.magic), u32::from_be_bytes(MAGIC));
            return Err(wrong("magic", found, Expected::Exactly(expected.into())));
        }
        let v3 = match raw.version.get() {
            2 => RawHeaderV3::version_2(),
            3 => {
                RawHeaderV3::read_from_prefix(rest)
                    .map_err(|_| too_short(bytes, 104))?
                    .0
            }
            version => {
                return Err(Unsupported::Header {
                    field: "version",
                    found: version.into(),
                }
                .into());
            }
        };
        let compat = if raw.version.get() == 2 {
            Compat::V0_10
        } else {
            Compat::V1_1
        };
        let features = FeatureBits {
            incompatible: v3.incompatible_features.get(),
            compatible: v3.compatible_features.get(),
            autoclear: v3.autoclear_features.get(),
        };
        let geometry = geometry(&raw, features)?;
        let length = header_length(&v3, compat, geometry)?;
        let order = v3.refcount_order.get();
        let refcounts = Width::from_order(order).ok_or_else(|| {
            wrong(
                "refcount_order",
                order,
                Expected::AtMost(refcount::MAX_ORDER.into()),
            )
        })?;
        let (refcount_table, of_refcounts) = or_none(refcount_table(&raw, geometry));
        let (snapshots, of_snapshots) = or_none(snapshots(&raw, geometry));
        Ok(Self {
            geometry,
            compat,
            features,
            encryption: encryption(&raw)?,
            compression: compression(bytes, length, features)?,
            refcounts,
            l1: l1(&raw, geometry)?,
            refcount_table,
            snapshots,
            backing_name: backing_name(&raw, geometry)?,
            length,
            unneeded: Unneeded {
                header_length: (!length.is_multiple_of(8))
                    .then(|| field("header_length", length, Expected::MultipleOf(8))),
                refcount_table: of_refcounts,
                snapshot_table: of_snapshots,
            },
        })
    }

    /// Size and clusters of the virtual disk.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The version of the format.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// All feature bits.
    pub fn features(&self) -> FeatureBits {
        self.features
    }

    /// Whether an incompatible feature is used.
    pub fn needs(&self, bit: u32) -> bool {
        self.features.has(FeatureKind::Incompatible, bit)
    }

    /// Whether an autoclear bit is set; none are in version 2.
    pub fn has_autoclear(&self, bit: u32) -> bool {
        self.features.has(FeatureKind::Autoclear, bit)
    }

    /// How clusters are encrypted, if they are.
    pub fn encryption(&self) -> Option<Encryption> {
        self.encryption
    }

    /// How clusters are compressed, those that are.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How wide refcounts are.
    pub fn refcounts(&self) -> Width {
        self.refcounts
    }

    /// The active L1 table. It has an entry for all of the disk, perhaps more.
    pub fn l1(&self) -> TableAt {
        self.l1
    }

    /// The refcount table, whole clusters of it; of no entries if the header says nothing that can be used.
    pub fn refcount_table(&self) -> TableAt {
        self.refcount_table
    }

    /// The snapshot table; its entries differ in size. Of no entries if the header says nothing that can be used.
    pub fn snapshots(&self) -> TableAt {
        self.snapshots
    }

    /// Where in the first cluster the name of the backing file stands, if there is one.
    pub fn backing_name(&self) -> Option<Range<u64>> {
        self.backing_name.clone()
    }

    /// What is wrong with fields that reading does not need.
    pub fn unneeded(&self) -> &Unneeded {
        &self.unneeded
    }

    /// Where the header extensions begin: where QEMU looks for them, even if that is no multiple of 8.
    pub fn extensions_at(&self) -> HostOffset {
        HostOffset(self.length)
    }
}

fn geometry(raw: &RawHeader, features: FeatureBits) -> Result<Geometry> {
    let bits = raw.cluster_bits.get();
    let form = if features.has(FeatureKind::Incompatible, features::EXTENDED_L2) {
        L2Form::Extended
    } else {
        L2Form::Standard
    };
    let smallest = match form {
        L2Form::Standard => ClusterSize::MIN.bits(),
        L2Form::Extended => 14,
    };
    let cluster = ClusterSize::from_bits(bits)
        .filter(|cluster| cluster.bits() >= smallest)
        .ok_or_else(|| {
            let limit = if bits < smallest {
                Expected::AtLeast(smallest.into())
            } else {
                Expected::AtMost(ClusterSize::MAX.bits().into())
            };
            wrong("cluster_bits", bits, limit)
        })?;
    let largest = match form {
        L2Form::Standard => cluster.largest_disk(),
        L2Form::Extended => cluster.largest_disk() / 2,
    };
    Geometry::of_image(cluster, raw.size.get(), form)
        .map_err(|_| wrong("size", raw.size.get(), Expected::AtMost(largest)))
}

fn header_length(v3: &RawHeaderV3, compat: Compat, geometry: Geometry) -> Result<u64> {
    let (length, shortest) = (u64::from(v3.header_length.get()), to_u64(compat.header_length()));
    if length < shortest {
        return Err(wrong("header_length", length, Expected::AtLeast(shortest)));
    }
    if length > geometry.cluster_size() {
        let limit = Expected::AtMost(geometry.cluster_size());
        return Err(wrong("header_length", length, limit));
    }
    Ok(length)
}

fn encryption(raw: &RawHeader) -> Result<Option<Encryption>> {
    match raw.crypt_method.get() {
        0 => Ok(None),
        1 => Ok(Some(Encryption::Aes)),
        2 => Ok(Some(Encryption::Luks)),
        method => Err(wrong("crypt_method", method, Expected::AtMost(2))),
    }
}

fn compression(bytes: &[u8], header_length: u64, features: FeatureBits) -> Result<Compression> {
    let stands_there = header_length > to_u64(COMPRESSION_TYPE_AT);
    let found = bytes
        .get(COMPRESSION_TYPE_AT)
        .copied()
        .filter(|_| stands_there)
        .unwrap_or(0);
    match (
        found,
        features.has(FeatureKind::Incompatible, features::COMPRESSION),
    ) {
        (0, false) => Ok(Compression::Zlib),
        (ZSTD, true) => Ok(Compression::Zstd),
        (0, true) => Err(wrong("compression_type", found, Expected::AtLeast(1))),
        (_, true) => Err(wrong("compression_type", found, Expected::AtMost(1))),
        (_, false) => Err(wrong("compression_type", found, Expected::Exactly(0))),
    }
}

fn l1(raw: &RawHeader, geometry: Geometry) -> Result<TableAt> {
    let (entries, needed) = (u64::from(raw.l1_size.get()), geometry.l1_entries());
    if entries < needed {
        return Err(wrong("l1_size", entries, Expected::AtLeast(needed)));
    }
    if entries > MAX_L1_BYTES / ENTRY {
        return Err(wrong("l1_size", entries, Expected::AtMost(MAX_L1_BYTES / ENTRY)));
    }
    let at = aligned("l1_table_offset", raw.l1_table_offset.get(), geometry)?;
    if entries > 0 && at.0 == 0 {
        return Err(wrong(
            "l1_table_offset",
            at.0,
            Expected::AtLeast(geometry.cluster_size()),
        ));
    }
    Ok(TableAt { at, entries })
}

fn refcount_table(raw: &RawHeader, geometry: Geometry) -> Result<TableAt, Corrupt> {
    let clusters = u64::from(raw.refcount_table_clusters.get());
    let limit = MAX_REFCOUNT_TABLE_BYTES >> geometry.cluster().bits();
    if clusters > limit {
        return Err(field(
            "refcount_table_clusters",
            clusters,
            Expected::AtMost(limit),
        ));
    }
    if clusters == 0 {
        return Err(field("refcount_table_clusters", clusters, Expected::AtLeast(1)));
    }
    let at = aligned("refcount_table_offset", raw.refcount_table_offset.get(), geometry)?;
    if at.0 == 0 {
        return Err(field(
            "refcount_table_offset",
            at.0,
            Expected::AtLeast(geometry.cluster_size()),
        ));
    }
    let entries = clusters.times(geometry.cluster_size()) / ENTRY;
    Ok(TableAt { at, entries })
}

fn snapshots(raw: &RawHeader, geometry: Geometry) -> Result<TableAt, Corrupt> {
    let count = raw.nb_snapshots.get();
    if count > MAX_SNAPSHOTS {
        return Err(field(
            "nb_snapshots",
            count,
            Expected::AtMost(MAX_SNAPSHOTS.into()),
        ));
    }
    // Without snapshots the offset means nothing.
    let at = if count == 0 {
        HostOffset(0)
    } else {
        aligned("snapshots_offset", raw.snapshots_offset.get(), geometry)?
    };
    if count > 0 && at.0 == 0 {
        return Err(field(
            "snapshots_offset",
            at.0,
            Expected::AtLeast(geometry.cluster_size()),
        ));
    }
    let entries = count.into();
    Ok(TableAt { at, entries })
}

fn backing_name(raw: &RawHeader, geometry: Geometry) -> Result<Option<Range<u64>>> {
    let (start, length) = (raw.backing_file_offset.get(), raw.backing_file_size.get());
    // QEMU takes both for "none".
    if start == 0 || length == 0 {
        return Ok(None);
    }
    if length > MAX_BACKING_NAME {
        return Err(wrong(
            "backing_file_size",
            length,
            Expected::AtMost(MAX_BACKING_NAME.into()),
        ));
    }
    // The longest names fit in no cluster of 512 bytes, not even at its beginning.
    let latest = geometry.cluster_size().saturating_sub(length.into());
    if start > latest {
        return Err(wrong("backing_file_offset", start, Expected::AtMost(latest)));
    }
    Ok(Some(start..start.plus(length.into())))
}

fn aligned(name: &'static str, found: u64, geometry: Geometry) -> Result<HostOffset, Corrupt> {
    if found.is_multiple_of(geometry.cluster_size()) {
        Ok(HostOffset(found))
    } else {
        Err(field(name, found, Expected::MultipleOf(geometry.cluster_size())))
    }
}

/// A table that reading does not need, or one of no entries and what is wrong with it.
fn or_none(table: Result<TableAt, Corrupt>) -> (TableAt, Option<Corrupt>) {
    match table {
        Ok(table) => (table, None),
        Err(fault) => {
            let (at, entries) = (HostOffset(0), 0);
            (TableAt { at, entries }, Some(fault))
        }
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

fn wrong(name: &'static str, found: impl Into<u64>, expected: Expected) -> Error {
    field(name, found, expected).into()
}

fn field(field: &'static str, found: impl Into<u64>, expected: Expected) -> Corrupt {
    Corrupt::Field {
        structure: "header",
        at: HostOffset(0),
        field,
        found: found.into(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        bytes[23] = 16;
        bytes[27] = 1;
        bytes[39] = 8;
        bytes[45] = 1;
        bytes[53] = 2;
        bytes[59] = 1;
        bytes[99] = 4;
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
        ] {
            let mut bytes = raw();
            bytes[at] = value;
            assert_eq!(Header::parse(&bytes).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_field_that_reading_does_not_need_is_told_and_not_refused() {
        let says = |at: usize, value| {
            let mut bytes = raw();
            bytes[at] = value;
            let header = Header::parse(&bytes).unwrap();
            let Unneeded {
                header_length,
                refcount_table,
                snapshot_table,
            } = header.unneeded().clone();
            let all = [header_length, refcount_table, snapshot_table];
            all.map(|fault| fault.map(|fault| fault.to_string()))
        };
        let some = |says: &str| Some(format!("header at 0x0: {says}"));
        assert_eq!(says(103, 104), [None, None, None]);
        let length = some("header_length is 0x69, expected a multiple of 0x8");
        assert_eq!(says(103, 105), [length, None, None]);
        let table = some("refcount_table_offset is 0x0, expected at least 0x10000");
        assert_eq!(says(53, 0), [None, table, None]);
        let snapshots = some("snapshots_offset is 0x0, expected at least 0x10000");
        assert_eq!(says(63, 1), [None, None, snapshots]);
    }

    #[test]
    fn no_prefix_of_a_header_is_taken_for_one() {
        for length in 0..104 {
            assert!(Header::parse(&raw()[..length]).is_err(), "{length} bytes");
        }
    }
}
