//! Encrypted volumes: they are copied whole, and told with their names and ciphers.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use mkqcow2::disk::{self, Open};
use mkqcow2::volumes::{self, Region, Scan};

use super::proof::MIB;
use crate::support::{Dir, tool};

/// Makes a volume with cryptsetup, which needs no device for that.
fn formatted(path: &Path, options: &str) {
    let mut command = Command::new("cryptsetup");
    command.args(["luksFormat", "--batch-mode"]);
    command.args(options.split_whitespace()).arg(path).arg("-");
    let child = command.stdin(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cryptsetup: {error}: install cryptsetup-bin"));
    child.stdin.take().unwrap().write_all(b"a password").unwrap();
    assert!(child.wait().unwrap().success());
}

fn only_region(path: &Path) -> Region {
    let source = disk::open(path, Open::default()).unwrap();
    let mut regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    assert_eq!(regions.len(), 1);
    regions.remove(0)
}

fn detail(region: &Region, key: &str) -> Option<String> {
    let detail = region.details.iter().find(|detail| detail.key == key);
    detail.map(|detail| detail.value.clone())
}

#[test]
fn luks_is_told_with_its_uuid_and_cipher_as_cryptsetup_tells_them() {
    let dir = Dir::new("encrypted-luks");
    for (options, name, label) in [
        ("--type luks1 --pbkdf-force-iterations 1000", "LUKS1", None),
        (
            "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label secrets",
            "LUKS2",
            Some("secrets"),
        ),
        (
            "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --cipher aes-cbc-essiv:sha256 --key-size 256",
            "LUKS2",
            None,
        ),
    ] {
        let path = dir.sparse("disk.raw", 20 * MIB, &[]);
        formatted(&path, options);
        let told = tool("cryptsetup", ["luksDump", path.to_str().unwrap()]);
        let behind = |words: &str| {
            let line = told.lines().find_map(|line| line.trim().strip_prefix(words));
            line.map(|line| line.trim().to_owned())
        };
        let cipher = match name {
            "LUKS1" => format!(
                "{}-{}",
                behind("Cipher name:").unwrap(),
                behind("Cipher mode:").unwrap()
            ),
            _ => behind("cipher:").unwrap(),
        };

        let region = only_region(&path);
        assert_eq!((region.name, region.label.as_deref()), (Some(name), label));
        assert_eq!(detail(&region, "uuid"), behind("UUID:"));
        assert_eq!(detail(&region, "cipher"), Some(cipher), "{told}");
        assert_eq!((region.used, region.free()), (20 * MIB, 0));
        let why = region.why_whole().unwrap();
        assert!(why.contains("open it with cryptsetup"), "{why}");
    }
    // A cron job's mail does not repeat it every night.
    assert_eq!(dir.run("disk.raw image.qcow2").exits(0).stderr(), "");
    dir.run("map --regions disk.raw")
        .exits(0)
        .prints("LUKS2, copied whole")
        .prints("cipher: aes-cbc-essiv:sha256");
}

#[test]
fn a_header_of_luks_that_is_damaged_costs_nothing_but_its_details() {
    let dir = Dir::new("encrypted-damaged");
    let json = [&b"LUKS\xba\xbe\0\x02"[..], &u64::MAX.to_be_bytes()].concat();
    for (at, bytes) in [
        (0, &b"LUKS\xba\xbe\0\x01"[..]),
        (0, b"LUKS\xba\xbe\0\x02"),
        (0, b"LUKS\xba\xbe\0\x09"),
        (0, &*json),
        (0x4000, b"SKUL\xba\xbe\0\x02"),
    ] {
        let path = dir.sparse("disk.raw", MIB, &[(at, bytes)]);
        let region = only_region(&path);
        assert!(region.name.unwrap().starts_with("LUKS"), "{region:?}");
        assert!(region.details.is_empty(), "{region:?}");
        assert_eq!(region.used, MIB);
    }
}

#[test]
fn bitlocker_is_told_with_its_uuid_and_cipher() {
    const GUID: &[u8] = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
    let dir = Dir::new("encrypted-bitlocker");
    let mut metadata = [0; 102];
    metadata[..8].copy_from_slice(b"-FVE-FS-");
    let identity = [
        0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    metadata[80..96].copy_from_slice(&identity);
    metadata[100..].copy_from_slice(&0x8004_u16.to_le_bytes());
    let place = 0x2_0000_u64.to_le_bytes();
    for (at, name) in [
        (160, &b"\xeb\x58\x90-FVE-FS-"[..]),
        (424, b"\xeb\x58\x90MSWIN4.1"),
    ] {
        let pieces = [(0, name), (at, GUID), (at + 16, &place), (0x2_0000, &metadata)];
        let path = dir.sparse("disk.raw", MIB, &pieces);
        let region = only_region(&path);
        assert_eq!(region.name, Some("BitLocker"));
        let uuid = detail(&region, "uuid");
        assert_eq!(uuid.as_deref(), Some("12345678-9abc-def0-0102-030405060708"));
        assert_eq!(detail(&region, "cipher").as_deref(), Some("aes-xts"));
    }
    let path = dir.sparse("disk.raw", MIB, &[(3, b"-FVE-FS-")]);
    assert!(only_region(&path).details.is_empty());
}
