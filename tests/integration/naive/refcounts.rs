//! The refcount of every host cluster is the number of references to it.

use super::{Image, u64_at};

/// Counts all references, and compares.
pub(super) fn verify(image: &Image) {
    let cluster_size = image.cluster_size();
    let header = &image.header;
    let clusters = image.length() / cluster_size;
    let mut expected = vec![0_u16; clusters as usize];
    let mut refer = |at: u64, count: u64, what: &str| {
        assert!(
            at / cluster_size + count <= clusters,
            "{what} at {at:#x} leaves the file"
        );
        for cluster in 0..count {
            expected[(at / cluster_size + cluster) as usize] += 1;
        }
    };
    refer(0, 1, "header");
    refer(
        header.l1_at,
        (header.l1_entries * 8).div_ceil(cluster_size),
        "L1 table",
    );
    refer(
        header.refcount_table_at,
        header.refcount_table_clusters,
        "refcount table",
    );
    let blocks = blocks(image);
    for block in &blocks {
        refer(*block, 1, "refcount block");
    }
    for table in image.tables.values() {
        refer(*table, 1, "L2 table");
    }
    for (_, host) in image.data_at() {
        refer(host, 1, "data");
    }

    let found: Vec<u16> = blocks
        .iter()
        .flat_map(|block| image.cluster(*block).chunks_exact(2))
        .map(|count| u16::from_be_bytes([count[0], count[1]]))
        .collect();
    for (cluster, count) in found.iter().enumerate() {
        let references = expected.get(cluster).copied().unwrap_or(0);
        assert_eq!(*count, references, "refcount of host cluster {cluster}");
    }
    for (cluster, references) in expected.iter().enumerate().skip(found.len()) {
        assert_eq!(*references, 0, "host cluster {cluster} has no refcount");
    }
    assert_no_more_than_needed(image, &blocks, &expected);
}

/// With one block less, not all that is in front of the blocks, and the blocks, would be counted.
fn assert_no_more_than_needed(image: &Image, blocks: &[u64], expected: &[u16]) {
    let in_use = expected.iter().filter(|references| **references > 0).count() as u64;
    let less = blocks.len() as u64 - 1;
    assert!(
        less * (image.cluster_size() / 2) < in_use - 1,
        "{less} refcount blocks serve"
    );
}

fn blocks(image: &Image) -> Vec<u64> {
    let header = &image.header;
    let entries = header.refcount_table_clusters * image.cluster_size() / 8;
    let entries = (0..entries).map(|index| u64_at(&image.bytes, header.refcount_table_at + index * 8));
    entries.filter(|entry| *entry != 0).collect()
}
