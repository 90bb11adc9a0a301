//! The header of QED: 64 bytes, little-endian. Spec: `qed_spec.txt`, "Header".

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Expected, Features, Result, Unsupported};
use crate::formats::legacy::two_level::Shape;
use crate::formats::legacy::{raw_header, wrong_field as field};
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::formats::{HostFile, truncated};
use crate::signatures::QED;
use crate::units::{Exact, HostOffset, MAX_SIZE, SECTOR, claimed_size};

/// Feature bit 0: there is a backing file.
const BACKING_FILE: u64 = 1 << 0;

/// Feature bit 1: it was not closed properly.
const NEED_CHECK: u64 = 1 << 1;

/// Feature bit 2: the backing file is raw, whatever it begins with.
const BACKING_FORMAT_NO_PROBE: u64 = 1 << 2;

const KNOWN: u64 = BACKING_FILE | NEED_CHECK | BACKING_FORMAT_NO_PROBE;

/// The smallest and the largest cluster, in bytes.
const CLUSTER_SIZES: Range<u64> = 1 << 12..(1 << 26) + 1;

/// How many clusters a table may have.
const MAX_TABLE: u64 = 16;

/// The longest name of a backing file in QEMU, in bytes.
const MAX_NAME: u64 = 1023;

/// The header as it is in the file.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0.
    magic: [u8; 4],
    /// 4: in bytes.
    cluster_size: U32,
    /// 8: of both levels, in clusters.
    table_size: U32,
    /// 12: in clusters.
    header_size: U32,
    /// 16: whoever does not know one must not read the image.
    features: U64,
    /// 24: whoever does not know one need not care.
    compat_features: U64,
    /// 32: whoever does not know one clears it before writing.
    autoclear_features: U64,
    /// 40: in bytes.
    l1_table_offset: U64,
    /// 48: of the disk, in bytes.
    image_size: U64,
    /// 56: in bytes from the begin of the header.
    backing_filename_offset: U32,
    /// 60: in bytes.
    backing_filename_size: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 64);

/// What a header says.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) shape: Shape,
    /// Of both levels, in clusters.
    pub(crate) table_size: u64,
    /// Whether it was not closed properly.
    pub(crate) needs_check: bool,
    /// Where the name of the backing file is, at most 1023 bytes, if there is one.
    pub(crate) backing: Option<Range<u64>>,
    /// Whether the backing file is raw, whatever it begins with.
    pub(crate) is_backing_raw: bool,
    /// Bits that it takes to read the image, that may be ignored, and that are cleared by who does not know them.
    pub(crate) features: [u64; 3],
}

impl Header {
    /// Reads and validates the header of a file.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a field holds what it cannot, or the file ends in it.
    /// - [`Error::Unsupported`](crate::Error::Unsupported) for feature bits that are not known.
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub(crate) fn read(file: &HostFile) -> Result<Self> {
        let raw: RawHeader = raw_header(file)?;
        if raw.magic != QED {
            let found = u64::from(u32::from_be_bytes(raw.magic));
            let expected = Expected::Exactly(u64::from(u32::from_be_bytes(QED)));
            return Err(field("magic", found, expected));
        }
        Self::of(&raw, file.length())
    }

    fn of(raw: &RawHeader, file_length: u64) -> Result<Self> {
        let features = raw.features.get();
        let unknown =
            (0..u64::BITS).filter(|bit| (features & !KNOWN).checked_shr(*bit).unwrap_or(0) & 1 == 1);
        let unknown: Vec<_> = unknown.map(|bit| (bit, None)).collect();
        if !unknown.is_empty() {
            return Err(Unsupported::Features(Features(unknown)).into());
        }
        let shape = shape(raw)?;
        if shape.header > file_length {
            return Err(truncated("header", HostOffset(0), file_length, shape.header));
        }
        let has_backing = features & BACKING_FILE != 0;
        Ok(Self {
            table_size: raw.table_size.get().into(),
            needs_check: features & NEED_CHECK != 0,
            backing: has_backing
                .then(|| backing(raw, shape.header))
                .transpose()?
                .flatten(),
            is_backing_raw: features & BACKING_FORMAT_NO_PROBE != 0,
            features: [features, raw.compat_features.get(), raw.autoclear_features.get()],
            shape,
        })
    }
}

fn shape(raw: &RawHeader) -> Result<Shape> {
    let power = |name, found: U32, allowed: Range<u64>| {
        let found = u64::from(found.get());
        if found.is_power_of_two() && allowed.contains(&found) {
            return Ok(found);
        }
        let (least, most) = (allowed.start, allowed.end.minus(1));
        Err(field(name, found, Expected::PowerOfTwo(least, most)))
    };
    let cluster_size = power("cluster_size", raw.cluster_size, CLUSTER_SIZES)?;
    let table_size = power("table_size", raw.table_size, 1..MAX_TABLE.plus(1))?;
    let header_size = u64::from(raw.header_size.get());
    if header_size == 0 {
        return Err(field("header_size", header_size, Expected::AtLeast(1)));
    }
    let at = raw.l1_table_offset.get();
    if at == 0 || !at.is_multiple_of(cluster_size) {
        return Err(field("l1_table_offset", at, Expected::MultipleOf(cluster_size)));
    }
    let size = raw.image_size.get();
    let entries = table_size.times(cluster_size) / ENTRY;
    // The largest tables of the largest clusters map more than any disk has.
    let largest = claimed_size(entries.times(entries), cluster_size).min(MAX_SIZE);
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(field("image_size", size, Expected::MultipleOf(SECTOR)));
    }
    if size > largest {
        return Err(field("image_size", size, Expected::AtMost(largest)));
    }
    Ok(Shape {
        size,
        cluster_size,
        l1: TableAt {
            at: HostOffset(at),
            entries,
        },
        l2_entries: entries,
        header: header_size.times(cluster_size),
        is_aligned: true,
    })
}

fn backing(raw: &RawHeader, header: u64) -> Result<Option<Range<u64>>> {
    let [at, length] =
        [raw.backing_filename_offset, raw.backing_filename_size].map(|field| u64::from(field.get()));
    if length == 0 {
        // The feature bit says that there is one.
        return Err(field("backing_filename_size", length, Expected::AtLeast(1)));
    }
    if length > MAX_NAME {
        return Err(field("backing_filename_size", length, Expected::AtMost(MAX_NAME)));
    }
    let end = at.plus(length);
    if end > header {
        // At 0, if it is longer than the header.
        let expected = Expected::AtMost(header.saturating_sub(length));
        return Err(field("backing_filename_offset", at, expected));
    }
    Ok(Some(at..end))
}
