//! The checksums of an image, asked for in any order, in bounded memory.

use std::sync::{Arc, Mutex, PoisonError};

use crc32fast::Hasher;

use super::checksums::{Checksums, SumRun};
use crate::error::Result;
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::extension::ChecksumsAt;
use crate::units::{Exact, GuestCluster, HostOffset, to_u64};

/// How long a segment of the table is, in bytes, at least: there is one mark in memory for each.
const SEGMENT: u64 = 64 << 10;

/// How many segments are kept. A run has less than 300 KiB unless it is made up, and then at most
/// 2.4 MiB: one takes little more.
const KEPT: usize = 8;

/// The checksums of a table that was found whole, asked for in any order.
#[derive(Debug)]
pub(crate) struct Lookup {
    at: ChecksumsAt,
    clusters: u64,
    has_digests: bool,
    marks: Vec<Mark>,
    /// Those that were used last, the last one at the end.
    kept: Mutex<Vec<Arc<Segment>>>,
}

/// Where a segment begins: with a run.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: HostOffset,
    first: u64,
}

/// Consecutive runs.
#[derive(Debug)]
struct Segment {
    number: usize,
    runs: Vec<SumRun>,
}

impl Lookup {
    /// Reads all of a table once.
    ///
    /// # Errors
    ///
    /// Those of [`Checksums::for_each`].
    pub(crate) fn new(table: &Checksums<'_>) -> Result<Self> {
        let mut marks: Vec<Mark> = Vec::new();
        let (mut at, mut next) = (table.runs_at(), 0);
        while at.0 < table.trailer_at().0 {
            let start = at;
            let run = table.read_run(&mut at, &mut next, &mut Hasher::new())?;
            if marks
                .last()
                .is_none_or(|last| start.0.minus(last.at.0) >= SEGMENT)
            {
                let first = run.first;
                marks.push(Mark { at: start, first });
            }
        }
        Ok(Self {
            at: table.at,
            clusters: table.clusters,
            has_digests: table.has_digests,
            marks,
            kept: Mutex::default(),
        })
    }

    /// The table, in the image that it was made of.
    pub(crate) fn table<'a>(&self, image: &'a Image) -> Checksums<'a> {
        Checksums {
            image,
            at: self.at,
            clusters: self.clusters,
            has_digests: self.has_digests,
        }
    }

    /// The CRC-32 of a cluster; `None` if it is not listed, and so must read as zeros.
    ///
    /// # Errors
    ///
    /// Those of [`Checksums::for_each`].
    pub(crate) fn one(&self, image: &Image, cluster: GuestCluster) -> Result<Option<u32>> {
        Ok(self.sum(image, cluster)?.map(|sum| sum.crc))
    }

    /// What is known of a cluster that is listed.
    ///
    /// # Errors
    ///
    /// Those of [`Checksums::for_each`].
    pub(crate) fn sum(&self, image: &Image, cluster: GuestCluster) -> Result<Option<Sum>> {
        let behind = self.marks.partition_point(|mark| mark.first <= cluster.0);
        let Some(number) = behind.checked_sub(1) else {
            return Ok(None);
        };
        let segment = self.segment(image, number)?;
        let behind = segment.runs.partition_point(|run| run.first <= cluster.0);
        let run = behind.checked_sub(1).and_then(|run| segment.runs.get(run));
        Ok(run.and_then(|run| run.of(cluster)))
    }

    /// The first cluster that is listed, from `from` on.
    ///
    /// # Errors
    ///
    /// Those of [`Checksums::for_each`].
    pub(crate) fn next_listed(&self, image: &Image, from: GuestCluster) -> Result<Option<GuestCluster>> {
        let behind = self.marks.partition_point(|mark| mark.first <= from.0);
        if let Some(number) = behind.checked_sub(1) {
            let segment = self.segment(image, number)?;
            let end = |run: &SumRun| run.first.plus(to_u64(run.checksums.len()));
            let next = segment.runs.partition_point(|run| end(run) <= from.0);
            if let Some(run) = segment.runs.get(next) {
                return Ok(Some(GuestCluster(run.first.max(from.0))));
            }
        }
        Ok(self.marks.get(behind).map(|mark| GuestCluster(mark.first)))
    }

    fn segment(&self, image: &Image, number: usize) -> Result<Arc<Segment>> {
        if let Some(segment) = self.find(number) {
            return Ok(segment);
        }
        let table = self.table(image);
        let end = self.marks.get(number.plus(1)).map(|mark| mark.at);
        let end = end.unwrap_or(table.trailer_at());
        let mark = self.marks.get(number).copied();
        let (mut at, mut next) = mark.map_or((end, 0), |mark| (mark.at, mark.first));
        let mut runs = Vec::new();
        while at.0 < end.0 {
            runs.push(table.read_run(&mut at, &mut next, &mut Hasher::new())?);
        }
        let segment = Arc::new(Segment { number, runs });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Arc::clone(&segment));
        Ok(segment)
    }

    fn find(&self, number: usize) -> Option<Arc<Segment>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|segment| segment.number == number)?;
        if at.plus(1) < kept.len() {
            let segment = kept.remove(at);
            kept.push(segment);
        }
        kept.last().map(Arc::clone)
    }
}
