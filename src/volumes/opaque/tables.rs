//! Partition tables of other machines. Source: Linux, `block/partitions`, and libblkid.

use crate::units::Exact;
use crate::volumes::answer::{self, Answer};
use crate::volumes::edges::Edges;
use crate::volumes::fields::u32_be;

/// The first block names the size of blocks, the second begins the map.
pub(super) fn is_apple(edges: &Edges<'_>) -> Answer {
    let map = [512, 1024, 2048, 4096].map(|block| edges.has(block, b"PM\0\0"));
    answer::all([edges.has(0, b"ER"), answer::any(map)])
}

/// A sector signed near its end, in which all words come to nothing.
pub(super) fn is_sun(edges: &Edges<'_>) -> Answer {
    let Some(sector) = edges.bytes(0, 512)? else {
        return Ok(false);
    };
    let sum = sector.chunks_exact(2).fold(0, |sum, word| {
        sum ^ <[u8; 2]>::try_from(word).map_or(0, u16::from_be_bytes)
    });
    Ok(edges.has(508, b"\xda\xbe")? && sum == 0)
}

/// Where the root sector of an Atari has the number of sectors of the disk, four partitions, and the list of bad
/// sectors.
const SECTORS: usize = 0x1c2;
const PARTITIONS: [usize; 4] = [0x1c6, 0x1d2, 0x1de, 0x1ea];
const BAD_SECTORS: usize = 0x1f6;

/// An Atari's has no signature: what it says of the disk has to be possible. A boot sector of a PC, which is signed, is
/// none, whatever its text says.
pub(super) fn is_atari(edges: &Edges<'_>) -> Answer {
    let has_sectors_of_512 = edges.sector_size().is_none_or(|size| size == 512);
    let there = edges.len() / 512;
    let Some(sector) = edges.bytes(0, 512)?.filter(|_| has_sectors_of_512) else {
        return Ok(false);
    };
    let sectors = u64::from(u32_be(&sector, SECTORS));
    let is_disk = there <= 0x7fff_ffff && (2..=there).contains(&sectors) && !sector.ends_with(&[0x55, 0xaa]);
    let dimension = |at: usize| (u32_be(&sector, at), u32_be(&sector, at.plus(4)));
    let bad = dimension(BAD_SECTORS);
    let is_partition = |at: &usize| {
        let entry = sector.get(*at..).and_then(<[u8]>::first_chunk);
        let is_named = |entry: &[u8; 4]| {
            let [flags, id @ ..] = entry;
            flags & 1 != 0 && id.iter().all(u8::is_ascii_alphanumeric)
        };
        entry.is_some_and(is_named) && lies_in(dimension(at.plus(4)), sectors)
    };
    Ok(is_disk && (bad == (0, 0) || lies_in(bad, sectors)) && PARTITIONS.iter().any(is_partition))
}

/// Whether something of a start and a size, in sectors, is there and lies in the disk behind its first sector.
fn lies_in((start, size): (u32, u32), sectors: u64) -> bool {
    let end = u64::from(start).plus(u64::from(size));
    start != 0 && size != 0 && end <= sectors
}
