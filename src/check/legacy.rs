//! Images without refcounts: QCOW version 1 and QED.

use std::ops::Range;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::catalogue::Code;
use super::clusters::{Compressed, Figures};
use super::findings::{Fault, Finding, Log};
use super::{Options, Report, of_remark};
use crate::error::{Corrupt, Error, Expected, Result};
use crate::formats::Decoders;
use crate::formats::legacy::{Examiner, Found, LegacyImage};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::pipeline::readers;
use crate::progress::{Phase, Progress};
use crate::units::{Exact, HostOffset, length, to_u64, to_usize};

/// How many compressed clusters are tried in one go.
const BATCH: usize = 4096;

/// Checks an image without refcounts, as [`check`](super::check()) does one of qcow2: whether every entry of its
/// tables can be what it is, and whether tables and clusters lie in places of their own. Of QED, it finds clusters
/// of the file that nothing uses, too.
///
/// # Errors
///
/// [`Error::Io`] if the image cannot be read. Damage is no error here, but a finding.
pub fn check_legacy(
    image: &LegacyImage,
    options: &Options,
    progress: &dyn Progress,
    tell: &mut dyn FnMut(&Finding),
) -> Result<Report> {
    let started = Instant::now();
    let mut log = Log::new(tell);
    if let Some(finding) = image.remark().and_then(of_remark) {
        log.add(finding);
    }
    let mut checker = Checker {
        image,
        pool: &readers(options.threads)?,
        decoders: options.data.then(Decoders::default),
        progress,
        log: &mut log,
        figures: Figures::default(),
        behind: None,
        streams: Vec::new(),
        decompressed: 0,
    };
    let extent = image.examine(&mut checker)?;
    checker.decompress()?;
    let (figures, decompressed) = (checker.figures, checker.decompressed);
    Ok(Report {
        format: image.format(),
        tallies: log.into_tallies(),
        total_clusters: image.clusters(),
        allocated_clusters: figures.allocated,
        fragmented_clusters: figures.fragmented,
        compressed_clusters: figures.compressed,
        image_end: extent.end,
        decompressed: options.data.then_some(decompressed),
        duration: started.elapsed(),
    })
}

struct Checker<'a, 'b> {
    image: &'a LegacyImage,
    pool: &'a ThreadPool,
    /// If compressed clusters are to be tried.
    decoders: Option<Decoders>,
    progress: &'a dyn Progress,
    log: &'a mut Log<'b>,
    figures: Figures,
    /// Where the data cluster before ends, in the file, and the number of its table.
    behind: Option<(u64, HostOffset)>,
    /// Those that are still to be tried.
    streams: Vec<Compressed>,
    decompressed: u64,
}

impl Examiner for Checker<'_, '_> {
    fn found(&mut self, found: Found) -> Result<()> {
        let finding = match found {
            Found::Table(fault) => {
                let codes = [Code::L1Entry, Code::L1Outside, Code::L1Overlap];
                Finding::new(code_of(&fault, codes), fault)
            }
            Found::Cluster(fault) => {
                let codes = [Code::L2Entry, Code::L2Outside, Code::L2Overlap];
                Finding::new(code_of(&fault, codes), fault)
            }
            Found::TableInTable(fault) => Finding::new(Code::L1Overlap, fault),
            Found::ClusterInTable(fault) => Finding::new(Code::L2Overlap, fault),
            Found::ClusterInCluster(fault) => Finding::new(Code::DataOverlap, fault),
            Found::Unused(range) => self.unused(&range),
        };
        self.log.add(finding);
        Ok(())
    }

    fn cluster(&mut self, mapping: Mapping, guest: Range<u64>) -> Result<()> {
        if mapping == Mapping::Zero {
            return Ok(());
        }
        let mut figures = Figures {
            allocated: 1,
            ..Figures::default()
        };
        if let Mapping::Data(at) = mapping {
            let table = guest.start.checked_div(self.image.l2_reach()).unwrap_or(0);
            let behind = self.behind.filter(|(before, _)| *before == table);
            figures.fragmented = u64::from(behind.is_some_and(|(_, behind)| behind != at));
            self.behind = Some((table, at + self.image.cluster_size()));
        }
        if let Mapping::Compressed(stream) = mapping {
            // As those of qcow2.
            (figures.fragmented, figures.compressed) = (1, 1);
            if self.decoders.is_some() {
                self.streams.push((stream, guest));
            }
        }
        self.figures.add(figures);
        if self.streams.len() >= BATCH {
            self.decompress()?;
        }
        Ok(())
    }

    fn begin(&mut self, bytes: u64) {
        self.progress.begin(Phase::Checking, bytes);
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.advance(bytes);
    }
}

impl Checker<'_, '_> {
    fn unused(&self, range: &Range<u64>) -> Finding {
        let cluster_size = self.image.cluster_size();
        let clusters = length(range).checked_div(cluster_size).unwrap_or(0);
        Finding {
            code: Code::Unused,
            count: clusters,
            fault: Fault::Unused {
                at: HostOffset(range.start),
                clusters,
                cluster_size,
            },
        }
    }

    /// Tries compressed clusters, by all workers at once.
    fn decompress(&mut self) -> Result<()> {
        let Some(decoders) = &self.decoders else {
            return Ok(());
        };
        let (image, cluster_size) = (self.image, to_usize(self.image.cluster_size()));
        let decode = |cluster: &mut Vec<u8>, (stream, guest): &Compressed| {
            let decode = |decoder: &mut _| image.decode(decoder, *stream, guest.clone(), cluster);
            match decoders.with(decode) {
                Err(Error::Corrupt(fault)) => Ok(Some(Finding::new(Code::Stream, fault))),
                Err(error) => Err(error),
                Ok(()) => Ok(None),
            }
        };
        let streams = &self.streams;
        let tried: Result<Vec<Option<Finding>>> = self.pool.install(|| {
            let tried = streams.par_iter().map_init(|| vec![0; cluster_size], decode);
            tried.collect()
        });
        for finding in tried?.into_iter().flatten() {
            self.log.add(finding);
        }
        self.decompressed.increase(to_u64(self.streams.len()));
        self.streams.clear();
        Ok(())
    }
}

/// What sort of thing it is: an entry that cannot be, one that leads out of the file, or one that leads to where
/// something else is.
fn code_of(fault: &Corrupt, [entry, outside, overlap]: [Code; 3]) -> Code {
    if matches!(
        fault,
        Corrupt::CutOff { .. }
            | Corrupt::Entry {
                expected: Expected::WithinFile(_),
                ..
            }
    ) {
        outside
    } else if matches!(
        fault,
        Corrupt::Entry {
            expected: Expected::Outside(_),
            ..
        }
    ) {
        overlap
    } else {
        entry
    }
}
