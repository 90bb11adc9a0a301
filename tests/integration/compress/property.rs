//! Disks that nobody thought of, some of which repeat themselves, compressed in every way.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{image, text};
use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, noise};

const SIZE: u64 = 3 << 20;

/// Where what is to be written, in units of 512 bytes.
#[derive(Clone, Copy, Debug)]
struct Write {
    at: u64,
    length: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Zeros,
    Noise,
    Byte(u8),
    /// A few texts come again and again.
    Text(u64),
}

impl Write {
    fn to(self, disk: Disk) -> Disk {
        let at = self.at * 512;
        let length = (self.length * 512).min(SIZE - at);
        let bytes = match self.kind {
            Kind::Zeros => vec![0; length as usize],
            Kind::Noise => noise(at, length as usize),
            Kind::Byte(byte) => vec![byte; length as usize],
            Kind::Text(seed) => text(seed, length),
        };
        disk.bytes(at, bytes)
    }
}

fn disks() -> impl Strategy<Value = Disk> {
    let kind = prop_oneof![
        1 => Just(Kind::Zeros),
        2 => Just(Kind::Noise),
        1 => any::<u8>().prop_map(Kind::Byte),
        4 => (0..3_u64).prop_map(Kind::Text),
    ];
    // Some begin where large clusters begin, too.
    let at = prop_oneof![0..SIZE / 512, (0..SIZE >> 16).prop_map(|at| at << 7)];
    let length = prop_oneof![1..20_u64, 1..400_u64];
    let write = (at, length, kind).prop_map(|(at, length, kind)| Write { at, length, kind });
    vec(write, 0..20).prop_map(|writes| {
        writes
            .into_iter()
            .fold(Disk::hole(SIZE), |disk, write| write.to(disk))
    })
}

fn ways() -> impl Strategy<Value = (Format, String)> {
    let method = prop_oneof![
        (1..6_u8).prop_map(|level| (false, format!("zstd:{level}"))),
        (1..=9_u8, any::<bool>()).prop_map(|(level, is_v2)| (is_v2, format!("zlib:{level}"))),
    ];
    let bits = prop_oneof![9_u32..=12, 9_u32..=17];
    let dedupe = prop_oneof![Just(""), Just("--dedupe"), Just("--dedupe --no-checksums")];
    (bits, method, dedupe, 1..9_u8).prop_map(|(bits, (is_v2, method), dedupe, threads)| {
        let [v2, v3] = Format::both(1 << bits);
        let options = format!("-j {threads} -c {method} {dedupe}");
        (if is_v2 { v2 } else { v3 }, options)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn every_disk_becomes_a_compressed_image_that_holds_it(disk in disks(), (format, options) in ways()) {
        let dir = Dir::new("compress-property");

        image(&dir, format, &options, &disk);
    }
}
