//! Where the bytes of the disk come from: a raw file, a device, or an image of any format.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Options;
use crate::devices::{Subject, Unwritten};
use crate::disk::{self, Change, Disk, FileDisk, Open};
use crate::error::{Invalid, Result};
use crate::formats::{Access, Chain, DiskPart, Format, LUKS, Looks, Remark};
use crate::units::SECTOR;

/// What is read.
#[derive(Debug)]
pub(super) enum Origin {
    /// A file or device, byte by byte.
    Raw(Box<FileDisk>),
    /// The disk in an image.
    Image(Box<DiskPart>),
}

impl Origin {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is no disk, is in use (unless forced), or begins like an image and nobody said
    ///   whether it is one.
    /// - Those of [`disk::open`] and [`Chain::open_as`].
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        let (part, is_for_a_look) = (options.part, options.plan_only);
        let force = options.force || is_for_a_look;
        let format = match options.format {
            Some(format) => format,
            None => unless_image(path)?,
        };
        if format == Format::Raw {
            options.access.refuse_of_raw()?;
            let open = Open {
                part,
                force,
                is_for_a_look,
            };
            return Ok(Self::Raw(Box::new(disk::open(path, open)?)));
        }
        let access = Access {
            force,
            ..options.access.clone()
        };
        let mut disk = Chain::open_as(path, format, &access)?;
        if !is_for_a_look {
            disk.settle()?;
        }
        let writer = disk.in_use().map(|(_, writer)| writer.clone());
        Ok(Self::Image(Box::new(DiskPart::new(disk, part, writer)?)))
    }

    /// What can be read.
    pub(super) fn source(&self) -> &dyn Disk {
        match self {
            Self::Raw(source) => source.as_ref(),
            Self::Image(part) => part.as_ref(),
        }
    }

    /// What is read as a whole or for nothing: the largest compressed cluster there can be, in bytes. A power of two.
    pub(super) fn unit(&self) -> u64 {
        match self {
            Self::Raw(_) => SECTOR,
            Self::Image(part) => part.disk().cluster_size(),
        }
    }

    /// What an image records of the source it was made of: what of it could not be read, in bytes of what is read here,
    /// and the size of a sector in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the record of an image cannot be read.
    pub(super) fn recorded(&self) -> Result<(Vec<Range<u64>>, Option<u32>)> {
        match self {
            Self::Raw(_) => Ok((Vec::new(), None)),
            Self::Image(part) => part.recorded(),
        }
    }

    /// All files and devices that are read.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        match self {
            Self::Raw(source) => vec![source.subject()],
            Self::Image(part) => part.disk().subjects(),
        }
    }

    /// What others wrote to one of them earlier, and is not on the disk.
    pub(super) fn unwritten(&self) -> Option<&Unwritten> {
        match self {
            Self::Raw(source) => source.unwritten(),
            Self::Image(part) => part.disk().unwritten(),
        }
    }

    /// How one of them was seen to change since it was opened.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a raw file is smaller.
    /// - [`Error::Io`] if the system cannot tell.
    pub(super) fn change(&self) -> Result<Option<Change>> {
        match self {
            Self::Raw(source) => source.change(),
            Self::Image(part) => Ok(part.disk().change()?.map(|(_, change)| change)),
        }
    }

    /// Whether what is read was decrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            Self::Raw(_) => false,
            Self::Image(part) => part.disk().is_encrypted(),
        }
    }

    /// What images say of themselves that their reader should know, and the paths of those behind the first.
    pub(super) fn remarks(&self) -> Vec<(Remark, Option<PathBuf>)> {
        let Self::Image(part) = self else {
            return Vec::new();
        };
        let own = part.disk().paths().next();
        let remarks = part.disk().remarks();
        let named = remarks.map(|(path, remark)| (remark, (Some(path) != own).then(|| path.to_owned())));
        named.collect()
    }
}

/// Raw, unless a regular file begins like an image: a guest can write any first sector, and a backup of an image file
/// may well be wanted, so that neither can be guessed. What cannot be looked at is refused when it is opened.
fn unless_image(path: &Path) -> Result<Format, Invalid> {
    if !path.is_file() {
        return Ok(Format::Raw);
    }
    match Looks::of(path).unwrap_or(Looks::Like(Format::Raw)) {
        // A disk may well be encrypted.
        Looks::Like(Format::Raw) | Looks::Foreign(LUKS) => Ok(Format::Raw),
        Looks::Like(seen) => Err(Invalid::LooksLikeImage(seen.name())),
        Looks::Foreign(name) => Err(Invalid::LooksLikeImage(name)),
    }
}
