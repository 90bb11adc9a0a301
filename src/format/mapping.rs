//! L1 and L2 table entries. Spec: qcow2.txt, "Cluster mapping".

use crate::units::HostOffset;

/// Bit 63 of an L1 entry or a standard L2 entry: the refcount of what it points to is exactly 1.
const COPIED: u64 = 1 << 63;

/// Bit 0 of a standard L2 entry (version 3): the cluster reads as zeros.
const ZERO: u64 = 1;

/// An L1 or L2 entry in the byte order of the disk.
pub type Entry = [u8; 8];

/// An L2 entry for a cluster that reads as zeros and takes no room. Version 3 only.
pub const ZERO_CLUSTER: Entry = ZERO.to_be_bytes();

/// An entry for the only reference to what lies at `offset`, a multiple of the cluster size: an L2 table in an
/// L1 entry, an uncompressed cluster in an L2 entry.
pub fn only_reference_to(offset: HostOffset) -> Entry {
    (COPIED | offset.0).to_be_bytes()
}
