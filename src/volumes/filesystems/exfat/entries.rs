//! The directories of exFAT. Source: Microsoft, exFAT file system specification, sections 6 and 7.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use super::boot::Volume;
use super::chain::Table;
use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::directories::{self, Directory, Format};
use crate::volumes::filesystems::heap::{ClusterSet, Heap};
use crate::volumes::view::View;

/// The root directory may be so long, as may all, in bytes.
const MAX_DIRECTORY: u64 = 256 << 20;

/// What most entries have in common.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// 0: bit 7: it is in use; bit 6: it belongs to the one before.
    entry_type: u8,
    /// 1: of secondary entries: bit 0: there may be clusters; bit 1: they lie in one piece. Of bitmaps: bit 0: it is
    /// the second. Of labels: how many characters there are.
    flags: u8,
    /// 2: of no concern here; in a label, the characters begin here.
    of_no_concern: U16<LE>,
    /// 4: of files: bit 4: it is a directory. Of those primary ones that nobody knows: as `flags` of secondary ones.
    attributes: U16<LE>,
    /// 6.
    of_no_concern_either: [u8; 14],
    /// 20: 0 if there are no clusters.
    first_cluster: U32<LE>,
    /// 24: in bytes.
    data_length: U64<LE>,
}

const _: () = assert!(size_of::<RawEntry>() == 32);

impl RawEntry {
    fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes
            .chunks_exact(size_of::<Self>())
            .filter_map(|entry| Self::read_from_bytes(entry).ok())
    }

    fn label(&self) -> Option<String> {
        let bytes = self.as_bytes().get(2..24).unwrap_or_default();
        let (units, _) = bytes.as_chunks::<2>();
        let units: Vec<_> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        let units = units.get(..usize::from(self.flags)).unwrap_or(&units);
        (!units.is_empty()).then(|| String::from_utf16_lossy(units))
    }
}

/// Something that the root directory tells about the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct System {
    pub(super) first: u64,
    /// In bytes.
    pub(super) length: u64,
}

/// What the root directory tells about the volume.
#[derive(Debug, Default)]
pub(super) struct RootDirectory {
    /// The clusters that it lies in, as far as it was read.
    pub(super) clusters: Vec<u64>,
    /// The first bitmap and the second one, each as often as it is there.
    pub(super) bitmaps: [Vec<System>; 2],
    pub(super) upcase: Vec<System>,
    pub(super) label: Option<String>,
}

impl RootDirectory {
    /// Reads it to its first entry that was never used.
    pub(super) fn read(view: View<'_>, volume: &Volume, table: Table<'_>) -> Result<Self, Doubt> {
        let mut root = Self::default();
        let (mut next, mut is_over, mut length) = (Some(volume.root), false, 0_u64);
        while let Some(cluster) = next.filter(|_| !is_over) {
            length.increase(volume.heap.cluster_size);
            if length > MAX_DIRECTORY.max(volume.heap.cluster_size) {
                let (what, limit) = ("bytes in the root directory", MAX_DIRECTORY);
                return Err(Doubt::TooMany { what, limit });
            }
            root.clusters.push(cluster);
            volume
                .heap
                .read(view, "exFAT root directory", cluster, |bytes, _| {
                    for entry in RawEntry::all(bytes) {
                        is_over |= entry.entry_type == 0;
                        if !is_over {
                            root.add(&entry);
                        }
                    }
                    Ok(())
                })?;
            next = table.next(cluster)?;
        }
        Ok(root)
    }

    fn add(&mut self, entry: &RawEntry) {
        let system = System {
            first: entry.first_cluster.get().into(),
            length: entry.data_length.get(),
        };
        let [first, second] = &mut self.bitmaps;
        match entry.entry_type {
            0x81 if entry.flags & 1 == 0 => first.push(system),
            0x81 => second.push(system),
            0x82 => self.upcase.push(system),
            0x83 => self.label = entry.label(),
            _ => {}
        }
    }
}

/// Adds the clusters of all files and directories, but those which only the FATs tell of. Returns those of directories.
pub(super) fn join(
    view: View<'_>,
    volume: &Volume,
    table: Table<'_>,
    used: &mut ClusterSet,
) -> Result<ClusterSet, Doubt> {
    let root = Directory {
        first: volume.root,
        more: None,
    };
    let mut entries = Entries {
        view,
        heap: volume.heap,
        table,
        used,
        is_directory: false,
        left: volume.heap.count,
    };
    directories::walk(view, volume.heap, &mut entries, vec![root])
}

struct Entries<'a> {
    view: View<'a>,
    heap: Heap,
    table: Table<'a>,
    used: &'a mut ClusterSet,
    /// Whether the last primary entry was that of a directory.
    is_directory: bool,
    /// How many clusters there are but for those of the files in one piece so far.
    left: u64,
}

impl Format for Entries<'_> {
    const LEADS_BACK: bool = false;

    fn next(&self, cluster: u64) -> Result<Option<u64>, Doubt> {
        self.table.next(cluster)
    }

    /// Linux looks at what lies behind an entry that was never used, in the next cluster, so that this does as well.
    fn entries(&mut self, bytes: &[u8], at: u64, found: &mut Vec<Directory>) -> Result<(), Doubt> {
        for (index, entry) in (0_u64..).zip(RawEntry::all(bytes)) {
            let at = at.plus(index.times(32));
            let flags = match entry.entry_type {
                // Neither in use nor was ever.
                0..=0x7f => continue,
                // Bitmaps and the table of upper-case letters are followed by the FAT.
                0x81 | 0x82 => 1,
                0x83 => 0,
                0x85 => {
                    self.is_directory = entry.attributes.get() & 0x10 != 0;
                    0
                }
                0x80..=0xbf => u8::try_from(entry.attributes.get() & 3).unwrap_or(1),
                0xc0..=0xff => entry.flags,
            };
            // A name is nothing else, whatever its flags.
            if flags & 1 == 0 || entry.entry_type == 0xc1 || entry.first_cluster.get() == 0 {
                continue;
            }
            let directory = self.add(&entry, flags & 2 != 0, at)?;
            if self.is_directory && entry.entry_type == 0xc0 {
                found.push(directory);
            }
        }
        Ok(())
    }
}

impl Entries<'_> {
    /// Adds what an entry speaks of: its first cluster, or all if they lie in one piece.
    fn add(&mut self, entry: &RawEntry, is_in_one_piece: bool, at: u64) -> Result<Directory, Doubt> {
        let (first, length) = (u64::from(entry.first_cluster.get()), entry.data_length.get());
        let clusters = length.checked_div(self.heap.cluster_size).unwrap_or(0);
        // Less than 2^56, for clusters have at least 512 bytes.
        let is_even = clusters.times(self.heap.cluster_size) == length;
        let clusters = clusters.plus(u64::from(!is_even)).max(1);
        let more = is_in_one_piece.then(|| clusters.minus(1));
        let last = first.plus(more.unwrap_or(0));
        if !self.heap.has(first) || !self.heap.has(last) {
            return Err(Doubt::Field {
                structure: "exFAT directory entry",
                at: self.view.position(at),
                field: "FirstCluster",
                found: first,
                expected: Expected::That("that of a file that ends within the volume"),
            });
        }
        // No cluster is in two files. It is not asked which it is, but there is an end to it.
        if let Some(more) = more {
            let count = more.plus(1);
            self.left = self.left.checked_sub(count).ok_or(Doubt::TooMany {
                what: "clusters in files that lie in one piece",
                limit: self.heap.count,
            })?;
        }
        for cluster in first..=last {
            self.used.insert(cluster);
        }
        Ok(Directory { first, more })
    }
}
