//! Series of incremental images of a disk that changes: each of them is the disk as it was.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::naive;
use crate::restore::same;
use crate::support::loops::{Loop, Mount, make_ext4};
use crate::support::{Dice, Dir, fill, noise, qemu, tool};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How many histories there are of raw disks, and a sixth of filesystems; `MKQCOW2_HISTORIES` asks for more.
fn histories() -> u64 {
    let asked = std::env::var("MKQCOW2_HISTORIES");
    asked.map_or(6, |asked| asked.parse().unwrap())
}

/// One image of a history.
struct Generation {
    name: String,
    disk: Vec<u8>,
    digest: Option<String>,
}

/// Writes what is not zeros, or sometimes zeros, too.
fn write_disk(path: &Path, disk: &[u8], is_sparse: bool) {
    if is_sparse {
        let file = fs::File::create(path).unwrap();
        file.set_len(disk.len() as u64).unwrap();
        fill(path, 0, disk);
    } else {
        fs::write(path, disk).unwrap();
    }
}

/// What happens to a disk between two images.
fn change(dice: &mut Dice, disk: &mut Vec<u8>) {
    for _ in 0..dice.below(6) {
        let size = disk.len() as u64;
        let unit = [1, 512, 4 * KIB, 64 * KIB][dice.below(4) as usize];
        let start = dice.below(size) / unit * unit;
        let length = (1 + dice.below(size / 8)) / unit * unit;
        let (start, end) = (start as usize, (start + length).min(size) as usize);
        match dice.below(5) {
            0 => disk[start..end].copy_from_slice(&noise(dice.roll(), end - start)),
            1 => disk[start..end].fill(dice.below(256) as u8),
            2 => disk[start..end].fill(0),
            3 if start < end => disk[start] ^= 1,
            3 => {}
            _ => {
                let to = dice.below(size - (end - start) as u64) as usize;
                disk.copy_within(start..end, to);
            }
        }
    }
    match dice.below(6) {
        0 => disk.resize(disk.len() + 512 * (1 + dice.below(3000)) as usize, 0),
        1 => {
            let length = disk.len() - 512 * dice.below(disk.len() as u64 / 1024) as usize;
            disk.truncate(length);
        }
        _ => {}
    }
}

/// The options of an image, with its cluster size and version.
fn options(dice: &mut Dice) -> (String, u64, &'static str) {
    let cluster_size =
        [512, 1024, 4096, 16 * KIB, 64 * KIB, 64 * KIB, 64 * KIB, 2 * MIB][dice.below(8) as usize];
    let compat = ["1.1", "1.1", "0.10"][dice.below(3) as usize];
    let compress = match (dice.below(5), compat) {
        (0, _) => "-c zlib:1",
        (1, "1.1") => "-c zstd:1",
        (2, "1.1") => "-c zstd:1 --dedupe",
        _ => "",
    };
    let digests = ["", "", "--no-digests"][dice.below(3) as usize];
    let options = format!("--cluster-size {cluster_size} --compat {compat} {compress} {digests}");
    (options, cluster_size, compat)
}

/// How many clusters differ from those of another disk, and are data in an image of that version.
fn differing(disk: &[u8], before: &[u8], cluster_size: u64, compat: &str) -> u64 {
    let padded = |disk: &[u8], start: usize| {
        let end = (start + cluster_size as usize).min(disk.len());
        let mut bytes = disk.get(start..end).unwrap_or_default().to_vec();
        bytes.resize(cluster_size as usize, 0);
        bytes
    };
    let starts = (0..disk.len()).step_by(cluster_size as usize);
    let differs = |start: &usize| {
        let bytes = padded(disk, *start);
        bytes != padded(before, *start) && (compat == "0.10" || bytes.iter().any(|byte| *byte != 0))
    };
    starts.filter(differs).count() as u64
}

fn digest_of(dir: &Dir, name: &str) -> Option<String> {
    let info = dir.run(&format!("info --json {name}")).exits(0).json();
    info["digest"].as_str().map(str::to_owned)
}

/// Restores it, with our program and with QEMU.
#[track_caller]
fn reads_as(dir: &Dir, generation: &Generation, what: &str) {
    let name = &generation.name;
    dir.run(&format!("restore -q --no-sync --follow {name} restored.raw"))
        .exits(0);
    let restored = fs::read(dir.join("restored.raw")).unwrap();
    assert!(restored == generation.disk, "{what}: {name} is another disk");
    qemu::img(dir, &format!("convert -f qcow2 -O raw {name} qemu.raw"));
    same(&dir.join("restored.raw"), &dir.join("qemu.raw"));
}

#[test]
fn each_image_of_a_random_history_is_the_disk_as_it_was() {
    for seed in 0..histories() {
        let dir = Dir::new(&format!("histories-{seed}"));
        fs::create_dir(dir.join("sub")).unwrap();
        let mut dice = Dice::new(seed);
        let mut disk = vec![0; 512 * (2000 + dice.below(10_000)) as usize];
        change(&mut dice, &mut disk);
        let mut all: Vec<Generation> = Vec::new();
        for number in 0..5 + dice.below(8) {
            let place = if dice.below(5) == 0 { "sub/" } else { "" };
            let name = format!("{place}{number}.qcow2");
            let (options, cluster_size, compat) = options(&mut dice);
            write_disk(&dir.join("disk.raw"), &disk, dice.below(2) == 0);
            let base = all
                .last()
                .map_or_else(String::new, |last| format!("--base {}", last.name));
            let json = dir
                .run(&format!("--json --no-sync {options} {base} disk.raw {name}"))
                .exits(0)
                .json();
            let what = format!("seed {seed}, {options} {base}");
            let before = all.last().map_or(&[][..], |last| &last.disk);
            if !(all.is_empty() && compat == "0.10") {
                let expected = differing(&disk, before, cluster_size, compat);
                assert_eq!(json["data-clusters"], expected, "{what}: {name}");
            }
            qemu::assert_clean(&dir.join(&name));
            let digest = digest_of(&dir, &name);
            let generation = Generation {
                name,
                disk: disk.clone(),
                digest,
            };
            reads_as(&dir, &generation, &what);
            all.push(generation);
            change(&mut dice, &mut disk);
        }
        let last = all.last().unwrap();
        dir.run(&format!("verify --follow {}", last.name)).exits(0);
        dir.run(&format!("check --follow {}", last.name)).exits(0);
        for generation in &all {
            reads_as(&dir, generation, &format!("seed {seed}, at the end"));
            write_disk(&dir.join("disk.raw"), &generation.disk, true);
            dir.run("-q --no-sync --digests disk.raw full.qcow2").exits(0);
            if let Some(digest) = &generation.digest {
                let full = digest_of(&dir, "full.qcow2");
                assert_eq!(full.as_ref(), Some(digest), "seed {seed}: {}", generation.name);
            }
        }
        // What the tests read by themselves has its own checksums, digests and identity right.
        naive::Image::read(&dir.join("full.qcow2"));
    }
}

/// Restores an image over what is left of another disk, and compares with a restore of a full image.
fn restores_over_anything(dir: &Dir, name: &str, options: &str) {
    let size = fs::metadata(dir.join("disk.raw")).unwrap().len();
    let restored = |image: &str, over: u8| {
        fs::write(dir.join("target"), vec![over; size as usize]).unwrap();
        let device = Loop::over(&dir.join("target"));
        let target = device.path().display();
        dir.run(&format!(
            "restore -q --no-sync --overwrite {options} {image} {target}"
        ))
        .exits(0);
        drop(device);
        fs::read(dir.join("target")).unwrap()
    };
    for over in [0xff, 0x00] {
        assert!(
            restored(name, over) == restored("full.qcow2", over),
            "{name} over {over:#x}, {options}"
        );
    }
}

/// Files that are written, or removed where nothing is told of their content.
type Changes = [(String, Option<Vec<u8>>)];

fn change_ext4(dir: &Dir, disk: &Path, changes: &Changes) {
    let mount = Mount::new("loop", disk, dir.join("mnt"));
    for (name, content) in changes {
        match content {
            Some(content) => fs::write(mount.join(name), content).unwrap(),
            // It need not be there.
            None => drop(fs::remove_file(mount.join(name))),
        }
    }
}

fn make_fat(disk: &Path) {
    tool("mkfs.fat", ["-F", "32", "-s", "1", disk.to_str().unwrap()]);
}

fn change_fat(dir: &Dir, disk: &Path, changes: &Changes) {
    let (image, new) = (disk.to_str().unwrap(), dir.join("new"));
    for (name, content) in changes {
        let there = format!("::{name}");
        // A file that is not there cannot be removed.
        let _ = Command::new("mdel")
            .args(["-i", image, &there])
            .output()
            .expect("mdel: install mtools");
        if let Some(content) = content {
            fs::write(&new, content).unwrap();
            tool("mcopy", ["-i", image, new.to_str().unwrap(), &there]);
        }
    }
}

/// Makes an image of a filesystem again and again while files come and go, each on the one before, and holds it to a full
/// image.
fn assert_history(name: &str, seed: u64, make: fn(&Path), apply: fn(&Dir, &Path, &Changes)) {
    let dir = Dir::new(&format!("histories-{name}-{seed}"));
    let disk = dir.sparse("disk.raw", 36 * MIB, &[]);
    make(&disk);
    let mut dice = Dice::new(seed);
    let mut base = String::new();
    for number in 0..6 {
        let changes: Vec<_> = (0..4)
            .map(|_| {
                let file = format!("file{}", dice.below(8));
                let size = dice.below(2 * MIB) as usize;
                let content = match dice.below(4) {
                    0 => None,
                    1 => Some(vec![0; size]),
                    _ => Some(noise(dice.roll(), size)),
                };
                (file, content)
            })
            .collect();
        apply(&dir, &disk, &changes);
        let (options, _, compat) = options(&mut dice);
        let name = format!("{number}.qcow2");
        dir.run(&format!("-q --no-sync {options} {base} disk.raw {name}"))
            .exits(0);
        dir.run("-q --no-sync --digests --cluster-size 4K disk.raw fine.qcow2")
            .exits(0);
        // What is free differs with the size of clusters.
        let cluster = options.split_whitespace().nth(1).unwrap();
        dir.run(&format!(
            "-q --no-sync --cluster-size {cluster} disk.raw full.qcow2"
        ))
        .exits(0);
        qemu::assert_clean(&dir.join(&name));
        qemu::img(&dir, &format!("compare {name} full.qcow2"));
        dir.run(&format!("compare -q {name} fine.qcow2")).exits(0);
        restores_over_anything(&dir, &name, "");
        // In version 2, what hides the base is data and no longer free.
        if compat == "1.1" {
            restores_over_anything(&dir, &name, "--used-only");
        }
        base = format!("--base {name}");
    }
    dir.run("verify 5.qcow2").exits(0);
}

#[test]
fn each_image_of_a_filesystem_is_what_a_full_one_is_as_root() {
    for seed in 0..histories().div_ceil(6) {
        assert_history("ext4", seed, make_ext4, change_ext4);
        assert_history("fat", seed, make_fat, change_fat);
    }
}
