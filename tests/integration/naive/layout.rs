//! The order of the file: header, L1 table, refcount table, data with L2 tables in between, refcount blocks,
//! checksum table, record. Of a stream: header, L1 table, refcount table, refcount blocks, L2 tables, data, checksum
//! table, record.

use std::collections::{BTreeMap, BTreeSet};

use super::{Image, Mapping, assert_zeros, record, u64_at};

/// L2 tables are written in groups of this many, or fewer if these would be more than 64 MiB.
const GROUP: usize = 512;
const GROUP_BYTES: u64 = 64 << 20;

/// So many bytes of clusters that are stored as they are wait while a host cluster of streams is not full.
const HELD_BYTES: u64 = 8 << 20;

/// A host cluster with as many references takes no further stream.
const MAX_REFERENCES: u32 = 1023;

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
    match image.header.checksums {
        None => assert_eq!(image.length(), end, "the file ends behind what has refcounts"),
        Some((at, length)) => {
            assert_eq!(at, end, "the checksum table is behind what has refcounts");
            record::verify(image, (at, length), image.record_end);
        }
    }
}

/// Data in ascending guest order without gaps; tables in groups, each written as soon as the next table would be
/// one too many.
fn content(image: &Image, start: u64) -> u64 {
    let cluster_size = image.cluster_size();
    let group = GROUP.min((GROUP_BYTES / cluster_size) as usize);
    let mut pending = Vec::new();
    let mut walk = Walk {
        cluster_size,
        next: start,
        next_stream: 0,
        end_of_streams: 0,
        held: Vec::new(),
        placed: BTreeSet::new(),
        references: BTreeMap::new(),
    };
    for (number, table) in &image.tables {
        if pending.len() == group {
            walk.tables(&mut pending);
        }
        pending.push((*number, *table));
        let first = number * image.header.l2_entries();
        for (cluster, mapping) in image.mapping.range(first..first + image.header.l2_entries()) {
            match mapping {
                Mapping::Zeros => {}
                Mapping::Data(host) => walk.data(*cluster, *host),
                Mapping::Stream { at, .. } => walk.stream(*cluster, *at, image.streams[at].length),
            }
        }
    }
    walk.tables(&mut pending);
    walk.next
}

/// A walk over data and tables.
struct Walk {
    cluster_size: u64,
    /// Where the next host cluster begins that nothing has yet.
    next: u64,
    /// Where the next stream begins, if it is before the end of the last host cluster with streams.
    next_stream: u64,
    end_of_streams: u64,
    /// Guest clusters that wait, and the host offsets that they claim.
    held: Vec<(u64, u64)>,
    /// Where the streams begin that the walk has come by.
    placed: BTreeSet<u64>,
    /// By number of the host cluster.
    references: BTreeMap<u64, u32>,
}

impl Walk {
    fn is_open(&self) -> bool {
        self.next_stream < self.end_of_streams
    }

    fn take(&mut self, host: u64, what: &str) {
        assert_eq!(host, self.next, "host offset of {what}");
        self.next += self.cluster_size;
    }

    fn data(&mut self, cluster: u64, host: u64) {
        let held = self.held.len() as u64 * self.cluster_size;
        if self.is_open() && held < HELD_BYTES {
            self.held.push((cluster, host));
        } else {
            self.release();
            self.take(host, &format!("cluster {cluster}"));
        }
    }

    fn stream(&mut self, cluster: u64, at: u64, length: u64) {
        if self.placed.insert(at) {
            let current = self.next_stream / self.cluster_size;
            let references = self.references.get(&current).copied().unwrap_or(0);
            if !self.is_open() || references >= MAX_REFERENCES {
                self.next_stream = self.next;
                self.end_of_streams = self.next;
            }
            assert_eq!(at, self.next_stream, "stream of cluster {cluster}");
            self.next_stream += length;
            if self.next_stream > self.end_of_streams {
                self.take(self.end_of_streams, "a stream that crosses clusters");
                self.end_of_streams = self.next;
            }
        }
        for host in at / self.cluster_size..=(at + length - 1) / self.cluster_size {
            *self.references.entry(host).or_default() += 1;
        }
    }

    fn tables(&mut self, pending: &mut Vec<(u64, u64)>) {
        self.release();
        for (number, table) in pending.drain(..) {
            self.take(table, &format!("L2 table {number}"));
        }
    }

    /// Those that waited have their place, and no stream goes in front of them.
    fn release(&mut self) {
        self.next_stream = self.end_of_streams;
        for (cluster, host) in std::mem::take(&mut self.held) {
            self.take(host, &format!("cluster {cluster}, which waited"));
        }
    }
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
