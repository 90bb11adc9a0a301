//! Where FAT12 ends and FAT16 begins, and FAT32.

use std::fs::File;

use super::{assert_doubted, put, region};
use crate::filesystems::proof::fat::{Told, mtool};
use crate::support::{Dir, tool};

#[test]
fn the_width_of_entries_follows_from_the_number_of_clusters() {
    let dir = Dir::new("fat-boundaries");
    for (bits, clusters, fat) in [
        (12, 4083, 12),
        (12, 4084, 12),
        (16, 4085, 16),
        (16, 4086, 16),
        (16, 4087, 16),
        (16, 65524, 256),
    ] {
        // mkfs.fat makes none too near to the boundary. Sectors that are no clusters: 1, a FAT, and a root directory
        // of 16 entries.
        let made = if bits == 16 { clusters.max(4087) } else { clusters };
        let file = dir.sparse("disk.raw", (1 + fat + 1 + made) * 512, &[]);
        let options = format!("-a -s 1 -f 1 -R 1 -r 16 -F {bits}");
        tool("mkfs.fat", options.split(' ').chain([file.to_str().unwrap()]));
        let sectors = 1 + fat + 1 + clusters;
        if made > clusters {
            put(&file, 19, &u16::try_from(sectors).unwrap().to_le_bytes());
        }
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(sectors * 512)
            .unwrap();
        // The very last cluster is in use.
        let content = dir.sparse("content", clusters * 512, &[]);
        mtool("mcopy", &file, &[content.to_str().unwrap(), "::/"]);

        let (told, region) = (Told::of(&file), region(&file));
        assert_eq!((told.bits, told.clusters, told.used), (bits, clusters, clusters));
        assert_eq!(region.name, Some(if bits == 12 { "FAT12" } else { "FAT16" }));
        assert_eq!(region.used, sectors * 512);

        // Too near to the boundary for those who count it otherwise, unless it is told.
        put(&file, 54, b"FAT     ");
        if (4085..=4086).contains(&clusters) {
            assert_doubted(&file, "it looks like FAT12 and like FAT16");
        } else {
            assert_eq!(super::region(&file).used, sectors * 512);
        }
    }
}

#[test]
fn fat32_begins_where_fat16_ends() {
    let dir = Dir::new("fat-boundary-32");
    for clusters in [65524, 65525] {
        let file = dir.sparse("disk.raw", (32 + 512 + clusters) * 512, &[]);
        tool(
            "mkfs.fat",
            ["-a", "-s", "1", "-f", "1", "-F", "32", file.to_str().unwrap()],
        );
        let (told, region) = (Told::of(&file), region(&file));
        assert_eq!((told.bits, told.clusters), (32, clusters));
        assert_eq!(region.name, Some("FAT32"));
        assert_eq!(region.used, (32 + 512 + 1) * 512);
    }
}
