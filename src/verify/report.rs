//! What came of it.

use std::ops::Range;
use std::time::Duration;

use super::findings::Findings;
use crate::error::Role;
use crate::formats::Remark;
use crate::formats::qcow2::Freshness;

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// The size of the disk in bytes.
    pub size: u64,
    /// How many bytes of clusters were read from the image.
    pub read: u64,
    /// How many compressed clusters were decompressed.
    pub streams: u64,
    /// How many clusters were compared with their checksums; none if the image has no checksums, or they are
    /// damaged.
    pub compared: Option<u64>,
    /// Whether differences can be changes.
    pub freshness: Freshness,
    /// Whether another program changed the size of the disk since, so that the checksums do not count.
    pub is_resized: bool,
    /// The files that hold the rest of the disk, and were not read.
    pub elsewhere: Vec<Role>,
    /// What the image says of itself.
    pub remarks: Vec<Remark>,
    /// How many clusters of the file are counted as used but are not, in an image that has no checksums.
    pub leaks: u64,
    /// What of the disk could not be read when the image was made, and is zeros in it: in bytes, ascending.
    pub unreadable: Vec<Range<u64>>,
    /// What is wrong.
    pub findings: Findings,
    /// How long it took.
    pub duration: Duration,
}
