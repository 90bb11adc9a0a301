//! The images that an incremental one stands on, one by one.

use std::path::PathBuf;

use super::beside::{is_beside, missing, resolved};
use super::open::MAX_DEPTH;
use super::qcow2::Image;
use super::qcow2::structures::identity::BaseIdentity;
use crate::error::{Error, Invalid, Result, Role};

/// The images that an image records to stand on, the nearest first.
#[derive(Debug, Default)]
pub struct Bases {
    /// Those that could be opened and are what is recorded, with their paths.
    pub images: Vec<(PathBuf, Image)>,
    /// Why there are no more, although the last one records that it stands on another; with the path of that.
    pub fault: Option<Error>,
    /// Whether the last one stands on another, which is not at its side and may not be opened.
    pub is_elsewhere: bool,
}

/// The next one, as the image that stands on it records it.
struct Next {
    path: PathBuf,
    expected: BaseIdentity,
}

impl Bases {
    /// Opens all of them. Those that are not in the directory of the image that stands on them are opened only if names
    /// are to be followed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if what the image itself records cannot be read.
    pub fn of(image: &Image, follow: bool) -> Result<Self> {
        let mut bases = Self::default();
        let Some(mut next) = bases.next(image, follow)? else {
            return Ok(bases);
        };
        loop {
            match bases.step(image, &next, follow) {
                Ok(Some(behind)) => next = behind,
                Ok(None) => return Ok(bases),
                Err(error) => {
                    bases.fault = Some(error.elsewhere(&next.path));
                    return Ok(bases);
                }
            }
        }
    }

    /// Opens the next one, and tells where the one behind it is.
    fn step(&mut self, first: &Image, at: &Next, follow: bool) -> Result<Option<Next>> {
        if self.images.len() >= MAX_DEPTH {
            return Err(Invalid::ChainTooLong { limit: MAX_DEPTH }.into());
        }
        let above = self.images.last().map_or(first, |(_, image)| image);
        let is_first = self.images.is_empty();
        let image = Image::open(&at.path)
            .map_err(|error| missing(error, Role::Backing, above.file().path(), is_first))?;
        let is_it = |other: &Image| other.file().id() == image.file().id();
        if is_it(first) || self.images.iter().any(|(_, other)| is_it(other)) {
            return Err(Invalid::ChainLoop.into());
        }
        image.hold_to(&at.expected)?;
        let behind = self.next(&image, follow)?;
        self.images.push((at.path.clone(), image));
        Ok(behind)
    }

    /// Where the image is that another one stands on.
    fn next(&mut self, image: &Image, follow: bool) -> Result<Option<Next>> {
        let (Some(expected), Some(name)) = (image.promised()?, image.backing_name()) else {
            return Ok(None);
        };
        self.is_elsewhere = !follow && !is_beside(name);
        if self.is_elsewhere {
            return Ok(None);
        }
        let path = resolved(image.file().path(), name)?;
        Ok(Some(Next { path, expected }))
    }
}
