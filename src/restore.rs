//! An image becomes a disk again.

mod fill;
mod options;
mod partitions;
mod readback;
mod report;
mod walk;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::ThreadPool;

pub use options::Options;
pub use report::{Bad, Kind, Plan, Report, Warning, Why};

use crate::disk::FileState;
use crate::error::{Corrupt, Error, InUse, Invalid, Result, Unrecorded};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::qcow2::{Checksums, Freshness, Image, Record};
use crate::formats::{Access, Chain, Format};
use crate::output::{Demand, Destination, DiskSink, Memory, Place, Published};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::progress::{Phase, Progress};
use crate::units::{GuestOffset, length, to_usize};
use crate::volumes::{self, Scan};
use fill::{Filled, Filler, Piece, note, slice};
use partitions::Partitioning;
use readback::{Ledger, written};
use walk::{Rules, Walk};

/// How much a worker does in one go, in bytes, unless a cluster is larger.
const WINDOW: u64 = 1 << 20;

/// How much is read and not yet written, in bytes at most.
const IN_FLIGHT: u64 = 16 << 20;

/// How many bad ranges are listed before the image is given up.
const MAX_BAD: usize = 1 << 16;

/// A job that was validated as far as that can be done without changing anything.
#[derive(Debug)]
pub struct Restoring {
    origin: Origin,
    destination: Destination,
    memory: Option<Memory>,
    begun: Instant,
}

/// What is read, and how.
#[derive(Debug)]
struct Origin {
    options: Options,
    disk: Chain,
    /// The files that are read, as they were when they were opened.
    before: Vec<(PathBuf, Option<FileState>)>,
    /// What the image records as free, if that is to be left as it is.
    free: Option<Record>,
    partitioning: Partitioning,
    /// Why the image may be written to meanwhile, or the target be in use, where that could not be found out.
    perhaps_written: Option<InUse>,
    perhaps_used: Option<InUse>,
}

impl Restoring {
    /// Opens the image with all it needs, and makes sure that the disk can be put where it should. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// - Those of [`Chain::open`] and of [`Destination::resolve`].
    /// - [`Error::Invalid`] if it is raw, does not record what is free and only the rest is
    ///   wanted, or counts in sectors of another size than those of a device, unless forced.
    pub fn prepare(image: &Path, target: impl Into<Place>, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let format = Format::of_image(image, options.format)?;
        if format == Format::Raw {
            return Err(Invalid::NoImage.into());
        }
        let (disk, perhaps_written) = open(image, format, &options)?;
        let free = options
            .used_only
            .then(|| record_of(&disk, &options))
            .transpose()?;
        let read: Vec<_> = disk.paths().map(Path::to_owned).collect();
        let (destination, perhaps_used) = Destination::resolve(
            &target.into(),
            &Demand {
                size: disk.size(),
                no_clobber: options.no_clobber,
                read_back: options.verify,
                force: options.force,
                read: &read,
            },
        )?;
        let tables = volumes::tables(&disk);
        let partitioning = Partitioning::on(
            &destination,
            disk.size(),
            tables,
            sector_size_of(&disk),
            options.force,
        )?;
        let memory = destination.memory()?;
        let before = read.into_iter().map(|path| (state_of(&path), path));
        let origin = Origin {
            disk,
            before: before.map(|(state, path)| (path, state)).collect(),
            free: free.filter(|_| matches!(destination, Destination::Device(_))),
            partitioning,
            perhaps_written,
            perhaps_used,
            options,
        };
        Ok(Self {
            origin,
            destination,
            memory,
            begun,
        })
    }

    /// What will be done. Looks at all tables of the image, and at no data but the partition table.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a table is damaged.
    /// - [`Error::Io`] if a table cannot be read.
    pub fn plan(&self) -> Result<Plan> {
        let (mut data, mut zeros, mut unallocated) = (0_u64, 0_u64, 0_u64);
        let (disk, mut at) = (&self.origin.disk, 0);
        let mut warnings = self.origin.remarks()?;
        warnings.extend(self.memory.map(Warning::InMemory));
        while at < disk.size() {
            let run = disk.run_at(GuestOffset(at), u64::MAX)?;
            if run.length == 0 {
                break;
            }
            let sum = match run.mapping {
                Mapping::Unallocated => &mut unallocated,
                Mapping::Zero | Mapping::ZeroAllocated(_) => &mut zeros,
                Mapping::Data(_) | Mapping::Compressed(_) => &mut data,
            };
            *sum = sum.saturating_add(run.length);
            at = at.saturating_add(run.length);
        }
        let is_checked = self.origin.checksums(&mut warnings)?.is_some();
        // What it records counts for what is there.
        let free = match disk.record() {
            Ok(Ok(record)) => Some(record.free_bytes().min(unallocated)),
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(Plan {
            size: disk.size(),
            data,
            zeros,
            unallocated,
            free,
            target: match &self.destination {
                Destination::File(_) => Kind::File,
                Destination::Device(_) => Kind::Device,
                Destination::Stdout => Kind::Stdout,
            },
            room: self.destination.room(),
            is_checked,
            warnings,
        })
    }

    /// Does it. A file has no name until the last moment, or the name still belongs to the old one. A device or a
    /// stream that was begun and not completed is [incomplete](crate::output::Left::Part), which the cleanup of the
    /// options knows.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a cluster or a table is damaged, and it is not to go on; or
    ///   in too many places.
    /// - [`Error::Io`] if the image cannot be read, or the target cannot be written, synced or
    ///   named.
    /// - [`Error::ReadBack`] if the target does not hold what was written.
    pub fn run(self, progress: &dyn Progress) -> Result<Report> {
        let Self {
            mut origin,
            destination,
            memory,
            begun,
        } = self;
        origin.disk.settle()?;
        let (disk, options) = (&origin.disk, &origin.options);
        let mut warnings = origin.remarks()?;
        warnings.extend(memory.map(Warning::InMemory));
        let checksums = origin.checksums(&mut warnings)?;
        let pool = pipeline::readers(options.threads)?;
        let run = Run {
            disk,
            options,
            checksums: checksums.as_ref(),
            rules: origin.rules(),
            pool: &pool,
            progress,
        };
        let mut sink = destination.open(options.cleanup.clone(), options.sync || options.verify)?;
        let copied = run.copy(&mut *sink)?;
        progress.begin(Phase::Syncing, 0);
        sink.settle(disk.size())?;
        run.verify(&*sink, &copied.ledger)?;
        warnings.extend(disk.unwritten().cloned().map(Warning::Unwritten));
        warnings.extend(origin.changes());
        if !copied.bad.is_empty() {
            let bytes = copied.bad.iter().map(|bad| length(&bad.range)).sum();
            warnings.push(Warning::Bad { bytes });
        }
        let kept = sink.kept();
        if !kept.owner {
            warnings.push(Warning::OwnerNotKept);
        }
        if !kept.rights {
            warnings.push(Warning::RightsNotKept);
        }
        match sink.publish()? {
            Published::AsAsked => {}
            Published::Perhaps(error) => warnings.push(Warning::NotDurable(error)),
            Published::Elsewhere => warnings.push(Warning::Elsewhere),
        }
        warnings.extend(options.cleanup.remains().map(Warning::Remains));
        Ok(Report {
            size: disk.size(),
            data: copied.data,
            written: copied.written,
            zeros: copied.zeros,
            left: copied.left,
            unreadable: origin.unreadable(&mut Vec::new()),
            is_checked: checksums.is_some(),
            is_verified: options.verify,
            bad: copied.bad,
            warnings,
            duration: begun.elapsed(),
        })
    }
}

impl Origin {
    /// What the images say about themselves, and what does not need a look at all of them.
    fn remarks(&self) -> Result<Vec<Warning>> {
        let own = self.disk.paths().next();
        let remarks = self.disk.remarks().map(|(path, remark)| Warning::Image {
            path: (Some(path) != own).then(|| path.to_owned()),
            remark,
        });
        let is_noise = self.disk.is_encrypted() && volumes::scan(&self.disk, Scan::Auto)?.is_unrecognised();
        let mut warnings: Vec<_> = is_noise
            .then_some(Warning::PerhapsNoise)
            .into_iter()
            .chain(self.perhaps_written.clone().map(Warning::ImagePerhapsInUse))
            .chain(self.perhaps_used.clone().map(Warning::TargetPerhapsInUse))
            .chain(remarks)
            .chain(self.partitioning.warnings())
            .collect();
        let unreadable = self.unreadable(&mut warnings);
        if !unreadable.is_empty() {
            let bytes = unreadable.iter().map(length).sum();
            warnings.push(Warning::Unreadable { bytes });
        }
        Ok(warnings)
    }

    /// What could not be read when the image was made, in bytes of the disk. A record that cannot be read is no reason to
    /// stop: nothing but this is lost with it, unless what is free matters.
    fn unreadable(&self, warnings: &mut Vec<Warning>) -> Vec<Range<u64>> {
        let image = self.disk.image().filter(|_| self.disk.is_active());
        let record = image.map_or(Ok(None), Image::record);
        let is_unchanged = image.is_some_and(|image| image.freshness() == Freshness::Unchanged);
        match record {
            Ok(record) => record.map_or_else(Vec::new, |record| record.unreadable),
            Err(error) if is_unchanged => {
                warnings.push(Warning::NoRecord(error));
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// The checksums of the disk, if there are any that can be compared.
    fn checksums(&self, warnings: &mut Vec<Warning>) -> Result<Option<Checksums<'_>>> {
        let Some(image) = self.disk.image() else {
            return Ok(None);
        };
        // They are of the active state.
        if !self.disk.is_active() {
            return Ok(None);
        }
        if image.extensions().ours.is_some() && image.freshness() == Freshness::Changed {
            warnings.push(Warning::Changed);
            return Ok(None);
        }
        match image.checksums() {
            Err(error) if self.options.keep_going => {
                warnings.push(Warning::NoChecksums(error));
                Ok(None)
            }
            result => result,
        }
    }

    /// What was written to since it was opened.
    fn changes(&self) -> impl Iterator<Item = Warning> {
        let changed = self
            .before
            .iter()
            .filter(|(path, before)| state_of(path) != *before);
        changed.map(|(path, _)| Warning::ChangedMeanwhile { path: path.clone() })
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            window: WINDOW.max(self.disk.cluster_size()),
            free: self.free.as_ref(),
            keep_going: self.options.keep_going,
        }
    }
}

/// Restores a disk from an image: [`Restoring::prepare`], then [`Restoring::run`].
///
/// # Errors
///
/// Those of the two.
pub fn restore(
    image: &Path,
    target: impl Into<Place>,
    options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    Restoring::prepare(image, target, options)?.run(progress)
}

/// Opens an image. If it cannot be found out whether it is in use, and it is to be restored all the same, that is told.
fn open(path: &Path, format: Format, options: &Options) -> Result<(Chain, Option<InUse>)> {
    let error = match Chain::open_as(path, format, &options.access) {
        Ok(disk) => return Ok((disk, None)),
        Err(error) => error,
    };
    let is_unknown = |in_use: &InUse| matches!(in_use, InUse::Unknown { .. });
    if options.force
        && let Error::Invalid(Invalid::SourceInUse(in_use)) = error.innermost().0
        && is_unknown(in_use)
    {
        let access = Access {
            force: true,
            ..options.access.clone()
        };
        let disk = Chain::open_as(path, format, &access)?;
        // Of another of its files more may be known.
        let in_use = disk.in_use().map(|(_, in_use)| in_use.clone());
        if in_use.as_ref().is_none_or(is_unknown) {
            return Ok((disk, in_use));
        }
    }
    Err(error)
}

/// What an image records of its source, where nothing less will do.
fn record_of(disk: &Chain, options: &Options) -> Result<Record> {
    // In version 2, only checksums that are right tell that nothing was changed since.
    let cannot_tell = disk
        .image()
        .is_some_and(|image| image.freshness() == Freshness::Unknown);
    if cannot_tell && options.keep_going {
        return Err(Invalid::Unrecorded(Unrecorded::Unproven).into());
    }
    Ok(disk.record()?.map_err(Invalid::Unrecorded)?)
}

/// The size of a sector of the source, in bytes, as far as the image records it. What is damaged is told elsewhere.
fn sector_size_of(disk: &Chain) -> Option<u32> {
    let record = disk.image().filter(|_| disk.is_active())?.record();
    record.ok().flatten()?.sector_size
}

/// What changes when somebody writes to a file; none of a device, or if it cannot be told.
fn state_of(path: &Path) -> Option<FileState> {
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(FileState::of(&metadata))
}

/// What the two passes over a disk have in common.
#[derive(Clone, Copy)]
struct Run<'a> {
    disk: &'a Chain,
    options: &'a Options,
    checksums: Option<&'a Checksums<'a>>,
    rules: Rules<'a>,
    pool: &'a ThreadPool,
    progress: &'a dyn Progress,
}

/// What came of copying.
#[derive(Debug, Default)]
struct Copied {
    data: u64,
    written: u64,
    zeros: u64,
    left: u64,
    bad: Vec<Bad>,
    ledger: Ledger,
}

impl<'a> Run<'a> {
    fn copy(self, sink: &mut dyn DiskSink) -> Result<Copied> {
        self.progress.begin(Phase::Copying, self.disk.size());
        let buffers = Buffers::default();
        let filler = Filler {
            disk: self.disk,
            buffers: &buffers,
            keep_going: self.options.keep_going,
            smallest_hole: sink.smallest_hole(),
            will_verify: self.options.verify,
        };
        let mut copied = Copied::default();
        let put = |filled: Filled| {
            copied.put(&filled, sink)?;
            if self.options.verify && !filled.bytes.is_empty() {
                let bytes = written(&filled.pieces);
                copied.ledger.add(filled.range.clone(), filled.crc, bytes);
            }
            self.progress.advance(length(&filled.range));
            if !filled.bytes.is_empty() {
                buffers.give(filled.bytes);
            }
            Ok(())
        };
        let fill = |job: Result<_>| filler.fill(job?);
        pipeline::in_order(self.pool, self.in_flight(), self.walk(), fill, put)?;
        Ok(copied)
    }

    fn verify(self, sink: &dyn DiskSink, ledger: &Ledger) -> Result<()> {
        let Some(file) = sink.written().filter(|_| self.options.verify) else {
            return Ok(());
        };
        self.progress.begin(Phase::Verifying, self.disk.size());
        readback::compare(
            file,
            ledger,
            self.walk(),
            self.pool,
            self.in_flight(),
            self.progress,
        )
    }

    fn walk(self) -> Walk<'a> {
        Walk::new(self.disk, self.rules, self.checksums.map(Checksums::in_order))
    }

    fn in_flight(self) -> usize {
        let workers = self.pool.current_num_threads();
        let windows = to_usize(IN_FLIGHT / self.rules.window);
        windows.min(workers.saturating_mul(4)).max(2)
    }
}

impl Copied {
    fn put(&mut self, filled: &Filled, sink: &mut dyn DiskSink) -> Result<()> {
        for (range, piece) in &filled.pieces {
            let sum = match piece {
                Piece::Write => {
                    sink.write(
                        slice(&filled.range, range, &filled.bytes),
                        GuestOffset(range.start),
                    )?;
                    &mut self.written
                }
                Piece::Zero => {
                    sink.zero(range.clone())?;
                    &mut self.zeros
                }
                Piece::Leave => {
                    sink.leave(range.clone())?;
                    &mut self.left
                }
            };
            *sum = sum.saturating_add(length(range));
        }
        self.data = self.data.saturating_add(filled.data);
        for bad in &filled.bad {
            note(&mut self.bad, bad.range.clone(), bad.why);
            if self.bad.len() > MAX_BAD {
                let (limit, at) = (MAX_BAD, bad.range.start);
                return Err(Corrupt::TooManyUnreadable { limit, at }.into());
            }
        }
        Ok(())
    }
}
