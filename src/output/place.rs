//! What a user names.

use std::path::{Path, PathBuf};

/// What names a target.
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
