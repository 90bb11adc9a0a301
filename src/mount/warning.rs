//! What to know about a disk before it is read.

use std::path::PathBuf;

use crate::error::Error;
use crate::formats::Remark;
use crate::volumes::Flaw;

/// A warning about a disk that is mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// An image says something about itself.
    #[error("{}{remark}", path.as_ref().map_or_else(String::new, |path| format!("its backing file {} ", path.display())))]
    Image {
        /// The backing file, if it is not the image that was named.
        path: Option<PathBuf>,
        /// What it says.
        remark: Remark,
    },
    /// The checksum table describes an earlier state.
    #[error("was changed since it was made: its checksums are out of date and are not compared")]
    Changed,
    /// The record of the source cannot be used.
    #[error("its record of the source is damaged, including the list of unreadable sectors: {0}")]
    NoRecord(Error),
    /// Parts of the disk could not be read when the image was made.
    #[error("{bytes} bytes of the disk could not be read when the image was made, and are zeros")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// Something is wrong with the partition table.
    #[error("{0}")]
    Table(Flaw),
    /// The volumes of the disk could not be looked for.
    #[error("only disk.raw is shown, the disk could not be searched for partitions: {0}")]
    NoVolumes(Error),
}
