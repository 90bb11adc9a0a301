//! What would be done, what was done, and what to know about it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::allocation::{Allocation, Region};
use crate::error::{InUse, Side};
use crate::image::Remark;
use crate::layout::Written;
use crate::source::{Change, Kind};

/// Something that whoever made the image should know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The source was imaged although it was in use.
    #[error("the source is {0}: imaged all the same, with what is free in it; files may not be consistent")]
    SourceInUse(InUse),
    /// The source is an image that was read although it is in use.
    #[error(
        "the source is {0}: what its tables do not tell yet reads as zeros; image it again when it is not"
    )]
    ImageInUse(InUse),
    /// The source was decrypted, and looks like nothing that is known.
    #[error("nothing is recognised in what was decrypted: is the password right?")]
    PerhapsNoise,
    /// The source is an image, or needs one, that says something about itself.
    #[error("{}{remark}", backing(path.as_ref()))]
    Image {
        /// What it says.
        remark: Remark,
        /// The path of an image behind the first.
        path: Option<PathBuf>,
    },
    /// What tells what is free in the source, or in a partition of it, cannot be trusted. Nothing is lost by it.
    #[error("{}{why}: copied whole", place(*partition, *name))]
    CopiedWhole {
        /// The number of the partition; none for all of the source.
        partition: Option<u32>,
        /// What it was recognised as.
        name: Option<&'static str>,
        /// Why that cannot be trusted.
        why: String,
    },
    /// The source changed while it was read.
    #[error("the source changed while it was read ({0}): the image is not of one moment")]
    SourceChanged(Change),
    /// Parts of the source could not be read.
    #[error("{bytes} bytes of the source could not be read and are zeros in the image")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// The image does not belong to the owner of the one it replaced.
    #[error("the image could not be given the owner of the one it replaced")]
    OwnerNotKept,
    /// Not all who could read or write the old one can do so with the new one.
    #[error(
        "the image could not be given the ACL or the security label of the one it replaced: some users may be refused"
    )]
    RightsNotKept,
    /// The new name may not survive a power failure.
    #[error("the image is in place, but its directory could not be synced: {0}")]
    NotDurable(io::Error),
    /// The image is not where it was asked for.
    #[error("its directory was renamed meanwhile: the image is in that directory, wherever it is now")]
    Elsewhere,
}

impl Warning {
    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::SourceInUse(_)
            | Self::ImageInUse(_)
            | Self::PerhapsNoise
            | Self::Image { .. }
            | Self::CopiedWhole { .. }
            | Self::SourceChanged(_)
            | Self::Unreadable { .. } => Side::Source,
            Self::OwnerNotKept | Self::RightsNotKept | Self::NotDurable(_) | Self::Elsewhere => Side::Target,
        }
    }

    /// Whether the image may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::Image {
                remark: Remark::Corrupt,
                ..
            }
            | Self::ImageInUse(_)
            | Self::SourceChanged(_)
            | Self::Unreadable { .. }
            | Self::NotDurable(_)
            | Self::Elsewhere => true,
            Self::Image {
                remark: Remark::Dirty | Remark::NeedsCheck,
                ..
            }
            | Self::SourceInUse(_)
            | Self::PerhapsNoise
            | Self::CopiedWhole { .. }
            | Self::OwnerNotKept
            | Self::RightsNotKept => false,
        }
    }

    /// Of each region that is copied whole because what tells of it cannot be trusted.
    pub fn of_doubts(regions: &[Region]) -> impl Iterator<Item = Self> {
        regions.iter().filter_map(|region| {
            region.doubt().map(|doubt| Self::CopiedWhole {
                partition: region.part.as_ref().map(|(number, _)| *number),
                name: region.name,
                why: doubt.to_string(),
            })
        })
    }
}

/// The name of a backing file, to be put in front of what it says.
fn backing(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| format!("backing file {}: ", path.display()))
}

/// Where in the source, to be put in front of what is wrong there.
fn place(partition: Option<u32>, name: Option<&str>) -> String {
    match (partition, name) {
        (None, None) => String::new(),
        (None, Some(name)) => format!("{name}: "),
        (Some(number), None) => format!("partition {number}: "),
        (Some(number), Some(name)) => format!("partition {number}, {name}: "),
    }
}

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the source is.
    pub kind: Kind,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// What is in use, and why.
    pub allocation: &'a Allocation,
    /// The size of the image in bytes: exact if nothing in use is zeros and nothing is compressed, an upper bound
    /// otherwise; of a stream in one pass always exact.
    pub image_size: u64,
    /// Whether that is the size of the image in any case.
    pub is_exact: bool,
    /// The room that is needed while it is made, in bytes; of a stream that of whoever keeps it.
    pub room_needed: u64,
    /// How much room there is, in bytes, if that can be told.
    pub free_space: Option<u64>,
    /// Who might write to the source meanwhile.
    pub in_use: Option<&'a InUse>,
    /// Whether the source was decrypted.
    pub is_encrypted: bool,
    /// What the images that are read say of themselves; those behind the first with their paths.
    pub remarks: Vec<(Remark, Option<PathBuf>)>,
}

impl Plan<'_> {
    /// What is known before anything is done that whoever makes the image should know.
    pub fn warnings(&self) -> Vec<Warning> {
        let in_use = self.in_use.cloned().map(match self.kind {
            Kind::Image => Warning::ImageInUse,
            Kind::RegularFile | Kind::BlockDevice => Warning::SourceInUse,
        });
        let noise = (self.is_encrypted && self.allocation.is_unrecognised()).then_some(Warning::PerhapsNoise);
        let doubts = Warning::of_doubts(&self.allocation.regions);
        let remarks = self.remarks.iter().cloned();
        let remarks = remarks.map(|(remark, path)| Warning::Image { remark, path });
        in_use
            .into_iter()
            .chain(noise)
            .chain(remarks)
            .chain(doubts)
            .collect()
    }
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that are free although they are not in holes.
    pub free: u64,
    /// What the source holds.
    pub regions: Vec<Region>,
    /// Bytes read from the source.
    pub read: u64,
    /// What became of them.
    pub written: Written,
    /// The cluster size in bytes.
    pub cluster_size: u64,
    /// The ranges that could not be read, in bytes of the file or device, whichever part of it was imaged.
    pub unreadable: Vec<Range<u64>>,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub duration: Duration,
}
