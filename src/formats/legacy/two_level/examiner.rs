//! What an examination tells, and whom.

use std::ops::Range;

use crate::error::{Corrupt, Result};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::HostOffset;

/// Somebody who wants to know. After an error there is no more to be told.
pub(crate) trait Examiner {
    /// Something is not as it should be.
    fn found(&mut self, found: Found) -> Result<()>;

    /// A cluster takes room or is zeros, and is for these bytes of the disk, which are none behind its end.
    fn cluster(&mut self, _mapping: Mapping, _guest: Range<u64>) -> Result<()> {
        Ok(())
    }

    /// So many bytes of tables will be read at least.
    fn begin(&mut self, _bytes: u64) {}

    /// So many of them were read.
    fn advance(&mut self, _bytes: u64) {}
}

/// What is not as it should be.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// An entry of the table of the first level that cannot be.
    Table(Corrupt),
    /// An entry of a table of the second level that cannot be.
    Cluster(Corrupt),
    /// Two tables in one place.
    TableInTable(Corrupt),
    /// A cluster where a table is.
    ClusterInTable(Corrupt),
    /// Two clusters in one place.
    ClusterInCluster(Corrupt),
    /// Clusters of the file that nothing uses, in bytes.
    Unused(Range<u64>),
}

impl Found {
    /// What it is, unless it is nothing worse than room that is wasted.
    pub(crate) fn fault(self) -> Option<Corrupt> {
        match self {
            Self::Unused(_) => None,
            Self::Table(fault)
            | Self::Cluster(fault)
            | Self::TableInTable(fault)
            | Self::ClusterInTable(fault)
            | Self::ClusterInCluster(fault) => Some(fault),
        }
    }
}

/// How far a file is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where the last table or cluster ends.
    pub(crate) end: HostOffset,
}
