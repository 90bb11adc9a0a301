//! The order of the file: header, L1 table, refcount table, data with L2 tables in between, refcount blocks,
//! checksum table. Of a stream: header, L1 table, refcount table, refcount blocks, L2 tables, data, checksum table.

use super::{Image, Mapping, assert_zeros, u64_at};

/// L2 tables are written in groups of this many, or fewer if these would be more than 64 MiB.
const GROUP: usize = 512;
const GROUP_BYTES: u64 = 64 << 20;

/// Walks over the file in its order; nothing may be where the walk does not come by.
pub(super) fn verify(image: &Image) {
    let end = refcount_blocks(image, content(image, front(image)));
    checksum_table(image, end);
}

/// The same over a file that was a stream.
pub(super) fn verify_stream(image: &Image) {
    let mut next = refcount_blocks(image, front(image));
    for (number, table) in &image.tables {
        assert_eq!(*table, next, "host offset of L2 table {number}");
        next += image.cluster_size();
    }
    for (cluster, host) in image.data_at() {
        assert_eq!(host, next, "host offset of cluster {cluster}");
        next += image.cluster_size();
    }
    checksum_table(image, next);
}

/// Header, L1 table and refcount table.
fn front(image: &Image) -> u64 {
    let cluster_size = image.cluster_size();
    let header = &image.header;
    let l1_bytes = header.l1_entries * 8;
    let refcount_table_bytes = header.refcount_table_clusters * cluster_size;
    assert!(
        image.length().is_multiple_of(cluster_size),
        "length of the file, {:#x}",
        image.length()
    );
    assert_eq!(header.l1_at, cluster_size, "the L1 table is behind the header");
    let behind_l1 = header.l1_at + l1_bytes.next_multiple_of(cluster_size);
    assert_zeros(
        &image.bytes,
        header.l1_at + l1_bytes..behind_l1,
        "the last cluster of the L1 table",
    );
    assert_eq!(
        header.refcount_table_at, behind_l1,
        "the refcount table is behind the L1 table"
    );

    behind_l1 + refcount_table_bytes
}

/// All that may be behind the last cluster that has a refcount.
fn checksum_table(image: &Image, end: u64) {
    let cluster_size = image.cluster_size();
    match image.header.checksums {
        None => assert_eq!(image.length(), end, "the file ends behind what has refcounts"),
        Some((at, length)) => {
            assert_eq!(at, end, "the checksum table is behind what has refcounts");
            let behind = (at + length).next_multiple_of(cluster_size);
            assert_eq!(image.length(), behind, "the file ends behind the checksum table");
            assert_zeros(
                &image.bytes,
                at + length..behind,
                "the last cluster of the checksum table",
            );
        }
    }
}

/// Data in ascending guest order without gaps; tables in groups, each written as soon as the next table would be
/// one too many.
fn content(image: &Image, start: u64) -> u64 {
    let cluster_size = image.cluster_size();
    let group = GROUP.min((GROUP_BYTES / cluster_size) as usize);
    let (mut next, mut pending) = (start, Vec::new());
    let flush = |pending: &mut Vec<(u64, u64)>, next: &mut u64| {
        for (number, table) in pending.drain(..) {
            assert_eq!(table, *next, "host offset of L2 table {number}");
            *next += cluster_size;
        }
    };
    for (number, table) in &image.tables {
        if pending.len() == group {
            flush(&mut pending, &mut next);
        }
        pending.push((*number, *table));
        let first = number * image.header.l2_entries();
        for (cluster, mapping) in image.mapping.range(first..first + image.header.l2_entries()) {
            if let Mapping::Data(host) = mapping {
                assert_eq!(*host, next, "host offset of cluster {cluster}");
                next += cluster_size;
            }
        }
    }
    flush(&mut pending, &mut next);
    next
}

/// Blocks one after the other, and no entry of their table behind the last of them.
fn refcount_blocks(image: &Image, start: u64) -> u64 {
    let cluster_size = image.cluster_size();
    let (mut next, mut is_over) = (start, false);
    for index in 0..image.header.refcount_table_clusters * cluster_size / 8 {
        let entry = u64_at(&image.bytes, image.header.refcount_table_at + index * 8);
        is_over |= entry == 0;
        let expected = if is_over { 0 } else { next };
        assert_eq!(entry, expected, "entry {index} of the refcount table");
        if !is_over {
            next += cluster_size;
        }
    }
    next
}
