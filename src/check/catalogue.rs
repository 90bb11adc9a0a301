//! The catalogue of all there is to find.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Data is lost already, or may be with the next write.
    Error,
    /// Room is wasted, nothing else.
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

    /// What it means to whoever owns the image.
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
    /// What it means to whoever owns the image.
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
    row(Code::Header, "header", Error, "a field of the header that a reader does not need, but QEMU does"),
    row(Code::L1Entry, "l1-entry", Error, "an L1 entry that cannot be: reserved bits, or no multiple of the cluster size"),
    row(Code::L1Outside, "l1-outside", Error, "an L2 table that is not, or not all of it, in the file"),
    row(Code::L1Overlap, "l1-overlap", Error, "an L2 table where another table is"),
    row(Code::L1Copied, "l1-copied", Error, "COPIED does not fit the refcount: a write may change a snapshot"),
    row(Code::L2Entry, "l2-entry", Error, "an L2 entry that cannot be: reserved bits, or no multiple of the cluster size"),
    row(Code::L2Bitmap, "l2-bitmap", Error, "subclusters that cannot be: data and zeros, or data without room"),
    row(Code::L2Outside, "l2-outside", Error, "data that is not, or not all of it, in the file"),
    row(Code::L2Overlap, "l2-overlap", Error, "data where a table is"),
    row(Code::L2Copied, "l2-copied", Error, "COPIED does not fit the refcount: a write may change a snapshot"),
    row(Code::CompressedCopied, "compressed-copied", Error, "COPIED is set for a compressed cluster"),
    row(Code::DataFileOffset, "data-file-offset", Error, "data is not in the same place of the data file as of the disk"),
    row(Code::Stream, "stream", Error, "a compressed cluster that cannot be decompressed"),
    row(Code::RefcountEntry, "refcount-entry", Error, "an entry of the refcount table that cannot be"),
    row(Code::RefcountBlock, "refcount-block", Error, "a refcount block that is not, or not all of it, in the file"),
    row(Code::RefcountShared, "refcount-shared", Error, "a refcount block that counts two ranges of clusters at once"),
    row(Code::RefcountLow, "refcount-low", Error, "clusters that are used more often than they are counted: a write may destroy them"),
    row(Code::RefcountOverflow, "refcount-overflow", Error, "clusters that are used more often than can be counted"),
    row(Code::Overlap, "overlap", Error, "two structures in the same place"),
    row(Code::DataOverlap, "data-overlap", Error, "data where other data is: a write to the one destroys the other"),
    row(Code::SnapshotTable, "snapshot-table", Error, "the snapshot table cannot be read to its end"),
    row(Code::SnapshotL1, "snapshot-l1", Error, "the L1 table of a snapshot is where it cannot be, or too large"),
    row(Code::SnapshotIncomplete, "snapshot-incomplete", Error, "a snapshot without the size of its disk, which version 3 must tell"),
    row(Code::SnapshotDataFile, "snapshot-data-file", Error, "snapshots, which an image with a data file cannot have"),
    row(Code::BitmapExtension, "bitmap-extension", Error, "bitmaps are said to be up to date, but there are none"),
    row(Code::BitmapDirectory, "bitmap-directory", Error, "the bitmap directory cannot be read to its end, or tells what cannot be"),
    row(Code::BitmapTable, "bitmap-table", Error, "the table of a bitmap is not, or not all of it, in the file, or not for all of the disk"),
    row(Code::BitmapEntry, "bitmap-entry", Error, "an entry of the table of a bitmap that cannot be"),
    row(Code::Encryption, "encryption", Error, "the header of the encryption is where it cannot be, is missing, or should be"),
    row(Code::ChecksumsHidden, "checksums-hidden", Error, "the header does not tell where the checksum table is, or not as the footer does"),
    row(Code::RefcountHigh, "refcount-high", Leak, "clusters that are counted more often than they are used: room is wasted"),
    row(Code::Unused, "unused", Leak, "clusters of a QED image that nothing uses: room is wasted"),
    row(Code::SnapshotShort, "snapshot-short", Remark, "the L1 table of a snapshot is smaller than its disk: the rest of it is empty"),
    row(Code::BitmapsStale, "bitmaps-stale", Remark, "bitmaps that a program which does not know them has made worthless"),
    row(Code::ChecksumsLost, "checksums-lost", Remark, "the checksum table is not in the file, or was overwritten"),
    row(Code::Dirty, "dirty", Remark, "the image was not closed properly, or is in use"),
    row(Code::MarkedCorrupt, "marked-corrupt", Remark, "a program has found the image to be corrupt"),
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
