//! Why a disk cannot be shown as files in a directory.

/// Why nothing can be mounted on a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmountable {
    /// It is no directory.
    #[error("is not a directory")]
    NoDirectory,
    /// Something is in it, which the mount would hide.
    #[error("is not empty, expected an empty directory")]
    NotEmpty,
    /// The program that served a filesystem there was killed.
    #[error("is the mount point of a filesystem whose program has ended")]
    Dead,
    /// The kernel has no FUSE.
    #[error("cannot be mounted on: this system has no /dev/fuse")]
    NoFuse,
    /// There is no program that mounts for users other than root.
    #[error("cannot be mounted on: there is no fusermount3, which mounts for users other than root")]
    NoHelper,
}
