//! XFS of every layout comes back.

use crate::filesystems::partitions::disk::sfdisk;
use crate::filesystems::proof::xfs::Xfs;
use crate::filesystems::proof::{MIB, Proof};

fn proof(name: &str, options: &'static str) -> Proof {
    Proof::of(name, 64 * MIB, Xfs::new(options)).aged(400)
}

#[test]
fn xfs_of_version_5_comes_back_as_root() {
    proof("xfs-5", "").holds();
}

#[test]
fn xfs_with_trees_of_owners_and_of_shared_blocks_comes_back_as_root() {
    proof(
        "xfs-rmap",
        "-m rmapbt=1,reflink=1,finobt=1 -b size=1024 -d agcount=4",
    )
    .holds();
}

#[test]
fn xfs_of_large_sectors_and_one_group_comes_back_as_root() {
    proof("xfs-4k", "-s size=4096 -d agcount=1 -l size=16m,su=64k")
        .made()
        .on_a_device()
        .holds();
}

#[test]
fn xfs_in_a_partition_comes_back_as_root() {
    Proof::disk("xfs-partition", 80 * MIB)
        .laid_out_by(|disk| sfdisk(disk, "label: gpt\nstart=1M,size=64M\n"))
        .volume(MIB..65 * MIB, Xfs::new("-L label"))
        .made()
        .holds();
}
