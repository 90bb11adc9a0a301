//! What can be asked of a comparison.

use std::num::NonZeroUsize;

use crate::formats::{Access, Format};
use crate::volumes::Wanted;

/// What is said of one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What it is; an image if it begins like one, or else raw, if that is not given.
    pub format: Option<Format>,
    /// If it is an image: what of it is read, and which other files may be opened for that.
    pub access: Access,
    /// Which bytes of it are compared. The first of them is the first byte of the comparison.
    pub wanted: Wanted,
}

/// How two disks are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is said of the first.
    pub a: Said,
    /// What is said of the second.
    pub b: Said,
    /// Whether disks of different sizes differ even if all that one of them has more is zeros. Sizes count in
    /// sectors of 512 bytes.
    pub strict: bool,
    /// Whether what is [free](crate::volumes) of a raw file or device counts as zeros, as in an image of it.
    pub used: bool,
    /// Whether to compare a raw file or device that is in use.
    pub force: bool,
    /// How many workers read and compare; as many as there are processors if not given, and at most 8.
    pub threads: Option<NonZeroUsize>,
}
