//! FAT that contradicts itself.

use std::fs::{self, File};

use super::{assert_doubted, bare, get, put};
use crate::filesystems::proof::MIB;
use crate::support::Dir;

/// What is written where, and what must be said of it then.
type Damage = (u64, &'static [u8], &'static str);

const FAT16: &[Damage] = &[
    (11, &[0, 4], "past the end"),
    (
        17,
        &[1, 2],
        "BPB_RootEntCnt is 0x201, expected a multiple of 0x10",
    ),
    (22, &[3, 0], "number of entries in a FAT is"),
    (13, &[128], "FAT12 and like FAT16"),
    (32, &[1], "BPB_TotSec32 is"),
    (19, &[40, 0], "number of clusters is 0x0"),
    (
        21,
        &[0xf0],
        "FAT at 0x800: entry is 0xffffff8, expected the media byte",
    ),
    (
        2048,
        &[0xf0],
        "FAT at 0x800: entry is 0xfff0, expected the media byte",
    ),
    // Entry 3 is no cluster's number.
    (
        2048 + 6,
        &[0xf5, 0xff],
        "FAT at 0x806: entry is 0xfff5, expected free, bad, last",
    ),
    (
        2048 + 6,
        &[1, 0],
        "FAT at 0x806: entry is 0x1, expected free, bad, last",
    ),
];

const FAT32: &[Damage] = &[
    (17, &[16, 0], "BPB_RootEntCnt is 0x10, expected 0x0"),
    (42, &[1, 0], "BPB_FSVer is 0x1, expected 0x0"),
    (
        44,
        &[0, 0],
        "BPB_RootClus is 0x0, expected the number of a cluster",
    ),
    (
        44,
        &[9, 0],
        "BPB_RootClus is 0x9, expected a cluster that is in use",
    ),
    (
        47,
        &[0x70],
        "BPB_RootClus is 0x70000002, expected the number of a cluster",
    ),
    (40, &[0x82, 0], "BPB_ExtFlags is 0x82"),
    // In the backup: clusters of another size, fewer sectors, another root directory.
    (6 * 512 + 13, &[2], "boot sector and its backup differ"),
    (6 * 512 + 33, &[1], "boot sector and its backup differ"),
    (6 * 512 + 44, &[3], "boot sector and its backup differ"),
    (36, &[9, 0, 0, 0], "number of entries in a FAT is"),
];

#[test]
fn what_contradicts_itself_is_copied_whole() {
    let dir = Dir::new("fat-doubts");
    let clean = [
        bare(&dir, "16", 16 * MIB - 2048, "-a -F 16 -s 1 -f 1 -R 4"),
        bare(&dir, "32", 36 * MIB, "-F 32 -s 1"),
    ];
    for (clean, damages) in clean.iter().zip([FAT16, FAT32]) {
        for (at, bytes, words) in damages {
            let bad = dir.join("bad.raw");
            fs::copy(clean, &bad).unwrap();
            put(&bad, *at, bytes);
            assert_doubted(&bad, words);
        }
    }
    // Where each FAT should begin.
    let sectors = u32::from_le_bytes(get(&clean[1], 36));
    for number in 0..2 {
        let bad = dir.join("bad.raw");
        fs::copy(&clean[1], &bad).unwrap();
        put(&bad, 512 * (32 + u64::from(sectors) * number), &[0xf0]);
        assert_doubted(&bad, "entry is 0xffffff0, expected the media byte");
    }
    // What speaks of more than there is.
    let short = dir.join("bad.raw");
    fs::copy(&clean[1], &short).unwrap();
    File::options()
        .write(true)
        .open(&short)
        .unwrap()
        .set_len(35 * MIB)
        .unwrap();
    assert_doubted(
        &short,
        "FAT filesystem at 0x0 would end at 0x2400000, past the end at 0x2300000",
    );
}
