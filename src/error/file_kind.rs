//! What a name in the filesystem can name.

/// What a name in the filesystem names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileKind {
    /// A regular file.
    #[error("regular file")]
    Regular,
    /// A directory.
    #[error("directory")]
    Directory,
    /// A block device.
    #[error("block device")]
    BlockDevice,
    /// A character device.
    #[error("character device")]
    CharacterDevice,
    /// A named pipe.
    #[error("FIFO")]
    Fifo,
    /// A socket.
    #[error("socket")]
    Socket,
    /// Something this program has no name for.
    #[error("file of an unknown kind")]
    Unknown,
}

impl From<std::fs::FileType> for FileKind {
    fn from(kind: std::fs::FileType) -> Self {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_file() {
            Self::Regular
        } else if kind.is_dir() {
            Self::Directory
        } else if kind.is_block_device() {
            Self::BlockDevice
        } else if kind.is_char_device() {
            Self::CharacterDevice
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Unknown
        }
    }
}
