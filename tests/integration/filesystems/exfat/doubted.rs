//! exFAT that contradicts itself.

use std::fs;

use super::naive::{Volume, set};
use super::{assert_doubted, filled};

/// What is done to a volume, and what must be said of it then.
type Damage = (fn(&mut Volume), &'static str);

const DAMAGES: &[Damage] = &[
    (
        |v| v.set_boot(108, &[13]),
        "BytesPerSectorShift is 0xd, expected 9 to 12",
    ),
    (
        |v| v.set_boot(109, &[17]),
        "SectorsPerClusterShift is 0x11, expected at most 0x10",
    ),
    (|v| v.set_boot(105, &[2]), "FileSystemRevision is 0x200"),
    (|v| v.set_boot(110, &[3]), "NumberOfFats is 0x3, expected 1 or 2"),
    (
        |v| v.bytes[106] = 1,
        "VolumeFlags is 0x1, expected bit 0 to be clear",
    ),
    (|v| v.set_boot(72, &[0, 0, 0, 9]), "past the end at"),
    (
        |v| v.set_boot(72, &[0, 0x30, 0]),
        "VolumeLength is 0x600000, expected at least",
    ),
    (
        |v| v.set_boot(84, &[9, 0]),
        "FatLength is 0x480, expected at least",
    ),
    (
        |v| v.set_boot(88, &[1, 8, 0]),
        "ClusterHeapOffset is 0x100200, expected at least",
    ),
    (
        |v| v.set_boot(96, &[1, 0, 0, 0]),
        "FirstClusterOfRootDirectory is 0x1",
    ),
    (
        |v| v.bytes[12 * 512 + 96] ^= 1,
        "boot region and its backup differ",
    ),
    (
        |v| v.set_entry(0, 0, 0xffff_fff0),
        "entry is 0xfffffff0, expected 0xfffffff8",
    ),
    (
        |v| {
            let entry = v.system_entry(0x81);
            v.bytes[entry + 25] -= 1;
        },
        "DataLength is",
    ),
    (
        |v| {
            let first = v.bitmap()[1];
            v.set_entry(0, first, u32::MAX);
        },
        "not as long as its cluster chain",
    ),
    (
        |v| {
            let bitmap = v.bitmap();
            v.set_entry(0, *bitmap.last().unwrap(), bitmap[0] as u32);
        },
        "not as long as its cluster chain",
    ),
    (
        |v| {
            let bitmap = v.bitmap();
            v.set_entry(0, bitmap[1], 0);
        },
        "entry is 0x0, expected the last one or the number of a cluster",
    ),
    (
        |v| {
            let entry = v.system_entry(0x81);
            v.bytes[entry + 23] = 0x7f;
        },
        "FirstCluster is 0x7f",
    ),
    (
        |v| {
            let (entry, label) = (v.system_entry(0x81), v.system_entry(0x83));
            v.bytes.copy_within(entry..entry + 32, label);
        },
        "allocation bitmaps of one FAT: 1 recorded, 2 found",
    ),
    (
        |v| {
            let entry = v.system_entry(0x81);
            v.bytes[entry] = 0x01;
        },
        "allocation bitmaps of one FAT: 1 recorded, 0 found",
    ),
    (
        |v| {
            let entry = v.system_entry(0x82);
            v.bytes[entry + 27] = 1;
        },
        "DataLength is 0x1",
    ),
    (
        |v| {
            let (bitmap, root) = (v.bitmap(), v.root());
            let mut bits = v.bits();
            set(&mut bits, root, false);
            v.put_bits(&bitmap, &bits);
        },
        "bit in the allocation bitmap is 0x0, expected 0x1",
    ),
    (
        |v| {
            let root = v.root();
            v.set_entry(0, root, root as u32);
            let cluster = v.cluster(root);
            for at in cluster
                .step_by(32)
                .filter(|at| v.bytes[*at] == 0)
                .collect::<Vec<_>>()
            {
                v.bytes[at] = 5;
            }
            // No end in sight.
            let at = v.cluster(root).end - 32;
            v.bytes[at] = 5;
        },
        "more than 268435456 bytes in the root directory",
    ),
];

#[test]
fn what_contradicts_itself_is_copied_whole_as_root() {
    let (_place, path) = filled("exfat-doubts");
    let clean = Volume::of(&path).bytes;
    for (damage, words) in DAMAGES {
        fs::write(&path, &clean).unwrap();
        let mut volume = Volume::of(&path);
        damage(&mut volume);
        volume.write();
        assert_doubted(&path, words);
    }
    for at in [200, 5 * 512, 11 * 512 + 8, 12 * 512 - 4, 12 * 512 + 200] {
        fs::write(&path, &clean).unwrap();
        let mut volume = Volume::of(&path);
        volume.bytes[at] ^= 0x10;
        volume.write_unsealed();
        assert_doubted(&path, "checksum is");
    }
}
