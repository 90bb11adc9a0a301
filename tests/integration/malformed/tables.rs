//! L1 and L2 tables that point to where they should not.

use super::bases::Base::{Backed, DataFile, Extended, Ours, V2, V3};
use super::patient::{COMPRESSED, COPIED, field};
use super::{Altered, Elsewhere, Line, Reads, Refused};

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("L2 offset unaligned", V3, |p| p.set(p.l1_entry(0), 0x200), Refused("entry 0 is")),
    ("L2 offset past the end", V3, |p| p.put64(p.l1_entry(0), COPIED | 1 << 40), Refused("entry 0 is 0x8000010000000000, expected an offset within the file")),
    ("L2 offset at the end of all offsets", V3, |p| p.put64(p.l1_entry(1), COPIED | 0x00ff_ffff_ffff_f000), Refused("entry 1 is 0x80fffffffffff000, expected an offset within the file")),
    ("L1 entry that points to its own table", V3, |p| p.put64(p.l1_entry(0), COPIED | p.l1()), Refused("expected an offset outside the active L1 table")),
    ("L1 entry that points to the refcount table", V3, |p| p.put64(p.l1_entry(0), COPIED | p.refcount_table()), Refused("expected an offset outside the refcount table")),
    ("L1 entry with reserved bit 0", V3, |p| p.set(p.l1_entry(0), 1), Refused("to be clear, as all reserved bits")),
    ("L1 entry with reserved bit 8", V3, |p| p.set(p.l1_entry(0), 1 << 8), Refused("to be clear, as all reserved bits")),
    ("L1 entry with reserved bit 56", V2, |p| p.set(p.l1_entry(0), 1 << 56), Refused("to be clear, as all reserved bits")),
    ("L1 entry with reserved bit 62", V3, |p| p.set(p.l1_entry(1), 1 << 62), Refused("to be clear, as all reserved bits")),
    ("L1 entry of all ones", V3, |p| p.put64(p.l1_entry(1), u64::MAX), Refused("entry 1 is 0xffffffffffffffff, expected")),
    ("L1 entries that share a table", V3, |p| p.put64(p.l1_entry(1), p.get64(p.l1_entry(0))), Altered(2)),
    ("L1 entry that is lost", V3, |p| p.put64(p.l1_entry(1), 0), Altered(3)),

    ("L2 entry that points to the header", V3, |p| p.put64(p.l2_entry(0), COPIED), Refused("entry 0 is 0x8000000000000000")),
    ("L2 entry that points to the L1 table", V3, |p| p.put64(p.l2_entry(0), COPIED | p.l1()), Refused("expected an offset outside the active L1 table")),
    ("L2 entry that points to the refcount table", V3, |p| p.put64(p.l2_entry(1), COPIED | p.refcount_table()), Refused("expected an offset outside the refcount table")),
    ("L2 entry that points to its own table", V3, |p| p.put64(p.l2_entry(0), COPIED | p.l2(0)), Altered(2)),
    ("L2 entry unaligned", V3, |p| p.set(p.l2_entry(2), 0x200), Refused("entry 2 is")),
    ("L2 entry unaligned, of a cluster of zeros", V3, |p| p.put64(p.l2_entry(8), 0x5201), Refused("entry 8 is 0x5201, expected a multiple of 0x1000")),
    ("L2 entry past the end", V3, |p| p.put64(p.l2_entry(0), COPIED | 1 << 40), Refused("entry 0 is 0x8000010000000000, expected an offset within the file")),
    ("L2 entry past the end in version 2", V2, |p| p.put64(p.l2_entry(3), COPIED | 1 << 40), Refused("entry 3 is 0x8000010000000000, expected an offset within the file")),
    ("L2 entry past the end in an image of ours", Ours, |p| p.put64(p.l2_entry(3), COPIED | 1 << 40), Refused("entry 3 is 0x8000010000000000, expected an offset within the file")),
    ("L2 entry at the end of all offsets", V3, |p| p.put64(p.l2_entry(0), COPIED | 0x00ff_ffff_ffff_f000), Refused("expected an offset within the file")),
    ("L2 entry just behind the end", V3, |p| p.put64(p.l2_entry(513), COPIED | p.len().next_multiple_of(4096)), Refused("entry 1 is")),
    ("L2 entry past the end of a data file", DataFile, |p| p.put64(p.l2_entry(0), COPIED | 1 << 40), Elsewhere("entry 0 is 0x8000010000000000, expected an offset within the file")),
    ("L2 entry of another cluster of a data file", DataFile, |p| p.put64(p.l2_entry(0), p.get64(p.l2_entry(1))), Refused("expected the offset that the cluster has in the disk")),
    ("L2 entry compressed, with a data file", DataFile, |p| p.set(p.l2_entry(1), COMPRESSED), Refused("expected no compressed cluster in an image with an external data file")),
    ("L2 entry with reserved bit 1", V3, |p| p.set(p.l2_entry(0), 1 << 1), Refused("to be clear, as all reserved bits")),
    ("L2 entry with reserved bit 8", V3, |p| p.set(p.l2_entry(0), 1 << 8), Refused("to be clear, as all reserved bits")),
    ("L2 entry with reserved bit 56", V3, |p| p.set(p.l2_entry(513), 1 << 56), Refused("to be clear, as all reserved bits")),
    ("L2 entry with reserved bit 61", V2, |p| p.set(p.l2_entry(0), 1 << 61), Refused("to be clear, as all reserved bits")),
    ("L2 entry of all ones", V3, |p| p.put64(p.l2_entry(0), u64::MAX), Refused("entry 0 is 0xffffffffffffffff, expected")),
    ("L2 entry that is only COPIED", V3, |p| p.put64(p.l2_entry(100), COPIED), Refused("entry 100 is 0x8000000000000000")),
    ("L2 entry with a reserved bit, with a backing file", Backed, |p| p.set(p.l2_entry(5), 1 << 2), Refused("to be clear, as all reserved bits")),
    ("zero flag in version 2", V2, |p| p.set(p.l2_entry(0), 1), Refused("expected no zero flag in version 2")),
    ("zero flag in version 2, of nothing", V2, |p| p.put64(p.l2_entry(100), 1), Refused("expected no zero flag in version 2")),
    ("zero flag with an offset past all refcounts", V3, |p| p.put64(p.l2_entry(8), 1 << 40 | 1), Refused("expected an offset that the refcount table covers")),
    ("L1 entry that points to the header", V3, |p| p.put64(p.l1_entry(0), COPIED), Refused("entry 0 is 0x8000000000000000")),
    ("L1 entry that points to a refcount block", V3, |p| p.put64(p.l1_entry(1), COPIED | p.refcount_block()), Refused("")),
    ("an L1 table that is the refcount table", V3, |p| p.put64(field::L1_OFFSET, p.refcount_table()), Refused("l1_table_offset is")),
    ("end of extensions with a length", V3, |p| p.put32(p.end_of_extensions() + 4, 0x7fff_ffff), Refused("does not fit")),
    ("L2 entries that share a cluster", V3, |p| p.put64(p.l2_entry(1), p.get64(p.l2_entry(0))), Altered(2)),
    ("L2 entry without COPIED", V3, |p| p.clear(p.l2_entry(0), COPIED), Reads(2)),
    ("L1 entry without COPIED", V3, |p| p.clear(p.l1_entry(0), COPIED), Reads(2)),
    ("COPIED where the refcount is 2", V3, |p| p.put16(p.refcount(p.host(0)), 2), Reads(2)),
    ("zeros made plain", V3, |p| { let at = p.append(&[0; 512]); p.put64(p.l2_entry(100), COPIED | at); }, Reads(2)),
    ("the L1 table where an L2 table is", V3, |p| p.put64(field::L1_OFFSET, p.l2(0)), Refused("")),
];

#[rustfmt::skip]
pub(super) const EXTENDED: &[Line] = &[
    ("a subcluster both allocated and zero", Extended, |p| p.put64(p.bitmap(5), 1 << 32 | 1), Refused("expected no subcluster that is both allocated and zeros")),
    ("all subclusters both allocated and zero", Extended, |p| p.put64(p.bitmap(0), u64::MAX), Refused("expected no subcluster that is both allocated and zeros")),
    ("subclusters allocated in no cluster", Extended, |p| p.put64(p.bitmap(20), 1 << 31), Refused("expected no subcluster allocated where the cluster is not")),
    ("the zero flag of standard entries", Extended, |p| p.set(p.l2_entry(0), 1), Refused("0x1 to be clear, as all reserved bits")),
    ("extended L2 entry unaligned", Extended, |p| p.set(p.l2_entry(1), 0x1000), Refused("expected a multiple of 0x10000")),
    ("extended L2 entry past the end", Extended, |p| p.put64(p.l2_entry(5), COPIED | 1 << 40), Refused("expected an offset within the file")),
    ("extended L2 entry that is compressed, with a bitmap", Extended, |p| p.set(p.l2_entry(0), COMPRESSED), Refused("expected 0x0")),
    ("a subcluster that is lost", Extended, |p| p.clear(p.bitmap(0), 1), Altered(0)),
];
