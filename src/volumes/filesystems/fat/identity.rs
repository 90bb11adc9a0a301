//! The volume ID of FAT, in the boot sector and, of FAT32, in the copy of that. Source: fatgen103, `BS_VolID`.

use super::boot::{Volume, Width, backup_at};
use crate::units::{Exact, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u8_at, u32_le};
use crate::volumes::renewal::{Id, Renewal, random_number};
use crate::volumes::view::View;

/// Where `BS_BootSig` is in FAT12 and FAT16, and in FAT32. `BS_VolID` follows it.
const BOOT_SIG: usize = 38;
const BOOT_SIG_32: usize = 66;

/// `BS_BootSig` if a volume ID follows: alone, or with a label.
const SIGNED: [u8; 2] = [0x28, 0x29];

/// Gives a volume a new ID.
pub(super) fn renew(view: View<'_>) -> Result<Renewal, Doubt> {
    let volume = Volume::read(view)?;
    let (what, sig) = match volume.kind {
        Width::Fat12 => ("FAT12 volume ID", BOOT_SIG),
        Width::Fat16 => ("FAT16 volume ID", BOOT_SIG),
        Width::Fat32 => ("FAT32 volume ID", BOOT_SIG_32),
    };
    let field = sig.plus(1);
    let sector = view.bytes("FAT boot sector", 0, 512)?;
    let old = u32_le(&sector, field);
    if !SIGNED.contains(&u8_at(&sector, sig)) || old == 0 {
        return Ok(Renewal::default());
    }
    let mut sectors = vec![0];
    if volume.kind == Width::Fat32
        && let Some(at) = backup_at(view)?
    {
        let backup = view.bytes("FAT backup boot sector", at, 512)?;
        if !backup.ends_with(&[0x55, 0xaa]) || u32_le(&backup, field) != old {
            return Err(Doubt::State("its boot sector and its backup differ"));
        }
        sectors.push(at);
    }
    let new = random_number()?;
    let patch = |at: u64| (at.plus(to_u64(field)), new.to_le_bytes().to_vec());
    Ok(Renewal {
        ids: vec![Id {
            what,
            partition: None,
            old: written(old),
            new: written(new),
        }],
        patches: sectors.into_iter().map(patch).collect(),
    })
}

/// A volume ID as every program shows it.
fn written(id: u32) -> String {
    format!("{:04X}-{:04X}", id >> 16, id & 0xffff)
}
