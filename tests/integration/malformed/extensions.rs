//! Header extensions, and the name of the backing file between or behind them.

use super::bases::Base::{Backed, Bitmap, DataFile, Extended, Ours, V2, V3};
use super::patient::field;
use super::{Elsewhere, Line, Mismatch, Reads, Refused};

const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
const DATA_FILE: u32 = 0x4441_5441;
const CHECKSUMS: u32 = 0x6d6b_7163;

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("extension length 0x7fffffff", Extended, |p| p.put32(p.extension(FEATURE_NAMES) + 4, 0x7fff_ffff),
        Refused("does not fit: it needs 2147483655 bytes")),
    ("extension length 0xffffffff", Ours, |p| p.put32(p.first_extension() + 4, u32::MAX),
        Refused("does not fit: it needs 4294967303 bytes")),
    ("extension up to the end of the cluster and one more", Ours,
        |p| p.put32(p.first_extension() + 4, 4096 - p.first_extension() as u32 - 7), Refused("does not fit")),
    ("extension length in version 2", V2, |p| { p.put32(72, 0x1234_5678); p.put32(76, 0x7fff_ffff); },
        Refused("does not fit: it needs 2147483655 bytes")),
    ("an unknown extension", Ours, |p| p.put32(p.first_extension(), 0x1234_5678), Reads(0)),
    ("an unknown extension of nothing", V3, |p| p.put32(p.end_of_extensions(), 0x1234_5678), Reads(0)),
    ("no end of extensions", V3,
        |p| (p.end_of_extensions()..4096).step_by(8).for_each(|at| p.put32(at, 0x1234_5678)), Reads(0)),
    ("half a feature name", Ours, |p| p.put32(p.extension(FEATURE_NAMES) + 4, 47), Reads(0)),
    ("names of unknown features", Ours, |p| p.put8(p.extension(FEATURE_NAMES) + 8, 200), Reads(0)),
    ("a feature name of control characters", Extended,
        |p| p.put(p.extension(FEATURE_NAMES) + 10, b"\x1b[2J\x07\xff"), Reads(0)),

    ("backing_file_offset in the second cluster", Backed, |p| p.put64(field::BACKING_OFFSET, 4096),
        Refused("backing_file_offset is 0x1000, expected at most")),
    ("backing_file_offset so that the name leaves the first cluster", Backed,
        |p| p.put64(field::BACKING_OFFSET, 4090), Refused("backing_file_offset is 0xffa, expected at most")),
    ("backing_file_offset 2^63", Backed, |p| p.put64(field::BACKING_OFFSET, 1 << 63),
        Refused("backing_file_offset is 0x8000000000000000, expected at most")),
    ("backing_file_offset at the end of all offsets", Backed, |p| p.put64(field::BACKING_OFFSET, u64::MAX),
        Refused("backing_file_offset is 0xffffffffffffffff, expected at most")),
    ("backing_file_size 1024", Backed, |p| p.put32(field::BACKING_SIZE, 1024),
        Refused("backing_file_size is 0x400, expected at most 0x3ff")),
    ("backing_file_size 0xffffffff", Backed, |p| p.put32(field::BACKING_SIZE, u32::MAX),
        Refused("backing_file_size is 0xffffffff, expected at most 0x3ff")),
    ("backing file of no name", Backed, |p| p.put(p.get64(field::BACKING_OFFSET), b"\0"), Elsewhere("")),
    ("backing file of another name", Backed, |p| p.put(p.get64(field::BACKING_OFFSET), b"x"),
        Elsewhere("no such file, but ")),
    ("backing file that is the image", Backed, |p| {
        p.put(p.get64(field::BACKING_OFFSET), b"./bad.qcow2");
        p.put32(field::BACKING_SIZE, 11);
        p.put(p.extension(BACKING_FORMAT), b"\xe2\x79\x2a\xca\0\0\0\x05qcow2");
    }, Elsewhere("is its own backing file")),
    ("backing file of control characters", Backed, |p| p.put(p.get64(field::BACKING_OFFSET), b"\x1b[2J\x07"),
        Elsewhere("")),
    ("backing file that is no UTF-8", Backed, |p| p.put(p.get64(field::BACKING_OFFSET), b"\xff\xfe"),
        Elsewhere("")),
    ("backing format unknown", Backed, |p| p.put(p.extension(BACKING_FORMAT) + 8, b"vdi"),
        Elsewhere("has a backing file in the format \"vdi\", which is not supported")),
    ("backing format qcow2 of a raw file", Backed,
        |p| p.put(p.extension(BACKING_FORMAT) + 4, b"\0\0\0\x05qcow2"), Elsewhere("magic is")),

    ("data file of another name", DataFile, |p| p.put(p.extension(DATA_FILE) + 8, b"x"),
        Elsewhere("no such file, but ")),
    ("data file of no name", DataFile, |p| p.put32(p.extension(DATA_FILE), 0x1234_5678),
        Elsewhere("does not say which")),
    ("data file that is the image", DataFile,
        |p| { p.put32(p.extension(DATA_FILE) + 4, 9); p.put(p.extension(DATA_FILE) + 8, b"bad.qcow2"); },
        Elsewhere("")),

    ("bitmaps extension too short", Bitmap, |p| p.put32(p.extension(BITMAPS) + 4, 16),
        Refused("bitmaps extension")),
    ("bitmaps extension with a reserved field", Bitmap, |p| p.put32(p.extension(BITMAPS) + 12, 1),
        Refused("reserved is 0x1, expected 0x0")),
    ("no bitmaps", Bitmap, |p| p.put32(p.extension(BITMAPS) + 8, 0), Refused("nb_bitmaps is 0x0")),
    ("65536 bitmaps", Bitmap, |p| p.put32(p.extension(BITMAPS) + 8, 65536),
        Refused("nb_bitmaps is 0x10000, expected at most 0xffff")),
    ("bitmap directory of 2^63 bytes", Bitmap, |p| p.put64(p.extension(BITMAPS) + 16, 1 << 63),
        Refused("bitmap_directory_size is 0x8000000000000000, expected at most")),
    ("bitmap directory unaligned", Bitmap, |p| p.put64(p.extension(BITMAPS) + 24, 0x1200),
        Refused("bitmap_directory_offset is 0x1200, expected a multiple of 0x1000")),
    ("bitmap directory past the end", Bitmap, |p| p.put64(p.extension(BITMAPS) + 24, 1 << 40), Reads(2)),
    ("bitmap directory at the end of all offsets", Bitmap, |p| p.put64(p.extension(BITMAPS) + 24, !0xfff),
        Reads(2)),
    ("bitmap with a name of 65535 bytes", Bitmap,
        |p| p.put16(p.get64(p.extension(BITMAPS) + 24) + 18, u16::MAX), Reads(2)),
    ("bitmap with extra data of 4 GiB", Bitmap,
        |p| p.put32(p.get64(p.extension(BITMAPS) + 24) + 20, u32::MAX), Reads(2)),
    ("bitmap table past the end", Bitmap, |p| p.put64(p.get64(p.extension(BITMAPS) + 24), 1 << 40), Reads(2)),
    ("bitmap table of 2^32 entries", Bitmap, |p| p.put32(p.get64(p.extension(BITMAPS) + 24) + 8, u32::MAX),
        Reads(2)),

    ("checksums extension too short", Ours, |p| p.put32(p.extension(CHECKSUMS) + 4, 8), Refused("")),
    ("checksum table past the end", Ours, |p| p.put64(p.extension(CHECKSUMS) + 8, 1 << 40), Mismatch("")),
    ("checksum table of 2^63 bytes", Ours, |p| p.put64(p.extension(CHECKSUMS) + 16, 1 << 63), Mismatch("")),
    ("checksum table at the end of all offsets", Ours, |p| p.put64(p.extension(CHECKSUMS) + 8, !0xfff),
        Mismatch("")),
    ("checksum table with another magic", Ours, |p| p.put8(p.get64(p.extension(CHECKSUMS) + 8), 0),
        Mismatch("")),
    ("checksum table that lists other clusters", Ours,
        |p| p.put8(p.get64(p.extension(CHECKSUMS) + 8) + 39, 9), Mismatch("")),
    ("checksum of a cluster", Ours, |p| p.put8(p.get64(p.extension(CHECKSUMS) + 8) + 44, 9), Mismatch("")),
    ("a byte that has a checksum", Ours, |p| p.put8(p.host(1) + 77, p.bytes[p.host(1) as usize + 77] ^ 1),
        Mismatch("CRC-32 ")),
];
