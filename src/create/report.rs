//! What would be done, what was done, and what to know about it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::devices::Unwritten;
use crate::disk::{Change, Kind};
use crate::error::{Error, InUse, Side};
use crate::formats::Remark;
use crate::layout::Written;
use crate::output::{Memory, Remains};
use crate::units::length;
use crate::volumes::{Allocation, Doubt, Flaw, Missing, Part, Region, Volume};

/// Why the checksums of an image that is the source are not compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unchecked {
    /// They describe an earlier state.
    #[error("was changed since it was made: its checksums are out of date and were not compared")]
    Changed,
    /// A table of them cannot be used.
    #[error("checksums {}were not compared, because their table is damaged: {why}", Error::of_backing(of.as_deref()))]
    Damaged {
        /// The backing file that it is in, if it is not in the image that was named.
        of: Option<PathBuf>,
        /// What is wrong with it.
        why: String,
    },
}

/// A warning about an image that was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The image is a full one, because what it was to stand on is not fit for that.
    #[error("is a full image, because it cannot stand on {}: {}", .0.path.display(), .0.why)]
    FullInstead(FullInstead),
    /// The source was imaged although it was in use.
    #[error(
        "the source is {0}: imaging it anyway, free blocks included; the image may mix old and new data, and files in it may be inconsistent"
    )]
    SourceInUse(InUse),
    /// What others wrote to the source earlier could not be brought to the disk.
    #[error("earlier writes to the source could not be flushed, and may be missing in the image: {0}")]
    SourceUnwritten(Unwritten),
    /// It could not be found out whether the image is in use, or lies on the source.
    #[error("it was {0}: it may lie on the source, or a program may go on using the old image")]
    TargetPerhapsInUse(InUse),
    /// The source is an image that was read although it is in use.
    #[error(
        "the source is {0}: data that its tables do not list yet reads as zeros; image it again when it is no \
         longer in use"
    )]
    ImageInUse(InUse),
    /// The source holds a disk in an encoding that is not read here.
    #[error("begins like {0}: its bytes are imaged as they are, not the disk in it")]
    Encoded(&'static str),
    /// The source was decrypted, and looks like nothing that is known.
    #[error("nothing is recognised in the decrypted data: is the password right?")]
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
    #[error("{}{why}: copied whole", place(volume.as_ref(), *name))]
    CopiedWhole {
        /// The volume; none for all of the source.
        volume: Option<Part>,
        /// What it was recognised as.
        name: Option<&'static str>,
        /// Why that cannot be trusted.
        why: String,
    },
    /// Something is wrong with the partition table of the source. All of it is in the image as it is.
    #[error("{0}")]
    Table(Flaw),
    /// The map of a filesystem is wrong. Nothing is lost by it: what files have is copied.
    #[error("{}{missing}: copied anyway (run its checker to repair it)", place(volume.as_ref(), *name))]
    MapCorrected {
        /// The volume; none for all of the source.
        volume: Option<Part>,
        /// What it was recognised as.
        name: Option<&'static str>,
        /// What the map leaves out.
        missing: Missing,
    },
    /// The source changed while it was read.
    #[error("the source changed while it was read ({0}): the image may mix old and new data")]
    SourceChanged(Change),
    /// Parts of the disk could not be read when the image was made that is the source.
    #[error("{bytes} bytes of the disk could not be read when the source was made, and are zeros in it")]
    UnreadableBefore {
        /// How many.
        bytes: u64,
    },
    /// The checksums of an image that is the source were not compared.
    #[error("{0}")]
    Unchecked(Unchecked),
    /// Parts of the source could not be read.
    #[error("{bytes} bytes of the source could not be read and are zeros in the image")]
    Unreadable {
        /// How many.
        bytes: u64,
    },
    /// The image does not belong to the owner of the one it replaced.
    #[error("the image could not be given the owner of the one it replaced")]
    OwnerNotKept,
    /// The image lies in memory.
    #[error("is in memory ({0}), and gone at the next boot")]
    InMemory(Memory),
    /// The image is in place, but a file with a temporary name could not be removed.
    #[error("{path} {0}", path = .0.path().display())]
    Remains(Remains),
    /// Not all who could read or write the old one can do so with the new one.
    #[error(
        "the image could not be given the ACL or the security label of the one it replaced: some users may be refused"
    )]
    RightsNotKept,
    /// The new name may not survive a power failure.
    #[error("the image is in place, but its directory could not be synced: {0}")]
    NotDurable(io::Error),
    /// The image is not where it was asked for.
    #[error("its directory was renamed during the run: the image is in that directory, at its new path")]
    Elsewhere,
}

impl Warning {
    /// Which of the two files it is about.
    pub fn side(&self) -> Side {
        match self {
            Self::SourceInUse(_)
            | Self::ImageInUse(_)
            | Self::SourceUnwritten(_)
            | Self::PerhapsNoise
            | Self::Encoded(_)
            | Self::Image { .. }
            | Self::CopiedWhole { .. }
            | Self::Table(_)
            | Self::MapCorrected { .. }
            | Self::SourceChanged(_)
            | Self::UnreadableBefore { .. }
            | Self::Unchecked(_)
            | Self::Unreadable { .. } => Side::Source,
            Self::TargetPerhapsInUse(_)
            | Self::FullInstead(_)
            | Self::OwnerNotKept
            | Self::RightsNotKept
            | Self::InMemory(_)
            | Self::Remains(_)
            | Self::NotDurable(_)
            | Self::Elsewhere => Side::Target,
        }
    }

    /// Whether the image may not be what it should be.
    pub fn matters(&self) -> bool {
        match self {
            Self::Image { remark, .. } => remark.matters(),
            Self::ImageInUse(_)
            | Self::SourceUnwritten(_)
            | Self::TargetPerhapsInUse(_)
            | Self::SourceChanged(_)
            | Self::UnreadableBefore { .. }
            | Self::Unchecked(Unchecked::Damaged { .. })
            | Self::Unreadable { .. }
            | Self::NotDurable(_)
            | Self::Elsewhere => true,
            Self::Unchecked(Unchecked::Changed)
            | Self::FullInstead(_)
            | Self::PerhapsNoise
            | Self::Encoded(_)
            | Self::CopiedWhole { .. }
            | Self::Table(_)
            | Self::MapCorrected { .. }
            | Self::OwnerNotKept
            | Self::RightsNotKept
            | Self::InMemory(_)
            | Self::Remains(_) => false,
            Self::SourceInUse(in_use) => match in_use {
                // What they have not written yet is not in the image.
                InUse::Mounted { .. }
                | InUse::Guest { .. }
                | InUse::OtherRun { .. }
                | InUse::Busy { .. }
                | InUse::Unknown { .. } => true,
                // What was swapped out is of no use later, and what waits in the cache of a volume was flushed.
                InUse::Swap { .. } | InUse::Held { .. } => false,
            },
        }
    }

    /// The same before anything is done.
    pub fn planned(&self) -> String {
        match self {
            Self::SourceInUse(in_use) => format!(
                "the source is {in_use}: would be imaged with its free blocks; the image might mix old and new data, and files in it might be inconsistent"
            ),
            Self::ImageInUse(in_use) => {
                format!("the source is {in_use}: data that its tables do not list yet would read as zeros")
            }
            Self::TargetPerhapsInUse(in_use) => format!("it is {in_use}"),
            Self::FullInstead(FullInstead { path, why }) => {
                format!(
                    "would be a full image, because it cannot stand on {}: {why}",
                    path.display()
                )
            }
            Self::CopiedWhole { volume, name, why } => {
                format!("{}{why}: would be copied whole", place(volume.as_ref(), *name))
            }
            Self::MapCorrected {
                volume,
                name,
                missing,
            } => format!(
                "{}{missing}: would be copied anyway (run its checker to repair it)",
                place(volume.as_ref(), *name)
            ),
            Self::SourceUnwritten(_)
            | Self::PerhapsNoise
            | Self::Image { .. }
            | Self::Table(_)
            | Self::SourceChanged(_)
            | Self::UnreadableBefore { .. }
            | Self::Unchecked(_)
            | Self::Unreadable { .. }
            | Self::OwnerNotKept
            | Self::RightsNotKept
            | Self::InMemory(_)
            | Self::Remains(_)
            | Self::NotDurable(_)
            | Self::Encoded(_)
            | Self::Elsewhere => self.to_string(),
        }
    }

    /// Of each region that is copied whole because what tells of it cannot be trusted, or whose map is wrong.
    pub fn of_doubts(regions: &[Region]) -> impl Iterator<Item = Self> {
        regions.iter().filter_map(|region| {
            let (volume, name) = (&region.part, region.name);
            let corrected = |missing: &Missing| Self::MapCorrected {
                volume: volume.clone(),
                name,
                missing: *missing,
            };
            let whole = |doubt: &Doubt| Self::CopiedWhole {
                volume: volume.clone(),
                name,
                why: doubt.to_string(),
            };
            let doubt = region.doubt().map(whole);
            doubt.or_else(|| region.missing().map(corrected))
        })
    }
}

/// The name of a backing file, to be put in front of what it says.
fn backing(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| format!("backing file {}: ", path.display()))
}

/// Where in the source, to be put in front of what is wrong there.
fn place(volume: Option<&Part>, name: Option<&str>) -> String {
    let volume = volume.map(|volume| match volume {
        Part::LogicalVolume { name } => format!("{volume} \"{name}\""),
        Part::Partition { .. } | Part::ArrayData => volume.to_string(),
    });
    let words: Vec<_> = volume.as_deref().into_iter().chain(name).collect();
    if words.is_empty() {
        return String::new();
    }
    format!("{}: ", words.join(", "))
}

/// Why an image is a full one although it was to stand on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullInstead {
    /// The image that it was to stand on, or one behind that.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

/// What would be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the source is.
    pub kind: Kind,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// The volume of the source that it is, if it was asked for by its name.
    pub volume: Option<&'a Volume>,
    /// What is in use, and why.
    pub allocation: &'a Allocation,
    /// The size of the image in bytes: exact if nothing in use is zeros and nothing is compressed, an upper bound
    /// otherwise; of a stream in one pass exact. What cannot be read takes a little more.
    pub image_size: u64,
    /// Whether that is the size of the image in any case.
    pub is_exact: bool,
    /// The space that is needed while it is made, in bytes; for a stream, at its receiver.
    pub room_needed: u64,
    /// How much room there is, in bytes, if that can be told.
    pub free_space: Option<u64>,
    /// The filesystem that takes the image, if it is in memory.
    pub memory: Option<Memory>,
    /// The image that it stands on, as the new one calls it.
    pub base: Option<&'a OsStr>,
    /// Why it does not stand on what was asked for.
    pub full_instead: Option<&'a FullInstead>,
    /// Who might write to the source meanwhile.
    pub in_use: Option<&'a InUse>,
    /// Why the image may be in use, or lie on the source, where that could not be found out.
    pub target_in_use: Option<&'a InUse>,
    /// Whether a run would be refused if one of these is something.
    pub needs_force: bool,
    /// Whether the source was decrypted, perhaps with a wrong password.
    pub is_encrypted: bool,
    /// Why the checksums of an image that is the source are not compared.
    pub unchecked: Option<&'a Unchecked>,
    /// What an image that is the source records as unreadable when it was made, in bytes of the disk.
    pub unreadable_before: &'a [Range<u64>],
    /// What the images that are read say of themselves; those behind the first with their paths.
    pub remarks: Vec<(Remark, Option<PathBuf>)>,
    /// What the source begins like, if its disk is encoded in a way that is not read here.
    pub encoded: Option<&'static str>,
}

impl Plan<'_> {
    /// The warnings that are known before the copy begins.
    pub fn warnings(&self) -> Vec<Warning> {
        let in_use = self.in_use.cloned().map(match self.kind {
            Kind::Image => Warning::ImageInUse,
            Kind::RegularFile | Kind::BlockDevice => Warning::SourceInUse,
        });
        let noise = (self.is_encrypted && self.allocation.is_unrecognised()).then_some(Warning::PerhapsNoise);
        let doubts = Warning::of_doubts(&self.allocation.regions);
        let before = (!self.unreadable_before.is_empty()).then(|| {
            let bytes = self.unreadable_before.iter().map(length).sum();
            Warning::UnreadableBefore { bytes }
        });
        let flaws = self.allocation.flaws.iter().cloned().map(Warning::Table);
        let remarks = self.remarks.iter().cloned();
        let remarks = remarks.map(|(remark, path)| Warning::Image { remark, path });
        let full = self.full_instead.cloned().map(Warning::FullInstead);
        let target = self.target_in_use.cloned().map(Warning::TargetPerhapsInUse);
        in_use
            .into_iter()
            .chain(target)
            .chain(full)
            .chain(noise)
            .chain(self.encoded.map(Warning::Encoded))
            .chain(self.unchecked.cloned().map(Warning::Unchecked))
            .chain(before)
            .chain(remarks)
            .chain(flaws)
            .chain(doubts)
            .chain(self.memory.map(Warning::InMemory))
            .collect()
    }
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// The volume of the source that it is, if it was asked for by its name.
    pub volume: Option<Volume>,
    /// Bytes that were to be read, other than metadata.
    pub data: u64,
    /// Bytes that were to be read and are metadata of filesystems.
    pub metadata: u64,
    /// Bytes in use, or of which nothing tells, that are holes.
    pub zeros: u64,
    /// Bytes that are free, holes or not. All four come to the size of the source.
    pub free: u64,
    /// What the source holds.
    pub regions: Vec<Region>,
    /// What is wrong with its partition table.
    pub flaws: Vec<Flaw>,
    /// Bytes read from the source.
    pub read: u64,
    /// What became of them.
    pub written: Written,
    /// The cluster size in bytes.
    pub cluster_size: u64,
    /// The image that it stands on, as the new one calls it.
    pub base: Option<OsString>,
    /// The ranges that could not be read, in bytes of the file or device, whichever part of it was imaged.
    pub unreadable: Vec<Range<u64>>,
    /// The ranges that could not be read when the image was made that is the source, in bytes of the disk.
    pub unreadable_before: Vec<Range<u64>>,
    /// What else there is to know.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub duration: Duration,
}
