//! What images say about themselves.

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
}
