//! Images that are encrypted with AES, as QEMU once did and its tools still do.

use std::fs;
use std::path::Path;

use mkqcow2::disk::Disk as _;
use mkqcow2::formats::{Access, AnyDisk, Format, Opening, Password};

use super::{MIB, assert_holds, noisy};
use crate::support::{Dice, Dir, assert_equals, qemu};

const PASSWORD: &str = "geheim";

/// How QEMU is told to open an image with the password.
fn opened(format: &str, image: &str) -> String {
    // It tells by itself that qcow2 is encrypted, not how.
    format!("driver={format},encrypt.format=aes,encrypt.key-secret=s,file.filename={image}")
}

/// Makes an encrypted image of 3 MiB and a bit, and `expected.raw`.
fn make(dir: &Dir, format: &str, image: &str, options: &str, password: &str) {
    let secret = format!("secret,id=s,data={password}");
    let size = (3 * MIB + 512).to_string();
    let mut create = vec!["create", "-q", "-f", format, "--object", &secret];
    create.extend(["-o", "encrypt.format=aes,encrypt.key-secret=s"]);
    create.extend(options.split_whitespace());
    create.extend([image, &size]);
    qemu::run(dir.path(), "qemu-img", create);
    fs::write(dir.join("begin"), b"hsqs".repeat(128)).unwrap();
    let opened = opened(format, image);
    let mut write = vec!["--object", &secret, "--image-opts", &opened];
    for command in [
        "write -q -s noise-0 0 150000",
        // By which it is known, and known to have been decrypted.
        "write -q -s begin 0 512",
        "write -q -s noise-1 1000000 5",
        "write -q -P 0 2M 64k",
        "write -q -s noise-2 3144704 1536",
    ] {
        write.extend(["-c", command]);
    }
    qemu::run(dir.path(), "qemu-io", write);
    let convert = ["convert", "--object", &secret, "--image-opts", &opened];
    let target = ["-O", "raw", "expected.raw"];
    qemu::run(dir.path(), "qemu-img", convert.into_iter().chain(target));
}

fn password_files(dir: &Dir) {
    for (name, bytes) in [
        ("right", "geheim"),
        ("line", "geheim\n"),
        ("wrong", "gehein"),
        ("two-lines", "geheim\n\n"),
        ("empty", ""),
        ("feed", "\n"),
        ("long", &"x".repeat(4097)),
        ("sixteen", "0123456789abcdef"),
        ("seventeen", "0123456789abcdefg\n"),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn encrypted_images_are_read_with_their_password() {
    let dir = noisy("formats-aes");
    password_files(&dir);
    for (format, options) in [
        ("qcow", ""),
        ("qcow2", ""),
        ("qcow2", "-o compat=0.10,cluster_size=512"),
        ("qcow2", "-o cluster_size=2M"),
    ] {
        make(&dir, format, "disk.image", options, PASSWORD);
        for file in ["right", "line"] {
            assert_holds(&dir, format, "disk.image", &format!("--password-file {file}"));
        }
        // Of the disk nothing can be told in the file.
        let bytes = fs::read(dir.join("disk.image")).unwrap();
        let raw = fs::read(dir.join("expected.raw")).unwrap();
        assert!(!bytes.windows(64).step_by(1).any(|piece| piece == &raw[..64]));
    }
}

#[test]
fn a_password_is_its_first_sixteen_bytes() {
    let dir = noisy("formats-aes-long");
    password_files(&dir);
    for format in ["qcow", "qcow2"] {
        make(&dir, format, "disk.image", "", "0123456789abcdefg");
        for file in ["sixteen", "seventeen"] {
            assert_holds(&dir, format, "disk.image", &format!("--password-file {file}"));
        }
    }
}

#[test]
fn encrypted_images_stand_on_others() {
    let dir = noisy("formats-aes-chain");
    password_files(&dir);
    fs::write(dir.join("base.raw"), crate::support::noise(9, 2 << 20)).unwrap();
    make(&dir, "qcow", "middle.qcow", "-b base.raw -F raw", PASSWORD);
    assert_holds(&dir, "qcow", "middle.qcow", "--follow --password-file right");
    qemu::img(
        &dir,
        "create -q -f qcow2 -b middle.qcow -F qcow -u top.qcow2 3146240",
    );
    assert_holds(&dir, "qcow2", "top.qcow2", "--follow --password-file right");
    dir.run("--source-format qcow2 --follow top.qcow2 new.qcow2")
        .exits(1)
        .says(
            "mkqcow2: middle.qcow: is encrypted with AES, and needs a password (pass --password-file FILE)\n",
        );
}

#[test]
fn a_wrong_password_can_only_be_suspected() {
    let dir = noisy("formats-aes-wrong");
    password_files(&dir);
    for format in ["qcow", "qcow2"] {
        make(&dir, format, "disk.image", "", PASSWORD);
        for file in ["wrong", "two-lines", "sixteen"] {
            let run = format!("-q --password-file {file} --source-format {format} disk.image new.qcow2");
            let says =
                "disk.image: warning: nothing is recognised in the decrypted data: is the password right?";
            dir.run(&run).exits(0).says(says);
            dir.run("compare -q new.qcow2 expected.raw").exits(1);
            dir.run(&format!("restore -q --password-file {file} disk.image copy.raw"))
                .exits(0)
                .says(says);
            dir.run("compare -q copy.raw new.qcow2").exits(0);
        }
    }
}

#[test]
fn what_is_no_password_is_refused() {
    let dir = noisy("formats-aes-refused");
    password_files(&dir);
    for format in ["qcow", "qcow2"] {
        make(&dir, format, "disk.image", "", PASSWORD);
        fs::remove_file(dir.join("expected.raw")).unwrap();
        let before = dir.names();
        for verb in [
            format!("--source-format {format} disk.image new.qcow2"),
            "restore disk.image copy.raw".to_owned(),
            "map disk.image".to_owned(),
            "mount disk.image .".to_owned(),
        ] {
            let says = "mkqcow2: disk.image: is encrypted with AES, and needs a password (pass --password-file FILE)\n";
            dir.run(&verb).exits(1).says(says);
            for (file, why) in [
                ("empty", "is empty, expected a password"),
                ("feed", "is empty, expected a password"),
                ("long", "is too long for a password"),
                ("nowhere", "No such file or directory"),
                (".", "Is a directory"),
            ] {
                let (word, rest) = verb.split_once(' ').unwrap();
                let run = match word {
                    "restore" | "map" | "mount" => format!("{word} --password-file {file} {rest}"),
                    _ => format!("--password-file {file} {verb}"),
                };
                let run = dir.run(&run).exits(64).says(why);
                assert!(run.stderr().contains(&format!("'{file}'")), "{}", run.stderr());
            }
        }
        assert_eq!(dir.names(), before);
    }
}

#[test]
fn a_password_that_nothing_needs_does_no_harm() {
    let dir = noisy("formats-aes-needless");
    password_files(&dir);
    fs::write(dir.join("expected.raw"), crate::support::noise(9, 100_352)).unwrap();
    for format in ["qcow", "qed", "qcow2"] {
        qemu::img(
            &dir,
            &format!("convert -f raw -O {format} expected.raw disk.image"),
        );
        assert_holds(&dir, format, "disk.image", "--password-file right");
    }
}

#[test]
fn odd_pieces_of_encrypted_clusters_are_what_they_are_in_the_whole() {
    let dir = noisy("formats-aes-odd");
    for (format, meant) in [("qcow", Format::Qcow), ("qcow2", Format::Qcow2)] {
        make(&dir, format, "disk.image", "", PASSWORD);
        let raw = fs::read(dir.join("expected.raw")).unwrap();
        let disk = open(&dir.join("disk.image"), meant);
        assert_eq!(disk.len(), raw.len() as u64);
        let mut dice = Dice::new(6);
        let near = [0, 512, 4096, 65_536, 150_000, 1_000_000, 3_144_704, 3_146_240];
        for number in 0..4000 {
            let at = match number % 3 {
                0 => dice.below(raw.len() as u64),
                _ => (near[dice.below(8) as usize] + dice.below(40)).saturating_sub(20),
            };
            let at = at.min(raw.len() as u64) as usize;
            let length = match number % 5 {
                0 => dice.below(200_000),
                1 => dice.below(20),
                _ => dice.below(2000),
            };
            let end = (at + length as usize).min(raw.len());
            let mut found = vec![0xa5; end - at];
            disk.read_at(&mut found, at as u64).unwrap();
            assert!(found == raw[at..end], "{format} {at} to {end}");
        }
    }
}

#[test]
fn a_sector_is_decrypted_as_a_whole_or_not_at_all() {
    let dir = noisy("formats-aes-cut");
    password_files(&dir);
    make(&dir, "qcow", "disk.qcow", "", PASSWORD);
    let mut bytes = fs::read(dir.join("disk.qcow")).unwrap();
    let end = bytes.len();
    // The disk ends within the last sector, and so does the file.
    let size = 3 * MIB + 512;
    bytes[24..32].copy_from_slice(&(size - 100).to_be_bytes());
    let cut = |by: usize| {
        fs::write(dir.join("disk.qcow"), &bytes[..end - by]).unwrap();
        dir.run("--password-file right --source-format qcow disk.qcow new.qcow2")
    };
    let raw = fs::read(dir.join("expected.raw")).unwrap();
    let disk = dir.sparse("expected.raw", size, &[(0, &raw[..(size - 100) as usize])]);
    // Clusters have 4 KiB, of which the last holds one sector.
    cut(0).exits(0);
    assert_equals(&disk, &dir.join("new.qcow2"));
    cut(4096 - 512).exits(0);
    assert_equals(&disk, &dir.join("new.qcow2"));
    cut(4096 - 511).exits(1).says("is cut off by the end of the file");
}

fn open(path: &Path, format: Format) -> AnyDisk {
    let access = Access {
        password: Some(Password::new(PASSWORD.into())),
        ..Access::default()
    };
    let opening = Opening {
        format: Some(format),
        ..Opening::image(access)
    };
    mkqcow2::open(path, &opening).unwrap()
}
