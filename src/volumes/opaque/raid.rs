//! Members of RAIDs other than Linux's md. Source: the makers' formats as libblkid knows them, and drbdmeta(8).

use std::borrow::Cow;

use crate::signatures::{DRBD, DRBD_MAGIC};
use crate::units::Exact;
use crate::volumes::answer::{self, Answer};
use crate::volumes::doubt::Doubt;
use crate::volumes::edges::Edges;

/// DRBD writes its last block in a place that 4 KiB divide, which is not 4 KiB before each end.
pub(super) fn is_drbd(edges: &Edges<'_>) -> Answer {
    let magic = edges.before_end(4096, 4096).map(|block| block.plus(DRBD_MAGIC));
    answer::any(DRBD.iter().map(|bytes| edges.has_at(magic, bytes)))
}

/// Promise's is in one of many places near the end.
pub(super) fn is_promise(edges: &Edges<'_>) -> Answer {
    const SECTORS: [u64; 13] = [16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991, 3087];
    answer::any(SECTORS.iter().map(|sector| {
        let at = edges.before_end(sector.times(512), 512);
        edges.has_at(at, b"Promise Technology, Inc.")
    }))
}

/// VIA's signature is short, but there is a sum of what follows it.
pub(super) fn is_via(edges: &Edges<'_>) -> Answer {
    let sector = last_sector(edges, 51)?;
    let Some((sum, summed)) = sector.as_deref().and_then(<[u8]>::split_last) else {
        return Ok(false);
    };
    let is_signed = matches!(summed, [0x55, 0xaa, 0..=2, ..]);
    Ok(is_signed && summed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == *sum)
}

/// `JM` is no long signature either, but the 16-bit words of what it begins come to 0, or to 1.
pub(super) fn is_jmicron(edges: &Edges<'_>) -> Answer {
    let Some(summed) = last_sector(edges, 128)? else {
        return Ok(false);
    };
    let sum = summed.chunks_exact(2).fold(0_u16, |sum, word| {
        sum.wrapping_add(<[u8; 2]>::try_from(word).map_or(0, u16::from_le_bytes))
    });
    Ok(summed.starts_with(b"JM") && sum <= 1)
}

/// What the last whole sector begins with, if there is one.
fn last_sector<'a>(edges: &'a Edges<'_>, length: u64) -> Result<Option<Cow<'a, [u8]>>, Doubt> {
    edges
        .before_end(512, 512)
        .map_or(Ok(None), |at| edges.bytes(at, length))
}
