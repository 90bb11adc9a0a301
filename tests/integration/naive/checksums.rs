//! The checksum table: a CRC-32 for every cluster that holds data, and for nothing else; perhaps a digest, too.

use std::collections::BTreeMap;

use blake3::Hasher;
use blake3::hazmat::HasherExt;

use super::{Image, bytes_at, u32_at, u64_at};

/// A run is not longer than this many clusters.
const MAX_RUN: u64 = 8192;

/// What is hashed as an input of its own.
const BLOCK: u64 = 2 << 20;

/// Reads the table, if there is one, and computes every checksum again.
pub(super) fn verify(image: &Image) {
    let Some((start, length)) = image.header.checksums else {
        return;
    };
    let bytes = &image.bytes;
    assert_eq!(bytes_at(bytes, start, 8), b"mkqcrc32", "magic");
    let has_digests = has_digests(image);
    assert_eq!(
        u32_at(bytes, start + 12),
        image.header.cluster_bits,
        "cluster_bits"
    );
    assert_eq!(u64_at(bytes, start + 16), image.header.size, "size");

    let trailer = start + length - 4;
    let (mut listed, mut digests) = (Vec::new(), Vec::new());
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
        if has_digests {
            digests.extend((0..count).map(|n| bytes_at(bytes, at + 32 * n, 32).to_vec()));
            at += 32 * count;
        }
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
    if has_digests {
        let computed: Vec<_> = image
            .data()
            .map(|(cluster, bytes)| digest(cluster, bytes))
            .collect();
        assert!(digests == computed, "the digests are not those of the clusters");
    }
}

/// Whether the table has digests.
fn has_digests(image: &Image) -> bool {
    match image.header.checksums {
        None => false,
        Some((start, _)) => match u32_at(&image.bytes, start + 8) {
            1 => false,
            2 => true,
            other => panic!("version {other} of the checksum table"),
        },
    }
}

/// The chaining value of a cluster in its block.
fn digest(cluster: u64, bytes: &[u8]) -> Vec<u8> {
    let at = cluster * bytes.len() as u64 % BLOCK;
    let mut hasher = Hasher::new();
    hasher.set_input_offset(at);
    hasher.update(bytes).finalize_non_root().to_vec()
}

/// The hash of all runs of the table.
pub(super) fn hash_of_runs(image: &Image) -> Vec<u8> {
    let (start, length) = image.header.checksums.unwrap();
    let runs = bytes_at(&image.bytes, start + 32, length - 36);
    blake3::hash(runs).as_bytes().to_vec()
}

/// The digest of the disk, if clusters have digests and all of them are in this image.
pub(super) fn disk(image: &Image) -> Option<Vec<u8>> {
    if !has_digests(image) {
        return None;
    }
    let mut blocks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (cluster, bytes) in image.data() {
        let at = cluster * bytes.len() as u64;
        let block = blocks
            .entry(at / BLOCK)
            .or_insert_with(|| vec![0; BLOCK as usize]);
        let within = (at % BLOCK) as usize;
        block[within..within + bytes.len()].copy_from_slice(bytes);
    }
    let mut hasher = Hasher::new();
    hasher.update(&image.header.size.to_be_bytes());
    for (number, block) in blocks {
        if block.iter().any(|byte| *byte != 0) {
            hasher.update(&number.to_be_bytes());
            hasher.update(&Hasher::new().update(&block).finalize_non_root());
        }
    }
    Some(hasher.finalize().as_bytes().to_vec())
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
