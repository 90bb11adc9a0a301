//! Where everything goes in the image, in one pass: data packed in ascending guest order, L2 tables between it
//! whenever their cache is full, refcount blocks and checksums at the end, the header last of all.

mod allocator;
mod checksums;
mod l2_cache;

use zerocopy::IntoBytes;

use allocator::Allocator;
use checksums::Checksums;
use l2_cache::L2Cache;

use crate::error::Result;
use crate::format::checksum;
use crate::format::extension::{self, ChecksumsAt};
use crate::format::geometry::{Content, ENTRY, Geometry, Room, refcount_blocks};
use crate::format::header::{self, AUTOCLEAR_CHECKSUMS, Compat, RawHeader, RawHeaderV3};
use crate::format::mapping::{self, Entry};
use crate::format::refcount;
use crate::pipeline::encode::Encoded;
use crate::sink::Sink;
use crate::units::{GuestCluster, HostOffset, to_u64, to_usize};

/// Tables at the end are written in pieces of at most this many bytes, or of one cluster.
const PIECE: u64 = 1 << 20;

/// What an image is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// Size and clusters of the virtual disk.
    pub geometry: Geometry,
    /// Version of the format.
    pub compat: Compat,
    /// What may be in use at most.
    pub content: Content,
    /// The room for all that.
    pub room: Room,
    /// Whether a checksum table is written.
    pub checksums: bool,
}

impl Design {
    /// The size of the image in bytes if no cluster in use turns out to be zeros, and an upper bound if some do.
    pub fn image_size(&self) -> u64 {
        let table = if self.checksums {
            checksum::table_length(self.content)
        } else {
            0
        };
        let clusters = self
            .room
            .total()
            .saturating_add(self.geometry.clusters_for(table));
        clusters.saturating_mul(self.geometry.cluster_size())
    }

    /// The room it takes on the disk while it is made, in bytes: a large checksum table is there twice.
    pub fn room_needed(&self) -> u64 {
        let table = if self.checksums {
            checksum::table_length(self.content)
        } else {
            0
        };
        let scratch = if table > checksums::IN_MEMORY_BYTES {
            table
        } else {
            0
        };
        self.image_size().saturating_add(scratch)
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The size of the image in bytes.
    pub image_size: u64,
    /// Clusters that hold data.
    pub data_clusters: u64,
    /// Clusters in use that are zeros.
    pub zero_clusters: u64,
}

/// An image under construction.
#[derive(Debug)]
pub struct Layout<'a, S> {
    design: Design,
    sink: &'a mut S,
    allocator: Allocator,
    l1: Vec<Entry>,
    l2: L2Cache,
    checksums: Option<Checksums>,
    data_clusters: u64,
    zero_clusters: u64,
}

/// Consecutive bytes of a batch that go to consecutive bytes of the image.
#[derive(Clone, Copy)]
struct Pending {
    start: usize,
    end: usize,
    host: HostOffset,
}

impl Pending {
    /// Two data clusters are apart in the batch if zeros lie between them, in the image if tables do.
    fn is_followed_by(&self, start: usize, host: HostOffset) -> bool {
        let length = to_u64(self.end.saturating_sub(self.start));
        self.end == start && self.host.0.saturating_add(length) == host.0
    }
}

impl<'a, S: Sink> Layout<'a, S> {
    /// An empty image. Its first clusters are left for header, L1 table and refcount table.
    pub fn new(design: Design, sink: &'a mut S) -> Self {
        let geometry = design.geometry;
        Self {
            design,
            sink,
            allocator: Allocator::new(geometry.cluster_size(), design.room.tables()),
            l1: vec![[0; 8]; to_usize(geometry.l1_entries())],
            l2: L2Cache::new(
                geometry.cluster_size(),
                design.content.l2_tables,
                geometry.l1_entries() * ENTRY,
            ),
            checksums: design.checksums.then(|| Checksums::new(geometry)),
            data_clusters: 0,
            zero_clusters: 0,
        }
    }

    /// Writes the data of a batch, which begins behind all that were placed before, and maps its clusters.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    ///
    /// # Panics
    ///
    /// If the batch does not have a checksum, or the lack of one, for every cluster of its bytes.
    pub fn place(&mut self, batch: &Encoded) -> Result<()> {
        let cluster_size = to_usize(self.design.geometry.cluster_size());
        assert_eq!(
            batch.bytes.len(),
            batch.checksums.len() * cluster_size,
            "a batch is whole clusters"
        );
        let mut pending: Option<Pending> = None;
        let mut start = 0_usize;
        for (cluster, checksum) in (batch.first.0..).map(GuestCluster).zip(&batch.checksums) {
            let end = start.saturating_add(cluster_size);
            if let Some(crc) = checksum {
                let host = self.map_data(cluster, *crc)?;
                match pending.as_mut().filter(|last| last.is_followed_by(start, host)) {
                    Some(last) => last.end = end,
                    None => self.write(pending.replace(Pending { start, end, host }), &batch.bytes)?,
                }
            } else {
                self.map_zero(cluster)?;
            }
            start = end;
        }
        self.write(pending, &batch.bytes)
    }

    fn write(&mut self, pending: Option<Pending>, bytes: &[u8]) -> Result<()> {
        let Some(Pending { start, end, host }) = pending else {
            return Ok(());
        };
        // Within the batch: `start` and `end` were counted along it, and `place` has seen that it is whole.
        #[expect(
            clippy::indexing_slicing,
            reason = "a panic is better than a backup with a hole"
        )]
        self.sink.write_at(&bytes[start..end], host)
    }

    fn map_data(&mut self, cluster: GuestCluster, crc: u32) -> Result<HostOffset> {
        // The table first: to make room for it may take clusters.
        self.reserve_l2(cluster)?;
        let host = self.allocator.take(1);
        let (_, index) = self.design.geometry.indices_of(cluster);
        self.l2.set(index, mapping::only_reference_to(host));
        if let Some(checksums) = &mut self.checksums {
            checksums.push(cluster, crc, self.sink)?;
        }
        self.data_clusters = self.data_clusters.saturating_add(1);
        Ok(host)
    }

    fn map_zero(&mut self, cluster: GuestCluster) -> Result<()> {
        // Version 2 has no zero flag. There is no backing file: unallocated clusters read as zeros as well.
        if self.design.compat == Compat::V1_1 {
            self.reserve_l2(cluster)?;
            let (_, index) = self.design.geometry.indices_of(cluster);
            self.l2.set(index, mapping::ZERO_CLUSTER);
        }
        self.zero_clusters = self.zero_clusters.saturating_add(1);
        Ok(())
    }

    /// Makes the table that maps `cluster` the current one of the cache.
    fn reserve_l2(&mut self, cluster: GuestCluster) -> Result<()> {
        let (table, _) = self.design.geometry.indices_of(cluster);
        if self.l2.current() != Some(table) {
            if self.l2.is_full() {
                self.flush_l2()?;
            }
            self.l2.begin(table);
        }
        Ok(())
    }

    /// Writes all tables of the cache together, and points the L1 table to them.
    fn flush_l2(&mut self) -> Result<()> {
        let mut host = self.allocator.take(to_u64(self.l2.tables().len()));
        if !self.l2.tables().is_empty() {
            self.sink.write_at(self.l2.bytes(), host)?;
        }
        for table in self.l2.tables() {
            // There is an entry for every cluster of the disk, and tables are those of clusters.
            #[expect(
                clippy::indexing_slicing,
                reason = "a panic is better than a backup with a hole"
            )]
            {
                self.l1[*table] = mapping::only_reference_to(host);
            }
            host = HostOffset(host.0.saturating_add(self.design.geometry.cluster_size()));
        }
        self.l2.clear();
        Ok(())
    }

    /// Writes what is left: tables, refcounts, checksums, and last of all the header.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn finish(mut self) -> Result<Written> {
        self.flush_l2()?;
        let geometry = self.design.geometry;
        let refcount_table = self.write_refcount_blocks()?;
        let end = self.allocator.end();
        let at = match self.checksums.take() {
            Some(checksums) => Some(ChecksumsAt {
                offset: end,
                length: checksums.finish(self.sink, end)?,
            }),
            None => None,
        };
        let image_size = at.map_or(end.0, |at| {
            let clusters = geometry.clusters_for(at.offset.0.saturating_add(at.length));
            clusters.saturating_mul(geometry.cluster_size())
        });
        let l1_at = HostOffset(geometry.cluster_size());
        let refcount_table_at = l1_at
            .0
            .saturating_add(self.design.room.l1.saturating_mul(l1_at.0));
        let refcount_table_at = HostOffset(refcount_table_at);
        self.sink.write_at(self.l1.as_flattened(), l1_at)?;
        self.sink
            .write_at(refcount_table.as_flattened(), refcount_table_at)?;
        self.sink.set_len(image_size)?;
        self.sink
            .write_at(&self.header(l1_at, refcount_table_at, at), HostOffset(0))?;
        Ok(Written {
            image_size,
            data_clusters: self.data_clusters,
            zero_clusters: self.zero_clusters,
        })
    }

    /// Writes the blocks that count all clusters taken so far, and themselves; returns the table of them.
    fn write_refcount_blocks(&mut self) -> Result<Vec<[u8; 8]>> {
        let geometry = self.design.geometry;
        let cluster_size = geometry.cluster_size();
        let blocks = refcount_blocks(geometry, self.allocator.clusters());
        let first = self.allocator.take(blocks);
        let mut counted = self.allocator.clusters();
        let mut piece = vec![0; to_usize(PIECE.max(cluster_size).min(blocks.saturating_mul(cluster_size)))];
        let (mut host, end) = (first, self.allocator.end());
        while host.0 < end.0 {
            let length = to_usize(end.0.saturating_sub(host.0)).min(piece.len());
            let (bytes, _) = piece.split_at_mut(length);
            for block in bytes.chunks_exact_mut(to_usize(cluster_size)) {
                refcount::fill_block(block, counted);
                counted = counted.saturating_sub(geometry.refcount_block_entries());
            }
            self.sink.write_at(bytes, host)?;
            host = HostOffset(host.0.saturating_add(to_u64(length)));
        }
        let offsets = (0..blocks).map(|block| first.0.saturating_add(block.saturating_mul(cluster_size)));
        Ok(offsets
            .map(|offset| refcount::table_entry(HostOffset(offset)))
            .collect())
    }

    fn header(&self, l1_at: HostOffset, refcount_table_at: HostOffset, at: Option<ChecksumsAt>) -> Vec<u8> {
        let Design {
            geometry,
            compat,
            room,
            ..
        } = self.design;
        // Both are below QEMU's limits, which Geometry and Room uphold: 2^22 entries, 2^14 clusters.
        let in_32_bits = |count: u64| u32::try_from(count).expect("QEMU's limits are upheld");
        let raw = RawHeader {
            magic: header::MAGIC,
            version: match compat {
                Compat::V0_10 => 2,
                Compat::V1_1 => 3,
            }
            .into(),
            backing_file_offset: 0.into(),
            backing_file_size: 0.into(),
            cluster_bits: geometry.cluster().bits().into(),
            size: geometry.size().into(),
            crypt_method: 0.into(),
            l1_size: in_32_bits(geometry.l1_entries()).into(),
            l1_table_offset: l1_at.0.into(),
            refcount_table_offset: refcount_table_at.0.into(),
            refcount_table_clusters: in_32_bits(room.refcount_table).into(),
            nb_snapshots: 0.into(),
            snapshots_offset: 0.into(),
        };
        let mut header = raw.as_bytes().to_vec();
        if compat == Compat::V1_1 {
            let v3 = RawHeaderV3 {
                incompatible_features: 0.into(),
                compatible_features: 0.into(),
                autoclear_features: at.map_or(0, |_| 1 << AUTOCLEAR_CHECKSUMS).into(),
                refcount_order: refcount::ORDER.into(),
                header_length: in_32_bits(to_u64(compat.header_length())).into(),
            };
            header.extend(v3.as_bytes());
        }
        if let Some(at) = at {
            if compat == Compat::V1_1 {
                extension::append_feature_names(&mut header);
            }
            extension::append_checksums(&mut header, at);
        }
        extension::append_end(&mut header);
        header
    }
}
