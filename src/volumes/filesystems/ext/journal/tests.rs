//! Journals made block by block, by code that knows nothing of the code that reads them.

#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod build;

use super::Journal;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::ext::blocks::Replay as _;
use crate::volumes::view::View;
use build::{BLOCK, Disk, Features};

/// Every format that a journal can have.
fn formats() -> Vec<Features> {
    let mut formats = vec![Features::VERSION_1];
    for (compat, incompat) in [(0, 0), (1, 0), (1, 4), (0, 8), (0, 0x10), (0, 0x14)] {
        for wide in [0, 2] {
            let incompat = 1 | incompat | wide;
            formats.push(Features {
                version: 2,
                compat,
                incompat,
            });
        }
    }
    formats
}

fn filled(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK]
}

/// What the journal says that a block will hold.
fn replayed(disk: &Disk, home: u64) -> Result<Option<Vec<u8>>, Doubt> {
    Journal::open(&disk.place(View::of(&disk.memory)))?
        .replay()?
        .block(home)
}

/// Why the journal cannot be replayed.
fn doubt(disk: &Disk) -> String {
    match Journal::open(&disk.place(View::of(&disk.memory))).and_then(Journal::replay) {
        Ok(replay) => panic!("replayed: {replay:?}"),
        Err(doubt) => doubt.to_string(),
    }
}

#[test]
fn an_empty_journal_changes_nothing() {
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(0, 7);

        let journal = Journal::open(&disk.place(View::of(&disk.memory))).unwrap();
        assert!(journal.is_empty().unwrap());
        assert_eq!(replayed(&disk, 3000).unwrap(), None);
    }
}

#[test]
fn the_last_committed_copy_counts_in_every_format() {
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1)), (3001, filled(2))]);
        disk.descriptor(&[(3002, filled(3))]);
        disk.commit();
        disk.descriptor(&[(3001, filled(4)), (3003, filled(5)), (3001, filled(6))]);
        disk.commit();

        for (home, byte) in [(3000, 1), (3001, 6), (3002, 3), (3003, 5)] {
            assert_eq!(
                replayed(&disk, home).unwrap(),
                Some(filled(byte)),
                "{features:?}, {home}"
            );
        }
        assert_eq!(replayed(&disk, 2999).unwrap(), None);
        let journal = Journal::open(&disk.place(View::of(&disk.memory))).unwrap();
        assert!(!journal.is_empty().unwrap());
    }
}

#[test]
fn a_transaction_without_its_commit_is_ignored() {
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1))]);
        disk.commit();
        disk.descriptor(&[(3000, filled(2)), (3001, filled(2))]);
        disk.revoke(&[3000]);

        assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)), "{features:?}");
        assert_eq!(replayed(&disk, 3001).unwrap(), None, "{features:?}");
    }
}

#[test]
fn what_is_left_of_an_earlier_round_is_not_of_the_log() {
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1))]);
        disk.commit();
        disk.sequence = 3;
        disk.descriptor(&[(3000, filled(2))]);
        disk.commit();

        assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)), "{features:?}");
    }
}

#[test]
fn a_copy_that_begins_like_a_block_of_the_log_gets_its_beginning_back() {
    let mut content = filled(9);
    content[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, content.clone()), (3001, filled(1))]);
        disk.commit();

        assert_eq!(
            replayed(&disk, 3000).unwrap().as_ref(),
            Some(&content),
            "{features:?}"
        );
        assert_eq!(replayed(&disk, 3001).unwrap(), Some(filled(1)), "{features:?}");
    }
}

#[test]
fn a_revocation_is_for_copies_of_its_own_transaction_and_of_earlier_ones() {
    for features in formats() {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1)), (3001, filled(1)), (3002, filled(1))]);
        disk.commit();
        disk.revoke(&[3000, 3001]);
        disk.descriptor(&[(3001, filled(2)), (3003, filled(2))]);
        disk.commit();
        disk.descriptor(&[(3000, filled(3))]);
        disk.commit();

        for (home, byte) in [(3000, Some(3)), (3001, None), (3002, Some(1)), (3003, Some(2))] {
            assert_eq!(
                replayed(&disk, home).unwrap(),
                byte.map(filled),
                "{features:?}, {home}"
            );
        }
    }
}

#[test]
fn the_log_goes_on_with_its_first_block_and_numbers_begin_anew() {
    for features in formats() {
        for back in 1..7 {
            let mut disk = Disk::new(features);
            let start = disk.last - back;
            disk.superblock(start, u32::MAX - 1);
            for byte in 1..=4 {
                disk.descriptor(&[(3000, filled(byte)), (3000 + u64::from(byte), filled(byte))]);
                if byte == 3 {
                    disk.revoke(&[3002]);
                }
                disk.commit();
            }

            for (home, byte) in [(3000, Some(4)), (3001, Some(1)), (3002, None), (3003, Some(3))] {
                assert_eq!(
                    replayed(&disk, home).unwrap(),
                    byte.map(filled),
                    "{features:?}, {home}"
                );
            }
        }
    }
}

#[test]
fn a_committed_transaction_must_be_what_its_checksums_say() {
    for features in formats().into_iter().filter(|features| features.has_checksums()) {
        // Descriptor, copy, revocation, commit, each in its midst or where it has something; another commit follows.
        for (block, byte) in [(1, 20), (2, 500), (3, 17), (4, 60)] {
            let mut disk = Disk::new(features);
            disk.superblock(1, 7);
            disk.descriptor(&[(3000, filled(1))]);
            disk.revoke(&[3009]);
            disk.commit();
            disk.descriptor(&[(3000, filled(2))]);
            disk.commit();
            assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(2)));
            disk.log(block)[byte] ^= 0x10;
            // Version 1 knows nothing of revocations, and of commits nothing but the sum.
            if features.compat == 1 && block > 2 {
                assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(2)));
                continue;
            }
            let doubt = doubt(&disk);
            assert!(
                doubt.contains("checksum") || doubt.contains("changes blocks"),
                "{features:?}, {block}: {doubt}"
            );
        }
    }
}

#[test]
fn what_is_not_committed_may_be_anything() {
    for features in formats() {
        for block in 4..7 {
            let mut disk = Disk::new(features);
            disk.superblock(1, 7);
            disk.descriptor(&[(3000, filled(1))]);
            disk.commit();
            disk.descriptor(&[(3000, filled(2)), (1, filled(2))]);
            disk.revoke(&[3000]);
            disk.log(block)[700] ^= 1;

            assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)), "{features:?}");
        }
    }
}

#[test]
fn a_commit_that_came_too_early_ends_the_log_if_it_may_come_early() {
    for features in formats().into_iter().filter(|features| features.has_checksums()) {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1))]);
        disk.commit();
        disk.descriptor(&[(3000, filled(2))]);
        disk.commit();
        disk.log(6)[17] ^= 1;

        if features.incompat & 4 == 0 {
            assert!(doubt(&disk).contains("journal commit"), "{features:?}");
        } else {
            assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)), "{features:?}");
        }
    }
}

#[test]
fn a_log_that_never_ends_is_refused() {
    let mut disk = Disk::new(Features::VERSION_1);
    disk.superblock(1, 7);
    for _ in 1..disk.last {
        disk.revoke(&[]);
    }
    assert!(doubt(&disk).contains("does not end"));
}

#[test]
fn blocks_that_are_the_journals_own_or_nobodys_are_not_changed() {
    let mut disk = Disk::new(Features::VERSION_1);
    let own = [
        disk.physical(0),
        disk.physical(1023),
        u64::from(u32::MAX),
        disk.blocks(),
    ];
    for home in own {
        disk.superblock(1, 7);
        disk.at = 1;
        disk.sequence = 7;
        disk.descriptor(&[(home, filled(1))]);
        disk.commit();
        assert!(
            doubt(&disk).contains("changes blocks that no journal may change"),
            "{home}"
        );
    }
}

#[test]
fn numbers_of_64_bits_count_only_where_there_are_such() {
    let mut disk = Disk::new(Features {
        version: 2,
        compat: 0,
        incompat: 0x13,
    });
    disk.superblock(1, 7);
    disk.descriptor(&[((1 << 32) + 3000, filled(1))]);
    disk.commit();
    assert!(doubt(&disk).contains("changes blocks that no journal may change"));
}

#[test]
fn a_superblock_that_is_odd_is_refused() {
    let odd: [(usize, u32, &str); 13] = [
        (0, 1, "h_magic"),
        (4, 5, "h_blocktype"),
        (12, 2048, "s_blocksize"),
        (16, 1025, "s_maxlen"),
        (16, 1023, "s_maxlen"),
        (20, 0, "s_first"),
        (20, 1024, "s_first"),
        (28, 1024, "s_start"),
        (32, 5, "s_errno"),
        (36, 2, "s_feature_compat"),
        (40, 0x40, "s_feature_incompat"),
        (40, 0x18, "checksums of two versions"),
        (44, 1, "s_feature_ro_compat"),
    ];
    for (field, value, says) in odd {
        let mut disk = Disk::new(Features {
            version: 2,
            compat: 0,
            incompat: 0,
        });
        disk.superblock(1, 7);
        disk.log(0)[field..field + 4].copy_from_slice(&value.to_be_bytes());
        let doubt = doubt(&disk);
        assert!(doubt.contains(says), "{field}: {doubt}");
    }
    let mut disk = Disk::new(Features {
        version: 2,
        compat: 0,
        incompat: 0x10,
    });
    disk.superblock(1, 7);
    disk.log(0)[1000] ^= 1;
    assert!(doubt(&disk).contains("journal superblock") && doubt(&disk).contains("checksum"));
}

#[test]
fn fast_commits_of_the_next_transaction_are_not_ignored() {
    let features = Features {
        version: 2,
        compat: 0,
        incompat: 0x33,
    };
    for (tid, found) in [(7, false), (8, true), (9, true)] {
        let mut disk = Disk::new(features);
        disk.superblock(1, 7);
        disk.descriptor(&[(3000, filled(1))]);
        disk.commit();
        let place = disk.last + 1;
        disk.log(place)[..4].copy_from_slice(&[9, 0, 8, 0]);
        disk.log(place)[8..12].copy_from_slice(&u32::to_le_bytes(tid));
        if found {
            assert!(doubt(&disk).contains("fast commits"), "{tid}");
        } else {
            assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)));
        }
    }
}

#[test]
fn a_log_that_goes_on_with_its_first_block_is_doubted_if_readers_look_elsewhere() {
    let features = Features {
        version: 2,
        compat: 0,
        incompat: 0x33,
    };
    for (back, goes_on) in [(4, false), (3, true), (2, true), (1, true)] {
        let mut disk = Disk::new(features);
        let start = disk.last - back;
        disk.superblock(start, 7);
        disk.descriptor(&[(3000, filled(1))]);
        disk.commit();
        if goes_on {
            assert!(doubt(&disk).contains("wraps around to its beginning"), "{back}");
        } else {
            assert_eq!(replayed(&disk, 3000).unwrap(), Some(filled(1)));
        }
    }
}

#[test]
fn a_journal_lies_where_its_inode_says() {
    for features in formats() {
        for lay in [Disk::by_tree, Disk::by_blocks, Disk::by_checked_tree] {
            let mut disk = Disk::new(features);
            lay(&mut disk);
            disk.superblock(1020, 7);
            disk.descriptor(&[(3000, filled(1)), (3001, filled(2)), (3002, filled(3))]);
            disk.commit();
            for (home, byte) in [(3000, 1), (3001, 2), (3002, 3)] {
                assert_eq!(replayed(&disk, home).unwrap(), Some(filled(byte)), "{features:?}");
            }
        }
    }
}

#[test]
fn a_damaged_inode_or_tree_is_refused() {
    for byte in [0, 4, 26, 33, 40, 42, 46, 52, 56, 60] {
        let mut disk = Disk::new(Features::VERSION_1);
        disk.by_checked_tree();
        disk.superblock(0, 7);
        disk.inode()[byte] ^= 0x88;
        assert!(doubt(&disk).contains("journal inode"), "{byte}: {}", doubt(&disk));
    }
    for byte in [0, 2, 6, 12, 16, 20, 24, 1020] {
        let mut disk = Disk::new(Features::VERSION_1);
        disk.by_checked_tree();
        disk.superblock(0, 7);
        disk.leaf()[byte] ^= 0x81;
        assert!(doubt(&disk).contains("tree of the journal"), "{byte}");
        // Whatever the checksum.
        if byte < 1000 {
            disk.by_tree();
            disk.leaf()[byte] ^= 0x81;
            let _ = doubt(&disk);
        }
    }
}
