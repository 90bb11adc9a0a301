//! Malformed images, made by damaging good ones: each is refused with words that say what is wrong, or the damage
//! is of no concern to a reader. None makes a program panic or take more memory than its share, and none reads as
//! zeros where there was data.

mod bases;
mod cuts;
mod extended;
mod extensions;
mod header;
mod patient;
mod refcounts;
mod snapshots;
mod streams;
mod tables;
mod unneeded;
mod verbs;

use std::error::Error;
use std::path::{Path, PathBuf};

use mkqcow2::disk::Disk as _;
use mkqcow2::formats::{Access, Opening, open};

use crate::corpus::{assert_all, first_difference};
use crate::support::Dir;
use bases::{Base, Good};
use patient::Patient;

/// What comes of an image that was damaged.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It is not restored, and these words say why.
    Refused(&'static str),
    /// It is restored as if nothing had happened: a reader does not need what was damaged.
    /// `check` exits with this status.
    Reads(i32),
    /// It is restored, but not as it was: no reader could know. `check` exits with this status.
    Altered(i32),
    /// It is not restored, for reasons that lie outside of the image: other files, or a key. These words say which.
    Elsewhere(&'static str),
    /// Its tables are right, its checksums are not: whoever compares them says these words.
    Mismatch(&'static str),
    /// Refused with one of these words, or restored as if nothing had happened.
    RefusedOrReads(&'static [&'static str]),
}

use Outcome::{Altered, Elsewhere, Mismatch, Reads, Refused, RefusedOrReads};

/// An image to be damaged, the damage, and what comes of it.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    base: Base,
    damage: Damage,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    By(fn(&mut Patient)),
    /// The file ends there.
    CutAt(u64),
}

/// A row, as the tables have it.
type Line = (&'static str, Base, fn(&mut Patient), Outcome);

impl From<&Line> for Row {
    fn from((name, base, damage, outcome): &Line) -> Self {
        Self {
            name: (*name).to_owned(),
            base: *base,
            damage: Damage::By(*damage),
            outcome: *outcome,
        }
    }
}

/// The good images, of which some need another file.
pub fn good_images() -> Vec<Vec<u8>> {
    Good::make_all().into_iter().map(|good| good.bytes).collect()
}

/// All that is to be refused, or read right.
fn rows(good: &[Good]) -> Vec<Row> {
    let tables = [
        header::ROWS,
        extensions::ROWS,
        tables::ROWS,
        tables::EXTENDED,
        streams::ROWS,
        snapshots::ROWS,
        refcounts::ROWS,
    ];
    let mut rows: Vec<Row> = tables.into_iter().flatten().map(Row::from).collect();
    rows.extend(cuts::rows(good));
    assert!(rows.len() >= 300, "only {} rows", rows.len());
    rows
}

/// Holds every row to what `test` asks of it. All that fail are told, not just one.
#[track_caller]
fn each(
    name: &str,
    rows: impl Fn(&[Good]) -> Vec<Row>,
    test: impl Fn(&Row, &Good, &Path) -> Vec<String> + Sync,
) {
    let dir = Dir::new(name);
    let good = Good::make_all();
    let rows = rows(&good);
    assert_all(&rows, |row| {
        let good = good.iter().find(|good| good.base == row.base).unwrap();
        let dir = row.make(good, dir.path());
        let findings = test(row, good, &dir);
        std::fs::remove_dir_all(&dir).unwrap();
        let named = findings
            .into_iter()
            .map(|finding| format!("{}: {finding}", row.name));
        named.collect()
    });
}

#[test]
fn no_malformed_image_reads_as_a_good_one() {
    each("misread", rows, |row, good, dir| {
        row.misread(good, dir).into_iter().collect()
    });
}

impl Row {
    /// Makes the image, `bad.qcow2`, in a directory of its own, with the files that it needs.
    fn make(&self, good: &Good, above: &Path) -> PathBuf {
        let mut patient = Patient::new(good.bytes.clone());
        match self.damage {
            Damage::By(damage) => damage(&mut patient),
            Damage::CutAt(length) => patient.cut(length),
        }
        assert!(patient.bytes != good.bytes, "{}: nothing was damaged", self.name);
        let dir = above.join(self.name.replace([' ', '/'], "-"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("bad.qcow2"), &patient.bytes).unwrap();
        std::fs::write(dir.join("good.raw"), &good.raw).unwrap();
        for (name, bytes) in &good.others {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        dir
    }

    /// What is wrong with how the disk reads, if anything is.
    fn misread(&self, good: &Good, dir: &Path) -> Option<String> {
        let found = read(&dir.join("bad.qcow2"), !self.base.arguments().is_empty());
        let same = |found: &[u8]| first_difference(found, &good.raw);
        match (self.outcome, found) {
            (Refused(words) | Elsewhere(words), Err(error)) if error.contains(words) => None,
            (Refused(words) | Elsewhere(words), Err(error)) => {
                Some(format!("expected {words:?}\n    {error}"))
            }
            (Refused(_) | Elsewhere(_), Ok(found)) => Some(format!("reads; differs: {:?}", same(&found))),
            (RefusedOrReads(words), Err(error)) => {
                let is_told = words.iter().any(|words| error.contains(words));
                (!is_told).then(|| format!("expected one of {words:?}\n    {error}"))
            }
            (Mismatch(_), Ok(_)) => None,
            (Reads(_) | Altered(_) | Mismatch(_), Err(error)) => Some(format!("does not read: {error}")),
            (Reads(_) | RefusedOrReads(_), Ok(found)) => {
                same(&found).map(|difference| format!("reads, but {difference}"))
            }
            (Altered(_), Ok(found)) => same(&found).is_none().then(|| "nothing was altered".to_owned()),
        }
    }
}

/// All of a disk, or the whole chain of what went wrong.
fn read(path: &Path, follow: bool) -> Result<Vec<u8>, String> {
    let access = Access {
        follow,
        ..Access::default()
    };
    let opening = Opening::image(access);
    let read = || -> mkqcow2::Result<Vec<u8>> {
        let disk = open(path, &opening)?;
        assert!(disk.len() <= 64 << 20, "the disk is {} bytes", disk.len());
        let mut bytes = vec![0xa5; usize::try_from(disk.len()).unwrap()];
        for (number, piece) in bytes.chunks_mut(100_000).enumerate() {
            disk.read_at(piece, number as u64 * 100_000)?;
        }
        Ok(bytes)
    };
    read().map_err(|error| {
        let (mut chain, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            chain = format!("{chain}: {error}");
            cause = error.source();
        }
        chain
    })
}
