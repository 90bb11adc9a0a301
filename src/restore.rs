//! An image becomes a disk again.

mod existing;
mod fill;
mod image_at;
mod new_ids;
mod options;
mod origin;
mod partitions;
mod passes;
mod piped;
mod proof;
mod readback;
mod reference;
mod report;
mod smaller;
mod stretch;
mod walk;

use std::path::Path;
use std::time::Instant;

pub use existing::Existing;
pub use image_at::ImageAt;
pub use options::Options;
pub use report::{Bad, Plan, Report, TargetKind, Warning, Why};

use crate::disk::{Content, Disk, Force, Open, Run};
use crate::error::{Error, Invalid, Result, Unrecorded};
use crate::formats::qcow2::{Freshness, Record};
use crate::formats::{self, Chain, Opening, Overlap, TakenFor};
use crate::output::{Caution, DeviceTarget, DiskWriter, Memory, Place, Published, Target};
use crate::pipeline;
use crate::progress::{Phase, Progress};
use crate::units::{Exact, SECTOR, length};
use crate::volumes::{self, Fitted, Segments, Selection, Wanted};
use new_ids::NewIds;
use origin::{Origin, promises_checksums};
use partitions::Partitioning;
use passes::Passes;
use piped::Piped;

/// A job that was validated as far as that can be done without changing anything.
#[derive(Debug)]
pub struct Restoring {
    origin: Origin,
    target: Target<DeviceTarget>,
    /// What is on a block device, before it is written to.
    existing: Option<Existing>,
    memory: Option<Memory>,
    begun: Instant,
}

impl Restoring {
    /// Opens the image with the files it needs, and makes sure that the disk can be written to its place. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// - Those of [`formats::open`] and of [`Target::for_disk`].
    /// - [`Error::Invalid`] if it is raw, does not record what is free and only the rest is
    ///   wanted, or counts in sectors of another size than those of a device, unless forced.
    /// - [`Invalid::TargetOccupied`] if a block device holds anything that is recognised, unless that may be overwritten.
    /// - Those of [`Wanted::find`](volumes::Wanted::find).
    pub fn prepare(image: impl Into<ImageAt>, target: impl Into<Place>, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let (mut disk, piped) = open(&image.into(), &options)?;
        let free = options
            .used_only
            .then(|| record_of(&disk, &options))
            .transpose()?;
        // A pipe has no path.
        let paths = disk.paths().skip(usize::from(piped.is_some()));
        let read: Vec<_> = paths.map(Path::to_owned).collect();
        let place = target.into();
        if options.verify && place == Place::Stdout {
            return Err(Invalid::StdoutUnverifiable.into());
        }
        if options.new_ids && place == Place::Stdout {
            return Err(Invalid::StdoutUnpatchable.into());
        }
        let caution = Caution {
            no_clobber: options.no_clobber,
            overwrite: options.overwrite,
            force: options.force,
        };
        let mut selection = select(&mut disk, &options)?;
        let wanted = selection.segments.clone();
        let size = wanted.size();
        let for_size = |size| Target::for_disk(&place, caution, size, &read);
        let (target, perhaps_used, mut smaller) = match for_size(size) {
            Err(Error::Invalid(Invalid::TargetTooSmall { found, .. })) if piped.is_none() => {
                let (target, perhaps_used) = for_size(found)?;
                let sizes = (found, target.sector_size().unwrap_or(SECTOR));
                let smaller = if options.fit {
                    None
                } else {
                    Some(smaller::check(&disk, &selection, sizes, options.force)?)
                };
                selection.segments = selection.segments.up_to(found);
                (target, perhaps_used, smaller)
            }
            result => {
                let (target, perhaps_used) = result?;
                (target, perhaps_used, None)
            }
        };
        let existing = match &target {
            Target::Device(device) => Some(Existing::on(device, options.overwrite)?),
            Target::File(_) | Target::Stdout => None,
        };
        let partitioning = partitioning(&disk, &target, &options, piped.is_some())?;
        let fitted = options.fit.then(|| fitted(&disk, &target)).transpose()?;
        if let (Some(fitted), Target::Device(device)) = (&fitted, &target) {
            smaller = smaller::check_fitted(&disk, fitted, device.size())?;
        }
        let there = (&wanted, &selection.segments);
        let new_ids = NewIds::find(&options, &disk, there, fitted.as_ref(), &target);
        let memory = target.memory()?;
        // A file, and what is standard output, begin with nothing that could be left as it is.
        if let (Some(free), Target::Device(_)) = (free, &target) {
            disk.believe(free);
        }
        let origin = Origin {
            options,
            disk,
            piped,
            selection,
            partitioning,
            smaller,
            patches: fitted.map(|fitted| fitted.patches).unwrap_or_default(),
            new_ids,
            perhaps_used,
        };
        Ok(Self {
            origin,
            target,
            existing,
            memory,
            begun,
        })
    }

    /// The plan: what a run would do. Reads all tables of the image, and no data but the partition table.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a table is damaged.
    /// - [`Error::Io`] if a table cannot be read.
    pub fn plan(self) -> Result<Plan> {
        let (disk, segments) = (&self.origin.disk, &self.origin.selection.segments);
        let is_whole = self.origin.piped.is_none();
        let mut warnings = if is_whole {
            self.origin.remarks(disk)?
        } else {
            Vec::new()
        };
        warnings.extend(self.memory.map(Warning::InMemory));
        let (mut data, mut zeros, mut unallocated) = (0_u64, 0_u64, 0_u64);
        each_run(disk, segments, |run| {
            let sum = match run.content {
                Content::Hole | Content::Free => &mut unallocated,
                Content::Zeros => &mut zeros,
                Content::Data => &mut data,
            };
            sum.increase(run.length);
        })?;
        let is_checked = if is_whole {
            let reference = self.origin.reference(disk, &mut warnings)?;
            reference.is_some_and(|reference| reference.is_of_all(disk))
        } else {
            promises_checksums(disk)
        };
        // What it records counts for what is there.
        let record = if is_whole {
            disk.record().ok().and_then(Result::ok)
        } else {
            None
        };
        let free = record.map(|record| {
            let recorded = segments.ranges().map(|range| record.free_bytes_in(range));
            recorded.fold(0, u64::plus).min(unallocated)
        });
        let unreadable = self.origin.unreadable(disk, &mut Vec::new());
        let new_ids = self.origin.new_ids.as_ref();
        Ok(Plan {
            size: segments.size(),
            volume: self.origin.selection.volume.clone(),
            is_fitted: !self.origin.patches.is_empty(),
            identifiers: new_ids.map(|ids| ids.outcome(&[], &unreadable)),
            data,
            zeros,
            unallocated,
            free,
            target: match &self.target {
                Target::File(_) => TargetKind::File,
                Target::Device(_) => TargetKind::Device,
                Target::Stdout => TargetKind::Stdout,
            },
            room: self.target.room(),
            is_checked,
            warnings,
            existing: self.existing,
        })
    }

    /// What is on the block device that would be overwritten, if the target is one.
    pub fn existing(&self) -> Option<&Existing> {
        self.existing.as_ref()
    }

    /// Writes the disk. A file has no name until the last moment, or the name still belongs to the old one. A device or a
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
            origin,
            target,
            existing,
            memory,
            begun,
        } = self;
        let (disk, options, segments) = (&origin.disk, &origin.options, &origin.selection.segments);
        disk.settle()?;
        let mut warnings = Vec::new();
        let mut reference = None;
        if origin.piped.is_none() {
            warnings = origin.remarks(disk)?;
            reference = origin.reference(disk, &mut warnings)?;
        }
        let mut proof = origin.proof()?;
        let pool = pipeline::readers(options.threads)?;
        let run = Passes {
            disk,
            segments,
            options,
            reference: reference.as_ref(),
            rules: origin.rules(),
            piped: origin.piped.as_ref(),
            pool: &pool,
            progress,
        };
        let sync = options.sync || options.verify;
        let mut writer = DiskWriter::open(target, options.cleanup.clone(), sync)?;
        let copied = run
            .copy(&mut writer, &mut proof)
            .map_err(|error| disk.doubting(error))?;
        let ended = origin.ended(proof, &mut warnings)?;
        let told = ended.as_ref().unwrap_or(disk);
        progress.begin(Phase::Syncing, 0);
        let mut settled = writer.settle(segments.size())?;
        run.verify(&settled, &copied.ledger)?;
        // Last of all: until then the disk is as it was made.
        settled.patch(&origin.patches)?;
        let unreadable = origin.unreadable(told, &mut Vec::new());
        let new_ids = origin.new_ids.as_ref();
        let identifiers = new_ids.map(|ids| ids.outcome(&copied.bad, &unreadable));
        settled.patch(identifiers.as_ref().map_or(&[], |ids| &ids.patches))?;
        warnings.extend(memory.map(Warning::InMemory));
        warnings.extend(disk.unwritten().cloned().map(Warning::Unwritten));
        warnings.extend(origin.changes()?);
        if !copied.bad.is_empty() {
            let bytes = copied.bad.iter().map(|bad| length(&bad.range)).sum();
            warnings.push(Warning::Bad { bytes });
        }
        let kept = settled.kept();
        if !kept.owner {
            warnings.push(Warning::OwnerNotKept);
        }
        if !kept.rights {
            warnings.push(Warning::RightsNotKept);
        }
        match settled.publish()? {
            Published::AsAsked => {}
            Published::Perhaps(error) => warnings.push(Warning::NotDurable(error)),
            Published::Elsewhere => warnings.push(Warning::Elsewhere),
        }
        warnings.extend(options.cleanup.remains().map(Warning::Remains));
        Ok(Report {
            size: segments.size(),
            volume: origin.selection.volume.clone(),
            is_fitted: !origin.patches.is_empty(),
            identifiers,
            has_new_table: origin.partitioning.is_new,
            data: copied.data,
            written: copied.written,
            zeros: copied.zeros,
            left: copied.left,
            unreadable,
            is_checked: reference.is_some_and(|reference| reference.is_of_all(disk))
                || ended.is_some_and(|disk| promises_checksums(&disk)),
            is_verified: options.verify,
            bad: copied.bad,
            warnings,
            existing,
            duration: begun.elapsed(),
        })
    }
}

/// Restores a disk from an image: [`Restoring::prepare`], then [`Restoring::run`].
///
/// # Errors
///
/// Those of the two.
pub fn restore(
    image: impl Into<ImageAt>,
    target: impl Into<Place>,
    options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    Restoring::prepare(image, target, options)?.run(progress)
}

/// Opens an image. If it cannot be found out whether it is in use, that can be forced; nothing else.
fn open(image: &ImageAt, options: &Options) -> Result<(Chain, Option<Piped>)> {
    formats::refuse_raw(options.format)?;
    let opening = Opening {
        format: options.format,
        taken_for: TakenFor::Image,
        access: options.access.clone(),
        open: Open {
            force: if options.force {
                Force::IfUnknown
            } else {
                Force::No
            },
            ..Open::default()
        },
        overlap: if options.keep_going {
            Overlap::Read
        } else {
            Overlap::Refused
        },
    };
    let path = match image {
        ImageAt::Path(path) => path,
        ImageAt::Stdin if piped::is_file() => Path::new(piped::STDIN),
        ImageAt::Stdin => {
            let (piped, disk) = Piped::begin(options, &opening)?;
            return Ok((disk, Some(piped)));
        }
    };
    Ok((formats::open_image(path, &opening)?, None))
}

/// The bytes of a disk that are wanted. What tells of volumes is held to its checksums, unless damage is to be borne.
fn select(disk: &mut Chain, options: &Options) -> Result<Selection> {
    if matches!(options.wanted, Wanted::Volume(_)) && !options.keep_going {
        disk.hold_to_checksums()?;
    }
    options.wanted.find(disk)
}

/// What becomes of the partition table of a disk, if all of that is wanted.
fn partitioning(
    disk: &Chain,
    target: &Target<DeviceTarget>,
    options: &Options,
    is_piped: bool,
) -> Result<Partitioning, Invalid> {
    if options.wanted != Wanted::Whole {
        return Ok(Partitioning::default());
    }
    let mut tables = volumes::tables(disk);
    let mut recorded = None;
    if is_piped {
        // What lies at the end of the disk, where the backup is, was not read yet.
        tables.flaws.clear();
    } else {
        recorded = sector_size_of(disk);
    }
    Partitioning::on(target, disk, tables, recorded, options.force)
}

/// What makes the GPT of a disk fit the target.
fn fitted(disk: &Chain, target: &Target<DeviceTarget>) -> Result<Fitted, Invalid> {
    let Target::Device(device) = target else {
        return Err(Invalid::TargetSizeless);
    };
    volumes::fitted(disk, device.size(), target.sector_size().unwrap_or(SECTOR))
}

/// Calls `each` for every run of some segments of a disk.
fn each_run(disk: &Chain, segments: &Segments, mut each: impl FnMut(Run)) -> Result<()> {
    for range in segments.ranges() {
        let mut at = range.start;
        while at < range.end {
            let run = disk.run_at(at, range.end.minus(at))?;
            let length = run.length.min(range.end.minus(at));
            if length == 0 {
                break;
            }
            each(Run { length, ..run });
            at.increase(length);
        }
    }
    Ok(())
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
