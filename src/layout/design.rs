//! What is known of an image before anything of it is written.

use super::checksums::IN_MEMORY_BYTES;
use super::refcounts::Refcounts;
use crate::formats::qcow2::structures::checksum;
use crate::formats::qcow2::structures::geometry::{ClusterCounts, Geometry, Room};
use crate::formats::qcow2::structures::header::{Compat, Compression};
use crate::formats::qcow2::structures::record::file_end;
use crate::units::{Exact, HostOffset};

/// What an image is to be like. [`Room`] has seen to it that its clusters end below 2^56, and the tables behind them are
/// shorter than that.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    /// Size and clusters of the virtual disk.
    pub geometry: Geometry,
    /// Version of the format.
    pub compat: Compat,
    /// What may be in use at most.
    pub content: ClusterCounts,
    /// The room for all that.
    pub room: Room,
    /// Whether a checksum table and a record are written.
    pub checksums: bool,
    /// Whether there is a digest of each cluster in the table.
    pub digests: bool,
    /// The length of the record in bytes, if all of the source can be read.
    pub record: u64,
    /// How clusters are compressed, those that are.
    pub compression: Option<Compression>,
}

impl Design {
    /// The size of the image in bytes if no cluster in use turns out to be zeros or is compressed, and an upper bound
    /// if some are.
    pub fn image_size(&self) -> u64 {
        let cluster_size = self.geometry.cluster_size();
        let end = self.room.total().times(cluster_size);
        if self.checksums {
            let tables = self.checksum_table().plus(self.record);
            file_end(end.plus(tables), cluster_size)
        } else {
            end
        }
    }

    /// The room it takes on the disk while it is made, in bytes: a large checksum table is there twice, and so may be
    /// the refcounts of clusters that hold streams.
    pub fn room_needed(&self) -> u64 {
        let table = self.checksum_table();
        let scratch = if table > IN_MEMORY_BYTES { table } else { 0 };
        let refcounts = self
            .compression
            .map_or(0, |_| Refcounts::scratch_size(self.room.total()));
        self.image_size().plus(scratch).plus(refcounts)
    }

    /// The length in bytes of what lies in front of the data and is known, and written, behind them: header, L1 table
    /// and refcount table.
    pub fn front(&self) -> u64 {
        self.room.tables().times(self.geometry.cluster_size())
    }

    /// Where the L1 table is.
    pub(super) fn l1_at(&self) -> HostOffset {
        HostOffset(self.room.header.times(self.geometry.cluster_size()))
    }

    /// Where the refcount table is.
    pub(super) fn refcount_table_at(&self) -> HostOffset {
        let clusters = self.room.header.plus(self.room.l1);
        HostOffset(clusters.times(self.geometry.cluster_size()))
    }

    /// The length of the checksum table in bytes, if no cluster in use turns out to be zeros.
    pub(super) fn checksum_table(&self) -> u64 {
        if self.checksums {
            checksum::table_length(self.content, self.digests)
        } else {
            0
        }
    }
}
