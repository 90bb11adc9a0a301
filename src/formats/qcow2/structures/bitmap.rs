//! Entries of the bitmap directory. Spec: qcow2.txt, "Bitmaps".

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// QEMU's limit for the length of a name, in bytes.
pub const MAX_NAME: u64 = 1023;

/// The first 24 bytes of an entry. Extra data and the name follow; the next entry begins at a multiple of 8.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawBitmap {
    /// 0: host offset of the bitmap table, aligned to a cluster.
    pub bitmap_table_offset: U64,
    /// 8: number of entries of the bitmap table.
    pub bitmap_table_size: U32,
    /// 12: bit 0 in use, bit 1 auto, bit 2 compatible with any extra data.
    pub flags: U32,
    /// 16: 1, a dirty tracking bitmap.
    pub kind: u8,
    /// 17: log2 of the bytes of the disk that a bit stands for.
    pub granularity_bits: u8,
    /// 18: length of the name in bytes.
    pub name_size: U16,
    /// 20: length of the extra data in bytes.
    pub extra_data_size: U32,
}
const _: () = assert!(size_of::<RawBitmap>() == 24);

impl RawBitmap {
    /// How many bytes follow: extra data and name, without the padding.
    pub fn rest(&self) -> u64 {
        u64::from(self.extra_data_size.get()).plus(self.name_size.get().into())
    }
}

/// A bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name.
    pub name: String,
    /// log2 of the bytes of the disk that a bit stands for.
    pub granularity_bits: u8,
    /// It was not saved properly, and says nothing.
    pub in_use: bool,
    /// Writes are recorded in it.
    pub auto: bool,
    /// Where its table is; not validated.
    pub table_at: HostOffset,
    /// How many entries that has; not validated.
    pub table_entries: u64,
    /// What sort of bitmap it is; not validated.
    pub kind: u8,
    /// All its flags; not validated.
    pub flags: u32,
    /// How many bytes its entry takes.
    pub entry_length: u64,
}

impl Bitmap {
    /// From the first bytes and [the rest](RawBitmap::rest) of an entry.
    pub fn new(raw: &RawBitmap, rest: &[u8]) -> Self {
        let extra = to_usize(raw.extra_data_size.get().into());
        let name = rest.get(extra..).unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            granularity_bits: raw.granularity_bits,
            in_use: raw.flags.get() & 1 != 0,
            auto: raw.flags.get() & 2 != 0,
            table_at: HostOffset(raw.bitmap_table_offset.get()),
            table_entries: raw.bitmap_table_size.get().into(),
            kind: raw.kind,
            flags: raw.flags.get(),
            entry_length: entry_length(raw),
        }
    }
}

/// The whole length of an entry in bytes, with the padding.
pub fn entry_length(raw: &RawBitmap) -> u64 {
    to_u64(size_of::<RawBitmap>())
        .plus(raw.rest())
        .next_multiple_of(8)
}
