//! XFS of every layout comes back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::corpus::in_parallel;
use crate::filesystems::partitions::disk::sfdisk;
use crate::filesystems::proof::xfs::{Xfs, number};
use crate::filesystems::proof::{MIB, Proof, mounted};
use crate::support::{noise, tool};

fn proof(name: &str, options: &'static str) -> Proof {
    let proof = Proof::of(name, 64 * MIB, Xfs::new(options));
    proof.aged(400).changed_by(shared)
}

/// Lets files share blocks, and some of them get their own again; where they cannot share, they are copied.
fn shared(at: &Path) {
    mounted("rw", at, at.parent().unwrap(), &mut |root| {
        let copy = |name: &str, to: &str| {
            let paths = [name, to].map(|name| root.join(name));
            tool(
                "cp",
                [Path::new("-a"), Path::new("--reflink=auto"), &paths[0], &paths[1]],
            );
        };
        copy("many", "many-too");
        copy("medium", "medium-again");
        copy("medium", "medium-once-more");
        let again = File::options()
            .write(true)
            .open(root.join("medium-again"))
            .unwrap();
        for place in 0..8 {
            again.write_all_at(&noise(place, 4096), place << 14).unwrap();
        }
        fs::remove_file(root.join("medium-once-more")).unwrap();
        for number in (0..100).step_by(3) {
            fs::remove_file(root.join(format!("many/file-{number:04}"))).unwrap();
        }
    });
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

#[test]
fn xfs_of_every_layout_comes_back_as_root() {
    let layouts: Vec<_> = [
        "-b size=1024 -m rmapbt=1 -d agcount=1 -i nrext64=1",
        "-b size=2048 -s size=2048 -m finobt=0,inobtcount=0 -i sparse=0",
        "-b size=8192 -d agcount=3 -m bigtime=0,inobtcount=0",
        "-b size=16384 -m rmapbt=1,reflink=0",
        "-m reflink=0 -d agcount=2 -l size=4m -i size=2048,maxpct=5",
        "-d su=64k,sw=2 -n size=16384",
    ]
    .into_iter()
    .enumerate()
    .collect();
    in_parallel(&layouts, |(number, options)| {
        proof(&format!("xfs-layout-{number}"), options).holds();
    });
}

#[test]
fn xfs_that_was_resized_comes_back_as_root() {
    let resized = |at: &Path| {
        mounted("rw", at, at.parent().unwrap(), &mut |root| {
            let root = root.to_str().unwrap();
            tool("xfs_growfs", [root]);
            let blocks = at.metadata().unwrap().len() / number(at, "sb 0", "blocksize");
            tool("xfs_growfs", ["-D", &(blocks - 300).to_string(), root]);
        });
        // Its last group is none of a whole number of others.
        let size = number(at, "sb 0", "dblocks");
        assert_ne!(size % number(at, "sb 0", "agblocks"), 0);
    };
    let options = "-m rmapbt=1 -d size=48m,agcount=3";
    let proof = Proof::of("xfs-resized", 70 * MIB, Xfs::new(options));
    proof.aged(200).changed_by(resized).holds();
}
