//! Requests that make no sense, or would not be safe.

use std::path::PathBuf;

use indicatif::BinaryBytes;

use super::Side;
use super::file_kind::FileKind;
use super::in_use::InUse;
use super::occupied::Occupied;
use super::same_as::SameAs;
use super::unfit::Unfit;
use super::unmergeable::Unmergeable;
use super::unmountable::Unmountable;
use super::unrecorded::Unrecorded;
use super::unstreamable::Unstreamable;

/// A request that makes no sense, or would not be safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The image has no trustworthy list of free clusters.
    #[error("has no list of free clusters that --used-only can trust: {0}")]
    Unrecorded(Unrecorded),
    /// Standard output cannot go back to the tables, which depend on what differs.
    #[error(
        "an incremental image to standard output needs two passes: its tables come first and depend on what differs"
    )]
    StdoutIncremental,
    /// Nothing would tell which image it stands on.
    #[error("an incremental image needs checksums: the record behind them tells which image it stands on")]
    IncrementalUnchecked,
    /// The name of the base does not fit into the first cluster.
    #[error(
        "has a path of {length} bytes as seen from the image, expected at most {limit}, which is what the header has room for"
    )]
    BaseName {
        /// Its length in bytes.
        length: usize,
        /// The room in bytes.
        limit: u64,
    },
    /// The image would replace one that it stands on.
    #[error("is the base, or an image behind it: the new image would stand on itself")]
    TargetIsBase,
    /// The image is not the one that another stands on, or cannot be one to stand on.
    #[error("{0}")]
    Unfit(Unfit),
    /// There is nothing to merge, or not down to there.
    #[error("{0}")]
    Unmergeable(Unmergeable),
    /// The directory cannot be mounted on.
    #[error("{0}")]
    Unmountable(Unmountable),
    /// The image cannot be read from a pipe.
    #[error("cannot be restored from a pipe: {0}")]
    Unstreamable(Unstreamable),
    /// The source is neither a regular file nor a block device.
    #[error("is a {0}, expected a regular file or a block device")]
    SourceKind(FileKind),
    /// The source is empty.
    #[error("is empty, there is nothing to image")]
    SourceEmpty,
    /// The source is in use.
    #[error("{0}")]
    SourceInUse(InUse),
    /// The name of the source was given to something else meanwhile.
    #[error("was replaced by something else while it was opened")]
    SourceReplaced,
    /// The part asked for is not aligned to sectors.
    #[error("{what} is {found}, expected a multiple of 512")]
    Unaligned {
        /// `offset` or `length`.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// The part asked for begins at or past the end.
    #[error("offset is {offset}, expected less than the size, {size}")]
    OffsetPastEnd {
        /// Asked for, in bytes.
        offset: u64,
        /// Of the source, in bytes.
        size: u64,
    },
    /// The part asked for ends past the end.
    #[error("offset {offset} and length {length} reach past the end of the source, at {size}")]
    LengthPastEnd {
        /// Asked for, in bytes.
        offset: u64,
        /// Asked for, in bytes.
        length: u64,
        /// Of the source, in bytes, padded to a whole sector.
        size: u64,
    },
    /// The disk has no volume of the name asked for.
    #[error("has no partition or volume {name:?}{}", if volumes.is_empty() {
        ": no partition table or volume group was recognised in it".to_owned()
    } else {
        format!(", it has {volumes}")
    })]
    NoVolume {
        /// Asked for.
        name: String,
        /// Those there are, and what they hold.
        volumes: String,
    },
    /// The name asked for means more than one volume.
    #[error("has more than one partition or volume {name:?}, expected a name of one of {volumes}")]
    VolumeAmbiguous {
        /// Asked for.
        name: String,
        /// Those there are, and what they hold.
        volumes: String,
    },
    /// The volume asked for cannot be put together from the disk.
    #[error("does not hold all of {name}: a part of it lies elsewhere, or it is not linear or striped")]
    VolumeIncomplete {
        /// The name of the volume.
        name: String,
    },
    /// The part asked for is empty.
    #[error("length is 0, there is nothing to image")]
    LengthZero,
    /// The image is something that cannot be replaced by a file.
    #[error("is a {0}, expected a regular file or a new name")]
    TargetKind(FileKind),
    /// The target is a pipe, perhaps by way of standard output.
    #[error("is a pipe{}", if *is_stdout { ": give - instead" } else { "" })]
    TargetIsPipe {
        /// Whether it is standard output, by another name.
        is_stdout: bool,
    },
    /// The name is a symbolic link that leads to no directory.
    #[error("is a symbolic link to {}, and there is no such directory", to.display())]
    TargetDangles {
        /// What the link says.
        to: PathBuf,
    },
    /// The image's name names nothing that could be a file.
    #[error("is not the name of a file")]
    TargetName,
    /// The image's name is a mount point.
    #[error("is a mount point, which no new image can replace")]
    TargetMounted,
    /// The image exists.
    #[error("exists already, expected a new name")]
    TargetExists,
    /// The file holds other content than the run would write, so its name may be mistyped.
    #[error("{0}, which would be replaced")]
    TargetHolds(Holding),
    /// The block device holds something that is recognised, so its name may be mistyped.
    #[error("{0}")]
    TargetOccupied(Occupied),
    /// A link on the way to the image may have been planted.
    #[error("leads through {}, a symbolic link of user {uid} in a directory that others may write to, expected \
        a link of your own or of root", link.display())]
    TargetLink {
        /// The link.
        link: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The image belongs to another user, who would own the new one, or decide who may read it.
    #[error("belongs to user {uid}, who could read the new file, expected a file of your own or of root")]
    TargetOfOther {
        /// Its owner.
        uid: u32,
    },
    /// The name was given to something else while the image was made.
    #[error(
        "was replaced by something else during the run, and is left as it is: the new file is complete{}, as {}",
        if *is_synced { "" } else { ", but could not be synced" },
        kept.display()
    )]
    TargetTaken {
        /// The name that the new image has instead.
        kept: PathBuf,
        /// Whether that name is on stable storage, as far as that was asked for.
        is_synced: bool,
    },
    /// The image would overwrite the source.
    #[error("is the source itself ({0})")]
    TargetIsSource(SameAs),
    /// The image would overwrite a file that the source needs.
    #[error("is the {role} of {}", of.display())]
    TargetIsBehind {
        /// What it is to an image that is read.
        role: Role,
        /// That image.
        of: PathBuf,
    },
    /// The image would be written to the device that is read.
    #[error("lies on the source: writing it would change what is being read")]
    TargetOnSource,
    /// The target is in use.
    #[error("{0}")]
    TargetInUse(InUse),
    /// The name of the target was given to something else meanwhile.
    #[error("was replaced by something else while it was opened")]
    TargetReplaced,
    /// The target is not something that can take a disk.
    #[error("is a {0}, expected a regular file, a block device or a new name")]
    DiskTargetKind(FileKind),
    /// The target would be a file among the device nodes: most likely the name of a device was mistyped.
    #[error("no such device, and a file of this name would be in memory, gone at the next boot")]
    FileAmongDevices,
    /// The directory of the target takes new names and lets none go, so that nothing in it can be replaced.
    #[error("cannot be replaced, because its directory is append-only")]
    DirectoryAppendOnly,
    /// The target is a read-only device.
    #[error("is a read-only device")]
    TargetReadOnly,
    /// The GPT cannot be made to fit the target.
    #[error("has no GPT that could be made to fit: {why}")]
    TableUnfit {
        /// Why.
        why: String,
    },
    /// Only a device has a size that a GPT can be made to fit.
    #[error("is no block device, whose size --fit could make the partition table fit")]
    TargetSizeless,
    /// The target is a device that cannot take all of the disk, and nothing in use is left out; but what uses the disk
    /// goes by its size.
    #[error("too small: {}, and {what} reaches up to {}, if only with free space: no program could use it there",
        BinaryBytes(*found), BinaryBytes(*end))]
    TargetCuts {
        /// Its size in bytes.
        found: u64,
        /// What would be cut off.
        what: String,
        /// Where it ends, in bytes.
        end: u64,
    },
    /// The target is a device that cannot take all of the disk.
    #[error("too small: {}, the disk has {}, {} bytes more{}", BinaryBytes(*found), BinaryBytes(*expected),
        expected.saturating_sub(*found), used.map_or_else(String::new, |(bytes, end)| format!(
            ", of which {bytes} are in use, the last one in front of {end:#x}")))]
    TargetTooSmall {
        /// Its size in bytes.
        found: u64,
        /// The size of the disk in bytes.
        expected: u64,
        /// How many bytes in use lie past the end of the target, and where the last of these ends; none if that is not
        /// known.
        used: Option<(u64, u64)>,
        /// Whether it would do if the GPT was made to fit it.
        can_fit: bool,
    },
    /// The target is a device on which no program would find the partitions of the disk.
    #[error(
        "has sectors of {found} bytes, and the partition table of the disk counts in sectors of {expected}: no program \
         would find its partitions there"
    )]
    TargetSectorSize {
        /// The size of its sectors in bytes.
        found: u64,
        /// The size that the partition table is made for.
        expected: u64,
    },
    /// A file that is read lies, in the end, on the device that would be overwritten.
    #[error("holds {}: writing to it would destroy what is being read", read.display())]
    TargetHoldsSource {
        /// The file.
        read: PathBuf,
    },
    /// The target is one of the other files that an image needs.
    #[error("is {}, which the image needs", read.display())]
    TargetIsNeeded {
        /// The file, as the image names it.
        read: PathBuf,
    },
    /// A loop device has the target open.
    #[error("is behind the loop device {name}, which would keep using the old file")]
    TargetBehindLoop {
        /// The name of the loop device.
        name: String,
    },
    /// Standard output is a terminal.
    #[error("is a terminal, expected a file or a pipe")]
    StdoutIsTerminal,
    /// Standard output is a block device, which cannot be checked without its name.
    #[error("is a block device: give its name as the target, so that it can be checked")]
    StdoutIsDevice,
    /// Standard output is a file that would hold something in front of the image.
    #[error("has {before} bytes in front of the image, which must begin at offset 0")]
    StdoutInMiddle {
        /// How many bytes.
        before: u64,
    },
    /// There is no standard output.
    #[error("is closed, or is /dev/null opened for reading and writing, which looks the same")]
    StdoutClosed,
    /// Version 2 of the format has no field for the compression type.
    #[error("cannot be compressed with zstd in version 2")]
    ZstdInVersion2,
    /// Only compressed clusters can be shared.
    #[error("cannot share clusters that are not compressed")]
    SharedUncompressed,
    /// The image is to be compressed, and to go to standard output.
    #[error(
        "cannot take a compressed image in one pass: the tables come first, and depend on the compressed data"
    )]
    StdoutCompressed,
    /// Equal clusters are to be found, and standard output cannot be read back for that.
    #[error("cannot be read back, as finding equal clusters requires")]
    StdoutShared,
    /// What was written to standard output cannot be read back.
    #[error("cannot be read back")]
    StdoutUnverifiable,
    /// Standard output takes no byte twice.
    #[error("is standard output, which takes no new identifiers: they are written when everything else is")]
    StdoutUnpatchable,
    /// The image needs another file, which the caller did not allow to be opened.
    #[error("needs its {role}, {name:?}, which is opened only on request")]
    NeedsFile {
        /// What it is to the image.
        role: Role,
        /// As the image has it.
        name: String,
    },
    /// A backing file whose format is only guessed needs another file.
    #[error(
        "begins like a {format} image, but its format is not recorded: its {role}, {name:?}, is not opened on a guess"
    )]
    Guessed {
        /// What it begins like.
        format: &'static str,
        /// What the other file is to it.
        role: Role,
        /// As the image has it.
        name: String,
    },
    /// There is no such file, although an image needs it.
    #[error("no such file, but {} names it as its {role}", of.display())]
    NoNeededFile {
        /// What it is to the image.
        role: Role,
        /// The image.
        of: PathBuf,
        /// Whether that is the image that was asked for, so that another file can be given.
        is_first: bool,
    },
    /// The caller gave a file that the image does not need.
    #[error("has no {0}, but one was given")]
    NeedsNoFile(Role),
    /// The image does not say which file it needs.
    #[error("does not say which {0} it needs: its path must be given")]
    NamelessFile(Role),
    /// A file is its own backing file, if only by way of others.
    #[error("is its own backing file: it is already part of the chain")]
    ChainLoop,
    /// There are too many backing files.
    #[error("has a chain of more than {limit} backing files")]
    ChainTooLong {
        /// How many are followed.
        limit: usize,
    },
    /// The image is encrypted, and no password was given.
    #[error("is encrypted with AES, and needs a password")]
    NeedsPassword,
    /// The source begins like an image, and the caller gave no format.
    #[error("begins like a {0} image")]
    LooksLikeImage(&'static str),
    /// The file must be an image, and does not begin like one.
    #[error("not a qcow2 image")]
    NotAnImage,
    /// The file must be an image, and begins like one in a format that this program cannot read.
    #[error("not a qcow2 image: it begins like {0}, which mkqcow2 cannot read")]
    ForeignImage(&'static str),
    /// The file must be an image, and the caller says that it is raw.
    #[error("is raw, expected an image")]
    NoImage,
    /// There is no snapshot by that name or ID.
    #[error("has no snapshot with the ID or name {wanted:?}")]
    NoSuchSnapshot {
        /// What was asked for.
        wanted: String,
    },
}

impl Invalid {
    /// Which of the two files the error is about.
    pub(super) fn side(&self) -> Side {
        match self {
            Self::TargetKind(_)
            | Self::TargetIsPipe { .. }
            | Self::TargetDangles { .. }
            | Self::TargetName
            | Self::TargetExists
            | Self::TargetHolds(_)
            | Self::TargetOccupied(_)
            | Self::TargetMounted
            | Self::TargetLink { .. }
            | Self::TargetOfOther { .. }
            | Self::TargetTaken { .. }
            | Self::TargetIsSource(_)
            | Self::TargetIsBehind { .. }
            | Self::TargetIsBase
            | Self::StdoutIncremental
            | Self::IncrementalUnchecked
            | Self::TargetOnSource
            | Self::TargetInUse(_)
            | Self::TargetReplaced
            | Self::DiskTargetKind(_)
            | Self::FileAmongDevices
            | Self::DirectoryAppendOnly
            | Self::TargetReadOnly
            | Self::TargetTooSmall { .. }
            | Self::TargetCuts { .. }
            | Self::TargetSizeless
            | Self::TargetSectorSize { .. }
            | Self::TargetHoldsSource { .. }
            | Self::TargetIsNeeded { .. }
            | Self::TargetBehindLoop { .. }
            | Self::StdoutIsTerminal
            | Self::StdoutIsDevice
            | Self::StdoutInMiddle { .. }
            | Self::StdoutClosed
            | Self::ZstdInVersion2
            | Self::SharedUncompressed
            | Self::StdoutCompressed
            | Self::StdoutShared
            | Self::StdoutUnverifiable
            | Self::StdoutUnpatchable
            | Self::Unmountable(_) => Side::Target,
            Self::SourceKind(_)
            | Self::Unrecorded(_)
            | Self::Unstreamable(_)
            | Self::SourceEmpty
            | Self::SourceInUse(_)
            | Self::SourceReplaced
            | Self::Unaligned { .. }
            | Self::OffsetPastEnd { .. }
            | Self::LengthPastEnd { .. }
            | Self::LengthZero
            | Self::NoVolume { .. }
            | Self::TableUnfit { .. }
            | Self::VolumeAmbiguous { .. }
            | Self::VolumeIncomplete { .. }
            | Self::NeedsFile { .. }
            | Self::Guessed { .. }
            | Self::NoNeededFile { .. }
            | Self::NeedsNoFile(_)
            | Self::NamelessFile(_)
            | Self::Unfit(_)
            | Self::Unmergeable(_)
            | Self::BaseName { .. }
            | Self::ChainLoop
            | Self::ChainTooLong { .. }
            | Self::NeedsPassword
            | Self::LooksLikeImage(_)
            | Self::NotAnImage
            | Self::ForeignImage(_)
            | Self::NoImage
            | Self::NoSuchSnapshot { .. } => Side::Source,
        }
    }
}

/// The content of a file that would be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Holding {
    /// An image, in a format of this name, as far as its first bytes tell.
    #[error("is a {0} image")]
    Image(&'static str),
    /// Text.
    #[error("is not a qcow2 image but {size} bytes of text")]
    Text {
        /// Its size in bytes.
        size: u64,
    },
    /// Bytes that are neither text nor an image.
    #[error("is not a qcow2 image but a file of {size} bytes")]
    Other {
        /// Its size in bytes.
        size: u64,
    },
}

/// What another file is to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Role {
    /// Unallocated clusters of the image are read from it.
    #[error("backing file")]
    Backing,
    /// All clusters of the image are there.
    #[error("external data file")]
    Data,
}
