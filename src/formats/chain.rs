//! A virtual disk: an image, and what lies behind it where nothing is allocated.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::decompress::Decoders;
use super::gaps::Gaps;
use super::layer::Layer;
use super::qcow2::Image;
use super::{HostFile, Remark, Run};
use crate::devices::{Kernel, Subject, Unwritten};
use crate::disk::{Change, Disk, FileDisk, Kind};
use crate::error::{Corrupt, Error, InUse, Result};
use crate::formats::qcow2::structures::geometry::ClusterSize;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::units::{GuestOffset, HostOffset, SECTOR, to_u64, to_usize, within};

/// How much of a disk [`Disk::next_data`] tells at a time, in bytes, at least.
const ENOUGH: u64 = 64 << 20;

/// A virtual disk that can be read, from several threads at once.
#[derive(Debug)]
pub struct Chain {
    /// The image itself, then what lies behind it.
    layers: Vec<Box<dyn Layer>>,
    size: u64,
    /// Which of its files somebody might write to meanwhile, if it was opened in spite of that.
    writer: Option<(PathBuf, InUse)>,
    /// What was written to them earlier, and is not on the disk.
    unwritten: Option<Unwritten>,
    gaps: Gaps,
    decoders: Decoders,
    /// The compressed cluster of which a part was read last.
    last: Mutex<Option<Decoded>>,
}

/// A compressed cluster and its content.
#[derive(Debug)]
struct Decoded {
    depth: usize,
    stream: Stream,
    cluster: Arc<Vec<u8>>,
}

/// A range of the disk that is in one place of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainRun {
    /// Its length in bytes, from where it was asked for.
    pub length: u64,
    /// Where it is: in a raw file a hole is [`Mapping::Zero`]. [`Mapping::Unallocated`] if it is nowhere.
    pub mapping: Mapping,
    /// The file that says so: 0 for the image itself, 1 for its backing file, and so on. Where it is nowhere, the
    /// last one that was asked.
    pub depth: usize,
    /// The room that is kept for it in that file, if it is nowhere; see [`Run`](super::Run).
    pub room: Option<HostOffset>,
}

impl ChainRun {
    /// Whether it reads as zeros without a look at any data.
    pub fn is_zero(&self) -> bool {
        match self.mapping {
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => true,
            Mapping::Data(_) | Mapping::Compressed(_) => false,
        }
    }
}

impl Chain {
    /// A disk of at least one file.
    pub(super) fn new(layers: Vec<Box<dyn Layer>>) -> Self {
        let mut disk = Self {
            size: layers.first().map_or(0, |layer| layer.size()),
            gaps: Gaps::new(layers.len()),
            layers,
            writer: None,
            unwritten: None,
            decoders: Decoders::default(),
            last: Mutex::default(),
        };
        disk.writer = disk.find_writer();
        disk
    }

    fn find_writer(&self) -> Option<(PathBuf, InUse)> {
        let kernel = Kernel::running();
        for file in self.host_files() {
            if let Some(writer) = kernel.users(file.subject()).writer() {
                return Some((file.path().to_owned(), writer));
            }
        }
        // Which was asked when that was opened, and is known only if it was opened all the same.
        let writer = self.raw().and_then(Disk::writer).cloned();
        let last = self.paths().last().map(Path::to_owned).unwrap_or_default();
        writer.map(|writer| (last, writer))
    }

    /// Sees to it that every write to its files from now on shows as a change: what others wrote earlier is brought
    /// to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let mut unwritten = None;
        for file in self.host_files() {
            let settled = file.settle().map_err(|error| error.elsewhere(file.path()))?;
            unwritten = unwritten.or(settled);
        }
        self.unwritten = unwritten.or_else(|| self.raw()?.unwritten().cloned());
        Ok(())
    }

    /// What others wrote to its files earlier, and could not be brought to the disk.
    pub fn unwritten(&self) -> Option<&Unwritten> {
        self.unwritten.as_ref()
    }

    /// Which of its files somebody might write to meanwhile, if it was opened in spite of that.
    pub fn in_use(&self) -> Option<(&Path, &InUse)> {
        self.writer
            .as_ref()
            .map(|(path, writer)| (path.as_path(), writer))
    }

    /// Whether what is read was decrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.layers.iter().any(|layer| layer.is_encrypted())
    }

    /// The size of the disk in bytes; need not be whole sectors.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The image that was opened, without what lies behind it, if it is qcow2.
    pub fn image(&self) -> Option<&Image> {
        self.layers.first().and_then(|layer| layer.image())
    }

    /// The file of each image, from the one that was opened to the last that lies behind it; none of a raw disk.
    pub fn files(&self) -> impl Iterator<Item = Option<&HostFile>> {
        self.layers.iter().map(|layer| layer.file())
    }

    /// All files of all images.
    pub(crate) fn host_files(&self) -> impl Iterator<Item = &HostFile> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| [layer.file(), layer.data_file()].into_iter().flatten())
    }

    /// All files and devices that are read.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let metadata = self.paths().filter_map(|path| path.metadata().ok());
        metadata.filter_map(|metadata| Subject::of(&metadata)).collect()
    }

    /// The images that are qcow2, and the number of the file that each is in.
    pub fn images(&self) -> impl Iterator<Item = (usize, &Image)> {
        let images = self.layers.iter().map(|layer| layer.image()).enumerate();
        images.filter_map(|(number, image)| Some((number, image?)))
    }

    /// What its files say about themselves, and the names of these.
    pub fn remarks(&self) -> impl Iterator<Item = (&Path, Remark)> {
        self.layers.iter().flat_map(|layer| {
            let remarks = layer.remarks().into_iter();
            remarks.map(move |remark| (layer.path(), remark))
        })
    }

    /// The raw file at the end of the chain, if there is one that is not empty.
    pub fn raw(&self) -> Option<&FileDisk> {
        self.layers.iter().find_map(|layer| layer.raw())
    }

    /// Whether nothing lies behind the image.
    pub fn is_alone(&self) -> bool {
        self.layers.len() == 1
    }

    /// Whether it is the active state of the image, not a snapshot.
    pub fn is_active(&self) -> bool {
        self.layers.first().is_some_and(|layer| layer.is_active())
    }

    /// The names of all files that are read, that of the image first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| {
            [Some(layer.path()), layer.data_file().map(HostFile::path)]
                .into_iter()
                .flatten()
        })
    }

    /// The first of its files that was seen to change since it was opened, and how.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if the system cannot tell.
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a raw file is smaller.
    pub fn change(&self) -> Result<Option<(&Path, Change)>> {
        for layer in &self.layers {
            let change = layer.change().map_err(|error| error.elsewhere(layer.path()))?;
            if change.is_some() {
                return Ok(change);
            }
        }
        Ok(None)
    }

    /// What the reading is best aligned to, in bytes: the largest cluster of the chain. Those of QED can be larger
    /// than others, but are never compressed: they may as well be read in parts.
    pub fn cluster_size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.cluster_size());
        sizes.max().unwrap_or(SECTOR).min(ClusterSize::MAX.bytes())
    }

    /// The size of a cluster of the image that was opened, in bytes.
    pub fn own_cluster_size(&self) -> u64 {
        self.layers.first().map_or(SECTOR, |layer| layer.cluster_size())
    }

    /// How much of the disk is lost with a table of the image that cannot be read, in bytes.
    pub(crate) fn table_reach(&self) -> u64 {
        self.layers.first().map_or(SECTOR, |layer| layer.table_reach())
    }

    /// The longest range from `at` on, up to `limit` bytes, that is in one place of one file. It is never empty
    /// unless `at` is at or behind the end of the disk, or `limit` is 0.
    ///
    /// # Errors
    ///
    /// Those of [`Image::run_at`], for every file of the chain.
    pub fn run_at(&self, at: GuestOffset, limit: u64) -> Result<ChainRun> {
        let mut limit = limit.min(self.size.saturating_sub(at.0));
        let (mut asked, mut room) = (0, None);
        for (depth, layer) in self.layers.iter().enumerate() {
            // A backing file may be shorter: behind its end there is nothing.
            let here = limit.min(layer.size().saturating_sub(at.0));
            if here == 0 {
                break;
            }
            let run = match self.gaps.from(depth, at.0) {
                Some(gap) => Run::new(gap.min(here), Mapping::Unallocated),
                None => layer.run_at(at, here).map_err(|error| self.named(error, depth))?,
            };
            if run.mapping != Mapping::Unallocated {
                return Ok(ChainRun {
                    length: run.length,
                    mapping: run.mapping,
                    depth,
                    room: None,
                });
            }
            if run.room.is_none() {
                self.gaps.note(depth, at.0..at.0.saturating_add(run.length));
            }
            (limit, asked, room) = (run.length, depth, run.room);
        }
        Ok(ChainRun {
            length: limit,
            mapping: Mapping::Unallocated,
            depth: asked,
            room,
        })
    }

    /// Fills `buf` with the bytes of the virtual disk that begin at `at`.
    ///
    /// Unallocated clusters read as zeros, unless there is a backing file. Neither `at` nor `buf.len()` need be
    /// aligned; all of it must lie in front of the end of the disk. Spec: qcow2.txt, "Cluster mapping".
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`](crate::Error::Corrupt) if a table entry is misaligned or points past the end of the
    ///   file, or a compressed cluster cannot be decompressed: never zeros instead.
    /// - [`Error::Io`](crate::Error::Io) if the file cannot be read.
    pub fn read_at(&self, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let run = self.run_at(at, to_u64(rest.len()))?;
            if run.length == 0 {
                let (end, expected) = (self.size, at.0.saturating_add(to_u64(rest.len())));
                return Err(Corrupt::Shrank { end, expected }.into());
            }
            let (now, later) = rest.split_at_mut(to_usize(run.length));
            self.read_run(run, at, now)?;
            at = GuestOffset(at.0.saturating_add(run.length));
            rest = later;
        }
        Ok(())
    }

    /// Fills `buf`, which is not longer than the run, with the bytes of a run that begins at `at`.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn read_run(&self, run: ChainRun, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        let Some(layer) = self.layers.get(run.depth) else {
            buf.fill(0);
            return Ok(());
        };
        let result = match run.mapping {
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => {
                buf.fill(0);
                Ok(())
            }
            Mapping::Data(host) => layer.read(host, at, buf),
            Mapping::Compressed(stream) => self.read_compressed(run.depth, layer.as_ref(), stream, at, buf),
        };
        result.map_err(|error| self.named(error, run.depth))
    }

    /// Of the files behind the first, the name.
    fn named(&self, error: Error, depth: usize) -> Error {
        match self.layers.get(depth) {
            Some(layer) if depth > 0 => error.elsewhere(layer.path()),
            Some(_) | None => error,
        }
    }

    fn read_compressed(
        &self,
        depth: usize,
        layer: &dyn Layer,
        stream: Stream,
        at: GuestOffset,
        buf: &mut [u8],
    ) -> Result<()> {
        let cluster_size = layer.cluster_size();
        let before = within(at.0, cluster_size);
        let start = at.0.saturating_sub(before);
        let guest = start..start.saturating_add(cluster_size).min(layer.size());
        let decode = |cluster: &mut [u8]| {
            self.decoders
                .with(|decoder| layer.decode(decoder, stream, guest, cluster))
        };
        if to_u64(buf.len()) == cluster_size {
            return decode(buf);
        }
        // Whoever reads a part of a cluster reads the next part soon.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |last: &&Decoded| (last.depth, last.stream) == (depth, stream);
        let cluster = if let Some(last) = last.as_ref().filter(is_it) {
            Arc::clone(&last.cluster)
        } else {
            let mut cluster = vec![0; to_usize(cluster_size)];
            decode(&mut cluster)?;
            let cluster = Arc::new(cluster);
            *last = Some(Decoded {
                depth,
                stream,
                cluster: Arc::clone(&cluster),
            });
            cluster
        };
        drop(last);
        let before = to_usize(before);
        let part = cluster.get(before..before.saturating_add(buf.len()));
        // A run of a compressed cluster ends with it.
        buf.copy_from_slice(part.unwrap_or_default());
        Ok(())
    }
}

impl Disk for Chain {
    fn kind(&self) -> Kind {
        Kind::Image
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        Self::read_at(self, GuestOffset(at), buf)
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let run = self.run_at(GuestOffset(at), to_u64(buf.len()))?;
        let raw = self.layers.get(run.depth).and_then(|layer| layer.raw());
        match (raw, run.mapping) {
            (Some(raw), Mapping::Data(_)) if run.length == to_u64(buf.len()) => {
                let result = raw.read_sector_at(buf, at);
                result.map_err(|error| self.named(error, run.depth))
            }
            _ => Self::read_at(self, GuestOffset(at), buf),
        }
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        SECTOR
    }

    fn writer(&self) -> Option<&InUse> {
        None
    }

    fn is_present(&self) -> bool {
        true
    }

    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        self.data_in(from..self.size)
    }
}

impl Chain {
    /// As [`Disk::next_data`], but in front of the end of the range.
    pub(super) fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let mut at = range.start;
        let mut data: Option<Range<u64>> = None;
        while at < range.end {
            let run = match self.run_at(GuestOffset(at), range.end.saturating_sub(at)) {
                Ok(run) => run,
                // A fault behind data is one of what follows it.
                Err(_) if data.is_some() => break,
                Err(error) => return Err(error),
            };
            let end = at.saturating_add(run.length);
            match (&mut data, run.is_zero()) {
                (None, true) => {}
                (None, false) => data = Some(at..end),
                (Some(_), true) => break,
                (Some(range), false) => range.end = end,
            }
            at = end;
            if data
                .as_ref()
                .is_some_and(|range| range.end.saturating_sub(range.start) >= ENOUGH)
            {
                break;
            }
        }
        Ok(data)
    }
}
