//! `mkqcow2 merge`: images that stand on each other become one, and nothing else changes.

mod chains;
mod faults;
mod refused;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Dir, are_same, assert_equals, noise};

const MIB: u64 = 1 << 20;

/// Lines that compress well, and differ with the seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let lines = (0_u64..).flat_map(|line| format!("line {seed} {}\n", line * line % 977).into_bytes());
    lines.take(length).collect()
}

/// A disk that changed four times: it grew, it shrank within a cluster, and it grew again. Its images are `a.qcow2` to
/// `d.qcow2`, each on the one before it, made with these options.
struct Chain {
    dir: Dir,
    /// The bases, as they were when the chain was made.
    before: BTreeMap<String, Vec<u8>>,
    /// The image, as it was then.
    image: Vec<u8>,
}

const GENERATIONS: [&str; 4] = ["a", "b", "c", "d"];

fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
    disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
}

/// What the disk is, generation by generation.
fn disks() -> Vec<Vec<u8>> {
    let mut disk = vec![0; (8 * MIB + 512) as usize];
    put(&mut disk, 0, &text(1, 1 << 20));
    put(&mut disk, 2 * MIB, &noise(1, 1 << 20));
    put(&mut disk, 3 * MIB, &text(2, 2 << 20));
    put(&mut disk, 7 * MIB, &text(3, 1 << 20));
    let mut all = vec![disk.clone()];
    // Data changes, data goes away, and the disk grows.
    put(&mut disk, 3 * MIB + 100, &noise(2, 70_000));
    put(&mut disk, 4 * MIB, &vec![0; 1 << 19]);
    disk.resize((11 * MIB) as usize, 0);
    put(&mut disk, 9 * MIB, &text(4, 1 << 20));
    all.push(disk.clone());
    // It shrinks, and ends within a cluster that has data.
    disk.truncate((7 * MIB + 1024) as usize);
    put(&mut disk, 0, &noise(3, 100));
    put(&mut disk, 5 * MIB + 4096, &text(5, 300_000));
    all.push(disk.clone());
    // It grows: what was there before it shrank does not come back.
    disk.resize((10 * MIB) as usize, 0);
    put(&mut disk, 2 * MIB, &vec![0; 1 << 16]);
    put(&mut disk, 4 * MIB, &text(6, 1 << 16));
    put(&mut disk, 8 * MIB, &text(7, 3000));
    all.push(disk);
    all
}

impl Chain {
    fn new(test: &str, options: [&str; 4]) -> Self {
        let dir = Dir::new(test);
        let mut base = String::new();
        for ((name, options), disk) in GENERATIONS.iter().zip(options).zip(disks()) {
            fs::write(dir.join(format!("{name}.raw")), disk).unwrap();
            dir.run(&format!("-q --no-sync {options} {base} {name}.raw {name}.qcow2"))
                .exits(0)
                .in_silence();
            base = format!("--base {name}.qcow2");
        }
        let read = |name: &str| fs::read(dir.join(format!("{name}.qcow2"))).unwrap();
        let before = GENERATIONS[..3].iter();
        Self {
            before: before.map(|name| ((*name).to_owned(), read(name))).collect(),
            image: read("d"),
            dir,
        }
    }

    fn info(&self, image: &str) -> Value {
        self.dir.run(&format!("info --json {image}")).exits(0).json()
    }

    /// What must not change when the image is merged.
    fn identity(&self) -> Value {
        let info = self.info("d.qcow2");
        assert!(
            info["uuid"].is_string() && info["provenance"].is_object(),
            "{info}"
        );
        let fields = [
            "uuid",
            "digest",
            "cluster-size",
            "version",
            "provenance",
            "virtual-size",
        ];
        let record = ["free", "unreadable", "sector-size", "state"];
        let record = record.map(|field| info["record"][field].clone());
        fields
            .into_iter()
            .map(|field| info[field].clone())
            .chain(record)
            .collect()
    }

    /// Holds the image to the last generation of the disk, and the bases to what they were.
    #[track_caller]
    fn is_right(&self) {
        assert_equals(&self.dir.join("d.raw"), &self.dir.join("d.qcow2"));
        self.dir.run("restore -q --no-sync d.qcow2 restored.raw").exits(0);
        assert!(are_same(&self.dir.join("restored.raw"), &self.dir.join("d.raw")));
        self.dir.run("verify -q d.qcow2").exits(0);
        self.dir.run("check -q --data d.qcow2").exits(0);
        self.bases_are_as_before();
    }

    #[track_caller]
    fn bases_are_as_before(&self) {
        for (name, bytes) in &self.before {
            let path = self.dir.join(format!("{name}.qcow2"));
            assert!(fs::read(path).unwrap() == *bytes, "{name}.qcow2 was changed");
        }
    }

    /// Holds everything to what it was, and the directory to having nothing new in it.
    #[track_caller]
    fn is_unchanged(&self) {
        assert!(
            fs::read(self.dir.join("d.qcow2")).unwrap() == self.image,
            "d.qcow2 was changed"
        );
        self.bases_are_as_before();
        self.has_no_debris();
    }

    #[track_caller]
    fn has_no_debris(&self) {
        let names = self.dir.names();
        assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
    }

    fn put_back(&self) {
        fs::write(self.dir.join("d.qcow2"), &self.image).unwrap();
    }
}

/// Where the L2 entry of a cluster lies in an image: without a program of ours.
fn l2_entry(image: &Path, cluster: u64) -> u64 {
    let bytes = fs::read(image).unwrap();
    let number = |at: u64, length: u64| {
        let bytes = &bytes[at as usize..(at + length) as usize];
        bytes
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (entries, l1) = ((1 << number(20, 4)) / 8, number(40, 8));
    let table = number(l1 + cluster / entries * 8, 8) & 0x00ff_ffff_ffff_fe00;
    assert!(table > 0, "no table for {cluster}");
    table + cluster % entries * 8
}

/// Where a cluster that is stored as it is, or its stream, lies in an image.
fn host_offset(image: &Path, cluster: u64) -> u64 {
    let entry = l2_entry(image, cluster) as usize;
    let bytes = fs::read(image).unwrap();
    let entry = u64::from_be_bytes(bytes[entry..entry + 8].try_into().unwrap());
    let bits = u32::from(bytes[23]);
    if entry & 1 << 62 == 0 {
        entry & 0x00ff_ffff_ffff_fe00
    } else {
        entry & ((1 << (70 - bits)) - 1)
    }
}
