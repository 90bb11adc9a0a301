//! What was recognised where, as those are told who want to know why something was copied.

use std::fmt::{self, Display, Formatter};

use super::doubt::Doubt;
use super::view::View;
use crate::disk::Segments;
use crate::units::Exact;

/// A volume of the source, or all of it, and what was recognised there.
#[derive(Debug)]
pub struct Region {
    /// Its bytes, as those of the source.
    pub segments: Segments,
    /// The number of the region that it is a volume of; none of all of the source.
    pub parent: Option<usize>,
    /// 0 for all of the source, 1 for a partition of it, and so on.
    pub depth: usize,
    /// Which volume of its parent it is; none of all of the source.
    pub part: Option<Part>,
    /// Whether the segments are all of it, in the order of its bytes: a logical volume may lie on other disks, too.
    pub is_complete: bool,
    /// What it holds, such as `GPT` or `ext4`; none if nothing was recognised.
    pub name: Option<&'static str>,
    /// The label of the filesystem.
    pub label: Option<String>,
    /// What else tells it apart, such as its UUID.
    pub details: Vec<Detail>,
    /// How many of its bytes are in use, whether they are holes or not.
    pub used: u64,
    /// How many of its bytes are in use and no holes.
    pub copied: u64,
    /// How many of those are metadata of filesystems.
    pub metadata: u64,
    /// How it is copied.
    pub treatment: Treatment,
}

impl Region {
    /// Where it begins in the source, in bytes.
    pub fn start(&self) -> u64 {
        self.segments.start()
    }

    /// Its length, in bytes.
    pub fn size(&self) -> u64 {
        self.segments.size()
    }

    /// How many of its bytes are free, whether they are holes or not.
    pub fn free(&self) -> u64 {
        self.size().minus(self.used)
    }

    /// What about it cannot be trusted, if anything.
    pub fn doubt(&self) -> Option<&Doubt> {
        match &self.treatment {
            Treatment::Doubted(doubt) => Some(doubt),
            Treatment::Partitioned
            | Treatment::Grouped
            | Treatment::Mapped
            | Treatment::Corrected(_)
            | Treatment::Unknown
            | Treatment::Whole(_) => None,
        }
    }

    /// What its map leaves out, if anything.
    pub fn missing(&self) -> Option<&Missing> {
        match &self.treatment {
            Treatment::Corrected(missing) => Some(missing),
            Treatment::Partitioned
            | Treatment::Grouped
            | Treatment::Mapped
            | Treatment::Unknown
            | Treatment::Whole(_)
            | Treatment::Doubted(_) => None,
        }
    }

    /// Why all of it is copied, if it is.
    pub fn why_whole(&self) -> Option<String> {
        match (&self.treatment, self.name) {
            (
                Treatment::Partitioned | Treatment::Grouped | Treatment::Mapped | Treatment::Corrected(_),
                _,
            ) => None,
            (Treatment::Unknown, None) => Some("nothing recognised".to_owned()),
            (Treatment::Unknown, Some(_)) => Some("free space not known".to_owned()),
            (Treatment::Whole(why), _) => Some(why.clone()),
            (Treatment::Doubted(doubt), _) => Some(doubt.to_string()),
        }
    }
}

/// A volume of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A partition.
    Partition {
        /// The number that the kernel gives it.
        number: u32,
        /// The label that the table gives it.
        label: Option<String>,
    },
    /// A logical volume of LVM, as far as it lies here.
    LogicalVolume {
        /// Its name in the volume group.
        name: String,
    },
    /// The data area of a member of a RAID.
    ArrayData,
}

impl Part {
    /// The number of the partition, if it is one.
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Partition { number, .. } => Some(*number),
            Self::LogicalVolume { .. } | Self::ArrayData => None,
        }
    }

    /// The name that its owner gave it, if any.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Partition { label, .. } => label.as_deref().filter(|label| !label.is_empty()),
            Self::LogicalVolume { name } => Some(name),
            Self::ArrayData => None,
        }
    }
}

/// What it is, without the name that its owner gave it: `partition 2`.
impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition { number, .. } => write!(f, "partition {number}"),
            Self::LogicalVolume { .. } => f.write_str("logical volume"),
            Self::ArrayData => f.write_str("array"),
        }
    }
}

/// Something that tells a region apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// What it is, such as `uuid`: lower case, with hyphens.
    pub key: &'static str,
    /// Its value. It may be text of the source.
    pub value: String,
}

impl Detail {
    pub(super) fn new(key: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self { key, value }
    }
}

/// How a region is copied.
#[derive(Debug)]
pub enum Treatment {
    /// What is outside of its partitions, and those as their own regions tell.
    Partitioned,
    /// What is outside of its volumes and not free for new ones, and those as their own regions tell.
    Grouped,
    /// What its map says is in use.
    Mapped,
    /// The same, and what its files have all the same.
    Corrected(Missing),
    /// Whole: nothing tells what of it is free.
    Unknown,
    /// Whole, although it is sound, for this reason.
    Whole(String),
    /// Whole: what tells that cannot be trusted.
    Doubted(Doubt),
}

/// What files of a filesystem have although its map calls it free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("files use {bytes} bytes that its bitmaps call free, the first at {at:#x} in inode {inode}")]
pub struct Missing {
    /// How many bytes.
    pub bytes: u64,
    /// Where the first of them lie, in the underlying file or device.
    pub at: u64,
    /// The number of the inode that has these.
    pub inode: u32,
}

impl Missing {
    /// The same of a stretch, where it told an offset in that.
    pub(super) fn behind(self, view: View<'_>) -> Self {
        let at = view.position(self.at);
        Self { at, ..self }
    }
}
