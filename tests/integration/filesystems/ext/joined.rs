//! With a journal that needs recovery, what is in use before and what is in use after it are both in use. debugfs
//! writes the journals.

use std::fs;

use super::{MIB, Place, assert_exact, bitmap_of, debugfs, doubt, files, free, make, without_holes};

/// In bytes.
const BLOCK: usize = 1024;

/// One group, whose bitmap a journal shall change: its place and what it is now, and a file for what it shall be.
struct Given {
    place: Place,
    disk: std::path::PathBuf,
    at: u64,
    bits: Vec<u8>,
}

impl Given {
    fn new(name: &str) -> Self {
        let place = Place::new(name, 8 * MIB);
        let files = files(&place);
        let options = format!("-t ext4 -b 1024 -O ^metadata_csum -d {files}");
        let disk = make(&place, 8 * MIB, &options);
        assert_exact(&disk);
        let at = bitmap_of(&disk, 0);
        let bits = fs::read(&disk).unwrap()[at as usize * BLOCK..][..BLOCK].to_vec();
        Self {
            place,
            disk,
            at,
            bits,
        }
    }

    /// Commits a transaction that has this bitmap.
    fn commit(&self, bits: &[u8]) {
        let file = self.place.dir.join("bitmap");
        fs::write(&file, bits).unwrap();
        debugfs(
            &self.disk,
            &format!("jo\njw -b {} {}\njc\n", self.at, file.display()),
        );
        without_holes(&self.disk);
    }
}

#[test]
fn what_the_journal_frees_and_what_it_takes_is_in_use_as_root() {
    let given = Given::new("ext-joined");
    let before = free(&given.disk);
    // Eight blocks become free, and eight others are taken: the count of the group stays.
    let taken = given.bits.iter().position(|byte| *byte == 0).unwrap();
    let freed = given.bits[..taken]
        .iter()
        .rposition(|byte| *byte == 0xff)
        .unwrap();
    let mut bits = given.bits.clone();
    (bits[taken], bits[freed]) = (0xff, 0);

    given.commit(&bits);

    let first = (1 + 8 * taken) as u64 * 1024;
    let taken = first..first + 8 * 1024;
    let after = free(&given.disk);
    let mut expected = Vec::new();
    for range in before {
        expected.push(range.start..range.end.min(taken.start).max(range.start));
        expected.push(range.start.max(taken.end).min(range.end)..range.end);
    }
    expected.retain(|range| !range.is_empty());
    assert_eq!(after, expected);
}

#[test]
fn what_the_journal_leads_to_must_fit_together_as_root() {
    let given = Given::new("ext-joined-count");
    let mut bits = given.bits.clone();
    let free = bits.iter().position(|byte| *byte == 0).unwrap();
    bits[free] = 1;

    given.commit(&bits);

    assert!(doubt(&given.disk).starts_with("free clusters of a group:"));
}
