//! The GUID partition table. Source: UEFI specification, chapter 5.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use super::partition::Partition;
use super::parts::Table;
use super::sectors::{sectors, structure};
use crate::error::Expected;
use crate::units::{Exact, claimed_size, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::view::View;

/// Where the primary header is: the sector behind the MBR.
pub(super) const PRIMARY: u64 = 1;

/// The size of sectors, in bytes, with which nothing but a GPT leaves its entries behind a sector of something else:
/// in larger ones there is room for what others have 4 KiB from the beginning.
pub(super) const PROVABLE: u64 = 512;

/// The partition types that hold volumes of several disks: of Windows' Logical Disk Manager, and of Storage Spaces.
const VOLUMES: [(&str, [u8; 16]); 2] = [
    (
        "dynamic disk",
        [
            0xa0, 0x60, 0x9b, 0xaf, 0x31, 0x14, 0x62, 0x4f, 0xbc, 0x68, 0x33, 0x11, 0x71, 0x4a, 0x69, 0xad,
        ],
    ),
    (
        "Storage Spaces",
        [
            0x8f, 0xaf, 0x5c, 0xe7, 0x80, 0xf6, 0xee, 0x4c, 0xaf, 0xa3, 0xb0, 0x01, 0xe5, 0x6e, 0xfc, 0x2d,
        ],
    ),
];

/// What the header begins with.
const SIGNATURE: &[u8] = b"EFI PART";

/// The header: at the beginning of its sector, zeros behind it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0: `EFI PART`.
    signature: [u8; 8],
    /// 8: 1.0 in the upper and lower half.
    revision: U32<LE>,
    /// 12: in bytes: from 92 to the size of a sector.
    header_size: U32<LE>,
    /// 16: of `header_size` bytes, with zeros here.
    header_crc32: U32<LE>,
    /// 20.
    reserved: U32<LE>,
    /// 24: the sector that this is in.
    my_lba: U64<LE>,
    /// 32: the sector that the other header is in.
    alternate_lba: U64<LE>,
    /// 40: the first sector that a partition may have.
    first_usable_lba: U64<LE>,
    /// 48: the last one.
    last_usable_lba: U64<LE>,
    /// 56.
    disk_guid: [u8; 16],
    /// 72: the sector that the entries begin with.
    partition_entry_lba: U64<LE>,
    /// 80.
    number_of_partition_entries: U32<LE>,
    /// 84: in bytes: 128 times a power of two.
    size_of_partition_entry: U32<LE>,
    /// 88: of all entries.
    partition_entry_array_crc32: U32<LE>,
}

const _: () = assert!(size_of::<RawHeader>() == 92);

/// A partition. Longer entries have nothing known behind it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// 0: zeros if the entry is not used.
    partition_type_guid: [u8; 16],
    /// 16.
    unique_partition_guid: [u8; 16],
    /// 32: its first sector.
    starting_lba: U64<LE>,
    /// 40: its last sector.
    ending_lba: U64<LE>,
    /// 48.
    attributes: U64<LE>,
    /// 56: in UTF-16, zeros behind it.
    partition_name: [U16<LE>; 36],
}

const _: () = assert!(size_of::<RawEntry>() == 128);

/// What a GPT says, or both of them.
#[derive(Debug)]
pub(super) struct Gpt {
    pub(super) table: Table,
    /// What has volumes on this disk and others, if anything has.
    pub(super) volumes: Option<&'static str>,
    /// Where it says that the other one is.
    pub(super) alternate_lba: u64,
    /// What both have in common: the checksum of the entries, and the number of the disk.
    pub(super) identity: (u32, [u8; 16]),
    /// How many bytes its entries have.
    pub(super) entries_length: u64,
}

/// Both copies, as they are found.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) primary: Result<Gpt, Refused>,
    pub(super) backup: Result<Gpt, Refused>,
    /// The sector of the backup: where the primary says that it is, or else the last one.
    pub(super) backup_lba: u64,
    /// The last sector of the disk.
    pub(super) last: u64,
}

impl Copies {
    pub(super) fn of(view: View<'_>, sector_size: u64) -> Self {
        let sectors = view.len().checked_div(sector_size).unwrap_or(0);
        // On a disk without any it is the first, where no GPT is either.
        let last = sectors.saturating_sub(1);
        let primary = Gpt::at(view, PRIMARY, sector_size);
        let backup_lba = primary.as_ref().map_or(last, |gpt| gpt.alternate_lba);
        Self {
            primary,
            backup: Gpt::at(view, backup_lba, sector_size),
            backup_lba,
            last,
        }
    }
}

/// Why there is no GPT in some place.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is nothing that looks like one.
    Missing,
    /// It does not fit its checksums, or says that it belongs elsewhere: the other one counts.
    Damaged(Doubt),
    /// There may be one, but it cannot be read: the other one counts.
    Unreadable(Doubt),
    /// It is as it was written, and says what makes no sense here. To others it may: the other one may be older.
    Odd(Doubt),
}

impl From<Refused> for Doubt {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing => Self::State("its MBR announces a GPT, but there is none"),
            Refused::Damaged(doubt) | Refused::Unreadable(doubt) | Refused::Odd(doubt) => doubt,
        }
    }
}

impl Refused {
    /// What is wrong if neither this one nor the other is good.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Missing, other) | (Self::Damaged(_), other @ Self::Unreadable(_)) => other,
            (this, _) => this,
        }
    }
}

/// What the primary and the backup say, if both can be trusted, or else the one of them that can.
///
/// A table in the last sector that the primary does not know of counts as well: it is what is left if the primary is
/// lost, and what others go by then.
pub(super) fn read(view: View<'_>, sector_size: u64) -> Result<Gpt, Refused> {
    let copies = Copies::of(view, sector_size);
    let mut gpt = match (copies.primary, copies.backup) {
        (Err(odd @ Refused::Odd(_)), _) | (_, Err(odd @ Refused::Odd(_))) => return Err(odd),
        (Ok(mut gpt), Ok(backup)) => {
            gpt.join(backup);
            gpt
        }
        (Ok(mut gpt), Err(_)) => {
            // What is left of the backup belongs to no partition.
            gpt.table.own.push(sectors(copies.backup_lba, 1, sector_size));
            gpt
        }
        (Err(_), Ok(mut gpt)) => {
            gpt.table.own.push(sectors(PRIMARY, 1, sector_size));
            gpt
        }
        (Err(primary), Err(backup)) => return Err(primary.or(backup)),
    };
    if copies.backup_lba != copies.last {
        match Gpt::at(view, copies.last, sector_size) {
            Ok(other) => gpt.join(other),
            Err(refused @ (Refused::Odd(_) | Refused::Unreadable(_))) => return Err(refused),
            Err(Refused::Missing | Refused::Damaged(_)) => (),
        }
    }
    Ok(gpt)
}

/// The sector of a primary header that cannot be read, if the entries behind it are those that the backup has.
pub(super) fn proven(view: View<'_>, sector_size: u64) -> Option<Range<u64>> {
    let copies = Copies::of(view, sector_size);
    let (Err(Refused::Unreadable(_)), Ok(backup)) = (copies.primary, copies.backup) else {
        return None;
    };
    let own = sectors(PRIMARY, 1, sector_size);
    let entries = view.bytes("GPT entries", own.end, backup.entries_length).ok()?;
    let is_one = sector_size == PROVABLE
        && backup.alternate_lba == PRIMARY
        && !backup.table.parts.is_empty()
        && crc32fast::hash(&entries) == backup.identity.0;
    is_one.then_some(own)
}

/// The size of the disk that a primary GPT was written for, in bytes, however small this one is.
pub(super) fn size_of_disk(view: View<'_>, sector_size: u64) -> Option<u64> {
    let header = RawHeader::read(view, sector_size, PRIMARY, sector_size).ok()?;
    let sectors = header.alternate_lba.get().checked_add(1)?;
    sectors.checked_mul(sector_size)
}

impl Gpt {
    /// The table with the header in sector `lba`.
    pub(super) fn at(view: View<'_>, lba: u64, sector_size: u64) -> Result<Self, Refused> {
        let at = lba.checked_mul(sector_size).ok_or(Refused::Missing)?;
        let header = RawHeader::read(view, at, lba, sector_size)?;
        header.makes_sense(view, sector_size).map_err(Refused::Odd)?;
        let entries = header.entries(view, sector_size)?;
        let own = [
            sectors(lba, 1, sector_size),
            structure(header.partition_entry_lba.get(), entries.len(), sector_size),
        ];
        let mut gpt = Self {
            table: Table {
                parts: Vec::new(),
                own: own.into(),
            },
            volumes: None,
            alternate_lba: header.alternate_lba.get(),
            identity: (header.partition_entry_array_crc32.get(), header.disk_guid),
            entries_length: to_u64(entries.len()),
        };
        let entry_size = to_usize(header.size_of_partition_entry.get().into());
        for (number, bytes) in (1..).zip(entries.chunks_exact(entry_size)) {
            if let Some(entry) = RawEntry::used(bytes) {
                let range = entry.range(view, &header, sector_size);
                gpt.volumes = gpt.volumes.or_else(|| entry.volumes());
                gpt.table.parts.push(Partition {
                    range: range.map_err(Refused::Odd)?,
                    number,
                    label: entry.label(),
                });
            }
        }
        Ok(gpt)
    }

    fn join(&mut self, other: Self) {
        self.volumes = self.volumes.or(other.volumes);
        self.table.join(other.table);
    }
}

impl RawHeader {
    /// The header at byte `at`, which is sector `lba`, if it is as it was written, for this place.
    fn read(view: View<'_>, at: u64, lba: u64, sector_size: u64) -> Result<Self, Refused> {
        // First of all by itself: a sector that is larger may be unreadable in part.
        if !view.has(at, SIGNATURE).map_err(Refused::Unreadable)? {
            return Err(Refused::Missing);
        }
        let sector = view
            .bytes("GPT header", at, sector_size)
            .map_err(Refused::Unreadable)?;
        let (header, _) = Self::read_from_prefix(&sector).map_err(|_| Refused::Missing)?;
        let field = |field, found, expected| {
            let at = view.position(at);
            Refused::Damaged(header_field(at, field, found, expected))
        };
        let size = u64::from(header.header_size.get());
        let mut signed = sector.get(..to_usize(size)).unwrap_or_default().to_vec();
        let Some(crc) = signed.get_mut(16..20).filter(|_| size >= 92) else {
            let expected = Expected::That("at least 92, and no more than a sector");
            return Err(field("HeaderSize", size, expected));
        };
        crc.fill(0);
        let (recorded, counted) = (header.header_crc32.get(), crc32fast::hash(&signed));
        checksum(view, "GPT header", at, recorded, counted)?;
        let my_lba = header.my_lba.get();
        if my_lba != lba {
            return Err(field("MyLBA", my_lba, Expected::Exactly(lba)));
        }
        Ok(header)
    }

    /// Makes sure that the rest of what it says is what is understood here.
    fn makes_sense(&self, view: View<'_>, sector_size: u64) -> Result<(), Doubt> {
        let at = view.position(self.my_lba.get().times(sector_size));
        let field = |field, found, expected| Err(header_field(at, field, found, expected));
        let revision = self.revision.get();
        if revision >> 16 != 1 {
            return field("Revision", revision.into(), Expected::Exactly(0x1_0000));
        }
        let sectors = view.len().checked_div(sector_size).unwrap_or(0);
        let last = self.last_usable_lba.get();
        if last >= sectors {
            return field("LastUsableLBA", last, Expected::That("a sector of this disk"));
        }
        let size = u64::from(self.size_of_partition_entry.get());
        if size < 128 || !size.is_power_of_two() {
            let expected = Expected::That("128 times a power of two");
            return field("SizeOfPartitionEntry", size, expected);
        }
        Ok(())
    }

    /// All entries, as they are.
    fn entries(&self, view: View<'_>, sector_size: u64) -> Result<Vec<u8>, Refused> {
        let at = claimed_size(self.partition_entry_lba.get(), sector_size);
        let size = u64::from(self.size_of_partition_entry.get());
        let length = size.times(self.number_of_partition_entries.get().into());
        let entries = match view.bytes("GPT entries", at, length) {
            Ok(entries) => entries,
            Err(doubt @ Doubt::Unreadable { .. }) => return Err(Refused::Unreadable(doubt)),
            Err(doubt) => return Err(Refused::Odd(doubt)),
        };
        let recorded = self.partition_entry_array_crc32.get();
        checksum(view, "GPT entries", at, recorded, crc32fast::hash(&entries))?;
        Ok(entries)
    }
}

fn header_field(at: u64, field: &'static str, found: u64, expected: Expected) -> Doubt {
    Doubt::Field {
        structure: "GPT header",
        at,
        field,
        found,
        expected,
    }
}

fn checksum(
    view: View<'_>,
    structure: &'static str,
    at: u64,
    found: u32,
    expected: u32,
) -> Result<(), Refused> {
    if found == expected {
        return Ok(());
    }
    Err(Refused::Damaged(Doubt::Checksum {
        structure,
        at: view.position(at),
        found,
        expected,
    }))
}

impl RawEntry {
    /// The entry that `bytes` begin with, if it is used.
    fn used(bytes: &[u8]) -> Option<Self> {
        let (entry, _) = Self::read_from_prefix(bytes).ok()?;
        (entry.partition_type_guid != [0; 16]).then_some(entry)
    }

    /// What has volumes in it and in partitions of other disks, if anything has.
    fn volumes(&self) -> Option<&'static str> {
        let found = VOLUMES.iter().find(|(_, guid)| *guid == self.partition_type_guid);
        found.map(|(name, _)| *name)
    }

    /// Its bytes, which have to lie among those that the header leaves to partitions.
    fn range(&self, view: View<'_>, header: &RawHeader, sector_size: u64) -> Result<Range<u64>, Doubt> {
        let (first, last) = (self.starting_lba.get(), self.ending_lba.get());
        let usable = header.first_usable_lba.get()..=header.last_usable_lba.get();
        if first > last || !usable.contains(&first) || !usable.contains(&last) {
            let at = sectors(header.partition_entry_lba.get(), 1, sector_size).start;
            let is_last = usable.contains(&first);
            return Err(Doubt::Field {
                structure: "GPT entries",
                at: view.position(at),
                field: if is_last { "EndingLBA" } else { "StartingLBA" },
                found: if is_last { last } else { first },
                expected: Expected::That("a sector that the header leaves to partitions"),
            });
        }
        let count = last.minus(first).plus(1);
        Ok(sectors(first, count, sector_size))
    }

    fn label(&self) -> Option<String> {
        let units = self.partition_name.iter().map(|unit| unit.get());
        let name: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        (!name.is_empty()).then(|| String::from_utf16_lossy(&name))
    }
}
