//! Why an image and those that it stands on cannot become one.

/// Why there is nothing to merge, or not down to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmergeable {
    /// It stands on no other image.
    #[error("stands on no other image: there is nothing to merge")]
    Alone,
    /// It is the image that is to be merged.
    #[error("is the image itself, expected one that it stands on")]
    Itself,
    /// The image does not stand on it.
    #[error("is none of the images that the image to be merged stands on")]
    NotInChain,
    /// There is no image between the two.
    #[error("is what the image stands on already: there is nothing to merge between them")]
    Next,
    /// A program wrote to it meanwhile.
    #[error("was written to while it was merged")]
    Changed,
}
