//! An image and those that it stands on become one, in its place.
//!
//! The new image has the UUID of the old one, and the same disk: so what stands on it stays valid. Compressed clusters
//! keep their streams where that is possible. Every cluster is held to what the image that has it records of it, and
//! the whole disk to what the image records, before the new one gets its name.

mod batches;
mod encode;
mod layers;
mod lost;
mod options;
mod origin;
mod report;

use std::path::Path;
use std::time::Instant;

pub use options::Options;
pub use report::{Plan, Report, Tally, Warning};

use crate::devices::FileId;
use crate::disk::Disk;
use crate::error::{Action, Corrupt, Error, Invalid, Result};
use crate::formats::Chain;
use crate::formats::qcow2::structures::geometry::{MAX_IMAGE_BYTES, Room};
use crate::formats::qcow2::structures::header::{Compat, Compression};
use crate::formats::qcow2::structures::mapping;
use crate::formats::qcow2::{Checksums, Image};
use crate::layout::{self, Design, Layout, Record, Written};
use crate::output::{Caution, ImageWriter, Memory, NoDevice, Place, Published, Settled, Target};
use crate::pipeline::buffers::Buffers;
use crate::pipeline::compress::{Codec, Compressors};
use crate::pipeline::{self, encode::Encoded};
use crate::progress::{Phase, Progress};
use crate::units::{Exact, to_u64, to_usize};
use crate::volumes::{AllocationMap, MapBuilder};
use encode::Encoder;
use layers::Layers;
use origin::Origin;

/// How much a worker does in one go, in bytes, unless a cluster is larger.
const BATCH: u64 = 1 << 20;

/// How much is read and not yet written, in bytes at most, unless it takes more to keep all workers busy.
const IN_FLIGHT: u64 = 16 << 20;

/// How many bytes of memory remember streams, so that those that were shared are stored once again.
const SHARING_MEMORY: u64 = 16 << 20;

/// A job that was validated as far as that can be done without changing anything.
#[derive(Debug)]
pub struct Merging {
    options: Options,
    origin: Origin,
    target: Target<NoDevice>,
    memory: Option<Memory>,
    /// What is free, as the image records it.
    map: AllocationMap,
    design: Design,
    begun: Instant,
}

impl Merging {
    /// Opens the image and all that it stands on, and makes sure that a new one can be written in its place. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it stands on nothing, or not on the image that it is to be merged down to; if one of the
    ///   images is not what it was when it was made; if one is in use, or the image cannot be replaced.
    /// - [`Error::Corrupt`] if a header or a table is damaged.
    /// - [`Error::Unsupported`] if the new image would be too large for its cluster size.
    /// - [`Error::Io`] if the system refuses or fails.
    pub fn prepare(path: &Path, options: Options) -> Result<Self> {
        let begun = Instant::now();
        let origin = Origin::open(path, options.onto.as_deref())?;
        let bases = origin::bases(&origin.chain);
        let (target, _) = Target::for_image(&Place::from(path), Caution::default(), &bases)?;
        refuse_replaced(path, &origin.chain)?;
        let memory = target.memory()?;
        let map = free_map(&origin);
        let design = design(&origin, &map)?;
        if let Some(kept) = &origin.kept {
            let base = &kept.base;
            base.refuse_long_name(layout::room_for_name(&design))
                .map_err(|error| Error::from(error).elsewhere(options.onto.as_deref().unwrap_or(path)))?;
        }
        Ok(Self {
            options,
            origin,
            target,
            memory,
            map,
            design,
            begun,
        })
    }

    /// The plan: what [`run`](Self::run) would do.
    pub fn plan(&self) -> Plan<'_> {
        let images = self.images();
        Plan {
            size: self.design.geometry.size(),
            length: images.iter().map(|image| image.file().length()).sum(),
            images: images.iter().map(|image| image.file().path()).collect(),
            onto: self.options.onto.as_deref(),
            image_size: self.design.image_size(),
            room_needed: self.design.room_needed(),
            free_space: self.target.room(),
            memory: self.memory,
        }
    }

    /// Makes the image. Until the last moment it has no name, and the name still belongs to the old one.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a cluster, or the whole disk, is not what it was.
    /// - [`Error::Invalid`] if another program writes to one of the images meanwhile, or gives the name to something
    ///   else.
    /// - [`Error::Io`] if an image cannot be read, or the new one not be written, synced or named.
    pub fn run(self, progress: &dyn Progress) -> Result<Report> {
        let plan = self.plan();
        let mut warnings = plan.warnings();
        let (images, length) = (plan.images, plan.length);
        let images = images.into_iter().map(Path::to_owned).collect();
        let mut writer = ImageWriter::open(self.target, self.options.cleanup.clone(), self.options.sync)?;
        let copying = Copying {
            origin: &self.origin,
            map: &self.map,
            design: self.design,
            options: &self.options,
            progress,
        };
        let (written, streams) = copying.into_writer(&mut writer)?;
        self.origin.refuse_changed()?;
        progress.begin(Phase::Syncing, 0);
        publish(writer.settle()?, &mut warnings)?;
        warnings.extend(self.options.cleanup.remains().map(Warning::Remains));
        Ok(Report {
            size: self.design.geometry.size(),
            images,
            length,
            onto: self.options.onto,
            cluster_size: self.design.geometry.cluster_size(),
            written,
            streams,
            warnings,
            duration: self.begun.elapsed(),
        })
    }

    fn images(&self) -> Vec<&Image> {
        let all = 0..self.origin.merged();
        all.filter_map(|depth| self.origin.chain.image_at(depth))
            .collect()
    }
}

/// Merges an image with those that it stands on: [`Merging::prepare`], then [`Merging::run`].
///
/// # Errors
///
/// Those of the two.
pub fn merge(path: &Path, options: Options, progress: &dyn Progress) -> Result<Report> {
    Merging::prepare(path, options)?.run(progress)
}

/// Gives the new image its name.
fn publish(settled: Settled, warnings: &mut Vec<Warning>) -> Result<()> {
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
    Ok(())
}

/// Refuses to replace another file than the one that was opened.
fn refuse_replaced(path: &Path, chain: &Chain) -> Result<()> {
    let metadata = path.metadata();
    let metadata = metadata.map_err(|error| Error::source_io(Action::Examine, error))?;
    let opened = chain.image().map(|image| image.file().id());
    if opened == Some(FileId::of(&metadata)) {
        Ok(())
    } else {
        Err(Invalid::SourceReplaced.into())
    }
}

fn free_map(origin: &Origin) -> AllocationMap {
    let size = origin.chain.len();
    let mut map = MapBuilder::new(size);
    for free in origin::free(&origin.record, size) {
        map.free(free);
    }
    map.build()
}

fn design(origin: &Origin, map: &AllocationMap) -> Result<Design> {
    let Some(image) = origin.chain.image() else {
        return Err(Invalid::NoImage.into());
    };
    let (geometry, record) = (image.header().geometry(), &origin.record);
    let base = origin.kept.as_ref().map(|kept| &kept.base);
    let merged = origin.merged();
    let content = batches::count(&origin.chain, base.map(|base| &base.disk), geometry, merged)?;
    let compression = compression(image, origin)?;
    let limit = match compression {
        Some(_) => MAX_IMAGE_BYTES.min(mapping::compressed_reach(geometry)),
        None => MAX_IMAGE_BYTES,
    };
    let digests = image
        .checksums()?
        .is_some_and(|table| Checksums::has_digests(&table));
    Ok(Design {
        geometry,
        compat: image.header().compat(),
        content,
        room: Room::new(geometry, content, limit)?,
        checksums: true,
        digests,
        record: layout::record::length(
            map,
            geometry,
            record.sector_size,
            record.provenance.as_ref(),
            base.map(|base| base.identity),
            digests,
        ),
        compression,
    })
}

/// How the new image is compressed where it is: as the image is, or else as the first one that it stands on and that has
/// compressed clusters, so that their streams can stay.
fn compression(image: &Image, origin: &Origin) -> Result<Option<Compression>> {
    let own = image.header().compression();
    for depth in 0..origin.merged() {
        let Some(layer) = origin.chain.image_at(depth) else {
            continue;
        };
        let stream = layer.streams(layer.active()).next().transpose();
        if stream
            .map_err(|error| origin::of(&origin.chain, depth, error))?
            .is_some()
        {
            let theirs = layer.header().compression();
            return Ok(Some(match (own, image.header().compat()) {
                (Compression::Zstd, _) | (Compression::Zlib, Compat::V0_10) => own,
                (Compression::Zlib, Compat::V1_1) => theirs,
            }));
        }
    }
    Ok((own == Compression::Zstd).then_some(own))
}

/// What it takes to copy.
#[derive(Clone, Copy)]
struct Copying<'a> {
    origin: &'a Origin,
    map: &'a AllocationMap,
    design: Design,
    options: &'a Options,
    progress: &'a dyn Progress,
}

impl Copying<'_> {
    fn into_writer(self, writer: &mut ImageWriter) -> Result<(Written, Tally)> {
        let ImageWriter::File(file) = writer else {
            return Err(Invalid::StdoutShared.into());
        };
        let origin = self.origin;
        let base = origin.kept.as_ref().map(|kept| &kept.base);
        let sharing = self.design.compression.map(|_| SHARING_MEMORY);
        let mut layout = Layout::new(self.design, file)
            .standing_on(base.map(|base| base.name.clone()))
            .sharing(sharing);
        let streams = self.copy(|encoded| layout.place(encoded))?;
        let record = &origin.record;
        let written = layout.finish(&Record {
            map: self.map,
            unreadable: &record.unreadable,
            sector_size: record.sector_size,
            compat: self.design.compat,
            provenance: record.provenance.as_ref(),
            base: base.map(|base| base.identity),
            uuid: record.identity.map(|identity| identity.uuid),
        })?;
        let expected = record.identity.and_then(|identity| identity.disk);
        if written.disk != expected {
            return Err(Corrupt::DiskDigest.into());
        }
        Ok((written, streams))
    }

    fn copy(self, mut place: impl FnMut(&Encoded) -> Result<()>) -> Result<Tally> {
        let (chain, geometry) = (&self.origin.chain, self.design.geometry);
        let (cluster_size, merged) = (geometry.cluster_size(), self.origin.merged());
        let base = self.origin.kept.as_ref().map(|kept| &kept.base.disk);
        self.progress
            .begin(Phase::Copying, self.design.content.clusters.times(cluster_size));
        let layers = Layers::load(chain)?;
        lost::refuse_lost(chain, &layers, merged, geometry.size())?;
        let pool = pipeline::readers(self.options.threads)?;
        let batch = BATCH.max(cluster_size).max(chain.grain());
        let in_flight = to_usize(IN_FLIGHT / batch)
            .min(pool.current_num_threads().times(4))
            // So that no worker is idle.
            .max(pool.current_num_threads().plus(1));
        let (buffers, stream_buffers) = (Buffers::default(), Buffers::default());
        let compressors = self.design.compression.map(codec).map(Compressors::new);
        let encoder = Encoder {
            chain,
            layers: &layers,
            base,
            merged,
            design: self.design,
            compressors: compressors.as_ref(),
            buffers: &buffers,
            stream_buffers: &stream_buffers,
        };
        let mut streams = Tally::default();
        let take = |(encoded, tally): (Encoded, Tally)| {
            place(&encoded)?;
            streams.add(tally);
            let is_stored = |how: &&_| !matches!(how, pipeline::encode::Encoding::Same { .. });
            let stored = to_u64(encoded.clusters.iter().filter(is_stored).count());
            self.progress.advance(stored.times(cluster_size));
            buffers.give(encoded.bytes);
            stream_buffers.give(encoded.streams);
            Ok(())
        };
        let disks = [chain].into_iter().chain(base).collect();
        let batches = batches::batches(disks, geometry, batch / cluster_size);
        pipeline::in_order(&pool, in_flight, batches, |batch| encoder.encode(&batch?), take)?;
        Ok(streams)
    }
}

/// What compresses anew.
fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Zlib => Codec::ZLIB,
        Compression::Zstd => Codec::ZSTD,
    }
}
