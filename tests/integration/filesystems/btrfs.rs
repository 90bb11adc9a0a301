//! Btrfs: what is free is what is in no chunk, and in none of the extents of a chunk.

mod crashes;
mod damage;
mod replaced;
mod told;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::partitions::disk::sfdisk;
use super::proof::btrfs::Btrfs;

use super::proof::{MIB, Proof, fill_up, mounted};
use crate::support::{noise, tool};

/// The first copy of the superblock is in it.
const SIZE: u64 = 120 * MIB;

fn proof(name: &str, btrfs: Btrfs) -> Proof {
    Proof::of(&format!("btrfs-{name}"), SIZE, btrfs).aged(300)
}

fn btrfs<const N: usize>(arguments: [&str; N]) {
    tool("btrfs", arguments);
}

/// Changes a filesystem in a file while it is mounted.
fn changed(at: &Path, mount: &str, mut work: impl FnMut(&str)) {
    mounted(mount, at, at.parent().unwrap(), &mut |root| {
        work(root.to_str().unwrap());
    });
}

/// Moves chunks, some of them if there is no room for all.
fn balance(root: &str, filters: &[&str]) {
    let mut command = Command::new("btrfs");
    let command = command.args(["balance", "start"]).args(filters).arg(root);
    assert!(matches!(command.output().unwrap().status.code(), Some(0 | 1)));
}

/// Moves all chunks, and pauses while there are more to move.
#[track_caller]
fn pause_balance(root: &str) {
    for _ in 0..20 {
        let mut balance = Command::new("btrfs");
        let balance = balance.args(["balance", "start", "--full-balance", root]);
        let balance = balance.stdout(Stdio::null()).stderr(Stdio::null());
        let mut balance = balance.spawn().unwrap();
        while balance.try_wait().unwrap().is_none() {
            let mut pause = Command::new("btrfs");
            let pause = pause.args(["balance", "pause", root]).output().unwrap();
            if pause.status.success() {
                balance.wait().unwrap();
                return;
            }
        }
    }
    panic!("each balance ended before it was paused");
}

/// Whether a balance is to go on.
fn has_balance(disk: &Path) -> bool {
    let disk = disk.to_str().unwrap();
    let roots = tool("btrfs", ["inspect-internal", "dump-tree", "-t", "root", disk]);
    roots.contains("(BALANCE TEMPORARY_ITEM 0)")
}

/// Files that can be compressed.
fn with_text(root: &str) {
    for number in 0..40 {
        fs::write(
            format!("{root}/text-{number}"),
            format!("line {number}\n").repeat(9000),
        )
        .unwrap();
    }
}

/// Subvolumes, snapshots that share with them and differ, files that share extents, some of them deleted again.
fn with_snapshots(root: &str) {
    let volume = format!("{root}/volume");
    btrfs(["-q", "subvolume", "create", &volume]);
    for number in 0..60_u64 {
        fs::write(format!("{volume}/{number}"), noise(number, 9000)).unwrap();
    }
    for number in 0..6_u64 {
        let snapshot = format!("{root}/snapshot-{number}");
        btrfs(["-q", "subvolume", "snapshot", &volume, &snapshot]);
        for file in 10 * number..10 * number + 5 {
            fs::write(format!("{volume}/{file}"), noise(100 + file, 7000)).unwrap();
        }
        tool("sync", ["-f", root]);
    }
    let (large, shared) = (format!("{root}/large"), format!("{root}/shared"));
    tool("cp", ["--reflink=always", &large, &shared]);
    fs::remove_file(&large).unwrap();
    fs::write(&large, noise(77, 500_000)).unwrap();
    for number in [1, 4] {
        btrfs([
            "-q",
            "subvolume",
            "delete",
            "-c",
            &format!("{root}/snapshot-{number}"),
        ]);
    }
    btrfs(["subvolume", "sync", root]);
    btrfs(["filesystem", "defragment", "-r", root]);
}

#[test]
fn btrfs_comes_back_as_root() {
    proof("plain", Btrfs::new("")).holds();
}

/// The kernel reserves room for many blocks, which are large.
#[test]
fn btrfs_with_xxhash_and_large_blocks_comes_back_as_root() {
    let btrfs = Btrfs::new("--csum xxhash -n 65536 -m single");
    Proof::of("btrfs-xxhash", 200 * MIB, btrfs).aged(300).holds();
}

#[test]
fn btrfs_with_sha256_comes_back_as_root() {
    proof("sha256", Btrfs::new("--csum sha256 -n 4096 -R ^free-space-tree"))
        .made()
        .on_a_device()
        .holds();
}

#[test]
fn btrfs_with_blake2_comes_back_as_root() {
    proof(
        "blake2",
        Btrfs::new("--csum blake2 -m single -n 8192 -O ^no-holes,^skinny-metadata"),
    )
    .holds();
}

#[test]
fn btrfs_of_mixed_groups_with_two_copies_comes_back_as_root() {
    Proof::of("btrfs-mixed", 160 * MIB, Btrfs::new("--mixed -m dup -d dup"))
        .changed_by(|at| changed(at, "nodiscard,compress-force=zstd", with_text))
        .holds();
}

#[test]
fn the_metadata_of_btrfs_is_enough_for_its_tree_as_root() {
    proof("metadata", Btrfs::new("").mounted_with("nodiscard,nodatasum")).holds();
}

#[test]
fn btrfs_with_snapshots_comes_back_as_root() {
    proof("snapshots", Btrfs::new("-R quota,free-space-tree"))
        .changed_by(|at| {
            changed(at, "nodiscard,compress=lzo", with_text);
            changed(at, "nodiscard", with_snapshots);
        })
        .holds();
}

/// The kernel resizes none to less than 256 MiB.
#[test]
fn btrfs_that_was_balanced_and_resized_comes_back_as_root() {
    Proof::of("btrfs-balanced", 270 * MIB, Btrfs::new("-b 260M"))
        .changed_by(|at| {
            changed(at, "nodiscard", |root| {
                btrfs(["filesystem", "resize", "268M", root]);
                btrfs([
                    "balance",
                    "start",
                    "-f",
                    "-dconvert=dup",
                    "-mconvert=single",
                    root,
                ]);
                fs::write(format!("{root}/between"), noise(5, 3_000_000)).unwrap();
                btrfs(["filesystem", "resize", "258M", root]);
                balance(root, &["-f", "-dconvert=dup", "-mconvert=dup"]);
            });
        })
        .holds();
}

#[test]
fn btrfs_whose_balance_is_paused_comes_back_as_root() {
    let given = proof("paused", Btrfs::new("").mounted_with("nodiscard,skip_balance"))
        .changed_by(|at| changed(at, "nodiscard", pause_balance))
        .made();
    assert!(has_balance(&given.disk));
    given.holds();
}

#[test]
fn btrfs_with_little_room_comes_back_as_root() {
    proof("full", Btrfs::new(""))
        .changed_by(|at| {
            changed(at, "nodiscard", |root| {
                fill_up(Path::new(root));
                for number in (0..).step_by(10) {
                    if fs::remove_file(format!("{root}/full-{number}")).is_err() {
                        break;
                    }
                }
            });
        })
        .holds();
}

#[test]
fn btrfs_that_was_an_ext4_comes_back_as_root() {
    proof("converted", Btrfs::converted()).holds();
}

#[test]
fn btrfs_with_a_tree_of_block_groups_comes_back_as_root() {
    proof("groups", Btrfs::of_image("btrfs-block-group-tree.qcow2"))
        .changed_by(|at| changed(at, "nodiscard", with_snapshots))
        .holds();
}

#[test]
fn btrfs_in_a_partition_comes_back_as_root() {
    Proof::disk("btrfs-partition", 130 * MIB)
        .laid_out_by(|disk| sfdisk(disk, "label: gpt\nstart=1M,size=120M\n"))
        .volume(MIB..121 * MIB, Btrfs::new("-L label"))
        .made()
        .holds();
}
