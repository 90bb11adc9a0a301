//! How two names turned out to be one file.

/// How two names turned out to be one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SameAs {
    /// The same name, a symbolic link or a hard link.
    #[error("the same file")]
    File,
    /// The source is a loop device, and the image the file behind it.
    #[error("the file behind the loop device")]
    BehindLoop,
    /// The target is a loop device, and the image the file behind it.
    #[error("a loop device over it")]
    LoopOver,
    /// The same device, or one of which it is a part.
    #[error("the same device")]
    Device,
}
