//! Whether writing the target would destroy what is being read.

use std::io;
use std::path::{Path, PathBuf};

use crate::devices::{DeviceNumber, FileId, Kernel, Subject};
use crate::error::{Error, InUse, Invalid, Result, SameAs};

/// A file that is read: the image, or one that it needs.
struct Reading<'a> {
    path: &'a Path,
    subject: Subject,
    is_first: bool,
}

impl Reading<'_> {
    /// The target is this one.
    fn same(&self, how: SameAs) -> Error {
        let invalid = if self.is_first {
            Invalid::TargetIsSource(how)
        } else {
            let read = self.path.to_owned();
            Invalid::TargetIsNeeded { read }
        };
        invalid.into()
    }
}

/// All that is read, as far as it is a file or a device.
fn readings(read: &[PathBuf]) -> impl Iterator<Item = Reading<'_>> {
    read.iter().enumerate().filter_map(|(number, path)| {
        Some(Reading {
            path,
            subject: Subject::of(&path.metadata().ok()?)?,
            is_first: number == 0,
        })
    })
}

/// Refuses to overwrite a device that anything of `read`, the image first, is or lies on.
pub(super) fn refuse_device(number: DeviceNumber, read: &[PathBuf]) -> Result<()> {
    let kernel = Kernel::running();
    let layers = kernel
        .layers(Subject::Device(number))
        .map_err(|error| unknown(&error))?;
    let below = kernel
        .foundation_of_device(number)
        .map_err(|error| unknown(&error))?;
    for reading in readings(read) {
        let foundation = match reading.subject {
            Subject::File(file) if below.contains(file) => return Err(reading.same(SameAs::LoopOver)),
            Subject::File(_) => kernel
                .foundation_of_filesystem(reading.path)
                .map_err(|error| unknown(&error))?,
            // A partition is part of its disk, and the other way round.
            Subject::Device(device) if below.includes(device) => return Err(reading.same(SameAs::Device)),
            Subject::Device(device) => kernel
                .foundation_of_device(device)
                .map_err(|error| unknown(&error))?,
        };
        if foundation.stands_on(&layers) {
            return Err(match reading.subject {
                Subject::Device(_) => reading.same(SameAs::Device),
                Subject::File(_) => Invalid::TargetHoldsSource {
                    read: reading.path.to_owned(),
                }
                .into(),
            });
        }
    }
    Ok(())
}

/// Refuses to replace a file that is read, or that stands behind a device: what shows it would go on with the old
/// one.
pub(super) fn refuse_file(file: FileId, read: &[PathBuf]) -> Result<()> {
    let kernel = Kernel::running();
    for reading in readings(read) {
        match reading.subject {
            Subject::File(id) if id == file => return Err(reading.same(SameAs::File)),
            Subject::File(_) => {}
            Subject::Device(device) => {
                if kernel
                    .foundation_of_device(device)
                    .map_err(|error| unknown(&error))?
                    .contains(file)
                {
                    return Err(reading.same(SameAs::BehindLoop));
                }
            }
        }
    }
    let users = kernel.users(Subject::File(file));
    if let Some(user) = users.anybody() {
        return Err(Invalid::TargetInUse(user).into());
    }
    if let Some(layer) = users.layers().all.first() {
        let name = layer.name.clone();
        return Err(Invalid::TargetBehindLoop { name }.into());
    }
    Ok(())
}

/// Refuses to write into a filesystem that stands on a device which is read.
pub(super) fn refuse_directory(directory: &Path, read: &[PathBuf]) -> Result<()> {
    let kernel = Kernel::running();
    for reading in readings(read) {
        let Subject::Device(_) = reading.subject else {
            continue;
        };
        let layers = kernel.layers(reading.subject).map_err(|error| unknown(&error))?;
        if kernel
            .foundation_of_filesystem(directory)
            .map_err(|error| unknown(&error))?
            .stands_on(&layers)
        {
            return Err(Invalid::TargetOnSource.into());
        }
    }
    Ok(())
}

/// An image must be neither the source nor written to what is being read. `place` is in the filesystem that takes
/// it.
pub(super) fn refuse_own_source(source: Subject, image: Option<FileId>, place: &Path) -> Result<()> {
    let kernel = Kernel::running();
    if let Some(file) = image {
        if source == Subject::File(file) {
            return Err(Invalid::TargetIsSource(SameAs::File).into());
        }
        if let Subject::Device(number) = source
            && kernel
                .foundation_of_device(number)
                .map_err(|error| unknown(&error))?
                .contains(file)
        {
            return Err(Invalid::TargetIsSource(SameAs::BehindLoop).into());
        }
    }
    let layers = kernel.layers(source).map_err(|error| unknown(&error))?;
    // A file that no loop device has is no part of any device.
    let is_on_source = !layers.all.is_empty()
        && kernel
            .foundation_of_filesystem(place)
            .map_err(|error| unknown(&error))?
            .stands_on(&layers);
    if is_on_source {
        Err(Invalid::TargetOnSource.into())
    } else {
        Ok(())
    }
}

/// Refuses to replace what a virtual machine has: it would go on with the old file, which nobody sees any more.
pub(super) fn refuse_guest(file: FileId) -> Result<()> {
    let users = Kernel::running().users(Subject::File(file));
    match users.guest().or_else(|| users.unknown()) {
        Some(guest) => Err(Invalid::TargetInUse(guest).into()),
        None => Ok(()),
    }
}

/// What cannot be found out of a target keeps it from being written, as any use of it does.
fn unknown(error: &io::Error) -> Error {
    let why = error.to_string();
    Invalid::TargetInUse(InUse::Unknown { why }).into()
}

/// The same result; but with `force`, what cannot be found out is no refusal, and is kept in `unknown`.
pub(super) fn forced(result: Result<()>, force: bool, unknown: &mut Option<InUse>) -> Result<()> {
    match result {
        Err(Error::Invalid(Invalid::TargetInUse(in_use @ InUse::Unknown { .. }))) if force => {
            unknown.get_or_insert(in_use);
            Ok(())
        }
        result => result,
    }
}
