//! The record behind the checksum table: what is free, what could not be read; and the footer.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::checksums::{self, crc32};
use super::{Image, assert_zeros, bytes_at, u32_at, u64_at};

const FOOTER: u64 = 40;

/// What an image records of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// In clusters.
    pub free: Vec<Range<u64>>,
    /// In bytes of the disk.
    pub unreadable: Vec<Range<u64>>,
    pub sector_size: Option<u32>,
    pub provenance: Option<Value>,
    /// UUID, and digest of the disk.
    pub uuid: Vec<u8>,
    pub digest: Option<Vec<u8>>,
    /// UUID, size and digest of the base.
    pub base: Option<(Vec<u8>, u64, Option<Vec<u8>>)>,
    /// Where the identity begins, which is made of all in front of it.
    identity_at: u64,
}

/// Reads the record and the footer, if there are any, and holds them to their description.
pub(super) fn read(bytes: &[u8], start: u64, cluster_bits: u32, size: u64) -> (Record, u64) {
    assert_eq!(bytes_at(bytes, start, 8), b"mkqrecrd", "magic of the record");
    assert_eq!(u32_at(bytes, start + 8), 1, "version of the record");
    assert_eq!(
        u32_at(bytes, start + 12),
        cluster_bits,
        "cluster_bits of the record"
    );
    assert_eq!(u64_at(bytes, start + 16), size, "size in the record");
    let end = start + 32 + u64_at(bytes, start + 24);
    let mut record = Record::default();
    let (mut at, mut kinds) = (start + 32, Vec::new());
    while at < end {
        let (kind, length) = (u32_at(bytes, at), u64_at(bytes, at + 4));
        let data = bytes_at(bytes, at + 12, length);
        match kind {
            1 => record.free = runs(data),
            2 => record.unreadable = runs(data),
            3 => record.sector_size = Some(u32_at(data, 0)),
            4 => assert_eq!(u32_at(data, 0), u32_at(bytes, 4), "version of the image"),
            5 => record.provenance = Some(serde_json::from_slice(data).unwrap()),
            6 => record.base = Some((data[..16].to_vec(), u64_at(data, 16), digest(&data[24..]))),
            7 => {
                record.uuid = data[..16].to_vec();
                record.digest = digest(&data[16..]);
                record.identity_at = at;
            }
            other => panic!("section {other} of the record"),
        }
        kinds.push(kind);
        at += 12 + length;
    }
    assert_eq!(at, end, "the sections fill the record");
    assert!(
        kinds.is_sorted_by(|a, b| a < b) && kinds.contains(&1) && kinds.contains(&7),
        "{kinds:?}"
    );
    assert_eq!(
        u32_at(bytes, end),
        crc32(bytes_at(bytes, start, end - start)),
        "CRC-32 of the record"
    );
    let clusters = size.div_ceil(1 << cluster_bits);
    for (runs, limit) in [(&record.free, clusters), (&record.unreadable, size)] {
        assert!(runs.iter().all(|run| run.start < run.end && run.end <= limit));
        assert!(
            runs.is_sorted_by(|a, b| a.end < b.start),
            "runs that touch: {runs:?}"
        );
    }
    (record, end + 4)
}

fn runs(data: &[u8]) -> Vec<Range<u64>> {
    let (count, total) = (u64_at(data, 0), u64_at(data, 8));
    let (mut runs, mut rest, mut end) = (Vec::new(), &data[16..], 0);
    for _ in 0..count {
        let start = end + number(&mut rest);
        end = start + number(&mut rest);
        runs.push(start..end);
    }
    assert!(rest.is_empty(), "{} bytes behind the runs", rest.len());
    assert_eq!(runs.iter().map(|run| run.end - run.start).sum::<u64>(), total);
    runs
}

fn number(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let byte = rest[0];
        *rest = &rest[1..];
        number += u64::from(byte % 128) << (7 * place);
        if byte < 128 {
            break;
        }
    }
    number
}

/// Holds what lies behind the checksum table to its order, and what is free to be nowhere.
pub(super) fn verify(image: &Image, checksums: (u64, u64), behind_record: u64) {
    let (bytes, length) = (&image.bytes, image.length());
    let expected = (behind_record + FOOTER).next_multiple_of(image.cluster_size());
    assert_eq!(length, expected, "the file ends with the footer");
    let footer = length - FOOTER;
    assert_zeros(bytes, behind_record..footer, "what is between record and footer");
    assert_eq!(bytes_at(bytes, footer, 8), b"mkqfootr", "magic of the footer");
    assert_eq!(
        (u64_at(bytes, footer + 8), u64_at(bytes, footer + 16)),
        checksums,
        "checksum table, as the footer has it"
    );
    assert_eq!(u64_at(bytes, footer + 24), checksums.0 + checksums.1, "record");
    assert_eq!(u32_at(bytes, footer + 32), 1, "version of the footer");
    let crc = crc32(bytes_at(bytes, footer, 36));
    assert_eq!(u32_at(bytes, footer + 36), crc, "CRC-32 of the footer");
    let free: BTreeSet<_> = image.record.free.iter().cloned().flatten().collect();
    let mapped = image.mapping.keys().find(|cluster| free.contains(cluster));
    assert_eq!(mapped, None, "a cluster that is free and mapped");
}

/// All of it is a digest, or there is none.
fn digest(bytes: &[u8]) -> Option<Vec<u8>> {
    assert!(
        [0, 32].contains(&bytes.len()),
        "a digest of {} bytes",
        bytes.len()
    );
    (!bytes.is_empty()).then(|| bytes.to_vec())
}

/// Holds the identity to what it is made of; that of an image that was merged is an older one.
pub(super) fn verify_identity(image: &Image) {
    let Some((start, length)) = image.header.checksums else {
        return;
    };
    let before = start + length..image.record.identity_at;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&checksums::hash_of_runs(image));
    hasher.update(bytes_at(&image.bytes, before.start, before.end - before.start));
    let mut uuid = hasher.finalize().as_bytes()[..16].to_vec();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    assert_eq!(image.record.uuid, uuid, "UUID");
    if image.record.base.is_none() {
        assert_eq!(image.record.digest, checksums::disk(image), "digest of the disk");
    }
}
