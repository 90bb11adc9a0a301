//! Images of QCOW version 1 and QED, made by QEMU and changed by hand.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Dir, qemu};

/// The size of a cluster of all of them.
pub(super) const CLUSTER: u64 = 4096;

/// How much of the disk an L2 table of QCOW is for.
pub(super) const QCOW_REACH: u64 = 512 * CLUSTER;

/// An image that can be changed; its disk has 8 MiB.
pub(super) struct Plain<'a> {
    dir: &'a Dir,
    pub(super) name: &'static str,
    file: File,
}

impl<'a> Plain<'a> {
    /// Data in clusters 0 to 2 and in the first one of the second table, zeros in clusters 16 to 31.
    pub(super) fn qed(dir: &'a Dir) -> Self {
        let options = ["-o", "cluster_size=4096,table_size=2"];
        let image = Self::make(dir, "disk.qed", "qed", &options);
        image.io(&["write -P 1 0 12k", "write -P 2 4M 4k", "write -z 64k 64k"]);
        image
    }

    /// Data in clusters 0 to 2 and in the first one of the third table, clusters 16 and 17 compressed.
    pub(super) fn qcow(dir: &'a Dir) -> Self {
        let image = Self::make(dir, "disk.qcow", "qcow", &[]);
        image.io(&[
            "write -P 1 0 12k",
            "write -P 2 4M 4k",
            "write -c -P 3 64k 4k",
            "write -c -P 4 68k 4k",
        ]);
        image
    }

    /// An image without clusters.
    pub(super) fn make(dir: &'a Dir, name: &'static str, format: &str, options: &[&str]) -> Self {
        qemu::img(
            dir,
            &format!("create -q -f {format} {} {name} 8M", options.join(" ")),
        );
        let file = File::options()
            .read(true)
            .write(true)
            .open(dir.join(name))
            .unwrap();
        Self { dir, name, file }
    }

    /// Lets qemu-io write.
    pub(super) fn io(&self, commands: &[&str]) {
        let format = if self.is_qed() { "qed" } else { "qcow" };
        qemu::io(self.dir, format, self.name, commands);
    }

    pub(super) fn is_qed(&self) -> bool {
        self.name == "disk.qed"
    }

    pub(super) fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        if self.is_qed() {
            u64::from_le_bytes(bytes)
        } else {
            u64::from_be_bytes(bytes)
        }
    }

    pub(super) fn put(&self, at: u64, value: u64) {
        let bytes = if self.is_qed() {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        };
        self.file.write_all_at(&bytes, at).unwrap();
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    pub(super) fn length(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    pub(super) fn resize(&self, length: u64) {
        self.file.set_len(length).unwrap();
    }

    /// Where an entry of the L1 table stands; both formats have its offset in the same place.
    pub(super) fn l1(&self, index: u64) -> u64 {
        self.get(40) + 8 * index
    }

    /// Where an entry of the L2 table of an L1 entry stands.
    pub(super) fn l2(&self, index: u64, number: u64) -> u64 {
        self.get(self.l1(index)) + 8 * number
    }

    /// Says that it was not closed properly: feature bit 1 of QED.
    pub(super) fn needs_check(&self) {
        self.put(16, self.get(16) | 2);
    }

    /// What `qemu-img check` says of QED.
    pub(super) fn qemu_check(&self) -> Value {
        let mut command = Command::new("qemu-img");
        let command = command.args(["check", "-f", "qed", "--output=json", self.name]);
        let output = command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
