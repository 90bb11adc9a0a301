//! Where an image goes, or a disk, validated before anything is opened for writing.

mod conflict;
mod contents;
mod device;
mod file;
mod links;
mod stdout;

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use conflict::forced;
pub use device::DeviceTarget;
pub use file::FileTarget;
pub(super) use file::Now;

use super::{Memory, Place, ground};
use crate::devices::{DeviceNumber, FileId, Subject, own_path};
use crate::error::{Action, Error, InUse, Invalid, Result};

/// A place that was found good, and to which nothing is written yet. `D` is a [`DeviceTarget`] if devices are good for
/// it, as they are for a disk, or else [`NoDevice`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum Target<D> {
    /// A file, which will be replaced in one step.
    File(FileTarget),
    /// A block device, which will be overwritten.
    Device(D),
    /// A stream.
    Stdout,
}

/// There is none: an image is put on no device.
#[derive(Debug)]
pub enum NoDevice {}

/// What is not to be overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caution {
    /// Leave alone what exists.
    pub no_clobber: bool,
    /// Replace a file whatever it holds: an image by a disk, and what is no image by an image.
    pub overwrite: bool,
    /// Go on if it cannot be found out whether it is in use, or what is read lies on it.
    pub force: bool,
}

impl<D> Target<D> {
    /// Whether what was written cannot be written again.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// The filesystem that takes the file, if it is in memory.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if a file there would be among the devices by now.
    /// - [`Error::Io`] if the system refuses to tell.
    pub fn memory(&self) -> Result<Option<Memory>> {
        match self {
            Self::File(target) => ground::examine(target.directory()),
            Self::Device(_) => Ok(None),
            Self::Stdout => stdout::memory(&io::stdout()),
        }
    }
}

impl Target<NoDevice> {
    /// Finds out what is there, and refuses what must not be overwritten while `sources` are read. Changes nothing.
    /// With [force](Caution::force), tells too why it may be in use, or lie on a source, after all.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is no place for an image, is the source, or lies on it; or, unless forced, if that
    ///   cannot be found out.
    /// - [`Error::Io`] if the system refuses to let it be written to.
    pub fn for_image(place: &Place, caution: Caution, sources: &[Subject]) -> Result<(Self, Option<InUse>)> {
        let mut unknown = None;
        let target = match place {
            Place::Stdout => {
                stream_for_image(caution, sources, &mut unknown)?;
                Self::Stdout
            }
            Place::Path(path) => Self::File(file_for_image(path, caution, sources, &mut unknown)?),
        };
        Ok((target, unknown))
    }

    /// The room in bytes that there is for the image, if that can be told.
    pub fn room(&self) -> Option<u64> {
        match self {
            Self::File(target) => target.free_space(),
            Self::Device(none) => match *none {},
            Self::Stdout => None,
        }
    }
}

impl Target<DeviceTarget> {
    /// Finds out what is there, and refuses what must not be overwritten with a disk of `size` bytes while the files in
    /// `read` are read, the image first. Changes nothing. With [force](Caution::force), tells too why it may be in use
    /// after all.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is in use, too small, what is read or where that lies, or no place for a disk; or,
    ///   unless forced, if that cannot be found out.
    /// - [`Error::Io`] if the system refuses to let it be written to.
    pub fn for_disk(
        place: &Place,
        caution: Caution,
        size: u64,
        read: &[PathBuf],
    ) -> Result<(Self, Option<InUse>)> {
        let mut unknown = None;
        let target = match place {
            Place::Stdout => {
                stream_for_disk(read)?;
                Self::Stdout
            }
            Place::Path(path) => match block_device(path)? {
                Some(number) => {
                    let device = device_for_disk(path, number, caution, read, &mut unknown)?;
                    let (found, expected) = (device.size(), size);
                    if found < expected {
                        return Err(Invalid::TargetTooSmall {
                            found,
                            expected,
                            used: None,
                            can_fit: false,
                        }
                        .into());
                    }
                    Self::Device(device)
                }
                None => Self::File(file_for_disk(path, caution, read, &mut unknown)?),
            },
        };
        Ok((target, unknown))
    }

    /// The size of a sector in bytes, if it has any.
    pub fn sector_size(&self) -> Option<u64> {
        match self {
            Self::Device(target) => target.sector_size(),
            Self::File(_) | Self::Stdout => None,
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

fn file_for_image(
    path: &Path,
    caution: Caution,
    sources: &[Subject],
    unknown: &mut Option<InUse>,
) -> Result<FileTarget> {
    let target = FileTarget::resolve(path, caution.no_clobber)?;
    ground::examine(target.directory())?;
    for source in sources {
        let refused = conflict::refuse_own_source(*source, target.file_id(), target.directory());
        forced(refused, caution.force, unknown)?;
    }
    if let Some(file) = target.file_id() {
        forced(conflict::refuse_guest(file), caution.force, unknown)?;
        ground::refuse_append_only(target.directory())?;
    }
    if !caution.overwrite {
        contents::refuse_foreign(&target)?;
    }
    Ok(target)
}

fn stream_for_image(caution: Caution, sources: &[Subject], unknown: &mut Option<InUse>) -> Result<()> {
    let file = |source: &Subject| match source {
        Subject::File(file) => Some(*file),
        Subject::Device(_) => None,
    };
    let read: Vec<_> = sources.iter().filter_map(file).collect();
    let Some(file) = stdout::refuse(&io::stdout(), &read)? else {
        return Ok(());
    };
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Error::target_io(Action::Examine, error))?;
    for source in sources {
        let refused = conflict::refuse_own_source(*source, Some(FileId::of(&metadata)), &own_path(&file));
        forced(refused, caution.force, unknown)?;
    }
    stdout::refuse_middle(&file, &metadata)
}

/// The number of the block device at a path; none if there can be a file.
fn block_device(path: &Path) -> Result<Option<DeviceNumber>> {
    links::refuse_untrusted(path)?;
    stdout::refuse_pipe(path)?;
    match path
        .metadata()
        .map(|metadata| (metadata.file_type(), metadata.rdev()))
    {
        Ok((kind, rdev)) if kind.is_block_device() => Ok(Some(DeviceNumber::from_raw(rdev))),
        Ok((kind, _)) if !kind.is_file() => Err(Invalid::DiskTargetKind(kind.into()).into()),
        // Why there is none, and whether there can be one, is found out on the way.
        Ok(_) | Err(_) => Ok(None),
    }
}

fn device_for_disk(
    path: &Path,
    number: DeviceNumber,
    caution: Caution,
    read: &[PathBuf],
    unknown: &mut Option<InUse>,
) -> Result<DeviceTarget> {
    if caution.no_clobber {
        return Err(Invalid::TargetExists.into());
    }
    // First of all: that a device is mounted can be helped, that it holds the image cannot.
    forced(conflict::refuse_device(number, read), caution.force, unknown)?;
    DeviceTarget::resolve(path, number, caution.force, unknown)
}

fn file_for_disk(
    path: &Path,
    caution: Caution,
    read: &[PathBuf],
    unknown: &mut Option<InUse>,
) -> Result<FileTarget> {
    let target = FileTarget::resolve(path, caution.no_clobber)?;
    ground::examine(target.directory())?;
    if let Some(file) = target.file_id() {
        ground::refuse_append_only(target.directory())?;
        forced(conflict::refuse_file(file, read), caution.force, unknown)?;
    }
    let refused = conflict::refuse_directory(target.directory(), read);
    forced(refused, caution.force, unknown)?;
    if !caution.overwrite {
        contents::refuse_image(&target)?;
    }
    Ok(target)
}

fn stream_for_disk(read: &[PathBuf]) -> Result<()> {
    let metadata = read.iter().filter_map(|path| path.metadata().ok());
    let read: Vec<_> = metadata.map(|metadata| FileId::of(&metadata)).collect();
    stdout::refuse(&io::stdout(), &read)?;
    Ok(())
}
