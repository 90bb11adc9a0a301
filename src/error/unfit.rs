//! Why an image is not the one that another stands on, or cannot be one to stand on.

use crate::uuid::Uuid;

/// Why an image cannot be a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is of another program or format.
    #[error("does not say which image it is: another program made it, or it was made with --no-checksums")]
    Foreign,
    /// It was made before images had a UUID.
    #[error("does not say which image it is: an earlier version of mkqcow2 made it")]
    Nameless,
    /// It is not what it was any more.
    #[error("was written to since it was made: what stands on it would be read wrong")]
    Changed,
    /// It does not say that it was changed, but does not look like what it was.
    #[error("was written to since it was made, or is damaged: what stands on it could be read wrong")]
    Doubtful,
    /// It is an image, but another one.
    #[error("is another image: its UUID is {found}, expected {expected}")]
    Another {
        /// Its UUID.
        found: Uuid,
        /// That of the one that is needed.
        expected: Uuid,
    },
    /// Its disk is not the one that is needed, although it says so.
    #[error("has the right UUID, but another disk: {found} bytes, expected {expected}")]
    Size {
        /// The size of its disk in bytes.
        found: u64,
        /// That of the one that is needed.
        expected: u64,
    },
    /// The digest of its disk is not the one that is needed, although its UUID is.
    #[error("has the right UUID, but the digest of its disk is another")]
    Digest,
    /// There are too many images behind it.
    #[error(
        "stands on {0} images already, one behind the other, which is as many as can be read: merge it first"
    )]
    Deep(usize),
}
