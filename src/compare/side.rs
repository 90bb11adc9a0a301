//! One of two disks that are compared: a raw file, a block device or an image.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Opening, Options, Warning};
use crate::disk::{self, Disk, FileDisk, Open};
use crate::error::{Error, InUse, Invalid, Result};
use crate::formats::{Access, Chain, Format};
use crate::units::{SECTOR, length, to_u64, to_usize};
use crate::volumes::{self, AllocationMap, Scan};

/// One of the two disks.
#[derive(Debug)]
pub(super) struct Side {
    path: PathBuf,
    content: Content,
    /// What of it is read, if not all is: the rest counts as zeros.
    used: Option<AllocationMap>,
    /// It is not the one whose name need not be told.
    is_second: bool,
}

/// What is behind a path.
#[derive(Debug)]
enum Content {
    Raw(Box<FileDisk>),
    /// A file without bytes.
    Empty,
    Image(Box<Chain>),
}

impl Side {
    /// Opens the disk.
    pub(super) fn open(path: &Path, opening: &Opening, options: &Options) -> Result<Self> {
        let format = Format::of(path, opening.format)?;
        let content = if format == Format::Raw {
            opening.access.refuse_of_raw()?;
            open_raw(path, options.force)?
        } else {
            let access = Access {
                force: options.force,
                ..opening.access.clone()
            };
            let mut disk = Chain::open_as(path, format, &access)?;
            disk.settle()?;
            Content::Image(Box::new(disk))
        };
        let used = match &content {
            Content::Raw(source) if options.used => Some(volumes::scan(source.as_ref(), Scan::Auto)?.map),
            Content::Raw(_) | Content::Empty | Content::Image(_) => None,
        };
        Ok(Self {
            path: path.to_owned(),
            content,
            used,
            is_second: false,
        })
    }

    /// The same as the second of the two: its errors name it.
    pub(super) fn second(self) -> Self {
        let is_second = true;
        Self { is_second, ..self }
    }

    fn source(&self) -> Option<&dyn Disk> {
        match &self.content {
            Content::Raw(source) => Some(source.as_ref()),
            Content::Empty => None,
            Content::Image(disk) => Some(disk.as_ref()),
        }
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.source().map_or(0, Disk::len)
    }

    /// What reading is best aligned to, in bytes: a power of two.
    pub(super) fn cluster_size(&self) -> u64 {
        match &self.content {
            Content::Raw(_) | Content::Empty => SECTOR,
            Content::Image(disk) => disk.cluster_size(),
        }
    }

    /// As [`Disk::next_data`].
    pub(super) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>> {
        let Some(source) = self.source() else {
            return Ok(None);
        };
        match &self.used {
            Some(map) => Ok(map.data_within(from..map.size()).next()),
            None => source.next_data(from).map_err(|error| self.named(error)),
        }
    }

    /// Fills `buf` with the bytes from `at` on; behind the end of the disk, and where it is free, they are zeros.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let there = to_usize(self.size().saturating_sub(at).min(to_u64(buf.len())));
        let (bytes, behind) = buf.split_at_mut(there);
        behind.fill(0);
        let Some(source) = self.source() else {
            return Ok(());
        };
        let result = match &self.used {
            Some(map) => read_used(source, map, bytes, at),
            None => source.read_at(bytes, at),
        };
        result.map_err(|error| self.named(error))
    }

    /// What is to be known of it before it is read.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Warning> {
        let (raw, image) = match &self.content {
            Content::Raw(source) => (Some(source), None),
            Content::Empty => (None, None),
            Content::Image(disk) => (None, Some(disk)),
        };
        let raw = raw.and_then(|source| source.writer());
        let in_use = raw.map(|in_use| (self.path.as_path(), in_use));
        let in_use = in_use.or_else(|| image.and_then(|disk| disk.in_use()));
        let in_use = in_use.map(|(path, in_use)| Warning::InUse {
            path: path.to_owned(),
            in_use: in_use.clone(),
        });
        let remarks = image.into_iter().flat_map(|disk| disk.remarks());
        let remarks = remarks.map(|(path, remark)| Warning::Remark {
            path: path.to_owned(),
            remark,
        });
        let unwritten = match &self.content {
            Content::Raw(source) => source.unwritten(),
            Content::Empty => None,
            Content::Image(disk) => disk.unwritten(),
        };
        let unwritten = unwritten.map(|unwritten| Warning::Unwritten {
            path: self.path.clone(),
            unwritten: unwritten.clone(),
        });
        in_use.into_iter().chain(unwritten).chain(remarks)
    }

    /// That it changed since it was opened.
    pub(super) fn change(&self) -> Result<Option<Warning>> {
        let change = match &self.content {
            Content::Raw(source) => source.change().map(|change| Some((self.path.as_path(), change?))),
            Content::Empty => Ok(None),
            Content::Image(disk) => disk.change(),
        };
        let changed = |(path, change): (&Path, _)| Warning::Changed {
            path: path.to_owned(),
            change,
        };
        Ok(change.map_err(|error| self.named(error))?.map(changed))
    }

    /// Whether something is held so that nobody else uses it meanwhile.
    pub(super) fn is_claimed(&self) -> bool {
        match &self.content {
            Content::Raw(source) => source.is_claimed(),
            Content::Empty | Content::Image(_) => false,
        }
    }

    /// Ends that.
    pub(super) fn release(&mut self) {
        match &mut self.content {
            Content::Raw(source) => source.release(),
            Content::Empty | Content::Image(_) => {}
        }
    }

    fn named(&self, error: Error) -> Error {
        if self.is_second {
            error.elsewhere(&self.path)
        } else {
            error
        }
    }
}

/// Whether somebody has it exclusively, which may be the other side.
pub(super) fn is_busy(opened: &Result<Side>) -> bool {
    match opened {
        Ok(side) => match &side.content {
            Content::Raw(source) => matches!(source.writer(), Some(InUse::Busy { .. })),
            Content::Empty | Content::Image(_) => false,
        },
        Err(error) => matches!(
            error.innermost().0,
            Error::Invalid(Invalid::SourceInUse(InUse::Busy { .. }))
        ),
    }
}

/// Reads what is in use; the rest is zeros.
fn read_used(source: &dyn Disk, map: &AllocationMap, bytes: &mut [u8], at: u64) -> Result<()> {
    let end = at.saturating_add(to_u64(bytes.len()));
    let (mut rest, mut at) = (bytes, at);
    for used in map.data_within(at..end) {
        let (gap, behind) = rest.split_at_mut(to_usize(used.start.saturating_sub(at)));
        gap.fill(0);
        let (part, behind) = behind.split_at_mut(to_usize(length(&used)));
        source.read_at(part, used.start)?;
        (rest, at) = (behind, used.end);
    }
    rest.fill(0);
    Ok(())
}

fn open_raw(path: &Path, force: bool) -> Result<Content> {
    let open = Open {
        force,
        ..Open::default()
    };
    match disk::open(path, open) {
        Ok(source) => Ok(Content::Raw(Box::new(source))),
        // Nothing equals zeros; but a device of no size is one that has no medium.
        Err(Error::Invalid(Invalid::SourceEmpty)) if path.is_file() => Ok(Content::Empty),
        Err(error) => Err(error),
    }
}
