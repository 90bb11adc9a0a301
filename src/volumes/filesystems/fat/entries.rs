//! What the directories of FAT speak of. Source: Microsoft, fatgen103, "FAT Directory Structure".

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, Unaligned};

use super::boot::{Root, Volume, Width};
use super::table::Table;
use crate::error::Expected;
use crate::units::{Exact, length};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::directories::{self, Directory, Format};
use crate::volumes::filesystems::heap::{ClusterSet, Heap};
use crate::volumes::view::View;

/// An entry of a directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    /// 0: its first byte is 0xe5 in an entry that is free, 0 in one that is free as are all behind it.
    pub(super) name: [u8; 11],
    /// 11: bit 3 a label, bit 4 a directory; bits 0 to 3 together a piece of a long name.
    pub(super) attr: u8,
    /// 12: of no concern here: cases, times.
    of_no_concern: [u8; 8],
    /// 20: the upper half of the number of the first cluster; in FAT12 and FAT16 something else.
    pub(super) fst_clus_hi: U16<LE>,
    /// 22.
    wrt_time_date: U32<LE>,
    /// 26: the lower half; 0 for an empty file, and for a root directory.
    pub(super) fst_clus_lo: U16<LE>,
    /// 28.
    file_size: U32<LE>,
}

const _: () = assert!(size_of::<RawEntry>() == 32);

/// Bits of an entry's attributes: it is a label, or a piece of a long name; it is a directory.
pub(super) const LABEL: u8 = 0x08;
pub(super) const DIRECTORY: u8 = 0x10;

/// Adds the first cluster of every file and directory. Those that follow are told by the FATs. Returns the clusters of
/// directories.
pub(super) fn join(
    view: View<'_>,
    volume: &Volume,
    table: Table<'_>,
    used: &mut ClusterSet,
) -> Result<ClusterSet, Doubt> {
    let (kind, heap) = (volume.kind, volume.heap);
    let mut entries = Entries {
        view,
        kind,
        heap,
        table,
        used,
    };
    let mut roots = Vec::new();
    match &volume.root {
        Root::Fixed(range) => {
            // 2 MiB at most: the number of entries has 16 bits.
            let bytes = view.bytes("root directory", range.start, length(range))?;
            entries.entries(&bytes, range.start, &mut roots)?;
        }
        Root::Cluster(first) => roots.push(Directory {
            first: *first,
            more: None,
        }),
    }
    directories::walk(view, heap, &mut entries, roots)
}

struct Entries<'a> {
    view: View<'a>,
    kind: Width,
    heap: Heap,
    table: Table<'a>,
    used: &'a mut ClusterSet,
}

impl Format for Entries<'_> {
    const LEADS_BACK: bool = true;

    fn next(&self, cluster: u64) -> Result<Option<u64>, Doubt> {
        self.table.next(cluster)
    }

    /// Linux looks at what lies behind the first entry that was never used, too, so that this does as well.
    fn entries(&mut self, bytes: &[u8], at: u64, found: &mut Vec<Directory>) -> Result<(), Doubt> {
        for (index, entry) in (0_u64..).zip(bytes.chunks_exact(32)) {
            let Ok(entry) = RawEntry::read_from_bytes(entry) else {
                continue;
            };
            if entry.name.starts_with(&[0]) || entry.name.starts_with(&[0xe5]) || entry.attr & LABEL != 0 {
                continue;
            }
            let mut first = u64::from(entry.fst_clus_lo.get());
            if self.kind == Width::Fat32 {
                first |= u64::from(entry.fst_clus_hi.get()) << 16;
            }
            if first == 0 {
                continue;
            }
            if !self.heap.has(first) {
                let at = at.plus(index.times(32));
                return Err(Doubt::Field {
                    structure: "directory entry",
                    at: self.view.position(at),
                    field: "DIR_FstClus",
                    found: first,
                    expected: Expected::That("0 or the number of a cluster"),
                });
            }
            self.used.insert(first);
            if entry.attr & DIRECTORY != 0 {
                found.push(Directory { first, more: None });
            }
        }
        Ok(())
    }
}
