//! The checksum table as the library reads it back: whole, damaged and cut off.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mkqcow2::{Error, Image};
use proptest::prelude::*;

use crate::disk::Disk;
use crate::format::Format;
use crate::support::{Dir, noise, qemu};

/// Data at both ends and in between, so that the table has three runs.
fn disk(format: Format) -> Disk {
    let cluster = format.cluster_size.max(4096);
    Disk::hole(cluster * 20)
        .data(0..cluster)
        .zeros(cluster..cluster * 2)
        .data(cluster * 8 - 3..cluster * 10 + 5)
        .data(cluster * 20 - 1..cluster * 20)
}

/// The smallest image there can be with two runs of clusters.
fn tiny_image(dir: &Dir, compat: &'static str) -> PathBuf {
    let format = Format {
        cluster_size: 512,
        compat,
    };
    let disk = Disk::hole(16384).data(0..700).data(8192..8193);
    disk.image(dir, format)
}

/// The clusters listed, with their checksums; none if the image has no table.
fn listed(path: &Path) -> mkqcow2::Result<Option<Vec<(u64, u32)>>> {
    let image = Image::open(path)?;
    let Some(checksums) = image.checksums()? else {
        return Ok(None);
    };
    let mut listed = Vec::new();
    checksums.for_each(|cluster, crc| listed.push((cluster.0, crc.crc)))?;
    assert_eq!(
        checksums.clusters(),
        listed.len() as u64,
        "clusters() and for_each() agree"
    );
    Ok(Some(listed))
}

/// Where the table begins and ends: the last extension but the end of the list points to it.
fn table(bytes: &[u8]) -> Range<usize> {
    let extension = bytes
        .windows(8)
        .position(|words| words == *b"mkqc\0\0\0\x18")
        .unwrap();
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let start = number(extension + 8);
    start..start + number(extension + 16)
}

#[test]
fn the_table_lists_exactly_the_clusters_that_hold_data() {
    let dir = Dir::new("checksums-listed");
    for format in [512, 4096, 64 << 10, 2 << 20].into_iter().flat_map(Format::both) {
        let clusters = disk(format).data_clusters(format.cluster_size);
        let expected = clusters
            .into_iter()
            .map(|(cluster, bytes)| (cluster, crc32fast::hash(&bytes)))
            .collect();

        assert_eq!(
            listed(&disk(format).image(&dir, format)).unwrap(),
            Some(expected),
            "{format}"
        );
    }
}

#[test]
fn an_empty_disk_has_a_table_that_lists_nothing() {
    let dir = Dir::new("checksums-empty");

    let image = Disk::hole(1 << 20).image(&dir, "");

    assert_eq!(listed(&image).unwrap(), Some(vec![]));
}

#[test]
fn an_image_made_without_checksums_or_by_qemu_has_none() {
    let dir = Dir::new("checksums-none");
    Disk::hole(1 << 20).data(0..5000).file(&dir, "disk.raw");
    for format in Format::all() {
        let ours = dir.image(format_args!("--no-checksums {format}"));
        let options = format!("cluster_size={},compat={}", format.cluster_size, format.compat);
        qemu::image(&dir, &format!("-o {options} theirs.qcow2 1M"), &[]);

        assert_eq!(listed(&ours).unwrap(), None, "{format}");
        assert_eq!(listed(&dir.join("theirs.qcow2")).unwrap(), None, "{format}");
    }
}

#[test]
fn no_byte_of_the_table_can_change_unnoticed() {
    let dir = Dir::new("checksums-damage");
    for compat in ["0.10", "1.1"] {
        let path = tiny_image(&dir, compat);
        let bytes = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for at in table(&bytes) {
            for change in [0xff, 0x01, 0x80, 0x10] {
                file.write_all_at(&[bytes[at] ^ change], at as u64).unwrap();

                let result = listed(&path);
                assert!(
                    matches!(result, Err(Error::Corrupt(_))),
                    "{compat}: {at:#x} ^ {change:#x}: {result:?}"
                );
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        assert!(
            matches!(listed(&path), Ok(Some(_))),
            "{compat}: all changes were undone"
        );
    }
}

#[test]
fn no_prefix_of_an_image_has_a_table() {
    let dir = Dir::new("checksums-truncated");
    for compat in ["0.10", "1.1"] {
        let path = tiny_image(&dir, compat);
        let end = table(&fs::read(&path).unwrap()).end;
        let file = File::options().write(true).open(&path).unwrap();
        for length in (0..end).rev() {
            file.set_len(length as u64).unwrap();

            let result = listed(&path);
            assert!(
                matches!(result, Err(Error::Corrupt(_))),
                "{compat}: {length} bytes: {result:?}"
            );
        }
    }
}

#[test]
fn a_file_that_is_no_image_is_an_error() {
    let dir = Dir::new("checksums-garbage");
    for (name, bytes) in [
        ("empty", vec![]),
        ("zeros", vec![0; 65536]),
        ("noise", noise(1, 65536)),
    ] {
        let path = dir.sparse(name, bytes.len() as u64, &[(0, &bytes)]);

        assert!(matches!(listed(&path), Err(Error::Corrupt(_))), "{name}");
    }
    assert!(matches!(listed(&dir.join("none")), Err(Error::Io { .. })));
    assert!(matches!(listed(dir.path()), Err(Error::Invalid(_))));
}

/// Changes to the bytes of a header, up to the end of its extensions.
fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let interesting = prop_oneof![Just(0_u8), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()];
    proptest::collection::vec((4_usize..216, interesting), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_damaged_header_is_an_error_or_harmless_and_never_a_panic(
        changes in changes(),
        compat in prop_oneof![Just("0.10"), Just("1.1")],
    ) {
        let dir = Dir::new("checksums-header");
        let path = tiny_image(&dir, compat);
        let whole = listed(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        fs::write(&path, bytes).unwrap();

        // Found, lost or refused; but never found and wrong.
        match listed(&path) {
            Ok(Some(found)) => prop_assert_eq!(Some(found), whole),
            Ok(None) => {}
            Err(error) => prop_assert!(!matches!(error, Error::Invalid(_)), "{}", error),
        }
    }
}
