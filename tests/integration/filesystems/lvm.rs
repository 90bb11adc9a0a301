//! Physical volumes of LVM: what no logical volume has is free, and so is what is free in the filesystem of one that
//! lies there as it is.

pub mod made;
mod mounted;
mod real;
mod thin;

use std::fs;
use std::ops::Range;

use mkqcow2::volumes::{Allocation, Region, State};

use super::patched::{Bases, Patched};
use crate::support::{Dice, Dir, noise, tool};
use made::{AREAS, EXTENT, EXTENTS, Made, SIZE, START, hidden, linear, lv, special, text, volume};

/// How many damaged ones are looked into.
const SEEDS: u64 = 2000;

fn extents(range: Range<u64>) -> Range<u64> {
    START + range.start * EXTENT..START + range.end * EXTENT
}

#[track_caller]
fn assert_free(allocation: &Allocation, range: Range<u64>) {
    let range = extents(range);
    assert_eq!(
        bytes_free(allocation, &range),
        range.end - range.start,
        "{range:?}"
    );
}

#[track_caller]
fn assert_used(allocation: &Allocation, range: Range<u64>) {
    assert_eq!(
        bytes_free(allocation, &extents(range.clone())),
        0,
        "{range:?}: {:?}",
        allocation.regions
    );
}

fn bytes_free(allocation: &Allocation, range: &Range<u64>) -> u64 {
    allocation.map.bytes_in(State::Free, range)
}

fn named<'a>(allocation: &'a Allocation, name: &str) -> &'a Region {
    let is_it = |region: &&Region| region.part.as_ref().and_then(|part| part.label()) == Some(name);
    allocation.regions.iter().find(is_it).expect(name)
}

#[track_caller]
fn assert_whole(allocation: &Allocation, name: &str, words: &str) {
    let region = named(allocation, name);
    let why = region.why_whole().unwrap_or_default();
    assert!(why.contains(words), "{name}: expected {words:?}: {why:?}");
    assert_eq!(region.free(), 0, "{region:?}");
}

/// All of the disk is copied, because of these words.
#[track_caller]
fn assert_distrusted(made: &Made, words: &str) {
    let allocation = made.scan();
    let whole = &allocation.regions[0];
    assert_eq!(whole.name, Some("LVM2"));
    let why = whole.why_whole().unwrap_or_default();
    assert!(why.contains(words), "expected {words:?}: {why:?}");
    assert_eq!((whole.used, allocation.regions.len()), (SIZE, 1));
}

/// A volume in three segments out of order, with others between them, and its filesystem.
fn scattered() -> Made {
    let root = [
        linear("pv0", 100, 20),
        linear("pv0", 10, 30),
        linear("pv0", 60, 14),
    ];
    let text = text(&[volume("data", &[linear("pv0", 40, 5)]), volume("root", &root)]);
    Made::new(&text).filesystem((100..120).chain(10..40).chain(60..74))
}

#[test]
fn a_filesystem_on_a_scattered_volume_is_mapped_as_it_is_alone() {
    let content = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ext4.raw")).unwrap();
    let alone = Patched::new(&content).scan();
    let allocation = scattered().scan();

    let root = named(&allocation, "root");
    assert_eq!(
        (root.name, root.parent, root.size()),
        (Some("ext4"), Some(0), 64 * EXTENT)
    );
    assert_eq!(
        (root.free(), root.metadata),
        (alone.bytes(State::Free), alone.bytes(State::Metadata))
    );
    let pieces = [(0, 100..120), (20, 10..40), (50, 60..74)];
    for (at, range) in pieces {
        let there = extents(range.clone());
        let length = there.end - there.start;
        let in_file = at * EXTENT..at * EXTENT + length;
        assert_eq!(
            bytes_free(&allocation, &there),
            bytes_free(&alone, &in_file),
            "{range:?}"
        );
    }
    // Around volumes: free extents, and what is in no extent.
    assert_used(&allocation, 40..45);
    for range in [0..10, 45..60, 74..100, 120..EXTENTS] {
        assert_free(&allocation, range);
    }
    assert_eq!(bytes_free(&allocation, &(0..START)), 0);
    assert_eq!(bytes_free(&allocation, &(START + EXTENTS * EXTENT..SIZE)), 0);
    let details = |region: &Region| -> Vec<String> {
        let details = region.details.iter();
        details
            .map(|detail| format!("{} {}", detail.key, detail.value))
            .collect()
    };
    let whole = &allocation.regions[0];
    assert_eq!((whole.name, whole.label.as_deref()), (Some("LVM2"), Some("vg")));
    assert_eq!(
        details(whole),
        ["uuid 012345-6789-abcd-efgh-ijkl-mnop-qrstuv", "group-uuid vg-id"]
    );
    assert_eq!(details(root), ["uuid root-id", "segments linear"]);
}

#[test]
fn lvm_reads_what_is_made_here_as_root() {
    let dir = Dir::new("lvm-made");
    let made = scattered();
    fs::write(dir.join("pv.raw"), &made.bytes).unwrap();
    let path = dir.join("pv.raw");
    for (number, _) in AREAS.iter().enumerate() {
        let number = format!("mda_num={}", number + 1);
        let told = tool(
            "pvck",
            [
                "--dump",
                "metadata",
                "--settings",
                &number,
                path.to_str().unwrap(),
            ],
        );
        assert!(told.contains("root {") && told.contains("pv0 {"), "{told}");
    }
}

#[test]
fn stripes_on_one_disk_are_followed() {
    // A filesystem of 64 extents in two stripes, of which 16 KiB follow each other.
    let segment = "64 type = \"striped\"\nstripe_count = 2\nstripe_size = 32\nstripes = [\n\"pv0\", 4,\n\"pv0\", 100\n]";
    let mut made = Made::new(&text(&[volume("root", &[segment.to_owned()])]));
    let content = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/ext4.raw")).unwrap();
    for (number, piece) in (0_u64..).zip(content.chunks(16 << 10)) {
        let stripe = [4, 100][number as usize % 2];
        made.put(START + stripe * EXTENT + number / 2 * (16 << 10), piece);
    }
    let allocation = made.scan();
    let root = named(&allocation, "root");
    let alone = Patched::new(&content).scan();
    assert_eq!(
        (root.name, root.free()),
        (Some("ext4"), alone.bytes(State::Free)),
        "{root:?}"
    );
    assert_eq!(root.segments.ranges().len(), 256);
    assert!(!format!("{:?}", root.details).contains("linear"));

    let odd = segment.replace("stripe_size = 32", "stripe_size = 0");
    assert_distrusted(&Made::new(&text(&[volume("root", &[odd])])), "have no size");
    let uneven = segment.replace("64 type", "63 type");
    assert_distrusted(
        &Made::new(&text(&[volume("root", &[uneven])])),
        "malformed stripes",
    );
}

#[test]
fn what_a_snapshot_may_still_read_is_copied_whole() {
    let snapshot = special(
        64,
        "snapshot",
        "chunk_size = 8\norigin = \"root\"\ncow_store = \"snap\"",
    );
    let volumes = [
        volume("root", &[linear("pv0", 0, 64)]),
        volume("snap", &[linear("pv0", 100, 10)]),
        hidden("snapshot0", &[snapshot]),
    ];
    let allocation = Made::new(&text(&volumes)).filesystem(0..64).scan();
    for name in ["root", "snap"] {
        assert_whole(
            &allocation,
            name,
            "a snapshot still reads what its origin has freed",
        );
    }
    assert_free(&allocation, 64..100);
    // The same without the snapshot.
    let alone = Made::new(&text(&volumes[..1])).filesystem(0..64).scan();
    assert!(named(&alone, "root").free() > 0);
}

#[test]
fn what_other_volumes_are_made_of_is_copied_whole() {
    let on = |name: &str, first| hidden(name, &[linear("pv0", first, 10)]);
    for (kind, inside, parts) in [
        (
            "raid1",
            "device_count = 2\nregion_size = 1024\nraids = [\n\"a\", \"b\"\n]",
            "raid1",
        ),
        (
            "mirror",
            "mirror_count = 2\nmirrors = [\n\"a\", 0,\n\"b\", 0\n]",
            "mirror",
        ),
        (
            "cache+METADATA_FORMAT",
            "cache_pool = \"a\"\norigin = \"b\"",
            "cache",
        ),
        ("cache", "cache_pool = \"a\"\norigin = \"b\"", "cache"),
        ("writecache", "origin = \"a\"\nwritecache = \"b\"", "writecache"),
        ("integrity", "origin = \"a\"\nmeta_dev = \"b\"", "integrity"),
        ("vdo-pool", "data = \"a\"\nother = \"b\"", "vdo-pool"),
        ("thin", "thin_pool = \"a\"\nexternal_origin = \"b\"", "thin"),
    ] {
        let volumes = [
            on("a", 0),
            on("b", 100),
            volume("upper", &[special(10, kind, inside)]),
            volume("beside", &[linear("pv0", 150, 64)]),
        ];
        let allocation = Made::new(&text(&volumes)).filesystem(150..214).scan();
        let words = format!("a part of \"upper\", which is of type {parts}");
        assert_whole(&allocation, "a", &words);
        assert_whole(&allocation, "b", &words);
        assert!(named(&allocation, "beside").free() > 0);
        assert_free(&allocation, 10..100);
    }
    // A volume that lies on another one, and what that is.
    let stacked = [
        volume("lower", &[linear("pv0", 0, 64)]),
        volume("upper", &[linear("lower", 0, 64)]),
    ];
    let allocation = Made::new(&text(&stacked)).filesystem(0..64).scan();
    assert_whole(&allocation, "lower", "\"upper\" lies on it");
}

#[test]
fn a_volume_of_which_a_part_is_elsewhere_is_copied_as_far_as_it_is_here() {
    for segments in [
        [linear("pv0", 0, 70), linear("pv1", 0, 10)],
        [linear("pv1", 0, 10), linear("pv0", 0, 70)],
    ] {
        let allocation = Made::new(&text(&[volume("root", &segments)]))
            .filesystem(0..64)
            .scan();
        assert_whole(&allocation, "root", "a part of it lies elsewhere");
        assert_eq!(named(&allocation, "root").size(), 70 * EXTENT);
        assert_free(&allocation, 70..EXTENTS);
    }
    let elsewhere = Made::new(&text(&[volume("root", &[linear("pv1", 0, 70)])])).scan();
    assert_eq!(elsewhere.regions.len(), 1);
    assert_free(&elsewhere, 0..EXTENTS);
}

#[test]
fn a_volume_that_is_not_as_others_are_is_copied_whole() {
    for (status, flags) in [
        ("\"READ\", \"WRITE\"", "[]"),
        ("\"READ\", \"WRITE\", \"VISIBLE\", \"LOCKED\"", "[]"),
        ("\"READ\", \"WRITE\", \"VISIBLE\", \"PVMOVE\"", "[]"),
        ("\"READ\", \"WRITE\", \"VISIBLE\"", "[\"NOTSYNCED\"]"),
    ] {
        let root =
            lv("root", status, &[linear("pv0", 0, 64)]).replace("flags = []", &format!("flags = {flags}"));
        let allocation = Made::new(&text(&[root])).filesystem(0..64).scan();
        assert_whole(&allocation, "root", "hidden or locked");
        assert_free(&allocation, 64..EXTENTS);
    }
    for (kind, inside) in [("error", ""), ("zero", "")] {
        let segments = [linear("pv0", 0, 64), special(3, kind, inside)];
        let allocation = Made::new(&text(&[volume("root", &segments)]))
            .filesystem(0..64)
            .scan();
        assert_whole(&allocation, "root", &format!("a segment of it is of type {kind}"));
    }
    let plain = lv(
        "root",
        "\"READ\", \"VISIBLE\", \"FIXED_MINOR\"",
        &[linear("pv0", 0, 64)],
    );
    let plain = plain.replace("flags = []", "flags = [\"ACTIVATION_SKIP\"]");
    let allocation = Made::new(&text(&[plain])).filesystem(0..64).scan();
    assert!(named(&allocation, "root").free() > 0);
}

/// What is put in place of something in the metadata, and why that is not trusted then.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "[\"RESIZEABLE\", ",
        "[\"RESIZEABLE\", \"EXPORTED\", ",
        "it is exported, shared",
    ),
    (
        "[\"RESIZEABLE\", ",
        "[\"RESIZEABLE\", \"CLUSTERED\", ",
        "it is exported, shared",
    ),
    (
        "[\"RESIZEABLE\", ",
        "[\"RESIZEABLE\", \"PARTIAL\", ",
        "it is exported, shared",
    ),
    (
        "\"WRITE\"]\nflags = []",
        "\"WRITE\"]\nflags = [\"NEW\"]",
        "it is exported, shared",
    ),
    (
        "seqno = 7",
        "seqno = 7\nlock_type = \"sanlock\"",
        "machines share it",
    ),
    ("\"lvm2\"", "\"lvm3\"", "its format is unknown"),
    (
        "[\"ALLOCATABLE\"]\nflags = []\ndev",
        "[\"ALLOCATABLE\"]\nflags = [\"MISSING\"]\ndev",
        "it is missing",
    ),
    (
        "[\"ALLOCATABLE\"]\nflags = []\npe",
        "[\"ALLOCATABLE\"]\nflags = [\"MISSING\"]\npe",
        "it is missing",
    ),
    ("\"striped\"", "\"striped+new\"", "has an unknown type"),
    ("\"striped\"", "\"novel\"", "has an unknown type"),
    (
        "\"striped\"\n",
        "\"mirror\"\nmirrors = [\n\"pv0\", 3\n]\n",
        "it is being moved",
    ),
    ("\"pv0\", 0", "\"pv9\", 0", "on a volume that is not in its group"),
    ("\"pv0\", 0", "\"pv0\", 200", "past the last extent"),
    ("\"pv0\", 0", "\"pv0\", -1", "malformed stripes"),
    ("stripe_count = 1", "stripe_count = 2", "malformed stripes"),
    (
        "segment_count = 1",
        "segment_count = 2",
        "counts more or fewer segments",
    ),
    ("start_extent = 0", "start_extent = 1", "do not follow each other"),
    ("extent_count = 64", "extent_count = 0", "no extents"),
    ("id = \"012345", "id = \"112345", "not in the volume group"),
    (
        "id = \"other\"",
        "id = \"012345-6789-abcd-efgh-ijkl-mnop-qrstuv\"",
        "another one has its UUID",
    ),
    (
        "pe_start = 2048\npe_count = 238\n}\n\npv1",
        "pe_start = 4096\npe_count = 200\n}\n\npv1",
        "disagree about where",
    ),
    (
        "pe_count = 238\n}\n\npv1",
        "pe_count = 240\n}\n\npv1",
        "LVM's own data lies in its extents",
    ),
    (
        "pe_count = 238\n}\n\npv1",
        "pe_count = 2380\n}\n\npv1",
        "past the end",
    ),
    (
        "pe_count = 238\n}\n\npv1",
        "pe_count = 9000000000000000000\n}\n\npv1",
        "no size, or are too large",
    ),
    (
        "extent_size = 128",
        "extent_size = 0",
        "no size, or are too large",
    ),
    ("logical_volumes", "novel_volumes", "an unknown section"),
    ("Text Format", "Other Format", "is unknown"),
    ("version = 1", "version = 2", "is unknown"),
    ("contents", "more {\n}\ncontents", "not about one volume group"),
    (
        "seqno = 7",
        "seqno = 7\nseqno = 8",
        "line 4: a name has two values",
    ),
    ("seqno = 7", "seqno = 7 }", "closes nothing"),
];

#[test]
fn metadata_that_says_what_is_not_understood_is_not_trusted() {
    let root = || text(&[volume("root", &[linear("pv0", 0, 64)])]);
    for (from, to, words) in CHANGES {
        let changed = root().replacen(from, to, 1);
        assert_ne!(changed, root(), "{from}");
        assert_distrusted(&Made::new(&changed).filesystem(0..64), words);
    }
    let twice = [
        volume("a", &[linear("pv0", 0, 64)]),
        volume("b", &[linear("pv0", 63, 2)]),
    ];
    assert_distrusted(
        &Made::new(&text(&twice)),
        "two logical volumes have the same extent",
    );
}

#[test]
fn all_copies_of_the_metadata_must_agree_and_be_the_last_word() {
    let (one, two) = (text(&[volume("root", &[linear("pv0", 0, 64)])]), text(&[]));
    assert_distrusted(&Made::with(&[&one, &two]), "copies of its metadata differ");
    // When a copy was written is of no importance.
    let later = one.replace("creation_time = 1795794004", "creation_time = 1795794005");
    assert!(Made::with(&[&one, &later]).scan().bytes(State::Free) > 0);
    // A change that was begun; areas that are not kept up to date; one that has nothing.
    let header = |at: u64, value: &[u8], area: usize| {
        let mut made = Made::new(&one);
        let start = AREAS[area].0;
        made.put(start + at, value);
        made.headed(start);
        made
    };
    assert_distrusted(
        &header(64, &[0, 8], 0),
        "a change of its metadata was not finished",
    );
    assert_distrusted(
        &header(40, &[0; 8], 1),
        "it belongs to no volume group, or has no copy of the metadata of its group",
    );
    let ignored = header(60, &[1], 1);
    assert!(ignored.scan().bytes(State::Free) > 0);
    let mut ignored = Made::with(&[&one]);
    ignored.put(AREAS[0].0 + 60, &[1]);
    ignored.headed(AREAS[0].0);
    assert_distrusted(
        &ignored,
        "it belongs to no volume group, or has no copy of the metadata of its group",
    );
    assert_distrusted(
        &Made::with(&[]),
        "it belongs to no volume group, or has no copy of the metadata of its group",
    );
    // Each field of the header.
    assert_distrusted(&header(4, b"x", 0), "has no signature");
    assert_distrusted(&header(20, &[2], 1), "version is 0x2");
    assert_distrusted(&header(24, &[1], 0), "start is 0x1001");
    assert_distrusted(&header(32, &[1], 0), "size is 0xff001");
    assert_distrusted(&header(40, &[1, 0, 0, 1], 0), "past the end");
    assert_distrusted(&header(40, &[0xff; 8], 0), "past the end");
    assert_distrusted(&header(48, &[0xff; 8], 0), "past the end");
    assert_distrusted(&header(56, &[1], 0), "checksum");
}

#[test]
fn a_label_that_cannot_be_right_is_not_trusted() {
    let made = || Made::new(&text(&[]));
    let with = |at: u64, bytes: &[u8]| {
        let mut made = made();
        made.put(at, bytes);
        made.labelled()
    };
    assert_distrusted(&with(520, &[2]), "sector is 0x2");
    assert_distrusted(&with(532, &[33]), "offset is 0x21");
    assert_distrusted(&with(536, b"LVM3"), "is unknown");
    assert_distrusted(&with(544, b"\0"), "its UUID is malformed");
    assert_distrusted(&with(664, &[9]), "the version of its label");
    assert_distrusted(&with(584, &[1; 440]), "do not end");
    assert_distrusted(&with(1024, b"LABELONE"), "two labels");
    let mut unsummed = made();
    unsummed.put(700, &[1]);
    assert_distrusted(&unsummed, "checksum");
    // An area of a boot loader in the extents.
    let mut loader = [0; 16];
    loader[..8].copy_from_slice(&(START + EXTENT).to_le_bytes());
    loader[8..].copy_from_slice(&4096_u64.to_le_bytes());
    assert_distrusted(&with(672, &loader), "LVM's own data lies in its extents");
}

#[test]
fn no_damage_to_metadata_makes_anything_free_that_was_not() {
    let base = scattered();
    let allocation = base.scan();
    let used: Vec<_> = allocation.map.extents().to_vec();
    let texts = [
        AREAS[0].0 + 2048..AREAS[0].0 + 4096,
        AREAS[1].0 + 512..AREAS[1].0 + 2048,
    ];
    let mut trusted = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let mut made = Patched::new(&base.bytes);
        for _ in 0..=dice.below(3) {
            let range = match dice.below(4) {
                0 => 512..1024,
                1 => AREAS[dice.below(2) as usize].0..AREAS[0].0 + 512,
                _ => texts[dice.below(2) as usize].clone(),
            };
            let range = if range.is_empty() {
                AREAS[1].0..AREAS[1].0 + 512
            } else {
                range
            };
            let at = range.start + dice.below(range.end - range.start);
            made.put(at, &[dice.below(256) as u8]);
        }
        let found = made.scan();
        trusted += u64::from(found.bytes(State::Free) > 0);
        for extent in &used {
            let lost = bytes_free(&found, &extent.range);
            assert_eq!(lost, 0, "seed {seed}: {:?}", found.regions);
        }
    }
    // Some changes hit what does not count.
    assert!(trusted > 0 && trusted < SEEDS / 2, "{trusted}");
    // What the fuzz target does: behind checksums that are right, anything may be found, and is survived.
    let bases = Bases::new([base.bytes]);
    for seed in 0..SEEDS {
        let length = Dice::new(seed).below(80) as usize;
        bases.scan_changed(&noise(seed, length));
    }
}
