//! The refcount of every host cluster is the number of references to it.

use super::{Image, u64_at};

/// More references than this no host cluster has.
const MAX_REFERENCES: u32 = 1023;

/// Counts all references, and compares.
pub(super) fn verify(image: &Image) {
    let (expected, blocks) = (references(image), blocks(image));
    let found: Vec<u16> = blocks
        .iter()
        .flat_map(|block| image.cluster(*block).chunks_exact(2))
        .map(|count| u16::from_be_bytes([count[0], count[1]]))
        .collect();
    for (cluster, count) in found.iter().enumerate() {
        let references = expected.get(cluster).copied().unwrap_or(0);
        assert_eq!(
            u32::from(*count),
            references,
            "refcount of host cluster {cluster}"
        );
        assert!(
            references <= MAX_REFERENCES,
            "host cluster {cluster}: {references} references"
        );
    }
    for (cluster, references) in expected.iter().enumerate().skip(found.len()) {
        assert_eq!(*references, 0, "host cluster {cluster} has no refcount");
    }
    let last = expected.iter().rposition(|references| *references > 0).unwrap();
    let gap = expected[..last].iter().position(|references| *references == 0);
    assert_eq!(gap, None, "a host cluster that nothing refers to");
    assert_no_more_than_needed(image, &blocks, &expected);
}

/// How many references there are to each host cluster.
pub(super) fn references(image: &Image) -> Vec<u32> {
    let cluster_size = image.cluster_size();
    let header = &image.header;
    let clusters = image.length() / cluster_size;
    let mut references = vec![0; clusters as usize];
    let mut refer = |at: u64, bytes: u64, what: &str| {
        let (first, last) = (at / cluster_size, (at + bytes - 1) / cluster_size);
        assert!(last < clusters, "{what} at {at:#x} leaves the file");
        for cluster in first..=last {
            references[cluster as usize] += 1;
        }
    };
    refer(0, cluster_size, "header");
    refer(header.l1_at, header.l1_entries * 8, "L1 table");
    let refcount_table_bytes = header.refcount_table_clusters * cluster_size;
    refer(header.refcount_table_at, refcount_table_bytes, "refcount table");
    for block in blocks(image) {
        refer(block, cluster_size, "refcount block");
    }
    for table in image.tables.values() {
        refer(*table, cluster_size, "L2 table");
    }
    for (_, host) in image.data_at() {
        refer(host, cluster_size, "data");
    }
    for (_, at) in image.streams_at() {
        refer(at, image.streams[&at].length, "stream");
    }
    references
}

/// With one block less, not all that is in front of the blocks, and the blocks, would be counted.
fn assert_no_more_than_needed(image: &Image, blocks: &[u64], expected: &[u32]) {
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
