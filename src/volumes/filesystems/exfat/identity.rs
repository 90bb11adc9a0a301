//! The serial number of exFAT, in both boot regions, which have a checksum each. Source: Microsoft, exFAT file system
//! specification, sections 3.1.11 and 3.4.

use super::boot::{SECTORS, Volume, checksum};
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u8_at, u32_le};
use crate::volumes::renewal::{Id, Renewal, random_number};
use crate::volumes::view::View;

/// Where the serial number and the size of sectors are in the first sector.
const SERIAL: usize = 100;
const SECTOR_SHIFT: usize = 108;

/// Gives a volume a new serial number, in both boot regions.
pub(super) fn renew(view: View<'_>) -> Result<Renewal, Doubt> {
    // The checksums of both are right, and the size of sectors is possible.
    Volume::read(view)?;
    let first = view.bytes("exFAT boot region", 0, 512)?;
    let sector = 1_u64.checked_shl(u8_at(&first, SECTOR_SHIFT).into()).unwrap_or(0);
    let (old, new) = (u32_le(&first, SERIAL), random_number()?);
    let size = sector.times(SECTORS);
    let mut patches = Vec::new();
    for at in [0, size] {
        let mut region = view.bytes("exFAT boot region", at, size)?;
        if u32_le(&region, SERIAL) != old {
            return Err(Doubt::State("its boot region and its backup differ"));
        }
        if let Some(field) = region.get_mut(SERIAL..SERIAL.plus(4)) {
            field.copy_from_slice(&new.to_le_bytes());
        }
        let sum = checksum(&region, sector).to_le_bytes();
        patches.push((at.plus(to_u64(SERIAL)), new.to_le_bytes().to_vec()));
        let last = at.plus(sector.times(SECTORS.minus(1)));
        patches.push((last, sum.repeat(to_usize(sector / 4))));
    }
    if old == 0 {
        return Ok(Renewal::default());
    }
    let written = |id: u32| format!("{:04X}-{:04X}", id >> 16, id & 0xffff);
    Ok(Renewal {
        ids: vec![Id {
            what: "exFAT serial number",
            partition: None,
            old: written(old),
            new: written(new),
        }],
        patches,
    })
}
