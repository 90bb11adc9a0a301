//! What takes room in the file.

use super::TwoLevel;
use super::walk::{DATA, L2_TABLE, STREAM};
use crate::error::{Corrupt, Lost};
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::{Exact, HostOffset};

/// Something that takes room in the file, which was seen to hold it. They sort by where they begin, tables first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) start: u64,
    pub(super) kind: ReferenceKind,
    /// Of a table: its number. Of a cluster: the first byte of the disk that it is for.
    pub(super) of: u64,
    /// At most 1 GiB.
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReferenceKind {
    L1,
    L2,
    Data,
    Stream,
}

impl ReferenceKind {
    fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1 table",
            Self::L2 => L2_TABLE,
            Self::Data => DATA,
            Self::Stream => STREAM,
        }
    }

    pub(super) fn is_table(self) -> bool {
        match self {
            Self::L1 | Self::L2 => true,
            Self::Data | Self::Stream => false,
        }
    }
}

impl Reference {
    pub(super) fn new(kind: ReferenceKind, at: HostOffset, length: u64, of: u64) -> Self {
        // No table and no cluster is longer than that can say: 2 GiB less 8 bytes.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let start = at.0;
        Self {
            start,
            kind,
            of,
            length,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.start.plus(self.length.into())
    }
}

impl TwoLevel {
    /// That to a table of the second level.
    pub(super) fn table_reference(&self, index: u64, table: HostOffset) -> Reference {
        Reference::new(ReferenceKind::L2, table, self.shape.l2_length(), index)
    }

    /// That to the cluster that begins with this byte of the disk, if it takes room.
    pub(super) fn cluster_reference(&self, start: u64, mapping: Mapping) -> Option<Reference> {
        match mapping {
            Mapping::Data(at) => Some(Reference::new(ReferenceKind::Data, at, self.needed(start), start)),
            Mapping::Compressed(stream) => Some(Reference::new(
                ReferenceKind::Stream,
                stream.at,
                stream.length,
                start,
            )),
            Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => None,
        }
    }

    /// That two references lie in one place.
    pub(super) fn overlap(&self, one: Reference, other: Reference) -> Corrupt {
        Corrupt::Overlap {
            what: one.kind.name(),
            at: HostOffset(one.start),
            lost: self.lost_with(one),
            other: other.kind.name(),
            other_at: HostOffset(other.start),
            other_lost: self.lost_with(other),
        }
    }

    fn lost_with(&self, reference: Reference) -> Lost {
        match reference.kind {
            ReferenceKind::L1 => Lost(None),
            ReferenceKind::L2 => self.lost_with_table(reference.of),
            ReferenceKind::Data | ReferenceKind::Stream => self.lost_with_cluster(reference.of),
        }
    }
}
