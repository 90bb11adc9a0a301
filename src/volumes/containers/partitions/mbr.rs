//! The MBR, with its chain of logical partitions. There is no specification; this is what Linux (`block/partitions/
//! msdos.c`) and others agree on.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32, Unaligned};

use super::partition::Partition;
use super::parts::Table;
use super::sectors::sectors;
use crate::units::{Exact, length, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// How many sectors of a chain of logical partitions are followed.
const MAX_LINKS: usize = 256;

/// The number of the first logical partition, however many primary ones there are.
const FIRST_LOGICAL: usize = 5;

/// The types of partitions that hold logical ones.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// The type that keeps programs that know no GPT from a disk that has one.
const PROTECTIVE: u8 = 0xee;

/// The type of all partitions of a disk that Windows' Logical Disk Manager divides.
const DYNAMIC: u8 = 0x42;

/// The first sector of a disk, or of a logical partition (an EBR).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawMbr {
    /// 0: what a PC starts with.
    code: [u8; 446],
    /// 446.
    entries: [RawEntry; 4],
    /// 510: `55 AA`.
    signature: [u8; 2],
}

const _: () = assert!(size_of::<RawMbr>() == 512);

/// A partition.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// 0: 0x80 for the one to start from, else 0.
    status: u8,
    /// 1: cylinder, head and sector, of no use any more.
    first_chs: [u8; 3],
    /// 4: what it is for.
    kind: u8,
    /// 5.
    last_chs: [u8; 3],
    /// 8: its first sector, from a beginning that depends on whose entry it is.
    first: U32<LE>,
    /// 12: how many sectors it has; 0 for an entry that is not used.
    sectors: U32<LE>,
}

const _: () = assert!(size_of::<RawEntry>() == 16);

impl RawEntry {
    fn is_used(&self) -> bool {
        self.sectors.get() != 0
    }

    fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }

    fn is_plausible(&self) -> bool {
        matches!(self.status, 0 | 0x80)
    }

    /// Its bytes if its sectors count from byte `base` on.
    fn range(&self, base: u64, sector_size: u64) -> Range<u64> {
        let range = sectors(self.first.get().into(), self.sectors.get().into(), sector_size);
        // `base` is where a table was read, and all else has 32 bits.
        range.start.plus(base)..range.end.plus(base)
    }
}

impl RawMbr {
    /// The sector at `at`; none if it is not signed as one.
    pub(super) fn read(view: View<'_>, structure: &'static str, at: u64) -> Result<Option<Self>, Doubt> {
        let mbr: Self = view.structure(structure, at)?;
        Ok(mbr.is_signed().then_some(mbr))
    }

    pub(super) fn is_signed(&self) -> bool {
        self.signature == [0x55, 0xaa]
    }

    fn used(&self) -> impl Iterator<Item = &RawEntry> {
        self.entries.iter().filter(|entry| entry.is_used())
    }

    /// Whether this is a table, and not the boot sector of a filesystem, which is signed alike.
    ///
    /// mkfs.fat writes a table into its boot sector in which the filesystem is a partition, the only one: it begins
    /// with that sector. So does that of some images of CDs that start from disks.
    pub(super) fn is_table(&self) -> bool {
        let is_plausible = self.entries.iter().all(RawEntry::is_plausible);
        let is_divided = self.used().any(|entry| entry.first.get() != 0);
        self.is_protective() || (is_plausible && is_divided)
    }

    /// Whether it says that there is a GPT: as Linux has it, with the partition that covers all but the MBR.
    pub(super) fn is_protective(&self) -> bool {
        self.last_sector().is_some()
    }

    /// The last sector of the disk that has a GPT, as far as 32 bits can tell.
    pub(super) fn last_sector(&self) -> Option<u64> {
        let is_protective = |entry: &&RawEntry| entry.kind == PROTECTIVE && entry.first.get() == 1;
        let entry = self.entries.iter().find(is_protective)?;
        Some(entry.sectors.get().into())
    }

    /// Whether it looks so.
    pub(super) fn has_protective_type(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }

    pub(super) fn is_dynamic(&self) -> bool {
        self.used().any(|entry| entry.kind == DYNAMIC)
    }

    /// Its partitions but the protective one, and the logical ones. All have to lie on the disk: if they do not, it is
    /// one of several that have been striped, or not whole.
    pub(super) fn table(&self, view: View<'_>, sector_size: u64) -> Result<Table, Doubt> {
        if self.used().any(|entry| entry.first.get() == 0) {
            return Err(Doubt::State(
                "one of its partitions begins at sector 0, where the MBR is",
            ));
        }
        let mut table = Table::default();
        table.own.push(0..sector_size);
        let mut chains = Vec::new();
        for (number, entry) in (1..).zip(&self.entries) {
            if !entry.is_used() || entry.kind == PROTECTIVE {
                continue;
            }
            let range = entry.range(0, sector_size);
            view.holds("partition", range.start, length(&range))?;
            if entry.is_extended() {
                chains.push(range);
            } else {
                table.parts.push(Partition {
                    range,
                    number,
                    label: None,
                });
            }
        }
        let mut logical = Logical {
            view,
            sector_size,
            links: Vec::new(),
            parts: Vec::new(),
        };
        for extended in chains {
            logical.follow(extended)?;
        }
        table.join(logical.table());
        Ok(table)
    }
}

/// The logical partitions found so far.
#[derive(Debug)]
struct Logical<'a> {
    view: View<'a>,
    sector_size: u64,
    /// Where their tables begin.
    links: Vec<u64>,
    parts: Vec<Range<u64>>,
}

impl Logical<'_> {
    /// Goes from table to table. Each speaks of its partition from its own place on, and of the next table from the
    /// beginning of the extended partition on.
    fn follow(&mut self, extended: Range<u64>) -> Result<(), Doubt> {
        let mut link = extended.clone();
        loop {
            if self.links.contains(&link.start) {
                return Err(Doubt::State("its logical partitions are chained in a circle"));
            }
            if self.links.len() >= MAX_LINKS {
                let (what, limit) = ("logical partitions", to_u64(MAX_LINKS));
                return Err(Doubt::TooMany { what, limit });
            }
            self.links.push(link.start);
            let Some(ebr) = RawMbr::read(self.view, "EBR", link.start)? else {
                return Ok(());
            };
            self.add(&ebr, &link, &extended)?;
            let Some(next) = ebr.used().find(|entry| entry.is_extended()) else {
                return Ok(());
            };
            link = next.range(extended.start, self.sector_size);
        }
    }

    /// Adds the partitions of one table: usually one.
    fn add(&mut self, ebr: &RawMbr, link: &Range<u64>, extended: &Range<u64>) -> Result<(), Doubt> {
        for (index, entry) in ebr.entries.iter().enumerate() {
            let range = entry.range(link.start, self.sector_size);
            // Of the last two nothing good is known: Linux takes them if they fit.
            let fits = range.end <= link.end.min(extended.end) && range.start >= extended.start;
            if !entry.is_used() || entry.is_extended() || (index >= 2 && !fits) {
                continue;
            }
            self.view
                .holds("logical partition", range.start, length(&range))?;
            self.parts.push(range);
        }
        Ok(())
    }

    fn table(self) -> Table {
        let parts = (FIRST_LOGICAL..)
            .zip(self.parts)
            .map(|(number, range)| Partition {
                range,
                number: number.try_into().unwrap_or(u32::MAX),
                label: None,
            });
        let own = |link: &u64| *link..link.plus(self.sector_size);
        Table {
            parts: parts.collect(),
            own: self.links.iter().map(own).collect(),
        }
    }
}
