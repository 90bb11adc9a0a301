//! Pairs of disks that nobody thought of, in random formats, held against a comparison byte by byte.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use serde_json::json;

use super::MIB;
use crate::support::{Dir, noise, qemu};

/// What a pair of disks is made into.
fn formats() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        Just(None),
        Just(Some("-o cluster_size=512")),
        Just(Some("-o cluster_size=4k -c")),
        Just(Some("-o compression_type=zstd -c")),
        Just(Some("-o cluster_size=2M -c")),
        Just(Some("-o extended_l2=on")),
    ]
}

/// The sectors in which two disks differ, as ranges that do not touch: byte by byte.
fn naive(a: &[u8], b: &[u8]) -> (Option<usize>, Vec<(usize, usize)>) {
    let byte = |disk: &[u8], at: usize| disk.get(at).copied().unwrap_or(0);
    let end = a.len().max(b.len());
    let differing = |at: &usize| byte(a, *at) != byte(b, *at);
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for at in (0..end).filter(differing) {
        let (start, stop) = (at / 512 * 512, (at / 512 * 512 + 512).min(end));
        match ranges.last_mut() {
            Some((_, last)) if *last >= start => *last = stop,
            _ => ranges.push((start, stop)),
        }
    }
    ((0..end).find(differing), ranges)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn every_pair_of_disks_differs_where_its_bytes_do(
        disk in crate::property::disks(),
        size in prop_oneof![3 => Just(None), 1 => (1_u64..4 * MIB).prop_map(Some)],
        changes in prop::collection::vec((0..4 * MIB, 0_usize..3000, any::<bool>()), 0..6),
        formats in (formats(), formats()),
        threads in 1..5,
    ) {
        let dir = Dir::new("compare-property");
        let a = disk.file(&dir, "a.raw");
        let b = disk.file(&dir, "b.raw");
        let file = File::options().write(true).open(&b).unwrap();
        let size = size.unwrap_or(disk.size());
        file.set_len(size).unwrap();
        for (at, length, is_data) in changes {
            let at = at % size;
            let length = length.min((size - at) as usize);
            let bytes = if is_data { noise(at, length) } else { vec![0; length] };
            file.write_all_at(&bytes, at).unwrap();
        }
        let (first, ranges) = naive(&fs::read(&a).unwrap(), &fs::read(&b).unwrap());
        let made = |name: &str, format: Option<&str>| match format {
            None => format!("{name}.raw"),
            Some(options) => {
                qemu::img(&dir, &format!("convert -f raw -O qcow2 {options} {name}.raw {name}.qcow2"));
                format!("{name}.qcow2")
            }
        };
        let (a, b) = (made("a", formats.0), made("b", formats.1));

        let status = i32::from(first.is_some());
        let one = dir.run(&format!("compare --json -j {threads} {a} {b}")).exits(status).json();
        prop_assert_eq!(&one["first-difference"], &json!(first));
        let all = dir.run(&format!("compare --json --all -j {threads} {a} {b}")).exits(status).json();
        prop_assert_eq!(&all["first-difference"], &json!(first));
        let listed: Vec<_> = all["ranges"].as_array().unwrap().iter().map(|range| {
            let number = |field: &str| range[field].as_u64().unwrap() as usize;
            (number("start"), number("start") + number("length"))
        }).collect();
        // An image has whole sectors only, so that the last range of one may be longer.
        let whole = |ranges: Vec<(usize, usize)>| -> Vec<_> {
            ranges.into_iter().map(|(start, end)| (start, end.next_multiple_of(512))).collect()
        };
        prop_assert_eq!(whole(listed), whole(ranges));
    }
}
