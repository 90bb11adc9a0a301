//! Names of files, brought to stable storage with the directories that hold them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::devices::FileId;

/// The type that statfs(2) tells of FUSE.
const FUSE: i64 = 0x6573_5546;

/// Whether a directory is on a FUSE filesystem, most servers of which do not sync directories.
pub(super) fn is_fuse(directory: &File) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|stat| stat.f_type == FUSE)
}

/// Brings the names in a directory to stable storage, where its filesystem can do that.
pub(super) fn sync_directory(directory: &File) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Not every filesystem can; those that cannot have no more to offer.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Brings the names of a directory and of those above it to stable storage, up to the root of its filesystem. What
/// cannot be opened or synced was not made a moment ago by whoever runs this.
pub(super) fn sync_parents(directory: &File) {
    let id = |file: &File| file.metadata().ok().map(|metadata| FileId::of(&metadata));
    let device = |file: &File| file.metadata().ok().map(|metadata| metadata.dev());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = |file: &File| {
        rustix::fs::openat(file, "..", flags, Mode::empty())
            .ok()
            .map(File::from)
            .filter(|parent| id(parent) != id(file) && device(parent) == device(file))
    };
    let mut next = above(directory);
    while let Some(parent) = next {
        if parent.sync_all().is_err() {
            break;
        }
        next = above(&parent);
    }
}
