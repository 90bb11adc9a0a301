//! Where an image goes: a file or standard output, validated before anything is opened for writing.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use super::conflict::{forced, unknown};
use super::{Memory, Place, Target, ground, stdout};
use crate::devices::{FileId, Kernel, Subject, own_path};
use crate::error::{Action, Error, InUse, Invalid, Result, SameAs};

/// A place where an image can be put.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum Outlet {
    /// A file, which will be replaced in one step.
    File(Target),
    /// A stream.
    Stdout,
}

/// What is not to be overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Leave alone what exists.
    pub no_clobber: bool,
    /// Go on if it cannot be found out whether it is in use, or lies on a source.
    pub force: bool,
}

/// A place that was found good.
#[derive(Debug)]
pub struct Resolved {
    /// Where it is.
    pub outlet: Outlet,
    /// With [force](Rules::force): why it may be in use, or lie on a source, after all.
    pub unknown: Option<InUse>,
}

impl Outlet {
    /// Finds out what is there, and refuses what must not be overwritten while `sources` are read. Changes nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is no place for an image, is the source, or lies on it; or, unless forced, if that
    ///   cannot be found out.
    /// - [`Error::Io`] if the system refuses to let it be written to.
    pub fn resolve(place: &Place, rules: Rules, sources: &[Subject]) -> Result<Resolved> {
        let mut unknown = None;
        let path = match place {
            Place::Stdout => {
                let outlet = for_stream(rules, sources, &mut unknown)?;
                return Ok(Resolved { outlet, unknown });
            }
            Place::Path(path) => path,
        };
        let target = Target::resolve(path, rules.no_clobber)?;
        ground::examine(target.directory())?;
        for source in sources {
            let refused = refuse_own_source(*source, target.file_id(), target.directory());
            forced(refused, rules.force, &mut unknown)?;
        }
        if let Some(file) = target.file_id() {
            forced(refuse_guest(file), rules.force, &mut unknown)?;
            ground::refuse_append_only(target.directory())?;
        }
        let outlet = Self::File(target);
        Ok(Resolved { outlet, unknown })
    }

    /// Whether what was written cannot be written again.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// The filesystem that takes the image, if it is in memory.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if a file there would be among the devices by now.
    /// - [`Error::Io`] if the system refuses to tell.
    pub fn memory(&self) -> Result<Option<Memory>> {
        match self {
            Self::File(target) => ground::examine(target.directory()),
            Self::Stdout => stdout::memory(&io::stdout()),
        }
    }

    /// The room in bytes that there is for the image, if that can be told.
    pub fn free_space(&self) -> Option<u64> {
        match self {
            Self::File(target) => target.free_space(),
            Self::Stdout => None,
        }
    }
}

/// Refuses to replace what a virtual machine has: it would go on with the old file, which nobody sees any more.
fn refuse_guest(file: FileId) -> Result<()> {
    let users = Kernel::running().users(Subject::File(file));
    match users.guest().or_else(|| users.unknown()) {
        Some(guest) => Err(Invalid::TargetInUse(guest).into()),
        None => Ok(()),
    }
}

fn for_stream(rules: Rules, sources: &[Subject], unknown: &mut Option<InUse>) -> Result<Outlet> {
    let file = |source: &Subject| match source {
        Subject::File(file) => Some(*file),
        Subject::Device(_) => None,
    };
    let read: Vec<_> = sources.iter().filter_map(file).collect();
    if let Some(file) = stdout::refuse(&io::stdout(), &read)? {
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| Error::target_io(Action::Examine, error))?;
        for source in sources {
            let refused = refuse_own_source(*source, Some(FileId::of(&metadata)), &own_path(&file));
            forced(refused, rules.force, unknown)?;
        }
        let before = begins_at(&file, &metadata).map_err(|error| Error::target_io(Action::Examine, error))?;
        if before > 0 {
            return Err(Invalid::StdoutInMiddle { before }.into());
        }
    }
    Ok(Outlet::Stdout)
}

/// Where the first byte will go that is written to a file.
fn begins_at(file: &File, metadata: &Metadata) -> io::Result<u64> {
    if rustix::fs::fcntl_getfl(file)?.contains(OFlags::APPEND) {
        Ok(metadata.len())
    } else {
        Ok(rustix::fs::tell(file)?)
    }
}

/// An image must be neither the source nor written to what is being read. `place` is in the filesystem that takes
/// it.
fn refuse_own_source(source: Subject, image: Option<FileId>, place: &Path) -> Result<()> {
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
