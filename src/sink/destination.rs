//! Where a disk goes: a file, a block device or standard output, validated before anything is opened for writing.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Cleanup, DeviceTarget, DiskSink, FileSink, StdoutSink, Target, conflict, links, stdout};
use crate::devices::{DeviceNumber, FileId};
use crate::error::{Action, Error, Invalid, Result};

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
    /// - [`Error::Invalid`] if it is in use, too small, what is read or where that lies, or no place for a disk.
    /// - [`Error::Io`] if the system refuses to tell, or to let it be written to.
    pub fn resolve(place: &Place, demand: &Demand<'_>) -> Result<Self> {
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
                for_device(path, DeviceNumber::from_raw(rdev), demand)
            }
            Ok((kind, _)) if !kind.is_file() => Err(Invalid::DiskTargetKind(kind.into()).into()),
            // Why there is none, and whether there can be one, is found out on the way.
            Ok(_) | Err(_) => for_file(path, demand),
        }
    }

    /// Begins to write. A device is incomplete from the first write on until the sink is published, and `cleanup`
    /// knows.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if a device is in use by now.
    /// - [`Error::Io`] if it cannot be opened or created.
    pub fn open(self, cleanup: Cleanup, sync: bool) -> Result<Box<dyn DiskSink>> {
        Ok(match self {
            Self::File(target) => Box::new(FileSink::create(target, cleanup, sync)?.sparse()),
            Self::Device(target) => Box::new(target.open(cleanup, sync)?),
            Self::Stdout => Box::new(StdoutSink::new(io::stdout(), cleanup, sync)?),
        })
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

fn for_device(path: &Path, number: DeviceNumber, demand: &Demand<'_>) -> Result<Destination> {
    if demand.no_clobber {
        return Err(Invalid::TargetExists.into());
    }
    // First of all: that a device is mounted can be helped, that it holds the image cannot.
    conflict::refuse_device(number, demand.read)?;
    let target = DeviceTarget::resolve(path, number)?;
    let (found, expected) = (target.size(), demand.size);
    if found < expected {
        return Err(Invalid::TargetTooSmall { found, expected }.into());
    }
    Ok(Destination::Device(target))
}

fn for_file(path: &Path, demand: &Demand<'_>) -> Result<Destination> {
    let target = Target::resolve(path, demand.no_clobber)?;
    if is_among_devices(target.directory()).map_err(|error| Error::target_io(Action::Examine, error))? {
        return Err(Invalid::FileAmongDevices.into());
    }
    if let Some(file) = target.file_id() {
        conflict::refuse_file(file, demand.read)?;
    }
    conflict::refuse_directory(target.directory(), demand.read)?;
    Ok(Destination::File(target))
}

/// Whether a file there would lie where the system keeps its device nodes.
fn is_among_devices(directory: &Path) -> io::Result<bool> {
    let devices = Path::new("/dev");
    let is_below = directory.canonicalize()?.starts_with(devices);
    // What is mounted below, such as /dev/shm, is made for files.
    Ok(is_below && directory.metadata()?.dev() == devices.metadata()?.dev())
}
