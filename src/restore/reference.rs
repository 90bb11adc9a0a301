//! What the clusters of a disk are compared with while they are read.

use crate::formats::qcow2::Checksums;
use crate::formats::{Chain, Guards};

/// What the clusters of a disk are compared with.
#[derive(Debug)]
pub(super) enum Reference<'a> {
    /// The checksums of the only image, which are read along with the disk.
    Table(Checksums<'a>),
    /// Those of images that lie one behind the other: each has its own clusters.
    Guards(Guards),
}

impl Reference<'_> {
    /// Whether all of the disk is compared that is not zeros.
    pub(super) fn is_of_all(&self, disk: &Chain) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Guards(guards) => disk.is_all_held_to(guards),
        }
    }

    /// What each image is held to, if there are several.
    pub(super) fn guards(&self) -> Option<&Guards> {
        match self {
            Self::Table(_) => None,
            Self::Guards(guards) => Some(guards),
        }
    }
}
