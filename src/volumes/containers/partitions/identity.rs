//! The identifiers of a disk and of its partitions: of an MBR one number, of a GPT a GUID each. Source: UEFI
//! specification, chapter 5.

use super::gpt::{Copies, PRIMARY};
use super::raw::{PARTITION_ENTRY_LBA, put, sign};
use crate::units::{Exact, claimed_size, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{guid_order, u32_le, u64_le, uuid};
use crate::volumes::renewal::{Id, Renewal, random_number, random_uuid};
use crate::volumes::view::View;

/// Where the number of the disk is in an MBR.
const SIGNATURE: u64 = 440;

/// Where fields of a header are: the GUID of the disk, the size of an entry, the checksum of all of them.
const DISK_GUID: usize = 56;
const SIZE_OF_ENTRY: usize = 84;
const ENTRIES_CRC32: usize = 88;

/// Where the GUID of a partition is in its entry, behind its type, and where that ends.
const UNIQUE_GUID: usize = 16;
const UNIQUE_GUID_END: usize = 32;

/// Gives the MBR of a disk a new number, if it has one.
pub(super) fn of_mbr(view: View<'_>) -> Result<Renewal, Doubt> {
    let old = u32_le(&view.bytes("MBR", SIGNATURE, 4)?, 0);
    if old == 0 {
        return Ok(Renewal::default());
    }
    let new = random_number()?;
    Ok(Renewal {
        ids: vec![Id {
            what: "MBR disk signature",
            partition: None,
            old: format!("{old:#010x}"),
            new: format!("{new:#010x}"),
        }],
        patches: vec![(SIGNATURE, new.to_le_bytes().to_vec())],
    })
}

/// Gives the disk and each partition of a GPT a new GUID, in both copies, which must be good and the same.
pub(super) fn of_gpt(view: View<'_>, sector_size: u64) -> Result<Renewal, Doubt> {
    let copies = Copies::of(view, sector_size);
    let (primary, backup) = (copies.primary?, copies.backup?);
    if primary.identity != backup.identity {
        return Err(Doubt::State("its two GPTs are not the same"));
    }
    let headers = [PRIMARY, copies.backup_lba].map(|lba| claimed_size(lba, sector_size));
    let mut ids = Vec::new();
    let mut patches = Vec::new();
    let (mut entries, mut crc) = (Vec::new(), 0);
    let disk = random_uuid()?;
    for at in headers {
        let mut header = view.bytes("GPT header", at, sector_size)?;
        let entries_at = claimed_size(u64_le(&header, PARTITION_ENTRY_LBA), sector_size);
        let found = view.bytes("GPT entries", entries_at, primary.entries_length)?;
        if at == sector_size {
            let old = guid_order(guid_at(&header, DISK_GUID));
            ids.push(id("GPT disk GUID", None, old, disk));
            entries = found;
            ids.extend(renew_entries(&mut entries, u32_le(&header, SIZE_OF_ENTRY))?);
            crc = crc32fast::hash(&entries);
        }
        put(&mut header, DISK_GUID, &guid_order(disk));
        put(&mut header, ENTRIES_CRC32, &crc.to_le_bytes());
        sign(&mut header);
        patches.push((entries_at, entries.clone()));
        patches.push((at, header));
    }
    Ok(Renewal { ids, patches })
}

/// Gives each entry that is used a new GUID.
fn renew_entries(entries: &mut [u8], size: u32) -> Result<Vec<Id>, Doubt> {
    let mut ids = Vec::new();
    // Checked: it is at least 128.
    let size = to_usize(size.into()).max(UNIQUE_GUID_END);
    for (number, entry) in (1..).zip(entries.chunks_exact_mut(size)) {
        if guid_at(entry, 0) == [0; 16] {
            continue;
        }
        let (old, new) = (guid_order(guid_at(entry, UNIQUE_GUID)), random_uuid()?);
        put(entry, UNIQUE_GUID, &guid_order(new));
        ids.push(id("GPT partition GUID", Some(number), old, new));
    }
    Ok(ids)
}

fn id(what: &'static str, partition: Option<u32>, old: [u8; 16], new: [u8; 16]) -> Id {
    Id {
        what,
        partition,
        old: uuid(old),
        new: uuid(new),
    }
}

fn guid_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let guid = bytes.get(at..at.plus(16)).and_then(|guid| guid.first_chunk());
    guid.copied().unwrap_or_default()
}
