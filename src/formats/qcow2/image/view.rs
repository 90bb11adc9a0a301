//! Which of the states that an image keeps is looked at.

use crate::formats::qcow2::structures::header::TableAt;

/// A state of the virtual disk: the active one, or that of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its L1 table, which has an entry for all of the disk.
    pub l1: TableAt,
    /// The size of the disk in that state, in bytes.
    pub size: u64,
}
