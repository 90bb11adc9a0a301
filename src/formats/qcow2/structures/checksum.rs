//! The checksum table: the CRC-32 of every cluster that holds data, and perhaps its digest.
//!
//! It lies behind the last cluster that has a refcount, where other tools neither look nor write until the
//! image grows. All integers are big-endian; a CRC-32 is that of ISO 3309 (zlib, Ethernet).
//!
//! ```text
//!  0   8  magic, "mkqcrc32"
//!  8   4  version, 1 or 2
//! 12   4  cluster_bits of the image
//! 16   8  size of the virtual disk in bytes
//! 24   8  number of clusters listed
//! 32      runs, ascending and apart: first cluster (8), number of clusters n (4), n CRC-32 (4 each), and in version 2
//!         n [digests](super::digest) (32 each)
//!         CRC-32 of all the bytes before it (4)
//! ```
//!
//! Every cluster that is not listed reads as zeros, or as the backing file has it if the image stands on one. So the
//! table states the whole content of the image, and a mapping that lost an entry is found as surely as a damaged
//! cluster.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::digest::Digest;
use crate::formats::qcow2::structures::geometry::{ClusterCounts, Geometry};
use crate::units::{Exact, to_u64};

/// What the table is called in errors.
pub const TABLE: &str = "checksum table";

/// What a run of it is called in errors.
pub const RUN: &str = "run of the checksum table";

/// The first 8 bytes of the table.
pub const MAGIC: [u8; 8] = *b"mkqcrc32";

/// The version without digests.
pub const VERSION: u32 = 1;

/// The version with digests.
pub const VERSION_WITH_DIGESTS: u32 = 2;

/// A run that is written has no more clusters than this, so that it is one piece of less than 300 KiB.
pub const MAX_RUN: u32 = 1 << 13;

/// A run that is read has no more than this: earlier versions wrote runs of 256 KiB.
pub const MAX_RUN_READ: u32 = 1 << 16;

/// What is known of the content of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Its CRC-32.
    pub crc: u32,
    /// Its digest, if it was computed.
    pub digest: Option<Digest>,
}

/// The CRC-32 at the end of the table, in bytes.
pub const TRAILER: u64 = 4;

/// The first 32 bytes of the table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawTable {
    /// 0: [`MAGIC`].
    pub magic: [u8; 8],
    /// 8: [`VERSION`] or [`VERSION_WITH_DIGESTS`].
    pub version: U32,
    /// 12: log2 of the cluster size, as in the header.
    pub cluster_bits: U32,
    /// 16: size of the virtual disk in bytes, as in the header.
    pub size: U64,
    /// 24: number of clusters listed.
    pub clusters: U64,
}
const _: () = assert!(size_of::<RawTable>() == 32);

/// The 12 bytes in front of the checksums of a run.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRun {
    /// 0: number of its first cluster.
    pub first: U64,
    /// 8: number of clusters, 1 to [`MAX_RUN_READ`].
    pub clusters: U32,
}
const _: () = assert!(size_of::<RawRun>() == 12);

impl RawTable {
    /// The head of a table that lists `clusters` clusters of a disk.
    pub fn new(geometry: Geometry, clusters: u64, has_digests: bool) -> Self {
        let version = if has_digests {
            VERSION_WITH_DIGESTS
        } else {
            VERSION
        };
        Self {
            magic: MAGIC,
            version: version.into(),
            cluster_bits: geometry.cluster().bits().into(),
            size: geometry.size().into(),
            clusters: clusters.into(),
        }
    }
}

/// What a table has of each cluster, in bytes.
pub fn entry_length(has_digests: bool) -> u64 {
    if has_digests { 36 } else { 4 }
}

/// The length in bytes of a table for this content.
pub fn table_length(content: ClusterCounts, has_digests: bool) -> u64 {
    let head = to_u64(size_of::<RawTable>()).plus(TRAILER);
    let runs = to_u64(size_of::<RawRun>()).times(content.runs);
    head.plus(runs)
        .plus(content.clusters.times(entry_length(has_digests)))
}
