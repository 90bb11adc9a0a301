//! Compares two disks, or parts of them, byte by byte.

mod difference;
mod options;
mod report;
mod side;
mod used;
mod walk;
mod warning;

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub use options::{Options, Said};
pub use report::Report;
pub use warning::Warning;

use crate::error::Result;
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress};
use crate::units::{Exact, SECTOR, length};
use difference::{Compared, Comparer, Mode};
use side::Side;
use walk::{Batch, Walk};

/// How much a worker does in one go, in bytes, unless a cluster is larger.
const BATCH: u64 = 1 << 20;

/// How much of each disk is read and then compared: it should still be in the processor's cache by then. No less,
/// and not much more, than the usual cluster.
const SLICE: u64 = 128 << 10;

/// What is a hole in smaller pieces is read all the same: looking for more would cost more.
const GRANULE: u64 = 64 << 10;

/// Two disks that were opened.
#[derive(Debug)]
pub struct Comparison {
    a: Side,
    b: Side,
    options: Options,
    begun: Instant,
}

/// Compares two disks up to the first difference: [`Comparison::open`], then [`Comparison::first`].
///
/// # Errors
///
/// Those of the two.
pub fn compare(a: &Path, b: &Path, options: Options, progress: &dyn Progress) -> Result<Report> {
    Comparison::open(a, b, options)?.first(progress)
}

impl Comparison {
    /// Opens a raw file, a block device or an image, and another. An empty file is a disk without bytes.
    ///
    /// # Errors
    ///
    /// Those that are about the second name [it](crate::Error::Elsewhere).
    ///
    /// - Those of [`allocation::scan`](crate::volumes::scan), if that is asked for.
    /// - Those of [`formats::open`](crate::formats::open()).
    /// - Those of [`Wanted::find`](crate::volumes::Wanted::find).
    /// - [`Error::Invalid`](crate::Error::Invalid) if a snapshot, backing file or data file is asked for of what is
    ///   no image.
    pub fn open(a: &Path, b: &Path, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let a = Side::open(a, &options.a, &options)?;
        let open_b = || Side::open(b, &options.b, &options).map_err(|error| error.elsewhere(b));
        let mut opened_b = open_b();
        if a.is_claimed() && side::is_busy(&opened_b) {
            // By ourselves, perhaps: it may be the same device, a part of it, or the file behind it.
            a.release();
            opened_b = open_b();
        }
        Ok(Self {
            a,
            b: opened_b?.second(),
            options,
            begun,
        })
    }

    /// Compares the two up to the first difference.
    ///
    /// Behind the end of the smaller one there are zeros. What both have as a hole, or not allocated, is not read.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if one of them cannot be read.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if one of them is damaged, or became smaller.
    pub fn first(&self, progress: &dyn Progress) -> Result<Report> {
        let mut report = self.new_report();
        if !report.sizes_differ {
            self.run(Mode::First, progress, |compared| {
                report.count(&compared);
                match compared.first {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                }
            })?;
        }
        self.finish(report)
    }

    /// Compares all of the two, and hands every range in which they differ to `found`, in ascending order. Ranges
    /// are whole sectors of 512 bytes, but for the end of the disk, and never touch. Ends early if `found` has had
    /// enough.
    ///
    /// # Errors
    ///
    /// As [`first`](Self::first). What was found before stays found.
    pub fn all(
        &self,
        progress: &dyn Progress,
        mut found: impl FnMut(Range<u64>) -> ControlFlow<()>,
    ) -> Result<Report> {
        let mut report = self.new_report();
        let (mut last, mut is_wanted) = (None, true);
        let ended = self.run(Mode::All, progress, |compared| {
            report.count(&compared);
            let end = compared.passed.end;
            let next = compared.ranges.into_iter().map(Some);
            // What ends with the batch may go on in the next.
            let flow = next
                .chain([None])
                .try_for_each(|next| match joined(&mut last, next, end) {
                    Some(range) => report.hand(range, &mut found),
                    None => ControlFlow::Continue(()),
                });
            is_wanted = flow.is_continue();
            flow
        });
        // In front of an error there may be a difference too.
        if let Some(range) = last.filter(|_| is_wanted) {
            // There is nothing left to break off.
            let _ = report.hand(range, &mut found);
        }
        ended?;
        self.finish(report)
    }

    /// Hands what was compared to `take`, in ascending order, until that has had enough.
    fn run(
        &self,
        mode: Mode,
        progress: &dyn Progress,
        mut take: impl FnMut(Compared) -> ControlFlow<()>,
    ) -> Result<()> {
        let pool = pipeline::readers(self.options.threads)?;
        let granule = GRANULE.max(self.a.grain()).max(self.b.grain());
        let enough = AtomicBool::new(false);
        let is_enough = || enough.load(Ordering::Relaxed);
        let comparer = Comparer {
            a: &self.a,
            b: &self.b,
            slice: SLICE.max(granule),
            mode,
            buffers: Buffers::default(),
            enough: &enough,
        };
        let mut walk = Walk::new(&self.a, &self.b, granule, BATCH.max(granule));
        progress.begin(Phase::Comparing, walk.end());
        let batches = std::iter::from_fn(|| if is_enough() { None } else { walk.next() });
        // No job fails: what lies behind a difference may not matter, and what lies in front of damage does.
        let work = |batch: Result<Batch>| {
            Ok(match batch {
                Ok(batch) => comparer.compare(&batch),
                Err(error) => Compared::failed(error),
            })
        };
        let in_flight = pool.current_num_threads().times(4);
        pipeline::in_order(&pool, in_flight, batches, work, |mut compared| {
            if is_enough() {
                return Ok(());
            }
            progress.advance(length(&compared.passed));
            let failure = compared.failure.take();
            if take(compared).is_break() {
                enough.store(true, Ordering::Relaxed);
                return Ok(());
            }
            failure.map_or(Ok(()), Err)
        })
    }

    fn new_report(&self) -> Report {
        let sizes = [self.a.size(), self.b.size()];
        let [a, b] = sizes.map(|size| size.div_ceil(SECTOR));
        Report {
            sizes,
            volumes: [&self.a, &self.b].map(|side| side.volume().cloned()),
            sizes_differ: self.options.strict && a != b,
            first_difference: None,
            ranges: 0,
            differing: 0,
            compared: 0,
            warnings: self.a.warnings().chain(self.b.warnings()).collect(),
            duration: self.begun.elapsed(),
        }
    }

    fn finish(&self, mut report: Report) -> Result<Report> {
        for side in [&self.a, &self.b] {
            report.warnings.extend(side.change()?);
        }
        report.duration = self.begun.elapsed();
        Ok(report)
    }
}

/// Lets the last range go on if the next one touches it. Otherwise that takes its place, and it is complete; so it
/// is if there is no next one up to `end`.
fn joined(last: &mut Option<Range<u64>>, next: Option<Range<u64>>, end: u64) -> Option<Range<u64>> {
    match (last.as_mut(), next) {
        (Some(last), Some(next)) if last.end == next.start => {
            last.end = next.end;
            None
        }
        (_, Some(next)) => last.replace(next),
        (Some(range), None) if range.end < end => last.take(),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_complete_as_soon_as_that_is_known() {
        let mut last = None;
        assert_eq!(joined(&mut last, Some(0..512), 1024), None);
        assert_eq!(joined(&mut last, Some(512..1024), 1024), None);
        // It may go on behind the batch.
        assert_eq!(joined(&mut last, None, 1024), None);
        assert_eq!(joined(&mut last, Some(1024..1536), 4096), None);
        assert_eq!(joined(&mut last, Some(2048..2560), 4096), Some(0..1536));
        assert_eq!(joined(&mut last, None, 4096), Some(2048..2560));
        assert_eq!(joined(&mut last, None, 8192), None);
    }
}
