//! Disks that nobody thought of: random extents of data and zeros, at random places, in random formats.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::disk::Disk;
use crate::format::Format;
use crate::naive;
use crate::stdout::in_use;
use crate::support::{Dir, qemu};

const MAX_SIZE: u64 = 4 << 20;

/// Where to write what, before it is known how large the disk is.
#[derive(Clone, Copy, Debug)]
struct Write {
    at: u64,
    length: u64,
    /// A power of two that both are rounded down to, or 1.
    alignment: u64,
    is_data: bool,
}

impl Write {
    fn to(self, disk: Disk) -> Disk {
        let at = self.at % disk.size();
        let at = at - at % self.alignment;
        let length = (self.length - self.length % self.alignment).max(1);
        let range = at..(at + length).min(disk.size());
        if self.is_data {
            disk.data(range)
        } else {
            disk.zeros(range)
        }
    }
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let length = prop_oneof![1_u64..5000, 1_u64..200_000];
    let alignment = prop_oneof![Just(1), (9_u32..17).prop_map(|bits| 1 << bits)];
    let write = (0..MAX_SIZE, length, alignment, prop::bool::weighted(0.7));
    let write = write.prop_map(|(at, length, alignment, is_data)| Write {
        at,
        length,
        alignment,
        is_data,
    });
    vec(write, 0..24)
}

pub fn disks() -> impl Strategy<Value = Disk> {
    let size = prop_oneof![
        1_u64..5000,
        1..MAX_SIZE,
        (1..MAX_SIZE / 4096).prop_map(|blocks| blocks * 4096)
    ];
    (size, writes()).prop_map(|(size, writes)| {
        writes
            .into_iter()
            .fold(Disk::hole(size), |disk, write| write.to(disk))
    })
}

fn formats() -> impl Strategy<Value = Format> {
    let compat = prop_oneof![Just("0.10"), Just("1.1")];
    let bits = prop_oneof![9_u32..=12, 9_u32..=21];
    (bits, compat).prop_map(|(bits, compat)| Format {
        cluster_size: 1 << bits,
        compat,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn every_disk_becomes_an_image_that_holds_it(disk in disks(), format in formats(), threads in 1..9) {
        let dir = Dir::new("property");
        disk.file(&dir, "disk.raw");

        let image = dir.image(format!("-j {threads} {format}"));

        qemu::assert_clean(&image);
        naive::Image::read(&image).assert_holds(&disk);
    }

    #[test]
    fn every_disk_becomes_a_stream_that_holds_it(disk in disks(), format in formats(), threads in 1..9) {
        let dir = Dir::new("property-stream");
        disk.file(&dir, "disk.raw");

        let run = dir.run(&format!("-q -j {threads} {format} disk.raw -")).exits(0);

        fs::write(dir.join("disk.qcow2"), run.bytes()).unwrap();
        qemu::assert_clean(&dir.join("disk.qcow2"));
        naive::Image::read_stream(&dir.join("disk.qcow2")).assert_streams(&disk, &in_use(&dir, format));
    }
}
