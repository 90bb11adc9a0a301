//! Snapshot tables. The disk as it is now is read without them; `check` needs them.

use super::bases::Base::{Snapshot, V3};
use super::patient::field;
use super::{Line, Reads, RefusedOrReads};

/// Fields of an entry.
const L1_OFFSET: u64 = 0;
const L1_SIZE: u64 = 8;
const ID_SIZE: u64 = 12;
const NAME_SIZE: u64 = 14;
const EXTRA_SIZE: u64 = 36;

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("65537 snapshots", Snapshot, |p| p.put32(field::SNAPSHOTS, 65537), Reads(2)),
    ("2^32 - 1 snapshots", V3, |p| p.put32(field::SNAPSHOTS, u32::MAX), Reads(2)),
    ("65536 snapshots that are not there", Snapshot, |p| p.put32(field::SNAPSHOTS, 65536), Reads(2)),
    ("one snapshot more than there are", Snapshot, |p| p.put32(field::SNAPSHOTS, 2), Reads(2)),
    ("a snapshot of which nothing is there", V3, |p| p.put32(field::SNAPSHOTS, 1), Reads(2)),
    ("snapshots_offset unaligned", Snapshot, |p| p.put64(field::SNAPSHOTS_OFFSET, p.snapshots() + 8), Reads(2)),
    ("snapshots_offset past the end", Snapshot, |p| p.put64(field::SNAPSHOTS_OFFSET, 1 << 40), Reads(2)),
    ("snapshots_offset at the end of all offsets", Snapshot, |p| p.put64(field::SNAPSHOTS_OFFSET, !0xfff), Reads(2)),
    ("extra data of 4 GiB", Snapshot, |p| p.put32(p.snapshots() + EXTRA_SIZE, u32::MAX), Reads(2)),
    ("extra data of 1025 bytes", Snapshot, |p| p.put32(p.snapshots() + EXTRA_SIZE, 1025), Reads(2)),
    ("a snapshot ID of 65535 bytes", Snapshot, |p| p.put16(p.snapshots() + ID_SIZE, u16::MAX), Reads(2)),
    ("a snapshot name of 65535 bytes", Snapshot, |p| p.put16(p.snapshots() + NAME_SIZE, u16::MAX), Reads(2)),
    ("L1 table of a snapshot unaligned", Snapshot, |p| p.put64(p.snapshots() + L1_OFFSET, 0x3200),
        RefusedOrReads(&["l1_table_offset is 0x3200"])),
    ("L1 table of a snapshot past the end", Snapshot, |p| p.put64(p.snapshots() + L1_OFFSET, 1 << 40),
        Reads(2)),
    ("L1 table of a snapshot at the end of all offsets", Snapshot,
        |p| p.put64(p.snapshots() + L1_OFFSET, !0xfff), Reads(2)),
    ("L1 table of a snapshot of 4 Gi entries", Snapshot, |p| p.put32(p.snapshots() + L1_SIZE, u32::MAX),
        Reads(2)),
    ("L1 table of a snapshot of no entries", Snapshot, |p| p.put32(p.snapshots() + L1_SIZE, 0), Reads(3)),
    ("L1 table of a snapshot that is the header", Snapshot, |p| p.put64(p.snapshots() + L1_OFFSET, 0),
        Reads(2)),
    ("L1 table of a snapshot that is the active one", Snapshot,
        |p| p.put64(p.snapshots() + L1_OFFSET, p.l1()), Reads(2)),
    ("L2 offset of a snapshot past the end", Snapshot,
        |p| p.put64(p.get64(p.snapshots() + L1_OFFSET), 1 << 40), Reads(2)),
];
