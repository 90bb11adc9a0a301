//! Where everything goes in the image, in one pass: data packed in ascending guest order, L2 tables between it
//! whenever their cache is full, refcount blocks and checksums at the end, the header last of all.
//!
//! Compressed clusters follow each other byte by byte. Those that are stored as they are, and come while a cluster of
//! streams is not full, are held back: otherwise each change from one to the other would leave the rest of it empty.
//!
//! But for the header and the two tables behind it, everything is written in ascending order. What cannot go back at
//! all is written in [another order](Streamed).

mod allocator;
mod blocks;
mod checksums;
mod design;
mod header;
mod held;
mod index;
mod l2_cache;
mod packer;
mod pending;
mod pieces;
#[cfg(test)]
mod property;
pub(crate) mod record;
mod refcounts;
mod streamed;

use std::ffi::{OsStr, OsString};

use allocator::Allocator;
use blocks::Blocks;
use checksums::Checksums;
pub use design::Design;
use held::Held;
use index::Index;
use l2_cache::L2Cache;
use packer::Packer;
use pending::{BufferPart, Pending};
pub use record::Record;
use refcounts::{MAX_REFERENCES, Refcounts};
pub use streamed::Streamed;

use crate::error::Result;
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::digest::Digest;
use crate::formats::qcow2::structures::extension::{ChecksumsAt, OursAt};
use crate::formats::qcow2::structures::geometry::{ENTRY, refcount_blocks};
use crate::formats::qcow2::structures::header::Compat;
use crate::formats::qcow2::structures::mapping::{self, Entry};
use crate::formats::qcow2::structures::refcount;
use crate::output::{ReadBack, WriteAt};
use crate::pipeline::encode::{Encoded, Encoding};
use crate::units::{Exact, GuestCluster, HostOffset, to_u64, to_usize};

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The size of the image in bytes.
    pub image_size: u64,
    /// Clusters that hold data, compressed or not.
    pub data_clusters: u64,
    /// Those of them that are compressed.
    pub compressed_clusters: u64,
    /// The length in bytes of all their streams that are in the image.
    pub stream_bytes: u64,
    /// Compressed clusters that are equal to another one, and have no stream of their own.
    pub shared_clusters: u64,
    /// The length in bytes of the streams that they would have had.
    pub shared_bytes: u64,
    /// Clusters in use that are zeros and take no room.
    pub zero_clusters: u64,
    /// Clusters in use that are as in the image that this one stands on.
    pub unchanged_clusters: u64,
    /// The digest of the disk, if clusters have digests.
    pub disk: Option<Digest>,
}

/// Where checksums of `length` bytes at `offset` are, and the record behind them.
fn ours_at(offset: HostOffset, length: u64) -> OursAt {
    OursAt {
        checksums: ChecksumsAt { offset, length },
        record: Some(offset + length),
    }
}

/// How much room there is for the name of the image that one of this design stands on, in bytes.
pub fn room_for_name(design: &Design) -> u64 {
    /// QEMU's limit.
    const MAX_NAME: u64 = 1023;
    let at = design.checksums.then(|| ours_at(HostOffset(0), 0));
    let header = header::bytes(design, at, Some(OsStr::new("")));
    let cluster_size = design.geometry.cluster_size();
    cluster_size.saturating_sub(to_u64(header.len())).min(MAX_NAME)
}

/// How equal streams are found. What reads the image is here, and only here: not everything that takes one can give it
/// back.
#[derive(Debug)]
struct Sharing<W> {
    index: Index,
    read_at: fn(&W, &mut [u8], HostOffset) -> Result<()>,
}

/// An image under construction.
#[derive(Debug)]
pub struct Layout<'a, W> {
    design: Design,
    writer: &'a mut W,
    allocator: Allocator,
    packer: Packer,
    held: Held,
    refcounts: Refcounts,
    sharing: Option<Sharing<W>>,
    l1: Vec<Entry>,
    l2: L2Cache,
    checksums: Option<Checksums>,
    /// The name of the image that this one stands on.
    base: Option<OsString>,
    written: Written,
}

impl<'a, W: WriteAt> Layout<'a, W> {
    /// An empty image. Its first clusters are left for header, L1 table and refcount table.
    pub fn new(design: Design, writer: &'a mut W) -> Self {
        let (geometry, content) = (design.geometry, design.content);
        let cluster_size = geometry.cluster_size();
        let l1_bytes = geometry.l1_entries() * ENTRY;
        Self {
            design,
            writer,
            allocator: Allocator::new(cluster_size, design.room.tables()),
            packer: Packer::new(cluster_size),
            held: Held::default(),
            refcounts: Refcounts::new(cluster_size),
            sharing: None,
            l1: vec![[0; 8]; to_usize(geometry.l1_entries())],
            l2: L2Cache::new(cluster_size, content.l2_tables, l1_bytes),
            checksums: design.checksums.then(|| Checksums::new(geometry, design.digests)),
            base: None,
            written: Written::default(),
        }
    }

    /// Lets it stand on the image of this name, which has the clusters that are not placed.
    #[must_use]
    pub fn standing_on(self, base: Option<OsString>) -> Self {
        Self { base, ..self }
    }

    /// Stores equal compressed clusters once, as far as `memory` bytes remember them; none if they need not be. What was
    /// written is read back, for only equal bytes are equal.
    #[must_use]
    pub fn sharing(self, memory: Option<u64>) -> Self
    where
        W: ReadBack,
    {
        let sharing = memory.map(|memory| Sharing {
            index: Index::new(memory, self.design.content.clusters),
            read_at: W::read_at,
        });
        Self { sharing, ..self }
    }

    /// Writes the data of a batch, which begins behind all that were placed before, and maps its clusters.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    ///
    /// # Panics
    ///
    /// If the buffers of the batch do not hold what its clusters are said to be.
    pub fn place(&mut self, batch: &Encoded) -> Result<()> {
        let cluster_size = to_usize(self.design.geometry.cluster_size());
        let mut pending = Pending::default();
        let (mut start, mut stream_start) = (0_usize, 0_usize);
        for (cluster, encoding) in (batch.first.0..).map(GuestCluster).zip(&batch.clusters) {
            let end = start.plus(cluster_size);
            match *encoding {
                Encoding::Zeros => self.place_zeros(cluster, &mut pending)?,
                Encoding::Same { digest } => self.pass(cluster, digest.as_ref()),
                Encoding::Plain { sum } => {
                    self.begin_data(cluster, &sum, &mut pending)?;
                    self.place_plain(cluster, BufferPart::new(&batch.bytes, start..end), &mut pending)?;
                }
                Encoding::Compressed { sum, length } => {
                    let stream_end = stream_start.plus(length);
                    let stream = BufferPart::new(&batch.streams, stream_start..stream_end);
                    stream_start = stream_end;
                    self.begin_data(cluster, &sum, &mut pending)?;
                    self.place_stream(cluster, sum.crc, stream, &mut pending)?;
                }
            }
            start = end;
        }
        pending.write(self.writer)
    }

    /// Leaves a cluster to the image that this one stands on.
    fn pass(&mut self, cluster: GuestCluster, digest: Option<&Digest>) {
        if let (Some(checksums), Some(digest)) = (&mut self.checksums, digest) {
            checksums.pass(cluster, digest);
        }
        self.written.unchanged_clusters.increase(1);
    }

    fn place_zeros(&mut self, cluster: GuestCluster, pending: &mut Pending<'_>) -> Result<()> {
        // Version 2 has no zero flag. Without a backing file unallocated clusters read as zeros as well, and with one
        // zeros are data there.
        if self.design.compat == Compat::V1_1 {
            self.reserve_l2(cluster, pending)?;
            self.map(cluster, mapping::ZERO_CLUSTER);
        }
        self.written.zero_clusters.increase(1);
        Ok(())
    }

    /// What is done with a cluster that holds data, however it is stored.
    fn begin_data(&mut self, cluster: GuestCluster, sum: &Sum, pending: &mut Pending<'_>) -> Result<()> {
        // The table first: to make room for it may take clusters.
        self.reserve_l2(cluster, pending)?;
        if let Some(checksums) = &mut self.checksums {
            checksums.push(cluster, sum, self.writer)?;
        }
        self.written.data_clusters.increase(1);
        Ok(())
    }

    fn place_plain<'b>(
        &mut self,
        cluster: GuestCluster,
        bytes: BufferPart<'b>,
        pending: &mut Pending<'b>,
    ) -> Result<()> {
        if self.packer.is_open() && !self.held.is_full() {
            self.held.push(cluster, bytes.bytes());
            return Ok(());
        }
        self.release(pending)?;
        let host = self.allocator.take(1);
        self.map(cluster, mapping::only_reference_to(host));
        pending.put(bytes, host, self.writer)
    }

    fn place_stream<'b>(
        &mut self,
        cluster: GuestCluster,
        crc: u32,
        stream: BufferPart<'b>,
        pending: &mut Pending<'b>,
    ) -> Result<()> {
        let (bytes, geometry) = (stream.bytes(), self.design.geometry);
        let length = to_u64(bytes.len());
        self.written.compressed_clusters.increase(1);
        if let Some(host) = self.find_equal(crc, bytes, pending)? {
            self.written.shared_clusters.increase(1);
            self.written.shared_bytes.increase(length);
            self.map(cluster, mapping::compressed(geometry, host, length));
            return Ok(());
        }
        let (allocator, refcounts) = (&mut self.allocator, &mut self.refcounts);
        let host = self.packer.place(length, allocator, refcounts, self.writer)?;
        if let Some(sharing) = &mut self.sharing {
            sharing.index.insert(crc, bytes.len(), host);
        }
        self.written.stream_bytes.increase(length);
        self.map(cluster, mapping::compressed(geometry, host, length));
        pending.put(stream, host, self.writer)
    }

    /// Looks for a stream in the image that is the same, byte for byte, and counts one more reference to it.
    fn find_equal(
        &mut self,
        crc: u32,
        stream: &[u8],
        pending: &mut Pending<'_>,
    ) -> Result<Option<HostOffset>> {
        let Some(sharing) = &mut self.sharing else {
            return Ok(None);
        };
        let Some(host) = sharing.index.find(crc, stream.len()) else {
            return Ok(None);
        };
        let read_at = sharing.read_at;
        let touched = self.refcounts.touched(host, to_u64(stream.len()));
        for cluster in touched.clone() {
            if self.refcounts.of(cluster, self.writer)? >= MAX_REFERENCES {
                return Ok(None);
            }
        }
        if pending.start().is_some_and(|start| start <= host) {
            pending.write(self.writer)?;
        }
        let mut candidate = vec![0; stream.len()];
        read_at(self.writer, &mut candidate, host)?;
        if candidate != stream {
            return Ok(None);
        }
        for cluster in touched {
            self.refcounts.add(cluster, self.writer)?;
        }
        Ok(Some(host))
    }

    /// Gives the clusters that were held back their place, and leaves the rest of the last cluster of streams empty.
    fn release(&mut self, pending: &mut Pending<'_>) -> Result<()> {
        self.packer.close();
        if self.held.is_empty() {
            return Ok(());
        }
        pending.write(self.writer)?;
        let held = std::mem::take(&mut self.held);
        let mut host = self.allocator.take(to_u64(held.clusters().len()));
        self.writer.write_at(held.bytes(), host)?;
        for cluster in held.clusters() {
            self.map(*cluster, mapping::only_reference_to(host));
            host += self.design.geometry.cluster_size();
        }
        self.held = held;
        self.held.clear();
        Ok(())
    }

    fn map(&mut self, cluster: GuestCluster, entry: Entry) {
        let (table, index) = self.design.geometry.indices_of(cluster);
        self.l2.set(table, index, entry);
    }

    /// Sees to it that the table that maps `cluster` is in the cache.
    fn reserve_l2(&mut self, cluster: GuestCluster, pending: &mut Pending<'_>) -> Result<()> {
        let (table, _) = self.design.geometry.indices_of(cluster);
        if self.l2.current() != Some(table) {
            if self.l2.is_full() {
                self.flush_l2(pending)?;
            }
            self.l2.begin(table);
        }
        Ok(())
    }

    /// Writes all tables of the cache together, and points the L1 table to them.
    fn flush_l2(&mut self, pending: &mut Pending<'_>) -> Result<()> {
        self.release(pending)?;
        pending.write(self.writer)?;
        let mut host = self.allocator.take(to_u64(self.l2.tables().len()));
        if !self.l2.tables().is_empty() {
            self.writer.write_at(self.l2.bytes(), host)?;
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
            host += self.design.geometry.cluster_size();
        }
        self.l2.clear();
        Ok(())
    }

    /// Writes what is left: tables, refcounts, checksums, the record, and last of all the header.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finish(mut self, record: &Record<'_>) -> Result<Written> {
        self.flush_l2(&mut Pending::default())?;
        let geometry = self.design.geometry;
        // Before the end of the image: the second of two passes fails here if its tables are not those of the first,
        // and what was sent must not look whole then.
        self.writer
            .write_at(self.l1.as_flattened(), self.design.l1_at())?;
        self.write_refcounts()?;
        let end = self.allocator.end();
        let (at, image_size, disk) = match self.checksums.take() {
            Some(checksums) => {
                let table = checksums.finish(self.writer, end)?;
                let at = ours_at(end, table.length);
                let image_size = record.write(self.writer, geometry, at, &table)?;
                (Some(at), image_size, table.disk)
            }
            None => (None, end.0, None),
        };
        self.writer.set_len(image_size)?;
        self.writer.write_at(
            &header::bytes(&self.design, at, self.base.as_deref()),
            HostOffset(0),
        )?;
        Ok(Written {
            image_size,
            disk,
            ..self.written
        })
    }

    /// Writes the blocks that count all clusters taken so far, and themselves, and the table of them.
    fn write_refcounts(&mut self) -> Result<()> {
        let geometry = self.design.geometry;
        let count = refcount_blocks(geometry, self.allocator.clusters());
        let first = self.allocator.take(count);
        let used = self.allocator.clusters();
        let blocks = Blocks {
            geometry,
            first,
            count,
            used,
        };
        self.writer
            .write_at(blocks.table().as_flattened(), self.design.refcount_table_at())?;
        let (refcounts, entries) = (&mut self.refcounts, geometry.refcount_block_entries());
        blocks.write(self.writer, |block, counted, writer| {
            let add = |index, more| refcount::add_to_block(block, index, more);
            refcounts.for_each(counted, entries, writer, add)
        })
    }
}
