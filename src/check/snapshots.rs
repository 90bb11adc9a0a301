//! The snapshot table. Spec: qcow2.txt, "Snapshots".

use super::catalogue::Code;
use super::findings::{Fault, Finding, Log};
use super::structures::Structures;
use super::tables::L1;
use crate::error::{Corrupt, Error, Expected, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::features;
use crate::formats::qcow2::structures::geometry::{ENTRY, Geometry, MAX_L1_BYTES};
use crate::formats::qcow2::structures::header::{Compat, TableAt};
use crate::formats::qcow2::structures::snapshot::Snapshot;
use crate::units::{Exact, HostOffset};

/// Reads the snapshot table as far as that can be done.
pub(super) fn read(image: &Image, all: &mut Structures, log: &mut Log<'_>) -> Result<()> {
    let table = image.header().snapshots();
    if table.entries > 0 && image.header().needs(features::DATA_FILE) {
        let text = "snapshots in an image with an external data file";
        log.add(Finding::new(Code::SnapshotDataFile, Fault::That(text)));
    }
    if image.unneeded().snapshot_table.is_some() {
        return Ok(());
    }
    let mut end = table.at.0;
    for (number, snapshot) in (1..).zip(image.snapshots()) {
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(Error::Corrupt(fault @ (Corrupt::Truncated { .. } | Corrupt::Field { .. }))) => {
                let fault = Fault::Snapshot { number, fault };
                log.add(Finding::new(Code::SnapshotTable, fault));
                break;
            }
            Err(error) => return Err(error),
        };
        let one = One {
            image,
            number,
            at: HostOffset(end),
            snapshot: &snapshot,
        };
        end.increase(snapshot.entry_length);
        let Some(l1) = one.l1(log) else { continue };
        if !all.add_again(l1.table) {
            all.add_l1(number, l1);
        }
    }
    all.add("snapshot table", 0, table.at, end.minus(table.at.0));
    Ok(())
}

struct One<'a> {
    image: &'a Image,
    /// Counted from 1.
    number: u64,
    /// Where its entry is.
    at: HostOffset,
    snapshot: &'a Snapshot,
}

impl One<'_> {
    /// Its L1 table, if it has one and that can be read.
    fn l1(&self, log: &mut Log<'_>) -> Option<L1> {
        let (header, file) = (self.image.header(), self.image.file());
        let (geometry, snapshot) = (header.geometry(), self.snapshot);
        // The size of the disk is the last of what version 3 must tell.
        if header.compat() == Compat::V1_1 && snapshot.disk_size.is_none() {
            let expected = Expected::That("at least the 16 bytes that version 3 requires");
            self.tell(Code::SnapshotIncomplete, "extra_data_size", 0, expected, log);
        }
        let (at, entries) = (snapshot.l1_at, snapshot.l1_entries);
        let size = snapshot.disk_size.unwrap_or(geometry.size());
        let needed = Geometry::of_image(geometry.cluster(), size, geometry.l2_form());
        match needed.map(Geometry::l1_entries) {
            Ok(needed) if entries < needed => {
                let expected = Expected::AtLeast(needed);
                self.tell(Code::SnapshotShort, "l1_size", entries, expected, log);
            }
            _ => {}
        }
        if !at.0.is_multiple_of(geometry.cluster_size()) {
            let expected = Expected::MultipleOf(geometry.cluster_size());
            self.tell(Code::SnapshotL1, "l1_table_offset", at.0, expected, log);
            return None;
        }
        if entries > MAX_L1_BYTES / ENTRY {
            let expected = Expected::AtMost(MAX_L1_BYTES / ENTRY);
            self.tell(Code::SnapshotL1, "l1_size", entries, expected, log);
            return None;
        }
        if !file.holds(at, entries.times(ENTRY)) {
            let expected = Expected::WithinFile(file.length());
            self.tell(Code::SnapshotL1, "l1_table_offset", at.0, expected, log);
            return None;
        }
        (entries > 0).then_some(L1 {
            table: TableAt { at, entries },
            size,
            weight: 1,
            is_active: false,
        })
    }

    fn tell(&self, code: Code, field: &'static str, found: u64, expected: Expected, log: &mut Log<'_>) {
        let fault = Corrupt::Field {
            structure: "snapshot table entry",
            at: self.at,
            field,
            found,
            expected,
        };
        let number = self.number;
        log.add(Finding::new(code, Fault::Snapshot { number, fault }));
    }
}
