//! What the kernel here mounts: filled, aged, imaged, restored onto something else, checked and mounted again.

use std::path::Path;

use super::super::proof::ext::Ext;
use super::super::proof::{MIB, Proof};
use super::assert_exact;
use crate::support::loops::Loop;
use crate::support::tool;

/// The proof, and that dumpe2fs agrees to the block.
#[track_caller]
fn holds(proof: Proof) {
    let given = proof.made();
    assert_exact(&given.disk);
    given.holds();
}

/// One that was used for a while.
#[track_caller]
fn aged(name: &str, options: &'static str) {
    holds(Proof::of(&format!("ext-{name}"), 32 * MIB, Ext::new(options)).aged(400));
}

#[test]
fn ext2_as_root() {
    aged("2", "-t ext2 -b 1024");
}

#[test]
fn ext2_of_the_first_revision_as_root() {
    aged("revision-0", "-t ext2 -r 0");
}

#[test]
fn ext3_as_root() {
    aged("3", "-t ext3 -b 4096");
}

#[test]
fn ext4_with_blocks_of_1_kib_as_root() {
    aged("4-1k", "-t ext4 -b 1024");
}

#[test]
fn ext4_with_blocks_of_4_kib_as_root() {
    aged("4-4k", "-t ext4 -b 4096");
}

#[test]
fn ext4_without_64bit_as_root() {
    aged("4-32", "-t ext4 -O ^64bit");
}

#[test]
fn ext4_with_meta_bg_as_root() {
    aged("4-meta-bg", "-t ext4 -O meta_bg,^resize_inode -g 512");
}

#[test]
fn ext4_with_clusters_and_many_groups_as_root() {
    aged("4-bigalloc", "-t ext4 -O bigalloc -b 4096 -C 16384 -g 1024");
}

#[test]
fn ext4_with_clusters_and_small_blocks_as_root() {
    aged("4-bigalloc-1k", "-t ext4 -O bigalloc -b 1024 -C 4096 -g 2048");
}

#[test]
fn ext4_without_a_journal_as_root() {
    aged("4-no-journal", "-t ext4 -O ^has_journal");
}

#[test]
fn ext4_without_checksums_as_root() {
    aged("4-no-csum", "-t ext4 -O ^metadata_csum");
}

#[test]
fn ext4_with_the_checksums_of_old_as_root() {
    aged("4-gdt-csum", "-t ext4 -O ^metadata_csum,uninit_bg");
}

#[test]
fn ext4_with_data_in_inodes_as_root() {
    aged("4-inline", "-t ext4 -O inline_data -I 512");
}

#[test]
fn ext4_with_two_copies_of_the_superblock_as_root() {
    aged("4-sparse2", "-t ext4 -O sparse_super2");
}

#[test]
fn ext4_with_multiple_mount_protection_as_root() {
    aged("4-mmp", "-t ext4 -O mmp");
}

#[test]
fn ext4_with_an_orphan_file_as_root() {
    aged("4-orphan", "-t ext4 -O orphan_file");
}

#[test]
fn ext4_with_small_flexible_groups_as_root() {
    aged("4-flex", "-t ext4 -b 1024 -G 4 -g 512 -N 4096");
}

#[test]
fn ext4_that_is_mostly_empty_as_root() {
    // Most groups have no bitmap.
    holds(Proof::of(
        "ext-empty",
        48 * MIB,
        Ext::new("-t ext4 -b 1024 -g 1024"),
    ));
}

#[test]
fn ext4_that_is_full_as_root() {
    holds(
        Proof::of("ext-full", 24 * MIB, Ext::new("-t ext4 -m 0"))
            .aged(300)
            .full(),
    );
}

#[test]
fn ext4_that_saw_thousands_of_files_go_as_root() {
    holds(Proof::of("ext-aged", 48 * MIB, Ext::new("-t ext4 -b 1024")).aged(4000));
}

#[test]
fn ext4_after_it_became_smaller_as_root() {
    let proof = Proof::of("ext-shrunk", 48 * MIB, Ext::new("-t ext4 -b 1024 -g 2048")).aged(300);
    holds(proof.changed_by(|at| resize(at, &["36M"])));
}

#[test]
fn ext4_after_it_became_smaller_and_larger_as_root() {
    let proof = Proof::of("ext-grown", 48 * MIB, Ext::new("-t ext4 -b 1024 -g 2048")).aged(300);
    holds(proof.changed_by(|at| {
        resize(at, &["30M"]);
        resize(at, &[]);
    }));
}

/// Of a device: resize2fs would cut a file off.
fn resize(at: &Path, size: &[&str]) {
    let device = Loop::over(at);
    let device = device.path().to_str().unwrap();
    tool("resize2fs", ["-f", device].iter().chain(size));
}
