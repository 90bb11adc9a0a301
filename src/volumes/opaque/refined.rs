//! Formats that share a signature: what else tells them apart. Source: libblkid; ECMA-167, "Volume recognition".

use crate::signatures::{BCACHE_NAME, BCACHEFS_NAME, ISO_9660_NAME};
use crate::units::Exact;
use crate::volumes::answer::Answer;
use crate::volumes::edges::Edges;
use crate::volumes::fields::{u8_at, u64_le};

/// The name of what has the signature of a format of this name. What cannot be read changes nothing.
pub(super) fn name(name: &'static str, edges: &Edges<'_>) -> &'static str {
    if name == BCACHE_NAME && is_bcachefs(edges).unwrap_or(false) {
        BCACHEFS_NAME
    } else if name == ISO_9660_NAME && has_udf(edges).unwrap_or(false) {
        "ISO 9660 and UDF"
    } else {
        name
    }
}

/// The first versions of bcachefs have the magic of bcache. Their superblock says in another place than that of bcache
/// where it lies, in sectors, and behind that which one of how many devices it is on.
fn is_bcachefs(edges: &Edges<'_>) -> Answer {
    const SUPERBLOCK: u64 = 4096;
    const SECTOR: u64 = SUPERBLOCK / 512;
    let Some(bytes) = edges.bytes(SUPERBLOCK, 128)? else {
        return Ok(false);
    };
    let (device, devices) = (u8_at(&bytes, 122), u8_at(&bytes, 123));
    Ok(u64_le(&bytes, 8) != SECTOR && u64_le(&bytes, 104) == SECTOR && device < devices)
}

/// Whether UDF is among the descriptors that begin at 32 KiB: it shares a disc with ISO 9660, and often its files.
fn has_udf(edges: &Edges<'_>) -> Answer {
    const SECTOR: u64 = 2048;
    /// As far as libblkid looks.
    const MAX_DESCRIPTORS: u64 = 64;
    for number in 0..MAX_DESCRIPTORS {
        let at = (32_u64 << 10).plus(number.times(SECTOR));
        match edges.bytes(at.plus(1), 5)?.as_deref() {
            Some(b"NSR02" | b"NSR03") => return Ok(true),
            Some(b"CD001" | b"BEA01" | b"BOOT2" | b"TEA01" | b"CDW02") => {}
            Some(_) | None => return Ok(false),
        }
    }
    Ok(false)
}
