//! What a user names as the image.

use std::path::{Path, PathBuf};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageAt {
    /// In a file or on a block device.
    Path(PathBuf),
    /// It comes through standard input. If that is a file, it is read like one.
    Stdin,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for ImageAt {
    fn from(path: &P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}
