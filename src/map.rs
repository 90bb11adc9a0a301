//! The ranges of a disk: where an image stores them, or which ranges of a raw file or device are in use, and why.

#![warn(clippy::arithmetic_side_effects)]

mod preallocated;

use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;

use crate::disk::{Disk, Empty, FileDisk, Force, Kind, Open};
use crate::error::{Error, InUse, Result};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::formats::{self, Access, AnyDisk, Chain, ChainRun, Format, Opening, TakenFor};
use crate::units::{Exact, GuestOffset, HostOffset, SECTOR, length};
use crate::volumes::{self, Allocation, MapBuilder, Piece, Reason, Scan, Selection, State, Wanted};
use preallocated::is_preallocated;

/// How to read the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The format of the file; if not given, it is an image if it begins like one.
    pub format: Option<Format>,
    /// Which state of an image to show, and which other files to open.
    pub access: Access,
    /// Which bytes of the disk to show.
    pub wanted: Wanted,
}

/// The map of a disk, or of some bytes of it.
#[derive(Debug)]
pub enum Map {
    /// Of an image: its tables are read as the map is walked.
    Image(ImageMap),
    /// Of a raw file or device.
    Raw(RawMap),
}

/// An image whose tables tell what is where.
#[derive(Debug)]
pub struct ImageMap {
    disk: Box<Chain>,
    /// The bytes that are shown.
    selection: Selection,
    /// The files of it that were preallocated.
    preallocated: Vec<usize>,
}

/// A raw file or device that was scanned.
#[derive(Debug)]
pub struct RawMap {
    /// What the file is.
    pub kind: Kind,
    /// What of it is in use; its regions are those that were asked for.
    pub allocation: Allocation,
    /// The bytes that are shown.
    selection: Selection,
    /// Who might write to it meanwhile: then it was not looked into.
    pub in_use: Option<InUse>,
}

/// A uniform range of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Which file holds it: 0 for the first one, 1 for its backing file, and so on.
    pub depth: usize,
    /// What it is.
    pub content: Stored,
    /// Whether it is free, if known: for unallocated ranges of an image that records its free clusters, and for a raw file
    /// or device.
    pub is_free: Option<bool>,
    /// Of a raw file or device: which of the [regions](Allocation::regions) is the innermost that holds it.
    pub within: Option<usize>,
}

/// What a range of a disk is. Host offsets are those of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// No file holds it, and it reads as zeros. It may have space, because other parts of its cluster are allocated.
    Unallocated(Option<HostOffset>),
    /// An image marks it as zeros, and may keep space for data.
    Zeros(Option<HostOffset>),
    /// It is stored uncompressed.
    Data(HostOffset),
    /// It is a hole of a file that was preallocated, where data will be.
    Preallocated(HostOffset),
    /// It is compressed; here is the first stream.
    Compressed(HostOffset),
    /// Of a raw file or device: in use.
    Used(Reason),
    /// Of a raw file: a hole that is in use, or not known to be free.
    Hole(Reason),
    /// Of a raw file or device: free.
    Free,
}

impl Map {
    /// Opens the file, and scans it if it is no image.
    ///
    /// # Errors
    ///
    /// - Those of [`formats::open`]; it may be in use, or a file without a byte.
    /// - Those of [`volumes::scan`] for a raw file or device.
    /// - Those of [`Wanted::find`].
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let opening = Opening {
            format: options.format,
            taken_for: TakenFor::WhatItLooksLike,
            access: options.access.clone(),
            open: Open {
                force: Force::Yes,
                is_for_a_look: true,
                empty: Empty::Allowed,
            },
            ..Opening::default()
        };
        let disk = formats::open(path, &opening)?;
        let selection = options.wanted.find(&disk)?;
        Ok(match disk {
            AnyDisk::Raw(disk) => Self::Raw(RawMap::of(&disk, selection)?),
            AnyDisk::Image(chain) => Self::Image(ImageMap::of(chain, selection)?),
        })
    }

    /// All that was asked for, in the longest ranges there are; what is compressed is one range however many streams
    /// it has. A disk is in ascending order, a volume in the order of its own bytes: a range lies in one segment of it.
    /// After an error there are no more.
    ///
    /// # Errors
    ///
    /// Of a range: those of [`Chain::place_at`].
    pub fn regions(&self) -> Box<dyn Iterator<Item = Result<Region>> + '_> {
        match self {
            Self::Image(map) => Box::new(map.regions()),
            Self::Raw(map) => Box::new(map.regions().map(Ok)),
        }
    }
}

impl ImageMap {
    fn of(mut disk: Box<Chain>, selection: Selection) -> Result<Self> {
        let is_so = |depth: &usize| disk.image_at(*depth).is_some_and(is_preallocated);
        let preallocated = (0..disk.depth()).filter(is_so).collect();
        match disk.record() {
            Ok(Ok(record)) => disk.believe(record),
            // A record that is damaged, or is not there, tells nothing.
            Ok(Err(_)) | Err(Error::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            disk,
            selection,
            preallocated,
        })
    }

    /// The image and what it stands on.
    pub fn disk(&self) -> &Chain {
        &self.disk
    }

    /// What is recognised in the bytes that are shown; nothing if another program may write to it meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Chain::place_at`].
    pub fn recognise(&self) -> Result<Allocation> {
        let allocation = volumes::scan(self.disk.as_ref(), Scan::Auto)?;
        Ok(of_selection(allocation, &self.selection))
    }

    fn regions(&self) -> impl Iterator<Item = Result<Region>> {
        let segments = self.selection.segments.ranges().cloned();
        let regions = segments.flat_map(|range| merged(self.pieces(range)));
        let mut failed = false;
        regions.take_while(move |region| !std::mem::replace(&mut failed, region.is_err()))
    }

    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Result<Region>> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let piece = self
                .disk
                .place_at(GuestOffset(at), range.end.minus(at))
                .map(|run| self.piece(at, run));
            at = piece.as_ref().map_or(u64::MAX, |piece| piece.range.end);
            Some(piece)
        })
    }

    fn piece(&self, at: u64, run: ChainRun) -> Region {
        let (mut length, mut content) = (run.length, content(run));
        // A hole of a file that was preallocated is no data.
        let image = self.disk.image_at(run.depth);
        let image = image.filter(|_| self.preallocated.contains(&run.depth));
        if let (Stored::Data(host), Some(image)) = (content, image) {
            let data = image.file().next_data(host);
            let is_there = data.as_ref().is_some_and(|data| data.start <= host.0);
            if !is_there {
                content = Stored::Preallocated(host);
            }
            let until = data.map(|data| if is_there { data.end } else { data.start });
            length = until.map_or(length, |until| length.min(until.minus(host.0)));
        }
        Region {
            range: at..at.plus(length),
            depth: run.depth,
            content,
            is_free: run.is_free.filter(|is_free| match content {
                Stored::Unallocated(room) => room.is_none(),
                Stored::Zeros(_) => *is_free,
                Stored::Data(_)
                | Stored::Preallocated(_)
                | Stored::Compressed(_)
                | Stored::Used(_)
                | Stored::Hole(_)
                | Stored::Free => false,
            }),
            within: None,
        }
    }
}

fn content(run: ChainRun) -> Stored {
    match run.mapping {
        Mapping::Unallocated => Stored::Unallocated(run.room),
        Mapping::Zero => Stored::Zeros(None),
        Mapping::ZeroAllocated(host) => Stored::Zeros(Some(host)),
        Mapping::Data(host) => Stored::Data(host),
        Mapping::Compressed(stream) => Stored::Compressed(stream.at),
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

fn is_same(region: &Region, next: Stored) -> bool {
    let is_behind = |a: HostOffset, b: HostOffset| a.0.checked_add(length(&region.range)) == Some(b.0);
    match (region.content, next) {
        (Stored::Compressed(_), Stored::Compressed(_)) => true,
        (Stored::Data(a), Stored::Data(b))
        | (Stored::Preallocated(a), Stored::Preallocated(b))
        | (Stored::Unallocated(Some(a)), Stored::Unallocated(Some(b)))
        | (Stored::Zeros(Some(a)), Stored::Zeros(Some(b))) => is_behind(a, b),
        (a, b) => a == b,
    }
}

impl RawMap {
    fn of(disk: &FileDisk, selection: Selection) -> Result<Self> {
        let allocation = match disk.len() {
            0 => nothing(),
            _ => volumes::scan(disk, Scan::Auto)?,
        };
        Ok(Self {
            kind: disk.kind(),
            allocation: of_selection(allocation, &selection),
            selection,
            in_use: disk.writer().cloned(),
        })
    }

    /// The last sector may be there in part only: the rest of it is a hole.
    fn regions(&self) -> impl Iterator<Item = Region> {
        let map = &self.allocation.map;
        let (size, end) = (map.size(), map.size().next_multiple_of(SECTOR));
        let segments = &self.selection.segments;
        let is_end_shown = segments.ranges().any(|range| range.end == size);
        let is_data_at_end =
            (map.extents().last()).is_some_and(|last| last.range.end == size && last.state().is_read());
        let padding = (is_end_shown && is_data_at_end && size < end).then_some(Piece {
            range: size..end,
            state: State::Zeros,
            reason: Some(Reason::Data),
            region: None,
        });
        let pieces = self.allocation.pieces_of(segments).map(move |mut piece| {
            if !is_data_at_end && piece.range.end == size {
                piece.range.end = end;
            }
            piece
        });
        pieces.chain(padding).map(|piece| Region {
            range: piece.range,
            depth: 0,
            content: match (piece.state, piece.reason) {
                (State::Zeros, Some(reason)) => Stored::Hole(reason),
                (_, Some(reason)) => Stored::Used(reason),
                (_, None) => Stored::Free,
            },
            is_free: Some(piece.state == State::Free),
            within: piece.region,
        })
    }
}

/// The same with only the regions that are told of some bytes.
fn of_selection(allocation: Allocation, selection: &Selection) -> Allocation {
    Allocation {
        regions: selection.of(allocation.regions),
        ..allocation
    }
}

/// What there is in a disk without a byte.
fn nothing() -> Allocation {
    Allocation {
        map: MapBuilder::new(0).build(),
        regions: Vec::new(),
        sector_size: None,
        flaws: Vec::new(),
    }
}
