//! What images say about themselves.

/// What shows that an image is not laid out as it was made, although it does not say that a program has changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trace {
    /// None is made with snapshots.
    #[error("it has snapshots")]
    Snapshots,
    /// None is made with bitmaps.
    #[error("it has bitmaps")]
    Bitmaps,
    /// The L1 table lies behind the header, and the refcount table behind that.
    #[error("its L1 table or refcount table is not where it was")]
    Tables,
    /// A program that allocates by refcount takes their place first.
    #[error("its checksums were overwritten")]
    Checksums,
    /// There is something behind the footer.
    #[error("its file has grown")]
    Grown,
}

/// What an image says about itself that its reader should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// Incompatible bit 0.
    #[error("was not closed properly: refcounts may be wrong, which does not matter for reading")]
    Dirty,
    /// Incompatible bit 1.
    #[error("is marked as corrupt: what is read may be wrong")]
    Corrupt,
    /// Of QED: feature bit 1.
    #[error("was not closed properly: its tables were checked and can be read")]
    NeedsCheck,
    /// Of qcow2: the length of the header is no multiple of 8.
    #[error("has a header of an invalid length, which does not matter for reading")]
    HeaderLength,
    /// Of qcow2: the L1 table and the refcount table overlap.
    #[error("has its L1 table and its refcount table in the same place: what is read may be wrong")]
    Overlap,
    /// Of qcow2: the refcount table cannot be used.
    #[error("has no usable refcount table, which does not matter for reading")]
    NoRefcounts,
    /// Of qcow2: the snapshot table cannot be used.
    #[error("has no usable snapshot table: snapshots cannot be read, the active disk can")]
    NoSnapshots,
    /// Of qcow2: it is not as it was made, but does not say so.
    #[error("was changed since it was made by a program that did not mark it as changed, or is damaged: {0}")]
    Unmarked(Trace),
}

impl Remark {
    /// Whether what is read may not be what it should be.
    pub(crate) fn matters(self) -> bool {
        match self {
            Self::Corrupt | Self::Overlap => true,
            // Its checksums are compared even so.
            Self::Unmarked(_)
            | Self::Dirty
            | Self::NeedsCheck
            | Self::HeaderLength
            | Self::NoRefcounts
            | Self::NoSnapshots => false,
        }
    }

    /// Whether it is about a structure that reading does not need. What is wrong with it, a check finds.
    pub(crate) fn is_about_unneeded(self) -> bool {
        match self {
            Self::HeaderLength | Self::NoRefcounts | Self::NoSnapshots => true,
            Self::Dirty | Self::Corrupt | Self::Overlap | Self::NeedsCheck | Self::Unmarked(_) => false,
        }
    }
}
