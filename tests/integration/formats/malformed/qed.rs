//! QED: clusters of 4 KiB, tables of two; the L1 table at 0x1000, the first L2 table at 0x3000, the second at 0x5000,
//! the first cluster at 0x7000.

use super::{Image, Line};

/// A field of the header, or an entry of a table.
fn number(image: &mut Image, at: usize, value: u64) {
    image.put(at, &value.to_le_bytes());
}

fn short(image: &mut Image, at: usize, value: u32) {
    image.put(at, &value.to_le_bytes());
}

fn name(image: &mut Image, at: u32, length: u32) {
    number(image, 16, 1);
    short(image, 56, at);
    short(image, 60, length);
}

const CLUSTER: &str = "expected a power of two, 0x1000 to 0x4000000";
const TABLE: &str = "expected a power of two, 0x1 to 0x10";

pub(super) const ROWS: &[Line] = &[
    (
        "cluster_size 0",
        |image| short(image, 4, 0),
        "header at 0x0: cluster_size is 0x0, expected a power of two, 0x1000 to 0x4000000",
    ),
    (
        "cluster_size 2048",
        |image| short(image, 4, 2048),
        "header at 0x0: cluster_size is 0x800, expected a power of two, 0x1000 to 0x4000000",
    ),
    (
        "cluster_size 65537",
        |image| short(image, 4, 65537),
        "header at 0x0: cluster_size is 0x10001, expected a power of two",
    ),
    ("cluster_size 12288", |image| short(image, 4, 12288), CLUSTER),
    (
        "cluster_size 2^27",
        |image| short(image, 4, 1 << 27),
        "header at 0x0: cluster_size is 0x8000000, expected a power of two",
    ),
    ("cluster_size 2^31", |image| short(image, 4, 1 << 31), CLUSTER),
    (
        "cluster_size 2^26",
        |image| short(image, 4, 1 << 26),
        "header at 0x0",
    ),
    (
        "table_size 0",
        |image| short(image, 8, 0),
        "header at 0x0: table_size is 0x0, expected a power of two, 0x1 to 0x10",
    ),
    (
        "table_size 3",
        |image| short(image, 8, 3),
        "header at 0x0: table_size is 0x3, expected a power of two, 0x1 to 0x10",
    ),
    (
        "table_size 32",
        |image| short(image, 8, 32),
        "header at 0x0: table_size is 0x20, expected a power of two, 0x1 to 0x10",
    ),
    ("table_size 2^32-1", |image| short(image, 8, u32::MAX), TABLE),
    (
        "table_size 16",
        |image| short(image, 8, 16),
        "at 0x1000 does not fit: it needs 65536 bytes",
    ),
    (
        "header_size 0",
        |image| short(image, 12, 0),
        "header at 0x0: header_size is 0x0, expected at least 0x1",
    ),
    (
        "header_size 2, over the L1 table",
        |image| short(image, 12, 2),
        "header at 0x0: l1_table_offset is 0x1000, expected an offset outside the header",
    ),
    (
        "header_size 2^16",
        |image| short(image, 12, 1 << 16),
        "header at 0x0 does not fit: it needs 268435456 bytes",
    ),
    (
        "header_size 2^32-1",
        |image| short(image, 12, u32::MAX),
        "header at 0x0 does not fit: it needs 17592186040320 bytes",
    ),
    (
        "feature bit 3",
        |image| number(image, 16, 8),
        "needs features that this version of mkqcow2 does not know: bit 3\n",
    ),
    (
        "feature bit 63",
        |image| number(image, 16, 1 << 63),
        "needs features that this version of mkqcow2 does not know: bit 63\n",
    ),
    (
        "all feature bits",
        |image| number(image, 16, u64::MAX),
        "needs features that this version of mkqcow2 does not know: bit 3, bit 4, bit 5, ",
    ),
    (
        "L1 table at 0",
        |image| number(image, 40, 0),
        "header at 0x0: l1_table_offset is 0x0, expected a multiple of 0x1000",
    ),
    (
        "L1 table at 1",
        |image| number(image, 40, 1),
        "header at 0x0: l1_table_offset is 0x1, expected a multiple of 0x1000",
    ),
    (
        "L1 table unaligned",
        |image| number(image, 40, 0x1800),
        "header at 0x0: l1_table_offset is 0x1800, expected a multiple of 0x1000",
    ),
    (
        "L1 table past the end",
        |image| number(image, 40, 1 << 40),
        "L1 table at 0x10000000000 does not fit: it needs 8192 bytes, 0 are there",
    ),
    (
        "L1 table over the end",
        |image| {
            let end = image.bytes.len() as u64;
            number(image, 40, end - 4096);
        },
        "does not fit: it needs 8192 bytes, 4096 are there",
    ),
    (
        "L1 table at 2^64-4096",
        |image| number(image, 40, u64::MAX - 4095),
        "L1 table at 0xfffffffffffff000 does not fit: it needs 8192 bytes, 0 are there",
    ),
    (
        "image_size 0",
        |image| number(image, 48, 0),
        "header at 0x0: image_size is 0x0, expected a multiple of 0x200",
    ),
    (
        "image_size 1",
        |image| number(image, 48, 1),
        "header at 0x0: image_size is 0x1, expected a multiple of 0x200",
    ),
    (
        "image_size 513",
        |image| number(image, 48, 513),
        "header at 0x0: image_size is 0x201, expected a multiple of 0x200",
    ),
    (
        "image_size too large",
        |image| number(image, 48, (1 << 32) + 512),
        "header at 0x0: image_size is 0x100000200, expected at most 0x100000000",
    ),
    (
        "image_size 2^63",
        |image| number(image, 48, 1 << 63),
        "header at 0x0: image_size is 0x8000000000000000, expected at most 0x100000000",
    ),
    (
        "image_size 2^64-512",
        |image| number(image, 48, u64::MAX - 511),
        "header at 0x0: image_size is 0xfffffffffffffe00, expected at most 0x100000000",
    ),
    (
        "image_size 2^63 with the largest tables",
        |image| {
            short(image, 4, 64 << 20);
            short(image, 8, 16);
            number(image, 40, 64 << 20);
            number(image, 48, 1 << 63);
        },
        "header at 0x0: image_size is 0x8000000000000000, expected at most 0x7ffffffffffffe00",
    ),
    (
        "name too long",
        |image| name(image, 64, 1024),
        "header at 0x0: backing_filename_size is 0x400, expected at most 0x3ff",
    ),
    (
        "name of 4 GiB",
        |image| name(image, 64, u32::MAX),
        "header at 0x0: backing_filename_size is 0xffffffff, expected at most 0x3ff",
    ),
    (
        "name past the header",
        |image| name(image, 4096, 4),
        "header at 0x0: backing_filename_offset is 0x1000, expected at most 0xffc",
    ),
    (
        "name over the header",
        |image| name(image, 4093, 4),
        "header at 0x0: backing_filename_offset is 0xffd, expected at most 0xffc",
    ),
    (
        "name at 2^32-1",
        |image| name(image, u32::MAX, 4),
        "header at 0x0: backing_filename_offset is 0xffffffff, expected at most 0xffc",
    ),
    (
        "name of a file that nobody named",
        |image| {
            name(image, 64, 4);
            image.put(64, b"base");
        },
        "needs its backing file, \"base\", which is opened only on request",
    ),
    (
        "L1 entry of 1",
        |image| number(image, 0x1000, 1),
        "L1 table at 0x1000: entry 0 is 0x1, expected a multiple of 0x1000",
    ),
    (
        "L1 entry unaligned",
        |image| number(image, 0x1008, 0x5200),
        "L1 table at 0x1000: entry 1 is 0x5200, expected a multiple of 0x1000",
    ),
    (
        "L1 entry past the end",
        |image| number(image, 0x1008, 1 << 40),
        "L1 table at 0x1000: entry 1 is 0x10000000000, expected an offset within the file",
    ),
    (
        "L1 entry at 2^64-4096",
        |image| number(image, 0x1000, u64::MAX - 4095),
        "L1 table at 0x1000: entry 0 is 0xfffffffffffff000, expected an offset within the file",
    ),
    (
        "L1 entry to the L1 table",
        |image| number(image, 0x1000, 0x1000),
        "L1 table at 0x1000: entry 0 is 0x1000, expected an offset outside the L1 table",
    ),
    (
        "L1 entry into the L1 table",
        |image| number(image, 0x1000, 0x2000),
        "L1 table at 0x1000: entry 0 is 0x2000, expected an offset outside the L1 table",
    ),
    (
        "L2 table over the end",
        |image| {
            let end = (image.bytes.len() / 4096 * 4096) as u64;
            number(image, 0x1000, end - 4096);
        },
        "L2 table at 0xa000 is cut off by the end of the file, 0xb000 (guest 0x0 to 0x400000)",
    ),
    (
        "L2 entry of 2",
        |image| number(image, 0x3000, 2),
        "L2 table at 0x3000: entry 0 is 0x2, expected a multiple of 0x1000 (guest 0x0 to 0x1000)",
    ),
    (
        "L2 entry unaligned",
        |image| number(image, 0x3008, 0x8200),
        "L2 table at 0x3000: entry 1 is 0x8200, expected a multiple of 0x1000",
    ),
    (
        "L2 entry past the end",
        |image| number(image, 0x5000, 1 << 40),
        "L2 table at 0x5000: entry 0 is 0x10000000000, expected an offset within the file, \
         which has 0xb000 bytes (guest 0x400000 to 0x401000)",
    ),
    (
        "L2 entry at the end",
        |image| {
            let end = image.bytes.len() as u64;
            number(image, 0x3000, end);
        },
        "L2 table at 0x3000: entry 0 is 0xb000, expected an offset within the file",
    ),
    (
        "L2 entry at 2^64-4096",
        |image| number(image, 0x3000, u64::MAX - 4095),
        "L2 table at 0x3000: entry 0 is 0xfffffffffffff000, expected an offset within the file",
    ),
    (
        "L2 entry into the L1 table",
        |image| number(image, 0x3000, 0x2000),
        "L2 table at 0x3000: entry 0 is 0x2000, expected an offset outside the L1 table",
    ),
    (
        "L2 entry to the L1 table",
        |image| number(image, 0x3008, 0x1000),
        "L2 table at 0x3000: entry 1 is 0x1000, expected an offset outside the L1 table",
    ),
    (
        "another magic",
        |image| image.put(0, b"QED\x01"),
        "not a qcow2 image|header at 0x0: magic is 0x51454401, expected ",
    ),
    (
        "big-endian",
        |image| {
            short(image, 4, 4096_u32.swap_bytes());
        },
        "header at 0x0: l1_table_offset is 0x1000, expected a multiple of 0x100000",
    ),
];
