//! What would be restored, what was restored, and what to know about it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::existing::Existing;
use crate::devices::Unwritten;
use crate::error::{Corrupt, Error, InUse, Side};
use crate::formats::Remark;
use crate::output::{Memory, Remains};
use crate::volumes::{Flaw, Outcome, Volume};

/// A warning about a disk that was restored.
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
    /// Whether a program may write to the image meanwhile could not be found out.
    #[error("{0}")]
    ImagePerhapsInUse(InUse),
    /// Who uses the target could not be found out.
    #[error("{0}")]
    TargetPerhapsInUse(InUse),
    /// The image was decrypted, and looks like nothing that is known.
    #[error("nothing is recognised in the decrypted data: is the password right?")]
    PerhapsNoise,
    /// The checksum table describes an earlier state.
    #[error("was changed since it was made: its checksums are out of date and were not compared")]
    Changed,
    /// The checksum table cannot be used.
    #[error("{}", not_compared(.0))]
    NoChecksums(Error),
    /// The record of the source cannot be used.
    #[error("its record of the source is damaged, including the list of unreadable sectors: {0}")]
    NoRecord(Error),
    /// Parts of the disk could not be read when the image was made.
    #[error("{bytes} bytes of the disk could not be read when the image was made, and are zeros")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// Parts of the disk are not what they were.
    #[error(
        "{bytes} bytes of the disk are damaged: in the target they are zeros if they could not be read, and wrong if they did not match their checksum"
    )]
    Bad {
        /// How many.
        bytes: u64,
    },
    /// Something is wrong with the partition table of the disk, which is restored as it is.
    #[error("{0}")]
    Table(Flaw),
    /// The same, and on the target, which is larger than the disk, no program finds the table.
    #[error("is larger than the disk: {0}")]
    TableOutOfReach(Flaw),
    /// The target is larger than the disk, so that the backup of the GPT is not at its end.
    #[error(
        "is larger than the disk: the backup GPT is not at its end, where programs look for it (--fit puts it there)"
    )]
    TableInside,
    /// The target is smaller than the disk, and the rest is not in use.
    #[error("is smaller: the last {bytes} bytes are left out, which are not in use")]
    Smaller {
        /// How many.
        bytes: u64,
    },
    /// The same, and something goes by its own size.
    #[error(
        "is smaller: the last {bytes} bytes are left out, which are free, but {what} reaches into them: no program \
         can use it there"
    )]
    CutOff {
        /// What reaches there.
        what: String,
        /// How many.
        bytes: u64,
    },
    /// The partition table of the disk counts in sectors of another size than those of the target.
    #[error(
        "has sectors of {found} bytes, and the partition table of the disk counts in sectors of {expected}: no \
         program finds its partitions there"
    )]
    SectorSize {
        /// That of the target.
        found: u64,
        /// That of the table.
        expected: u64,
    },
    /// Another program wrote to a file that was read.
    #[error("{} was written to while it was read: the restored disk may mix old and new data", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
    },
    /// What others wrote to the image earlier could not be brought to the disk.
    #[error("earlier writes to it could not be flushed, and may not have been read: {0}")]
    Unwritten(Unwritten),
    /// The target does not belong to the owner of the file it replaced.
    #[error("could not be given the owner of the file it replaced")]
    OwnerNotKept,
    /// The target lies in memory.
    #[error("is in memory ({0}), and gone at the next boot")]
    InMemory(Memory),
    /// The target is in place, but a file with a temporary name could not be removed.
    #[error("{path} {0}", path = .0.path().display())]
    Remains(Remains),
    /// Not all who could read or write the old one can do so with the new one.
    #[error(
        "could not be given the ACL or the security label of the file it replaced: some users may be refused"
    )]
    RightsNotKept,
    /// The new name may not survive a power failure.
    #[error("is in place, but its directory could not be synced: {0}")]
    NotDurable(io::Error),
    /// The target is not where it was asked for.
    #[error("its directory was renamed during the run: the disk is in that directory, at its new path")]
    Elsewhere,
}

impl Warning {
    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::Image { .. }
            | Self::ImagePerhapsInUse(_)
            | Self::PerhapsNoise
            | Self::Changed
            | Self::NoChecksums(_)
            | Self::NoRecord(_)
            | Self::Unreadable { .. }
            | Self::Bad { .. }
            | Self::Table(_)
            | Self::ChangedMeanwhile { .. }
            | Self::Unwritten(_) => Side::Source,
            Self::TargetPerhapsInUse(_)
            | Self::TableOutOfReach(_)
            | Self::TableInside
            | Self::Smaller { .. }
            | Self::CutOff { .. }
            | Self::SectorSize { .. }
            | Self::OwnerNotKept
            | Self::RightsNotKept
            | Self::InMemory(_)
            | Self::Remains(_)
            | Self::NotDurable(_)
            | Self::Elsewhere => Side::Target,
        }
    }

    /// Whether the disk may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::Image { remark, .. } => remark.matters(),
            Self::ImagePerhapsInUse(_)
            | Self::TargetPerhapsInUse(_)
            | Self::NoChecksums(_)
            | Self::NoRecord(_)
            | Self::Unreadable { .. }
            | Self::Bad { .. }
            | Self::ChangedMeanwhile { .. }
            | Self::TableOutOfReach(_)
            | Self::CutOff { .. }
            | Self::SectorSize { .. }
            | Self::Unwritten(_)
            | Self::NotDurable(_)
            | Self::Elsewhere => true,
            Self::PerhapsNoise
            | Self::Changed
            | Self::Table(_)
            | Self::TableInside
            | Self::Smaller { .. }
            | Self::OwnerNotKept
            | Self::RightsNotKept
            | Self::InMemory(_)
            | Self::Remains(_) => false,
        }
    }
}

/// A range of the disk that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// In bytes of the virtual disk.
    pub range: Range<u64>,
    /// In which way.
    pub why: Why,
}

/// What became of a bad range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nothing can be had of it: it is zeros in the target.
    #[error("unreadable, zeros in the target")]
    Unreadable,
    /// It was restored as it is.
    #[error("does not match its checksum, restored as it is")]
    Checksum,
}

/// What would be restored.
#[derive(Debug)]
pub struct Plan {
    /// How many bytes are wanted: the size of the disk, or of a part of it.
    pub size: u64,
    /// The volume whose bytes these are, if it was asked for.
    pub volume: Option<Volume>,
    /// Whether the GPT is made to fit the target.
    pub is_fitted: bool,
    /// What would become of identifiers, if new ones are wanted. A run draws others.
    pub identifiers: Option<Outcome>,
    /// How many of these bytes the image holds.
    pub data: u64,
    /// How many it says are zeros.
    pub zeros: u64,
    /// How many are not allocated.
    pub unallocated: u64,
    /// How many of these the image records as free; none if it records nothing of the kind.
    pub free: Option<u64>,
    /// What the target is.
    pub target: TargetKind,
    /// The room in bytes that there is for the disk: on the device, or in the filesystem that takes the file.
    pub room: Option<u64>,
    /// Whether clusters are compared with the checksums that were stored with them.
    pub is_checked: bool,
    /// What there is to know already.
    pub warnings: Vec<Warning>,
    /// What is on the block device that would be overwritten, if the target is one.
    pub existing: Option<Existing>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A file, which is replaced in one step.
    File,
    /// A block device, which is overwritten.
    Device,
    /// A stream.
    Stdout,
}

/// What was restored.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a run")]
pub struct Report {
    /// How many bytes were wanted: the size of the disk, or of a part of it.
    pub size: u64,
    /// The volume whose bytes these are, if it was asked for.
    pub volume: Option<Volume>,
    /// Whether the GPT is made to fit the target.
    pub is_fitted: bool,
    /// What became of identifiers, if new ones were wanted.
    pub identifiers: Option<Outcome>,
    /// Whether the target is a block device that has a new partition table, which the kernel may not know of yet.
    pub has_new_table: bool,
    /// How many of these bytes were read as data.
    pub data: u64,
    /// How many bytes were written as data.
    pub written: u64,
    /// How many bytes were made zeros, or left holes.
    pub zeros: u64,
    /// How many bytes were left as they were.
    pub left: u64,
    /// What could not be read when the image was made, and is zeros: in bytes of the disk, ascending.
    pub unreadable: Vec<Range<u64>>,
    /// Whether clusters were compared with the checksums that were stored with them.
    pub is_checked: bool,
    /// Whether the target was read back, but for what was left as it was.
    pub is_verified: bool,
    /// What of the disk is damaged, ascending.
    pub bad: Vec<Bad>,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// What was on the block device that was overwritten, if the target is one.
    pub existing: Option<Existing>,
    /// How long it took.
    pub duration: Duration,
}

/// That checksums were not compared, and why not.
fn not_compared(error: &Error) -> String {
    let (error, backing) = error.innermost();
    let of_backing = Error::of_backing(backing);
    match error {
        Error::Corrupt(Corrupt::PerhapsChanged(fault)) => format!(
            "checksums {of_backing}were not compared, because they were overwritten since or are damaged: {fault}"
        ),
        Error::Corrupt(_)
        | Error::Io { .. }
        | Error::Unsupported(_)
        | Error::Invalid(_)
        | Error::ReadBack(_)
        | Error::Elsewhere { .. } => {
            format!("checksums {of_backing}were not compared, because their table is damaged: {error}")
        }
    }
}
