//! An image file that is read, by itself: no other file is opened.

pub(super) mod checksums;
pub(super) mod freshness;
mod listed;
pub(in crate::formats) mod lookup;
mod ours;
pub(super) mod record;
pub(super) mod runs;
pub(super) mod view;

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Corrupt, Error, Expected, Features, Invalid, Result, Unsupported};
use crate::formats::qcow2::structures::extensions::Extensions;
use crate::formats::qcow2::structures::features::{self, FeatureKind};
use crate::formats::qcow2::structures::geometry::{ENTRY, Geometry, MAX_L1_BYTES};
use crate::formats::qcow2::structures::header::{Header, TableAt, Unneeded};
use crate::formats::qcow2::structures::mapping::L2Rules;
use crate::formats::qcow2::structures::snapshot::Snapshot;
use crate::formats::windows::Windows;
use crate::formats::{HostFile, Overlap, Remark, Trace, truncated};
use crate::units::{Exact, HostOffset, claimed_size, to_usize};
use view::View;

/// How much of a header is looked at first, in bytes: up to the compression type.
const HEADER: u64 = 112;

/// An image file whose header, header extensions and places of tables were validated, as far as reading needs them.
#[derive(Debug)]
pub struct Image {
    file: HostFile,
    header: Header,
    rules: L2Rules,
    extensions: Extensions,
    backing_name: Option<OsString>,
    /// The clusters of the disk are there, if the image says so and the file was opened.
    data: Option<HostFile>,
    windows: Arc<Windows>,
    unneeded: Unneeded,
    /// The L1 table and the refcount table have bytes in common.
    do_tables_overlap: bool,
    /// Which of the files of a disk it is.
    number: u32,
    /// What shows that it was changed, if it does not say so itself.
    trace: Option<Trace>,
}

impl Image {
    /// Opens an image and validates its header. No other file is opened.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`] if it cannot be read.
    /// - [`Error::Invalid`] if it is neither a regular file nor a block device.
    /// - [`Error::Corrupt`] if the header or an extension is damaged, or the L1 table does not lie within the file
    ///   or overlaps the refcount table.
    /// - [`Error::Unsupported`] for a version other than 2 and 3, and for incompatible features that are not known.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_file(HostFile::open(path)?, 0, Arc::default(), Overlap::Refused)
    }

    pub(in crate::formats) fn of_file(
        file: HostFile,
        number: u32,
        windows: Arc<Windows>,
        overlap: Overlap,
    ) -> Result<Self> {
        let mut bytes = vec![0; to_usize(HEADER.min(file.length()))];
        file.read_beginning(&mut bytes)?;
        let header = Header::parse(&bytes)?;
        let cluster_size = header.geometry().cluster_size();
        // At most 2 MiB.
        let mut first_cluster = vec![0; to_usize(cluster_size)];
        if file.length() < cluster_size {
            let (found, expected) = (file.length(), cluster_size);
            return Err(truncated("header cluster", HostOffset(0), found, expected));
        }
        file.read_beginning(&mut first_cluster)?;
        let name = header.backing_name();
        let end = name.as_ref().map_or(cluster_size, |name| name.start);
        let extensions = Extensions::parse(&first_cluster, header.extensions_at(), end)?;
        refuse_unknown(&header, &extensions)?;
        let bytes_of = |range: Range<u64>| {
            let bytes = first_cluster.get(to_usize(range.start)..to_usize(range.end));
            OsString::from_vec(bytes.unwrap_or_default().to_vec())
        };
        let mut image = Self {
            rules: L2Rules {
                geometry: header.geometry(),
                compat: header.compat(),
                data_file: header.needs(features::DATA_FILE),
            },
            backing_name: name.map(bytes_of),
            unneeded: header.unneeded().clone(),
            file,
            header,
            extensions,
            data: None,
            windows,
            do_tables_overlap: false,
            number,
            trace: None,
        };
        image.validate_tables(overlap)?;
        image.trace = image.find_trace();
        Ok(image)
    }

    /// The same, with the clusters of the disk in an external data file.
    pub(super) fn with_data(self, file: HostFile) -> Self {
        let data = Some(file);
        Self { data, ..self }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How its L2 entries are to be understood.
    pub(crate) fn rules(&self) -> L2Rules {
        self.rules
    }

    /// The header extensions.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The file it is in.
    pub fn file(&self) -> &HostFile {
        &self.file
    }

    /// The external data file, if it was opened.
    pub fn data_file(&self) -> Option<&HostFile> {
        self.data.as_ref()
    }

    /// The name of the backing file as the image has it: relative to the image, or with a protocol in front.
    pub fn backing_name(&self) -> Option<&OsString> {
        self.backing_name.as_ref()
    }

    /// What it says about itself that its reader should know.
    pub fn remarks(&self) -> impl Iterator<Item = Remark> {
        let unneeded = &self.unneeded;
        [
            (self.header.needs(features::DIRTY), Remark::Dirty),
            (self.header.needs(features::CORRUPT), Remark::Corrupt),
            (unneeded.header_length.is_some(), Remark::HeaderLength),
            (self.do_tables_overlap, Remark::Overlap),
            (
                unneeded.refcount_table.is_some() && !self.do_tables_overlap,
                Remark::NoRefcounts,
            ),
            (unneeded.snapshot_table.is_some(), Remark::NoSnapshots),
        ]
        .into_iter()
        .filter_map(|(is_so, remark)| is_so.then_some(remark))
        .chain(self.trace.map(Remark::Unmarked))
    }

    /// What is wrong with structures that reading the active disk does not need.
    pub fn unneeded(&self) -> &Unneeded {
        &self.unneeded
    }

    /// The refcount table, if it can be used.
    pub(crate) fn refcount_table(&self) -> Option<TableAt> {
        let is_usable = self.unneeded.refcount_table.is_none();
        is_usable.then_some(self.header.refcount_table())
    }

    /// The active state of the disk.
    pub fn active(&self) -> View {
        View {
            l1: self.header.l1(),
            size: self.header.geometry().size(),
        }
    }

    /// The state that a snapshot keeps.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if its L1 table is misplaced, too small for the disk or larger than QEMU allows.
    pub fn view_of(&self, snapshot: &Snapshot) -> Result<View> {
        let geometry = self.header.geometry();
        let size = snapshot.disk_size.unwrap_or(geometry.size());
        let (at, entries) = (snapshot.l1_at, snapshot.l1_entries);
        let wrong = |field, found, expected| -> Error {
            Error::field("snapshot with the L1 table", at, field, found, expected)
        };
        let largest = geometry.l2_reach().times(MAX_L1_BYTES / ENTRY);
        let of_snapshot = Geometry::of_image(geometry.cluster(), size, geometry.l2_form())
            .map_err(|_| wrong("disk size", size, Expected::AtMost(largest)))?;
        if entries < of_snapshot.l1_entries() {
            return Err(wrong(
                "l1_size",
                entries,
                Expected::AtLeast(of_snapshot.l1_entries()),
            ));
        }
        if entries > MAX_L1_BYTES / ENTRY {
            return Err(wrong("l1_size", entries, Expected::AtMost(MAX_L1_BYTES / ENTRY)));
        }
        if at.0 == 0 || !at.0.is_multiple_of(geometry.cluster_size()) {
            return Err(wrong(
                "l1_table_offset",
                at.0,
                Expected::MultipleOf(geometry.cluster_size()),
            ));
        }
        let l1 = TableAt { at, entries };
        self.validate_table("L1 table of a snapshot", l1)?;
        Ok(View { l1, size })
    }

    /// The snapshot with that ID, or else the first one with that name.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if there is none.
    /// - [`Error::Corrupt`] and [`Error::Io`] as [`snapshots`](Self::snapshots).
    pub fn snapshot(&self, wanted: &str) -> Result<Snapshot> {
        let mut by_name = None;
        for snapshot in self.snapshots() {
            let snapshot = snapshot?;
            if snapshot.id == wanted {
                return Ok(snapshot);
            }
            if by_name.is_none() && snapshot.name == wanted {
                by_name = Some(snapshot);
            }
        }
        by_name.ok_or_else(|| {
            Invalid::NoSuchSnapshot {
                wanted: wanted.to_owned(),
            }
            .into()
        })
    }

    /// Where the clusters of the disk end, in the file that holds them; none if that was not opened.
    fn data_length(&self) -> Option<u64> {
        if self.rules.data_file {
            self.data.as_ref().map(HostFile::length)
        } else {
            Some(self.file.length())
        }
    }

    /// Nothing that is mapped lies in the header, the active L1 table or the refcount table.
    fn outside_metadata(&self, range: Range<u64>) -> Result<(), Expected> {
        let cluster_size = self.header.geometry().cluster_size();
        for (name, taken) in [
            ("header", 0..cluster_size),
            ("active L1 table", bytes_of(self.header.l1())),
            ("refcount table", self.refcount_table().map_or(0..0, bytes_of)),
        ] {
            if range.start < taken.end && taken.start < range.end {
                return Err(Expected::Outside(name));
            }
        }
        Ok(())
    }

    /// Where refcounts end, in bytes of the file: no cluster lies behind that. The largest table with the narrowest
    /// refcounts and the largest clusters reaches past 64 bits, which is behind every cluster. Without a table nothing
    /// is known.
    fn refcounted(&self) -> u64 {
        let geometry = self.header.geometry();
        let Some(table) = self.refcount_table() else {
            return u64::MAX;
        };
        let clusters = table
            .entries
            .times(self.header.refcounts().block_entries(geometry));
        claimed_size(clusters, geometry.cluster_size())
    }

    /// Refuses what reading needs, and keeps what else is wrong. If the L1 table and the refcount table overlap, either
    /// may be in the wrong place.
    fn validate_tables(&mut self, overlap: Overlap) -> Result<()> {
        self.validate_table("L1 table", self.header.l1())?;
        let refcounts = self.header.refcount_table();
        if self.unneeded.refcount_table.is_none() {
            self.unneeded.refcount_table = self.outside_file("refcount table", refcounts);
        }
        let (l1, refcounts) = (
            bytes_of(self.header.l1()),
            self.refcount_table().map_or(0..0, bytes_of),
        );
        if l1.start < refcounts.end && refcounts.start < l1.end {
            if overlap == Overlap::Refused {
                let expected = Expected::Outside("refcount table");
                return Err(Error::field(
                    "header",
                    HostOffset(0),
                    "l1_table_offset",
                    l1.start,
                    expected,
                ));
            }
            self.do_tables_overlap = true;
            self.unneeded.refcount_table = Some(Corrupt::Field {
                structure: "header",
                at: HostOffset(0),
                field: "refcount_table_offset",
                found: refcounts.start,
                expected: Expected::Outside("L1 table"),
            });
        }
        let snapshots = self.header.snapshots();
        if snapshots.entries > 0 && snapshots.at.0 >= self.file.length() {
            self.unneeded.snapshot_table = Some(Corrupt::Truncated {
                structure: "snapshot table",
                at: snapshots.at,
                found: 0,
                expected: 40,
            });
        }
        Ok(())
    }

    fn validate_table(&self, structure: &'static str, table: TableAt) -> Result<()> {
        self.outside_file(structure, table)
            .map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// How much of a table is not in the file, if anything is not.
    fn outside_file(&self, structure: &'static str, table: TableAt) -> Option<Corrupt> {
        let (length, expected) = (self.file.length(), table.entries.times(ENTRY));
        (!self.file.holds(table.at, expected)).then(|| Corrupt::Truncated {
            structure,
            at: table.at,
            found: length.saturating_sub(table.at.0),
            expected,
        })
    }
}

/// The bytes of a table that was seen to lie in the file.
fn bytes_of(table: TableAt) -> Range<u64> {
    let length = table.entries.times(ENTRY);
    table.at.0..table.at.0.plus(length)
}

fn refuse_unknown(header: &Header, extensions: &Extensions) -> Result<(), Unsupported> {
    let name = |bit| extensions.feature_name(FeatureKind::Incompatible, bit);
    let unknown: Vec<_> = header.features().unknown().map(|bit| (bit, name(bit))).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Unsupported::Features(Features(unknown)))
    }
}
