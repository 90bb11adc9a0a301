//! The formats of images. A new one is a line here, and a file or folder that opens it.

use std::path::Path;
use std::sync::Arc;

use super::format::Format;
use super::legacy::LegacyImage;
use super::legacy::two_level::Tables;
use super::opening::{Opened, Opening};
use super::qcow2::{self, Image};
use super::{HostFile, qcow1, qed};
use crate::error::{Invalid, Result, Unsupported};
use crate::signatures::{self, Mark};
use crate::units::{HostOffset, to_usize};

/// A format of images.
#[derive(Debug)]
struct Known {
    format: Format,
    open: fn(HostFile, &Opening<'_>) -> Result<Opened>,
}

/// All of them.
const KNOWN: [Known; 3] = [
    Known {
        format: Format::Qcow,
        open: qcow1::open,
    },
    Known {
        format: Format::Qcow2,
        open: qcow2::open,
    },
    Known {
        format: Format::Qed,
        open: qed::open,
    },
];

/// What a disk is, too, that is encrypted as a whole.
pub(crate) const LUKS: &str = "luks";

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
    /// - Those of [`Format::of`] and [`Image::open`]. What does not begin like any image is held to be a damaged qcow2.
    /// - [`Error::Invalid`](crate::Error::Invalid) if it is raw.
    pub fn open(path: &Path, given: Option<Format>) -> Result<Self> {
        let tables = Tables {
            number: 0,
            windows: Arc::default(),
        };
        let image = match Format::of_image(path, given)? {
            Format::Raw => return Err(Invalid::NoImage.into()),
            Format::Qcow2 => return Ok(Self::Qcow2(Box::new(Image::open(path)?))),
            Format::Qcow => qcow1::read(HostFile::open(path)?, tables)?,
            Format::Qed => qed::read(HostFile::open(path)?, tables)?,
        };
        Ok(Self::Legacy(Box::new(image)))
    }
}

/// What a file begins like. A raw disk may begin like anything, if whoever writes to it wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    /// An image that can be read, or nothing that is known.
    Like(Format),
    /// One in a format of that name, which is not read here.
    Foreign(&'static str),
}

impl Looks {
    /// Of a file.
    ///
    /// # Errors
    ///
    /// Those of [`Format::of`].
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut bytes = [0; 512];
        let read = HostFile::open(path)?.read(&mut bytes, HostOffset(0))?;
        let begin = bytes.get(..read).unwrap_or_default();
        let has = |mark: &Mark| match mark {
            Mark::At(at, magic) => begin
                .get(to_usize(*at)..)
                .is_some_and(|begin| begin.starts_with(magic)),
            Mark::Back(..) => false,
        };
        if has(&signatures::LUKS) {
            return Ok(Self::Foreign(LUKS));
        }
        let image = signatures::IMAGES
            .iter()
            .find(|image| image.signature.marks.iter().any(has));
        Ok(match image {
            None => Self::Like(Format::Raw),
            Some(image) => Format::named(image.driver).map_or(Self::Foreign(image.driver), Self::Like),
        })
    }
}

impl Format {
    /// The format that was given, or else the one whose magic the file begins with. A raw disk may begin with any, if
    /// whoever writes to it wants that.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`](crate::Error::Invalid) if it is neither a regular file nor a block device.
    /// - [`Error::Io`](crate::Error::Io) if it cannot be read.
    pub fn of(path: &Path, given: Option<Self>) -> Result<Self> {
        match given {
            Some(given) => Ok(given),
            None => Ok(match Looks::of(path)? {
                Looks::Like(format) => format,
                Looks::Foreign(_) => Self::Raw,
            }),
        }
    }

    /// The same of a backing file. One of a format that is not known here must not pass for raw.
    pub(super) fn of_backing(path: &Path) -> Result<Self> {
        match Looks::of(path)? {
            Looks::Like(format) => Ok(format),
            Looks::Foreign(name) => Err(Unsupported::BackingFormat(name.to_owned()).into()),
        }
    }

    /// The same of what must be an image: one that begins like none is held to be a damaged qcow2.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_image(path: &Path, given: Option<Self>) -> Result<Self> {
        let format = Self::of(path, given)?;
        Ok(if given.is_none() && format == Self::Raw {
            Self::Qcow2
        } else {
            format
        })
    }

    /// Opens an image of this format.
    ///
    /// # Errors
    ///
    /// Those of the format; [`Error::Invalid`](crate::Error::Invalid) if it is raw.
    pub(super) fn open(self, file: HostFile, opening: &Opening<'_>) -> Result<Opened> {
        let known = self.known().ok_or(Invalid::NoImage)?;
        (known.open)(file, opening)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.format == self)
    }
}
