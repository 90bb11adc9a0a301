//! Where a disk goes: a file, a block device or standard output, validated before anything is opened for writing.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::conflict::forced;
use super::{DeviceTarget, Memory, Target, conflict, ground, links, stdout};
use crate::devices::{DeviceNumber, FileId};
use crate::error::{InUse, Invalid, Result};

/// What names a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or a block device.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    fn from(path: &P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}

/// What a destination must be good for.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The size of the disk in bytes.
    pub size: u64,
    /// Leave alone what exists.
    pub no_clobber: bool,
    /// What was written will be read back.
    pub read_back: bool,
    /// Go on if it cannot be found out who uses it.
    pub force: bool,
    /// All files that are read, the image first.
    pub read: &'a [PathBuf],
}

/// A place where a disk can be put.
#[derive(Debug)]
pub enum Destination {
    /// A file, which will be replaced in one step.
    File(Target),
    /// A block device, which will be overwritten.
    Device(DeviceTarget),
    /// A stream.
    Stdout,
}

impl Destination {
    /// Finds out what is there, and refuses what must not be overwritten. Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if it is in use, too small, what is read or where that lies, or no place
    ///   for a disk; or, unless forced, if that cannot be found out.
    /// - [`Error::Io`](crate::Error::Io) if the system refuses to let it be written to.
    pub fn resolve(place: &Place, demand: &Demand<'_>) -> Result<(Self, Option<InUse>)> {
        let mut unknown = None;
        let destination = Self::resolve_at(place, demand, &mut unknown)?;
        Ok((destination, unknown))
    }

    fn resolve_at(place: &Place, demand: &Demand<'_>, unknown: &mut Option<InUse>) -> Result<Self> {
        let path = match place {
            Place::Stdout => return for_stream(demand),
            Place::Path(path) => path,
        };
        links::refuse_untrusted(path)?;
        match path
            .metadata()
            .map(|metadata| (metadata.file_type(), metadata.rdev()))
        {
            Ok((kind, rdev)) if kind.is_block_device() => {
                for_device(path, DeviceNumber::from_raw(rdev), demand, unknown)
            }
            Ok((kind, _)) if !kind.is_file() => Err(Invalid::DiskTargetKind(kind.into()).into()),
            // Why there is none, and whether there can be one, is found out on the way.
            Ok(_) | Err(_) => for_file(path, demand, unknown),
        }
    }

    /// The size of a sector in bytes, if it has any.
    pub fn sector_size(&self) -> Option<u64> {
        match self {
            Self::Device(target) => target.sector_size(),
            Self::File(_) | Self::Stdout => None,
        }
    }

    /// The filesystem that takes the file, if it is in memory.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if a file there would be among the devices by now.
    /// - [`Error::Io`](crate::Error::Io) if the system refuses to tell.
    pub fn memory(&self) -> Result<Option<Memory>> {
        match self {
            Self::File(target) => ground::examine(target.directory()),
            Self::Device(_) => Ok(None),
            Self::Stdout => stdout::memory(&io::stdout()),
        }
    }

    /// The room in bytes that there is for the disk, if that can be told.
    pub fn room(&self) -> Option<u64> {
        match self {
            Self::File(target) => target.free_space(),
            Self::Device(target) => Some(target.size()),
            Self::Stdout => None,
        }
    }
}

fn for_stream(demand: &Demand<'_>) -> Result<Destination> {
    if demand.read_back {
        return Err(Invalid::StdoutUnverifiable.into());
    }
    let metadata = demand.read.iter().filter_map(|path| path.metadata().ok());
    let read: Vec<_> = metadata.map(|metadata| FileId::of(&metadata)).collect();
    stdout::refuse(&io::stdout(), &read)?;
    Ok(Destination::Stdout)
}

fn for_device(
    path: &Path,
    number: DeviceNumber,
    demand: &Demand<'_>,
    unknown: &mut Option<InUse>,
) -> Result<Destination> {
    if demand.no_clobber {
        return Err(Invalid::TargetExists.into());
    }
    // First of all: that a device is mounted can be helped, that it holds the image cannot.
    let refused = conflict::refuse_device(number, demand.read);
    forced(refused, demand.force, unknown)?;
    let target = DeviceTarget::resolve(path, number, demand.force, unknown)?;
    let (found, expected) = (target.size(), demand.size);
    if found < expected {
        return Err(Invalid::TargetTooSmall { found, expected }.into());
    }
    Ok(Destination::Device(target))
}

fn for_file(path: &Path, demand: &Demand<'_>, unknown: &mut Option<InUse>) -> Result<Destination> {
    let target = Target::resolve(path, demand.no_clobber)?;
    ground::examine(target.directory())?;
    if let Some(file) = target.file_id() {
        ground::refuse_append_only(target.directory())?;
        forced(conflict::refuse_file(file, demand.read), demand.force, unknown)?;
    }
    let refused = conflict::refuse_directory(target.directory(), demand.read);
    forced(refused, demand.force, unknown)?;
    Ok(Destination::File(target))
}
