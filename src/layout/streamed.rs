//! Where everything goes in an image that is written strictly in order: all tables first, made from the map of
//! what is in use, then the clusters with data one after the other, and the checksums and the record at the end.
//!
//! Nothing of it depends on the data. So clusters that turn out to be zeros take room like any other.

use std::ops::Range;

use super::blocks::Blocks;
use super::checksums::Checksums;
use super::pieces::PIECE;
use super::{Design, Record, Written, header, ours_at};
use crate::clusters::{Runs, runs};
use crate::error::Result;
use crate::formats::qcow2::structures::checksum::{self, Sum};
use crate::formats::qcow2::structures::geometry::ENTRY;
use crate::formats::qcow2::structures::mapping::{self, Entry};
use crate::output::WriteAt;
use crate::pipeline::encode::{Encoded, Encoding};
use crate::units::{Exact, GuestCluster, HostOffset, to_u64, to_usize};
use crate::volumes::AllocationMap;

/// An image under construction whose tables are written.
#[derive(Debug)]
pub struct Streamed<'a, W> {
    design: Design,
    writer: &'a mut W,
    /// The runs of clusters in use that are still to come.
    ahead: Runs<'a>,
    /// What is still to come of the run that is being written.
    run: Range<u64>,
    /// Where the next cluster goes.
    next: HostOffset,
    checksums: Option<Checksums>,
    /// The checksum of a cluster of zeros.
    zero_crc: u32,
}

/// Where the parts begin that are not in the same place in every image.
#[derive(Clone, Copy, Debug)]
struct Parts {
    refcount_blocks: HostOffset,
    l2_tables: HostOffset,
    data: HostOffset,
    /// Behind all that has a refcount.
    checksums: HostOffset,
}

impl Parts {
    fn of(design: &Design) -> Self {
        let Design {
            geometry,
            room,
            content,
            ..
        } = design;
        let at = |clusters: u64| HostOffset(clusters.times(geometry.cluster_size()));
        let l2_tables = room.tables().plus(room.refcount_blocks);
        Self {
            refcount_blocks: at(room.tables()),
            l2_tables: at(l2_tables),
            data: at(l2_tables.plus(content.l2_tables)),
            checksums: at(room.total()),
        }
    }
}

impl<'a, W: WriteAt> Streamed<'a, W> {
    /// Writes everything that comes before the data. `design` is the one for `map`.
    ///
    /// # Errors
    ///
    /// Those of the writer. Nothing is written if there is no room for a scratch file that will be needed.
    pub fn begin(design: Design, map: &'a AllocationMap, writer: &'a mut W) -> Result<Self> {
        let parts = Parts::of(&design);
        let at = design.checksums.then(|| {
            ours_at(
                parts.checksums,
                checksum::table_length(design.content, design.digests),
            )
        });
        let mut checksums = design
            .checksums
            .then(|| Checksums::new(design.geometry, design.digests));
        if let (Some(checksums), Some(at)) = (&mut checksums, at) {
            checksums.expect(at.checksums.length, writer)?;
        }
        writer.write_at(&header::bytes(&design, at, None), HostOffset(0))?;
        writer.write_at(l1(&design, map).as_flattened(), design.l1_at())?;
        let geometry = design.geometry;
        let blocks = Blocks {
            geometry,
            first: parts.refcount_blocks,
            count: design.room.refcount_blocks,
            used: design.room.total(),
        };
        writer.write_at(blocks.table().as_flattened(), design.refcount_table_at())?;
        blocks.write(writer, |_, _, _| Ok(()))?;
        write_l2(&design, map, writer)?;
        Ok(Self {
            design,
            writer,
            ahead: runs(map, geometry),
            run: 0..0,
            next: parts.data,
            checksums,
            zero_crc: crc32fast::hash(&vec![0; to_usize(geometry.cluster_size())]),
        })
    }

    /// Writes all of a batch, which begins where the last one ended or at the next cluster in use.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    ///
    /// # Panics
    ///
    /// If the batch holds other clusters than those that the tables say come next, or such as
    /// it cannot have.
    pub fn place(&mut self, batch: &Encoded) -> Result<()> {
        let clusters = to_u64(batch.clusters.len());
        let cluster_size = self.design.geometry.cluster_size();
        assert_eq!(
            to_u64(batch.bytes.len()),
            clusters.times(cluster_size),
            "a batch is whole clusters"
        );
        self.pass(batch.first, clusters);
        if let Some(sums) = &mut self.checksums {
            for (cluster, encoding) in (batch.first.0..).map(GuestCluster).zip(&batch.clusters) {
                let sum = match encoding {
                    Encoding::Zeros => Sum {
                        crc: self.zero_crc,
                        digest: sums.digest_of_zeros(cluster),
                    },
                    Encoding::Plain { sum } => *sum,
                    Encoding::Same { .. } => panic!("it stands on nothing that has the cluster"),
                    Encoding::Compressed { .. } => {
                        panic!("nobody knew its length when the tables were written")
                    }
                };
                sums.push(cluster, &sum, self.writer)?;
            }
        }
        self.writer.write_at(&batch.bytes, self.next)?;
        self.next += to_u64(batch.bytes.len());
        Ok(())
    }

    /// Holds a batch to the order that is in the tables already.
    fn pass(&mut self, first: GuestCluster, clusters: u64) {
        if self.run.is_empty() {
            self.run = self.ahead.next().unwrap_or(0..0);
        }
        let end = first.0.plus(clusters);
        assert!(
            self.run.start == first.0 && end <= self.run.end,
            "clusters {first:?} to {end} come when the tables say {:?}",
            self.run
        );
        self.run.start = end;
    }

    /// Writes the checksums and the record.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    ///
    /// # Panics
    ///
    /// If a cluster that is in the tables was not placed.
    pub fn finish(mut self, record: &Record<'_>) -> Result<Written> {
        let end = Parts::of(&self.design).checksums;
        assert_eq!(self.next, end, "all clusters in the tables are there");
        let image_size = match self.checksums.take() {
            Some(checksums) => {
                let table = checksums.finish(self.writer, end)?;
                let promised = checksum::table_length(self.design.content, self.design.digests);
                assert_eq!(
                    table.length, promised,
                    "the checksums are as long as the header says"
                );
                let at = ours_at(end, table.length);
                record.write(self.writer, self.design.geometry, at, &table)?
            }
            None => end.0,
        };
        self.writer.set_len(image_size)?;
        Ok(Written {
            image_size,
            data_clusters: self.design.content.clusters,
            ..Written::default()
        })
    }
}

/// The L1 table for tables that lie one after the other.
fn l1(design: &Design, map: &AllocationMap) -> Vec<Entry> {
    let geometry = design.geometry;
    let mut l1 = vec![[0; 8]; to_usize(geometry.l1_entries())];
    let mut host = Parts::of(design).l2_tables;
    let mut next = 0;
    for run in runs(map, geometry) {
        let first = (run.start / geometry.l2_entries()).max(next);
        next = run.end.div_ceil(geometry.l2_entries());
        for table in first..next {
            // There is an entry for every cluster of the disk, and the run is some of them.
            #[expect(
                clippy::indexing_slicing,
                reason = "a panic is better than a backup with a hole"
            )]
            {
                l1[to_usize(table)] = mapping::only_reference_to(host);
            }
            host += geometry.cluster_size();
        }
    }
    l1
}

/// Writes all L2 tables, of which no more than a piece is in memory.
fn write_l2(design: &Design, map: &AllocationMap, writer: &mut impl WriteAt) -> Result<()> {
    let (geometry, parts) = (design.geometry, Parts::of(design));
    let table_size = to_usize(geometry.cluster_size());
    let whole_piece = to_usize(PIECE).max(table_size);
    let mut piece = Vec::with_capacity(whole_piece);
    let (mut host, mut data, mut current) = (parts.l2_tables, parts.data, None);
    let mut flush = |piece: &mut Vec<u8>| {
        if !piece.is_empty() {
            writer.write_at(piece, host)?;
        }
        host += to_u64(piece.len());
        piece.clear();
        Ok::<_, crate::Error>(host)
    };
    for cluster in runs(map, geometry).flatten() {
        let (table, index) = geometry.indices_of(GuestCluster(cluster));
        if current != Some(table) {
            if piece.len() == whole_piece {
                flush(&mut piece)?;
            }
            piece.resize(piece.len().plus(table_size), 0);
            current = Some(table);
        }
        let start = piece.len().minus(table_size);
        let at = start.plus(index.times(to_usize(ENTRY)));
        // An index is below the entries of a table, and the last table of the piece is whole.
        #[expect(
            clippy::indexing_slicing,
            reason = "a panic is better than a cluster that is not mapped"
        )]
        piece[at..at.plus(to_usize(ENTRY))].copy_from_slice(&mapping::only_reference_to(data));
        data += geometry.cluster_size();
    }
    let end = flush(&mut piece)?;
    assert_eq!(
        (end, data),
        (parts.data, parts.checksums),
        "tables and data fill their room"
    );
    Ok(())
}
