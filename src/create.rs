//! The main job: a source becomes an image.

pub(crate) mod base;
mod options;
mod origin;
mod report;
mod unreadable;

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

pub use options::Options;
pub use report::{FullInstead, Plan, Report, Unchecked, Warning};

use crate::clusters::{self, Batch};
use crate::disk::rescue::Rescue;
use crate::disk::{Disk, Part};
use crate::error::{Corrupt, Error, InUse, Invalid, Result, TooLarge, Unsupported};
use crate::formats::AnyDisk;
use crate::formats::qcow2::structures::geometry::{ClusterSize, Geometry, MAX_IMAGE_BYTES, Room};
use crate::formats::qcow2::structures::header::Compat;
use crate::formats::qcow2::structures::mapping;
use crate::layout::{self, Design, Layout, Record, Streamed, Written};
use crate::output::{
    AtomicFile, Caution, FirstPass, ImageWriter, Memory, NoDevice, Place, Published, Stdout, Target, WriteAt,
    name_scratch,
};
use crate::pipeline;
use crate::pipeline::buffers::Buffers;
use crate::pipeline::compress::{Codec, Compressors};
use crate::pipeline::encode::{Encoded, Encoder};
use crate::progress::{Phase, Progress, Silent};
use crate::units::{self, Exact, to_usize};
use crate::volumes::{self, Allocation, AllocationMap, State, Volume};
use base::Base;
use unreadable::Unreadable;

/// How much a worker does in one go, in bytes, unless a cluster of the source or the image is larger. Written in one go too, which lets the
/// kernel take large folios.
const BATCH: u64 = 1 << 20;

/// How much is read and not yet written, in bytes at most, unless it takes more to keep all workers busy.
const IN_FLIGHT: u64 = 16 << 20;

/// A job that was validated as far as that can be done without changing anything.
#[derive(Debug)]
pub struct Imaging {
    options: Options,
    source: Part<AnyDisk>,
    /// What the image is to stand on.
    base: Option<Base>,
    /// Why it does not stand on what was asked for.
    full_instead: Option<FullInstead>,
    /// The volume that it is, if it was asked for by its name.
    volume: Option<Volume>,
    target: Target<NoDevice>,
    /// Why the image may lie on the source after all, or be in use.
    unknown: Option<InUse>,
    memory: Option<Memory>,
    allocation: Allocation,
    /// Why the checksums of an image that is the source are not compared.
    unchecked: Option<Unchecked>,
    /// What the tables of an image that is the source have lost, in bytes of the disk.
    lost: Vec<Range<u64>>,
    /// What an image that is the source records as unreadable, in bytes of the disk.
    lost_before: Vec<Range<u64>>,
    sector_size: Option<u32>,
    /// What the source begins like, if its disk is encoded in a way that is not read here.
    encoded: Option<&'static str>,
    design: Design,
    begun: Instant,
}

impl Imaging {
    /// Opens the source, finds the ranges in use, and makes sure that the image can be written to its place.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] for a request that is not safe, such as a source in use or an
    ///   image on it.
    /// - [`Error::Unsupported`] for a source too large for the cluster size.
    /// - [`Error::Io`] if the system refuses or fails.
    pub fn prepare(source: &Path, image: impl Into<Place>, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let image = image.into();
        options.refuse_contradictions(&image)?;
        let origin::Origin {
            source,
            volume,
            held,
            warning: unchecked,
            lost,
        } = origin::open(source, &options)?;
        let (base, full_instead) = base(&image, &options)?;
        let caution = Caution {
            no_clobber: options.no_clobber,
            overwrite: options.overwrite,
            force: options.force || options.plan_only,
        };
        let mut read = origin::subjects(&source);
        read.extend(base.iter().flat_map(|base| origin::subjects(&base.disk)));
        let (target, unknown) = Target::for_image(&image, caution, &read)
            .map_err(|error| origin::named(error, source.whole(), base.as_ref(), &image))?;
        let memory = target.memory()?;
        // Cheap, and the scan of a source that is far too large would be for nothing.
        Geometry::new(options.cluster_size, source.len()).map_err(|error| {
            smallest_that_serves(error, |cluster| Geometry::new(cluster, source.len()).is_ok())
        })?;
        let allocation = volumes::scan_held(&source, options.scan, held)?;
        let (lost_before, recorded) = source.recorded()?;
        let told = allocation.sector_size;
        // A part is in sectors of the disk, whose table may tell their size.
        let told = told.or_else(|| volumes::tables(source.whole()).sector_size);
        let told = told.and_then(|size| u32::try_from(size).ok());
        let sector_size = told.or(recorded);
        let design = design(&allocation.map, sector_size, base.as_ref(), &options)?;
        if let Some(base) = &base {
            base.refuse_long_name(layout::room_for_name(&design))?;
        }
        Ok(Self {
            encoded: origin::encoded(&source, &options),
            options,
            source,
            base,
            full_instead,
            volume,
            target,
            unknown,
            memory,
            allocation,
            unchecked,
            lost,
            lost_before,
            sector_size,
            design,
            begun,
        })
    }

    /// The plan: what [`run`](Self::run) would do.
    pub fn plan(&self) -> Plan<'_> {
        Plan {
            kind: self.source.kind(),
            size: self.design.geometry.size(),
            volume: self.volume.as_ref(),
            allocation: &self.allocation,
            image_size: self.design.image_size(),
            is_exact: self.target.is_stream() && !self.options.two_pass,
            room_needed: self.design.room_needed(),
            free_space: self.target.room(),
            memory: self.memory,
            base: self.base.as_ref().map(|base| base.name.as_os_str()),
            full_instead: self.full_instead.as_ref(),
            in_use: self.source.writer(),
            target_in_use: self.unknown.as_ref(),
            needs_force: !self.options.force,
            // A volume that was found was decrypted with the right password.
            is_encrypted: self.volume.is_none() && self.source.whole().is_encrypted(),
            unchecked: self.unchecked.as_ref(),
            unreadable_before: &self.lost_before,
            remarks: origin::remarks(self.source.whole()),
            encoded: self.encoded,
        }
    }

    /// Makes the image. Until the last moment an image in a file has no name, or the name still belongs to the old one. A
    /// stream that was begun and not completed is [incomplete](crate::output::Left::Part), which the cleanup of the
    /// options knows.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if the source is in use, and only a plan was asked for.
    /// - [`Error::Io`] if the source cannot be read, or the image cannot be written, synced or
    ///   named.
    /// - [`Error::Corrupt`] if the source shrinks, disappears, or is unreadable in too many
    ///   places.
    pub fn run(self, progress: &dyn Progress) -> Result<Report> {
        self.refuse_plan()?;
        let source = &self.source;
        let mut warnings = self.plan().warnings();
        let mut writer = ImageWriter::open(self.target, self.options.cleanup.clone(), self.options.sync)?;
        let copying = Copying {
            source,
            map: &self.allocation.map,
            lost: &self.lost,
            lost_before: &self.lost_before,
            sector_size: self.sector_size,
            base: self.base.as_ref(),
            design: self.design,
            options: &self.options,
            progress,
        };
        let (copied, written) = match &mut writer {
            ImageWriter::File(file) => copying.packed(file)?,
            ImageWriter::Stdout(stream) if self.options.two_pass => {
                copying.two_pass(stream).map_err(name_scratch)?
            }
            ImageWriter::Stdout(stream) => copying.streamed(stream).map_err(name_scratch)?,
        };
        progress.begin(Phase::Syncing, 0);
        let settled = writer.settle()?;
        warnings.extend(source_warnings(source, &copied.unreadable)?);
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
        warnings.extend(self.options.cleanup.remains().map(Warning::Remains));
        Ok(Report {
            size: self.design.geometry.size(),
            volume: self.volume,
            data: self.allocation.bytes(State::Data),
            metadata: self.allocation.bytes(State::Metadata),
            zeros: self.allocation.bytes(State::Zeros),
            free: self.allocation.bytes(State::Free),
            regions: self.allocation.regions,
            flaws: self.allocation.flaws,
            read: copied.read,
            written,
            cluster_size: self.design.geometry.cluster_size(),
            base: self.base.map(|base| base.name),
            unreadable: (copied.unreadable.iter())
                .flat_map(|bad| source.segments().resolve(bad))
                .collect(),
            unreadable_before: self.lost_before,
            warnings,
            duration: self.begun.elapsed(),
        })
    }
}

/// What is known of a source once it was read.
fn source_warnings(source: &dyn Disk, unreadable: &[Range<u64>]) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    if let Some(unwritten) = source.unwritten() {
        warnings.push(Warning::SourceUnwritten(unwritten.clone()));
    }
    if let Some((_, change)) = source.change()? {
        warnings.push(Warning::SourceChanged(change));
    }
    if !unreadable.is_empty() {
        let bytes = unreadable.iter().map(units::length).sum();
        warnings.push(Warning::Unreadable { bytes });
    }
    Ok(warnings)
}

impl Imaging {
    /// What was good enough for a plan may not be for a run.
    fn refuse_plan(&self) -> Result<(), Invalid> {
        if self.options.force || !self.options.plan_only {
            return Ok(());
        }
        match (self.source.writer(), &self.unknown) {
            (Some(writer), _) => Err(Invalid::SourceInUse(writer.clone())),
            (None, Some(unknown)) => Err(Invalid::TargetInUse(unknown.clone())),
            (None, None) => Ok(()),
        }
    }
}

/// Copies a block device or a file into an image: [`Imaging::prepare`], then [`Imaging::run`].
///
/// # Errors
///
/// Those of the two.
pub fn create(
    source: &Path,
    image: impl Into<Place>,
    options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    Imaging::prepare(source, image, options)?.run(progress)
}

/// What it takes to copy.
#[derive(Clone, Copy)]
struct Copying<'a> {
    source: &'a Part<AnyDisk>,
    map: &'a AllocationMap,
    lost: &'a [Range<u64>],
    lost_before: &'a [Range<u64>],
    sector_size: Option<u32>,
    base: Option<&'a Base>,
    design: Design,
    options: &'a Options,
    progress: &'a dyn Progress,
}

/// What came of the source.
struct Copied {
    read: u64,
    /// In bytes of the disk.
    unreadable: Vec<Range<u64>>,
}

impl Copying<'_> {
    /// Copies into a file, whose beginning is written last: zeros take no room.
    fn packed(self, file: &mut AtomicFile) -> Result<(Copied, Written)> {
        let layout = self.layout(file).sharing(self.options.dedupe_memory);
        self.fill(Phase::Copying, layout)
    }

    /// Copies the same into a stream, which cannot go back, in two passes: the first learns what is at the beginning.
    fn two_pass(self, stream: &mut Stdout) -> Result<(Copied, Written)> {
        let mut first = FirstPass::new(self.design.front(), stream);
        let (before, _) = self.fill(Phase::Measuring, self.layout(&mut first))?;
        if self.source.change()?.is_some() {
            // Before anything is sent, not after hours of it.
            return Err(Corrupt::Changed.into());
        }
        let mut second = first.second()?;
        let (copied, written) = self.fill(Phase::Copying, self.layout(&mut second))?;
        let read = copied.read.plus(before.read);
        Ok((Copied { read, ..copied }, written))
    }

    fn layout<W: WriteAt>(self, writer: &mut W) -> Layout<'_, W> {
        let name = self.base.map(|base| base.name.clone());
        Layout::new(self.design, writer).standing_on(name)
    }

    fn fill(self, phase: Phase, mut layout: Layout<'_, impl WriteAt>) -> Result<(Copied, Written)> {
        let copied = self.copy(phase, |encoded| layout.place(encoded))?;
        let written = layout.finish(&self.record(&self.lost(&copied)?))?;
        Ok((copied, written))
    }

    /// Copies into a stream, and reads only once: nothing depends on the data.
    fn streamed(self, stream: &mut Stdout) -> Result<(Copied, Written)> {
        let mut layout = Streamed::begin(self.design, self.map, stream)?;
        let copied = self.copy(Phase::Copying, |encoded| layout.place(encoded))?;
        let written = layout.finish(&self.record(&self.lost(&copied)?))?;
        Ok((copied, written))
    }

    /// What of the disk could not be read, now or when the image was made that is the source: in bytes of the disk.
    fn lost(self, copied: &Copied) -> Result<Vec<Range<u64>>, Corrupt> {
        unreadable::union(&copied.unreadable, self.lost_before)
    }

    fn record<'b>(&'b self, unreadable: &'b [Range<u64>]) -> Record<'b> {
        Record {
            map: self.map,
            unreadable,
            sector_size: self.sector_size,
            compat: self.options.compat,
            provenance: self.options.provenance.as_ref(),
            base: self.base.map(|base| base.identity),
            uuid: None,
        }
    }

    /// What is to be read, and what is to be told to be zeros that is something else on the base.
    fn batches(&self, max_clusters: u64) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let geometry = self.design.geometry;
        match self.base {
            None => Box::new(clusters::batches(self.map, geometry, max_clusters).map(Ok)),
            Some(base) => {
                let others = |range| base.data_in(range);
                Box::new(clusters::batches_over(self.map, geometry, max_clusters, others))
            }
        }
    }

    fn copy(self, phase: Phase, mut place: impl FnMut(&Encoded) -> Result<()>) -> Result<Copied> {
        self.progress.begin(phase, self.map.to_read());
        let pool = self.options.workers(self.base.is_some())?;
        let cluster_size = self.design.geometry.cluster_size();
        let base_grain = self.base.map_or(0, |base| base.disk.grain());
        let batch = BATCH.max(cluster_size).max(self.source.grain()).max(base_grain);
        let in_flight = to_usize(IN_FLIGHT / batch)
            .min(pool.current_num_threads().times(4))
            // So that no worker is idle.
            .max(pool.current_num_threads().plus(1));
        let (buffers, stream_buffers) = (Buffers::default(), Buffers::default());
        let compressors = self.options.compression.map(Compressors::new);
        let rescue = Rescue::new(self.options.on_read_error, self.progress);
        let encoder = Encoder {
            source: self.source,
            rescue: &rescue,
            cluster_size,
            buffers: &buffers,
            stream_buffers: &stream_buffers,
            compressors: compressors.as_ref(),
            digests: self.design.digests,
            base: self.base.map(|base| &base.disk),
            zeros_as_data: self.base.is_some() && self.options.compat == Compat::V0_10,
        };
        // What a first pass finds, the second finds again.
        let told: &dyn Progress = if phase == Phase::Measuring {
            &Silent
        } else {
            self.progress
        };
        let segments = self.source.segments();
        for lost in self.lost {
            unreadable::tell(lost, segments, told);
        }
        let (mut read, mut unreadable) = (0_u64, Unreadable::new(segments, told));
        let take = |encoded: Encoded| {
            place(&encoded)?;
            let end = encoded.end(cluster_size);
            unreadable.add(encoded.unreadable, end)?;
            read.increase(encoded.read);
            self.progress.advance(encoded.read);
            buffers.give(encoded.bytes);
            stream_buffers.give(encoded.streams);
            Ok(())
        };
        let batches = self.batches(batch / cluster_size);
        let copied = pipeline::in_order(&pool, in_flight, batches, |batch| encoder.encode(&batch?), take);
        // In front of an error there may be some, too.
        let unreadable = unreadable.finish();
        copied?;
        let unreadable = unreadable::union(&unreadable, self.lost)?;
        // A source that shrank may have been cut where a hole was seen: then the image must not get its end.
        self.source.change()?;
        Ok(Copied { read, unreadable })
    }
}

/// What the image is to stand on, and why not, if a full one is good enough then.
fn base(image: &Place, options: &Options) -> Result<(Option<Base>, Option<FullInstead>)> {
    let Some(path) = &options.base else {
        return Ok((None, None));
    };
    match Base::open(path, image) {
        Ok(base) => Ok((Some(base), None)),
        Err(error) if options.full_if_unfit => Ok((None, Some(Base::full_instead(&error, path)))),
        Err(error) => Err(error),
    }
}

fn design(
    map: &AllocationMap,
    sector_size: Option<u32>,
    base: Option<&Base>,
    options: &Options,
) -> Result<Design> {
    let fit = |cluster| {
        let geometry = Geometry::new(cluster, map.size())?;
        let content = match base {
            None => clusters::count(map, geometry),
            Some(base) => clusters::count_over(map, geometry, |range| base.data_in(range))?,
        };
        let limit = match options.compression {
            // Tables and clusters that are stored as they are keep their own limit.
            Some(_) => MAX_IMAGE_BYTES.min(mapping::compressed_reach(geometry)),
            None => MAX_IMAGE_BYTES,
        };
        let room = Room::new(geometry, content, limit)?;
        Ok(Design {
            geometry,
            compat: options.compat,
            content,
            room,
            checksums: options.checksums,
            digests: options.has_digests(),
            record: layout::record::length(
                map,
                geometry,
                sector_size,
                options.provenance.as_ref(),
                base.map(|base| base.identity),
                options.has_digests(),
            ),
            compression: options.compression.map(Codec::compression),
        })
    };
    fit(options.cluster_size).map_err(|error| {
        let Error::Unsupported(Unsupported::TooLarge(error)) = error else {
            return error;
        };
        smallest_that_serves(error, |cluster| fit(cluster).is_ok()).into()
    })
}

/// Completes the error with the smallest cluster size that serves.
fn smallest_that_serves(error: TooLarge, serves: impl Fn(ClusterSize) -> bool) -> TooLarge {
    let smallest = ClusterSize::MIN.and_larger().find(|cluster| serves(*cluster));
    TooLarge {
        smallest: smallest.map(ClusterSize::bytes),
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_too_large_for_the_entries_of_compressed_clusters_is_refused() {
        let mut map = volumes::MapBuilder::all_free(600 << 40);
        map.used(0..600 << 40, volumes::Reason::Data);
        let map = map.build();
        let mut options = Options {
            cluster_size: ClusterSize::MAX,
            ..Options::default()
        };
        assert!(design(&map, None, None, &options).is_ok());
        options.compression = Some(Codec::ZSTD);
        let Error::Unsupported(Unsupported::TooLarge(error)) =
            design(&map, None, None, &options).unwrap_err()
        else {
            panic!("another error");
        };
        assert_eq!((error.what, error.limit), ("the image", 1 << 49));
        assert_eq!(error.smallest, Some(64 << 10));
    }
}
