//! Members of arrays of Linux's md: a clean mirror is looked into, wherever its superblock lies.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use mkqcow2::volumes::{Allocation, Region, State};

use super::patched::{Bases, Patched};
use super::proof::MIB;
use crate::support::{Dice, Dir, noise, tool};

const SIZE: u64 = 8 * MIB;

/// Where superblocks of versions 1.0 and 0.90 are.
const END: u64 = SIZE - (8 << 10);
const OLD: u64 = SIZE - (64 << 10);

/// A filesystem of 4 MiB.
fn content() -> Vec<u8> {
    fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ext4.raw")).unwrap()
}

/// A member of an array, as whoever reads `mdp_superblock_1` or `mdp_super_t` finds it.
struct Member {
    bytes: Vec<u8>,
    superblock: u64,
    is_old: bool,
    /// Of version 0.90: by a machine of the other byte order.
    is_swapped: bool,
}

impl Member {
    /// A clean one of version 1, with `testdata/ext4.raw` in it.
    fn new(superblock: u64, content_at: u64) -> Self {
        let mut member = Self::with_content(superblock, content_at);
        member.put32(0, 0xa92b_4efc);
        member.put32(4, 1);
        member.put(16, &[7; 16]);
        member.put(32, b"host:data");
        member.put32(72, 1);
        member.put64(80, 4 * MIB / 512);
        member.put32(92, 2);
        member.put64(128, content_at / 512);
        member.put64(136, (4 * MIB + (64 << 10)) / 512);
        member.put64(144, superblock / 512);
        member.put32(160, 1);
        member.put64(208, u64::MAX);
        member.put32(220, 128);
        member.put(256, &[0xff; 256]);
        member.put(256, &[0, 0, 1, 0]);
        member.summed()
    }

    /// A clean one of version 0.90.
    fn old(is_swapped: bool) -> Self {
        let mut member = Self::with_content(OLD, 0);
        (member.is_old, member.is_swapped) = (true, is_swapped);
        let clean = [(0, 0xa92b_4efc), (2, 90), (3, 3), (5, 0x1234_5678), (7, 1)];
        let more = [(8, (4 * MIB / 1024) as u32), (9, 2), (10, 2), (33, 1), (996, 6)];
        for (word, value) in clean.into_iter().chain(more) {
            member.put32(word * 4, value);
        }
        member.summed()
    }

    fn with_content(superblock: u64, content_at: u64) -> Self {
        let mut bytes = vec![0xa5; SIZE as usize];
        let content = content();
        bytes[content_at as usize..][..content.len()].copy_from_slice(&content);
        bytes[superblock as usize..][..4096].fill(0);
        Self {
            bytes,
            superblock,
            is_old: false,
            is_swapped: false,
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bytes[(self.superblock + at) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn put32(&mut self, at: u64, value: u32) {
        let bytes = if self.is_swapped {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.put(at, &bytes);
    }

    fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// With the checksum that the kernel takes: words of 32 bits, the two halves of their sum added.
    fn summed(mut self) -> Self {
        let (at, length) = if self.is_old {
            (152, 4096)
        } else {
            (216, 256 + 256)
        };
        self.put32(at, 0);
        let superblock = &self.bytes[self.superblock as usize..][..length];
        let from = if self.is_swapped {
            u32::from_be_bytes
        } else {
            u32::from_le_bytes
        };
        let words = superblock.chunks_exact(4);
        let sum: u64 = words.map(|word| u64::from(from(word.try_into().unwrap()))).sum();
        self.put32(at, ((sum >> 32) as u32).wrapping_add(sum as u32));
        self
    }

    /// With other values in some fields of 32 bits.
    fn with(mut self, fields: &[(u64, u32)]) -> Self {
        for (at, value) in fields {
            self.put32(*at, *value);
        }
        self.summed()
    }

    fn scan(&self) -> Allocation {
        Patched::new(&self.bytes).scan()
    }

    /// What mdadm says of it.
    fn examined(&self, name: &str) -> String {
        let dir = Dir::new(&format!("raid-{name}"));
        let path: PathBuf = dir.join("member.raw");
        fs::write(&path, &self.bytes).unwrap();
        tool("mdadm", ["--examine", path.to_str().unwrap()])
    }
}

#[track_caller]
fn assert_whole(member: &Member, words: &str) {
    let allocation = member.scan();
    let region: &Region = &allocation.regions[0];
    let why = region.why_whole().unwrap_or_default();
    assert!(why.contains(words), "expected {words:?}: {region:?}");
    assert_eq!((region.used, allocation.regions.len()), (SIZE, 1));
}

/// The versions, each with where its content lies.
fn all() -> [(&'static str, Member, u64); 6] {
    [
        ("1.0", Member::new(END, 0), 0),
        ("1.1", Member::new(0, MIB), MIB),
        ("1.2", Member::new(4096, MIB), MIB),
        ("1.2", Member::new(4096, 64 << 10), 64 << 10),
        ("0.90", Member::old(false), 0),
        ("0.90", Member::old(true), 0),
    ]
}

#[test]
fn the_filesystem_in_a_clean_mirror_is_mapped_and_all_around_it_is_in_use() {
    let content = content();
    let alone = Patched::new(&content).scan();
    for (version, member, at) in all() {
        let allocation = member.scan();
        let [whole, array] = &*allocation.regions else {
            panic!("{version}: {:?}", allocation.regions);
        };
        assert_eq!((whole.name, array.name), (Some("Linux RAID"), Some("ext4")));
        let details = whole.details.iter();
        let details: Vec<_> = details.map(|detail| (detail.key, &*detail.value)).collect();
        let uuid = if version == "0.90" {
            "12345678:00000000:00000000:00000000"
        } else {
            assert_eq!(whole.label.as_deref(), Some("host:data"));
            "07070707:07070707:07070707:07070707"
        };
        assert_eq!(
            details,
            [("uuid", uuid), ("level", "raid1"), ("metadata", version)]
        );
        let free = |allocation: &Allocation, from: u64| -> Vec<Range<u64>> {
            let parts = allocation.map.parts();
            let free = parts.filter(|(_, state, _)| *state == State::Free);
            free.map(|(range, ..)| range.start - from..range.end - from)
                .collect()
        };
        let expected = free(&alone, 0);
        assert!(!expected.is_empty());
        assert_eq!(free(&allocation, at), expected, "{version}");
    }
}

#[test]
fn mdadm_takes_these_for_members_of_a_clean_mirror() {
    for (number, (version, member, _)) in all().iter().enumerate() {
        if member.is_swapped {
            continue;
        }
        let told = member.examined(&format!("examined-{number}"));
        for words in ["Raid Level : raid1", "State : clean", "- correct"] {
            assert!(told.contains(words), "{version}: {words:?} is not in\n{told}");
        }
        assert!(told.contains(&format!("Version : {version}")), "{told}");
    }
}

#[test]
fn a_mirror_that_is_not_clean_is_copied_whole() {
    let new = || Member::new(4096, MIB);
    // In use or not in sync; a spare, a failed member, one whose role is not there.
    assert_whole(&new().with(&[(208, 0), (212, 0)]), "members may differ");
    assert_whole(&new().with(&[(208, 4096), (212, 0)]), "members may differ");
    for role in [0xffff_ffff, 0xfffe_ffff, 0xfffd_ffff] {
        assert_whole(&new().with(&[(256, role)]), "it is a spare");
    }
    assert_whole(&new().with(&[(160, 128)]), "it is a spare");
    // Rebuilding, reshaping, and what no version has yet.
    for feature in [2, 4, 0x10, 0x20, 0x40, 0x80, 0x100, 0x8000_0000] {
        assert_whole(&new().with(&[(8, feature)]), "feature_map");
    }
    // More than the member has, or nothing.
    assert_whole(&new().with(&[(80, 0)]), "size is 0x0");
    assert_whole(&new().with(&[(80, u32::MAX)]), "size is 0xffffffff");
    assert_whole(
        &new().with(&[(128, 8), (80, 8)]),
        "its superblock lies in its content",
    );
    assert_whole(&new().with(&[(132, 1)]), "past the end");
    assert_whole(&Member::new(4096, 0), "its superblock lies in its content");

    let old = || Member::old(false);
    assert_whole(&old().with(&[(132, 0)]), "members may differ");
    assert_whole(&old().with(&[(132, 3)]), "members may differ");
    for state in [0, 1, 2, 7, 8] {
        assert_whole(&old().with(&[(996 * 4, state)]), "it is a spare");
    }
    assert_whole(&old().with(&[(8, 91)]), "being reshaped");
    assert_whole(
        &old().with(&[(32, (SIZE >> 10) as u32)]),
        "its superblock lies in its content",
    );
}

#[test]
fn a_list_of_bad_blocks_must_be_empty() {
    // Sixteen sectors behind the superblock, one sector long.
    let list = [(8, 8), (184, 1 << 16), (188, 16)];
    let mut empty = Member::new(4096, MIB).with(&list);
    empty.put(8192, &[0xff; 512]);
    assert_eq!(empty.scan().regions.len(), 2);
    let mut bad = Member::new(4096, MIB).with(&list);
    bad.put(8192, &[0xff; 512]);
    bad.put(8192, &[0; 8]);
    assert_whole(&bad, "list of bad blocks is not empty");
    let nowhere = Member::new(4096, MIB).with(&[(8, 8)]);
    assert_whole(&nowhere, "bblog_offset");
}

#[test]
fn a_member_of_another_level_is_copied_whole_and_named() {
    for (level, name) in [(0, "raid0"), (5, "raid5"), (10, "raid10"), (u32::MAX, "linear")] {
        let member = Member::new(4096, MIB).with(&[(72, level)]);
        assert_whole(&member, &format!("a member of {name} holds only a part"));
    }
    // Where the content begins there is something that looks like the whole, and is not.
    for member in [
        Member::new(END, 0).with(&[(72, 5)]),
        Member::old(false).with(&[(28, 5)]),
    ] {
        assert_whole(&member, "it looks like Linux RAID and like ext2/3/4");
    }
}

#[test]
fn a_superblock_that_says_it_is_elsewhere_is_none() {
    let member = Member::new(END, 0).with(&[(144, 8)]);
    let regions = member.scan().regions;
    assert_eq!((regions.len(), regions[0].name), (1, Some("ext4")));
}

#[test]
fn a_filesystem_that_reaches_behind_its_mirror_is_copied_whole() {
    let size = (4 * MIB - (64 << 10)) as u32;
    for member in [
        Member::new(END, 0).with(&[(80, size / 512)]),
        Member::old(false).with(&[(32, size / 1024)]),
    ] {
        let regions = member.scan().regions;
        let why = regions[1].why_whole().unwrap_or_default();
        assert!(why.contains("past the end"), "{regions:?}");
        assert_eq!(regions[0].used, SIZE);
    }
}

#[test]
fn no_damage_to_a_superblock_makes_anything_free_that_was_not() {
    for (version, member, _) in all() {
        let used: Vec<_> = member.scan().map.extents().to_vec();
        for seed in 0..300 {
            let mut dice = Dice::new(seed);
            let mut damaged = Patched::new(&member.bytes);
            for _ in 0..=dice.below(3) {
                let at = member.superblock + dice.below(512);
                damaged.put(at, &[damaged.byte(at) ^ (1 << dice.below(8))]);
            }
            let found = damaged.scan();
            for extent in &used {
                let lost = found.map.bytes_in(State::Free, &extent.range);
                assert_eq!(lost, 0, "{version}, seed {seed}: {:?}", found.regions);
            }
        }
        let bases = Bases::new([member.bytes]);
        for seed in 0..300 {
            let length = Dice::new(seed).below(80) as usize;
            bases.scan_changed(&noise(seed, length));
        }
    }
}
