//! The checksum table: a CRC-32 for every cluster that holds data, and for nothing else.

use super::{Image, bytes_at, u32_at, u64_at};

/// A run is not longer than this many clusters.
const MAX_RUN: u64 = 65536;

/// Reads the table, if there is one, and computes every checksum again.
pub(super) fn verify(image: &Image) {
    let Some((start, length)) = image.header.checksums else {
        return;
    };
    let bytes = &image.bytes;
    assert_eq!(bytes_at(bytes, start, 8), b"mkqcrc32", "magic");
    assert_eq!(u32_at(bytes, start + 8), 1, "version");
    assert_eq!(
        u32_at(bytes, start + 12),
        image.header.cluster_bits,
        "cluster_bits"
    );
    assert_eq!(u64_at(bytes, start + 16), image.header.size, "size");

    let trailer = start + length - 4;
    let mut listed = Vec::new();
    let (mut at, mut behind_last, mut last_length) = (start + 32, None, 0);
    while at < trailer {
        let (first, count) = (u64_at(bytes, at), u64::from(u32_at(bytes, at + 8)));
        assert!((1..=MAX_RUN).contains(&count), "a run of {count} clusters");
        let is_apart = behind_last.is_none_or(|end| first > end || (first == end && last_length == MAX_RUN));
        assert!(
            is_apart,
            "a run from cluster {first} on follows one up to {behind_last:?}"
        );
        listed.extend((0..count).map(|n| (first + n, u32_at(bytes, at + 12 + 4 * n))));
        (behind_last, last_length) = (Some(first + count), count);
        at += 12 + 4 * count;
    }
    assert_eq!(at, trailer, "the runs end where the trailer begins");
    assert_eq!(
        u64_at(bytes, start + 24),
        listed.len() as u64,
        "number of clusters listed"
    );
    assert_eq!(
        u32_at(bytes, trailer),
        crc32(bytes_at(bytes, start, length - 4)),
        "CRC-32 of the table"
    );

    let computed: Vec<_> = image
        .data()
        .map(|(cluster, bytes)| (cluster, crc32(bytes)))
        .collect();
    assert!(
        listed == computed,
        "the clusters listed are not those that hold data, or not with their CRC-32"
    );
}

/// ISO 3309, polynomial 0x04c11db7 reflected: eight shifts for each value of a byte, done once.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize]
    })
}

#[test]
fn the_crc_of_the_naive_reader_is_that_of_the_standard() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
