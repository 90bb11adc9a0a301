//! Well-known formats of which it is not known here what is free in them: all of them is copied.
//!
//! They have to be recognised nevertheless. Many of them leave what was there before in place: behind the superblock
//! of an encrypted volume or of a RAID, that of an old filesystem may look as good as ever, and its map would call
//! free what is in use. What looks like one of these and like something else is copied whole.

mod raid;
mod refined;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;

use std::ops::Range;

use super::answer::{self, Answer};
use super::containers::md;
use super::doubt::Doubt;
use super::edges::Edges;
use super::view::View;
use crate::signatures::{CONTENT, IMAGES, Mark, Signature};
use crate::units::Exact;

/// The name of the format that a stretch carries the signature of, if it is one of these.
///
/// # Errors
///
/// It cannot be read where a signature would be, and has no other one.
pub(super) fn name(view: View<'_>) -> Result<Option<&'static str>, Doubt> {
    name_in(&Edges::of(view))
}

/// The same, where the bytes of a range are known to be no signature even if they cannot be read.
pub(super) fn name_but(view: View<'_>, excused: Range<u64>) -> Result<Option<&'static str>, Doubt> {
    name_in(&Edges::of(view).but(excused))
}

fn name_in(edges: &Edges<'_>) -> Result<Option<&'static str>, Doubt> {
    let of_table = answer::first(known(), |format| is_in(format, edges));
    if let Ok(Some(format)) = of_table {
        return Ok(Some(refined::name(format.name, edges)));
    }
    match answer::first(&COMPUTED, |(_, is_in)| is_in(edges)) {
        Ok(Some((name, _))) => Ok(Some(name)),
        Ok(None) => of_table.map(|_| None),
        Err(doubt) => of_table.and(Err(doubt)),
    }
}

/// Whatever holds other things comes first, then filesystems, other partition tables, and images of disks.
fn known() -> impl Iterator<Item = &'static Signature> {
    CONTENT.iter().chain(IMAGES.iter().map(|image| &image.signature))
}

/// Whether a stretch has one of the marks of a format.
fn is_in(format: &Signature, edges: &Edges<'_>) -> Answer {
    answer::any(format.marks.iter().map(|mark| match mark {
        Mark::At(at, bytes) => edges.has(*at, bytes),
        Mark::Back(back, bytes) => edges.has_at(edges.before_end(*back, 512), bytes),
    }))
}

/// Whether a stretch begins as a hash tree of dm-verity does. Source: the superblock of veritysetup(8).
pub(super) fn is_hash_tree(view: View<'_>) -> Answer {
    view.has(0, VERITY)
}

/// Whether a hash tree protects the first `size` bytes: it follows them, or the end tells of it as Android has it.
pub(super) fn is_verified(view: View<'_>, size: u64) -> Answer {
    const FOOTER: u64 = 64;
    let follows = [512, 4096].map(|block| view.has(size.next_multiple_of(block), VERITY));
    let footer = view.len().checked_sub(FOOTER);
    let footer = footer.map_or(Ok(false), |at| view.has(at, b"AVBf"));
    answer::any(follows.into_iter().chain([footer]))
}

const VERITY: &[u8] = b"verity\0\0";

/// Whether a stretch is in a format.
type Test = fn(&Edges<'_>) -> Answer;

/// Those whose signature is more than some bytes in some place.
const COMPUTED: [(&str, Test); 9] = [
    (md::READER.name, md::is),
    ("Promise RAID", raid::is_promise),
    ("VIA RAID", raid::is_via),
    ("JMicron RAID", raid::is_jmicron),
    ("Apple Core Storage", is_core_storage),
    ("ZFS", is_zfs),
    ("minix", is_minix),
    ("Apple partition map", is_apple_map),
    ("Sun disk label", is_sun_label),
];

/// A label of ZFS begins with a list of names and values, in the external data representation, of which the first is
/// the version. There are four of them; a pool without both of the first is nothing that is in use.
fn is_zfs(edges: &Edges<'_>) -> Answer {
    const LABELS: [u64; 2] = [0, 256 << 10];
    const LIST: u64 = 16 << 10;
    answer::any(LABELS.iter().map(|label| {
        let list = label.plus(LIST);
        let version = list.plus(20);
        answer::all([edges.has(list, b"\x01"), edges.has(version, b"\0\0\0\x07version")])
    }))
}

/// A short signature again, between a version and the kind of checksum: of either there is one.
fn is_core_storage(edges: &Edges<'_>) -> Answer {
    answer::all([edges.has(8, b"\x01\0"), edges.has(88, b"CS\x01\0\0\0")])
}

/// Its superblock is where that of ext4 is, and its signature so short that a number of that may look like it.
fn is_minix(edges: &Edges<'_>) -> Answer {
    const SUPERBLOCK: u64 = 1024;
    let has = |at: u64, bytes: &[u8]| edges.has(SUPERBLOCK.plus(at), bytes);
    // Versions 1 and 2, each with short and long names, and version 3.
    let short = [b"\x7f\x13", b"\x8f\x13", b"\x68\x24", b"\x78\x24"].map(|magic| has(16, magic));
    let is_signed = answer::any(short.into_iter().chain([has(24, b"\x5a\x4d")]));
    let is_ext = has(56, b"\x53\xef");
    answer::all([is_signed, is_ext.map(|is_ext| !is_ext)])
}

/// The first block names the size of blocks, the second begins the map.
fn is_apple_map(edges: &Edges<'_>) -> Answer {
    let map = [512, 1024, 2048, 4096].map(|block| edges.has(block, b"PM\0\0"));
    answer::all([edges.has(0, b"ER"), answer::any(map)])
}

/// A sector signed near its end, in which all words come to nothing.
fn is_sun_label(edges: &Edges<'_>) -> Answer {
    let Some(sector) = edges.bytes(0, 512)? else {
        return Ok(false);
    };
    let sum = sector.chunks_exact(2).fold(0, |sum, word| {
        sum ^ <[u8; 2]>::try_from(word).map_or(0, u16::from_be_bytes)
    });
    Ok(edges.has(508, b"\xda\xbe")? && sum == 0)
}
