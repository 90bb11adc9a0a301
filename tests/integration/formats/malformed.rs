//! Malformed images of QCOW version 1 and QED, made by damaging good ones: each is refused with words that say what
//! is wrong and where, whether it is converted or restored, and none takes more memory than its share.

mod qcow;
mod qed;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::by_hand::Image;
use crate::corpus::assert_all;
use crate::support::{Dir, MKQCOW2};

/// The memory that a run may take, in bytes: beyond that the system gives it none.
const MEMORY: u64 = 128 << 20;

/// An image to be damaged, the damage, and the words that tell of it.
struct Row {
    name: String,
    format: &'static str,
    bytes: Vec<u8>,
    /// Any of them, with a bar between.
    says: String,
}

/// A row, as the tables have it.
type Line = (&'static str, fn(&mut Image), &'static str);

/// What a command came to.
pub(super) struct Outcome {
    pub(super) status: i32,
    pub(super) said: String,
    /// What it left in place of its target.
    pub(super) target: Option<Vec<u8>>,
}

impl Outcome {
    /// Holds it to what no image may make a program do.
    #[track_caller]
    pub(super) fn assert_calm(&self, what: &str) {
        assert_eq!(self.misbehaved(), None, "{what}");
    }

    fn misbehaved(&self) -> Option<String> {
        // 3 with a warning that matters.
        let is_one_of_ours = matches!(self.status, 0 | 1 | 3);
        let is_calm = !["panicked", "memory allocation", "\u{1b}"]
            .iter()
            .any(|word| self.said.contains(word));
        let is_told = self.status == 0 || self.said.starts_with("mkqcow2: ");
        let is_fine = is_one_of_ours && is_calm && is_told;
        (!is_fine).then(|| format!("{}: {}", self.status, self.said))
    }

    /// What is wrong with a refusal.
    fn not_refused(&self, says: &str) -> Option<String> {
        let is_refused =
            self.status == 1 && self.target.is_none() && says.split('|').any(|says| self.said.contains(says));
        (!is_refused).then(|| format!("{}, expected {says:?}\n    {}", self.status, self.said))
    }
}

/// Converts `bad` in a directory, with no more memory than that may take.
pub(super) fn create(dir: &Path, format: &str) -> Outcome {
    run(dir, &["-q", "--no-sync", "--source-format", format, "bad", "new"])
}

/// Restores it. Nobody says of what format it is.
pub(super) fn restore(dir: &Path) -> Outcome {
    run(dir, &["restore", "-q", "--no-sync", "bad", "new"])
}

fn run(dir: &Path, words: &[&str]) -> Outcome {
    let output = limited(dir, words);
    let target = fs::read(dir.join("new")).ok();
    if target.is_some() {
        fs::remove_file(dir.join("new")).unwrap();
    }
    Outcome {
        status: output.status.code().unwrap_or(-1),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
        target,
    }
}

/// A run of mkqcow2 that gets no more memory than it may take.
fn limited(dir: &Path, words: &[&str]) -> Output {
    Command::new("prlimit")
        .args([&format!("--data={MEMORY}"), "--core=0", MKQCOW2])
        .args(words)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("prlimit: {error}: apt-get install util-linux"))
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (format, good, lines) in [
        ("qcow", Image::qcow(), qcow::ROWS),
        ("qed", Image::qed(2), qed::ROWS),
    ] {
        for (name, damage, says) in lines {
            let mut image = good.clone();
            damage(&mut image);
            assert!(image.bytes != good.bytes, "{format}, {name}: nothing was damaged");
            rows.push(Row {
                name: format!("{format}, {name}"),
                format,
                bytes: image.bytes,
                says: (*says).to_owned(),
            });
        }
        rows.extend(cuts(format, &good));
    }
    rows
}

/// The file ends after every byte of the header, and within every table and cluster.
fn cuts(format: &'static str, good: &Image) -> Vec<Row> {
    let header = if format == "qcow" { 48 } else { 64 };
    let places = [good.l1, good.l2[0], good.l2[1]].into_iter();
    let clusters = good.clusters.iter().copied().filter(|at| *at > 0);
    let within = places.chain(clusters).flat_map(|at| [at, at + 1, at + 100]);
    let at_ends = within.chain([good.bytes.len() - 4096 + 511, good.l1 + 8, good.l2[0] + 8]);
    let mut ends: Vec<usize> = (1..=header)
        .chain(at_ends)
        .filter(|end| *end < good.bytes.len())
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let rows = ends.into_iter().map(|end| Row {
        name: format!("{format}, cut at {end}"),
        format,
        bytes: good.bytes[..end].to_vec(),
        says: if end < header {
            format!("header at 0x0 does not fit: it needs {header} bytes, {end} are there")
        } else if end <= good.l1 {
            " does not fit: it needs ".to_owned()
        } else {
            "is cut off by the end of the file, |expected an offset within the file, |does not fit: it needs "
                .to_owned()
        },
    });
    rows.collect()
}

#[test]
fn malformed_images_are_refused_with_what_and_where() {
    let dir = Dir::new("formats-malformed");
    let rows = rows();
    assert!(rows.len() >= 160, "only {} rows", rows.len());
    assert_all(&rows, |row| {
        let at = dir.join(row.name.replace([' ', '/', ','], "-"));
        fs::create_dir(&at).unwrap();
        fs::write(at.join("bad"), &row.bytes).unwrap();
        let made = create(&at, row.format);
        let restored = restore(&at);
        // Without all of its magic it is no image, or taken for qcow2.
        let magic = if row.format == "qcow" { 8 } else { 4 };
        let says = if row.bytes.len() < 4 {
            "not a qcow2 image"
        } else if row.bytes.len() < magic {
            "header at 0x0"
        } else {
            &row.says
        };
        let findings = [
            ("create", made.misbehaved()),
            ("create", made.not_refused(&row.says)),
            ("restore", restored.misbehaved()),
            ("restore", restored.not_refused(says)),
        ];
        fs::remove_dir_all(&at).unwrap();
        let told = findings
            .into_iter()
            .filter_map(|(verb, finding)| Some(format!("{}: {verb}: {}", row.name, finding?)));
        told.collect()
    });
}

#[test]
fn the_largest_clusters_take_no_more_memory_than_others() {
    let dir = Dir::new("formats-largest");
    Image::write_largest_qed(&dir.join("disk.qed"));
    for words in [
        "--no-sync --source-format qed disk.qed new.qcow2",
        "--no-sync -c zstd:1 --source-format qed disk.qed packed.qcow2",
        "restore --no-sync disk.qed copy.raw",
        "restore --verify disk.qed verified.raw",
        "map disk.qed",
        "compare disk.qed new.qcow2",
        "compare packed.qcow2 disk.qed",
        "compare copy.raw disk.qed",
        "compare --all verified.raw disk.qed",
    ] {
        let words: Vec<_> = words.split_whitespace().collect();
        let output = limited(dir.path(), &words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {}\n{said}", output.status);
    }
}
