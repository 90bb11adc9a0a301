//! All layouts that mke2fs makes, those that the kernel here cannot mount among them.

use std::fs;
use std::os::unix::fs::FileExt;

use super::{
    MIB, Marker, Place, assert_exact, bitmap_of, debugfs, doubt, files, free, free_by_dumpe2fs, make,
};
use crate::support::tool;

/// Options of mke2fs, one layout a line.
pub const LAYOUTS: &str = "
-t ext2
-t ext2 -r 0
-t ext2 -b 4096
-t ext2 -b 65536
-t ext2 -O ^sparse_super,^resize_inode
-t ext3
-t ext3 -b 1024 -g 1024
-t ext3 -O meta_bg,^resize_inode -g 256
-t ext4 -b 1024
-t ext4 -b 2048
-t ext4 -b 4096
-t ext4 -b 8192 -O ^has_journal
-t ext4 -b 65536 -O ^has_journal
-t ext4 -b 65536 -O ^has_journal,bigalloc -C 131072
-t ext4 -O ^64bit
-t ext4 -O ^64bit,^metadata_csum
-t ext4 -O ^metadata_csum
-t ext4 -O ^metadata_csum,uninit_bg
-t ext4 -O ^metadata_csum,uninit_bg,^flex_bg -g 256
-t ext4 -O ^64bit,uninit_bg,^metadata_csum -g 256
-t ext4 -O ^flex_bg
-t ext4 -g 256
-t ext4 -g 256 -O ^64bit
-t ext4 -G 64
-t ext4 -E packed_meta_blocks=1
-t ext4 -O meta_bg,^resize_inode
-t ext4 -O meta_bg,^resize_inode -g 256
-t ext4 -O meta_bg,^resize_inode,^flex_bg -g 256 -N 256
-t ext4 -O meta_bg,^resize_inode -g 512 -G 4 -N 256
-t ext4 -O ^sparse_super,^resize_inode
-t ext4 -O sparse_super2
-t ext4 -O sparse_super2 -E num_backup_sb=1
-t ext4 -O sparse_super2 -E num_backup_sb=0
-t ext4 -O bigalloc -b 1024 -C 16384
-t ext4 -O bigalloc -b 1024 -C 8192 -g 2048
-t ext4 -O bigalloc -b 1024 -C 2048 -g 512
-t ext4 -O bigalloc -b 4096 -C 65536 -g 2048
-t ext4 -O bigalloc,meta_bg,^resize_inode -b 1024 -C 8192 -g 2048
-t ext4 -O bigalloc,^metadata_csum,uninit_bg -b 1024 -C 8192 -g 2048
-t ext4 -O bigalloc,^flex_bg -b 1024 -C 8192 -g 2048
-t ext4 -O bigalloc,sparse_super2 -b 1024 -C 4096 -g 1024
-t ext4 -O ^has_journal
-t ext4 -O ^extent,^64bit
-t ext4 -O inline_data -I 512
-t ext4 -O mmp
-t ext4 -O quota,project
-t ext4 -O orphan_file
-t ext4 -O fast_commit
-t ext4 -O metadata_csum_seed
-t ext4 -O ea_inode,casefold,encrypt,verity,large_dir,stable_inodes
-t ext4 -I 128
";

#[test]
fn what_is_free_is_what_dumpe2fs_says_as_root() {
    let place = Place::new("ext-layouts", 48 * MIB);
    let files = files(&place);
    for layout in LAYOUTS.lines().filter(|line| !line.is_empty()) {
        // An odd size: the last group is a short one, and so is the last cluster.
        let disk = make(&place, 41 * MIB + 37 * 1024, &format!("{layout} -d {files}"));
        let before = fs::read(&disk).unwrap();
        assert_exact(&disk);
        assert!(
            fs::read(&disk).unwrap() == before,
            "{layout}: the source was changed"
        );
    }
}

#[test]
fn block_0_is_in_use_if_no_group_has_it_as_root() {
    let place = Place::new("ext-block-0", 8 * MIB);
    let disk = make(&place, 8 * MIB, "-t ext2 -b 1024");
    assert!(free(&disk)[0].start > 2048);
    let disk = make(&place, 8 * MIB, "-t ext4 -b 1024 -O bigalloc -C 4096");
    assert!(free(&disk)[0].start > 2048);
}

#[test]
fn what_lies_behind_a_filesystem_is_in_use_as_root() {
    let place = Place::new("ext-behind", 16 * MIB);
    let disk = make(&place, 8 * MIB, "-t ext4 -b 1024");
    let before = free(&disk);
    let file = fs::OpenOptions::new().append(true).open(&disk).unwrap();
    file.write_all_at(&Marker::A.times(MIB), 8 * MIB).unwrap();
    assert_eq!(free(&disk), before);
}

#[test]
fn a_group_whose_bitmap_was_never_written_holds_its_tables_and_those_of_others_as_root() {
    let place = Place::new("ext-unwritten", 24 * MIB);
    for options in [
        "-b 1024 -g 256 -N 2048 -O ^resize_inode",
        "-b 1024 -g 256 -N 2048 -O ^metadata_csum,uninit_bg",
        "-b 1024 -g 256 -N 2048 -O meta_bg,^resize_inode",
        "-b 1024 -g 256 -N 2048 -O sparse_super2,^resize_inode",
        "-b 1024 -g 2048 -O bigalloc,^resize_inode -C 8192",
        "-b 1024 -g 2048 -O ^flex_bg,^resize_inode",
    ] {
        let options = format!("-t ext4 -O ^has_journal {options}");
        let disk = make(&place, 20 * MIB + 3 * 1024, &options);
        let before = free(&disk);
        assert_eq!(before, free_by_dumpe2fs(&disk));
        let groups = tool("dumpe2fs", [disk.to_str().unwrap()])
            .matches(": (Blocks ")
            .count();
        // The root and lost+found lie in some group, which cannot do without its bitmap.
        let mut with_files = 0;
        for group in 1..groups {
            let bytes = fs::read(&disk).unwrap();
            let set = format!("set_bg {group} flags 7\nset_bg {group} checksum calc\n");
            debugfs(&disk, &set);
            // What stands there instead of a bitmap does not matter.
            let at = bitmap_of(&disk, group) * 1024;
            fs::OpenOptions::new()
                .write(true)
                .open(&disk)
                .unwrap()
                .write_all_at(&[0; 1024], at)
                .unwrap();
            super::without_holes(&disk);
            let after = free(&disk);
            if after.is_empty() {
                let doubt = doubt(&disk);
                assert!(
                    doubt.starts_with("free clusters of a group without a bitmap"),
                    "{options}: group {group}: {doubt}"
                );
                with_files += 1;
                fs::write(&disk, bytes).unwrap();
            } else {
                assert_eq!(after, before, "{options}: group {group}");
            }
        }
        assert!(
            with_files <= 2 && with_files + 1 < groups,
            "{options}: {with_files} of {groups}"
        );
    }
}
