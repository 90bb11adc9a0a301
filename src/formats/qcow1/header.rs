//! The header of QCOW version 1: 48 bytes, big-endian. Source: QEMU, `block/qcow.c`, `QCowHeader`.

use std::ops::Range;

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Expected, Result, Unsupported};
use crate::formats::HostFile;
use crate::formats::legacy::two_level::Shape;
use crate::formats::legacy::{raw_header, wrong_field as field};
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::header::TableAt;
use crate::signatures::QCOW1;
use crate::units::{Exact, HostOffset, claimed_end, to_u64};

/// The longest name of a backing file, in bytes.
const MAX_NAME: u64 = 1023;

/// How many entries the table of the first level may have, in QEMU.
const MAX_L1: u64 = 0x7fff_ffff / ENTRY;

/// The header as it is in the file.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0.
    magic: [u8; 8],
    /// 8: 0 if there is no backing file.
    backing_file_offset: U64,
    /// 16: in bytes.
    backing_file_size: U32,
    /// 20: when the backing file was changed last, in seconds since 1970, or 0.
    mtime: U32,
    /// 24: of the disk, in bytes.
    size: U64,
    /// 32: 9 to 16.
    cluster_bits: u8,
    /// 33: of the number of entries in a table of the second level, 6 to 13.
    l2_bits: u8,
    /// 34.
    padding: [u8; 2],
    /// 36: 0, or 1 for AES.
    crypt_method: U32,
    /// 40.
    l1_table_offset: U64,
}

const _: () = assert!(size_of::<RawHeader>() == 48);

/// What a header says.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) shape: Shape,
    /// 9 to 16.
    pub(crate) cluster_bits: u32,
    /// Whether its clusters are encrypted, with AES.
    pub(crate) is_encrypted: bool,
    /// Where the name of the backing file is, at most 1023 bytes, if there is one.
    pub(crate) backing: Option<Range<u64>>,
    /// When the backing file was changed last, in seconds since 1970, if that was kept.
    pub(crate) mtime: Option<u32>,
}

impl Header {
    /// Reads and validates the header of a file.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a field holds what it cannot, or the file ends in it.
    /// - [`Error::Unsupported`](crate::Error::Unsupported) for an encryption that is not known.
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub(crate) fn read(file: &HostFile) -> Result<Self> {
        let raw: RawHeader = raw_header(file)?;
        if raw.magic != QCOW1 {
            let found = u64::from_be_bytes(raw.magic);
            return Err(field(
                "magic",
                found,
                Expected::Exactly(u64::from_be_bytes(QCOW1)),
            ));
        }
        Self::of(&raw, file.length())
    }

    fn of(raw: &RawHeader, file_length: u64) -> Result<Self> {
        let within = |name, found: u8, allowed: Range<u8>| {
            let text = Expected::Between(u64::from(allowed.start), u64::from(allowed.end.minus(1)));
            let is_allowed = allowed.contains(&found);
            is_allowed
                .then_some(u32::from(found))
                .ok_or_else(|| field(name, found.into(), text))
        };
        let cluster_bits = within("cluster_bits", raw.cluster_bits, 9..17)?;
        let l2_bits = within("l2_bits", raw.l2_bits, 6..14)?;
        let reach = 1_u64 << cluster_bits.plus(l2_bits);
        let size = raw.size.get();
        if size < 2 {
            return Err(field("size", size, Expected::AtLeast(2)));
        }
        let largest = MAX_L1.times(reach);
        if size > largest {
            return Err(field("size", size, Expected::AtMost(largest)));
        }
        let is_encrypted = match raw.crypt_method.get() {
            0 => false,
            1 => true,
            other => {
                let (field, found) = ("crypt_method", other.into());
                return Err(Unsupported::Header { field, found }.into());
            }
        };
        Ok(Self {
            shape: Shape {
                size,
                cluster_size: 1 << cluster_bits,
                l1: TableAt {
                    at: HostOffset(raw.l1_table_offset.get()),
                    entries: size.div_ceil(reach),
                },
                l2_entries: 1 << l2_bits,
                header: to_u64(size_of::<RawHeader>()),
                is_aligned: false,
            },
            cluster_bits,
            is_encrypted,
            backing: backing(raw, file_length)?,
            mtime: Some(raw.mtime.get()).filter(|mtime| *mtime != 0),
        })
    }
}

fn backing(raw: &RawHeader, file_length: u64) -> Result<Option<Range<u64>>> {
    let (at, length) = (
        raw.backing_file_offset.get(),
        u64::from(raw.backing_file_size.get()),
    );
    if at == 0 || length == 0 {
        return Ok(None);
    }
    if length > MAX_NAME {
        return Err(field("backing_file_size", length, Expected::AtMost(MAX_NAME)));
    }
    let end = claimed_end(at, length);
    if end > file_length {
        return Err(field(
            "backing_file_offset",
            at,
            Expected::WithinFile(file_length),
        ));
    }
    Ok(Some(at..end))
}
