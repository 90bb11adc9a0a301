//! How a disk is mounted.

use std::num::NonZeroUsize;

use crate::formats::{Access, Format};

/// How a disk is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the image is; if not given, what it begins like.
    pub format: Option<Format>,
    /// Which state of the disk to show, and which other files to open.
    pub access: Access,
    /// Whether the files can be written to: the image is not changed, and what is written is forgotten at the end.
    pub copy_on_write: bool,
    /// How many threads answer the kernel; if not given, one for each processor, at most 8.
    pub threads: Option<NonZeroUsize>,
}
