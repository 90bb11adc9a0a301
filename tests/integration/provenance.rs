//! When, on what host, of what and by which version an image was made: recorded in it, and shown by `info`.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::disk::Disk;
use crate::naive;
use crate::support::loops::Loop;
use crate::support::{Dir, EPOCH, Run, are_same, assert_equals};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A run at the present time; not as the other tests have it.
fn run(dir: &Dir, arguments: &str) -> Run {
    run_at(dir, None, arguments)
}

fn run_at(dir: &Dir, epoch: Option<&str>, arguments: &str) -> Run {
    let mut command = dir.command(arguments.split_whitespace());
    command.env_remove(EPOCH.0);
    if let Some(epoch) = epoch {
        command.env(EPOCH.0, epoch);
    }
    Run::of(&mut command)
}

fn small_disk(dir: &Dir) -> Disk {
    let disk = Disk::hole(1 << 20).data(0..200_000);
    disk.file(dir, "disk.raw");
    disk
}

fn provenance(dir: &Dir, image: &str) -> Value {
    dir.run(&format!("info --json {image}")).exits(0).json()["provenance"].clone()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What an image of a file says that was made in the directory just now.
#[track_caller]
fn assert_made_now(dir: &Dir, found: &Value, source: &Path, before: u64) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let made = found["made"].as_u64().unwrap();
    assert!((before..=now()).contains(&made), "{made}");
    let expected = json!({
        "made": made,
        "host": host.trim_end(),
        "source": dir.join(source).to_str().unwrap(),
        "model": null,
        "serial": null,
        "version": VERSION,
    });
    assert_eq!(*found, expected);
}

#[test]
fn every_kind_of_image_tells_where_it_comes_from_and_is_as_long_as_planned() {
    let dir = Dir::new("provenance-kinds");
    let disk = small_disk(&dir);
    for options in [
        "",
        "--compat 0.10",
        "--cluster-size 512",
        "--cluster-size 512 --compat 0.10",
        "-c zstd",
        "-c zlib --dedupe",
    ] {
        let before = now();
        let plan = run(&dir, &format!("-n --json {options} disk.raw disk.qcow2"))
            .exits(0)
            .json();
        run(&dir, &format!("-q --no-sync {options} disk.raw disk.qcow2")).exits(0);

        assert_made_now(
            &dir,
            &provenance(&dir, "disk.qcow2"),
            Path::new("disk.raw"),
            before,
        );
        assert_equals(&dir.join("disk.raw"), &dir.join("disk.qcow2"));
        let image = naive::Image::read(&dir.join("disk.qcow2"));
        image.assert_holds(&disk);
        assert_eq!(image.record().provenance.as_ref().unwrap()["version"], VERSION);
        if !options.contains("-c") {
            assert_eq!(plan["image-size"], image.length(), "{options}");
        }
        dir.run("verify -q disk.qcow2").exits(0);
        dir.run("check -q disk.qcow2").exits(0);
    }
}

#[test]
fn a_stream_tells_it_too() {
    let dir = Dir::new("provenance-streams");
    small_disk(&dir);
    for options in ["", "--compat 0.10 --cluster-size 512", "--two-pass -c zlib"] {
        let before = now();
        let image = run(&dir, &format!("-q {options} disk.raw -")).exits(0);
        fs::write(dir.join("disk.qcow2"), image.bytes()).unwrap();

        assert_made_now(
            &dir,
            &provenance(&dir, "disk.qcow2"),
            Path::new("disk.raw"),
            before,
        );
        dir.run("verify -q disk.qcow2").exits(0);
    }
}

#[test]
fn an_image_of_a_disk_in_an_image_names_that_image() {
    let dir = Dir::new("provenance-image");
    small_disk(&dir);
    dir.image("");
    let before = now();
    run(&dir, "-q --source-format qcow2 disk.qcow2 new.qcow2").exits(0);
    assert_made_now(
        &dir,
        &provenance(&dir, "new.qcow2"),
        Path::new("disk.qcow2"),
        before,
    );
}

#[test]
fn an_image_of_a_device_names_the_device_as_root() {
    let dir = Dir::new("provenance-device");
    small_disk(&dir);
    let device = Loop::over(&dir.join("disk.raw"));
    let before = now();
    run(&dir, &format!("-q {} disk.qcow2", device.path().display())).exits(0);
    assert_made_now(&dir, &provenance(&dir, "disk.qcow2"), device.path(), before);
}

#[test]
fn info_tells_people_and_says_nothing_where_nothing_is_recorded() {
    let dir = Dir::new("provenance-info");
    small_disk(&dir);
    run_at(&dir, Some("1795248000"), "-q disk.raw disk.qcow2").exits(0);
    dir.run("info disk.qcow2")
        .exits(0)
        .prints("made               2026-11-21 08:00:00 UTC\n")
        .prints(&format!("by mkqcow2         {VERSION}\n"));
    run(&dir, "-q disk.raw disk.qcow2").exits(0);
    let source = dir.join("disk.raw");
    dir.run("info disk.qcow2")
        .exits(0)
        .prints(&format!("source             {}\n", source.display()))
        .prints("host               ");

    for options in ["--no-provenance", "--no-checksums"] {
        run(&dir, &format!("-q {options} disk.raw disk.qcow2")).exits(0);

        assert_eq!(provenance(&dir, "disk.qcow2"), Value::Null, "{options}");
        let text = dir.run("info disk.qcow2").exits(0).stdout();
        for name in ["made ", "by mkqcow2", "host ", "source "] {
            assert!(!text.lines().any(|line| line.starts_with(name)), "{text}");
        }
    }
}

#[test]
fn for_reproducible_bytes_nothing_is_recorded_that_another_place_would_change() {
    let (here, there) = (Dir::new("provenance-here"), Dir::new("provenance-there"));
    for dir in [&here, &there] {
        small_disk(dir);
    }
    fs::rename(there.join("disk.raw"), there.join("other.raw")).unwrap();
    let bytes = |dir: &Dir, epoch, arguments: &str| {
        run_at(dir, epoch, &format!("-q {arguments} disk.qcow2")).exits(0);
        fs::read(dir.join("disk.qcow2")).unwrap()
    };
    for (epoch, options) in [(Some("0"), ""), (None, "--no-provenance")] {
        let [one, two] = [(&here, "disk.raw"), (&there, "other.raw")]
            .map(|(dir, source)| bytes(dir, epoch, &format!("{options} {source}")));
        assert!(one == two, "{options}");
    }
    bytes(&here, Some("0"), "disk.raw");
    let record = naive::Image::read(&here.join("disk.qcow2")).record().clone();
    assert_eq!(record.provenance, Some(json!({"made": 0, "version": VERSION})));
    let (one, two) = (bytes(&here, None, "disk.raw"), bytes(&there, None, "other.raw"));
    assert!(one != two, "the paths are different");
}

#[test]
fn a_time_that_is_none_is_refused_unless_it_is_not_needed() {
    let dir = Dir::new("provenance-epoch");
    small_disk(&dir);
    for epoch in ["", "now", "-1", "+1", "1.5", "0x10", "18446744073709551616"] {
        run_at(&dir, Some(epoch), "-q disk.raw disk.qcow2")
            .exits(64)
            .says(&format!(
                "SOURCE_DATE_EPOCH is '{epoch}', expected seconds since 1970"
            ));
        assert!(!dir.join("disk.qcow2").exists());
    }
    run_at(&dir, Some("now"), "-q --no-provenance disk.raw disk.qcow2").exits(0);
}

/// An image whose record ends with other sections instead of the provenance.
struct Forged {
    dir: Dir,
    image: Vec<u8>,
}

impl Forged {
    fn new(test: &str) -> Self {
        let dir = Dir::new(test);
        small_disk(&dir);
        let path = dir.image("");
        let image = fs::read(path).unwrap();
        Self { dir, image }
    }

    fn with(&self, sections: &[(u32, &[u8])]) -> &Dir {
        let mut image = self.image.clone();
        let number = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
        let at = number(image.len() - 16);
        let mut record = image[at..at + 32 + number(at + 24)].to_vec();
        let own = format!("{{\"made\":{},\"version\":\"{VERSION}\"}}", EPOCH.1);
        // Behind it there is the identity, with the UUID.
        record.truncate(record.len() - 12 - 16);
        assert!(record.ends_with(own.as_bytes()));
        record.truncate(record.len() - own.len() - 12);
        for (kind, data) in sections {
            record.extend(kind.to_be_bytes());
            record.extend((data.len() as u64).to_be_bytes());
            record.extend(*data);
        }
        let length = record.len() as u64 - 32;
        record[24..32].copy_from_slice(&length.to_be_bytes());
        record.extend(naive::crc32(&record).to_be_bytes());
        assert!(at + record.len() <= image.len() - 40);
        image[at..at + record.len()].copy_from_slice(&record);
        fs::write(self.dir.join("disk.qcow2"), image).unwrap();
        &self.dir
    }
}

#[test]
fn what_a_terminal_would_obey_is_escaped_and_unknown_keys_are_passed_over() {
    let forged = Forged::new("provenance-hostile");
    let data = r#"{"host":"a\u001b[2Jb\u202e","source":"x\ny","made":99999999999,"colour":[{}],"model":"M"}"#;

    let dir = forged.with(&[(5, data.as_bytes()), (77, b"unknown")]);

    let found = dir.run("info disk.qcow2").exits(0);
    let found = found
        .prints("host               a\\u{1b}[2Jb\\u{202e}\n")
        .prints("source             x\\ny\n")
        .prints("made               99999999999 seconds after 1970\n")
        .prints("model              M\n");
    assert!(!found.stdout().contains(['\u{1b}', '\u{202e}']));
    let found = dir.run("info --json disk.qcow2").exits(0);
    assert!(!found.stdout().contains(['\u{1b}', '\u{202e}']));
    assert_eq!(
        found.json()["provenance"],
        json!({"host": "a\u{1b}[2Jb\u{202e}", "source": "x\ny", "made": 99_999_999_999_u64, "model": "M", "serial": null, "version": null})
    );
    dir.run("verify -q disk.qcow2").exits(0);
    dir.run("restore -q disk.qcow2 copy.raw").exits(0).in_silence();
}

#[test]
fn a_provenance_that_is_none_is_a_damaged_record() {
    let forged = Forged::new("provenance-damaged");
    let padded = |length: usize| [b"{}".as_slice(), &vec![b' '; length - 2]].concat();
    let (longest, too_long) = (padded(4096), padded(4097));
    forged.with(&[(5, &longest)]).run("verify -q disk.qcow2").exits(0);
    let not_json = "first byte of the provenance is 0x";
    for (sections, says) in [
        (
            &[(5, too_long.as_slice())][..],
            "length of the provenance is 0x1001, expected at most 0x1000",
        ),
        (&[(5, b"")], not_json),
        (&[(5, b"{\"host\":\"\xff\"}")], not_json),
        (&[(5, b"{\"host\":\"\n\"}")], not_json),
        (&[(5, b"{\"made\":\"soon\"}")], not_json),
        (&[(5, b"{}"), (5, b"{}")], "kind of a section is 0x5"),
    ] {
        let dir = forged.with(sections);

        dir.run("verify disk.qcow2").exits(2).prints(says);
        dir.run("info disk.qcow2").exits(1).says(says);
        dir.run("restore -q disk.qcow2 copy.raw")
            .exits(3)
            .says("warning: its record of the source is damaged");
        let (copy, raw) = (dir.join("copy.raw"), dir.join("disk.raw"));
        assert!(are_same(&copy, &raw));
    }
}
