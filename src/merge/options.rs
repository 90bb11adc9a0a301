//! How images are to be merged.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::output::Cleanup;

/// How images are merged.
#[derive(Clone, Debug)]
pub struct Options {
    /// The image that the merged one is to stand on; none for a full image.
    pub onto: Option<PathBuf>,
    /// Whether to bring the image to stable storage before it gets its name.
    pub sync: bool,
    /// How many workers read, compare and compress. If not given, one for each processor, at most 8.
    pub threads: Option<NonZeroUsize>,
    /// What a program that is told to die must remove first.
    pub cleanup: Cleanup,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            onto: None,
            sync: true,
            threads: None,
            cleanup: Cleanup::default(),
        }
    }
}
