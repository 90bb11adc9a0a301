//! What of a disk is where: which ranges an image has, or which of a raw file or device are in use, and why.

#![warn(clippy::arithmetic_side_effects)]

mod preallocated;

use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;

use crate::disk::{self, Disk, Kind, Open};
use crate::error::{Action, Error, InUse, Invalid, Result};
use crate::formats::qcow2::Record;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::{Access, Chain, ChainRun, Format};
use crate::units::{GuestOffset, HostOffset, SECTOR, length};
use crate::volumes::{self, Allocation, AllocationMap, Piece, Reason, Scan, State};
use preallocated::is_preallocated;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the file is; if not given, it is an image if it begins like one.
    pub format: Option<Format>,
    /// Which state of an image, and with which files.
    pub access: Access,
}

/// The map of a disk.
#[derive(Debug)]
pub enum Map {
    /// Of an image: read while it is walked.
    Image(ImageMap),
    /// Of a raw file or device.
    Raw(RawMap),
}

/// An image whose tables tell what is where.
#[derive(Debug)]
pub struct ImageMap {
    disk: Chain,
    /// The files of it that were preallocated.
    preallocated: Vec<usize>,
    /// What it records of its source, if that still holds.
    record: Option<Record>,
}

/// A raw file or device that was scanned.
#[derive(Debug)]
pub struct RawMap {
    /// What the file is.
    pub kind: Kind,
    /// What of it is in use.
    pub allocation: Allocation,
    /// Who might write to it meanwhile: then it was not looked into.
    pub in_use: Option<InUse>,
}

/// A range of the disk that is the same all over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Which file says so: 0 for the first one, 1 for its backing file, and so on.
    pub depth: usize,
    /// What it is.
    pub content: Content,
    /// Whether it is free, if that is known: of what is not allocated in an image that records it, and of a raw file or
    /// device.
    pub is_free: Option<bool>,
    /// Of a raw file or device: which of the [regions](Allocation::regions) is the innermost that holds it.
    pub within: Option<usize>,
}

/// What a range of a disk is. Host offsets are those of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is nowhere, and reads as zeros. There may be room for it, because its cluster is there in part.
    Unallocated(Option<HostOffset>),
    /// An image says that it is zeros, perhaps with room kept for data.
    Zeros(Option<HostOffset>),
    /// It is there, as it is.
    Data(HostOffset),
    /// It is a hole of a file that was preallocated, where data will be.
    Preallocated(HostOffset),
    /// It is compressed; here is the first stream.
    Compressed(HostOffset),
    /// Of a raw file or device: in use.
    Used(Reason),
    /// Of a raw file: in use, or nothing tells, and a hole.
    Hole(Reason),
    /// Of a raw file or device: free.
    Free,
}

impl Map {
    /// Opens the file, and scans it if it is no image.
    ///
    /// # Errors
    ///
    /// - Those of [`Chain::open`] for an image.
    /// - Those of [`disk::open`] and [`volumes::scan`] for a raw file or device; it may be in use.
    /// - [`Error::Invalid`] if [`Access`] asks for what a raw disk does not have.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let format = match Format::of(path, options.format) {
            // No image can be read then, but most of a disk can.
            Err(Error::Io {
                action: Action::Read(_),
                ..
            }) => Format::Raw,
            format => format?,
        };
        if format != Format::Raw {
            let access = Access {
                force: true,
                ..options.access.clone()
            };
            let disk = Chain::open_as(path, format, &access)?;
            let images = disk.images();
            let preallocated = images.filter(|(_, image)| is_preallocated(image));
            let preallocated = preallocated.map(|(number, _)| number).collect();
            // A record that is damaged tells nothing.
            let record = match disk.record() {
                Ok(record) => record.ok(),
                Err(Error::Corrupt(_)) => None,
                Err(error) => return Err(error),
            };
            return Ok(Self::Image(ImageMap {
                disk,
                preallocated,
                record,
            }));
        }
        options.access.refuse_of_raw()?;
        let force = true;
        let open = Open {
            force,
            is_for_a_look: true,
            ..Open::default()
        };
        match disk::open(path, open) {
            Ok(source) => Ok(Self::Raw(RawMap {
                kind: source.kind(),
                allocation: volumes::scan(&source, Scan::Auto)?,
                in_use: source.writer().cloned(),
            })),
            Err(Error::Invalid(Invalid::SourceEmpty)) => Ok(Self::Raw(RawMap::of_nothing())),
            Err(error) => Err(error),
        }
    }

    /// All of the disk in ascending order, in the longest ranges there are; what is compressed is one range
    /// however many streams it has. After an error there are no more.
    ///
    /// # Errors
    ///
    /// Of a range: those of [`Chain::run_at`].
    pub fn regions(&self) -> Box<dyn Iterator<Item = Result<Region>> + '_> {
        match self {
            Self::Image(map) => Box::new(merged(map.pieces())),
            Self::Raw(map) => Box::new(map.regions().map(Ok)),
        }
    }
}

impl ImageMap {
    /// The image and what it stands on.
    pub fn disk(&self) -> &Chain {
        &self.disk
    }

    /// What is recognised in the disk.
    ///
    /// # Errors
    ///
    /// Those of [`Chain::run_at`].
    pub fn recognise(&self) -> Result<Allocation> {
        volumes::scan(&self.disk, Scan::Auto)
    }

    fn pieces(&self) -> impl Iterator<Item = Result<Region>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.disk.size() {
                return None;
            }
            let piece = self
                .disk
                .run_at(GuestOffset(at), u64::MAX)
                .map(|run| self.piece(at, run));
            at = piece.as_ref().map_or(u64::MAX, |piece| piece.range.end);
            Some(piece)
        })
    }

    fn piece(&self, at: u64, run: ChainRun) -> Region {
        let file = self.disk.files().nth(run.depth).flatten();
        let (mut length, mut content) = (run.length, content(run, at, file.is_none()));
        if let (Content::Data(host), Some(file)) = (content, file)
            && self.preallocated.contains(&run.depth)
        {
            let data = file.next_data(host);
            match data.filter(|data| data.start <= host.0) {
                Some(data) => length = length.min(data.end.saturating_sub(host.0)),
                None => content = Content::Preallocated(host),
            }
        }
        if let (Content::Preallocated(host), Some(file)) = (content, file)
            && let Some(data) = file.next_data(host)
        {
            length = length.min(data.start.saturating_sub(host.0));
        }
        let mut is_free = None;
        if let (Content::Unallocated(None), Some(record)) = (content, &self.record) {
            let (free, until) = record.free_at(at);
            length = length.min(until.saturating_sub(at));
            is_free = Some(free);
        }
        Region {
            range: at..at.saturating_add(length),
            depth: run.depth,
            content,
            is_free,
            within: None,
        }
    }
}

fn content(run: ChainRun, at: u64, is_raw: bool) -> Content {
    match run.mapping {
        Mapping::Unallocated => Content::Unallocated(run.room),
        // A hole has its place in a raw file.
        Mapping::Zero => Content::Zeros(is_raw.then_some(HostOffset(at))),
        Mapping::ZeroAllocated(host) => Content::Zeros(Some(host)),
        Mapping::Data(host) => Content::Data(host),
        Mapping::Compressed(stream) => Content::Compressed(stream.at),
    }
}

/// Puts together what touches and is the same.
fn merged(pieces: impl Iterator<Item = Result<Region>>) -> impl Iterator<Item = Result<Region>> {
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let mut region = match pieces.next()? {
            Ok(region) => region,
            Err(error) => return Some(Err(error)),
        };
        while let Some(next) = continuation(&mut pieces, &region) {
            region.range.end = next;
        }
        Some(Ok(region))
    })
}

/// Takes the next piece if it goes on where the region ends; where that ends.
fn continuation(pieces: &mut Peekable<impl Iterator<Item = Result<Region>>>, region: &Region) -> Option<u64> {
    let goes_on = |next: &Result<Region>| {
        next.as_ref().is_ok_and(|next| {
            (next.depth, next.is_free) == (region.depth, region.is_free) && is_same(region, next.content)
        })
    };
    let next = pieces.next_if(goes_on)?.ok()?;
    Some(next.range.end)
}

fn is_same(region: &Region, next: Content) -> bool {
    let is_behind = |a: HostOffset, b: HostOffset| a.0.checked_add(length(&region.range)) == Some(b.0);
    match (region.content, next) {
        (Content::Compressed(_), Content::Compressed(_)) => true,
        (Content::Data(a), Content::Data(b))
        | (Content::Preallocated(a), Content::Preallocated(b))
        | (Content::Unallocated(Some(a)), Content::Unallocated(Some(b)))
        | (Content::Zeros(Some(a)), Content::Zeros(Some(b))) => is_behind(a, b),
        (a, b) => a == b,
    }
}

impl RawMap {
    /// A file without a byte.
    fn of_nothing() -> Self {
        Self {
            kind: Kind::RegularFile,
            allocation: Allocation {
                map: AllocationMap::new(0),
                regions: Vec::new(),
                sector_size: None,
                flaws: Vec::new(),
            },
            in_use: None,
        }
    }

    /// The last sector may be there in part only: the rest of it is a hole.
    fn regions(&self) -> impl Iterator<Item = Region> {
        let map = &self.allocation.map;
        let (size, end) = (map.size(), map.size().next_multiple_of(SECTOR));
        let is_data_at_end =
            (map.extents().last()).is_some_and(|last| last.range.end == size && last.state() == State::Data);
        let padding = (is_data_at_end && size < end).then_some(Piece {
            range: size..end,
            state: State::Zeros,
            reason: Some(Reason::Data),
            region: None,
        });
        let pieces = self.allocation.pieces().map(move |mut piece| {
            if !is_data_at_end && piece.range.end == size {
                piece.range.end = end;
            }
            piece
        });
        pieces.chain(padding).map(|piece| Region {
            range: piece.range,
            depth: 0,
            content: match (piece.state, piece.reason) {
                (State::Zeros, Some(reason)) => Content::Hole(reason),
                (_, Some(reason)) => Content::Used(reason),
                (_, None) => Content::Free,
            },
            is_free: Some(piece.state == State::Free),
            within: piece.region,
        })
    }
}
