//! The label of a volume: an entry of its root directory. Source: fatgen103, "FAT Directory Structure"; libblkid, which
//! asks for the label here and nowhere else.

use std::ops::ControlFlow;

use zerocopy::FromBytes;

use super::boot::{Root, Volume};
use super::entries::{DIRECTORY, LABEL, RawEntry};
use super::table::Table;
use crate::units::length;
use crate::volumes::view::View;

/// How many clusters of a root directory are looked into.
const MAX_CLUSTERS: usize = 99;

/// More bits of an entry's attributes: those of a piece of a long name; all there are.
const LONG_NAME: u8 = 0x0f;
const ALL: u8 = 0x3f;

/// The label that the root directory has; none if there is none, or if it cannot be read. That in the boot sector does
/// not count: it is an old one in many volumes.
pub(super) fn label(view: View<'_>, volume: &Volume) -> Option<String> {
    let found = match &volume.root {
        Root::Fixed(range) => looked_for(&view.bytes(ROOT, range.start, length(range)).ok()?),
        Root::Cluster(first) => in_chain(view, volume, *first),
    };
    found.break_value().flatten()
}

/// What [`View::bytes`] calls it.
const ROOT: &str = "root directory";

fn in_chain(view: View<'_>, volume: &Volume, first: u64) -> ControlFlow<Option<String>> {
    let table = Table::new(view, volume, volume.active);
    let clusters = std::iter::successors(Some(first), |cluster| table.next(*cluster).ok().flatten());
    clusters.take(MAX_CLUSTERS).try_for_each(|cluster| {
        let at = volume.heap.offset(cluster);
        let bytes = view.bytes(ROOT, at, volume.heap.cluster_size);
        looked_for(&bytes.unwrap_or_default())
    })
}

/// The label that some entries have, or that no entry follows them.
fn looked_for(entries: &[u8]) -> ControlFlow<Option<String>> {
    let entries = entries.chunks_exact(32);
    let mut entries = entries.filter_map(|entry| RawEntry::read_from_bytes(entry).ok());
    entries.try_for_each(|entry| match entry.name {
        [0, ..] => ControlFlow::Break(None),
        [0xe5, ..] => ControlFlow::Continue(()),
        name if is_label(&entry) => ControlFlow::Break(text(name)),
        _ => ControlFlow::Continue(()),
    })
}

fn is_label(entry: &RawEntry) -> bool {
    entry.attr & ALL != LONG_NAME
        && entry.attr & (LABEL | DIRECTORY) == LABEL
        && entry.fst_clus_hi.get() == 0
        && entry.fst_clus_lo.get() == 0
}

/// A label as text. Which code page it is in is written nowhere: what is not ASCII is shown as what it may be.
fn text(mut name: [u8; 11]) -> Option<String> {
    if let [first @ 0x05, ..] = &mut name {
        // It stands for that which would mean a deleted entry.
        *first = 0xe5;
    }
    let name = String::from_utf8_lossy(&name);
    let name = name.trim_end_matches([' ', '\0']);
    (!name.is_empty() && name != "NO NAME").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8; 11], attr: u8, first: u8) -> Vec<u8> {
        let mut entry = vec![0; 32];
        entry[..11].copy_from_slice(name);
        (entry[11], entry[26]) = (attr, first);
        entry
    }

    #[test]
    fn a_label_is_no_piece_of_a_long_name_no_directory_and_not_deleted() {
        let others = [
            entry(b"\xe5LD        ", LABEL, 0),
            entry(b"LONG       ", LONG_NAME, 0),
            entry(b"LONGER     ", LONG_NAME | 0x40, 0),
            entry(b"DIRECTORY  ", LABEL | DIRECTORY, 0),
            entry(b"FILE       ", 0x20, 0),
            entry(b"CONTENT    ", LABEL, 2),
        ];
        let mut entries = others.concat();
        assert_eq!(looked_for(&entries), ControlFlow::Continue(()));
        entries.extend(entry(b"A LABEL    ", LABEL | 0x20, 0));
        entries.extend(entry(b"SECOND     ", LABEL, 0));
        assert_eq!(
            looked_for(&entries),
            ControlFlow::Break(Some("A LABEL".to_owned()))
        );
    }

    #[test]
    fn nothing_follows_the_first_entry_that_was_never_used() {
        let entries = [entry(&[0; 11], 0, 0), entry(b"OLD        ", LABEL, 0)].concat();
        assert_eq!(looked_for(&entries), ControlFlow::Break(None));
    }

    #[test]
    fn what_is_not_ascii_is_shown_and_what_says_nothing_is_not() {
        assert_eq!(
            text(*b"\x05 \x99A\xff     \0").as_deref(),
            Some("\u{fffd} \u{fffd}A\u{fffd}")
        );
        assert_eq!(text(*b"NO NAME    "), None);
        assert_eq!(text(*b"           "), None);
    }
}
