//! L1 tables: which L2 tables there are, and how often each is used.

use super::blocks::cut_off;
use super::catalogue::Code;
use super::entries::Entries;
use super::findings::{Fault, Finding, Findings};
use super::window::Window;
use crate::error::{Corrupt, Expected, Lost, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::formats::qcow2::structures::header::TableAt;
use crate::formats::qcow2::structures::mapping;
use crate::units::{Exact, HostOffset, to_usize};

const TABLE: &str = "L1 table";

/// How many references to L2 tables are kept at a time.
const REFERENCES: u64 = 1 << 18;

/// An L1 table that lies within the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct L1 {
    pub(super) table: TableAt,
    /// The size of its disk in bytes.
    pub(super) size: u64,
    /// How many snapshots have it.
    pub(super) weight: u32,
    /// Whether it is that of the disk as it is.
    pub(super) is_active: bool,
}

/// An L2 table, and all that points to it as far as was looked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct L2 {
    pub(super) at: HostOffset,
    /// How many L1 entries point to it.
    pub(super) weight: u32,
    /// How many of those are in the active L1 table.
    pub(super) active: u32,
    /// The first byte of the disk that it maps, for the first of those entries.
    pub(super) guest: u64,
    /// The size of that disk in bytes.
    pub(super) size: u64,
}

/// An L1 entry that points to an L2 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    at: HostOffset,
    /// The number of the L1 table.
    l1: u32,
    index: u32,
}

/// Validates all L1 entries, counts references to their L2 tables, and marks them. Returns how many L2 tables there
/// are to read, some of them perhaps more than once.
pub(super) fn count(image: &Image, l1s: &[L1], window: &Window<'_>, found: &mut Findings) -> Result<u64> {
    let (mut entries, mut total) = (Entries::default(), 0_u64);
    for l1 in l1s {
        entries.each(image.file(), l1.table, 0..l1.table.entries, |index, entry| {
            let one = OneEntry {
                image,
                l1,
                index,
                entry,
            };
            if one.count(window, found) {
                total.increase(1);
            }
        })?;
    }
    Ok(total)
}

struct OneEntry<'a> {
    image: &'a Image,
    l1: &'a L1,
    index: u64,
    entry: u64,
}

impl OneEntry<'_> {
    /// Whether there is an L2 table to read.
    fn count(&self, window: &Window<'_>, found: &mut Findings) -> bool {
        let (geometry, file) = (self.geometry(), self.image.file());
        let mut once = |finding| {
            if window.is_first {
                found.add(finding);
            }
        };
        let at = match mapping::l1_entry(self.entry, geometry) {
            Ok(Some(at)) => at,
            Ok(None) => return false,
            Err(expected) => {
                once(self.wrong(Code::L1Entry, expected));
                match l2_at(self.entry, geometry) {
                    Some(at) => at,
                    None => return false,
                }
            }
        };
        let is_there = file.holds(at, geometry.cluster_size());
        if at.0 >= file.length() {
            once(self.wrong(Code::L1Outside, Expected::WithinFile(file.length())));
        } else if !is_there {
            let mut finding = cut_off(Code::L1Outside, "L2 table", at, file);
            if let Fault::Corrupt(Corrupt::CutOff { lost, .. }) = &mut finding.fault {
                *lost = self.lost();
            }
            once(finding);
        }
        let cluster = at.0 >> geometry.cluster().bits();
        let spot = window.spot(cluster);
        let is_fixed = window.is_fixed(spot);
        if is_fixed {
            found.add(self.wrong(Code::L1Overlap, Expected::Outside("other tables")));
        }
        window.count(cluster, spot, self.l1.weight, found);
        window.mark_table(spot);
        let is_copied = mapping::is_copied(self.entry);
        match window.stored_of(spot) {
            Some(stored) if self.l1.is_active && is_copied != (stored == 1) => {
                found.add(self.miscopied(is_copied, stored));
            }
            _ => {}
        }
        is_there && !is_fixed
    }

    fn geometry(&self) -> Geometry {
        self.image.header().geometry()
    }

    fn lost(&self) -> Lost {
        let reach = self.geometry().l2_reach();
        let start = self.index.times(reach);
        let end = start.plus(reach).min(self.l1.size);
        // What lies behind the end of the disk is the state of a machine.
        if start < end {
            (start..end).into()
        } else {
            Lost::default()
        }
    }

    fn wrong(&self, code: Code, expected: Expected) -> Finding {
        let fault = Corrupt::Entry {
            table: TABLE,
            at: self.l1.table.at,
            index: self.index,
            found: self.entry,
            expected,
            lost: self.lost(),
        };
        Finding::new(code, fault)
    }

    fn miscopied(&self, is_copied: bool, stored: u64) -> Finding {
        let fault = Fault::Copied {
            table: TABLE,
            at: self.l1.table.at,
            index: self.index,
            entry: self.entry,
            is_copied,
            stored,
            lost: self.lost(),
        };
        Finding::new(Code::L1Copied, fault)
    }
}

/// Where an L1 entry points, even if bits are set that should not be.
fn l2_at(entry: u64, geometry: Geometry) -> Option<HostOffset> {
    let entry = match mapping::l1_entry(entry, geometry) {
        Err(Expected::Clear(reserved)) => entry & !reserved,
        _ => entry,
    };
    mapping::l1_entry(entry, geometry).ok().flatten()
}

/// Calls `each` with all L2 tables that can be read, some of them at a time and each of those once, ascending.
///
/// Snapshots that share a table do so at the same place of their disks. So it is met as a rule only once.
pub(super) fn each_l2(
    image: &Image,
    l1s: &[L1],
    window: &Window<'_>,
    mut each: impl FnMut(&[L2]) -> Result<()>,
) -> Result<()> {
    let (geometry, file) = (image.header().geometry(), image.file());
    let most = l1s.iter().map(|l1| l1.table.entries).max().unwrap_or(0);
    let count = u64::try_from(l1s.len()).unwrap_or(u64::MAX).max(1);
    let step = REFERENCES.checked_div(count).unwrap_or(0).max(1);
    let (mut entries, mut references) = (Entries::default(), Vec::new());
    let mut start = 0_u64;
    while start < most {
        let end = start.plus(step);
        references.clear();
        for (number, l1) in (0..).zip(l1s) {
            entries.each(
                file,
                l1.table,
                start..end.min(l1.table.entries),
                |index, entry| {
                    let Some(at) = l2_at(entry, geometry) else { return };
                    let spot = window.spot(at.0 >> geometry.cluster().bits());
                    if file.holds(at, geometry.cluster_size()) && !window.is_fixed(spot) {
                        // An L1 table has 2^22 entries at most.
                        let index = u32::try_from(index).unwrap_or(u32::MAX);
                        references.push(Reference {
                            at,
                            l1: number,
                            index,
                        });
                    }
                },
            )?;
        }
        references.sort_unstable();
        each(&grouped(&references, l1s, geometry))?;
        start = end;
    }
    Ok(())
}

/// References to the same table made one.
fn grouped(references: &[Reference], l1s: &[L1], geometry: Geometry) -> Vec<L2> {
    let same = references.chunk_by(|a, b| a.at == b.at);
    let group = |group: &[Reference]| {
        let mut found: Option<L2> = None;
        for reference in group {
            let l1 = l1s.get(to_usize(reference.l1.into()))?;
            let table = found.get_or_insert(L2 {
                at: reference.at,
                weight: 0,
                active: 0,
                guest: u64::from(reference.index).times(geometry.l2_reach()),
                size: l1.size,
            });
            // Counters stop at the same number.
            table.weight = table.weight.saturating_add(l1.weight);
            table.active.increase(l1.is_active.into());
        }
        found
    };
    same.filter_map(group).collect()
}
