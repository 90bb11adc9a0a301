//! Standard output, looked at before anything is written to it.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::devices::{FileId, own_path};
use crate::error::{Action, Error, Invalid, Result, SameAs};
use crate::output::{Memory, ground};

/// Refuses what standard output should not be: a device of which nothing was checked, or one of the files that are
/// read. Returns the regular file that it is, if it is one.
pub(super) fn refuse(stdout: &impl AsFd, read: &[FileId]) -> Result<Option<File>> {
    let examine = |error: io::Error| Error::target_io(Action::Examine, error);
    let owned = stdout.as_fd().try_clone_to_owned().map_err(examine)?;
    let file = File::from(owned);
    let metadata = file.metadata().map_err(examine)?;
    if metadata.file_type().is_block_device() {
        return Err(Invalid::StdoutIsDevice.into());
    }
    if metadata.is_file() && read.contains(&FileId::of(&metadata)) {
        return Err(Invalid::TargetIsSource(SameAs::File).into());
    }
    if metadata.is_file() {
        ground::examine(&own_path(&file))?;
        return Ok(Some(file));
    }
    Ok(None)
}

/// Refuses a pipe by whatever name, be it that of a descriptor, which leads to none.
pub(super) fn refuse_pipe(path: &Path) -> Result<()> {
    let id = |metadata: Metadata| metadata.file_type().is_fifo().then(|| FileId::of(&metadata));
    let Some(pipe) = path.metadata().ok().and_then(id) else {
        return Ok(());
    };
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let stdout = stdout.and_then(|file| file.metadata()).ok().and_then(id);
    let is_stdout = stdout == Some(pipe);
    Err(Invalid::TargetIsPipe { is_stdout }.into())
}

/// The filesystem of the file that standard output is, if it is one and that is in memory.
pub(super) fn memory(stdout: &impl AsFd) -> Result<Option<Memory>> {
    let failed = |error| Error::target_io(Action::Examine, error);
    let file = File::from(stdout.as_fd().try_clone_to_owned().map_err(failed)?);
    if file.metadata().map_err(failed)?.is_file() {
        ground::examine(&own_path(&file))
    } else {
        Ok(None)
    }
}

/// Refuses a file of which something would stay in front of the first byte that is written.
pub(super) fn refuse_middle(file: &File, metadata: &Metadata) -> Result<()> {
    let before = begins_at(file, metadata).map_err(|error| Error::target_io(Action::Examine, error))?;
    if before > 0 {
        return Err(Invalid::StdoutInMiddle { before }.into());
    }
    Ok(())
}

/// Where the first byte will go that is written to a file.
fn begins_at(file: &File, metadata: &Metadata) -> io::Result<u64> {
    if rustix::fs::fcntl_getfl(file)?.contains(OFlags::APPEND) {
        Ok(metadata.len())
    } else {
        Ok(rustix::fs::tell(file)?)
    }
}
