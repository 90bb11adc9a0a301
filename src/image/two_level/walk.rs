//! From offsets in the disk to where the bytes are.

use std::sync::Arc;

use super::TwoLevel;
use crate::error::{Corrupt, Error, Expected, Lost, Result};
use crate::format::geometry::ENTRY;
use crate::format::mapping::Mapping;
use crate::image::Run;
use crate::image::runs::{continues, wrong};
use crate::image::windows::Window;
use crate::units::{GuestOffset, HostOffset, within};

const L1_TABLE: &str = "L1 table";
const L2_TABLE: &str = "L2 table";

/// A walk along the tables that keeps in hand what it needs again for the next cluster.
pub(super) struct Cursor<'a> {
    image: &'a TwoLevel,
    l1: Option<Arc<Window>>,
    l2: Option<Arc<Window>>,
    /// Number and place of the L2 table that was used last.
    table: Option<(u64, Option<HostOffset>)>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(image: &'a TwoLevel) -> Self {
        Self {
            image,
            l1: None,
            l2: None,
            table: None,
        }
    }

    /// As [`Layer::run_at`](crate::image::layer::Layer::run_at).
    pub(super) fn run(&mut self, at: GuestOffset, limit: u64) -> Result<Run> {
        let limit = limit.min(self.image.shape.size.saturating_sub(at.0));
        if limit == 0 {
            return Ok(Run::new(0, Mapping::Unallocated));
        }
        let mut run = self.piece(at)?;
        while run.length < limit {
            // A fault behind this run is one of the next.
            let Ok(next) = self.piece(GuestOffset(at.0.saturating_add(run.length))) else {
                break;
            };
            if !continues(run, next) {
                break;
            }
            run.length = run.length.saturating_add(next.length);
        }
        run.length = run.length.min(limit);
        Ok(run)
    }

    /// Where the byte at `at` is, and how many from there on need no second look.
    fn piece(&mut self, at: GuestOffset) -> Result<Run> {
        let shape = &self.image.shape;
        let (reach, cluster_size) = (shape.reach(), shape.cluster_size);
        let index = at.0.checked_div(reach).unwrap_or(0);
        let in_table = within(at.0, reach);
        let Some(table) = self.table(index)? else {
            return Ok(Run::new(reach.saturating_sub(in_table), Mapping::Unallocated));
        };
        let number = in_table.checked_div(cluster_size).unwrap_or(0);
        let mapping = self.cluster(table, index, number)?;
        let in_cluster = within(at.0, cluster_size);
        let mapping = if let Mapping::Data(host) = mapping {
            Mapping::Data(HostOffset(host.0.saturating_add(in_cluster)))
        } else {
            mapping
        };
        Ok(Run::new(cluster_size.saturating_sub(in_cluster), mapping))
    }

    /// Where the L2 table of that number is, if there is one.
    pub(super) fn table(&mut self, index: u64) -> Result<Option<HostOffset>> {
        if let Some((_, table)) = self.table.filter(|(last, _)| *last == index) {
            return Ok(table);
        }
        let (image, shape) = (self.image, &self.image.shape);
        let l1_at = shape.l1.at;
        let entry_at = HostOffset(l1_at.0.saturating_add(index.saturating_mul(ENTRY)));
        let lost = self.lost(index.saturating_mul(shape.reach()), shape.reach());
        let entry = image
            .entry(&mut self.l1, entry_at)?
            .ok_or_else(|| self.cut_off(L1_TABLE, l1_at, &lost))?;
        let wrong = |expected| wrong(L1_TABLE, l1_at, index, entry, expected, &lost);
        let table = image.entries.table(entry).map_err(wrong)?;
        if let Some(table) = table {
            let length = image.file.length();
            if table.0 >= length {
                return Err(wrong(Expected::WithinFile(length)));
            }
            if !image.file.holds(table, shape.l2_length()) {
                return Err(self.cut_off(L2_TABLE, table, &lost));
            }
            let end = table.0.saturating_add(shape.l2_length());
            image.outside_metadata(&(table.0..end)).map_err(wrong)?;
        }
        self.table = Some((index, table));
        Ok(table)
    }

    /// Where a cluster begins that is entry `number` of table `index`, which lies at `table`.
    pub(super) fn cluster(&mut self, table: HostOffset, index: u64, number: u64) -> Result<Mapping> {
        let (image, shape) = (self.image, &self.image.shape);
        let start = index
            .saturating_mul(shape.reach())
            .saturating_add(number.saturating_mul(shape.cluster_size));
        let lost = self.lost(start, shape.cluster_size);
        let entry_at = HostOffset(table.0.saturating_add(number.saturating_mul(ENTRY)));
        let entry = image
            .entry(&mut self.l2, entry_at)?
            .ok_or_else(|| self.cut_off(L2_TABLE, table, &lost))?;
        let wrong = |expected| wrong(L2_TABLE, table, number, entry, expected, &lost);
        let mapping = image.entries.cluster(entry).map_err(wrong)?;
        let (what, host, needed) = match mapping {
            Mapping::Data(host) => {
                // Behind the end of the disk nothing needs to be there.
                let rest = shape.size.saturating_sub(start);
                ("data cluster", host, shape.cluster_size.min(rest))
            }
            Mapping::Compressed(stream) => ("compressed cluster", stream.at, stream.length),
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => return Ok(mapping),
        };
        let length = image.file.length();
        if host.0 >= length {
            return Err(wrong(Expected::WithinFile(length)));
        }
        if !image.file.holds(host, needed) {
            return Err(self.cut_off(what, host, &lost));
        }
        let end = host.0.saturating_add(needed);
        image.outside_metadata(&(host.0..end)).map_err(wrong)?;
        Ok(mapping)
    }

    fn lost(&self, start: u64, length: u64) -> Lost {
        (start..start.saturating_add(length).min(self.image.shape.size)).into()
    }

    fn cut_off(&self, what: &'static str, at: HostOffset, lost: &Lost) -> Error {
        let (end, lost) = (self.image.file.length(), lost.clone());
        Corrupt::CutOff { what, at, end, lost }.into()
    }
}
