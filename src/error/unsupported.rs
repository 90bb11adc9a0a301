//! Requests and data that this program, or QEMU, does not support.

use std::fmt;

/// A request or data that this program, or QEMU, does not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The image would pass a limit of QEMU.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// An image with a header field that this reader does not support.
    #[error("{field} is {found}, which is not supported")]
    Header {
        /// The field that says so.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// The content is encrypted.
    #[error("is encrypted with {0}, which is not supported yet")]
    Encrypted(&'static str),
    /// Features without which the image must not be read.
    #[error("needs features that this version of mkqcow2 does not know: {0}")]
    Features(Features),
    /// A backing file in another format.
    #[error("has a backing file in the format {0:?}, which is not supported")]
    BackingFormat(String),
    /// A backing file or data file that is not in the filesystem.
    #[error("needs {0:?}, which is not a plain file name")]
    Protocol(String),
}

/// Incompatible feature bits, with their names where the image tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(pub Vec<(u32, Option<String>)>);

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (bit, name)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            match name {
                Some(name) => write!(f, "{comma}{name:?} (bit {bit})")?,
                None => write!(f, "{comma}bit {bit}")?,
            }
        }
        Ok(())
    }
}

/// A disk for which an image would pass a limit of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{size} bytes are too many for clusters of {cluster_size} bytes: {what} would be {found} bytes, at most \
     {limit} are allowed{}", smallest_that_serves(*.smallest)
)]
pub struct TooLarge {
    /// Of the virtual disk, in bytes.
    pub size: u64,
    /// The cluster size asked for, in bytes.
    pub cluster_size: u64,
    /// The structure that would grow too large.
    pub what: &'static str,
    /// How large, in bytes.
    pub found: u64,
    /// The limit of QEMU, in bytes.
    pub limit: u64,
    /// The smallest cluster size in bytes with which it fits, if there is one.
    pub smallest: Option<u64>,
}

fn smallest_that_serves(smallest: Option<u64>) -> String {
    smallest.map_or_else(
        || " (no cluster size is large enough)".to_owned(),
        |bytes| format!(" (the smallest cluster size that works is {bytes})"),
    )
}
