//! How an image is verified.

use std::num::NonZeroUsize;

use crate::formats::Format;

/// How it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the image is; if not given, what it begins like.
    pub format: Option<Format>,
    /// How many workers there are; one a processor, at most 8, if not given.
    pub threads: Option<NonZeroUsize>,
}
