//! Images that other people's programs made, of every kind there is: a reader must agree with qemu-img on each.

mod chains;
mod content;
mod oracle;
mod plain;
mod recipe;
mod special;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use crate::support::{Dir, noise};
pub use oracle::{Range, ranges};
use recipe::Recipe;

/// An image, and what to know before it is read.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// Says what is special about it; a file name as well.
    pub name: String,
    pub path: PathBuf,
    /// Whether it needs other files, so that mkqcow2 must be told `--follow`.
    pub follow: bool,
    /// The names of its internal snapshots.
    pub snapshots: Vec<String>,
}

impl Specimen {
    /// What mkqcow2 must be told to read all of it.
    pub fn arguments(&self) -> &'static [&'static str] {
        if self.follow { &["--follow"] } else { &[] }
    }

    /// Its name in the directory of the corpus.
    pub fn file(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }
}

/// All specimens, in a directory that goes away with the last who holds them.
#[derive(Debug)]
pub struct Corpus {
    /// What holds them all.
    _dir: Dir,
    pub specimens: Vec<Specimen>,
}

impl Corpus {
    /// The corpus of this process: made when it is first wanted, shared by all who want it meanwhile.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Corpus>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            static MADE: AtomicUsize = AtomicUsize::new(0);
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let dir = Dir::new(&format!("corpus-{number}"));
            let specimens = all(&dir);
            let corpus = Arc::new(Self { _dir: dir, specimens });
            *shared = Arc::downgrade(&corpus);
            corpus
        })
    }

    /// Holds every specimen to what `test` asks of it, several at a time. All that fail are told, not just one.
    #[track_caller]
    pub fn each(&self, test: impl Fn(&Specimen) -> Result<(), String> + Sync) {
        assert_all(&self.specimens, |specimen| {
            let why = test(specimen).err();
            why.map(|why| format!("{}: {why}", specimen.name))
                .into_iter()
                .collect()
        });
    }
}

/// Makes every image of the corpus in `dir`.
pub fn all(dir: &Dir) -> Vec<Specimen> {
    content::write_sources(dir.path());
    in_parallel(&recipes(), |recipe| recipe.make(dir.path()))
}

fn recipes() -> Vec<Recipe> {
    let families = [
        plain::every_format(),
        plain::every_preallocation(),
        plain::every_size(),
        chains::chains(),
        chains::data_files(),
        special::snapshots(),
        special::bitmaps(),
        special::lazy_refcounts(),
        special::resized(),
        special::rewritten(),
        special::by_others(),
    ];
    families.into_iter().flatten().collect()
}

/// Holds items, several at a time, to there being no findings about them. All findings are told, not just one.
#[track_caller]
pub fn assert_all<T: Sync>(items: &[T], findings: impl Fn(&T) -> Vec<String> + Sync) {
    let findings = in_parallel(items, findings).concat();
    assert!(
        findings.is_empty(),
        "{} findings in {} images:\n{}",
        findings.len(),
        items.len(),
        findings.join("\n")
    );
}

/// `work` done on every item, in their order, by as many threads as there are processors.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicUsize::new(0);
    let run = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        numbers
            .map_while(|number| Some((number, work(items.get(number)?))))
            .collect::<Vec<_>>()
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Where two files differ first, if they do. Neither is read as a whole into memory twice.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<String> {
    if a == b {
        return None;
    }
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    Some(match at {
        Some(at) => format!("byte {at:#x} is {:#x}, expected {:#x}", a[at], b[at]),
        None => format!("{:#x} bytes, expected {:#x}", a.len(), b.len()),
    })
}

/// Bytes that compress to about half: letters, in words.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = noise(seed, length);
    for byte in &mut bytes {
        *byte = b"abcdefghijklmnop"[usize::from(*byte & 15)];
    }
    bytes
}

#[test]
fn the_corpus_holds_what_its_recipes_promise() {
    let corpus = Corpus::shared();
    let mut names: Vec<_> = corpus.specimens.iter().map(|specimen| &specimen.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), corpus.specimens.len(), "a name is used twice");

    corpus.each(|specimen| {
        let map = specimen.qemu_map();
        let compressed = map.iter().any(|range| range.compressed);
        let promised = ["zlib", "zstd"].iter().any(|word| specimen.name.contains(word));
        if compressed != promised {
            return Err(format!("has compressed clusters: {compressed}"));
        }
        let backed = map.iter().any(|range| range.depth > 0);
        if backed != specimen.name.contains("chain") {
            return Err(format!("has ranges of a backing file: {backed}"));
        }
        let status = specimen.qemu_check_status();
        let expected = match specimen.name.as_str() {
            "e2image" => 3,
            name if name.contains("dirty") => 2,
            _ => 0,
        };
        if status != expected {
            return Err(format!("qemu-img check exits with {status}, expected {expected}"));
        }
        Ok(())
    });
}

/// The path as an argument.
fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
