//! The catalogue of all there is to find.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Data is lost already, or may be with the next write.
    Error,
    /// Space is wasted, nothing else.
    Leak,
    /// Worth knowing; the image is right.
    Remark,
}

impl Severity {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Leak => "leak",
            Self::Remark => "remark",
        }
    }
}

/// What sort of thing was found; the table has a row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its meaning in the table")]
pub enum Code {
    Header,
    L1Entry,
    L1Outside,
    L1Overlap,
    L1Copied,
    L2Entry,
    L2Bitmap,
    L2Outside,
    L2Overlap,
    L2Copied,
    CompressedCopied,
    DataFileOffset,
    Stream,
    RefcountTable,
    RefcountEntry,
    RefcountBlock,
    RefcountShared,
    RefcountLow,
    RefcountOverflow,
    Overlap,
    DataOverlap,
    SnapshotTable,
    SnapshotL1,
    SnapshotIncomplete,
    SnapshotDataFile,
    BitmapExtension,
    BitmapDirectory,
    BitmapTable,
    BitmapEntry,
    Encryption,
    ChecksumsHidden,
    RefcountHigh,
    Unused,
    SnapshotShort,
    BitmapsStale,
    ChecksumsLost,
    ChangedUnmarked,
    Dirty,
    MarkedCorrupt,
}

impl Code {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.code)
    }

    /// Its name: words with hyphens.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        self.row().map_or(Error, |row| row.severity)
    }

    /// Its meaning for the owner of the image.
    pub fn meaning(self) -> &'static str {
        self.row().map_or("", |row| row.meaning)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.code == self)
    }
}

/// A sort of finding.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) code: Code,
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// Its meaning for the owner of the image.
    pub(super) meaning: &'static str,
}

const fn row(code: Code, name: &'static str, severity: Severity, meaning: &'static str) -> Row {
    Row {
        code,
        name,
        severity,
        meaning,
    }
}

use Severity::{Error, Leak, Remark};

#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row(Code::Header, "header", Error, "an invalid header field that reading does not need; QEMU may refuse the image"),
    row(Code::L1Entry, "l1-entry", Error, "an invalid L1 entry: reserved bits are set, or the offset is not a multiple of the cluster size"),
    row(Code::L1Outside, "l1-outside", Error, "an L2 table that lies at least partly past the end of the file"),
    row(Code::L1Overlap, "l1-overlap", Error, "an L2 table that overlaps another table"),
    row(Code::L1Copied, "l1-copied", Error, "the COPIED flag contradicts the refcount: a write may change a snapshot"),
    row(Code::L2Entry, "l2-entry", Error, "an invalid L2 entry: reserved bits are set, or the offset is not a multiple of the cluster size"),
    row(Code::L2Bitmap, "l2-bitmap", Error, "an invalid subcluster bitmap: data and zeros at once, data without a cluster, or any of a compressed cluster"),
    row(Code::L2Outside, "l2-outside", Error, "data that lies at least partly past the end of the file"),
    row(Code::L2Overlap, "l2-overlap", Error, "data that overlaps a table"),
    row(Code::L2Copied, "l2-copied", Error, "the COPIED flag contradicts the refcount: a write may change a snapshot"),
    row(Code::CompressedCopied, "compressed-copied", Error, "the COPIED flag is set for a compressed cluster"),
    row(Code::DataFileOffset, "data-file-offset", Error, "data has another offset in the data file than on the disk"),
    row(Code::Stream, "stream", Error, "a compressed cluster that cannot be decompressed"),
    row(Code::RefcountTable, "refcount-table", Error, "the refcount table has an invalid offset or size, or lies at least partly past the end of the file: refcounts are not checked"),
    row(Code::RefcountEntry, "refcount-entry", Error, "an invalid entry of the refcount table"),
    row(Code::RefcountBlock, "refcount-block", Error, "a refcount block that lies at least partly past the end of the file"),
    row(Code::RefcountShared, "refcount-shared", Error, "one refcount block that counts two ranges of clusters"),
    row(Code::RefcountLow, "refcount-low", Error, "clusters that are used more often than their refcount says: a write may destroy them"),
    row(Code::RefcountOverflow, "refcount-overflow", Error, "clusters that are used more often than a refcount can count"),
    row(Code::Overlap, "overlap", Error, "two structures in the same place"),
    row(Code::DataOverlap, "data-overlap", Error, "data that overlaps other data: a write to one destroys the other"),
    row(Code::SnapshotTable, "snapshot-table", Error, "the snapshot table cannot be read to its end, or not at all"),
    row(Code::SnapshotL1, "snapshot-l1", Error, "the L1 table of a snapshot has an invalid offset, or is too large"),
    row(Code::SnapshotIncomplete, "snapshot-incomplete", Error, "a snapshot that does not record the size of its disk, as version 3 requires"),
    row(Code::SnapshotDataFile, "snapshot-data-file", Error, "snapshots in an image with a data file, which cannot have any"),
    row(Code::BitmapExtension, "bitmap-extension", Error, "the header says that bitmaps are up to date, but there are none"),
    row(Code::BitmapDirectory, "bitmap-directory", Error, "the bitmap directory cannot be read to its end, or has an invalid field"),
    row(Code::BitmapTable, "bitmap-table", Error, "the table of a bitmap lies at least partly past the end of the file, or does not match the size of the disk"),
    row(Code::BitmapEntry, "bitmap-entry", Error, "an invalid entry in the table of a bitmap"),
    row(Code::Encryption, "encryption", Error, "the encryption header has an invalid offset, is missing, or is there although the encryption method has none"),
    row(Code::ChecksumsHidden, "checksums-hidden", Error, "the header does not say where the checksum table is, or contradicts the footer"),
    row(Code::RefcountHigh, "refcount-high", Leak, "clusters that are used less often than their refcount says: space is wasted"),
    row(Code::Unused, "unused", Leak, "clusters of a QED image that nothing uses: space is wasted"),
    row(Code::SnapshotShort, "snapshot-short", Remark, "the L1 table of a snapshot is too short for its disk: the rest of the disk is empty"),
    row(Code::BitmapsStale, "bitmaps-stale", Remark, "bitmaps made invalid by a program that does not know them"),
    row(Code::ChecksumsLost, "checksums-lost", Remark, "the checksum table was cut off or overwritten"),
    row(Code::ChangedUnmarked, "changed-unmarked", Remark, "a program changed the image without marking it as changed, or it is damaged"),
    row(Code::Dirty, "dirty", Remark, "the image was not closed properly, or is in use"),
    row(Code::MarkedCorrupt, "marked-corrupt", Remark, "a program has marked the image as corrupt"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row_and_its_own_name() {
        // The last one of the enumeration tells how many there are, as long as the table keeps its order.
        let codes: Vec<_> = TABLE.iter().map(|row| row.code).collect();
        assert!(codes.is_sorted());
        assert_eq!(codes.last(), Some(&Code::MarkedCorrupt));
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
