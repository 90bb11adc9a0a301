//! The formats of images. A new one is a line here, and a file or folder that opens it.

use std::path::Path;
use std::sync::Arc;

use super::format::Format;
use super::legacy::LegacyImage;
use super::legacy::two_level::Tables;
use super::opening::{Member, Opened, Overlap};
use super::qcow2::structures::header;
use super::qcow2::{self, Image};
use super::{HostFile, qcow1, qed};
use crate::disk::Found;
use crate::error::{Invalid, Result, Unsupported};
use crate::signatures::{self, Mark};

/// An image that was opened, and what else there is to know of it, if it is qcow2.
type AnyOpened = (Opened, Option<Arc<Image>>);

/// A format of images.
#[derive(Debug)]
struct Known {
    format: Format,
    open: fn(HostFile, &Member<'_>) -> Result<AnyOpened>,
}

/// All of them.
const KNOWN: [Known; 3] = [
    Known {
        format: Format::Qcow,
        open: |file, member| Ok((qcow1::open(file, member)?, None)),
    },
    Known {
        format: Format::Qcow2,
        open: |file, member| {
            let (opened, image) = qcow2::open(file, member)?;
            Ok((opened, Some(image)))
        },
    },
    Known {
        format: Format::Qed,
        open: |file, member| Ok((qed::open(file, member)?, None)),
    },
];

/// What a disk is, too, that is encrypted as a whole.
pub(super) const LUKS: &str = "luks";

/// An image by itself: no other file is opened.
#[derive(Debug)]
pub enum Single {
    /// Of qcow2.
    Qcow2(Box<Image>),
    /// Of an older format.
    Legacy(Box<LegacyImage>),
}

impl Single {
    /// Opens an image of the format that was given, or that it seems to have.
    ///
    /// # Errors
    ///
    /// - Those of [`Image::open`].
    /// - [`Error::Invalid`](crate::Error::Invalid) if it is raw, or begins like no image that can be read.
    pub fn open(path: &Path, given: Option<Format>) -> Result<Self> {
        let tables = Tables {
            number: 0,
            windows: Arc::default(),
        };
        let mut found = Found::at(path)?;
        let format = match given {
            Some(given) => given,
            None => Looks::image_at(found.beginning()?)?,
        };
        let open = || HostFile::of(found);
        let image = match format {
            Format::Raw => return Err(Invalid::NoImage.into()),
            Format::Qcow2 => {
                let image = Image::of_file(open()?, 0, tables.windows, Overlap::Refused)?;
                return Ok(Self::Qcow2(Box::new(image)));
            }
            Format::Qcow => qcow1::read(open()?, tables)?,
            Format::Qed => qed::read(open()?, tables)?,
        };
        Ok(Self::Legacy(Box::new(image)))
    }
}

/// Whether a file or device begins like an image that can be read. What cannot be looked at does not.
pub fn is_image(path: &Path) -> bool {
    let looks = |found: &mut Found| found.beginning().map(Looks::at);
    Found::at(path)
        .and_then(|mut found| looks(&mut found))
        .is_ok_and(|looks| looks.as_disk() != Format::Raw)
}

/// What a file begins like. A raw disk may begin like anything, if whoever writes to it wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// An image that can be read, or nothing that is known.
    Like(Format),
    /// One in a format of that name, which is not read here.
    Foreign(&'static str),
}

impl Looks {
    /// What begins with these bytes: 512, if there are so many.
    pub(super) fn at(begin: &[u8]) -> Self {
        let has = |mark: &Mark| mark.is_in(begin);
        if has(&signatures::LUKS) {
            return Self::Foreign(LUKS);
        }
        let image = signatures::IMAGES
            .iter()
            .find(|image| image.signature.marks.iter().any(has));
        match image {
            None => Self::Like(Format::Raw),
            Some(image) => Format::named(image.driver).map_or(Self::Foreign(image.driver), Self::Like),
        }
    }

    /// What it is, if it may be anything. Of a format that is not read here, raw.
    pub(super) fn as_disk(self) -> Format {
        match self {
            Self::Like(format) => format,
            Self::Foreign(_) => Format::Raw,
        }
    }

    /// What begins with these bytes, if it must be an image. A qcow2 image whose magic alone is damaged is one.
    pub(super) fn image_at(begin: &[u8]) -> Result<Format, Invalid> {
        match Self::at(begin) {
            Self::Like(Format::Raw) if header::fits_but_for_magic(begin) => Ok(Format::Qcow2),
            Self::Like(Format::Raw) => Err(Invalid::NotAnImage),
            Self::Like(format) => Ok(format),
            Self::Foreign(name) => Err(Invalid::ForeignImage(name)),
        }
    }

    /// What it is, if it is a backing file. One of a format that is not read here must not pass for raw.
    pub(super) fn as_backing(self) -> Result<Format, Unsupported> {
        match self {
            Self::Like(format) => Ok(format),
            Self::Foreign(name) => Err(Unsupported::BackingFormat(name.to_owned())),
        }
    }
}

/// The format of the image that begins with these bytes, which are at least its magic number; none if no image does.
pub(crate) fn image_format(begin: &[u8]) -> Option<&'static str> {
    match Looks::at(begin) {
        Looks::Like(Format::Raw) | Looks::Foreign(LUKS) => None,
        Looks::Like(format) => Some(format.name()),
        Looks::Foreign(name) => Some(name),
    }
}

impl Format {
    /// Opens an image of this format.
    ///
    /// # Errors
    ///
    /// Those of the format; [`Error::Invalid`](crate::Error::Invalid) if it is raw.
    pub(super) fn open(self, file: HostFile, member: &Member<'_>) -> Result<AnyOpened> {
        let known = KNOWN.iter().find(|known| known.format == self);
        (known.ok_or(Invalid::NoImage)?.open)(file, member)
    }
}
