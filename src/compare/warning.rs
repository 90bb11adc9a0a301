//! What to know about a comparison.

use std::path::{Path, PathBuf};

use crate::devices::Unwritten;
use crate::disk::Change;
use crate::error::InUse;
use crate::formats::Remark;

/// A warning about a comparison.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// It was compared although it was in use.
    #[error("is {in_use}: comparing anyway; data not yet flushed will differ")]
    InUse {
        /// The file or device.
        path: PathBuf,
        /// By whom.
        in_use: InUse,
    },
    /// What others wrote to it earlier could not be brought to the disk.
    #[error("earlier writes to it could not be flushed ({unwritten}): the comparison proves nothing")]
    Unwritten {
        /// The file or device.
        path: PathBuf,
        /// Where it waits, and why.
        unwritten: Unwritten,
    },
    /// An image says something about itself.
    #[error("{remark}")]
    Remark {
        /// The image.
        path: PathBuf,
        /// What it says.
        remark: Remark,
    },
    /// It changed while it was read.
    #[error("changed while it was read ({change}): the comparison proves nothing")]
    Changed {
        /// The file or device.
        path: PathBuf,
        /// How.
        change: Change,
    },
}

impl Warning {
    /// The file or device that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::InUse { path, .. }
            | Self::Unwritten { path, .. }
            | Self::Remark { path, .. }
            | Self::Changed { path, .. } => path,
        }
    }
}
