//! A GPT on a disk of another size: its backup is at the end of that, and both headers know. Source: UEFI
//! specification, chapter 5.

use std::ops::Range;

use super::gpt::{Copies, PRIMARY};
use super::raw::{PARTITION_ENTRY_LBA, put, sign};
use super::sectors::sectors;
use crate::units::{Exact, claimed_size, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_le, u64_le};
use crate::volumes::view::View;

/// Where the entries of an MBR begin, and the length of one.
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY: usize = 16;

/// The type of the partition that keeps others from a disk with a GPT.
const PROTECTIVE: u8 = 0xee;

/// Where four numbers of sectors are in the header.
const MY_LBA: usize = 24;
const ALTERNATE_LBA: usize = 32;
const LAST_USABLE_LBA: usize = 48;

/// What makes a GPT fit a disk of another size.
#[derive(Debug)]
pub struct Fitted {
    /// What is written in the end, ascending: where, in bytes of the new disk, and what.
    pub patches: Vec<(u64, Vec<u8>)>,
    /// Where partitions must end, in bytes.
    pub usable_end: u64,
    /// What of the old disk was the backup: nobody misses it.
    pub old_backup: Vec<Range<u64>>,
}

/// Makes the GPT of a disk fit one of `size` bytes, with sectors of `sector_size` bytes. The primary must be good.
///
/// # Errors
///
/// A [`Doubt`] if there is no good primary GPT, or a partition ends where the new backup has to be.
pub(in crate::volumes) fn fitted(view: View<'_>, size: u64, sector_size: u64) -> Result<Fitted, Doubt> {
    let copies = Copies::of(view, sector_size);
    let primary = copies.primary?;
    let header = view.bytes("GPT header", sector_size, sector_size)?;
    let entries_at = claimed_size(u64_le(&header, PARTITION_ENTRY_LBA), sector_size);
    let mut entries = view.bytes("GPT entries", entries_at, primary.entries_length)?;
    let entry_sectors = to_u64(entries.len()).div_ceil(sector_size).max(1);
    entries.resize(to_usize(entry_sectors.times(sector_size)), 0);
    let last = size.checked_div(sector_size).unwrap_or(0).saturating_sub(1);
    let backup_entries = last.saturating_sub(entry_sectors);
    let last_usable = backup_entries.saturating_sub(1);
    let usable_end = backup_entries.times(sector_size);
    let first = entries_at.plus(to_u64(entries.len()));
    if let Some(part) = primary
        .table
        .parts
        .iter()
        .find(|part| part.range.end > usable_end)
    {
        return Err(Doubt::Named {
            what: "partition",
            name: part.number.to_string(),
            fault: "it ends where the backup of the GPT would have to be, or behind that",
        });
    }
    if usable_end <= first {
        return Err(Doubt::State("there is no room for its backup"));
    }
    let with = |fields: &[(usize, u64)]| signed(header.clone(), fields);
    let front = with(&[(ALTERNATE_LBA, last), (LAST_USABLE_LBA, last_usable)]);
    let back = with(&[
        (MY_LBA, last),
        (ALTERNATE_LBA, PRIMARY),
        (LAST_USABLE_LBA, last_usable),
        (PARTITION_ENTRY_LBA, backup_entries),
    ]);
    let mut patches = vec![(0, protective(view, copies.last, last)?), (sector_size, front)];
    let mut old_backup = Vec::new();
    if let Ok(backup) = copies.backup {
        old_backup = backup.table.own;
        // Whoever finds it there takes it for a table that counts.
        if copies.backup_lba < backup_entries {
            let stale = sectors(copies.backup_lba, 1, sector_size);
            patches.push((stale.start, vec![0; to_usize(sector_size)]));
        }
    }
    patches.push((usable_end, entries));
    patches.push((last.times(sector_size), back));
    Ok(Fitted {
        patches,
        usable_end,
        old_backup,
    })
}

/// The MBR, with a protective partition that ends with the new disk if it ended with the old one.
fn protective(view: View<'_>, old_last: u64, last: u64) -> Result<Vec<u8>, Doubt> {
    let mut mbr = view.bytes("MBR", 0, 512)?;
    let (_, entries) = mbr.split_at_mut(MBR_ENTRIES);
    for entry in entries.chunks_exact_mut(MBR_ENTRY) {
        let is_protective = entry.get(4) == Some(&PROTECTIVE);
        let (start, count) = (u64::from(u32_le(entry, 8)), u32_le(entry, 12));
        let reaches_end = count == u32::MAX || start.plus(count.into()).saturating_sub(1) >= old_last;
        if is_protective && reaches_end {
            let count = last.saturating_sub(start).saturating_add(1);
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            put(entry, 12, &count.to_le_bytes());
        }
    }
    Ok(mbr)
}

/// A header with these numbers of sectors, and the checksum that it has then.
fn signed(mut header: Vec<u8>, fields: &[(usize, u64)]) -> Vec<u8> {
    for (at, number) in fields {
        put(&mut header, *at, &number.to_le_bytes());
    }
    sign(&mut header);
    header
}
