//! Checks whether the tables of an image are valid and consistent. Nothing is written.
//!
//! ```text
//! metadata     header, L1 tables, snapshots, bitmaps, encryption: where they are, whether they overlap
//! blocks       the refcount table: which refcounts there are, cut into windows that fit into memory
//! for each window:
//!   tables       L1 entries: how often each L2 table is used
//!   clusters     L2 entries: how often each cluster is used, by all workers at once
//!   refcounts    as they are against those that were counted
//! ```
//!
//! Images of the simpler formats have no refcounts: there, [`check_legacy`] looks for what lies in one place.
//!
//! Each finding has a [`Code`] from the catalogue.

#![warn(clippy::arithmetic_side_effects)]

mod bitmaps;
mod blocks;
mod catalogue;
mod clusters;
mod counts;
mod encryption;
mod entries;
mod findings;
mod header;
mod legacy;
mod metadata;
mod refcounts;
mod snapshots;
mod structures;
mod tables;
mod window;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

pub use catalogue::{Code, Severity};
pub use findings::{Fault, Finding, TOLD, Tally, What};
pub use legacy::check_legacy;

use crate::error::{Error, Result};
use crate::formats::qcow2::{Freshness, Image};
use crate::formats::{Decoders, Format, Remark};
use crate::pipeline::{in_order, readers};
use crate::progress::{Phase, Progress};
use crate::units::{Exact, HostOffset, claimed_size, to_u64, to_usize};
use blocks::Blocks;
use clusters::{Compressed, Figures, Reader};
use entries::{Entries, WORTH_ASKING};
use findings::{Findings, Log};
use structures::Structures;
use tables::L2;
use window::Window;

/// How much memory the refcounts may take that are dealt with at a time, in bytes, unless a single block needs more.
const BUDGET: u64 = 48 << 20;

/// How many L2 tables are read in one job at most.
const TABLES_IN_JOB: u64 = 64;

/// How much of L2 tables is read in one job at most, in bytes, if a table is smaller.
const JOB: u64 = 256 << 10;

/// How much of an L2 table is dealt with before its compressed clusters are tried, in bytes.
const PIECE_WITH_STREAMS: u64 = 4 << 10;

/// How an image is checked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether to decompress all that is compressed.
    pub data: bool,
    /// How many workers there are; as many as processors if not given, and at most 8.
    pub threads: Option<NonZeroUsize>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The format of the image.
    pub format: Format,
    /// The number of findings of each code.
    pub tallies: BTreeMap<Code, Tally>,
    /// Clusters of the disk.
    pub total_clusters: u64,
    /// Clusters of the disk that take space in the image.
    pub allocated_clusters: u64,
    /// Those of them that do not begin where the previous cluster ends.
    pub fragmented_clusters: u64,
    /// Those of them that are compressed.
    pub compressed_clusters: u64,
    /// Where the last cluster ends that is in use.
    pub image_end: HostOffset,
    /// Compressed clusters that were decompressed, of snapshots too, if that was asked for.
    pub decompressed: Option<u64>,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// How much was found of a severity: errors by number, leaks in clusters.
    pub fn count(&self, severity: Severity) -> u64 {
        let tallies = self.tallies.iter();
        let of_it = tallies.filter(|(code, _)| code.severity() == severity);
        of_it.fold(0, |sum, (_, tally)| sum.plus(tally.count))
    }
}

/// Checks an image, and calls `tell` with each finding at once: the first [`TOLD`] of each code.
///
/// It counts all clusters that the active disk, snapshots, bitmaps and the encryption use. It does not check backing
/// files, and an external data file only if it [was opened](Image::with_data_file). No program may write to the
/// image during the check.
///
/// # Errors
///
/// [`Error::Io`] if the image cannot be read. Damage is no error here, but a finding.
pub fn check(
    image: &Image,
    options: &Options,
    progress: &dyn Progress,
    tell: &mut dyn FnMut(&Finding),
) -> Result<Report> {
    check_within(BUDGET, image, options, progress, tell)
}

fn check_within(
    budget: u64,
    image: &Image,
    options: &Options,
    progress: &dyn Progress,
    tell: &mut dyn FnMut(&Finding),
) -> Result<Report> {
    let started = Instant::now();
    let checker = Checker {
        image,
        pool: &readers(options.threads)?,
        decoders: options.data.then(Decoders::default),
        progress,
    };
    let mut log = Log::new(tell);
    remarks(image, &mut log);
    header::read(image, &mut log)?;
    let structures = metadata::find(image, &mut log)?;
    let blocks = Blocks::read(image, budget, &mut log)?;
    let mut seen = Seen::default();
    for numbers in blocks.windows() {
        let window = Window::load(image.file(), &blocks, numbers)?;
        checker.pass(&structures, &window, &mut seen, &mut log)?;
    }
    let geometry = image.header().geometry();
    // What is said to be in use may end past 64 bits.
    let image_end = HostOffset(claimed_size(seen.end, geometry.cluster_size()));
    find_checksums(image, image_end, &mut log)?;
    Ok(Report {
        format: Format::Qcow2,
        tallies: log.into_tallies(),
        total_clusters: geometry.clusters(),
        allocated_clusters: seen.figures.allocated,
        fragmented_clusters: seen.figures.fragmented,
        compressed_clusters: seen.figures.compressed,
        image_end,
        decompressed: options.data.then_some(seen.decompressed),
        duration: started.elapsed(),
    })
}

/// What was seen in all windows.
#[derive(Debug, Default)]
struct Seen {
    figures: Figures,
    decompressed: u64,
    /// One more than the last cluster in use.
    end: u64,
}

struct Checker<'a> {
    image: &'a Image,
    pool: &'a ThreadPool,
    /// If compressed clusters are to be tried.
    decoders: Option<Decoders>,
    progress: &'a dyn Progress,
}

/// What came of a job.
struct Done {
    found: Findings,
    figures: Figures,
    decompressed: u64,
}

impl Checker<'_> {
    /// Counts all that is used of what a window counts, and compares.
    fn pass(
        &self,
        structures: &Structures,
        window: &Window<'_>,
        seen: &mut Seen,
        log: &mut Log<'_>,
    ) -> Result<()> {
        let (image, l1s) = (self.image, structures.l1s.as_slice());
        let mut found = Findings::default();
        structures.claim(window, &mut found);
        let total = tables::count(image, l1s, window, &mut found)?;
        bitmaps::count(image, &structures.bitmaps, window, &mut found)?;
        log.add_all(found);
        let cluster_size = image.header().geometry().cluster_size();
        self.progress.begin(Phase::Checking, total.times(cluster_size));
        tables::each_l2(image, l1s, window, |l2s| self.read(l2s, window, seen, log))?;
        let compare = |range| Ok(refcounts::compare(window, range));
        in_order(
            self.pool,
            self.in_flight(),
            refcounts::jobs(window),
            compare,
            |compared| {
                seen.end = seen.end.max(compared.end);
                log.add_all(compared.found);
                Ok(())
            },
        )?;
        seen.end = seen.end.max(window.end());
        Ok(())
    }

    /// Reads L2 tables, by all workers at once.
    fn read(&self, l2s: &[L2], window: &Window<'_>, seen: &mut Seen, log: &mut Log<'_>) -> Result<()> {
        let cluster_size = self.image.header().geometry().cluster_size();
        let in_job = JOB.checked_div(cluster_size).unwrap_or(1).clamp(1, TABLES_IN_JOB);
        let jobs = l2s.chunks(to_usize(in_job));
        let work = |l2s: &[L2]| self.job(l2s, window);
        in_order(self.pool, self.in_flight(), jobs, work, |done| {
            seen.figures.add(done.figures);
            seen.decompressed.increase(done.decompressed);
            log.add_all(done.found);
            Ok(())
        })
    }

    fn job(&self, l2s: &[L2], window: &Window<'_>) -> Result<Done> {
        let cluster_size = self.image.header().geometry().cluster_size();
        let decoders = self.decoders.as_ref().filter(|_| window.is_first);
        let piece = if decoders.is_some() {
            PIECE_WITH_STREAMS
        } else {
            JOB
        }
        .min(cluster_size);
        let (mut reader, mut entries) = (
            Reader::new(self.image, window, decoders.is_some()),
            Entries::default(),
        );
        let mut decompressed = 0_u64;
        for l2 in l2s {
            // Of a file that is all holes there may be millions.
            if cluster_size >= WORTH_ASKING && self.image.file().is_hole(l2.at, cluster_size) {
                self.progress.advance(cluster_size);
                continue;
            }
            reader.begin(*l2);
            for start in (0..cluster_size).step_by(to_usize(piece)) {
                reader.piece(&mut entries, start, piece)?;
                if let Some(decoders) = decoders {
                    let streams = reader.take_streams();
                    decompressed.increase(to_u64(streams.len()));
                    self.decompress(&streams, decoders, &mut reader.found)?;
                }
                self.progress.advance(piece);
            }
        }
        let (found, figures) = (reader.found, reader.figures);
        Ok(Done {
            found,
            figures,
            decompressed,
        })
    }

    /// Tries compressed clusters.
    fn decompress(&self, streams: &[Compressed], decoders: &Decoders, found: &mut Findings) -> Result<()> {
        let cluster_size = to_usize(self.image.header().geometry().cluster_size());
        let decode = |cluster: &mut Vec<u8>, (stream, guest): &Compressed| {
            let decode = |decoder: &mut _| self.image.decode(decoder, *stream, guest.clone(), cluster);
            match decoders.with(decode) {
                Err(Error::Corrupt(fault)) => Ok(Some(Finding::new(Code::Stream, fault))),
                Err(error) => Err(error),
                Ok(()) => Ok(None),
            }
        };
        let tried = streams.par_iter().map_init(|| vec![0; cluster_size], decode);
        let tried: Result<Vec<Option<Finding>>> = tried.collect();
        for finding in tried?.into_iter().flatten() {
            found.add(finding);
        }
        Ok(())
    }

    /// How many jobs are begun and not yet taken.
    fn in_flight(&self) -> usize {
        self.pool.current_num_threads().times(2)
    }
}

/// What the image says about itself.
fn remarks(image: &Image, log: &mut Log<'_>) {
    for finding in image.remarks().filter_map(of_remark) {
        log.add(finding);
    }
    let unneeded = image.unneeded();
    for (code, fault) in [
        (Code::Header, &unneeded.header_length),
        (Code::RefcountTable, &unneeded.refcount_table),
        (Code::SnapshotTable, &unneeded.snapshot_table),
    ] {
        if let Some(fault) = fault {
            log.add(Finding::new(code, fault.clone()));
        }
    }
}

/// What it says; nothing of structures whose faults are found with their places.
fn of_remark(remark: Remark) -> Option<Finding> {
    let (code, text) = match remark {
        Remark::Dirty => (Code::Dirty, "incompatible bit 0 is set"),
        Remark::Corrupt => (Code::MarkedCorrupt, "incompatible bit 1 is set"),
        Remark::NeedsCheck => (Code::Dirty, "feature bit 1 is set"),
        Remark::Unmarked(trace) => return Some(Finding::new(Code::ChangedUnmarked, trace)),
        Remark::HeaderLength | Remark::Overlap | Remark::NoRefcounts | Remark::NoSnapshots => return None,
    };
    Some(Finding::new(code, Fault::That(text)))
}

/// Whether the checksum table is whole although a program wrote clusters behind it, which is told already.
fn is_behind_unmarked(image: &Image) -> Result<bool> {
    if image.freshness() != Freshness::Doubtful {
        return Ok(false);
    }
    match image.checksums() {
        Ok(checksums) => Ok(checksums.is_some()),
        Err(Error::Corrupt(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Our tables lie behind all that is in use. Whoever has written to the image may have written there.
fn find_checksums(image: &Image, end: HostOffset, log: &mut Log<'_>) -> Result<()> {
    let at = match image.ours() {
        Ok(None) => return Ok(()),
        Ok(Some(ours)) => ours.checksums,
        Err(Error::Corrupt(fault)) => {
            log.add(Finding::new(Code::ChecksumsHidden, fault));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if image.is_outdated() {
        return Ok(());
    }
    let text = if !image.file().holds(at.offset, at.length) {
        "the checksum table lies at least partly past the end of the file"
    } else if at.offset < end && !is_behind_unmarked(image)? {
        "the checksum table overlaps clusters in use"
    } else {
        return Ok(());
    };
    log.add(Finding::new(Code::ChecksumsLost, Fault::That(text)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::formats::qcow2::structures::geometry::ClusterSize;
    use crate::{Silent, create};

    /// What is found with so much memory, in some order of its own.
    fn found(budget: u64, image: &Image) -> (Vec<String>, Report) {
        let mut found = Vec::new();
        let tell = &mut |finding: &Finding| found.push(format!("{finding:?}"));
        let report = check_within(budget, image, &Options::default(), &Silent, tell).unwrap();
        found.sort();
        (found, report)
    }

    #[test]
    fn refcounts_of_clusters_past_all_offsets_are_told() {
        let dir = std::env::temp_dir().join(format!("mkqcow2-check-far-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (source, path) = (dir.join("raw"), dir.join("image"));
        fs::write(&source, crate::noise::noise(1 << 20)).unwrap();
        let options = create::Options {
            cluster_size: ClusterSize::MAX,
            sync: false,
            ..create::Options::default()
        };
        create(&source, &path, options, &Silent).unwrap();
        // Refcounts of one bit, and the largest table: its last block counts clusters from 2^65 - 2^45 on.
        let file = File::options().write(true).open(&path).unwrap();
        let (table, block) = (64 << 20, 72 << 20_u64);
        file.write_all_at(&vec![0xff; 2 << 20], block).unwrap();
        file.write_all_at(&block.to_be_bytes(), block - 8).unwrap();
        file.write_all_at(&u64::to_be_bytes(table), 48).unwrap();
        file.write_all_at(&4_u32.to_be_bytes(), 56).unwrap();
        file.write_all_at(&0_u32.to_be_bytes(), 96).unwrap();
        let image = Image::open(&path).unwrap();
        fs::remove_dir_all(&dir).unwrap();

        let (found, report) = found(BUDGET, &image);

        assert_eq!(report.tallies[&Code::RefcountHigh].count, 1 << 24, "{found:?}");
        assert_eq!(report.image_end, HostOffset(u64::MAX));
    }

    #[test]
    fn what_is_found_does_not_depend_on_how_the_refcounts_are_cut() {
        let dir = std::env::temp_dir().join(format!("mkqcow2-check-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (source, path) = (dir.join("raw"), dir.join("image"));
        fs::write(&source, crate::noise::noise(1 << 20)).unwrap();
        let options = create::Options {
            cluster_size: ClusterSize::MIN,
            sync: false,
            ..create::Options::default()
        };
        create(&source, &path, options, &Silent).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let number = |at| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).unwrap();
            u64::from_be_bytes(bytes)
        };
        // A refcount that is too high in every fourth block, and too low in the one behind; an L2 entry without
        // COPIED in every third table, one that points to the table itself in the next.
        for block in (0..8).step_by(4) {
            let [high, low] = [0, 8].map(|more| number(number(48) + 8 * block + more));
            file.write_all_at(&[0, 9], high + 100).unwrap();
            file.write_all_at(&[0, 0], low + 200).unwrap();
        }
        for table in (0..30).step_by(3) {
            let [first, second] = [0, 8].map(|more| number(number(40) + 8 * table + more));
            let at = first & !(1 << 63);
            file.write_all_at(&(number(at) & !(1 << 63)).to_be_bytes(), at)
                .unwrap();
            let at = second & !(1 << 63);
            file.write_all_at(&second.to_be_bytes(), at + 80).unwrap();
        }
        let image = Image::open(&path).unwrap();
        fs::remove_dir_all(&dir).unwrap();

        let (at_once, report) = found(BUDGET, &image);

        for code in [
            Code::RefcountHigh,
            Code::RefcountLow,
            Code::L2Copied,
            Code::L2Overlap,
        ] {
            assert!(
                report.tallies.contains_key(&code),
                "{code:?}: {:?}",
                report.tallies
            );
        }
        for budget in [1, 5000, 100_000] {
            let (found, of_windows) = found(budget, &image);
            assert_eq!(found, at_once, "{budget}");
            assert_eq!(of_windows.tallies, report.tallies, "{budget}");
            let figures = |report: &Report| {
                let counts = [report.allocated_clusters, report.fragmented_clusters];
                (counts, report.image_end)
            };
            assert_eq!(figures(&of_windows), figures(&report), "{budget}");
        }
    }
}
