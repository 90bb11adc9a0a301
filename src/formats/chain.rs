//! The disk in an image: the image, and what lies behind it where nothing is allocated.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::decompress::Decoders;
use super::gaps::Gaps;
use super::guard::Guards;
use super::layer::Layer;
use super::qcow2::{Image, Record};
use super::{HostFile, HostRun, Remark};
use crate::disk::{self, Content, Disk, FileDisk, Kind, Underlying};
use crate::error::{Corrupt, Error, Result, Role};
use crate::formats::qcow2::structures::geometry::ClusterSize;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::units::{Exact, GuestOffset, HostOffset, SECTOR, claimed_end, length, to_u64, to_usize, within};

/// How much of a disk [`Disk::data_in`] tells at a time, in bytes, at least.
const ENOUGH: u64 = 64 << 20;

/// One of the images of a disk.
#[derive(Debug)]
pub(super) struct Link {
    /// What tells where the bytes are.
    pub(super) layer: Box<dyn Layer>,
    /// What else there is to know of it, if it is qcow2.
    pub(super) image: Option<Arc<Image>>,
}

/// The disk in an image, with all the files that it takes to read it.
#[derive(Debug)]
pub struct Chain {
    /// The image itself, then the images behind it.
    links: Vec<Link>,
    /// The raw disk behind the last of them, if there is one.
    pub(super) base: Option<FileDisk>,
    size: u64,
    /// What the image records as free, if that is believed.
    free: Option<Record>,
    gaps: Gaps,
    /// What holds clusters to their checksums, if that was asked for.
    pub(super) guards: Option<Guards>,
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
    /// Where it is; [`Mapping::Unallocated`] if it is nowhere. A hole of a raw file has its place there.
    pub mapping: Mapping,
    /// The file that says so: 0 for the image itself, 1 for its backing file, and so on. Where it is nowhere, the
    /// last one that was asked.
    pub depth: usize,
    /// The room that is kept for it in that file, if it is nowhere; see [`HostRun`].
    pub room: Option<HostOffset>,
    /// Whether it is free, if it is nowhere and what the image records is believed; or that it is, if it is zeros.
    pub is_free: Option<bool>,
}

impl ChainRun {
    pub(super) fn new(length: u64, mapping: Mapping, depth: usize) -> Self {
        let (room, is_free) = (None, None);
        Self {
            length,
            mapping,
            depth,
            room,
            is_free,
        }
    }

    /// Whether it reads as zeros without a look at any data.
    pub fn is_zero(&self) -> bool {
        match self.mapping {
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => true,
            Mapping::Data(_) | Mapping::Compressed(_) => false,
        }
    }

    /// What follows so many bytes behind.
    #[must_use]
    pub(crate) fn behind(self, skipped: u64) -> Self {
        let later = |host: HostOffset| host + skipped;
        Self {
            length: self.length.minus(skipped),
            mapping: match self.mapping {
                Mapping::Data(host) => Mapping::Data(later(host)),
                Mapping::ZeroAllocated(host) => Mapping::ZeroAllocated(later(host)),
                // All of the stream, wherever in its cluster one begins.
                other @ (Mapping::Compressed(_) | Mapping::Unallocated | Mapping::Zero) => other,
            },
            room: None,
            ..self
        }
    }
}

impl Chain {
    /// A disk of at least one image.
    pub(super) fn new(links: Vec<Link>, base: Option<FileDisk>) -> Self {
        Self {
            size: links.first().map_or(0, |link| link.layer.size()),
            gaps: Gaps::new(links.len()),
            links,
            base,
            free: None,
            guards: None,
            decoders: Decoders::default(),
            last: Mutex::default(),
        }
    }

    /// From now on, tells of what is nowhere whether it is free.
    pub(crate) fn believe(&mut self, record: Record) {
        self.free = Some(record);
    }

    /// Whether what is read was decrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.links.iter().any(|link| link.layer.is_encrypted())
    }

    /// The image that was opened, without what lies behind it, if it is qcow2.
    pub fn image(&self) -> Option<&Image> {
        self.image_at(0)
    }

    /// The image of that number, counted from the one that was opened, if it is qcow2.
    pub fn image_at(&self, depth: usize) -> Option<&Image> {
        self.links.get(depth)?.image.as_deref()
    }

    /// What tells where the bytes are in the image of that number.
    pub(super) fn layer_at(&self, depth: usize) -> Option<&dyn Layer> {
        self.links.get(depth).map(|link| link.layer.as_ref())
    }

    /// How many images there are, one behind the other.
    pub fn depth(&self) -> usize {
        self.links.len()
    }

    /// What its images say about themselves, and the names of these.
    pub fn remarks(&self) -> impl Iterator<Item = (&Path, Remark)> {
        self.links.iter().flat_map(|Link { layer, .. }| {
            let remarks = layer.remarks().into_iter();
            remarks.map(move |remark| (layer.file().path(), remark))
        })
    }

    /// Whether nothing lies behind the image.
    pub fn is_alone(&self) -> bool {
        self.links.len() == 1 && self.base.is_none()
    }

    /// Whether it is the active state of the image, not a snapshot.
    pub fn is_active(&self) -> bool {
        self.links.first().is_some_and(|link| link.layer.is_active())
    }

    /// The names of all files that are read, that of the image first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.stands_on().into_iter().map(Underlying::path)
    }

    /// The error of this disk, which is not the first one that is read: with its path, or that of a file behind it.
    pub(crate) fn of_base(&self, error: Error) -> Error {
        match self.paths().next() {
            Some(path) => error.elsewhere(path),
            None => error,
        }
    }

    /// The files that its images need, what each is to an image, and the path of that.
    pub(crate) fn needed(&self) -> Vec<(&Underlying, Role, &Path)> {
        let files = self.links.iter().map(|link| link.layer.file().underlying());
        let behind = files.chain(self.base.as_ref().map(FileDisk::underlying)).skip(1);
        let of = self.links.iter().map(|link| link.layer.file().path());
        let backing = behind.zip(of.clone()).map(|(file, of)| (file, Role::Backing, of));
        let data = self.links.iter().map(|link| link.layer.data_file());
        let data = data
            .zip(of)
            .filter_map(|(file, of)| Some((file?.underlying(), Role::Data, of)));
        backing.chain(data).collect()
    }

    /// The size of a cluster of the image that was opened, in bytes.
    pub fn own_cluster_size(&self) -> u64 {
        self.cluster_size_at(0)
    }

    /// The size of a cluster of the image of that number, in bytes; that of a sector if there is none.
    pub(crate) fn cluster_size_at(&self, depth: usize) -> u64 {
        self.layer_at(depth).map_or(SECTOR, Layer::cluster_size)
    }

    /// How much of the disk is lost with a table of the image that cannot be read, in bytes.
    pub(crate) fn table_reach(&self) -> u64 {
        self.links.first().map_or(SECTOR, |link| link.layer.table_reach())
    }

    /// The longest range from `at` on, up to `limit` bytes, that is in one place of one file. It is never empty
    /// unless `at` is at or behind the end of the disk, or `limit` is 0.
    ///
    /// # Errors
    ///
    /// Those of [`Image::run_at`], for every file of the chain.
    pub fn place_at(&self, at: GuestOffset, limit: u64) -> Result<ChainRun> {
        // Behind the end there is nothing.
        let mut limit = limit.min(self.size.saturating_sub(at.0));
        let (mut asked, mut room) = (0, None);
        for (depth, Link { layer, .. }) in self.links.iter().enumerate() {
            // A backing file may be shorter.
            let here = limit.min(layer.size().saturating_sub(at.0));
            if here == 0 {
                return Ok(self.nowhere(at, limit, asked, room));
            }
            let run = match self.gaps.from(depth, at.0) {
                Some(gap) => HostRun::new(gap.min(here), Mapping::Unallocated),
                None => layer.run_at(at, here).map_err(|error| self.named(error, depth))?,
            };
            if run.mapping != Mapping::Unallocated {
                return Ok(self.told(at, ChainRun::new(run.length, run.mapping, depth)));
            }
            if run.room.is_none() {
                self.gaps.note(depth, at.0..at.0.plus(run.length));
            }
            (limit, asked, room) = (run.length, depth, run.room);
        }
        match &self.base {
            Some(base) if at.0 < rounded(base) => self.place_in(base, at, limit),
            Some(_) | None => Ok(self.nowhere(at, limit, asked, room)),
        }
    }

    /// A range that is in none of the images, in front of the end of the raw disk behind them.
    fn place_in(&self, base: &FileDisk, at: GuestOffset, limit: u64) -> Result<ChainRun> {
        let (depth, host) = (self.links.len(), HostOffset(at.0));
        let end = at.0.plus(limit).min(rounded(base));
        let data = base
            .data_in(at.0..end)
            .map_err(|error| self.named(error, depth))?;
        let (mapping, until) = match data {
            Some(data) if data.start <= at.0 => (Mapping::Data(host), data.end),
            Some(data) => (Mapping::ZeroAllocated(host), data.start),
            None => (Mapping::ZeroAllocated(host), end),
        };
        Ok(ChainRun::new(until.minus(at.0), mapping, depth))
    }

    /// A range that is in none of the files, of which that of number `asked` was the last one that was asked.
    fn nowhere(&self, at: GuestOffset, length: u64, asked: usize, room: Option<HostOffset>) -> ChainRun {
        let run = ChainRun::new(length, Mapping::Unallocated, asked);
        self.told(at, ChainRun { room, ..run })
    }

    /// A run that begins at `at`, with what the image records of it. What is free now may be zeros in an image, to hide
    /// what one behind it has there.
    fn told(&self, at: GuestOffset, run: ChainRun) -> ChainRun {
        let record = self.free.as_ref().filter(|_| run.is_zero());
        let Some((is_free, until)) = record.map(|record| record.free_at(at.0)) else {
            return run;
        };
        let is_told = is_free || run.mapping == Mapping::Unallocated;
        ChainRun {
            length: run.length.min(until.minus(at.0)),
            is_free: is_told.then_some(is_free),
            ..run
        }
    }

    /// Has `buf` filled with the bytes from `at` on, run by run.
    pub(super) fn read_by(
        &self,
        buf: &mut [u8],
        at: u64,
        mut read: impl FnMut(ChainRun, GuestOffset, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let run = self.place_at(GuestOffset(at), to_u64(rest.len()))?;
            if run.length == 0 {
                let (end, expected) = (self.size, claimed_end(at, to_u64(rest.len())));
                return Err(Corrupt::Shrank { end, expected }.into());
            }
            let (now, later) = rest.split_at_mut(to_usize(run.length));
            read(run, GuestOffset(at), now)?;
            at.increase(run.length);
            rest = later;
        }
        Ok(())
    }

    /// Fills `buf`, which is not longer than the run, with the bytes of a run that begins at `at`, whatever their
    /// checksums are.
    ///
    /// # Errors
    ///
    /// Those of [`Disk::read_at`].
    pub fn read_run(&self, run: ChainRun, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        let result = self.read_unnamed(run, at, buf);
        result.map_err(|error| self.named(error, run.depth))
    }

    /// The same, with an error that does not tell which of the files it is about.
    pub(super) fn read_unnamed(&self, run: ChainRun, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        let link = self.links.get(run.depth);
        match (run.mapping, link, &self.base) {
            (Mapping::Data(host), Some(link), _) => link.layer.read(host, at, buf),
            (Mapping::Data(_), None, Some(base)) => base.read_at(buf, at.0),
            (Mapping::Compressed(stream), Some(link), _) => {
                self.read_compressed(run.depth, link.layer.as_ref(), stream, at, buf)
            }
            (Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_), ..)
            | (Mapping::Data(_) | Mapping::Compressed(_), None, _) => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// Of the files behind the first, the name.
    pub(super) fn named(&self, error: Error, depth: usize) -> Error {
        let link = self.links.get(depth).map(|link| link.layer.file().path());
        let base = self.base.as_ref().map(|base| base.underlying().path());
        match link.or(base) {
            Some(path) if depth > 0 => error.elsewhere(path),
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
        let start = at.0.minus(before);
        let guest = start..start.plus(cluster_size).min(layer.size());
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
        let part = cluster.get(before..before.plus(buf.len()));
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

    /// Unallocated clusters read as zeros, unless there is a backing file. Spec: qcow2.txt, "Cluster mapping".
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        match &self.guards {
            Some(guards) => self.read_guarded(guards, buf, at),
            None => self.read_by(buf, at, |run, at, buf| self.read_run(run, at, buf)),
        }
    }

    fn read_sector_at(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let run = self.place_at(GuestOffset(at), to_u64(buf.len()))?;
        let base = self.base.as_ref().filter(|_| run.depth == self.links.len());
        match (base, run.mapping) {
            (Some(base), Mapping::Data(_)) if run.length == to_u64(buf.len()) => {
                if let Some(guards) = &self.guards {
                    let range = at..at.plus(run.length);
                    self.each_missed(guards, run, &range, &mut |_, error| Err(error))?;
                }
                let result = base.read_sector_at(buf, at);
                result.map_err(|error| self.named(error, run.depth))
            }
            _ => self.read_at(buf, at),
        }
    }

    fn position(&self, at: u64) -> u64 {
        at
    }

    fn sector_size(&self) -> u64 {
        SECTOR
    }

    /// The largest cluster of the chain. Those of QED can be larger than others, but are never compressed: they may as
    /// well be read in parts.
    fn grain(&self) -> u64 {
        let sizes = self.links.iter().map(|link| link.layer.cluster_size());
        sizes.max().unwrap_or(SECTOR).min(ClusterSize::MAX.bytes())
    }

    fn is_present(&self) -> bool {
        true
    }

    fn stands_on(&self) -> Vec<&Underlying> {
        let files = self.links.iter().flat_map(|Link { layer, .. }| {
            let files = [Some(layer.file()), layer.data_file()];
            files.into_iter().flatten().map(HostFile::underlying)
        });
        files
            .chain(self.base.as_ref().map(FileDisk::underlying))
            .collect()
    }

    fn data_in(&self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let mut at = range.start;
        let end = range.end.min(self.size);
        let mut data: Option<Range<u64>> = None;
        while at < end {
            let run = match self.place_at(GuestOffset(at), end.minus(at)) {
                Ok(run) => run,
                // A fault behind data is one of what follows it.
                Err(_) if data.is_some() => break,
                Err(error) => return Err(error),
            };
            let end = at.plus(run.length);
            match (&mut data, run.is_zero()) {
                (None, true) => {}
                (None, false) => data = Some(at..end),
                (Some(_), true) => break,
                (Some(range), false) => range.end = end,
            }
            at = end;
            if data.as_ref().is_some_and(|data| length(data) >= ENOUGH) {
                break;
            }
        }
        Ok(data)
    }

    fn run_at(&self, at: u64, limit: u64) -> Result<disk::Run> {
        let run = self.place_at(GuestOffset(at), limit)?;
        Ok(disk::Run {
            length: run.length,
            content: match (run.mapping, run.is_free) {
                (Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_), Some(true)) => {
                    Content::Free
                }
                (Mapping::Unallocated, Some(false) | None) => Content::Hole,
                (Mapping::Zero | Mapping::ZeroAllocated(_), Some(false) | None) => Content::Zeros,
                (Mapping::Data(_) | Mapping::Compressed(_), _) => Content::Data,
            },
        })
    }
}

/// The size of a raw disk in whole sectors: the last one may be there in part only, and the rest of it is a hole.
fn rounded(base: &FileDisk) -> u64 {
    let length = base.len();
    length.checked_next_multiple_of(SECTOR).unwrap_or(length)
}
