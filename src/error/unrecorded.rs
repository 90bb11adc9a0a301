//! Why an image tells nothing of what is free.

/// Why the list of free clusters is missing, or cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// There is no record.
    #[error("another program made it, or it was made with --no-checksums")]
    Nothing,
    /// The record is of an earlier state.
    #[error("another program wrote to it since it was made")]
    Changed,
    /// It does not say that it was changed, but does not look like what it was.
    #[error("another program wrote to it since it was made, or it is damaged")]
    Doubtful,
    /// The record is of the active state.
    #[error("its list is of the active disk, not of a snapshot")]
    Snapshot,
    /// Version 2, and the caller tolerates wrong checksums.
    #[error(
        "in version 2 only matching checksums prove that it is unchanged, and --keep-going tolerates others"
    )]
    Unproven,
    /// Unallocated clusters may be in another file.
    #[error("it has a backing file")]
    Backing,
}
