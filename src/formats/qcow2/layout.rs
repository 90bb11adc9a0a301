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
mod header;
mod held;
mod index;
mod l2_cache;
mod packer;
mod pending;
#[cfg(test)]
mod property;
pub(crate) mod record;
mod refcounts;
mod streamed;

use allocator::Allocator;
use blocks::Blocks;
use checksums::Checksums;
use held::Held;
use index::Index;
use l2_cache::L2Cache;
use packer::Packer;
use pending::{Part, Pending};
pub use record::Record;
use refcounts::{MAX_REFERENCES, Refcounts};
pub use streamed::Streamed;

use crate::error::Result;
use crate::formats::qcow2::structures::checksum;
use crate::formats::qcow2::structures::extension::{ChecksumsAt, OursAt};
use crate::formats::qcow2::structures::geometry::{Content, ENTRY, Geometry, Room, refcount_blocks};
use crate::formats::qcow2::structures::header::{Compat, Compression};
use crate::formats::qcow2::structures::mapping::{self, Entry};
use crate::formats::qcow2::structures::record::file_end;
use crate::formats::qcow2::structures::refcount;
use crate::output::Sink;
use crate::pipeline::encode::{Encoded, Encoding};
use crate::units::{Exact, GuestCluster, HostOffset, to_u64, to_usize};

/// Tables are written in pieces of at most this many bytes, or of one cluster.
const PIECE: u64 = 1 << 20;

/// What an image is to be like. [`Room`] has seen to it that its clusters end below 2^56, and the tables behind them are
/// shorter than that.
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
    /// Whether a checksum table and a record are written.
    pub checksums: bool,
    /// The length of the record in bytes, if all of the source can be read.
    pub record: u64,
    /// How clusters are compressed, those that are.
    pub compression: Option<Compression>,
    /// How many bytes of memory remember compressed clusters, so that equal ones are stored once; none if they
    /// need not be.
    pub dedupe_memory: Option<u64>,
}

impl Design {
    /// The size of the image in bytes if no cluster in use turns out to be zeros or is compressed, and an upper bound
    /// if some are.
    pub fn image_size(&self) -> u64 {
        let cluster_size = self.geometry.cluster_size();
        let end = self.room.total().times(cluster_size);
        if self.checksums {
            let tables = self.checksum_table().plus(self.record);
            file_end(end.plus(tables), cluster_size)
        } else {
            end
        }
    }

    /// The room it takes on the disk while it is made, in bytes: a large checksum table is there twice, and so may be
    /// the refcounts of clusters that hold streams.
    pub fn room_needed(&self) -> u64 {
        let table = self.checksum_table();
        let scratch = if table > checksums::IN_MEMORY_BYTES {
            table
        } else {
            0
        };
        let refcounts = self
            .compression
            .map_or(0, |_| Refcounts::scratch_size(self.room.total()));
        self.image_size().plus(scratch).plus(refcounts)
    }

    /// The length in bytes of what lies in front of the data and is known, and written, behind them: header, L1 table
    /// and refcount table.
    pub fn front(&self) -> u64 {
        self.room.tables().times(self.geometry.cluster_size())
    }

    /// Where the L1 table is.
    fn l1_at(&self) -> HostOffset {
        HostOffset(self.room.header.times(self.geometry.cluster_size()))
    }

    /// Where the refcount table is.
    fn refcount_table_at(&self) -> HostOffset {
        let clusters = self.room.header.plus(self.room.l1);
        HostOffset(clusters.times(self.geometry.cluster_size()))
    }

    /// The length of the checksum table in bytes, if no cluster in use turns out to be zeros.
    fn checksum_table(&self) -> u64 {
        if self.checksums {
            checksum::table_length(self.content)
        } else {
            0
        }
    }
}

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
}

/// Where checksums of `length` bytes at `offset` are, and the record behind them.
fn ours_at(offset: HostOffset, length: u64) -> OursAt {
    OursAt {
        checksums: ChecksumsAt { offset, length },
        record: Some(offset + length),
    }
}

/// An image under construction.
#[derive(Debug)]
pub struct Layout<'a, S> {
    design: Design,
    sink: &'a mut S,
    allocator: Allocator,
    packer: Packer,
    held: Held,
    refcounts: Refcounts,
    index: Option<Index>,
    l1: Vec<Entry>,
    l2: L2Cache,
    checksums: Option<Checksums>,
    written: Written,
}

impl<'a, S: Sink> Layout<'a, S> {
    /// An empty image. Its first clusters are left for header, L1 table and refcount table.
    pub fn new(design: Design, sink: &'a mut S) -> Self {
        let (geometry, content) = (design.geometry, design.content);
        let cluster_size = geometry.cluster_size();
        let l1_bytes = geometry.l1_entries() * ENTRY;
        Self {
            design,
            sink,
            allocator: Allocator::new(cluster_size, design.room.tables()),
            packer: Packer::new(cluster_size),
            held: Held::default(),
            refcounts: Refcounts::new(cluster_size),
            index: design
                .dedupe_memory
                .map(|memory| Index::new(memory, content.clusters)),
            l1: vec![[0; 8]; to_usize(geometry.l1_entries())],
            l2: L2Cache::new(cluster_size, content.l2_tables, l1_bytes),
            checksums: design.checksums.then(|| Checksums::new(geometry)),
            written: Written::default(),
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
    /// If the buffers of the batch do not hold what its clusters are said to be.
    pub fn place(&mut self, batch: &Encoded) -> Result<()> {
        let cluster_size = to_usize(self.design.geometry.cluster_size());
        let mut pending = Pending::default();
        let (mut start, mut stream_start) = (0_usize, 0_usize);
        for (cluster, encoding) in (batch.first.0..).map(GuestCluster).zip(&batch.clusters) {
            let end = start.plus(cluster_size);
            match *encoding {
                Encoding::Zeros => self.place_zeros(cluster, &mut pending)?,
                Encoding::Plain { crc } => {
                    self.begin_data(cluster, crc, &mut pending)?;
                    self.place_plain(cluster, Part::new(&batch.bytes, start..end), &mut pending)?;
                }
                Encoding::Compressed { crc, length } => {
                    let stream_end = stream_start.plus(length);
                    let stream = Part::new(&batch.streams, stream_start..stream_end);
                    stream_start = stream_end;
                    self.begin_data(cluster, crc, &mut pending)?;
                    self.place_stream(cluster, crc, stream, &mut pending)?;
                }
            }
            start = end;
        }
        pending.write(self.sink)
    }

    fn place_zeros(&mut self, cluster: GuestCluster, pending: &mut Pending<'_>) -> Result<()> {
        // Version 2 has no zero flag. There is no backing file: unallocated clusters read as zeros as well.
        if self.design.compat == Compat::V1_1 {
            self.reserve_l2(cluster, pending)?;
            self.map(cluster, mapping::ZERO_CLUSTER);
        }
        self.written.zero_clusters.increase(1);
        Ok(())
    }

    /// What is done with a cluster that holds data, however it is stored.
    fn begin_data(&mut self, cluster: GuestCluster, crc: u32, pending: &mut Pending<'_>) -> Result<()> {
        // The table first: to make room for it may take clusters.
        self.reserve_l2(cluster, pending)?;
        if let Some(checksums) = &mut self.checksums {
            checksums.push(cluster, crc, self.sink)?;
        }
        self.written.data_clusters.increase(1);
        Ok(())
    }

    fn place_plain<'b>(
        &mut self,
        cluster: GuestCluster,
        bytes: Part<'b>,
        pending: &mut Pending<'b>,
    ) -> Result<()> {
        if self.packer.is_open() && !self.held.is_full() {
            self.held.push(cluster, bytes.bytes());
            return Ok(());
        }
        self.release(pending)?;
        let host = self.allocator.take(1);
        self.map(cluster, mapping::only_reference_to(host));
        pending.put(bytes, host, self.sink)
    }

    fn place_stream<'b>(
        &mut self,
        cluster: GuestCluster,
        crc: u32,
        stream: Part<'b>,
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
        let host = self.packer.place(length, allocator, refcounts, self.sink)?;
        if let Some(index) = &mut self.index {
            index.insert(crc, bytes.len(), host);
        }
        self.written.stream_bytes.increase(length);
        self.map(cluster, mapping::compressed(geometry, host, length));
        pending.put(stream, host, self.sink)
    }

    /// Looks for a stream in the image that is the same, byte for byte, and counts one more reference to it.
    fn find_equal(
        &mut self,
        crc: u32,
        stream: &[u8],
        pending: &mut Pending<'_>,
    ) -> Result<Option<HostOffset>> {
        let found = self
            .index
            .as_mut()
            .and_then(|index| index.find(crc, stream.len()));
        let Some(host) = found else {
            return Ok(None);
        };
        let touched = self.refcounts.touched(host, to_u64(stream.len()));
        for cluster in touched.clone() {
            if self.refcounts.of(cluster, self.sink)? >= MAX_REFERENCES {
                return Ok(None);
            }
        }
        if pending.start().is_some_and(|start| start <= host) {
            pending.write(self.sink)?;
        }
        let mut candidate = vec![0; stream.len()];
        self.sink.read_at(&mut candidate, host)?;
        if candidate != stream {
            return Ok(None);
        }
        for cluster in touched {
            self.refcounts.add(cluster, self.sink)?;
        }
        Ok(Some(host))
    }

    /// Gives the clusters that were held back their place, and leaves the rest of the last cluster of streams empty.
    fn release(&mut self, pending: &mut Pending<'_>) -> Result<()> {
        self.packer.close();
        if self.held.is_empty() {
            return Ok(());
        }
        pending.write(self.sink)?;
        let held = std::mem::take(&mut self.held);
        let mut host = self.allocator.take(to_u64(held.clusters().len()));
        self.sink.write_at(held.bytes(), host)?;
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
        pending.write(self.sink)?;
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
            host += self.design.geometry.cluster_size();
        }
        self.l2.clear();
        Ok(())
    }

    /// Writes what is left: tables, refcounts, checksums, the record, and last of all the header.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn finish(mut self, record: &Record<'_>) -> Result<Written> {
        self.flush_l2(&mut Pending::default())?;
        let geometry = self.design.geometry;
        // Before the end of the image: the second of two passes fails here if its tables are not those of the first,
        // and what was sent must not look whole then.
        self.sink.write_at(self.l1.as_flattened(), self.design.l1_at())?;
        self.write_refcounts()?;
        let end = self.allocator.end();
        let (at, image_size) = match self.checksums.take() {
            Some(checksums) => {
                let length = checksums.finish(self.sink, end)?;
                let at = ours_at(end, length);
                (Some(at), record.write(self.sink, geometry, at)?)
            }
            None => (None, end.0),
        };
        self.sink.set_len(image_size)?;
        self.sink
            .write_at(&header::bytes(&self.design, at), HostOffset(0))?;
        Ok(Written {
            image_size,
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
        self.sink
            .write_at(blocks.table().as_flattened(), self.design.refcount_table_at())?;
        let (refcounts, entries) = (&mut self.refcounts, geometry.refcount_block_entries());
        blocks.write(self.sink, |block, counted, sink| {
            let add = |index, more| refcount::add_to_block(block, index, more);
            refcounts.for_each(counted, entries, sink, add)
        })
    }
}
