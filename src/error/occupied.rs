//! A block device that holds something.

/// A block device that holds what would be overwritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device}; holds {holds}, which would be overwritten")]
pub struct Occupied {
    /// Its model and serial number, as far as the kernel tells them, and its size.
    pub device: String,
    /// What it holds.
    pub holds: String,
}
