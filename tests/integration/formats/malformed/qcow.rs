//! QCOW version 1: clusters of 512 bytes; the L1 table at 0x200, the first L2 table at 0x400, the second at 0x600.

use super::{Image, Line};

/// A field of the header, or an entry of a table.
fn number(image: &mut Image, at: usize, value: u64) {
    image.put(at, &value.to_be_bytes());
}

fn short(image: &mut Image, at: usize, value: u32) {
    image.put(at, &value.to_be_bytes());
}

/// Changes the entry of the compressed cluster: where its stream is, and how long.
fn stream(image: &mut Image, at: u64, length: u64) {
    number(image, 0x400 + 16, 1 << 63 | length << 54 | at);
}

fn place(image: &Image) -> usize {
    image.clusters[2]
}

/// The length of its stream, as its entry has it.
fn length(image: &Image) -> u64 {
    let entry = image.bytes[0x410..0x418].try_into().unwrap();
    (u64::from_be_bytes(entry) & !(1 << 63)) >> 54
}

fn end(image: &Image) -> u64 {
    image.bytes.len() as u64
}

pub(super) const ROWS: &[Line] = &[
    (
        "cluster_bits 0",
        |image| image.put(32, &[0]),
        "header at 0x0: cluster_bits is 0x0, expected 0x9 to 0x10",
    ),
    (
        "cluster_bits 8",
        |image| image.put(32, &[8]),
        "header at 0x0: cluster_bits is 0x8, expected 0x9 to 0x10",
    ),
    (
        "cluster_bits 17",
        |image| image.put(32, &[17]),
        "header at 0x0: cluster_bits is 0x11, expected 0x9 to 0x10",
    ),
    (
        "cluster_bits 255",
        |image| image.put(32, &[255]),
        "header at 0x0: cluster_bits is 0xff, expected 0x9 to 0x10",
    ),
    (
        "l2_bits 0",
        |image| image.put(33, &[0]),
        "header at 0x0: l2_bits is 0x0, expected 0x6 to 0xd",
    ),
    (
        "l2_bits 5",
        |image| image.put(33, &[5]),
        "header at 0x0: l2_bits is 0x5, expected 0x6 to 0xd",
    ),
    (
        "l2_bits 14",
        |image| image.put(33, &[14]),
        "header at 0x0: l2_bits is 0xe, expected 0x6 to 0xd",
    ),
    (
        "l2_bits 255",
        |image| image.put(33, &[255]),
        "header at 0x0: l2_bits is 0xff, expected 0x6 to 0xd",
    ),
    (
        "size 0",
        |image| number(image, 24, 0),
        "header at 0x0: size is 0x0, expected at least 0x2",
    ),
    (
        "size 1",
        |image| number(image, 24, 1),
        "header at 0x0: size is 0x1, expected at least 0x2",
    ),
    (
        "size 2^63",
        |image| number(image, 24, 1 << 63),
        "header at 0x0: size is 0x8000000000000000, expected at most 0x7ffffff8000",
    ),
    (
        "size 2^64-1",
        |image| number(image, 24, u64::MAX),
        "header at 0x0: size is 0xffffffffffffffff, expected at most",
    ),
    (
        "size beyond the L1 table",
        |image| number(image, 24, 1 << 40),
        "L1 table at 0x200 does not fit: it needs 268435456 bytes",
    ),
    (
        "size of the largest L1 table",
        |image| number(image, 24, 0x7ff_ffff_8000),
        "L1 table at 0x200 does not fit: it needs 2147483640 bytes",
    ),
    (
        "crypt_method 2",
        |image| short(image, 36, 2),
        "crypt_method is 2, which is not supported",
    ),
    (
        "crypt_method 2^32-1",
        |image| short(image, 36, u32::MAX),
        "crypt_method is 4294967295, which is not supported",
    ),
    (
        "crypt_method 1 without a password",
        |image| short(image, 36, 1),
        "is encrypted with AES, and needs a password",
    ),
    (
        "name too long",
        |image| {
            number(image, 8, 0x40);
            short(image, 16, 1024);
        },
        "header at 0x0: backing_file_size is 0x400, expected at most 0x3ff",
    ),
    (
        "name of 4 GiB",
        |image| {
            number(image, 8, 0x40);
            short(image, 16, u32::MAX);
        },
        "header at 0x0: backing_file_size is 0xffffffff, expected at most 0x3ff",
    ),
    (
        "name past the end",
        |image| {
            number(image, 8, 0x40_0000);
            short(image, 16, 4);
        },
        "header at 0x0: backing_file_offset is 0x400000, expected an offset within the file",
    ),
    (
        "name over the end",
        |image| {
            number(image, 8, end(image) - 2);
            short(image, 16, 4);
        },
        "expected an offset within the file, which has 0x",
    ),
    (
        "name at 2^64-1",
        |image| {
            number(image, 8, u64::MAX);
            short(image, 16, 4);
        },
        "header at 0x0: backing_file_offset is 0xffffffffffffffff, expected",
    ),
    (
        "name of a file that nobody named",
        |image| {
            number(image, 8, 0x40);
            short(image, 16, 4);
            image.put(0x40, b"base");
        },
        "needs its backing file, \"base\", which is opened only on request",
    ),
    (
        "L1 table at 0",
        |image| number(image, 40, 0),
        "header at 0x0: l1_table_offset is 0x0, expected an offset outside the header",
    ),
    (
        "L1 table at 1",
        |image| number(image, 40, 1),
        "header at 0x0: l1_table_offset is 0x1, expected an offset outside the header",
    ),
    (
        "L1 table in the header",
        |image| number(image, 40, 47),
        "header at 0x0: l1_table_offset is 0x2f, expected an offset outside the header",
    ),
    (
        "L1 table past the end",
        |image| number(image, 40, 1 << 32),
        "L1 table at 0x100000000 does not fit: it needs 16 bytes, 0 are there",
    ),
    (
        "L1 table over the end",
        |image| number(image, 40, end(image) - 8),
        "does not fit: it needs 16 bytes, 8 are there",
    ),
    (
        "L1 table at 2^64-1",
        |image| number(image, 40, u64::MAX),
        "L1 table at 0xffffffffffffffff does not fit: it needs 16 bytes, 0 are there",
    ),
    (
        "L1 table at 2^64-8",
        |image| number(image, 40, u64::MAX - 7),
        "L1 table at 0xfffffffffffffff8 does not fit: it needs 16 bytes, 0 are there",
    ),
    (
        "L1 entry past the end",
        |image| number(image, 0x208, 1 << 40),
        "L1 table at 0x200: entry 1 is 0x10000000000, expected an offset within the file",
    ),
    (
        "L1 entry at 2^63",
        |image| number(image, 0x200, 1 << 63),
        "L1 table at 0x200: entry 0 is 0x8000000000000000, expected an offset within the file",
    ),
    (
        "L1 entry at 2^64-1",
        |image| number(image, 0x200, u64::MAX),
        "L1 table at 0x200: entry 0 is 0xffffffffffffffff, expected an offset within the file",
    ),
    (
        "L1 entry into the header",
        |image| number(image, 0x200, 8),
        "L1 table at 0x200: entry 0 is 0x8, expected an offset outside the header",
    ),
    (
        "L1 entry to the L1 table",
        |image| number(image, 0x200, 0x200),
        "L1 table at 0x200: entry 0 is 0x200, expected an offset outside the L1 table",
    ),
    (
        "L1 entry just in front of the L1 table",
        |image| number(image, 0x208, 0x30),
        "L1 table at 0x200: entry 1 is 0x30, expected an offset outside the L1 table",
    ),
    (
        "L2 table over the end",
        |image| {
            let at = end(image) - 511;
            number(image, 0x208, at);
        },
        "is cut off by the end of the file, ",
    ),
    (
        "L2 entry past the end",
        |image| number(image, 0x400, 1 << 40),
        "L2 table at 0x400: entry 0 is 0x10000000000, expected an offset within the file, which has",
    ),
    (
        "L2 entry at the end",
        |image| {
            let at = end(image);
            number(image, 0x408, at);
        },
        "(guest 0x200 to 0x400)",
    ),
    (
        "L2 entry at 2^63-1",
        |image| number(image, 0x408, (1 << 63) - 1),
        "L2 table at 0x400: entry 1 is 0x7fffffffffffffff, expected a multiple of 0x200",
    ),
    (
        "L2 entry into the header",
        |image| number(image, 0x400, 40),
        "L2 table at 0x400: entry 0 is 0x28, expected a multiple of 0x200",
    ),
    (
        "L2 entry into the L1 table",
        |image| number(image, 0x400, 0x200),
        "L2 table at 0x400: entry 0 is 0x200, expected an offset outside the L1 table",
    ),
    (
        "L2 entry between sectors",
        |image| {
            let at = image.clusters[0] as u64;
            number(image, 0x400, at + 8);
        },
        "expected a multiple of 0x200 (guest 0x0 to 0x200)",
    ),
    (
        "L2 entry of 1",
        |image| number(image, 0x600, 1),
        "L2 table at 0x600: entry 0 is 0x1, expected a multiple of 0x200 (guest 0x8000 to 0x8200)",
    ),
    (
        "data cluster over the end",
        |image| {
            let at = end(image).next_multiple_of(512);
            image.bytes.resize(at as usize + 1, 0);
            number(image, 0x400, at);
        },
        "is cut off by the end of the file, ",
    ),
    (
        "compressed length 0",
        |image| {
            let at = place(image) as u64;
            stream(image, at, 0);
        },
        "L2 table at 0x400: entry 2 is 0x80000000000",
    ),
    (
        "compressed past the end",
        |image| stream(image, 1 << 30, 100),
        "L2 table at 0x400: entry 2 is 0x9900000040000000, expected an offset within the file",
    ),
    (
        "compressed at the largest offset",
        |image| stream(image, (1 << 54) - 1, 511),
        "L2 table at 0x400: entry 2 is 0xffffffffffffffff, expected an offset within the file",
    ),
    (
        "compressed size over the end",
        |image| {
            let at = end(image) - 510;
            stream(image, at, 511);
        },
        "is cut off by the end of the file, ",
    ),
    (
        "compressed into the header",
        |image| stream(image, 0, 100),
        "L2 table at 0x400: entry 2 is 0x9900000000000000, expected an offset outside the header",
    ),
    (
        "compressed into the L1 table",
        |image| stream(image, 0x20f, 100),
        "expected an offset outside the L1 table",
    ),
    (
        "stream of garbage",
        |image| {
            let at = place(image);
            image.put(at, &[0xff; 64]);
        },
        "the stream is damaged (guest 0x400 to 0x600)",
    ),
    (
        "stream of zeros",
        |image| {
            let at = place(image);
            image.put(at, &[0; 64]);
        },
        "the stream is damaged (guest 0x400 to 0x600)",
    ),
    (
        "stream of noise",
        |image| {
            let at = image.clusters[0] as u64;
            stream(image, at, 511);
        },
        "compressed cluster at 0x800: the stream ",
    ),
    (
        "stream cut by a byte",
        |image| {
            let (at, all) = (place(image), length(image));
            stream(image, at as u64, all - 1);
        },
        "compressed cluster at 0xc00: the stream ",
    ),
    (
        "stream of a byte",
        |image| {
            let at = place(image);
            stream(image, at as u64, 1);
        },
        "compressed cluster at 0xc00: the stream holds 0 bytes, expected 512",
    ),
    (
        "stream with a zlib header",
        |image| {
            let at = place(image);
            image.put(at, &[0x78, 0x9c]);
        },
        "compressed cluster at 0xc00: the stream ",
    ),
    (
        "stream that holds too little",
        |image| image.put(0xc00, &[1, 1, 0, 254, 255, 7]),
        "compressed cluster at 0xc00: the stream holds 1 bytes, expected 512",
    ),
    (
        "stream that holds too much",
        |image| image.put(0xc00, &[1, 1, 2, 254, 253]),
        "compressed cluster at 0xc00: the stream ",
    ),
    (
        "version 0",
        |image| short(image, 4, 0),
        "header at 0x0: magic is 0x514649fb00000000, expected 0x514649fb00000001|\
         version is 0, which is not supported",
    ),
    (
        "another magic",
        |image| image.put(0, b"QFI\xfa"),
        "not a qcow2 image|header at 0x0: magic is 0x514649fa",
    ),
];
