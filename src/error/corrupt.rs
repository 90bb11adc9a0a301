//! Contradictions in what was read.

use std::fmt;
use std::ops::Range;

use crate::units::HostOffset;

/// A contradiction in what was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The source ended before its own size.
    #[error("the data ends at {end:#x}, expected {expected:#x}: the source shrank while it was read")]
    Shrank {
        /// Where reading came to an end, in bytes.
        end: u64,
        /// Its size when it was opened, in bytes.
        expected: u64,
    },
    /// An image that comes through a pipe ends before its own end.
    #[error("ends after {end} bytes, expected at least {expected}: it was cut off")]
    Ended {
        /// How many bytes came.
        end: u64,
        /// How many there must be at least.
        expected: u64,
    },
    /// The source changed between two readings of it.
    #[error("the source changed during the two passes, which must read the same data")]
    Changed,
    /// A device stopped existing.
    #[error("the device disappeared while it was read, at {at:#x}")]
    Disappeared {
        /// Offset of the failed read.
        at: u64,
    },
    /// Bad sectors in more places than can be listed.
    #[error("unreadable in more than {limit} places, the last at {at:#x}: giving up")]
    TooManyUnreadable {
        /// How many ranges are listed at most.
        limit: usize,
        /// The first range that is not.
        at: u64,
    },
    /// A structure of an image ends before it should.
    #[error("{structure} at {at:#x} does not fit: it needs {expected} bytes, {found} are there", at = at.0)]
    Truncated {
        /// Its name.
        structure: &'static str,
        /// Where it begins.
        at: HostOffset,
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// A field has an invalid value.
    #[error("{structure} at {at:#x}: {field} is {found:#x}, expected {expected}", at = at.0)]
    Field {
        /// The structure that holds the field.
        structure: &'static str,
        /// Where the structure begins.
        at: HostOffset,
        /// The name that the specification gives it.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would have been right.
        expected: Expected,
    },
    /// An entry of a table has an invalid value.
    #[error("{table} at {at:#x}: entry {index} is {found:#x}, expected {expected}{lost}", at = at.0)]
    Entry {
        /// The table that holds the entry.
        table: &'static str,
        /// Where the table begins.
        at: HostOffset,
        /// Number of the entry.
        index: u64,
        /// Its value.
        found: u64,
        /// What would have been right.
        expected: Expected,
        /// The range of the disk that cannot be read because of it.
        lost: Lost,
    },
    /// A table or cluster lies at least partly past the end of the file.
    #[error("{what} at {at:#x} is cut off by the end of the file, {end:#x}{lost}", at = at.0)]
    CutOff {
        /// Its name.
        what: &'static str,
        /// Where it begins.
        at: HostOffset,
        /// Length of the file in bytes.
        end: u64,
        /// The range of the disk that cannot be read because of it.
        lost: Lost,
    },
    /// A compressed cluster cannot be decompressed.
    #[error("compressed cluster at {at:#x}: {fault}{lost}", at = at.0)]
    Stream {
        /// Where the stream begins.
        at: HostOffset,
        /// What is wrong with it.
        fault: StreamFault,
        /// The range of the disk that cannot be read because of it.
        lost: Lost,
    },
    /// Two tables or clusters lie in one place.
    #[error("{what} at {at:#x}{lost} overlaps the {other} at {other_at:#x}{other_lost}",
        at = at.0, other_at = other_at.0)]
    Overlap {
        /// The name of the first.
        what: &'static str,
        /// Where it begins.
        at: HostOffset,
        /// The range of the disk in it.
        lost: Lost,
        /// The name of the second.
        other: &'static str,
        /// Where that begins.
        other_at: HostOffset,
        /// The range of the disk in that.
        other_lost: Lost,
    },
    /// The tables of an image that was not closed properly are damaged.
    #[error("was not closed properly, and its tables are damaged: {0}")]
    NotClosed(Box<Corrupt>),
    /// Something of an image is not what it was, and the image cannot tell whether a program changed it.
    #[error("was changed since it was made, or is damaged: {0}")]
    PerhapsChanged(Box<Corrupt>),
    /// A cluster does not have the checksum that it was written with.
    #[error("CRC-32 is {found:#010x}, expected {expected:#010x}{lost}")]
    Checksum {
        /// Of what is there.
        found: u32,
        /// That was stored.
        expected: u32,
        /// The cluster.
        lost: Lost,
    },
    /// A cluster has the checksum that it was written with, but not the digest.
    #[error("has another BLAKE3 digest than the one recorded, although its CRC-32 is right{lost}")]
    Digest {
        /// The cluster.
        lost: Lost,
    },
    /// A cluster is listed in the checksum table, but the tables of the image do not have it.
    #[error("the tables have lost a cluster that the checksum table lists{lost}")]
    LostCluster {
        /// The cluster.
        lost: Lost,
    },
    /// All clusters are what they were, but the disk is not.
    #[error(
        "the disk has another BLAKE3 digest than the one recorded: tables have lost clusters or have them twice"
    )]
    DiskDigest,
}

impl Corrupt {
    /// The place in the file; none if the error is not about a place in an image.
    pub fn at(&self) -> Option<HostOffset> {
        match self {
            Self::Truncated { at, .. }
            | Self::Field { at, .. }
            | Self::Entry { at, .. }
            | Self::CutOff { at, .. }
            | Self::Stream { at, .. }
            | Self::Overlap { at, .. } => Some(*at),
            Self::NotClosed(fault) | Self::PerhapsChanged(fault) => fault.at(),
            Self::Shrank { .. }
            | Self::Ended { .. }
            | Self::Changed
            | Self::Disappeared { .. }
            | Self::TooManyUnreadable { .. }
            | Self::Checksum { .. }
            | Self::Digest { .. }
            | Self::LostCluster { .. }
            | Self::DiskDigest => None,
        }
    }

    /// The range of the virtual disk that becomes unreadable, in bytes, if known.
    pub fn lost(&self) -> Option<Range<u64>> {
        match self {
            Self::Entry { lost, .. }
            | Self::CutOff { lost, .. }
            | Self::Stream { lost, .. }
            | Self::Overlap { lost, .. }
            | Self::Checksum { lost, .. }
            | Self::Digest { lost }
            | Self::LostCluster { lost } => lost.0.clone(),
            Self::NotClosed(fault) | Self::PerhapsChanged(fault) => fault.lost(),
            Self::Shrank { .. }
            | Self::Ended { .. }
            | Self::Changed
            | Self::Disappeared { .. }
            | Self::TooManyUnreadable { .. }
            | Self::Truncated { .. }
            | Self::Field { .. }
            | Self::DiskDigest => None,
        }
    }
}

/// The range of the virtual disk that an error makes unreadable, in bytes; none if unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost(pub Option<Range<u64>>);

impl From<Range<u64>> for Lost {
    fn from(range: Range<u64>) -> Self {
        Self(Some(range))
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(range) => write!(f, " (guest {:#x} to {:#x})", range.start, range.end),
            None => Ok(()),
        }
    }
}

/// What is wrong with a compressed cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The bytes are not a stream, or the stream is damaged.
    #[error("the stream is damaged")]
    Damaged,
    /// It ends too soon.
    #[error("the stream holds {found} bytes, expected {expected}")]
    TooShort {
        /// Bytes that came out.
        found: u64,
        /// The cluster size.
        expected: u64,
    },
    /// It wants more memory than QEMU gives.
    #[error("the stream wants a window of more than {limit} bytes")]
    Window {
        /// QEMU's limit.
        limit: u64,
    },
    /// It does not end.
    #[error("the stream holds more than {expected} bytes")]
    TooLong {
        /// The cluster size.
        expected: u64,
    },
}

/// What a field should have held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Expected {
    /// One value.
    #[error("{0:#x}")]
    Exactly(u64),
    /// A value no larger.
    #[error("at most {0:#x}")]
    AtMost(u64),
    /// A value no smaller.
    #[error("at least {0:#x}")]
    AtLeast(u64),
    /// A value between two, or one of them.
    #[error("{0:#x} to {1:#x}")]
    Between(u64, u64),
    /// A power of two between two, or one of them.
    #[error("a power of two, {0:#x} to {1:#x}")]
    PowerOfTwo(u64, u64),
    /// A multiple.
    #[error("a multiple of {0:#x}")]
    MultipleOf(u64),
    /// Bits that have no meaning.
    #[error("reserved bits {0:#x} to be clear")]
    Clear(u64),
    /// A place in the file that exists.
    #[error("an offset within the file, which has {0:#x} bytes")]
    WithinFile(u64),
    /// A place that belongs to nothing else.
    #[error("an offset outside the {0}")]
    Outside(&'static str),
    /// The value in the footer of the image.
    #[error("{0:#x}, as in the footer of the image")]
    AsFooter(u64),
    /// A value that needs words.
    #[error("{0}")]
    That(&'static str),
}
