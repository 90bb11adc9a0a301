//! Images that are damaged in one place each, and what `check` finds.

use super::poke::{COPIED, Poke};

/// A good image, as `Bases` makes it: clusters of 4 KiB (64 KiB if extended) of which 0 to 3 are data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    V2,
    V3,
    Zlib,
    Extended,
    Snapshot,
    Bitmap,
    DataFile,
    Luks,
    Ours,
}

/// What it is, what is damaged, how, what `check` exits with and the code that it finds, what qemu-img exits with.
pub(super) type Row = (&'static str, Base, fn(&Poke), i32, &'static str, i32);

use Base::{Bitmap, DataFile, Extended, Luks, Ours, Snapshot, V2, V3, Zlib};

const BITMAPS: u64 = 0x2385_2875;
const ENCRYPTION: u64 = 0x0537_be77;
const CHECKSUMS: u64 = 0x6d6b_7163;
const COMPRESSED: u64 = 1 << 62;

/// Where the directory of bitmaps is.
fn directory(p: &Poke) -> u64 {
    p.get::<8>(p.extension(BITMAPS) + 24)
}

/// Where the table of the first bitmap is.
fn bitmap_table(p: &Poke) -> u64 {
    p.get::<8>(directory(p))
}

/// Behind all that is there.
fn behind(p: &Poke) -> u64 {
    p.length().next_multiple_of(p.cluster())
}

/// Lets cluster 100 of the disk be at a host offset that nobody counts yet, and counts it.
fn counted(p: &Poke, entry: u64, host: u64) {
    p.put::<8>(p.l2(100), entry | host);
    p.put::<2>(p.refcount(host), 1);
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    ("backing file name behind the header", V3, |p| p.put::<8>(8, 4097), 2, "header", 1),
    ("snapshots in no place", V2, |p| p.put::<8>(64, 8), 2, "header", 1),
    ("a raw data file that is not", V3, |p| p.put::<8>(88, 2), 2, "header", 1),

    ("refcount too high", V3, |p| p.put::<2>(p.refcount(p.host(0)), 2), 2, "refcount-high", 2),
    ("refcount of nothing", V2, |p| p.put::<2>(p.refcount(p.host(0) + 0x10000), 1), 3, "refcount-high", 0),
    ("cluster lost", V3, |p| p.put::<8>(p.l2(0), 0), 3, "refcount-high", 3),
    ("L2 table lost", V3, |p| p.put::<8>(p.l1(0), 0), 3, "refcount-high", 3),
    ("refcount too low", V3, |p| p.put::<2>(p.refcount(p.host(0)), 0), 2, "refcount-low", 2),
    ("refcount of the header", V3, |p| p.put::<2>(p.refcount(0), 0), 2, "refcount-low", 2),
    ("refcount of a table", V2, |p| p.put::<2>(p.refcount(p.table(0)), 0), 2, "refcount-low", 2),
    ("no refcounts", V3, |p| p.put::<8>(p.refcount_table(), 0), 2, "refcount-low", 2),
    ("cluster used twice", V3, |p| p.put::<8>(p.l2(1), p.get::<8>(p.l2(0))), 2, "refcount-low", 2),
    ("snapshot's cluster counted once", Snapshot,
        |p| p.put::<2>(p.refcount(p.host(3)), 1), 2, "refcount-low", 2),
    ("more streams than are counted", Zlib,
        |p| p.put::<8>(p.l2(100), p.get::<8>(p.l2(0))), 2, "refcount-low", 2),
    ("65536 streams in one place", Zlib, |p| overflow(p), 2, "refcount-overflow", 2),

    ("COPIED clear in L2", V3, |p| p.edit(p.l2(0), |entry| entry & !COPIED), 2, "l2-copied", 2),
    ("COPIED set in L2", Snapshot, |p| p.edit(p.l2(3), |entry| entry | COPIED), 2, "l2-copied", 2),
    ("COPIED clear in L2 of subclusters", Extended,
        |p| p.edit(p.l2(0), |entry| entry & !COPIED), 2, "l2-copied", 2),
    ("COPIED clear in L1", V2, |p| p.edit(p.l1(0), |entry| entry & !COPIED), 2, "l1-copied", 2),
    ("COPIED clear with a data file", DataFile,
        |p| p.edit(p.l2(1), |entry| entry & !COPIED), 2, "l2-copied", 2),
    ("COPIED of a compressed cluster", Zlib,
        |p| p.edit(p.l2(0), |entry| entry | COPIED), 2, "compressed-copied", 2),
    ("COPIED in a snapshot", Snapshot, |p| p.edit(snapshots_l1(p), |entry| entry ^ COPIED), 0, "", 0),

    ("L1 entry with a reserved bit", V3, |p| p.edit(p.l1(0), |entry| entry | 1), 2, "l1-entry", 2),
    ("L1 entry with nothing but a bit", V3, |p| p.put::<8>(p.l1(1), COPIED), 2, "l1-entry", 2),
    ("L1 entry unaligned", V3, |p| p.edit(p.l1(0), |entry| entry + 512), 2, "l1-entry", 2),
    ("L1 entry past the end", V3, |p| p.put::<8>(p.l1(1), COPIED | 1 << 40), 2, "l1-outside", 2),
    ("L1 entry in a snapshot past the end", Snapshot,
        |p| p.put::<8>(snapshots_l1(p), 1 << 40), 2, "l1-outside", 2),
    ("L2 table in the L1 table", V3, |p| p.put::<8>(p.l1(1), COPIED | p.l1(0)), 2, "l1-overlap", 2),
    ("L2 table in the refcount table, counted", V3, |p| {
        p.put::<8>(p.l1(1), p.refcount_table());
        p.put::<2>(p.refcount(p.refcount_table()), 2);
    }, 2, "l1-overlap", 2),

    ("L2 entry with a reserved bit", V3, |p| p.edit(p.l2(0), |entry| entry | 2), 2, "l2-entry", 2),
    ("L2 entry with nothing but COPIED", V3, |p| p.put::<8>(p.l2(100), COPIED), 2, "l2-entry", 0),
    ("L2 entry unaligned", V3, |p| p.edit(p.l2(0), |entry| entry + 512), 2, "l2-entry", 2),
    ("zero flag in version 2", V2, |p| p.put::<8>(p.l2(100), 1), 2, "l2-entry", 0),
    ("L2 entry past the end, counted", V3, |p| counted(p, COPIED, behind(p)), 2, "l2-outside", 2),
    ("room for zeros past the end, counted", V3, |p| counted(p, COPIED | 1, behind(p)), 2, "l2-outside", 2),
    ("stream that ends far behind the end", Zlib,
        |p| p.put::<8>(p.l2(100), COMPRESSED | 15 << 58 | (p.length() - 100)), 2, "l2-outside", 2),
    ("stream past the end, counted", Zlib, |p| counted(p, COMPRESSED, behind(p) + 5), 2, "l2-outside", 2),
    ("cluster cut off", V3,
        |p| { counted(p, COPIED, behind(p)); p.resize(behind(p) + 7); }, 2, "l2-outside", 0),
    ("room for zeros cut off", V3,
        |p| { counted(p, COPIED | 1, behind(p)); p.resize(behind(p) + 7); }, 0, "", 0),
    ("stream cut off by the end", Zlib,
        |p| { counted(p, COMPRESSED, behind(p) + 5); p.resize(behind(p) + 77); }, 0, "", 0),
    ("data in the L2 table, counted", V3, |p| {
        p.put::<8>(p.l2(100), p.table(0));
        p.put::<2>(p.refcount(p.table(0)), 2);
        p.edit(p.l1(0), |entry| entry & !COPIED);
    }, 2, "l2-overlap", 0),
    ("data in the refcount table and block, counted", V3, |p| {
        for (cluster, host) in [(100, p.refcount_table()), (101, p.refcount_table() + p.cluster())] {
            p.put::<8>(p.l2(cluster), host);
            p.put::<2>(p.refcount(host), 2);
        }
    }, 2, "l2-overlap", 2),
    ("stream in the L1 table", Zlib, |p| p.put::<8>(p.l2(100), COMPRESSED | p.l1(0)), 2, "l2-overlap", 2),
    ("data and zeros in one subcluster", Extended,
        |p| p.edit(p.l2(0) + 8, |bits| bits | 1 << 32), 2, "l2-bitmap", 2),
    ("data of no cluster", Extended, |p| p.put::<8>(p.l2(100) + 8, 1), 2, "l2-bitmap", 2),
    ("room of which nothing is used", Extended, |p| p.put::<8>(p.l2(0) + 8, 0), 0, "", 0),
    ("data elsewhere in the data file", DataFile,
        |p| p.edit(p.l2(0), |entry| entry + 4096), 2, "data-file-offset", 0),
    ("compressed with a data file", DataFile,
        |p| p.edit(p.l2(0), |entry| entry | COMPRESSED), 2, "l2-entry", 2),

    ("refcount table in no place", V3, |p| p.put::<8>(48, 0), 2, "refcount-table", 2),
    ("refcount table past the end", V3, |p| p.put::<8>(48, 1 << 40), 2, "refcount-table", 2),
    ("refcount block unaligned", V3,
        |p| p.edit(p.refcount_table(), |entry| entry + 512), 2, "refcount-entry", 1),
    ("refcount block with a reserved bit", V3,
        |p| p.edit(p.refcount_table(), |entry| entry | 1), 2, "refcount-entry", 2),
    ("refcount block past the end", V3,
        |p| p.put::<8>(p.refcount_table() + 8, 1 << 40), 2, "refcount-block", 2),
    ("refcount block cut off", V3,
        |p| { p.put::<8>(p.refcount_table() + 8, behind(p)); p.resize(behind(p) + 7); }, 2, "refcount-block",
        2),
    ("refcount block used twice", V3,
        |p| p.put::<8>(p.refcount_table() + 8, p.get::<8>(p.refcount_table())), 2, "refcount-shared", 2),
    ("refcount block in the L1 table", V3, |p| p.put::<8>(p.refcount_table() + 8, p.l1(0)), 2, "overlap", 2),

    ("65534 snapshots more than there are", Snapshot, |p| p.put::<4>(60, 65536), 2, "snapshot-table", 1),
    ("snapshot with 2 KiB of extra data", Snapshot,
        |p| p.put::<4>(p.snapshot() + 36, 2048), 2, "snapshot-table", 1),
    ("two snapshots with the same L1 table", Snapshot,
        |p| p.put::<8>(second_snapshot(p), p.get::<8>(p.snapshot())), 2, "refcount-low", 2),
    ("L1 table of a snapshot unaligned", Snapshot, |p| p.put::<8>(p.snapshot(), 512), 2, "snapshot-l1", 2),
    ("L1 table of a snapshot past the end", Snapshot,
        |p| p.put::<8>(p.snapshot(), 1 << 40), 2, "snapshot-l1", 2),
    ("L1 table of a snapshot too large", Snapshot,
        |p| p.put::<4>(p.snapshot() + 8, 0x40_0001), 2, "snapshot-l1", 2),
    ("L1 table of a snapshot too small", Snapshot,
        |p| p.put::<4>(p.snapshot() + 8, 1), 0, "snapshot-short", 0),
    ("L1 table of a snapshot that is the active one", Snapshot,
        |p| p.put::<8>(p.snapshot(), p.l1(0)), 2, "overlap", 2),
    ("snapshot without the size of its disk", Snapshot,
        |p| p.put::<4>(p.snapshot() + 36, 8), 2, "snapshot-incomplete", 1),

    ("bitmap said to be there", V3, |p| p.put::<8>(88, 1), 2, "bitmap-extension", 0),
    ("bitmaps not up to date", Bitmap, |p| p.put::<8>(88, 0), 3, "bitmaps-stale", 3),
    ("bitmap directory past the end", Bitmap,
        |p| p.put::<8>(p.extension(BITMAPS) + 24, 1 << 40), 2, "bitmap-directory", 1),
    ("bitmap directory too long", Bitmap,
        |p| p.edit(p.extension(BITMAPS) + 16, |length| length + 8), 2, "bitmap-directory", 1),
    ("bitmap with a reserved flag", Bitmap,
        |p| p.put::<4>(directory(p) + 12, 1 << 31), 2, "bitmap-directory", 1),
    ("bitmap of another kind", Bitmap, |p| p.put::<1>(directory(p) + 16, 2), 2, "bitmap-directory", 1),
    ("bitmap of single bytes", Bitmap, |p| p.put::<1>(directory(p) + 17, 0), 2, "bitmap-directory", 1),
    ("bitmap too small for the disk", Bitmap, |p| p.put::<1>(directory(p) + 17, 9), 2, "bitmap-table", 1),
    ("bitmap too large for the disk", Bitmap, |p| p.put::<4>(directory(p) + 8, 2), 2, "bitmap-table", 1),
    ("bitmap too small for the disk, in use", Bitmap, |p| {
        p.put::<1>(directory(p) + 17, 9);
        p.put::<4>(directory(p) + 12, 1);
    }, 0, "", 0),
    ("bitmap table unaligned", Bitmap, |p| p.edit(directory(p), |at| at + 512), 2, "bitmap-table", 1),
    ("bitmap table past the end", Bitmap, |p| p.put::<8>(directory(p), 1 << 40), 2, "bitmap-table", 2),
    ("bitmap table of no entries", Bitmap, |p| p.put::<4>(directory(p) + 8, 0), 2, "bitmap-table", 1),
    ("bitmap entry with a reserved bit", Bitmap,
        |p| p.edit(bitmap_table(p), |entry| entry | 2), 2, "bitmap-entry", 1),
    ("bitmap entry unaligned", Bitmap,
        |p| p.edit(bitmap_table(p), |entry| entry + 512), 2, "bitmap-entry", 1),
    ("bitmap entry past the end", Bitmap, |p| p.put::<8>(bitmap_table(p), 1 << 40), 2, "bitmap-entry", 2),
    ("bitmap in the L1 table", Bitmap, |p| p.put::<8>(bitmap_table(p), p.l1(0)), 2, "bitmap-entry", 2),
    ("bitmap lost", Bitmap, |p| p.put::<8>(bitmap_table(p), 0), 3, "refcount-high", 3),

    ("header of the encryption unaligned", Luks,
        |p| p.edit(p.extension(ENCRYPTION) + 8, |at| at + 8), 2, "encryption", 1),
    ("header of the encryption past the end", Luks,
        |p| p.put::<8>(p.extension(ENCRYPTION) + 8, 1 << 40), 2, "encryption", 1),
    ("header of the encryption of no encryption", Luks, |p| p.put::<4>(32, 0), 2, "encryption", 1),
    ("encryption without a header", V3, |p| p.put::<4>(32, 2), 2, "encryption", 1),

    ("marked as dirty", V3, |p| p.put::<8>(72, 1), 0, "dirty", 0),
    ("marked as corrupt", V3, |p| p.put::<8>(72, 2), 0, "marked-corrupt", 0),
    ("checksums overwritten", Ours, |p| p.put::<8>(p.get::<8>(p.extension(CHECKSUMS) + 8), 0), 0, "changed-unmarked", 0),
    ("checksums cut off", Ours, |p| p.resize(p.get::<8>(p.extension(CHECKSUMS) + 8)), 0, "checksums-lost", 0),
    ("checksums past the end", Ours,
        |p| p.put::<8>(p.extension(CHECKSUMS) + 8, 1 << 40), 2, "checksums-hidden", 0),
    ("checksums in data", Ours,
        |p| p.put::<8>(p.extension(CHECKSUMS) + 8, p.host(0)), 2, "checksums-hidden", 0),
    ("checksums shorter", Ours,
        |p| p.edit(p.extension(CHECKSUMS) + 16, |length| length - 4), 2, "checksums-hidden", 0),
    ("record elsewhere", Ours,
        |p| p.edit(p.extension(CHECKSUMS) + 24, |at| at + 4), 2, "checksums-hidden", 0),
    ("extension of checksums lost", Ours,
        |p| p.put::<4>(p.extension(CHECKSUMS), 0x1234_5678), 2, "checksums-hidden", 0),
    ("checksums that are nowhere", V3, |p| p.put::<8>(88, 1 << 63), 2, "checksums-hidden", 0),
];

/// Where the first entry of the L1 table of the first snapshot stands.
fn snapshots_l1(p: &Poke) -> u64 {
    p.get::<8>(p.snapshot())
}

/// Points all of the first 512 clusters of the disk, in 129 L2 tables behind the end, to one stream.
fn overflow(p: &Poke) {
    let stream = p.get::<8>(p.l2(0));
    let tables = behind(p);
    p.resize(tables + 129 * p.cluster());
    for table in 0..129 {
        let at = tables + table * p.cluster();
        p.put::<8>(p.l1(table), COPIED | at);
        (0..512).for_each(|entry| p.put::<8>(at + 8 * entry, stream));
    }
}

/// Where the second entry of the snapshot table is.
fn second_snapshot(p: &Poke) -> u64 {
    let first = p.snapshot();
    let rest = p.get::<2>(first + 12) + p.get::<2>(first + 14) + p.get::<4>(first + 36);
    first + (40 + rest).next_multiple_of(8)
}
