//! How much is written in one go.

/// Tables are written in pieces of at most this many bytes, or of one cluster.
pub(super) const PIECE: u64 = 1 << 20;
