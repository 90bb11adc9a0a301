//! Fields of the header that hold what they cannot.

use super::bases::Base::{DataFile, Extended, Ours, V2, V3, Zlib, Zstd};
use super::patient::field;
use super::{Elsewhere, Line, Reads, Refused};

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("magic QFJ", V3, |p| p.put8(2, b'J'), Refused("magic is 0x51464afb, expected 0x514649fb")),
    ("magic of vmdk", V3, |p| p.put(0, b"KDMV"), Refused("magic is 0x4b444d56")),
    ("version 0", V3, |p| p.put32(field::VERSION, 0), Refused("version is 0, which is not supported")),
    ("version 1", V2, |p| p.put32(field::VERSION, 1), Refused("cluster_bits is 0x0, expected 0x9 to 0x10")),
    ("version 4", V3, |p| p.put32(field::VERSION, 4), Refused("version is 4, which is not supported")),
    ("version 0xffffffff", V3, |p| p.put32(field::VERSION, u32::MAX), Refused("version is 4294967295")),

    ("cluster_bits 0", V3, |p| p.put32(field::CLUSTER_BITS, 0), Refused("cluster_bits is 0x0, expected at least 0x9")),
    ("cluster_bits 8", V3, |p| p.put32(field::CLUSTER_BITS, 8), Refused("cluster_bits is 0x8, expected at least 0x9")),
    ("cluster_bits 22", V3, |p| p.put32(field::CLUSTER_BITS, 22), Refused("cluster_bits is 0x16, expected at most 0x15")),
    ("cluster_bits 63", V3, |p| p.put32(field::CLUSTER_BITS, 63), Refused("cluster_bits is 0x3f, expected at most 0x15")),
    ("cluster_bits 64", V3, |p| p.put32(field::CLUSTER_BITS, 64), Refused("cluster_bits is 0x40, expected at most 0x15")),
    ("cluster_bits 0xffffffff", V2, |p| p.put32(field::CLUSTER_BITS, u32::MAX), Refused("cluster_bits is 0xffffffff")),
    ("cluster_bits one more", V3, |p| p.put32(field::CLUSTER_BITS, 13), Refused("expected a multiple of 0x2000")),
    ("cluster_bits 13 with extended L2", Extended, |p| p.put32(field::CLUSTER_BITS, 13), Refused("cluster_bits is 0xd, expected at least 0xe")),

    ("size 2^60", V3, |p| p.put64(field::SIZE, 1 << 60), Refused("size is 0x1000000000000000, expected at most")),
    ("size 2^63", V3, |p| p.put64(field::SIZE, 1 << 63), Refused("size is 0x8000000000000000, expected at most")),
    ("size 2^64 - 1", V3, |p| p.put64(field::SIZE, u64::MAX), Refused("size is 0xffffffffffffffff, expected at most")),
    ("size 2^64 - 512", V2, |p| p.put64(field::SIZE, u64::MAX - 511), Refused("size is 0xfffffffffffffe00, expected at most")),
    ("size 8 TiB", V3, |p| p.put64(field::SIZE, 8 << 40), Refused("l1_size is 0x2, expected at least 0x400000")),
    ("size of one L2 table more", V3, |p| p.put64(field::SIZE, (4 << 20) + 512), Refused("l1_size is 0x2, expected at least 0x3")),
    ("size 2^60 with extended L2", Extended, |p| p.put64(field::SIZE, 1 << 60), Refused("size is 0x1000000000000000, expected at most")),

    ("crypt_method 1", V2, |p| p.put32(field::CRYPT, 1), Elsewhere("is encrypted with AES")),
    ("crypt_method 2", V3, |p| p.put32(field::CRYPT, 2), Elsewhere("is encrypted with LUKS, which is not supported yet")),
    ("crypt_method 3", V3, |p| p.put32(field::CRYPT, 3), Refused("crypt_method is 0x3, expected at most 0x2")),
    ("crypt_method 0xffffffff", V3, |p| p.put32(field::CRYPT, u32::MAX), Refused("crypt_method is 0xffffffff, expected at most 0x2")),

    ("l1_size 0", V3, |p| p.put32(field::L1_SIZE, 0), Refused("l1_size is 0x0, expected at least 0x2")),
    ("l1_size too small", V3, |p| p.put32(field::L1_SIZE, 1), Refused("l1_size is 0x1, expected at least 0x2")),
    ("l1_size 0xffffffff", V3, |p| p.put32(field::L1_SIZE, u32::MAX), Refused("l1_size is 0xffffffff, expected at most 0x400000")),
    ("l1_size one beyond the limit", V3, |p| p.put32(field::L1_SIZE, 0x40_0001), Refused("l1_size is 0x400001, expected at most 0x400000")),
    ("l1_size past the end", V3, |p| p.put32(field::L1_SIZE, 0x40_0000), Refused("L1 table at 0x3000 does not fit: it needs 33554432 bytes")),
    ("l1_table_offset unaligned", V3, |p| p.put64(field::L1_OFFSET, p.l1() + 512), Refused("l1_table_offset is 0x3200, expected a multiple of 0x1000")),
    ("l1_table_offset off by eight", V2, |p| p.put64(field::L1_OFFSET, p.l1() + 8), Refused("l1_table_offset is 0x3008, expected a multiple of 0x1000")),
    ("l1_table_offset 0", V3, |p| p.put64(field::L1_OFFSET, 0), Refused("l1_table_offset is 0x0, expected at least 0x1000")),
    ("l1_table_offset at the end", V3, |p| p.put64(field::L1_OFFSET, p.len().next_multiple_of(4096)), Refused("L1 table at")),
    ("l1_table_offset 2^40", V3, |p| p.put64(field::L1_OFFSET, 1 << 40), Refused("L1 table at 0x10000000000 does not fit: it needs 16 bytes, 0 are there")),
    ("l1_table_offset 2^63", V3, |p| p.put64(field::L1_OFFSET, 1 << 63), Refused("0x8000000000000000")),
    ("l1_table_offset at the end of all offsets", V3, |p| p.put64(field::L1_OFFSET, !0xfff), Refused("0xfffffffffffff000")),

    ("refcount_table_offset unaligned", V3, |p| p.put64(field::REFCOUNT_OFFSET, p.refcount_table() + 512), Refused("refcount_table_offset is 0x1200, expected a multiple of 0x1000")),
    ("refcount_table_clusters 0", V3, |p| p.put32(field::REFCOUNT_CLUSTERS, 0), Refused("refcount_table_clusters is 0x0, expected at least 0x1")),
    ("refcount_table_clusters 0xffffffff", V3, |p| p.put32(field::REFCOUNT_CLUSTERS, u32::MAX), Refused("refcount_table_clusters is 0xffffffff, expected at most 0x800")),
    ("refcount_order 7", V3, |p| p.put32(field::REFCOUNT_ORDER, 7), Refused("refcount_order is 0x7, expected at most 0x6")),
    ("refcount_order 0xffffffff", V3, |p| p.put32(field::REFCOUNT_ORDER, u32::MAX), Refused("refcount_order is 0xffffffff, expected at most 0x6")),

    ("header_length 0", V3, |p| p.put32(field::HEADER_LENGTH, 0), Refused("header_length is 0x0, expected at least 0x68")),
    ("header_length 72", V3, |p| p.put32(field::HEADER_LENGTH, 72), Refused("header_length is 0x48, expected at least 0x68")),
    ("header_length 103", V3, |p| p.put32(field::HEADER_LENGTH, 103), Refused("header_length is 0x67, expected at least 0x68")),
    ("header_length 108", V3, |p| p.put32(field::HEADER_LENGTH, 108), Refused("header_length is 0x6c, expected a multiple of 0x8")),
    ("header_length one cluster and more", V3, |p| p.put32(field::HEADER_LENGTH, 4104), Refused("header_length is 0x1008, expected at most 0x1000")),
    ("header_length 0x10001", Extended, |p| p.put32(field::HEADER_LENGTH, 0x1_0001), Refused("header_length is 0x10001, expected")),
    ("header_length 0x10008", Extended, |p| p.put32(field::HEADER_LENGTH, 0x1_0008), Refused("header_length is 0x10008, expected at most 0x10000")),
    ("header_length 0xfffffff8", V3, |p| p.put32(field::HEADER_LENGTH, 0xffff_fff8), Refused("header_length is 0xfffffff8, expected at most 0x1000")),

    ("zstd without its feature", V3, |p| p.put8(field::COMPRESSION, 1), Refused("compression_type is 0x1, expected 0x0")),
    ("zlib with the feature", Zlib, |p| p.set(field::INCOMPATIBLE, 1 << 3), Refused("compression_type is 0x0, expected at least 0x1")),
    ("a third compression", Zstd, |p| p.put8(field::COMPRESSION, 2), Refused("compression_type is 0x2, expected at most 0x1")),
    ("zstd, its feature cleared", Zstd, |p| p.clear(field::INCOMPATIBLE, 1 << 3), Refused("compression_type is 0x1, expected 0x0")),
    ("zstd called zlib", Zstd, |p| { p.clear(field::INCOMPATIBLE, 1 << 3); p.put8(field::COMPRESSION, 0); }, Refused("the stream is damaged")),
    ("zlib called zstd", Zlib, |p| { p.set(field::INCOMPATIBLE, 1 << 3); p.put8(field::COMPRESSION, 1); }, Refused("the stream is damaged")),

    ("an unknown incompatible feature", V3, |p| p.set(field::INCOMPATIBLE, 1 << 5), Refused("needs features that are not known here: bit 5")),
    ("all incompatible features", V3, |p| p.put64(field::INCOMPATIBLE, u64::MAX), Refused("")),
    ("an unknown feature with a name", Ours, |p| {
        p.set(field::INCOMPATIBLE, 1 << 63);
        // Ours names an autoclear bit 63: now it is an incompatible one.
        let table = p.extension(0x6803_f857);
        p.put8(table + 8, 0);
    }, Refused("(bit 63)")),
    ("extended L2, which it has not", V3, |p| p.set(field::INCOMPATIBLE, 1 << 4), Refused("cluster_bits is 0xc, expected at least 0xe")),
    ("no extended L2, which it has", Extended, |p| p.clear(field::INCOMPATIBLE, 1 << 4), Refused("L2 table at")),
    ("an external data file, which it has not", V3, |p| p.set(field::INCOMPATIBLE, 1 << 2), Elsewhere("does not say which external data file it needs")),
    ("no external data file, which it has", DataFile, |p| p.clear(field::INCOMPATIBLE, 1 << 2), Refused("expected")),
    ("marked as dirty", V3, |p| p.set(field::INCOMPATIBLE, 1), Reads(0)),
    ("marked as corrupt", V3, |p| p.set(field::INCOMPATIBLE, 2), Reads(0)),
    ("unknown features that can be ignored", V3, |p| { p.put64(80, u64::MAX); p.put64(field::AUTOCLEAR, (u64::MAX << 8) >> 1); }, Reads(0)),
    ("dirty and corrupt in version 2", V2, |p| p.put64(72, 3), Reads(0)),

    ("an empty file", V3, |p| p.cut(0), Refused("header at 0x0 does not fit: it needs 72 bytes, 0 are there")),
    ("the magic and nothing else", V3, |p| p.cut(4), Refused("header at 0x0 does not fit: it needs 72 bytes, 4 are there")),
    ("cut in a field of version 2", V2, |p| p.cut(71), Refused("header at 0x0 does not fit: it needs 72 bytes, 71 are there")),
    ("cut behind the fields of version 2", V3, |p| p.cut(72), Refused("header at 0x0 does not fit: it needs 104 bytes, 72 are there")),
    ("cut in a field of version 3", V3, |p| p.cut(103), Refused("header at 0x0 does not fit: it needs 104 bytes, 103 are there")),
    ("cut behind the header", V3, |p| p.cut(112), Refused("")),
];
