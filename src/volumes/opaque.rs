//! Well-known formats of which it is not known here what is free in them: all of them is copied.
//!
//! They have to be recognised nevertheless. Many of them leave what was there before in place: behind the superblock
//! of an encrypted volume or of a RAID, that of an old filesystem may look as good as ever, and its map would call
//! free what is in use. What looks like one of these and like something else is copied whole.

mod minix;
mod raid;
mod refined;
mod tables;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
mod xfs_log;

use std::ops::Range;

use super::answer::{self, Answer};
use super::containers::md;
use super::doubt::Doubt;
use super::edges::Edges;
use super::view::View;
use crate::signatures::{CONTENT, DRBD_NAME, IMAGES, Mark, Signature};
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

/// The name of a format that leaves nothing in place of what was there before, so that it says nothing where something
/// else is recognised. What cannot be read is none.
pub(super) fn name_of_last_resort(view: View<'_>) -> Option<&'static str> {
    xfs_log::is(view).then_some("XFS external log")
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
const COMPUTED: [(&str, Test); 11] = [
    (md::READER.name, md::is),
    (DRBD_NAME, raid::is_drbd),
    ("Promise RAID", raid::is_promise),
    ("VIA RAID", raid::is_via),
    ("JMicron RAID", raid::is_jmicron),
    ("Apple Core Storage", is_core_storage),
    ("ZFS", is_zfs),
    ("minix", minix::is),
    ("Apple partition map", tables::is_apple),
    ("Sun disk label", tables::is_sun),
    ("Atari partition table", tables::is_atari),
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
