//! Refcounts: no reader needs them, `check` does. But if their table is where the L1 table is, either may be wrong.

use super::bases::Base::{Ours, V2, V3};
use super::patient::field;
use super::{Line, Reads, Refused};

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("refcount table past the end", V3, |p| p.put64(field::REFCOUNT_OFFSET, 1 << 40), Reads(2)),
    ("refcount table at the end of all offsets", V3, |p| p.put64(field::REFCOUNT_OFFSET, !0xfff), Reads(2)),
    ("refcount table that is larger than the file", V3, |p| p.put32(field::REFCOUNT_CLUSTERS, 0x800), Reads(2)),
    ("refcount table that is not there", V3, |p| p.put64(field::REFCOUNT_OFFSET, 0), Reads(2)),
    ("refcount table that is the L1 table", V3, |p| p.put64(field::REFCOUNT_OFFSET, p.l1()),
        Refused("expected an offset outside the refcount table")),
    ("refcount block unaligned", V3, |p| p.put64(p.refcount_table(), p.refcount_block() + 512), Reads(2)),
    ("refcount block past the end", V3, |p| p.put64(p.refcount_table(), 1 << 40), Reads(2)),
    ("refcount block with reserved bits", V3, |p| p.set(p.refcount_table(), 1), Reads(2)),
    ("refcount block that is not there", V3, |p| p.put64(p.refcount_table(), 0), Reads(2)),
    ("refcount block that is its table", V3, |p| p.put64(p.refcount_table(), p.refcount_table()), Reads(2)),
    ("refcount block at the end of all offsets", V2, |p| p.put64(p.refcount_table(), !0xfff), Reads(2)),
    ("refcount block used twice", V3, |p| p.put64(p.refcount_table() + 8, p.refcount_block()), Reads(2)),
    ("refcount of data is 0", V3, |p| p.put16(p.refcount(p.host(0)), 0), Reads(2)),
    ("refcount of data is 65535", V3, |p| p.put16(p.refcount(p.host(0)), u16::MAX), Reads(2)),
    ("refcount of an L2 table is 0", V2, |p| p.put16(p.refcount(p.l2(0)), 0), Reads(2)),
    ("refcount of the header is 0", V3, |p| p.put16(p.refcount(0), 0), Reads(2)),
    ("refcount of the L1 table is 0", Ours, |p| p.put16(p.refcount(p.l1()), 0), Reads(2)),
    ("refcount of nothing is 1", V3, |p| p.put16(p.refcount(p.len() + 0x4000), 1), Reads(3)),
    ("refcounts of another width", V3, |p| p.put32(field::REFCOUNT_ORDER, 6), Reads(2)),
    ("refcounts of a bit", V3, |p| p.put32(field::REFCOUNT_ORDER, 0), Reads(2)),
];
